"""`kms-chaos catalogue`: every drill, one after the other, each in a process of its own, and what came of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_chaos import drill
from kms_chaos.commands.options import REFUSED, UNCLEAR, config_option, explained, load, printer
from kms_core.clock import Clock, SystemClock
from kms_watchdog.drills.verdict import Verdict

_TONES = {Verdict.HELD: "green", Verdict.BROKE: "red", Verdict.INCONCLUSIVE: "yellow"}
_WORST_FIRST = (1, 2, 4, 3, 0)
"""Exit codes; 1 is something that broke, 0 that all held."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One drill of the catalogue that ended."""

    drill: str
    code: int
    verdict: str
    seconds: float
    run_id: str
    broken: tuple[str, ...]
    """Claims that were not held, or the reason why it was refused."""


@click.command("catalogue")
@click.argument("names", metavar="[DRILL]...", nargs=-1)
@config_option
@click.option("--region", help="The region to hurt; each drill's own target when not given.")
@click.option("--arm", is_flag=True, help="Allow drills that hurt two regions or more.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout; progress goes to stderr.")
def command(names: tuple[str, ...], config: Path, region: str | None, *, arm: bool, as_json: bool) -> None:
    """Run every drill that there is, or those named, one after the other.

    Each is a `kms-chaos run` of its own, with its own folder, journal and report. What broke does not keep the next
    from running, and what was refused is tried once more after the others: an estate that was not well for a moment is
    by then. Ctrl-C ends the one that runs, which restores first, and the catalogue with it.

    \b
    Examples:
      kms-chaos catalogue --arm
      kms-chaos catalogue region-blackhole dns-failure --region eu-west-1

    \b
    Exit code: that of the worst: 0 all HELD, 1 one BROKE, 2 usage, 3 one INCONCLUSIVE, 4 one refused.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    console = printer(stderr=as_json)
    with explained():
        folder = load(config).drills.folder
        wanted = [drill.find(name, folder).name for name in names] or list(drill.names(folder))
    options = ["--config", str(config), *(("--region", region) if region else ()), *(("--arm",) if arm else ())]
    ran = list(_run_all(wanted, options, console, SystemClock()))
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in ran], indent=2))
    else:
        console.print(_table(ran))
    raise SystemExit(_exit_code(ran, len(wanted)))


def _exit_code(ran: Sequence[Ran], wanted: int) -> int:
    """Return that of the worst; a drill that never ran, or ended without a verdict or by a signal, told nothing."""
    codes = {
        one.code if one.code in _WORST_FIRST and (one.code or one.verdict == Verdict.HELD) else UNCLEAR for one in ran
    }
    if len(ran) < wanted:
        codes.add(UNCLEAR)
    return next(code for code in _WORST_FIRST if code in codes)


def _run_all(wanted: Sequence[str], options: Sequence[str], console: Console, clock: Clock) -> Iterator[Ran]:
    refused: list[Ran] = []
    with _Interrupts() as interrupts:

        def turn(announced: str, name: str) -> Ran:
            console.print(f"{announced} {name}", style="dim", highlight=False)
            ran = _run(name, options, clock, interrupts)
            console.print(_line(ran))
            return ran

        for number, name in enumerate(wanted, 1):
            if interrupts.told:
                break
            ran = turn(f"{number}/{len(wanted)}", name)
            if ran.code == REFUSED and number < len(wanted):
                refused.append(ran)
            else:
                yield ran
        for before in refused:
            yield before if interrupts.told else turn("once more", before.drill)


class _Interrupts:
    """Takes SIGINT and SIGTERM in this process's place: the drill that runs must restore first."""

    def __init__(self) -> None:
        self.told = False
        self._to_pass_on = False
        self._running: subprocess.Popen[str] | None = None
        self._before: dict[int, Any] = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.told = True
        if number == signal.SIGTERM:  # Ctrl-C reaches it by itself
            self._to_pass_on = True
            self._pass_on()

    @contextmanager
    def running(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Pass on to `process` what comes while the block runs, and what came while it was being started."""
        self._running = process
        self._pass_on()
        try:
            yield
        finally:
            self._running = None

    def _pass_on(self) -> None:
        if self._to_pass_on and self._running is not None:
            self._running.terminate()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _run(name: str, options: Sequence[str], clock: Clock, interrupts: _Interrupts) -> Ran:
    began = clock.monotonic()
    arguments = [sys.executable, "-m", "kms_chaos", "run", name, *options, "--json"]
    with (
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,  # noqa: S603 - ours
        interrupts.running(process),
    ):
        told, said = process.communicate()
    seconds, code = clock.monotonic() - began, process.returncode
    try:
        judged = json.loads(told)
        broken = tuple(claim["name"] for claim in judged["claims"] if claim["verdict"] != Verdict.HELD)
        return Ran(name, code, judged["verdict"], seconds, judged["run_id"], broken)
    except (ValueError, KeyError, TypeError):
        lines = said.strip().splitlines()
        return Ran(name, code, "", seconds, "", (lines[-1],) if lines else ())


def _line(ran: Ran) -> Text:
    tone = _TONES[Verdict(ran.verdict)] if ran.verdict else "yellow"
    return Text.assemble(
        (ran.verdict or f"exit code {ran.code}", tone), f"  {ran.seconds:.0f} s  {', '.join(ran.broken)}"
    )


def _as_json(ran: Ran) -> dict[str, object]:
    return {
        "drill": ran.drill,
        "exit_code": ran.code,
        "verdict": ran.verdict or None,
        "seconds": round(ran.seconds, 1),
        "run_id": ran.run_id or None,
        "not_held": list(ran.broken),
    }


def _table(ran: Sequence[Ran]) -> Table:
    table = Table("drill", "verdict", "seconds", "run", "not held", box=None, pad_edge=False, header_style="bold")
    for one in ran:
        tone = _TONES[Verdict(one.verdict)] if one.verdict else "yellow"
        verdict = Text(one.verdict or f"exit code {one.code}", style=tone)
        table.add_row(one.drill, verdict, f"{one.seconds:.0f}", one.run_id, ", ".join(one.broken))
    return table
