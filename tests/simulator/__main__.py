"""`python tests/simulator`: months of an estate on virtual time, one a seed; does all hold, whatever befalls it?

Exit code: 0 all held, 1 something did not (its seed is named: the same seed, the same month), 2 usage.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from exploration import Explorer, Story, a_crash_and_a_freeze, one_failure, wrong
from simulation import Outcome, simulate


def main() -> int:
    """Do what is asked."""
    parser = argparse.ArgumentParser(prog="python tests/simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many months (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where figures are written")
    parser.add_argument("--explore", action="store_true", help="instead: a crash and a freeze at every step")
    wanted = parser.parse_args()
    if wanted.explore:
        return explore(wanted.jobs)
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    figures = months(seeds, wanted.jobs)
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    return 1 if figures["findings"] else 0


def months(seeds: Iterable[int], jobs: int) -> dict[str, Any]:
    """Live through the months of `seeds`, `jobs` at a time; return what was counted, and what did not hold."""
    counted: Counter[str] = Counter()
    findings: dict[int, list[str]] = {}
    with ProcessPoolExecutor(jobs, initializer=quiet) as processes:
        for outcome in processes.map(simulate, seeds, chunksize=4):
            counted.update(outcome.counted)
            counted["months"] += 1
            if outcome.findings:
                findings[outcome.month.seed] = outcome.findings
                print(red(outcome), file=sys.stderr, flush=True)
    return {"schema": 1, "counted": dict(sorted(counted.items())), "findings": findings}


def red(outcome: Outcome) -> str:
    """Return what is said of a month in which something did not hold."""
    return f"{outcome}; again: python tests/simulator --first {outcome.month.seed} --seeds 1"


def explore(jobs: int) -> int:
    """Tell every story of two drills, one crash and one freeze; print what was wrong, and how many there were."""
    with tempfile.TemporaryDirectory(prefix="kms-explored-") as folder:
        steps = Explorer(Path(folder)).tell(Story()).steps[0]
    parts = [(again, part, jobs, steps) for again in (True, False) for part in range(jobs)]
    with ProcessPoolExecutor(jobs, initializer=quiet) as processes:
        told = list(processes.map(explored, parts))
    for line in (line for _, lines in told for line in lines):
        print(line, file=sys.stderr)
    print(json.dumps({"schema": 1, "steps": steps, "stories": sum(count for count, _ in told)}))
    return 1 if any(lines for _, lines in told) else 0


def explored(part: tuple[bool, int, int, int]) -> tuple[int, list[str]]:
    """Tell one part of all stories; return how many, and what was wrong."""
    again, first, every, steps = part
    lines: list[str] = []
    stories = list(itertools.chain(one_failure(steps), a_crash_and_a_freeze(steps)))[first::every]
    with tempfile.TemporaryDirectory(prefix="kms-explored-") as folder:
        explorer = Explorer(Path(folder), again=again)
        for story in stories:
            found = wrong(story, explorer.tell(story), again=again)
            lines += [f"{story}, again={again}: {one}" for one in found]
    return len(stories), lines


def quiet() -> None:
    """Say nothing of what daemons say in a month of mishaps."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


if __name__ == "__main__":
    raise SystemExit(main())
