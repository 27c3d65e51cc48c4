"""What the application does with the core: each field of a booking is sealed under its own purpose and context.

A passport cannot be opened as a card, since purposes have keys of their own; nor as another table's field, since the
context is compared; nor as another booking's, since the booking's reference is sealed with it. The context holds no
personal data: it stands in CloudTrail.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kms_core import MessageError
from kms_core.aio import AsyncCore


@dataclass(frozen=True, slots=True)
class SealedField:
    """How one field is sealed; there is no way to seal it without its context."""

    purpose: str
    table: str
    name: str

    @property
    def context(self) -> dict[str, str]:
        """What the message is bound to: what kind of thing it is, not which one, so that data keys are reused."""
        return {"service": "booking", "table": self.table, "field": self.name}


FIELDS: Mapping[str, SealedField] = MappingProxyType(
    {
        "booking": SealedField("general", "bookings", "details"),
        "passport": SealedField("pii", "passengers", "passport"),
        "card": SealedField("payment", "payments", "card"),
    }
)


class UnknownFieldError(ValueError):
    """No such field is sealed by this task."""


@dataclass(frozen=True, slots=True)
class Bookings:
    """Seals and opens, in the regions that the core chooses."""

    core: AsyncCore = field(repr=False)
    fields: Mapping[str, SealedField]
    """Those whose purposes this task may use: payments have a task of their own, with a role of its own."""

    @classmethod
    def of(cls, core: AsyncCore, purposes: Collection[str]) -> Bookings:
        """Return those that handle the fields of `purposes`."""
        return cls(core, {name: one for name, one in FIELDS.items() if one.purpose in purposes})

    async def seal(self, reference: str, values: Mapping[str, str]) -> dict[str, bytes]:
        """Return each value of the booking `reference` sealed.

        Raises:
            UnknownFieldError: a field that is not sealed here.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had.
        """
        self._refuse_unknown(values)
        sealed = await asyncio.gather(*(self._seal(reference, name, value) for name, value in values.items()))
        return dict(zip(values, sealed, strict=True))

    async def open(self, reference: str, sealed: Mapping[str, bytes]) -> dict[str, str]:
        """Return the values of the booking `reference`.

        Raises:
            UnknownFieldError: a field that is not sealed here.
            MessageError: it is not this field, or not of this booking, or somebody changed it.
            KmsUnavailableError, KmsDeniedError: no region could open its data key.
        """
        self._refuse_unknown(sealed)
        values = await asyncio.gather(*(self._open(reference, name, message) for name, message in sealed.items()))
        return dict(zip(sealed, values, strict=True))

    async def _seal(self, reference: str, name: str, value: str) -> bytes:
        one = self.fields[name]
        return await self.core.encrypt(_plaintext(reference, value), purpose=one.purpose, context=one.context)

    async def _open(self, reference: str, name: str, message: bytes) -> str:
        one = self.fields[name]
        return _value(reference, await self.core.decrypt(message, purpose=one.purpose, context=one.context))

    def _refuse_unknown(self, names: Collection[str]) -> None:
        if not names:
            raise UnknownFieldError(f"name a field: {', '.join(self.fields)}")
        if unknown := [name for name in names if name not in self.fields]:
            raise UnknownFieldError(f"{unknown[0]!r} is not sealed here; {', '.join(self.fields)} are")


def _plaintext(reference: str, value: str) -> bytes:
    return json.dumps([reference, value]).encode()


def _value(reference: str, plaintext: bytes) -> str:
    """Return the value that was sealed for the booking `reference`; another booking's is refused as any bad message."""
    try:
        match json.loads(plaintext):
            case [str(sealed_for), str(value)] if sealed_for == reference:
                return value
    except ValueError as e:
        raise MessageError from e
    raise MessageError
