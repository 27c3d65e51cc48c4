"""Starting the Toxiproxy-compatible server as a process of its own, from the process that serves the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

_START_SECONDS = 10.0
_STOP_SECONDS = 2.0


class ToxiproxyStartError(Exception):
    """The server did not start; its text is one line that says why."""


class ToxiproxyProcess:
    """The running server. It ends with this process, however this one ends: it holds the other end of a pipe."""

    def __init__(self, process: asyncio.subprocess.Process, leash: int) -> None:
        self._process = process
        self._leash = leash
        self._log: asyncio.Task[None] | None = None
        self.address = ""  # of the API

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    async def wait_until_listening(self) -> None:
        """Wait for the line that names the API's address, then keep the log from filling its pipe.

        Raises:
            ToxiproxyStartError: it ended, or did not say so in time.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.address = await self._address_from_log()
        except TimeoutError as e:
            raise ToxiproxyStartError(f"the Toxiproxy server said nothing for {_START_SECONDS:.0f} s") from e
        self._log = asyncio.create_task(self._drain())

    async def stop(self) -> None:
        """Stop the server and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._log is not None:
            await self._log
        os.close(self._leash)

    async def _address_from_log(self) -> str:
        assert self._process.stdout is not None  # noqa: S101  it was started with a pipe
        while line := await self._process.stdout.readline():
            event = json.loads(line)
            if event["message"] == "listening":
                return str(event["address"])
        raise ToxiproxyStartError("the Toxiproxy server ended at once (its reason stands above)")

    async def _drain(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it was started with a pipe
        while await self._process.stdout.read(65536):
            pass


async def start_toxiproxy(*, host: str, port: int) -> ToxiproxyProcess:
    """Start the server with its API at `host`:`port` (0 = a free port); it is not listening yet."""
    leash_read, leash_write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kms_local", "toxiproxy", "-host", host, "-port", str(port), "-leash-fd", str(leash_read)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=(leash_read,),
        env={**os.environ, "LOG_LEVEL": "info"},  # the line that names the address is one of its log
        start_new_session=True,  # Ctrl-C in a terminal stops us, and we stop it
    )
    os.close(leash_read)
    return ToxiproxyProcess(process, leash_write)
