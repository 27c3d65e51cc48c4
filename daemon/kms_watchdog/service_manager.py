"""What the daemon tells systemd that started it as Type=notify: ready, alive, stopping (sd_notify(3)).

A datagram each; the libraries for it are unmaintained, or bind libsystemd, which containers do not have.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, MutableMapping

ADDRESS_VARIABLE = "NOTIFY_SOCKET"
READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


class ServiceManager:
    """Whoever started this process and wants to be told; elsewhere than under systemd that is nobody."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take the address out of `environ`: the processes that this one starts shall not speak in its name."""
        given = environ.pop(ADDRESS_VARIABLE, "")
        self._address = f"\0{given[1:]}" if given.startswith("@") else given  # `@` is how an abstract one is spelt

    def ready(self) -> None:
        """Say that it serves. It does not say what of: AWS may be down, which is what it is there to tell."""
        self._tell(READY)

    def tell_alive(self, alive: Callable[[], bool]) -> None:
        """Say so if it is, by what `/livez` goes by; without it for WatchdogSec the process is killed."""
        if alive():
            self._tell(ALIVE)

    def stopping(self) -> None:
        """Say that it ends, as it was told to."""
        self._tell(STOPPING)

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        # Raises nothing, and waits for nobody: what cannot be told is missed by the one who waits for it.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
            plug.settimeout(0)
            plug.sendto(what.encode(), self._address)
