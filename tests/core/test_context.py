"""The encryption context is checked at the door and serialised one way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_core import context as contexts
from kms_core.errors import ContextError, MessageError

TEXT = st.text(max_size=10)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({}, id="empty"),
        pytest.param(None, id="none"),
        pytest.param([("a", "b")], id="a list"),
        pytest.param({"a": 1}, id="a number"),
        pytest.param({"a": None}, id="no value"),
        pytest.param({b"a": "b"}, id="bytes"),
        pytest.param({"": "b"}, id="empty key"),
        pytest.param({"aws-crypto-public-key": "A"}, id="reserved"),
    ],
)
def test_a_context_that_cannot_be_used_is_refused_with_the_reason(context: Any) -> None:
    """The caller's own argument is the caller's mistake, and may be spoken of."""
    with pytest.raises(ContextError, match="context"):
        contexts.checked(context)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({"a": "b" * 65_536}, id="value too long"),
        pytest.param({"a" * 65_536: "b"}, id="key too long"),
        pytest.param({"a": "b" * 40_000, "c": "d" * 40_000}, id="all too long"),
        pytest.param({str(number): "" for number in range(65_536)}, id="too many pairs"),
        pytest.param({"a": "\ud800"}, id="half a surrogate pair"),
    ],
)
def test_a_context_that_cannot_be_written_is_refused(context: dict[str, str]) -> None:
    """The field has two bytes for its length, and is UTF-8."""
    with pytest.raises(ContextError):
        contexts.serialised(context)


def test_pairs_are_sorted_by_their_bytes() -> None:
    """By UTF-8 and not by UTF-16, where a key beyond the BMP comes before U+FFEE."""
    written = contexts.serialised({"\U0001f511": "2", "\uffee": "1"})

    assert list(contexts.parsed(written)) == ["\uffee", "\U0001f511"]


@given(context=st.dictionaries(TEXT, TEXT))
def test_what_is_written_is_read(context: dict[str, str]) -> None:
    """Serialising loses nothing, and order of insertion does not show."""
    reversed_order = dict(reversed(context.items()))

    assert contexts.parsed(contexts.serialised(context)) == context
    assert contexts.serialised(context) == contexts.serialised(reversed_order)


@given(raw=st.binary(min_size=1, max_size=60))
def test_bytes_that_are_no_context_are_refused_with_one_error(raw: bytes) -> None:
    """Either it is a context that serialises to as many bytes, or it is a MessageError."""
    try:
        context = contexts.parsed(raw)
    except MessageError:
        return
    assert len(contexts.serialised(context)) == len(raw)


def test_the_formats_own_pairs_are_left_out_of_what_was_chosen() -> None:
    """A signed message's public key is in its context, and no caller expects it."""
    assert contexts.chosen({"aws-crypto-public-key": "A", "a": "b"}) == {"a": "b"}
