"""Delivery of one notification to an HTTP endpoint, tried a few times."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 5.0
_PAUSES_SECONDS = (0.2, 1.0, 3.0)  # between four attempts
_SUCCESS = range(200, 300)


async def deliver(url: str, headers: Mapping[str, str], body: bytes) -> bool:
    """POST `body` to `url`; True once an attempt was answered with success, False when all have failed."""
    for pause in (*_PAUSES_SECONDS, None):
        if await _attempt(url, headers, body):
            return True
        if pause is not None:
            await asyncio.sleep(pause)
    return False


async def _attempt(url: str, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await _post(url, headers, body) in _SUCCESS
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def _post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Return the status of the answer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        status_line = await reader.readline()
        return int(status_line.split(b" ")[1]) if status_line.count(b" ") else 0
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
