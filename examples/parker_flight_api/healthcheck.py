"""The container's health check: is the process alive? Standard library only, since it starts twice a minute."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing

_SECONDS = 3.0
"""Less than the 5 s that ECS waits."""


def main() -> int:
    """Return 0 if `/livez` answers 200 on this machine, 1 if not."""
    try:
        port = int(os.environ.get("PORT", "3000"))
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:
            connection.request("GET", "/livez")
            status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as e:
        print(f"parker_flight_api: not alive: {e}", file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    return 0 if status == http.client.OK else 1
