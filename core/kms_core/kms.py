"""The port to one region's key service: `Boto3Kms` in production, `kms_core.testing.FakeKms` in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

GENERATE_DATA_KEY = "GenerateDataKey"
DECRYPT = "Decrypt"
DESCRIBE_KEY = "DescribeKey"
MAX_WRAPPED_BYTES = 6144
"""The longest ciphertext that KMS takes; the shortest is a byte."""
OK = 200
"""HTTP status of an answer, also of one that is not believed."""


class KeyMaterial(bytes):
    """Bytes that do not show themselves: error reporters print the local variables of a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<key material>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedKey:
    """A data key that KMS made: in clear, and wrapped."""

    plaintext: bytes = field(repr=False)
    wrapped: bytes
    key_arn: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrappedKey:
    """A data key that KMS opened."""

    plaintext: bytes = field(repr=False)
    key_arn: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedKey:
    """What an alias points to in one region."""

    key_arn: str
    request_id: str


class KmsFailure(Exception):  # noqa: N818 - not raised to callers of the core, who see kms_core.errors alone
    """One request failed; the only exception that an adapter raises.

    Args:
        code: KMS's own error code, or the core's name for a fault of the connection (`kms_core.taxonomy`).
        status: HTTP status of the answer; 0 when none came.
        request_id: as KMS gave it; empty when no answer came.
        retry_after_seconds: how long KMS asked us to wait, when it did.
    """

    def __init__(
        self, code: str, *, status: int = 0, request_id: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


class Kms(Protocol):
    """One region's key service. Every method makes exactly one request, from any thread, and raises `KmsFailure` only.

    An adapter refuses an answer whose fields are missing (`Truncated`); whether they are the right ones is checked
    by who asked.
    """

    @property
    def region(self) -> str:
        """The region that answers."""
        ...

    def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> GeneratedKey:
        """Make a data key of 32 bytes, bound to `context`."""
        ...

    def decrypt(self, wrapped: bytes, key_arn: str, context: Mapping[str, str]) -> UnwrappedKey:
        """Open a wrapped data key."""
        ...

    def describe_key(self, alias: str) -> DescribedKey:
        """Say which key `alias` points to."""
        ...

    def close(self) -> None:
        """Close the connections; requests that are out may still end."""
        ...


def waits_for_credentials(kms: Kms, thread: int) -> bool:
    """Return whether the request of `thread` (`threading.get_ident`) waits for credentials, so not for the region.

    By an optional method of this name: a `Kms` without credentials needs none.
    """
    asked: Callable[[int], bool] | None = getattr(kms, "waits_for_credentials", None)
    return asked is not None and asked(thread)
