"""The core for asyncio: the same calls, awaited, in threads of its own, so that the loop is never blocked.

Cancelling an await lets go of it at once; the call itself goes on in its thread until it ends or its deadline passes,
and what it returns is dropped. Nothing is half done by that: a message is whole or not there.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from kms_core._facade_lifecycle import WarmUp
from kms_core._health import CoreHealth
from kms_core._pinned import PinnedCore
from kms_core._self_check import SelfCheck
from kms_core.batch import Opened, Refused, Sealed, ToOpen, ToSeal
from kms_core.config import CoreConfig
from kms_core.core import Core
from kms_core.errors import ClosedError
from kms_core.message import EncryptedDataKey

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 32
_QUICK_WORKERS = 2  # Python runs one at a time anyway


class _Threads:
    """Runs calls in threads, and refuses when they are gone."""

    def __init__(self, workers: int, refuse: Callable[[], None]) -> None:
        self._refuse = refuse
        """Raises when the core is closed, or was made in another process, whose threads are not here."""
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kms-core-aio")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._refuse()
        bound = functools.partial(call, *args, **kwargs)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, bound)
        except RuntimeError as e:
            raise ClosedError("the core is closed") from e
        return await future

    def end(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class AsyncCore:
    """A `Core` whose calls are awaited. Close it, or use it with `async with`.

    Args:
        core: is owned from now on, and closed with this.
        workers: how many calls that need KMS run at the same time; the others queue. Calls that the data-key cache can
            serve never wait behind them.
    """

    def __init__(self, core: Core, *, workers: int = WORKERS) -> None:
        self._core = core
        self._threads = _Threads(workers, core._refuse_if_closed)  # noqa: SLF001 - the same package's
        self._quick = _Threads(_QUICK_WORKERS, core._refuse_if_closed)  # noqa: SLF001 - as above
        """For calls that wait for nobody: those that do may fill `_threads` in an outage."""

    @classmethod
    async def start(cls, config: CoreConfig, *, workers: int = WORKERS, **options: Any) -> Self:
        """Return a core that was made without blocking the loop; `options` are those of `Core`.

        Raises:
            ConfigurationError: as `Core`.
        """
        abandoned, made = threading.Event(), list[Core]()

        def make() -> Core:
            made.append(Core(config, **options))
            if abandoned.is_set():
                made[0].close()
            return made[0]

        try:
            return cls(await asyncio.to_thread(make), workers=workers)
        except asyncio.CancelledError:
            abandoned.set()  # the thread goes on: whoever of the two comes last closes the core
            if made:
                threading.Thread(target=made[0].close).start()
            raise

    async def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `Core.encrypt`."""
        core = self._core
        return await self._cached_first(core.encrypt_from_cache, core.encrypt, plaintext, purpose, context)

    async def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `Core.decrypt`."""
        core = self._core
        return await self._cached_first(core.decrypt_from_cache, core.decrypt, message, purpose, context)

    async def _cached_first(
        self,
        from_cache: Callable[..., bytes | None],
        call: Callable[..., bytes],
        source: bytes,
        purpose: str,
        context: Mapping[str, str],
    ) -> bytes:
        found = await self._quick.run(from_cache, source, purpose=purpose, context=context)
        if found is None:
            found = await self._threads.run(call, source, purpose=purpose, context=context)
        return found

    async def encrypt_many(self, items: Iterable[ToSeal]) -> list[Sealed | Refused]:
        """Do as `Core.encrypt_many`."""
        return await self._threads.run(self._core.encrypt_many, items)

    async def decrypt_many(self, items: Iterable[ToOpen]) -> list[Opened | Refused]:
        """Do as `Core.decrypt_many`."""
        return await self._threads.run(self._core.decrypt_many, items)

    async def encrypt_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        purpose: str,
        context: Mapping[str, str],
        frame_length: int = 65_536,
    ) -> int:
        """Do as `Core.encrypt_file`."""
        return await self._threads.run(
            self._core.encrypt_file, source, target, purpose=purpose, context=context, frame_length=frame_length
        )

    async def decrypt_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        purpose: str,
        context: Mapping[str, str],
    ) -> int:
        """Do as `Core.decrypt_file`."""
        return await self._threads.run(self._core.decrypt_file, source, target, purpose=purpose, context=context)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make any other call in the core's threads: `await core.run(core.blocking.encrypt_stream, …)`."""
        return await self._threads.run(call, *args, **kwargs)

    @property
    def blocking(self) -> Core:
        """The core itself, whose calls block."""
        return self._core

    def pinned(self, region: str) -> AsyncPinnedCore:
        """Do as `Core.pinned`."""
        return AsyncPinnedCore(self._core.pinned(region), self._threads)

    def health(self) -> CoreHealth:
        """Do as `Core.health`, which asks nobody and so does not block."""
        return self._core.health()

    async def self_check(
        self, *, timeout_seconds: float | None = None, purposes: Iterable[str] | None = None
    ) -> SelfCheck:
        """Do as `Core.self_check`."""
        check = self._core.self_check
        return await self._threads.run(check, timeout_seconds=timeout_seconds, purposes=purposes)

    async def warm_up(self, contexts: Mapping[str, Iterable[Mapping[str, str]]] | None = None) -> WarmUp:
        """Do as `Core.warm_up`."""
        return await self._threads.run(self._core.warm_up, contexts)

    async def close(self) -> None:
        """End every thread and connection; awaits that are under way raise `ClosedError` or are cancelled."""
        await asyncio.to_thread(self._core.close)
        self._threads.end()
        self._quick.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncPinnedCore:
    """A `PinnedCore` whose calls are awaited."""

    def __init__(self, pinned: PinnedCore, threads: _Threads) -> None:
        self._pinned = pinned
        self._threads = threads
        self.region = pinned.region

    async def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `PinnedCore.encrypt`."""
        return await self._threads.run(self._pinned.encrypt, plaintext, purpose=purpose, context=context)

    async def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `PinnedCore.decrypt`."""
        return await self._threads.run(self._pinned.decrypt, message, purpose=purpose, context=context)

    async def unwrap(
        self, wrapped: EncryptedDataKey, context: Mapping[str, str], *, purpose: str, key_of: str | None = None
    ) -> None:
        """Do as `PinnedCore.unwrap`."""
        await self._threads.run(self._pinned.unwrap, wrapped, context, purpose=purpose, key_of=key_of)
