"""Runs in Chaos Toolkit's own environment: `report` reads journals as its reporter does, `run` conducts an experiment.

`report`: paths of journals as arguments; prints, as JSON, what each was rendered as, and how CLI 1.21 classifies it.
`run`: appends the folders in KMS_PATHS to its path, so that our modules are found behind its own; then `chaos run`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def report(paths: list[str]) -> dict[str, Any]:
    """Return by path: the reporter's Markdown, and the outcome where this version has one."""
    from chaosreport import generate_report  # noqa: PLC0415 - only this command has the reporter

    return {path: {"markdown": generate_report(_read(path)), "outcome": _outcome(path)} for path in paths}


def _read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def _outcome(path: str) -> str | None:
    if importlib.util.find_spec("chaostoolkit.agent") is None:
        return None  # it came with 1.21, which needs Python 3.12
    from chaostoolkit.agent import run_report  # noqa: PLC0415 - see above

    return str(run_report(_read(path))["outcome"])


def run(arguments: list[str]) -> None:
    """Run `chaos` with these arguments."""
    sys.path += os.environ["KMS_PATHS"].split(os.pathsep)
    from chaostoolkit.cli import cli  # noqa: PLC0415 - our own modules must be found first

    cli(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "report":
        print(json.dumps(report(sys.argv[2:])))
    else:
        run(sys.argv[2:])
