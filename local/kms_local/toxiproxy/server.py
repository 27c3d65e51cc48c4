"""The Toxiproxy-compatible server as a process: its life, its log, its leash."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kms_local.clock import Clock, SystemClock, iso_utc
from kms_local.toxiproxy import relay_loop
from kms_local.toxiproxy.addresses import AddressError, split_address
from kms_local.toxiproxy.api import VERSION, Api, RequestIds
from kms_local.toxiproxy.collection import PopulateError, ProxyCollection
from kms_local.toxiproxy.exposition import Exposition
from kms_local.toxiproxy.http_server import Site, open_admin_port


class ToxiproxyError(Exception):
    """The server cannot start; its text is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxiproxySettings:
    """The server's flags."""

    host: str = "localhost"
    port: str = "8474"
    config: Path | None = None
    seed: int | None = None  # unlike the real server's, it decides every throw of the dice
    proxy_metrics: bool = False
    runtime_metrics: bool = False
    api_token: str | None = None  # None: whoever reaches the port may use it
    log_level: str | None = None
    leash_fd: int | None = None  # a pipe's reading end: the server ends when nobody holds the other one


def run(settings: ToxiproxySettings) -> None:
    """Serve until SIGTERM, SIGINT or the end of the leash.

    Raises:
        ToxiproxyError: the API's address cannot be bound.
    """
    relay_loop.run(_serve(settings, _Log(SystemClock(), settings.log_level)))


async def _serve(settings: ToxiproxySettings, log: _Log) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(log.unexpected)
    _stop_on_signals(stop)
    if settings.leash_fd is not None:
        _stop_at_end_of(settings.leash_fd, stop)
    log.info("Starting Toxiproxy", version=VERSION)
    proxies = ProxyCollection(random.Random(settings.seed))  # noqa: S311  throws of the dice, nothing secret
    async with AsyncExitStack() as stack:
        stack.callback(proxies.stop)
        if settings.config is not None:
            await _populate(proxies, settings.config, log)
        await _open_api(stack, settings, proxies, log)
        await stop.wait()
        log.info("Shutdown started")


async def _open_api(stack: AsyncExitStack, settings: ToxiproxySettings, proxies: ProxyCollection, log: _Log) -> None:
    api = Api(proxies, _exposition(settings, proxies), RequestIds(log.clock, os.urandom(5)), settings.api_token)
    site = Site(handler=api, reads_body=api.reads_body, clock=log.clock)
    host = "127.0.0.1" if settings.host == "localhost" else settings.host  # one family: the port is one number
    try:
        listener = await open_admin_port(site, host, split_address(f":{settings.port}").port)
    except AddressError as e:
        raise ToxiproxyError(f"listen tcp: {e}") from e
    except OSError as e:
        reason = os.strerror(e.errno).lower() if e.errno and e.errno > 0 else str(e.strerror)
        raise ToxiproxyError(f"listen tcp {settings.host}:{settings.port}: bind: {reason}") from e
    stack.push_async_callback(listener.close)
    log.info("Starting Toxiproxy HTTP server", address=f"{settings.host}:{settings.port}")
    log.info("listening", address=f"{host}:{listener.port}")


def _exposition(settings: ToxiproxySettings, proxies: ProxyCollection) -> Exposition | None:
    if not (settings.proxy_metrics or settings.runtime_metrics):
        return None
    return Exposition(
        proxy_metrics=settings.proxy_metrics, runtime_metrics=settings.runtime_metrics, traffic=proxies.traffic
    )


async def _populate(proxies: ProxyCollection, config: Path, log: _Log) -> None:
    """Make the proxies of the configuration file; errors are logged and no more, as in the real server."""
    try:
        content = config.read_bytes()  # noqa: ASYNC240  before anybody can be kept waiting
        done = await proxies.populate(content)
    except OSError as e:
        reason = f"open {config}: {(e.strerror or str(e)).lower()}"
        log.failure("Error reading config file", error=reason, config=str(config))
    except PopulateError as e:
        log.failure("Failed to populate proxies from file", error=e.error.message)
    else:
        log.info("Populated proxies from file", proxies=len(done))


def _stop_on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _stop_at_end_of(descriptor: int, stop: asyncio.Event) -> None:
    """Stop when the pipe ends: the process that holds its writing end is gone, however it died."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        if not os.read(descriptor, 64):
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, readable)


class _Log:
    """JSON lines on stdout, as the real server's, from the level on that `LOG_LEVEL` names."""

    def __init__(self, clock: Clock, level: str | None) -> None:
        self.clock = clock
        self._least = _LEVELS["trace"]
        known = {**_LEVELS, **{str(number): number for number in _LEVELS.values()}}
        if level is not None and level.lower() in known:
            self._least = known[level.lower()]
        elif level:
            error = f"Unknown Level String: '{level}', defaulting to NoLevel"
            self.failure(f'unknown LOG_LEVEL value: "{level}"', error=error)

    def info(self, message: str, **fields: object) -> None:
        """Write one event."""
        self._write("info", message, fields)

    def failure(self, message: str, **fields: object) -> None:
        """Write one failure."""
        self._write("error", message, fields)

    def unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write what the event loop complains about: no traceback on stderr where nobody looks for one."""
        self.failure(str(context.get("message")), error=repr(context.get("exception")))

    def _write(self, level: str, message: str, fields: dict[str, object]) -> None:
        if _LEVELS[level] < self._least:
            return
        event = {"level": level, **fields, "time": iso_utc(self.clock.now()), "message": message}
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


_LEVELS = {"trace": -1, "debug": 0, "info": 1, "warn": 2, "error": 3, "fatal": 4, "panic": 5, "disabled": 7}
