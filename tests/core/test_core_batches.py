"""Many messages in one call: one request to KMS for each data key, and no item that spoils the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kms_core import (
    ClosedError,
    ContextError,
    Core,
    KmsUnavailableError,
    MessageError,
    Opened,
    Refused,
    Sealed,
    ToOpen,
    ToSeal,
)
from kms_core.errors import ConfigurationError
from kms_core.kms import DECRYPT, GENERATE_DATA_KEY
from kms_core.testing import FakeEstate


def to_seal(number: int, purpose: str = "general", tenant: str = "1") -> ToSeal:
    return ToSeal(plaintext=f"plaintext {number}".encode(), purpose=purpose, context={"tenant": tenant})


def to_open(items: list[ToSeal], results: list[Sealed | Refused]) -> list[ToOpen]:
    return [
        ToOpen(message=result.message, purpose=item.purpose, context=item.context)
        for item, result in zip(items, results, strict=True)
        if isinstance(result, Sealed)
    ]


def test_one_request_for_each_purpose_and_context(
    core: Core, make_core: Callable[..., Core], estate: FakeEstate
) -> None:
    """However the items are mixed; and they come back in their order."""
    items = [to_seal(n, ("general", "payment")[n % 2], str(n % 3)) for n in range(60)]

    results = core.encrypt_many(items)
    asked_to_make = estate.asked(GENERATE_DATA_KEY)
    reader = make_core()
    opened = reader.decrypt_many(to_open(items, results))

    assert len(asked_to_make) == 6
    assert len(estate.asked(DECRYPT)) == 6
    assert opened == [Opened(item.plaintext) for item in items]


def test_the_limit_of_a_data_key_holds_in_a_batch(make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """One request for each `max_encryptions_per_key` messages."""
    results = make_core(max_encryptions_per_key=10).encrypt_many(to_seal(n) for n in range(25))

    assert all(isinstance(result, Sealed) for result in results)
    assert len(estate.asked(GENERATE_DATA_KEY)) == 3


def test_a_bad_item_is_refused_alone(core: Core) -> None:
    """By type: what the single call would have raised is in the result."""
    bad: Any = None
    items = [
        to_seal(0),
        ToSeal(plaintext=b"x", purpose="general", context={}),
        ToSeal(plaintext=b"x", purpose="unknown", context={"a": "b"}),
        ToSeal(plaintext=bad, purpose="general", context={"a": "b"}),
        ToSeal(plaintext=b"x", purpose="general", context=bad),
        to_seal(5),
    ]

    results = core.encrypt_many(items)

    assert [type(result) for result in results] == [Sealed, Refused, Refused, Refused, Refused, Sealed]
    errors = [type(result.error) for result in results if isinstance(result, Refused)]
    assert errors == [ContextError, ConfigurationError, TypeError, ContextError]


def test_a_bad_message_is_refused_alone(core: Core) -> None:
    """A message that was changed, one of another context, and what is none."""
    items = [to_seal(n) for n in range(4)]
    wanted = to_open(items, core.encrypt_many(items))
    bad: Any = 10**12
    wanted[1] = ToOpen(message=wanted[1].message[:-1] + b"\0", purpose="general", context={"tenant": "1"})
    wanted[2] = ToOpen(message=wanted[2].message, purpose="general", context={"tenant": "2"})
    wanted.append(ToOpen(message=bad, purpose="general", context={"tenant": "1"}))
    wanted.append(ToOpen(message=b"", purpose="general", context={"tenant": "1"}))

    results = core.decrypt_many(wanted)

    assert [type(result) for result in results] == [Opened, Refused, Refused, Opened, Refused, Refused]
    errors = [type(result.error) for result in results if isinstance(result, Refused)]
    assert errors == [MessageError, MessageError, TypeError, MessageError]


def test_what_kms_refused_is_asked_once(core: Core, make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """A thousand messages under a key that is gone cost one answer, not a thousand."""
    items = [to_seal(n) for n in range(20)]
    wanted = to_open(items, core.encrypt_many(items))
    reader = make_core()
    estate.fail("AccessDeniedException")

    results = reader.decrypt_many(wanted)

    assert all(isinstance(result, Refused) for result in results)
    assert len(estate.asked(DECRYPT)) == 1


def test_an_outage_is_found_once_a_group(core: Core, estate: FakeEstate) -> None:
    """Not once an item: a batch would take its length times the deadline."""
    estate.fail("ConnectionRefused")

    results = core.encrypt_many(to_seal(n) for n in range(20))

    assert {type(result.error) for result in results if isinstance(result, Refused)} == {KmsUnavailableError}
    assert len(estate.asked(GENERATE_DATA_KEY)) <= 6


def test_a_closed_core_refuses_the_batch(core: Core) -> None:
    """Not item by item."""
    core.close()
    with pytest.raises(ClosedError):
        core.encrypt_many([to_seal(0)])
    with pytest.raises(ClosedError):
        core.decrypt_many([])


def test_results_do_not_show_what_they_hold() -> None:
    """Plaintext does not print."""
    assert "secret" not in repr(Opened(b"secret")) + repr(ToSeal(plaintext=b"secret", purpose="p", context={}))
