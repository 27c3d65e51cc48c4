"""What comes in over HTTP, as values: read in bounded time and memory, and refused by name where it cannot be meant."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

MAX_BODY_BYTES = 65_536
BODY_SECONDS = 10.0
"""Who sends slower must not hold up the end."""
_REFERENCE = re.compile(r"[A-Z0-9]{6}")


class BadRequestError(ValueError):
    """The request cannot be meant; the text says why, without a value of its."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A booking's fields, to be sealed."""

    reference: str
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class ToOpen:
    """A booking's fields, sealed."""

    reference: str
    sealed: dict[str, bytes]


def to_seal(body: bytes) -> ToSeal:
    """Return what `{"reference": "PF4K2Q", "fields": {"passport": "X1234567"}}` says.

    Raises:
        BadRequestError: it is not in that form.
    """
    reference, values = _document(body, "fields")
    return ToSeal(reference, values)


def to_open(body: bytes) -> ToOpen:
    """Return what `{"reference": "PF4K2Q", "sealed": {"passport": "<base64>"}}` says.

    Raises:
        BadRequestError: it is not in that form.
    """
    reference, values = _document(body, "sealed")
    try:
        return ToOpen(reference, {name: base64.b64decode(text, validate=True) for name, text in values.items()})
    except (binascii.Error, ValueError) as e:  # a letter that is not ASCII is a ValueError
        raise BadRequestError("what is sealed must be base64") from e


async def body_of(request: Request) -> bytes:
    """Return the whole body.

    Raises:
        BadRequestError: it is too large, comes too slowly, or its sender has hung up.
    """
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                found += chunk
                if len(found) > MAX_BODY_BYTES:
                    raise BadRequestError(f"more than {MAX_BODY_BYTES} bytes", status=413)
    except TimeoutError as e:
        raise BadRequestError(f"not within {BODY_SECONDS:.0f} seconds", status=408) from e
    except ClientDisconnect as e:
        raise BadRequestError("not the whole body came") from e
    return bytes(found)


def _document(body: bytes, member: str) -> tuple[str, dict[str, str]]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise BadRequestError("the body must be JSON") from e
    if not isinstance(document, dict) or document.keys() != {"reference", member}:
        raise BadRequestError(f"the body must be an object with reference and {member}")
    reference, values = document["reference"], document[member]
    if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
        raise BadRequestError("reference must be six of A-Z and 0-9")
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise BadRequestError(f"{member} must be an object of texts")
    return reference, values
