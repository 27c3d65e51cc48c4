"""What a sealed message says of itself, and why it would not open here: without its key, and without asking KMS. Pure.

A header that nobody has authenticated may say anything: what is told here is what is written there, no more. The
format itself is the core's to read (`kms_core.message`); nothing of it stands here again.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kms_core import suites
from kms_core._cursor import Cursor
from kms_core._open import _final_frame, check_signature_key
from kms_core._seal import FRAME_OVERHEAD
from kms_core._stream import Reader, read_header
from kms_core.arn import KeyArn, parse_key_arn
from kms_core.errors import MessageError, Step, TruncatedStreamError
from kms_core.message import IV_BYTES, KMS_PROVIDER, TAG_BYTES, EncryptedDataKey, Header, parse_header
from kms_watchdog.doctor.causes import CAUSES, CauseId
from kms_watchdog.doctor.diagnosis import Outcome

MAX_BYTES = 64 * 1024 * 1024
"""So much of a message is read; of a longer one the end is not looked at."""
_MAX_SHOWN = 300
_MAX_KEYS = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is known here without asking anybody."""

    account_id: str
    regions: tuple[str, ...]
    key_ids: Mapping[str, str]
    """By purpose the key's id, where it is known."""
    purposes: tuple[str, ...]
    """All of them, also those whose key is not known."""
    max_wrapped_keys: int
    accepts_legacy: bool
    purpose: str = ""
    """For which it shall be opened; empty: for whichever it is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One reason why it would not open here."""

    id: str
    because: str
    cause_id: CauseId


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedFor:
    """One wrapped key of a message."""

    provider: str
    name: str
    """For KMS, the key's ARN."""
    purpose: str = ""
    """Empty: of none that is known."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a message says of itself."""

    header: Header | None
    """None: there is none that can be read."""
    wrapped: tuple[WrappedFor, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """How it ends."""
        if self.obstacles:
            return Outcome.CAUSE_FOUND
        return Outcome.COULD_NOT_TELL if self.untold else Outcome.NOTHING_WRONG


def describe(message: bytes, here: Place) -> Described:
    """Return what `message` says of itself; one longer than MAX_BYTES is taken for the beginning of a message."""
    decoded = _from_base64(message)
    found = _describe(message if decoded is None else decoded, here)
    if decoded is None:
        return found
    base64_first = _obstacle(
        "base64", "it is base64: what is told here is of the bytes in it", CauseId.MESSAGE_NOT_A_MESSAGE
    )
    return Described(
        header=found.header, wrapped=found.wrapped, obstacles=(base64_first, *found.obstacles), untold=found.untold
    )


def _describe(message: bytes, here: Place) -> Described:
    try:
        header = parse_header(message)
    except MessageError as e:
        return Described(header=None, obstacles=(_unreadable(message, e),))
    wrapped = tuple(_wrapped_for(each, here) for each in header.encrypted_data_keys)
    obstacles = [*_of_suite(header, here), *_of_shape(message, header, here), *_of_keys(wrapped, here)]
    return Described(
        header=header, wrapped=wrapped, obstacles=tuple(obstacles), untold=tuple(_untold(message, wrapped, here))
    )


def _from_base64(message: bytes) -> bytes | None:
    """Return the bytes that `message` is in base64, if it is a message so written; None: it is not."""
    try:
        parse_header(message)
    except MessageError as e:
        if e.step is not Step.BASE64:
            return None
    else:
        return None
    written = b"".join(message.split())
    try:
        return base64.b64decode(written[: len(written) // 4 * 4])  # cut off: what comes before the cut can be read
    except binascii.Error:
        return None


def _unreadable(message: bytes, error: MessageError) -> Obstacle:
    if not message:
        return _obstacle("empty", "there are no bytes in it", CauseId.MESSAGE_NOT_A_MESSAGE)
    if _ends_in_header(message):
        said = f"it ends inside its header, after {len(message)} bytes"
        return _obstacle("truncated", said, CauseId.MESSAGE_DAMAGED)
    if error.step is Step.SUITE:
        number = message[1:3] if message[0] == 2 else message[2:4]  # noqa: PLR2004 - the format's version
        return _obstacle("unknown-suite", f"its suite is 0x{number.hex()}, which is none", CauseId.MESSAGE_LEGACY)
    if message[:1] in {b"\x01", b"\x02"}:
        said = f"its header breaks the format at its {error.step}: cut off, or changed"
        return _obstacle("header-damaged", said, CauseId.MESSAGE_DAMAGED)
    said = f"no message begins with 0x{message[:4].hex()}"
    return _obstacle("wrong-format", said, CauseId.MESSAGE_NOT_A_MESSAGE)


def _ends_in_header(message: bytes) -> bool:
    """Say whether what is there is the beginning of a message of the suite that is written here."""
    try:
        read_header(Reader(io.BytesIO(message)), max_encrypted_data_keys=_MAX_KEYS)
    except TruncatedStreamError:
        return True
    except MessageError:
        return False
    return False


def _of_suite(header: Header, here: Place) -> Iterator[Obstacle]:
    number = f"0x{header.suite.id:04x}"
    if header.suite.id in suites.COMMITTED:
        return
    if header.suite.id not in suites.DERIVED:
        said = f"its suite {number} uses the data key as it is: never opened here"
        yield _obstacle("legacy-suite", said, CauseId.MESSAGE_LEGACY)
    elif not here.accepts_legacy:
        said = f"its suite {number} does not commit to its key; core.accept_legacy_suites is off"
        yield _obstacle("legacy-suite", said, CauseId.MESSAGE_LEGACY)


def _of_shape(message: bytes, header: Header, here: Place) -> Iterator[Obstacle]:
    count = len(header.encrypted_data_keys)
    if count > here.max_wrapped_keys:
        said = f"it has {count} wrapped keys; core.max_encrypted_data_keys is {here.max_wrapped_keys}"
        yield _obstacle("too-many-keys", said, CauseId.MESSAGE_DAMAGED)
    try:
        check_signature_key(header)
    except MessageError:
        said = "it is signed and has no key to verify that, or the other way round"
        yield _obstacle("signature-key", said, CauseId.MESSAGE_DAMAGED)
    if len(message) > MAX_BYTES:
        return
    try:
        end = _end(message, header)
    except MessageError:
        said = f"its frames do not come to an end within its {len(message)} bytes: cut off, or changed"
        yield _obstacle("truncated", said, CauseId.MESSAGE_DAMAGED)
    else:
        if end != len(message):
            said = f"{len(message) - end} bytes follow the message"
            yield _obstacle("trailing-bytes", said, CauseId.MESSAGE_DAMAGED)


def _end(message: bytes, header: Header) -> int:
    """Return where the message ends, by the lengths that it gives.

    Raises:
        MessageError: it has no end, or what should stand there does not.
    """
    cursor = Cursor(message, header.length, step=Step.FRAME)
    if header.framed:
        sequence = 1
        while message.startswith(sequence.to_bytes(4, "big"), cursor.position):
            cursor.skip(header.frame_length + FRAME_OVERHEAD)
            sequence += 1
        _final_frame(header.message_id, sequence, header.frame_length, cursor)
    else:
        cursor.skip(IV_BYTES)
        cursor.skip(cursor.u64() + TAG_BYTES)
    if header.suite.signed:
        cursor.skip(cursor.u16())
    return cursor.position


def _wrapped_for(wrapped: EncryptedDataKey, here: Place) -> WrappedFor:
    name = wrapped.provider_info.decode("utf-8", "backslashreplace")
    if wrapped.provider_id != KMS_PROVIDER:
        return WrappedFor(provider=wrapped.provider_id, name="", notes=("not wrapped by KMS: nobody here opens it",))
    arn = parse_key_arn(name)
    if arn is None:
        return WrappedFor(provider=KMS_PROVIDER, name=name, notes=("this is no key's ARN",))
    return WrappedFor(provider=KMS_PROVIDER, name=name, purpose=_purpose_of(arn, here), notes=tuple(_notes(arn, here)))


def _purpose_of(arn: KeyArn, here: Place) -> str:
    if arn.account != here.account_id or (not arn.multi_region and arn.region not in here.regions):
        return ""
    return next((purpose for purpose, key_id in here.key_ids.items() if key_id == arn.key_id), "")


def _notes(arn: KeyArn, here: Place) -> Iterator[str]:
    if arn.account != here.account_id:
        yield f"of account {arn.account}, not {here.account_id}"
    if arn.region not in here.regions:
        related = "; a related key in a configured region opens it" if arn.multi_region else ""
        yield f"its region {arn.region} is not configured{related}"


def _of_keys(wrapped: Sequence[WrappedFor], here: Place) -> Iterator[Obstacle]:
    purposes = {each.purpose for each in wrapped} - {""}
    if here.purpose and purposes and here.purpose not in purposes:
        said = f"it is of {', '.join(sorted(purposes))}, not of {here.purpose}"
        yield _obstacle("another-purpose", said, CauseId.MESSAGE_OF_ANOTHER_PURPOSE)
    elif not purposes and all(_is_foreign(each, here) for each in wrapped):
        where = (
            "region-not-configured"
            if all(_is_of_another_region(each, here) for each in wrapped)
            else "no-configured-key"
        )
        said = "none of its wrapped keys is a configured key's: " + "; ".join(
            f"{shown(each.name or each.provider)}{' (' + ', '.join(each.notes) + ')' if each.notes else ''}"
            for each in wrapped
        )
        yield _obstacle(where, said, CauseId.MESSAGE_OF_ANOTHER_PURPOSE)


def _is_foreign(wrapped: WrappedFor, here: Place) -> bool:
    """Say whether it is certain that no configured key opens it."""
    arn = parse_key_arn(wrapped.name)
    if arn is None or arn.account != here.account_id or _is_of_another_region(wrapped, here):
        return True
    return all(purpose in here.key_ids for purpose in here.purposes)


def _is_of_another_region(wrapped: WrappedFor, here: Place) -> bool:
    arn = parse_key_arn(wrapped.name)
    return arn is not None and not arn.multi_region and arn.region not in here.regions


def _untold(message: bytes, wrapped: Sequence[WrappedFor], here: Place) -> Iterator[str]:
    if not any(each.purpose for each in wrapped) and not all(_is_foreign(each, here) for each in wrapped):
        unknown = ", ".join(purpose for purpose in here.purposes if purpose not in here.key_ids)
        yield f"whose key it is: the key of {unknown} is known by its alias alone (set keys.PURPOSE.key_id)"
    if len(message) > MAX_BYTES:
        yield f"whether it is whole: it is longer than {MAX_BYTES} bytes"


def _obstacle(name: str, because: str, cause_id: CauseId) -> Obstacle:
    return Obstacle(id=name, because=because, cause_id=cause_id)


def shown(text: str) -> str:
    """Return `text` from a message as a terminal may have it: nothing that moves a cursor, and not too long."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return safe if len(safe) <= _MAX_SHOWN else f"{safe[:_MAX_SHOWN]}…"


def text(found: Described, *, show_context: bool) -> Iterator[str]:
    """Yield the lines of a report."""
    if found.header is not None:
        yield "its header says (nobody has authenticated it):"
        for name, value in _facts(found.header, show_context=show_context).items():
            words = ", ".join(shown(str(each)) for each in value) if isinstance(value, list) else shown(str(value))
            yield f"  {name.replace('_', ' '):15} {words}"
        for each in found.wrapped:
            told = "; ".join((*([f"key of {each.purpose}"] if each.purpose else []), *each.notes))
            yield f"  {'wrapped by':15} {shown(each.name or each.provider)}{f' ({told})' if told else ''}"
    for obstacle in found.obstacles:
        cause = CAUSES[obstacle.cause_id]
        yield f"would not open here: {obstacle.id}: {obstacle.because}"
        yield f"    first: {cause.first}"
        yield f"    runbook: {cause.runbook}"
    yield from (f"could not tell: {why}" for why in found.untold)
    if found.outcome is Outcome.NOTHING_WRONG:
        yield "nothing in its header keeps it from being opened here; whether the context fits, KMS alone can say"


def document(found: Described, *, show_context: bool) -> dict[str, Any]:
    """Return the same as JSON values."""
    return {
        "schema": 1,
        "outcome": str(found.outcome),
        "header": _facts(found.header, show_context=show_context) if found.header else None,
        "wrapped_keys": [
            {"provider": each.provider, "arn": each.name, "key": each.purpose, "notes": list(each.notes)}
            for each in found.wrapped
        ],
        "obstacles": [
            {
                "id": obstacle.id,
                "because": obstacle.because,
                "cause": str(obstacle.cause_id),
                "runbook": CAUSES[obstacle.cause_id].runbook,
            }
            for obstacle in found.obstacles
        ],
        "untold": list(found.untold),
    }


def _facts(header: Header, *, show_context: bool) -> dict[str, Any]:
    pairs = [f"{key}={value}" for key, value in header.context.items()]
    return {
        "suite": f"0x{header.suite.id:04x}",
        "format": f"version {header.suite.version}",
        "committed": header.suite.version == 2,  # noqa: PLR2004 - the format's version
        "signed": header.suite.signed,
        "context" if show_context else "context_keys": pairs if show_context else list(header.context),
        "frame_bytes": header.frame_length if header.framed else "not framed",
        "header_bytes": header.length,
    }
