"""What a forged header, an odd object or a slip in the configuration may not do to everybody else."""

from __future__ import annotations

import array
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core import (
    ConfigurationError,
    ContextError,
    Core,
    KeyConfig,
    MessageError,
    NotStreamableError,
    Opened,
    Refused,
    ToOpen,
    ToSeal,
)
from kms_core.context import serialised
from kms_core.errors import Step
from kms_core.events import BreakerMoved
from kms_core.kms import DECRYPT
from kms_core.message import KMS_PROVIDER, EncryptedDataKey, encrypted_data_keys
from kms_core.testing import FakeEstate, core_over, encode

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
CONTEXT = {"tenant": "1"}


def with_forged_pair(message: bytes) -> bytes:
    """Return `message` with a pair in its header that the comparison leaves out and KMS does not."""
    written, forged = serialised(CONTEXT), serialised(CONTEXT | {"aws-crypto-forged": "x"})
    size, forged_size = (len(context).to_bytes(2, "big") for context in (written, forged))
    return message.replace(size + written, forged_size + forged, 1)


def wrapping(estate: FakeEstate, length: int) -> bytes:
    """Return a message whose wrapped key, a genuine one, opens to a data key of `length` bytes."""
    key_id, iv = estate[EAST].aliases["alias/general"], os.urandom(12)
    sealed = AESGCM(estate.keys[key_id].material).encrypt(iv, bytes(length), serialised(CONTEXT))
    wrapped = EncryptedDataKey(
        provider_id=KMS_PROVIDER,
        provider_info=estate.arn(key_id, EAST).encode(),
        ciphertext=key_id.encode() + b"\0" + iv + sealed,
    )
    return encode(b"x", bytes(32), [wrapped], CONTEXT, message_id=os.urandom(32))


def to_open(message: bytes) -> ToOpen:
    return ToOpen(message=message, purpose="general", context=CONTEXT)


def test_a_forged_header_takes_no_genuine_message_down_with_it(core: Core, make_core: Callable[..., Core]) -> None:
    """KMS refuses the forged one, and that is remembered for what KMS would be asked in the same words alone."""
    good = [core.encrypt(str(n).encode(), purpose="general", context=CONTEXT) for n in range(3)]

    results = make_core().decrypt_many(map(to_open, [with_forged_pair(good[0]), *good]))

    assert isinstance(results[0], Refused)
    assert isinstance(results[0].error, MessageError)
    assert results[1:] == [Opened(b"0"), Opened(b"1"), Opened(b"2")]


def test_many_wrapped_keys_cost_a_batch_nothing(core: Core, estate: FakeEstate) -> None:
    """Refused by their number, as in a single call."""
    one = EncryptedDataKey(provider_id="x", provider_info=b"", ciphertext=b"")
    hostile = encode(b"x", bytes(32), [one] * 65_535, CONTEXT, message_id=bytes(32))
    estate.calls.clear()

    (result,) = core.decrypt_many([to_open(hostile)])

    assert isinstance(result, Refused)
    assert not estate.calls


@pytest.mark.parametrize("item", [None, "text", ToSeal(plaintext=b"", purpose="general", context=CONTEXT)])
def test_what_is_no_item_is_refused_alone(core: Core, item: Any) -> None:
    """By type, beside a genuine one."""
    good = core.encrypt(b"x", purpose="general", context=CONTEXT)

    bad, fine = core.decrypt_many([item, to_open(good)])

    assert isinstance(bad, Refused)
    assert isinstance(bad.error, TypeError)
    assert fine == Opened(b"x")


def test_odd_fields_are_refused_alone(core: Core) -> None:
    """A purpose that cannot be looked up, and memory that was let go of."""
    released = memoryview(b"gone")
    released.release()
    purpose: Any = ["general"]
    plaintext: Any = released

    results = core.encrypt_many(
        [
            ToSeal(plaintext=b"x", purpose=purpose, context=CONTEXT),
            ToSeal(plaintext=plaintext, purpose="general", context=CONTEXT),
        ]
    )

    assert [type(result.error) for result in results if isinstance(result, Refused)] == [TypeError, ValueError]


@pytest.mark.parametrize("length", [16, 24, 33])
def test_a_data_key_of_another_length_opens_no_breaker(
    core: Core, estate: FakeEstate, recorder: Any, length: int
) -> None:
    """The length that is expected stands in a header that nobody has authenticated: the regions are not to blame."""
    message = wrapping(estate, length)
    for _ in range(5):
        with pytest.raises(MessageError) as refused:
            core.decrypt(message, purpose="general", context=CONTEXT)

    assert refused.value.error_code == "WrongLength"
    assert refused.value.step is Step.UNWRAP
    assert estate.asked(DECRYPT) == [EAST, WEST, IRELAND] * 5
    assert not recorder.of(BreakerMoved)


@pytest.mark.parametrize("pinned", [False, True], ids=["by alias", "by key id"])
def test_two_purposes_never_have_one_key(estate: FakeEstate, make_core: Callable[..., Core], pinned: bool) -> None:  # noqa: FBT001
    """Else a message of one would open as the other; found at once where names are equal, at the start where not."""
    key_id = estate[EAST].aliases["alias/general"]
    for region in (EAST, WEST, IRELAND):
        estate[region].aliases["alias/second"] = key_id
    second = KeyConfig(alias="alias/second", key_id=key_id if pinned else None)
    with pytest.raises(ConfigurationError, match="same key"):
        make_core(keys={"general": KeyConfig(alias="alias/general"), "payment": second})


def test_two_purposes_never_have_one_name(make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """A line that was pasted twice."""
    key = KeyConfig(alias="alias/general")
    with pytest.raises(ConfigurationError, match="same alias"):
        make_core(keys={"general": key, "payment": key})
    one = {"key_id": estate[EAST].aliases["alias/general"]}
    with pytest.raises(ConfigurationError, match="same key_id"):
        make_core(keys={"general": KeyConfig(alias="alias/a", **one), "payment": KeyConfig(alias="alias/b", **one)})


def test_a_purpose_learnt_late_never_has_anothers_key(estate: FakeEstate, config: Any) -> None:
    """The aliases could not be asked for at the start; then one of them turns out to be the other's."""
    for region in (EAST, WEST, IRELAND):
        estate[region].aliases["alias/payment"] = estate[region].aliases["alias/general"]
    estate.fail("ConnectTimeout")
    with core_over(estate, config) as core:
        estate.fail(None)
        estate.clock.advance(60)
        core.encrypt(b"x", purpose="general", context=CONTEXT)

        with pytest.raises(ConfigurationError, match="same key"):
            core.encrypt(b"x", purpose="payment", context=CONTEXT)


class Lenient(dict[str, str]):
    """A mapping that thinks itself equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Loose(Mapping[str, str]):
    """A mapping that does not tell upper from lower case, as HTTP headers do not."""

    def __init__(self, pairs: dict[str, str]) -> None:
        self._pairs = pairs

    def __getitem__(self, key: str) -> str:
        return {name.lower(): value for name, value in self._pairs.items()}[key.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and {name.lower() for name in self} == {name.lower() for name in other}

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize("context", [Lenient({"other": "2"}), Loose({"TENANT": "1"})], ids=["lenient", "loose"])
def test_a_contexts_own_idea_of_equality_counts_for_nothing(core: Core, context: Mapping[str, str]) -> None:
    """Cold or warm: what matches does not depend on what was opened before."""
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    for _ in range(2):
        with pytest.raises(MessageError):
            core.decrypt(message, purpose="general", context=context)
        assert core.decrypt(message, purpose="general", context=CONTEXT) == b"x"


@pytest.mark.parametrize("context", [{"a": "\ud800"}, {"a": "x" * 65_536}], ids=["surrogate", "too long"])
def test_a_context_that_cannot_be_written_is_the_callers_mistake(
    core: Core, estate: FakeEstate, context: dict[str, str]
) -> None:
    """Not a sign of tampering, and no request, pinned or not."""
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    estate.calls.clear()

    for attempt in (
        lambda: core.encrypt(b"x", purpose="general", context=context),
        lambda: core.decrypt(message, purpose="general", context=context),
        lambda: core.pinned(EAST).encrypt(b"x", purpose="general", context=context),
        lambda: core.pinned(EAST).unwrap(encrypted_data_keys(message)[0], context, purpose="general"),
    ):
        with pytest.raises(ContextError):
            attempt()
    assert not estate.calls


def test_what_is_no_wrapped_key_is_a_type_error(core: Core) -> None:
    """Bytes are not enough: it must say whose key wrapped them."""
    wrong: Any = b"wrapped"
    with pytest.raises(TypeError, match="EncryptedDataKey"):
        core.pinned(EAST).unwrap(wrong, CONTEXT, purpose="general")


class Generous(io.BytesIO):
    """A source that gives more than it was asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(2 * (size or 0))


class Numbers:
    """A source of memory whose items are not bytes, so that its length is not what was asked for."""

    def read(self, size: int, /) -> memoryview:
        return memoryview(array.array("I", range(size)))


@pytest.mark.parametrize("source", [Generous(bytes(1000)), Numbers()], ids=["too much", "not of bytes"])
def test_a_source_that_gives_too_much_is_refused(core: Core, source: Any) -> None:
    """A frame of it would be longer than any reader takes: a message that nobody could open."""
    with pytest.raises(ValueError, match="was asked for 64 bytes"):
        core.encrypt_stream(source, io.BytesIO(), purpose="general", context=CONTEXT, frame_length=64)


@pytest.mark.parametrize("wrong", [None, b"", "text", 5])
def test_what_is_no_stream_is_a_type_error_and_no_request(core: Core, estate: FakeEstate, wrong: Any) -> None:
    """Either end, either way; nor is KMS asked for a frame length that cannot be."""
    estate.calls.clear()
    with pytest.raises(TypeError, match="has a method `read`"):
        core.encrypt_stream(wrong, io.BytesIO(), purpose="general", context=CONTEXT)
    with pytest.raises(TypeError, match="has a method `write`"):
        core.encrypt_stream(io.BytesIO(), wrong, purpose="general", context=CONTEXT)
    with pytest.raises(TypeError, match="has a method `read`"):
        core.decrypt_stream(wrong, io.BytesIO(), purpose="general", context=CONTEXT)
    fraction: Any = 1.5
    for length, error in ((0, ValueError), (2**25, ValueError), (fraction, TypeError)):
        with pytest.raises(error, match="frame_length"):
            core.encrypt_stream(io.BytesIO(), io.BytesIO(), purpose="general", context=CONTEXT, frame_length=length)
    assert not estate.calls


def test_only_what_decrypt_might_open_is_sent_there(core: Core) -> None:
    """Suites that use the data key as it is, and a version that does not go with its suite, are no messages here."""
    for start, error in (
        (b"\x02\x05\x78", NotStreamableError),
        (b"\x01\x80\x01\x78", NotStreamableError),
        (b"\x01\x80\x00\x14", MessageError),
        (b"\x01\x80\x04\x78", MessageError),
        (b"\x02\x01\x78", MessageError),
    ):
        with pytest.raises(MessageError) as refused:
            core.decrypt_stream(io.BytesIO(start + bytes(200)), io.BytesIO(), purpose="general", context=CONTEXT)
        assert type(refused.value) is error


def test_a_name_is_not_taken_from_what_is_no_file(core: Core, tmp_path: Path) -> None:
    """A pipe, a device or a folder is refused before anything is written; a long name is as good as a short one."""
    source, pipe, long = tmp_path / "source", tmp_path / "pipe", tmp_path / ("n" * 250)
    source.write_bytes(b"hello")
    os.mkfifo(pipe)
    for target in (pipe, tmp_path):
        with pytest.raises(FileExistsError):
            core.encrypt_file(source, target, purpose="general", context=CONTEXT)

    core.encrypt_file(source, long, purpose="general", context=CONTEXT)

    assert sorted(tmp_path.iterdir()) == sorted([source, pipe, long])
    assert long.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_is_replaced_and_what_it_named_is_not(core: Core, tmp_path: Path) -> None:
    """Whoever planted it does not choose where plaintext goes."""
    source, other, link = tmp_path / "source", tmp_path / "other", tmp_path / "link"
    source.write_bytes(b"hello")
    other.write_bytes(b"old")
    link.symlink_to(other)

    core.encrypt_file(source, link, purpose="general", context=CONTEXT)

    assert not link.is_symlink()
    assert other.read_bytes() == b"old"
