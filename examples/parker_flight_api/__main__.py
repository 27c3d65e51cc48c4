"""`python -m parker_flight_api serve`, and `healthcheck` for its container; nothing heavy is imported too early."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from parker_flight_api.ending import Ending


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0: ended when asked, or alive; 1: it cannot start, or is not alive; 2: no such command."""
    parser = argparse.ArgumentParser(prog="parker_flight_api", description="Seal and open bookings over HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM; settings come from the environment")
    commands.add_parser("healthcheck", help="ask /livez of the service on this machine")
    if parser.parse_args(arguments).command == "healthcheck":
        from parker_flight_api.healthcheck import main as healthcheck  # noqa: PLC0415 - see above

        return healthcheck()
    with Ending.by_signals() as ending:
        from parker_flight_api.service import main as serve  # noqa: PLC0415 - a signal may come meanwhile

        return serve(ending)


if __name__ == "__main__":
    sys.exit(main())
