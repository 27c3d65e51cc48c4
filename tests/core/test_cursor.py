"""The decoder's eye: no field, however long it says it is, is read past the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kms_core._cursor import Cursor
from kms_core.errors import MessageError, Step

READS: dict[str, tuple[Callable[[Cursor], object], bytes, object]] = {
    "u8": (lambda cursor: cursor.u8(), b"\x07", 7),
    "u16": (lambda cursor: cursor.u16(), b"\x01\x02", 258),
    "u32": (lambda cursor: cursor.u32(), b"\x00\x01\x00\x00", 65_536),
    "u64": (lambda cursor: cursor.u64(), b"\x00\x00\x00\x01\x00\x00\x00\x00", 1 << 32),
    "text": (lambda cursor: cursor.text(), b"\x00\x02\xc3\xa9", "é"),
    "take": (lambda cursor: cursor.take(3), b"abc", b"abc"),
    "skip": (lambda cursor: cursor.skip(3), b"abc", 1),
}


@pytest.mark.parametrize("name", READS)
def test_a_field_is_read_where_it_is_and_not_beyond(name: str) -> None:
    """The whole of it is enough; a byte less is an error at the cursor's own step, and leaves it where it was."""
    read, raw, value = READS[name]
    whole, short = Cursor(b"\xff" + raw, 1, step=Step.HEADER), Cursor(b"\xff" + raw[:-1], 1, step=Step.HEADER)

    assert read(whole) == value
    assert whole.position == 1 + len(raw)
    with pytest.raises(MessageError) as refused:
        read(short)
    assert refused.value.step is Step.HEADER
    assert short.position in {1, 3}, "a text's length was there and stays read; nothing else is"


def test_what_is_skipped_is_where_it_was() -> None:
    """Skipping tells where it began, one after the other."""
    cursor = Cursor(b"abcdef", step=Step.HEADER)

    assert [cursor.skip(2), cursor.skip(0), cursor.skip(4)] == [0, 2, 2]
    assert cursor.position == 6
    with pytest.raises(MessageError):
        cursor.skip(1)


def test_a_length_that_nobody_has_allocates_nothing() -> None:
    """Four thousand million bytes that are not there are an error, not a request for memory."""
    cursor = Cursor(b"\xff\xff\xff\xff", step=Step.HEADER)

    with pytest.raises(MessageError):
        cursor.take(cursor.u32())
    with pytest.raises(MessageError):
        cursor.skip(1 << 62)
