"""The core awaited: the loop goes on, cancelling lets go, closing ends the threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from kms_core import ClosedError, Core, ForkedError
from kms_core.aio import AsyncCore
from kms_core.batch import Opened, Sealed, ToOpen, ToSeal
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate

CONTEXT = {"tenant": "parker"}
EAST = "us-east-1"


def _run(estate: FakeEstate, config: Any, test: Any) -> None:
    async def whole() -> None:
        async with await AsyncCore.start(config, connect=estate.connect) as core:
            await test(core)

    asyncio.run(whole())
    for thread in threading.enumerate():
        if thread.name.startswith("kms-core"):
            thread.join(5)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kms-core")]


def test_the_same_calls_are_awaited(estate: FakeEstate, config: Any, tmp_path: Path) -> None:
    """Messages are the same, so both kinds of core read each other's."""

    async def test(core: AsyncCore) -> None:
        message = await core.encrypt(b"x", purpose="general", context=CONTEXT)
        assert await core.decrypt(message, purpose="general", context=CONTEXT) == b"x"
        assert core.blocking.decrypt(message, purpose="general", context=CONTEXT) == b"x"
        assert await core.run(core.blocking.decrypt, message, purpose="general", context=CONTEXT) == b"x"
        pinned = core.pinned(EAST)
        assert await pinned.decrypt(message, purpose="general", context=CONTEXT) == b"x"
        assert await pinned.encrypt(b"x", purpose="general", context=CONTEXT)
        await pinned.unwrap(encrypted_data_keys(message)[0], CONTEXT, purpose="general")
        sealed = await core.encrypt_many([ToSeal(plaintext=b"y", purpose="general", context=CONTEXT)])
        assert isinstance(sealed[0], Sealed)
        opened = await core.decrypt_many([ToOpen(message=sealed[0].message, purpose="general", context=CONTEXT)])
        assert opened == [Opened(b"y")]
        (tmp_path / "clear").write_bytes(b"z" * 100_000)
        await core.encrypt_file(tmp_path / "clear", tmp_path / "sealed", purpose="general", context=CONTEXT)
        with pytest.raises(ValueError, match="frame_length"):
            await core.encrypt_file(
                tmp_path / "clear", tmp_path / "none", purpose="general", context=CONTEXT, frame_length=0
            )
        await core.decrypt_file(tmp_path / "sealed", tmp_path / "opened", purpose="general", context=CONTEXT)
        assert (tmp_path / "opened").read_bytes() == b"z" * 100_000
        assert (await core.self_check()).ok
        assert (await core.warm_up({"general": [CONTEXT]})).data_keys == 1
        assert core.health().regions[EAST].joined

    _run(estate, config, test)


def test_a_region_that_hangs_does_not_hold_up_the_loop(estate: FakeEstate, config: Any) -> None:
    """A cancelled await returns at once; its thread ends by itself."""
    reached, release = threading.Event(), threading.Event()

    def hang(call: Any) -> None:
        if call.operation == "GenerateDataKey":
            reached.set()
            release.wait(20)

    async def test(core: AsyncCore) -> None:
        estate[EAST].during = hang
        task = asyncio.create_task(core.encrypt(b"x", purpose="general", context=CONTEXT))
        assert await asyncio.to_thread(reached.wait, 20)
        ticks = 0
        for _ in range(100):
            await asyncio.sleep(0)
            ticks += 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ticks == 100
        release.set()

    _run(estate, config, test)


def test_a_closed_core_refuses(estate: FakeEstate, config: Any) -> None:
    """With the core's own error, not the executor's."""

    async def test(core: AsyncCore) -> None:
        await core.close()
        with pytest.raises(ClosedError):
            await core.encrypt(b"x", purpose="general", context=CONTEXT)

    _run(estate, config, test)


def test_many_at_once_share_one_data_key(estate: FakeEstate, config: Any) -> None:
    """Single flight holds for tasks as for threads."""

    async def test(core: AsyncCore) -> None:
        await asyncio.gather(*(core.encrypt(b"x", purpose="general", context=CONTEXT) for _ in range(50)))
        assert len(estate.asked("GenerateDataKey")) == 1

    _run(estate, config, test)


def test_an_existing_core_may_be_wrapped(core: Core) -> None:
    """It is owned from then on."""

    async def whole() -> None:
        async with AsyncCore(core) as wrapped:
            assert await wrapped.encrypt(b"x", purpose="general", context=CONTEXT)

    asyncio.run(whole())
    with pytest.raises(ClosedError):
        core.encrypt(b"x", purpose="general", context=CONTEXT)


def test_a_child_process_is_refused_and_does_not_hang(estate: FakeEstate, config: Any) -> None:
    """The executor believes that its threads are there, and queues what nobody will ever do."""

    class Deserted(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return Future()

    async def test(core: AsyncCore) -> None:
        await core.encrypt(b"x", purpose="general", context=CONTEXT)
        core.blocking.forked()  # what the operating system's fork calls in the child
        pools = [(threads, threads._pool) for threads in (core._quick, core._threads)]
        for threads, _ in pools:
            threads._pool = Deserted()  # type: ignore[assignment] # as a fork leaves it

        for refused_call in (
            core.encrypt(b"x", purpose="general", context=CONTEXT),
            core.warm_up(),
        ):
            with pytest.raises(ForkedError):
                await asyncio.wait_for(refused_call, 10)
        for threads, pool in pools:
            threads._pool = pool
        for refused in (core.health, lambda: core.blocking.force(EAST, "open", for_seconds=1, reason="a test")):
            with pytest.raises(ForkedError):
                refused()
        core.blocking._forked = False  # this is the parent after all: let it close what is its own
        core.blocking._closing = threading.Event()

    _run(estate, config, test)


def test_a_start_that_was_cancelled_leaves_nothing(estate: FakeEstate, config: Any) -> None:
    """The core that comes too late is closed by whoever notices last."""
    reached, release = threading.Event(), threading.Event()

    def hold(call: Any) -> None:
        reached.set()
        release.wait(20)

    estate[EAST].during = hold

    async def whole() -> None:
        task = asyncio.create_task(AsyncCore.start(config, connect=estate.connect))
        assert await asyncio.to_thread(reached.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    asyncio.run(whole())
    for thread in threading.enumerate():
        if thread.name.startswith("kms-core"):
            thread.join(10)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kms-core")]


def test_what_the_cache_can_serve_does_not_wait_behind_an_outage(estate: FakeEstate, config: Any) -> None:
    """Every worker waits for a silent region; a cached data key needs none of them."""
    release = threading.Event()

    async def whole() -> None:
        async with await AsyncCore.start(config, connect=estate.connect, workers=2) as core:
            message = await core.encrypt(b"x", purpose="general", context=CONTEXT)
            assert await core.decrypt(message, purpose="general", context=CONTEXT) == b"x"
            for region in estate.kms.values():
                region.during = lambda call: release.wait(20)
            new = [{"tenant": str(number)} for number in range(6)]
            waiting = [asyncio.create_task(core.encrypt(b"x", purpose="general", context=each)) for each in new]
            await asyncio.sleep(0)

            message = await core.encrypt(b"y", purpose="general", context=CONTEXT)
            assert await core.decrypt(message, purpose="general", context=CONTEXT) == b"y"

            assert not [task for task in waiting if task.done()]
            release.set()
            await asyncio.gather(*waiting)

    asyncio.run(whole())


def test_the_cache_alone_says_when_it_has_nothing(core: Core, estate: FakeEstate) -> None:
    """For who cannot wait: no request is sent."""
    message = core.pinned(EAST).encrypt(b"x", purpose="general", context=CONTEXT)
    estate.calls.clear()

    assert core.encrypt_from_cache(b"x", purpose="general", context=CONTEXT) is None
    assert core.decrypt_from_cache(message, purpose="general", context=CONTEXT) is None
    assert not estate.calls

    core.decrypt(message, purpose="general", context=CONTEXT)
    assert core.decrypt_from_cache(message, purpose="general", context=CONTEXT) == b"x"
