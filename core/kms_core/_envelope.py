"""Sealing and opening messages: context and key first, then the data key from cache or KMS, then the cipher."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping

from kms_core import context as contexts
from kms_core import suites
from kms_core._cache import ENTRIES, DataKeyCache, Limits
from kms_core._data_keys import DataKeys
from kms_core._deadline import Deadline
from kms_core._keyring import KeyRing, PurposeKey
from kms_core._observe import Emit
from kms_core._open import check_signature_key, open_message, open_written
from kms_core._recognised import OpeningEntry, Recognised
from kms_core._seal import SealingKey, seal
from kms_core._supply import Supply
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import MessageError, Step
from kms_core.events import CacheLookup, CoreOperation
from kms_core.message import EncryptedDataKey, Header, parse_header


class Envelope:
    """Messages of all purposes. With a `region`, that one alone is asked, and no cache. Safe from any thread."""

    def __init__(
        self,
        config: CoreConfig,
        keyring: KeyRing,
        data_keys: DataKeys,
        supply: Supply,
        *,
        clock: Clock,
        emit: Emit | None,
    ) -> None:
        self._keyring = keyring
        self._data_keys = data_keys
        self._supply = supply
        self._clock = clock
        self._emit = emit
        self._deadline_seconds = config.deadline_seconds
        self._max_attempts = config.max_retries + 1
        self._max_encrypted_data_keys = config.max_encrypted_data_keys
        self._accepted = suites.COMMITTED | (suites.DERIVED if config.accept_legacy_suites else frozenset())
        ttl_seconds = config.data_key_ttl_seconds
        stale_seconds = config.stale_max_age_seconds if config.stale_if_unavailable else 0.0
        opening = Limits(ttl_seconds=ttl_seconds, stale_seconds=stale_seconds)
        sealing = dataclasses.replace(opening, max_uses=config.max_encryptions_per_key)
        self._sealing: DataKeyCache[tuple[str, bytes, int], SealingKey] = DataKeyCache(
            sealing, clock, refresh=lambda entry: supply.refresh(self._sealing, entry, "encrypt")
        )
        self._canonical = contexts.Canonical(ENTRIES)
        self._recognised = Recognised()
        self._opening: DataKeyCache[OpeningEntry, bytes] = DataKeyCache(
            opening, clock, refresh=lambda entry: supply.refresh(self._opening, entry, "decrypt")
        )
        supply.serve(self._sealing, self._opening)

    def seal(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str], region: str | None = None) -> bytes:
        """Return the message that holds `plaintext`.

        Raises:
            ContextError, ConfigurationError: the caller's own arguments are wrong.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had.
        """
        key = self.sealing_key(purpose, context, len(plaintext), region=region)
        return seal(plaintext, key, message_id=os.urandom(suites.WRITTEN.message_id_bytes))

    def open(self, message: bytes, *, purpose: str, context: Mapping[str, str], region: str | None = None) -> bytes:
        """Return the plaintext of `message`, when it is of `purpose` and was sealed under exactly `context`.

        Raises:
            MessageError: it is not, or it is no message, or somebody changed it.
            ContextError, ConfigurationError: the caller's own arguments are wrong.
            KmsUnavailableError, KmsDeniedError: no region could open its data key.
        """
        if region is None and (plaintext := self.open_from_cache(message, purpose, context)) is not None:
            return plaintext
        wanted = contexts.checked(context)
        header = self.expected_header(message, wanted)
        data_key = self.data_key(header, purpose, region=region)
        plaintext = open_message(message, header, data_key)
        if region is None:
            self._recognised.remember(header, _entry(purpose, header, header.encrypted_data_keys[0]), wanted)
        return plaintext

    def seal_from_cache(self, plaintext: bytes, purpose: str, context: Mapping[str, str]) -> bytes | None:
        """Do as `seal` where that needs no request and so no wait; None where it does.

        Raises:
            ContextError: the context cannot be used.
        """
        key = self._cached_sealing_key((purpose, self._canonical.checked(context), suites.WRITTEN.id), len(plaintext))
        return None if key is None else seal(plaintext, key, message_id=os.urandom(suites.WRITTEN.message_id_bytes))

    def open_from_cache(self, message: bytes, purpose: str, context: Mapping[str, str]) -> bytes | None:
        """Do as `open` where the like was opened before, so that it needs no request and no wait; None where not.

        Raises:
            MessageError: somebody changed it.
        """
        known = self._recognised.find(message, purpose, context)
        if known is None or (data_key := self._opening.reserve(known.entry)) is None:
            return None
        self._tell(purpose, "decrypt", hit=True)
        return open_written(message, known.body_bytes, known.frame_length, data_key)

    def data_key(self, header: Header, purpose: str, *, region: str | None = None) -> bytes:
        """Return the data key of a message of `purpose`, whose context was compared already.

        Raises:
            MessageError: no wrapped key is of `purpose`, or KMS refused.
            ConfigurationError: no such purpose is configured.
            KmsUnavailableError, KmsDeniedError: no region could open it.
        """
        deadline = Deadline(self._clock, self._deadline_seconds, attempts=self._max_attempts)
        key = self._keyring.get(purpose, deadline, region=region)
        candidates = [wrapped for wrapped in header.encrypted_data_keys if key.wraps(wrapped)]
        if not candidates:
            raise MessageError(step=Step.KEY)
        return self._first_opened(candidates, key, header, deadline, region)

    def unwrap(
        self,
        wrapped: EncryptedDataKey,
        context: Mapping[str, str],
        *,
        purpose: str,
        region: str,
        key_of: str | None = None,
    ) -> None:
        """Ask KMS in `region` to unwrap `wrapped` under exactly `context`, and forget the answer.

        The key that KMS is asked for is that of `purpose`; that of the purpose `key_of`, when given.

        Raises:
            ContextError: `context` cannot be written.
            MessageError: another purpose's key wrapped it, or KMS refused.
            KmsUnavailableError, KmsDeniedError: the region could not say.
        """
        if not isinstance(wrapped, EncryptedDataKey):
            raise TypeError(f"an EncryptedDataKey is expected, not {type(wrapped).__name__}")
        contexts.serialised(context)  # refuses what nobody could ask with
        deadline = Deadline(self._clock, self._deadline_seconds)
        key = self._keyring.get(purpose, deadline, region=region)
        if not key.wraps(wrapped):
            raise MessageError(step=Step.KEY)
        if key_of is not None:
            key = self._keyring.get(key_of, deadline, region=region)
        key_bytes = suites.WRITTEN.key_bytes
        self._data_keys.unwrap(
            wrapped, key, dict(context), deadline, key_bytes=key_bytes, region=region, refusal_wanted=True
        )

    def warm(self, *, purpose: str, context: Mapping[str, str]) -> None:
        """Have a data key for `purpose` and `context` in the cache; counts as one use of it.

        Raises:
            As `seal`.
        """
        self.sealing_key(purpose, context, 0)

    def forget(self) -> None:
        """Drop all data keys, and fetch none ahead any more."""
        self._supply.close()
        self._sealing.close()
        self._opening.close()
        self._recognised.clear()

    def expected_header(self, message: bytes, wanted: Mapping[str, str]) -> Header:
        """Return the header of `message`, after all that can be refused without asking KMS was refused.

        Raises:
            MessageError: something was.
        """
        header = parse_header(message, max_encrypted_data_keys=self._max_encrypted_data_keys)
        if header.suite.id not in self._accepted:
            raise MessageError(step=Step.SUITE)
        check_signature_key(header)
        if contexts.chosen(header.context) != wanted:
            raise MessageError(step=Step.CONTEXT)
        return header

    def sealing_key(
        self, purpose: str, context: Mapping[str, str], size: int, *, region: str | None = None
    ) -> SealingKey:
        """Return a data key with one use for `size` bytes reserved; a new one of its own from `region`, when given.

        Raises:
            As `seal`.
        """
        if region is not None:
            deadline = Deadline(self._clock, self._deadline_seconds)
            return self._new_sealing_key(purpose, contexts.checked(context), deadline, region)
        entry = (purpose, self._canonical.checked(context), suites.WRITTEN.id)
        if (found := self._cached_sealing_key(entry, size)) is not None:
            return found
        self._tell(purpose, "encrypt", hit=False)
        make = functools.partial(self._new_sealing_key, purpose, contexts.checked(context), region=None)
        deadline = Deadline(self._clock, self._deadline_seconds)
        return self._supply.fetch(self._sealing, entry, make, deadline, operation="encrypt", size=size)

    def fresh_sealing_key(self, purpose: str, context: Mapping[str, str]) -> SealingKey:
        """Return a data key that nobody else uses, from whichever region makes it.

        Raises:
            As `seal`.
        """
        wanted = contexts.checked(context)
        return self._new_sealing_key(purpose, wanted, Deadline(self._clock, self._deadline_seconds), None)

    def _cached_sealing_key(self, entry: tuple[str, bytes, int], size: int) -> SealingKey | None:
        if (found := self._sealing.reserve(entry, size)) is not None:
            self._tell(entry[0], "encrypt", hit=True)
        return found

    def _new_sealing_key(
        self, purpose: str, context: dict[str, str], deadline: Deadline, region: str | None
    ) -> SealingKey:
        key = self._keyring.get(purpose, deadline, region=region)
        if region is not None:
            return self._data_keys.make(key, context, deadline, region=region)
        entry = (purpose, contexts.serialised(context), suites.WRITTEN.id)
        return self._data_keys.make(key, context, deadline, surplus=functools.partial(self._sealing.offer, entry))

    def _first_opened(
        self,
        candidates: list[EncryptedDataKey],
        key: PurposeKey,
        header: Header,
        deadline: Deadline,
        region: str | None,
    ) -> bytes:
        """Return the data key that the first good one of `candidates` wraps; the last one's refusal is final.

        They share one deadline and the requests of one call.
        """
        for wrapped in candidates[:-1]:
            try:
                return self._opened(wrapped, key, header, deadline, region)
            except MessageError:
                if deadline.attempts == 0:
                    raise
        return self._opened(candidates[-1], key, header, deadline, region)

    def _opened(
        self, wrapped: EncryptedDataKey, key: PurposeKey, header: Header, deadline: Deadline, region: str | None
    ) -> bytes:
        unwrap = functools.partial(
            self._unwrapped, wrapped, key, header.context, key_bytes=header.suite.key_bytes, region=region
        )
        if region is not None:
            return unwrap(deadline)
        entry = _entry(key.purpose, header, wrapped)
        found = self._opening.reserve(entry)
        self._tell(key.purpose, "decrypt", hit=found is not None)
        if found is not None:
            return found
        return self._supply.fetch(self._opening, entry, unwrap, deadline, operation="decrypt")

    def _unwrapped(
        self,
        wrapped: EncryptedDataKey,
        key: PurposeKey,
        context: Mapping[str, str],
        deadline: Deadline,
        *,
        key_bytes: int,
        region: str | None,
    ) -> bytes:
        return self._data_keys.unwrap(wrapped, key, context, deadline, key_bytes=key_bytes, region=region)

    def _tell(self, purpose: str, operation: CoreOperation, *, hit: bool) -> None:
        if self._emit is not None:
            self._emit(_lookup(purpose, operation, hit))


@functools.lru_cache(maxsize=256)
def _lookup(purpose: str, operation: CoreOperation, hit: bool) -> CacheLookup:  # noqa: FBT001 - for the cache of values
    return CacheLookup(purpose=purpose, operation=operation, hit=hit)


def _entry(purpose: str, header: Header, wrapped: EncryptedDataKey) -> OpeningEntry:
    digest = hashlib.sha512(wrapped.provider_info + b"\0" + wrapped.ciphertext).digest()
    return (purpose, header.suite.id, digest, header.context_bytes)
