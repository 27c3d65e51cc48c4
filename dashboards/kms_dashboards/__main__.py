"""`kms-dashboards`: one line for a missing extra, then the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from kms_dashboards.cli import cli  # noqa: PLC0415 - so that a missing extra can be told in one line
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("kms_"):
            raise
        sys.stderr.write(f"kms-dashboards needs {e.name}: pip install 'kms-watchdog[dev]'\n")
        sys.exit(2)
    cli(prog_name="kms-dashboards")


if __name__ == "__main__":
    main()
