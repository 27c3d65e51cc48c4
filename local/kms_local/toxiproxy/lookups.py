"""Host names looked up in threads that nobody waits for: a silent name server holds up one proxy only."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from pathlib import Path

_AT_ONCE = 64  # threads; a name server that never answers may not make more of them
_SECONDS = 5.0
_LONGEST_NAME = 253
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_CONFIGURATION = Path("/etc/resolv.conf")

_free = threading.BoundedSemaphore(_AT_ONCE)


async def lookup(host: str) -> list[str]:
    """Return the IP addresses of `host`, in the system's order of preference.

    Raises:
        OSError: it has none, or the answer did not come in five seconds; its text is Go's.
    """
    if not _is_domain_name(host):  # libc would read `127.1` as an address; Go does not
        raise OSError(f"lookup {host}: no such host")
    if not _free.acquire(blocking=False):
        raise OSError(f"lookup {host}: too many lookups under way")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()
    # a daemon: the executor's threads would be waited for at the end, for as long as the name server keeps silent
    threading.Thread(target=_look_up, args=(host, loop, answer), daemon=True).start()
    try:
        async with asyncio.timeout(_SECONDS):
            return await answer
    except TimeoutError as e:
        raise OSError(f"lookup {host}{_asked()}: i/o timeout") from e


def _look_up(host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]]) -> None:
    found: list[str] | OSError
    try:
        found = list(
            dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        )
    except (OSError, UnicodeError):
        found = OSError(f"lookup {host}{_asked()}: no such host")
    finally:
        _free.release()
    try:
        loop.call_soon_threadsafe(_settle, answer, found)
    except RuntimeError:  # the loop has ended meanwhile
        return


def _is_domain_name(host: str) -> bool:
    """Say whether Go would ask for `host`."""
    name = host.removesuffix(".")
    labels = name.split(".")
    return len(name) <= _LONGEST_NAME and not name.replace(".", "").isdigit() and all(map(_LABEL.fullmatch, labels))


def _asked() -> str:
    """Return the name server as Go's errors have it."""
    with contextlib.suppress(OSError):
        words = [line.split() for line in _CONFIGURATION.read_text().splitlines()]
        return next((f" on {word[1]}:53" for word in words if word[:1] == ["nameserver"] and word[1:]), "")
    return ""


def _settle(answer: asyncio.Future[list[str]], found: list[str] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)
