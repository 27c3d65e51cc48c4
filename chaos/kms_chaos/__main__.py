"""`kms-chaos`: run drills, judge them, report on them, and heal what they may have left. Long because it is a CLI."""

from __future__ import annotations

import importlib.util
import sys

from kms_watchdog import core_dumps

_NEEDED = ("click", "jinja2", "matplotlib", "pydantic", "requests", "rich", "structlog", "toxiproxy")


def main() -> None:
    """Run the command line; names the missing extra in one line when there is one."""
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        sys.stderr.write(f"kms-chaos needs {absent[0]}: pip install 'kms-watchdog[drills]'\n")
        raise SystemExit(2)
    core_dumps.forbid()
    from kms_watchdog import terminal  # noqa: PLC0415 - as below

    terminal.guard()
    from kms_chaos.cli import cli  # noqa: PLC0415 - only now is it certain that it can be imported

    cli(prog_name="kms-chaos")


if __name__ == "__main__":
    main()
