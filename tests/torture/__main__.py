"""`python tests/torture kills`: kill and stop daemon, drill, Toxiproxy and local AWS under load; what is lost or left?

`python tests/torture crashes`: a crash before and after every operation on the disk and every call of drill, healer,
archive, queues, ledgers and apply, also with what was not synced dropped or torn; what does the product make of it?

`python tests/torture leases`: freeze and kill those who want the drill lease; do two ever have it, or write late?

Exit code: 0 nothing, 1 something (of kills and leases the folder is kept, and named), 2 usage, 3 ended before its time,
or could not be tried here.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import structlog
from crash_figures import table
from crash_runs import PROTOCOLS, Runs
from crash_strace import why_not
from kill_arena import arena
from kill_figures import Figures
from kill_rounds import Torture
from lease_rounds import StandstillError, torment


def main() -> int:
    """Do what is asked."""
    parser = argparse.ArgumentParser(prog="python tests/torture", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kills", help="SIGKILL and SIGSTOP at drawn instants")
    killing.add_argument("--kills", type=int, default=300, help="how many SIGKILLs; 300 when not given, an hour or so")
    crashing = commands.add_parser("crashes", help="a crash at every site")
    crashing.add_argument(
        "--protocol", action="append", choices=PROTOCOLS, help="one of them, again for several; all when not given"
    )
    crashing.add_argument(
        "--drawn", type=int, default=3, help="cuts of power drawn at each operation, beside models; 3"
    )
    leasing = commands.add_parser("leases", help="SIGSTOP and SIGKILL for those who want the drill lease")
    leasing.add_argument(
        "--acquisitions", type=int, default=1000, help="how often it shall be taken; 1000 when not given, half an hour"
    )
    for one in (killing, crashing, leasing):
        one.add_argument("--seed", type=int, default=None, help="of what is drawn; another each time when not given")
        one.add_argument("--json", type=Path, metavar="FILE", help="where figures are written")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what it started ends with it
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(10**9)
    if wanted.command == "crashes":
        return crashes(seed, wanted.drawn, wanted.protocol or PROTOCOLS, wanted.json)
    if wanted.command == "leases":
        return leases(seed, wanted.acquisitions, wanted.json)
    return kills(Figures(seed=seed), wanted.kills, wanted.json)


def kills(figures: Figures, wanted: int, into: Path | None) -> int:
    """Kill so many times; print a line a round and a summary."""
    folder, interrupted = Path(tempfile.mkdtemp(prefix="kms-watchdog-torture-")), False
    try:
        with arena(folder) as made:
            torture = Torture(made, figures, say=lambda line: print(line, flush=True))
            torture.run(wanted)
            if not figures.findings:
                torture.finish()
    except AssertionError as e:
        figures.findings.append(str(e))
    except KeyboardInterrupt:
        interrupted = True
    document = figures.to_json()
    if into is not None:
        into.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))
    if figures.findings:
        print(f"seed {figures.seed}: the folder is {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 3 if interrupted else 0


def crashes(seed: int, drawn: int, protocols: Sequence[str], into: Path | None) -> int:
    """Crash at every site of these protocols; print a line each and a table."""
    if why := why_not():
        print(f"no process can be traced here: {why}", file=sys.stderr)
        return 3
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # findings say it all
    folder, interrupted = Path(tempfile.mkdtemp(prefix="kms-watchdog-torture-")), False
    runs = Runs(folder=folder, seed=seed, drawn=drawn, say=lambda line: print(line, flush=True))
    try:
        runs.run(protocols)
    except KeyboardInterrupt:
        interrupted = True
    document = runs.to_json()
    if into is not None:
        into.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(runs.protocols), *runs.findings, sep="\n")
    shutil.rmtree(folder)
    if runs.wrong:
        print(f"seed {seed}: {runs.wrong} crashes were not well", file=sys.stderr)
        return 1
    return 3 if interrupted else 0


def leases(seed: int, wanted: int, into: Path | None) -> int:
    """Have the lease taken so often; print a line now and then, and a summary, also of what was ended early."""
    folder, ended = Path(tempfile.mkdtemp(prefix="kms-watchdog-torture-")), 0
    with torment(folder, seed=seed, say=lambda line: print(line, flush=True)) as made:
        try:
            made.run(wanted)
        except StandstillError as e:
            print(e, file=sys.stderr)
            ended = 1
            made.judge()
        except KeyboardInterrupt:
            ended = 3
            made.judge()
    document = made.figures.to_json()
    if into is not None:
        into.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))
    if made.figures.findings or ended == 1:
        print(f"seed {seed}: the folder is {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return ended


if __name__ == "__main__":
    raise SystemExit(main())
