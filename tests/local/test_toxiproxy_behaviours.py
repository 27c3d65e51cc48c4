"""The pure parts of the Toxiproxy server: plans of pieces, Go's JSON, Go's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.addresses import AddressError, split_address
from kms_local.toxiproxy.behaviours import BEHAVIOURS, Behaviour, Chunk, Memory
from kms_local.toxiproxy.exposition import number_text
from kms_local.toxiproxy.relay_loop import RelayLoop
from kms_local.toxiproxy.toxics import KINDS

INT64 = st.integers(-(2**63), 2**63 - 1)


def behaviour(kind: str, **attributes: int) -> Behaviour:
    given_all = {**dict.fromkeys(KINDS[kind].attributes, 0), **attributes}
    return BEHAVIOURS[kind](given_all, Memory(), random.Random(3))


def pieces(kind: str, data: bytes, now: float = 100.0, **attributes: int) -> list[tuple[float, bytes | None]]:
    plan = behaviour(kind, **attributes).plan(Chunk(data, now), now)
    return [(due, None if item is None else item.data) for due, item in plan]


@given(
    kind=st.sampled_from(["noop", "latency", "bandwidth", "slow_close", "slicer"]),
    data=st.binary(min_size=1, max_size=3000),
    values=st.lists(INT64, min_size=3, max_size=3),
)
def test_no_plan_loses_or_repeats_a_byte(kind: str, data: bytes, values: list[int]) -> None:
    """Whatever the attributes: the pieces of a chunk are the chunk, in order, and due in order."""
    attributes = dict(zip(KINDS[kind].attributes, values, strict=False))

    plan = pieces(kind, data, **attributes)

    assert b"".join(piece for _, piece in plan if piece is not None) == data
    assert [due for due, _ in plan] == sorted(due for due, _ in plan)


def test_latencies_add_up() -> None:
    """A chunk is stamped anew when it leaves, so that the next latency counts from there."""
    first = behaviour("latency", latency=100).plan(Chunk(b"x", 10.0), 10.0)[0][1]
    assert first is not None
    second = behaviour("latency", latency=150).plan(first, 10.1)

    assert second[0][0] == pytest.approx(10.25)


def test_bandwidth_slices_are_100_ms() -> None:
    """2 KB/s: 200 bytes every 100 ms; the last piece as long as it takes."""
    plan = pieces("bandwidth", b"x" * 450, rate=2)

    assert [len(piece or b"") for _, piece in plan] == [200, 200, 50]
    assert [due for due, _ in plan] == pytest.approx([100.1, 100.2, 100.225])


def test_bandwidth_counts_from_when_a_chunk_is_looked_at() -> None:
    """A chunk that waited for another one has no credit; one that is a timer's lateness behind has."""
    run = behaviour("bandwidth", rate=2)

    waited = run.plan(Chunk(b"x" * 200, 100.0), 105.0)
    behind = run.plan(Chunk(b"x" * 200, 100.0), 105.101)

    assert [due for due, _ in waited] == pytest.approx([105.1])
    assert [due for due, _ in behind] == pytest.approx([105.2])


def test_the_slicer_halves() -> None:
    """10,000 bytes at 1000 are 16 pieces of 625, each with its pause, and one that holds the stream up afterwards."""
    run = behaviour("slicer", average_size=1000, delay=10)
    plan = [(due, item.data if item else None) for due, item in run.plan(Chunk(b"x" * 10_000, 1.0), 1.0)]

    assert run.gap == pytest.approx(10e-6)

    assert [len(piece or b"") for _, piece in plan] == [625] * 16 + [0]


def test_limit_data_remembers() -> None:
    """The count goes on from chunk to chunk, and from one run to the next."""
    memory, attributes = Memory(), {"bytes": 10}
    run = BEHAVIOURS["limit_data"](attributes, memory, random.Random(1))
    run.plan(Chunk(b"x" * 6, 0.0), 0.0)
    again = BEHAVIOURS["limit_data"](attributes, memory, random.Random(1))

    plan = again.plan(Chunk(b"y" * 6, 0.0), 0.0)

    assert [item.data if item else None for _, item in plan] == [b"yyyy", None]


def test_timeout_starts_again_with_every_chunk() -> None:
    """Data are dropped, and put off the end."""
    run = behaviour("timeout", timeout=300)
    run.begin(0.0)
    assert run.closes_at == pytest.approx(0.3)

    assert run.plan(Chunk(b"x", 0.2), 0.2) == []

    assert run.closes_at == pytest.approx(0.5)


def test_a_reader_that_fails_does_not_end_the_loop() -> None:
    """What a reader raises is told to the loop's handler, and everything else goes on."""

    class Broken:
        def read_now(self) -> bool | None:
            raise ValueError("broken")

    told: list[str] = []
    loop = RelayLoop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, loop.stop)
    loop.watch(ours.fileno(), Broken())

    theirs.send(b"x")
    loop.call_later(0.05, loop.unwatch, ours.fileno())
    loop.run_forever()  # until the loop itself hears of the byte

    assert set(told) == {"broken"}
    loop.remove_reader(ours)
    for end in (ours, theirs):
        end.close()
    loop.close()


def test_a_loop_that_passes_data_on_keeps_its_timers() -> None:
    """However much there is to pass on, a timer comes when it is due."""

    class Busy:
        reads = 0

        def read_now(self) -> bool | None:
            self.reads += 1
            return True

    loop, busy = RelayLoop(), Busy()
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, lambda: None)
    loop.watch(ours.fileno(), busy)
    theirs.send(b"x")  # never taken: there is always something to read

    async def wait() -> None:
        await asyncio.sleep(0.05)

    loop.run_until_complete(asyncio.wait_for(wait(), 10))

    assert busy.reads > 100
    loop.remove_reader(ours)
    for end in (ours, theirs):
        end.close()
    loop.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (17, "17"),
        (0.25, "0.25"),
        (999_999, "999999"),
        (1e6, "1e+06"),
        (1_234_567, "1.234567e+06"),
        (1e-7, "1e-07"),
    ],
)
def test_numbers_of_a_page(value: float, text: str) -> None:
    """As Go's `%g` has them."""
    assert number_text(value) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_texts_read_back(value: float) -> None:
    """A toxicity's text is JSON, and reads back as the same 32 bits."""
    text = go_json.float32_text(value)

    assert struct.pack("<f", float(text)) == struct.pack("<f", value) or value == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.5, "0.5"), (0.0, "0"), (1e21, "1e+21"), (1e-7, "1e-7"), (123456792.0, "123456790")],
)
def test_float32_texts(value: float, text: str) -> None:
    """As Go writes them."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))

    assert go_json.float32_text(rounded) == text


@given(st.binary(max_size=60))
def test_any_body_is_decoded_or_refused(body: bytes) -> None:
    """No body brings the decoder down."""
    with contextlib.suppress(go_json.DecodeError):
        go_json.decode(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("127.0.0.1:80", ("127.0.0.1", 80), id="v4"),
        pytest.param("[::1]:80", ("::1", 80), id="v6"),
        pytest.param(":80", ("", 80), id="any-host"),
        pytest.param("", ("", 0), id="nothing"),
        pytest.param("localhost:", ("localhost", 0), id="any-port"),
        pytest.param("localhost:http", ("localhost", 80), id="service"),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """Go's forms of an address."""
    assert split_address(text) == expected


@given(st.text(alphabet="[]:1a.", max_size=12))
def test_any_address_is_split_or_refused(text: str) -> None:
    """No text brings the reader down."""
    with contextlib.suppress(AddressError):
        assert 0 <= split_address(text).port <= 65535
