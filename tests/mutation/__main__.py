"""`python tests/mutation [MODULE]...`: which small faults in the judge, the phases and the guards no fast test notices.

Exit code: 0 every survivor is explained in survivors.md, 1 one is not, 2 the tests do not pass as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from plan import PLAN
from runner import Result, run

EXPLAINED = Path(__file__).with_name("survivors.md")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="make mutation ARGS=", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(PLAN)}; all when none is given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    wanted = parser.parse_args()
    unknown = [name for name in wanted.modules if name not in PLAN]
    if unknown:
        parser.error(f"not in the plan: {', '.join(unknown)}")
    known, rows, bad = explained(), [], 0
    for module in wanted.modules or PLAN:
        try:
            results = run(module, PLAN[module], wanted.jobs)
        except RuntimeError as e:
            print(e, file=sys.stderr)
            return 2
        survived = [one for one in results if not one.killed]
        open_ones = [one for one in survived if key(module, one) not in known]
        for one in open_ones:
            how = "" if one.reached else "  (no test runs it)"
            print(f"{module}:{one.mutant.line}: {one.mutant.change}{how}\n    {one.mutant.text}", flush=True)
        bad += len(open_ones)
        rows.append(
            f"| {module} | {len(results)} | {len(results) - len(survived)} | {len(survived)} | {len(open_ones)} |"
        )
        print(rows[-1], flush=True)
    print("\n| module | mutants | killed | survived | not explained |\n|---|---|---|---|---|", *rows, sep="\n")
    return 1 if bad else 0


def key(module: str, one: Result) -> tuple[str, str, str]:
    """Return by what a survivor is known in survivors.md: its line's number may change."""
    return module, one.mutant.text, one.mutant.change


def explained() -> set[tuple[str, str, str]]:
    """Return the survivors that survivors.md says are no fault, from its table of module, line, change and reason."""
    rows = [line.split(" | ") for line in EXPLAINED.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {(module.removeprefix("| ").strip("`"), plain(text), plain(change)) for module, text, change, _ in rows}


def plain(cell: str) -> str:
    """Return what a cell of code shows."""
    return cell.strip("`").replace("\\|", "|")


if __name__ == "__main__":
    raise SystemExit(main())
