"""`python -m benchmarks [NAME …]`: run the benchmarks, print their tables, and write them as JSON.

Exit code 1 when a goal was missed and `--strict` was given, 2 for wrong arguments, else 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.table import Table

NAMES = (
    "core_speed",
    "core_threads",
    "core_kms_calls",
    "core_stream",
    "core_import",
    "core_failover",
    "drill_undo",
    "toxiproxy_speed",
    "local_aws_speed",
    "daemon_canary",
    "daemon_process",
    "daemon_metrics",
    "daemon_soak",
)
"""Modules of this package, each with `run(*, full: bool) -> tuple[Table, ...]`: `full` takes minutes, not seconds."""

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("kms-watchdog", "boto3", "cryptography", "aws-encryption-sdk")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what `arguments` name, all when none."""
    asked = _parser().parse_args(arguments)
    missed = False
    for name in asked.names or NAMES:
        tables = importlib.import_module(f"benchmarks.{name}").run(full=asked.full)
        for table in tables:
            sys.stdout.write(table.as_text() + "\n")
            missed = missed or bool(table.missed)
        sys.stdout.flush()
        _write(asked.results / f"{name}.json", tables)
    return int(missed and asked.strict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--full", action="store_true", help="the sizes that the goals are stated for; takes minutes")
    parser.add_argument("--strict", action="store_true", help="end with 1 when a goal was missed")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON (default: %(default)s)")
    return parser


def _write(path: Path, tables: Sequence[Table]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "machine": _machine(), "tables": [table.as_json() for table in tables]}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
