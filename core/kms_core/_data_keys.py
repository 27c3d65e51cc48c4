"""Data keys from KMS: made for sealing, unwrapped for opening, and believed only after their fields are checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from kms_core._deadline import Deadline
from kms_core._failover import Failover
from kms_core._keyring import PurposeKey
from kms_core._regions import A, Request
from kms_core._seal import SealingKey, sealing_key
from kms_core.errors import ConfigurationError
from kms_core.kms import (
    DECRYPT,
    GENERATE_DATA_KEY,
    MAX_WRAPPED_BYTES,
    OK,
    GeneratedKey,
    KeyMaterial,
    Kms,
    KmsFailure,
    UnwrappedKey,
)
from kms_core.message import KMS_PROVIDER, EncryptedDataKey
from kms_core.suites import WRITTEN
from kms_core.taxonomy import WRONG_ANSWER, WRONG_LENGTH


class DataKeys:
    """Asks KMS for data keys; keeps none. Safe to call from any thread."""

    def __init__(self, failover: Failover, *, frame_length: int, named_region: str | None = None) -> None:
        self._failover = failover
        self._frame_length = frame_length
        self._named_region = named_region
        """Whose ARN messages name; None: that of the region that answered."""

    def make(
        self,
        key: PurposeKey,
        context: Mapping[str, str],
        deadline: Deadline,
        *,
        region: str | None = None,
        surplus: Callable[[SealingKey], object] | None = None,
    ) -> SealingKey:
        """Return a new data key under `key`, bound to `context`; from `region` alone when given.

        `surplus` takes another one, should two regions have made one each.

        Raises:
            KmsUnavailableError, KmsDeniedError: no region made one.
        """
        ask = functools.partial(_generate, key=key, context=context)

        def late(made: GeneratedKey) -> None:
            if surplus is not None:
                surplus(self._sealing_key(made, key, context))

        request = Request(operation=GENERATE_DATA_KEY, purpose=key.purpose, ask=ask, surplus=late)
        return self._sealing_key(self._call(request, key, deadline, region), key, context)

    def _sealing_key(self, made: GeneratedKey, key: PurposeKey, context: Mapping[str, str]) -> SealingKey:
        named = key.arns.get(self._named_region or "", made.key_arn)
        wrapped = EncryptedDataKey(provider_id=KMS_PROVIDER, provider_info=named.encode(), ciphertext=made.wrapped)
        return sealing_key(KeyMaterial(made.plaintext), (wrapped,), context, self._frame_length)

    def unwrap(
        self,
        wrapped: EncryptedDataKey,
        key: PurposeKey,
        context: Mapping[str, str],
        deadline: Deadline,
        *,
        key_bytes: int,
        region: str | None = None,
        refusal_wanted: bool = False,
    ) -> bytes:
        """Return the data key that `key` wrapped under exactly `context`; from `region` alone when given.

        Raises:
            MessageError: KMS refused it, or it is a key of another length in every region.
            KmsUnavailableError, KmsDeniedError: no region could say.
        """
        ask = functools.partial(_decrypt, wrapped=wrapped.ciphertext, key=key, context=context, key_bytes=key_bytes)
        request = Request(operation=DECRYPT, purpose=key.purpose, ask=ask, refusal_wanted=refusal_wanted)
        return KeyMaterial(self._call(request, key, deadline, region).plaintext)

    def _call(self, request: Request[A], key: PurposeKey, deadline: Deadline, region: str | None) -> A:
        if region is None:
            return self._failover.call(request, key.order, deadline, strict=key.strict)
        if region not in key.arns:
            raise ConfigurationError(f"the key of {key.purpose} is a single-region key, and not in {region}")
        return self._failover.call(request, (region,), deadline, strict=key.strict, pinned=True)


def _generate(kms: Kms, *, key: PurposeKey, context: Mapping[str, str]) -> GeneratedKey:
    arn = key.arns[kms.region]
    made = kms.generate_data_key(arn, context)
    right = made.key_arn == arn and len(made.plaintext) == WRITTEN.key_bytes
    if not right or not 0 < len(made.wrapped) <= MAX_WRAPPED_BYTES:
        raise KmsFailure(WRONG_ANSWER, status=OK, request_id=made.request_id)
    return made


def _decrypt(kms: Kms, *, wrapped: bytes, key: PurposeKey, context: Mapping[str, str], key_bytes: int) -> UnwrappedKey:
    arn = key.arns[kms.region]
    opened = kms.decrypt(wrapped, arn, context)
    if opened.key_arn != arn:
        raise KmsFailure(WRONG_ANSWER, status=OK, request_id=opened.request_id)
    if len(opened.plaintext) != key_bytes:
        raise KmsFailure(WRONG_LENGTH, status=OK, request_id=opened.request_id)
    return opened
