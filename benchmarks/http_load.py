"""Requests at a fixed rate, whoever answers how: each has its time, and its latency counts from that time.

A load that waits for answers asks less of a server that is slow (coordinated omission); here what is late stays late.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kms_core.clock import SystemClock

CONNECTIONS = 64
_ANSWER_SECONDS = 30.0
_CLOCK = SystemClock()


@dataclass(slots=True)
class Answers:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    """From when a request was due until its answer was whole, in order of time."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """From the first request's time to the last answer."""

    def percentile_ms(self, share: float) -> float:
        """Return the nearest-rank percentile in milliseconds."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1000


def ask(url: str, *, rate: float, seconds: float) -> Answers:
    """Ask `url` so many times a second for so long, over connections that are kept while the server keeps them."""
    return asyncio.run(_ask(url, rate, int(rate * seconds)))


async def _ask(url: str, rate: float, requests: int) -> Answers:
    found, began, numbers = Answers(), _CLOCK.monotonic(), iter(range(requests))
    due = (began + number / rate for number in numbers)
    async with asyncio.TaskGroup() as workers:
        for _ in range(CONNECTIONS):
            workers.create_task(_work(url, due, found))
    found.took = _CLOCK.monotonic() - began
    return found


async def _work(url: str, due: Iterator[float], found: Answers) -> None:
    connection = _Connection(url)
    for at in due:
        await asyncio.sleep(max(0.0, at - _CLOCK.monotonic()))
        try:
            status = await asyncio.wait_for(connection.ask(), _ANSWER_SECONDS)
        except (OSError, TimeoutError, EOFError, ValueError) as e:
            found.errors[type(e).__name__] += 1
            connection.close()
            continue
        found.statuses[status] += 1
        found.seconds.append(_CLOCK.monotonic() - at)
    connection.close()


class _Connection:
    """One connection, made anew when the server has closed it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> int:
        """Ask once and return the status of the whole answer."""
        for last in (False, True):
            fresh = self._streams is None
            reader, writer = self._streams or await asyncio.open_connection(self._host, self._port)
            self._streams = (reader, writer)
            try:
                writer.write(self._request)
                return await self._answer(reader)
            except (ConnectionError, EOFError):
                self.close()
                if fresh or last:  # a kept connection may have been closed while the request was on its way
                    raise
        raise EOFError

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in itertools.islice(lines, 1, None) if b": " in line)
        length = fields.get(b"content-length")
        if length is None:
            await reader.read()
        else:
            await reader.readexactly(int(length))
        if length is None or fields.get(b"connection") == b"close" or lines[0].startswith(b"http/1.0"):
            self.close()
        return int(lines[0].split()[1])

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
