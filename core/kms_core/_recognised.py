"""Headers seen before: messages under one data key differ in message id, commitment and tag, and in nothing else.

What stands between message id and commitment (context, wrapped key, frame length) was parsed, compared and
authenticated with the first message; for the next ones it is looked up. Nothing is skipped that depends on a message:
the commitment, the header's tag and every frame are verified each time; the key comes from the cache or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kms_core._cache import ENTRIES
from kms_core.message import COMMITMENT_BYTES, WRITTEN_START, Header
from kms_core.suites import WRITTEN

OpeningEntry = tuple[str, int, bytes, bytes]
"""Under what the opening cache keeps a data key: purpose, suite, digest of the wrapped key, context as written."""

_REST_AT = 35
_MAX_REST_BYTES = 8192  # what is longer is parsed each time: the table stays small


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A header's part that messages share, as it was found when it was parsed."""

    context: Mapping[str, str]
    entry: OpeningEntry
    body_bytes: int
    frame_length: int


class Recognised:
    """A table of such parts. Safe from any thread: each step on the dictionary is atomic by itself."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Known] = {}
        self._usual_end = 0

    def find(self, message: bytes, purpose: str, context: Mapping[str, str]) -> Known | None:
        """Return what is known of the header of `message`, when it was opened for `purpose` under `context` before."""
        if type(context) is not dict or not message.startswith(WRITTEN_START):
            return None  # another mapping may compare by rules of its own: its pairs are compared, after a full check
        known = self._known.get((purpose, message[_REST_AT : self._usual_end]))
        if known is None:
            end = _rest_end(message)
            if (known := self._known.get((purpose, message[_REST_AT:end]))) is not None:
                self._usual_end = end  # whoever reads the next message looks there first
        return known if known is not None and known.context == context else None

    def remember(self, header: Header, entry: OpeningEntry, context: Mapping[str, str]) -> None:
        """Take note of `header`, all of which was verified, opened for the purpose of `entry` under `context`."""
        rest = header.body[_REST_AT:-COMMITMENT_BYTES]
        recognisable = header.suite is WRITTEN and header.framed and len(header.encrypted_data_keys) == 1
        if not recognisable or len(rest) > _MAX_REST_BYTES:
            return
        if len(self._known) >= ENTRIES:
            self._known.clear()
        self._known[entry[0], rest] = Known(
            context=dict(context), entry=entry, body_bytes=len(header.body), frame_length=header.frame_length
        )

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def _rest_end(message: bytes) -> int:
    """Return where the commitment begins, if `message` has one wrapped key; beyond the end, where it is cut off."""
    at = _REST_AT + 2 + int.from_bytes(message[_REST_AT : _REST_AT + 2], "big") + 2
    for _ in range(3):  # provider, its information, the ciphertext
        at += 2 + int.from_bytes(message[at : at + 2], "big")
    return at + 5  # content type and frame length
