"""Many messages in one call: what goes in, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSeal:
    """One plaintext for `Core.encrypt_many`."""

    plaintext: bytes = field(repr=False)
    purpose: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToOpen:
    """One message for `Core.decrypt_many`."""

    message: bytes = field(repr=False)
    purpose: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sealed:
    """It was sealed."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """It was opened."""

    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not, and this is what `Core.encrypt` or `Core.decrypt` would have raised."""

    error: Exception
