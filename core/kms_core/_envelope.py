"""Sealing and opening messages: context and key first, then the data key from cache or KMS, then the cipher."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping

from kms_core import context as contexts
from kms_core import suites
from kms_core._cache import DataKeyCache, Limits
from kms_core._data_keys import DataKeys
from kms_core._deadline import Deadline
from kms_core._keyring import KeyRing, PurposeKey
from kms_core._observe import Emit
from kms_core._open import check_signature_key, open_message
from kms_core._seal import SealingKey, seal
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import MessageError, Step
from kms_core.events import CacheLookup, CoreOperation
from kms_core.message import EncryptedDataKey, Header, parse_header

_MESSAGE_ID_BYTES = 32


class Envelope:
    """Messages of all purposes. With a `region`, that one alone is asked, and no cache. Safe from any thread."""

    def __init__(
        self, config: CoreConfig, keyring: KeyRing, data_keys: DataKeys, *, clock: Clock, emit: Emit | None
    ) -> None:
        self._keyring = keyring
        self._data_keys = data_keys
        self._clock = clock
        self._emit = emit
        self._deadline_seconds = config.deadline_seconds
        self._max_encrypted_data_keys = config.max_encrypted_data_keys
        self._accepted = suites.COMMITTED | (suites.DERIVED if config.accept_legacy_suites else frozenset())
        ttl_seconds = config.data_key_ttl_seconds
        sealing = Limits(ttl_seconds=ttl_seconds, max_uses=config.max_encryptions_per_key)
        self._sealing: DataKeyCache[tuple[str, bytes, int], SealingKey] = DataKeyCache(sealing, clock)
        self._opening: DataKeyCache[tuple[str, int, bytes, bytes], bytes] = DataKeyCache(
            Limits(ttl_seconds=ttl_seconds), clock
        )

    def seal(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str], region: str | None = None) -> bytes:
        """Return the message that holds `plaintext`.

        Raises:
            ContextError, ConfigurationError: the caller's own arguments are wrong.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had.
        """
        wanted = contexts.checked(context)
        if region is None:
            key = self._cached_sealing_key(purpose, wanted, len(plaintext))
        else:
            key = self._new_sealing_key(purpose, wanted, Deadline(self._clock, self._deadline_seconds), region)
        return seal(plaintext, key, message_id=os.urandom(_MESSAGE_ID_BYTES))

    def open(self, message: bytes, *, purpose: str, context: Mapping[str, str], region: str | None = None) -> bytes:
        """Return the plaintext of `message`, when it is of `purpose` and was sealed under exactly `context`.

        Raises:
            MessageError: it is not, or it is no message, or somebody changed it.
            ContextError, ConfigurationError: the caller's own arguments are wrong.
            KmsUnavailableError, KmsDeniedError: no region could open its data key.
        """
        wanted = contexts.checked(context)
        header = self._expected_header(message, wanted)
        deadline = Deadline(self._clock, self._deadline_seconds)
        key = self._keyring.get(purpose, deadline, region=region)
        candidates = [wrapped for wrapped in header.encrypted_data_keys if key.wraps(wrapped)]
        if not candidates:
            raise MessageError(step=Step.KEY)
        data_key = self._first_opened(candidates, key, header, deadline, region)
        return open_message(message, header, data_key)

    def unwrap(self, wrapped: EncryptedDataKey, context: Mapping[str, str], *, purpose: str, region: str) -> None:
        """Ask KMS in `region` to unwrap `wrapped` under exactly `context`, and forget the answer.

        Raises:
            MessageError: another purpose's key wrapped it, or KMS refused.
            KmsUnavailableError, KmsDeniedError: the region could not say.
        """
        deadline = Deadline(self._clock, self._deadline_seconds)
        key = self._keyring.get(purpose, deadline, region=region)
        if not key.wraps(wrapped):
            raise MessageError(step=Step.KEY)
        key_bytes = suites.WRITTEN.key_bytes
        self._data_keys.unwrap(wrapped, key, dict(context), deadline, key_bytes=key_bytes, region=region)

    def forget(self) -> None:
        """Drop all data keys."""
        self._sealing.clear()
        self._opening.clear()

    def _expected_header(self, message: bytes, wanted: dict[str, str]) -> Header:
        """Return the header of `message`, after all that can be refused without asking KMS was refused."""
        header = parse_header(message, max_encrypted_data_keys=self._max_encrypted_data_keys)
        if header.suite.id not in self._accepted:
            raise MessageError(step=Step.SUITE)
        check_signature_key(header)
        if contexts.chosen(header.context) != wanted:
            raise MessageError(step=Step.CONTEXT)
        return header

    def _cached_sealing_key(self, purpose: str, context: dict[str, str], size: int) -> SealingKey:
        entry = (purpose, contexts.serialised(context), suites.WRITTEN.id)
        found = self._sealing.reserve(entry, size)
        self._tell(purpose, "encrypt", hit=found is not None)
        if found is not None:
            return found
        deadline = Deadline(self._clock, self._deadline_seconds)
        make = functools.partial(self._new_sealing_key, purpose, context, deadline, None)
        return self._sealing.reserve_or_fetch(entry, make, deadline, size=size)

    def _new_sealing_key(
        self, purpose: str, context: dict[str, str], deadline: Deadline, region: str | None
    ) -> SealingKey:
        key = self._keyring.get(purpose, deadline, region=region)
        return self._data_keys.make(key, context, deadline, region=region)

    def _first_opened(
        self,
        candidates: list[EncryptedDataKey],
        key: PurposeKey,
        header: Header,
        deadline: Deadline,
        region: str | None,
    ) -> bytes:
        """Return the data key that the first good one of `candidates` wraps; the last one's refusal is final."""
        for wrapped in candidates[:-1]:
            try:
                return self._opened(wrapped, key, header, deadline, region)
            except MessageError:
                continue
        return self._opened(candidates[-1], key, header, deadline, region)

    def _opened(
        self, wrapped: EncryptedDataKey, key: PurposeKey, header: Header, deadline: Deadline, region: str | None
    ) -> bytes:
        unwrap = functools.partial(
            self._data_keys.unwrap,
            wrapped,
            key,
            header.context,
            deadline,
            key_bytes=header.suite.key_bytes,
            region=region,
        )
        if region is not None:
            return unwrap()
        digest = hashlib.sha512(wrapped.provider_info + b"\0" + wrapped.ciphertext).digest()
        entry = (key.purpose, header.suite.id, digest, header.context_bytes)
        found = self._opening.reserve(entry)
        self._tell(key.purpose, "decrypt", hit=found is not None)
        return found if found is not None else self._opening.reserve_or_fetch(entry, unwrap, deadline)

    def _tell(self, purpose: str, operation: CoreOperation, *, hit: bool) -> None:
        if self._emit is not None:
            self._emit(CacheLookup(purpose=purpose, operation=operation, hit=hit))
