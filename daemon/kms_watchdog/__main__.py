"""`kms-watchdog`: what must come before anything heavy is imported, and one line for a missing extra."""

from __future__ import annotations

import signal
import sys

from kms_watchdog import core_dumps


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:2] == ["healthcheck"]:
        from kms_watchdog import healthcheck  # noqa: PLC0415 - 60 ms and 15 MB instead of 500 and 70

        sys.exit(healthcheck.main(sys.argv[2:]))
    core_dumps.forbid()
    if sys.argv[1:2] == ["run"]:
        from kms_watchdog import allocator  # noqa: PLC0415 - only what runs for years needs it

        allocator.settle()
        for number in (signal.SIGTERM, signal.SIGINT):  # nothing has begun yet: to end now is to end well
            signal.signal(number, lambda *_: sys.exit(0))
    try:
        from kms_watchdog import terminal  # noqa: PLC0415 - as below
        from kms_watchdog.cli import command  # noqa: PLC0415 - so that its absence can be told in one line
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("kms_"):
            raise
        sys.exit(missing_extra(e.name))
    terminal.guard()
    command(prog_name="kms-watchdog")


def missing_extra(module: str) -> int:
    """Say which extra is missing; return the exit code."""
    print(  # noqa: T201 - the command's only answer
        f"kms-watchdog: {module} is not installed; it comes with: pip install 'kms-watchdog[daemon]'", file=sys.stderr
    )
    return 2


if __name__ == "__main__":
    main()
