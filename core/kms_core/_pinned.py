"""One region of a core, by itself: what canaries and drills ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kms_core._envelope import Envelope
from kms_core.message import EncryptedDataKey


class PinnedCore:
    """One region of a `Core`: no cache and no failover, so that what it says is about that region.

    A breaker never refuses it, its outcome counts in the breaker, and it takes the probe's permit when one is free.
    """

    def __init__(self, envelope: Envelope, region: str, refuse_if_closed: Callable[[], None]) -> None:
        self._envelope = envelope
        self._refuse_if_closed = refuse_if_closed
        self.region = region

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `Core.encrypt`, with a data key that this region makes for it."""
        self._refuse_if_closed()
        return self._envelope.seal(owned(plaintext), purpose=purpose, context=context, region=self.region)

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `Core.decrypt`, with a data key that this region opens now."""
        self._refuse_if_closed()
        return self._envelope.open(owned(message), purpose=purpose, context=context, region=self.region)

    def unwrap(
        self, wrapped: EncryptedDataKey, context: Mapping[str, str], *, purpose: str, key_of: str | None = None
    ) -> None:
        """Ask KMS in this region to unwrap `wrapped` under exactly `context`, which nobody compares before.

        Returns nothing, never the key: what counts is whether KMS itself refuses. With `key_of`, KMS is asked to do
        it with the key of that purpose, though `purpose`'s wrapped it.

        Raises:
            MessageError: another purpose's key wrapped it (`error_code` is empty), or KMS refused (it is KMS's).
            ConfigurationError: no such purpose is configured.
            KmsUnavailableError, KmsDeniedError: the region could not say, or its answer is not to be believed
                (`WrongAnswer`: it did open something).
        """
        self._refuse_if_closed()
        self._envelope.unwrap(wrapped, context, purpose=purpose, region=self.region, key_of=key_of)


def owned(value: bytes | bytearray | memoryview) -> bytes:
    """Return `value` as bytes of our own, which nobody can change under us."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"bytes are expected, not {type(value).__name__}")
