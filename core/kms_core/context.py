"""The encryption context: validated at the door, serialised one way, read back with suspicion.

Source: AWS Encryption SDK Specification, framework/structures.md, "Encryption Context".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kms_core._cursor import Cursor
from kms_core.errors import ContextError, MessageError, Step

RESERVED_PREFIX = "aws-crypto-"
"""Pairs that the format itself puts into a context; callers may not."""

PUBLIC_KEY = "aws-crypto-public-key"
"""Where a signed message keeps its verification key."""

MAX_BYTES = 0xFFFF
_MAX_KNOWN_BYTES = 8192  # what is longer is serialised each time: the table stays small


def checked(context: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the caller's own `context`.

    Raises:
        ContextError: it is empty, names a reserved key, holds what is not a string of valid Unicode, or is too long.
    """
    if not isinstance(context, Mapping) or not context:
        raise ContextError("the context must be a mapping with at least one pair")
    for key, value in context.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ContextError("context keys and values must be strings")
        if not key:
            raise ContextError("a context key must not be empty")
        if key.startswith(RESERVED_PREFIX):
            raise ContextError(f"context keys that begin with {RESERVED_PREFIX} belong to the format")
    copied = dict(context)
    serialised(copied)  # what cannot be written is refused here, and not by KMS
    return copied


def serialised(context: Mapping[str, str]) -> bytes:
    """Return the canonical bytes of `context`: sorted by the keys' UTF-8 bytes; nothing at all when it is empty.

    Raises:
        ContextError: above 65,535 bytes, or not encodable.
    """
    if not context:
        return b""
    try:
        pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
        parts = [struct.pack(">H", len(pairs))]
        for pair in pairs:
            parts += [part for text in pair for part in (struct.pack(">H", len(text)), text)]
    except (AttributeError, UnicodeEncodeError, struct.error) as e:
        raise ContextError("the context cannot be written: not strings of valid Unicode, or too long") from e
    whole = b"".join(parts)
    if len(whole) > MAX_BYTES:
        raise ContextError(f"the context takes {len(whole)} bytes; at most {MAX_BYTES} can be written")
    return whole


class Canonical:
    """Contexts that were checked and serialised before, so that a caller's usual ones are only looked up."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._known: dict[frozenset[tuple[str, str]], bytes] = {}

    def checked(self, context: Mapping[str, str]) -> bytes:
        """Return the canonical bytes of the caller's own `context`, checked.

        Raises:
            ContextError: as `checked` and `serialised`.
        """
        try:
            if type(context) is dict:
                return self._known[frozenset(context.items())]
        except (KeyError, TypeError):  # not seen before, or not of strings
            pass
        wanted = checked(context)
        written = serialised(wanted)
        if len(written) > _MAX_KNOWN_BYTES:
            return written
        if len(self._known) >= self._entries:
            self._known.clear()
        self._known[frozenset(wanted.items())] = written
        return written


def parsed(raw: bytes) -> dict[str, str]:
    """Return the context that `raw` serialises, in whatever order: AWS has published messages with unsorted keys.

    Raises:
        MessageError: a count of zero, a key twice, bytes left over, invalid UTF-8, or truncation.
    """
    if not raw:
        return {}
    cursor = Cursor(raw, step=Step.CONTEXT)
    count = cursor.u16()
    context: dict[str, str] = {}
    for _ in range(count):
        key = cursor.text()
        context[key] = cursor.text()
    if not count or len(context) != count or cursor.position != len(raw):
        raise MessageError(step=Step.CONTEXT)
    return context


def chosen(context: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs of a message's context that its sender chose: those the format did not put there."""
    return {key: value for key, value in context.items() if not key.startswith(RESERVED_PREFIX)}
