"""`kms-alarms`: one line for a missing extra, then the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from kms_alarms.cli import cli  # noqa: PLC0415 - so that a missing extra can be told in one line
        from kms_watchdog import terminal  # noqa: PLC0415 - as above
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("kms_"):
            raise
        sys.stderr.write(f"kms-alarms needs {e.name}: pip install 'kms-watchdog[daemon]'\n")
        sys.exit(2)
    terminal.guard()
    cli(prog_name="kms-alarms")


if __name__ == "__main__":
    main()
