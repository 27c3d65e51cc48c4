"""The pure parts of the Toxiproxy server: plans of pieces, Go's JSON, Go's addresses."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.addresses import AddressError, split_address
from kms_local.toxiproxy.behaviours import BEHAVIOURS, Behaviour, Chunk, Memory
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


def test_the_slicer_halves() -> None:
    """10,000 bytes at 1000 are 16 pieces of 625, and one pause after the last."""
    plan = pieces("slicer", b"x" * 10_000, average_size=1000, delay=10)

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
