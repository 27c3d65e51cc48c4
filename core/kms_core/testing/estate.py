"""KMS in memory: regions, multi-Region keys, aliases and key states, with faults on demand. No network, no threads.

It is a real little implementation of the port: wrapped keys are sealed with AES-GCM under the key's own material and
bound to the context, so what KMS would refuse is refused here, with the same code.
"""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core import taxonomy
from kms_core.arn import KeyArn, parse_key_arn
from kms_core.context import serialised
from kms_core.kms import DECRYPT, DESCRIBE_KEY, GENERATE_DATA_KEY, DescribedKey, GeneratedKey, KmsFailure, UnwrappedKey
from kms_core.testing.clock import ManualClock

_IV_BYTES = 12
_MAX_BLOB_BYTES = 6144
_STATE_CODES = {
    "Disabled": "DisabledException",
    "PendingDeletion": "KMSInvalidStateException",
    "Creating": "KMSInvalidStateException",
    "Updating": "KMSInvalidStateException",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that reached a fake region, or tried to."""

    region: str
    operation: str
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Key:
    material: bytes = field(repr=False)
    states: dict[str, str]
    """Region to key state; regions that are not named do not have the key."""


class FakeKms:
    """One region's KMS. Its attributes are switches: set them, and the next request feels it."""

    def __init__(self, region: str, estate: FakeEstate) -> None:
        self._region = region
        self._estate = estate
        self.latency_seconds = 0.0
        """Added to every request; the clock moves by it."""
        self.fault: str | None = None
        """Code with which every request fails, e.g. `ConnectionRefused`, `ConnectTimeout`, `ThrottlingException`."""
        self.script: collections.deque[str | KmsFailure | None] = collections.deque()
        """Failures of the next requests, one each, before `fault` is looked at; None lets one through."""
        self.during: Callable[[Call], object] | None = None
        """Called while a request is out, in its thread: may wait, to hold a request up."""
        self.closed = False
        self.aliases: dict[str, str] = {}
        """Alias to key id: aliases are per region."""

    @property
    def region(self) -> str:
        """The region that answers."""
        return self._region

    def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> GeneratedKey:
        """Make a data key of 32 bytes, bound to `context`."""
        request_id = self._request(GENERATE_DATA_KEY, context)
        arn, key = self._usable_key(key_arn, request_id)
        plaintext, iv = os.urandom(32), os.urandom(_IV_BYTES)
        sealed = AESGCM(key.material).encrypt(iv, plaintext, serialised(context))
        wrapped = arn.key_id.encode() + b"\0" + iv + sealed
        return GeneratedKey(plaintext=plaintext, wrapped=wrapped, key_arn=str(arn), request_id=request_id)

    def decrypt(self, wrapped: bytes, key_arn: str, context: Mapping[str, str]) -> UnwrappedKey:
        """Open a wrapped data key."""
        request_id = self._request(DECRYPT, context)
        arn, key = self._usable_key(key_arn, request_id)
        wrapped_by, _, sealed = wrapped.partition(b"\0")
        if not 0 < len(wrapped) <= _MAX_BLOB_BYTES:
            raise KmsFailure("ValidationException", status=400, request_id=request_id)
        if wrapped_by.decode("latin-1") in self._estate.keys and wrapped_by != arn.key_id.encode():
            raise KmsFailure("IncorrectKeyException", status=400, request_id=request_id)
        try:
            plaintext = AESGCM(key.material).decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], serialised(context))
        except (InvalidTag, ValueError) as e:
            raise KmsFailure("InvalidCiphertextException", status=400, request_id=request_id) from e
        return UnwrappedKey(plaintext=plaintext, key_arn=str(arn), request_id=request_id)

    def describe_key(self, alias: str) -> DescribedKey:
        """Say which key `alias` points to."""
        request_id = self._request(DESCRIBE_KEY, {})
        key_id = self.aliases.get(alias)
        if key_id is None or self._region not in self._estate.keys[key_id].states:
            raise KmsFailure("NotFoundException", status=400, request_id=request_id)
        return DescribedKey(key_arn=self._estate.arn(key_id, self._region), request_id=request_id)

    def close(self) -> None:
        """Close the connections, of which there are none."""
        self.closed = True

    def _request(self, operation: str, context: Mapping[str, str]) -> str:
        """Let the fault switches have their say; return the request's id."""
        call = Call(region=self._region, operation=operation, context=dict(context))
        request_id = self._estate.note(call)
        if self.during is not None:
            self.during(call)
        scripted = self.script.popleft() if self.script else self.fault
        if isinstance(scripted, KmsFailure):
            raise scripted
        if scripted is not None:
            self._estate.spend(scripted)
            answered = taxonomy.classify(KmsFailure(scripted)).answered
            raise KmsFailure(scripted, status=400 if answered else 0, request_id=request_id if answered else "")
        self._estate.clock.advance(self.latency_seconds)
        return request_id

    def _usable_key(self, key_arn: str, request_id: str) -> tuple[KeyArn, _Key]:
        arn = parse_key_arn(key_arn)
        key = self._estate.keys.get(arn.key_id) if arn is not None else None
        if arn is None or key is None or arn.region != self._region or self._region not in key.states:
            raise KmsFailure("NotFoundException", status=400, request_id=request_id)
        if (code := _STATE_CODES.get(key.states[self._region])) is not None:
            raise KmsFailure(code, status=400, request_id=request_id)
        return arn, key


class FakeEstate:
    """An account with KMS in several regions.

    Args:
        regions: their names.
        clock: moved by latency and by faults that take time; requests take none otherwise.
        connect_timeout_seconds, read_timeout_seconds: what a request that times out costs.
    """

    def __init__(
        self,
        regions: Iterable[str] = ("us-east-1", "us-west-2", "eu-west-1"),
        *,
        clock: ManualClock | None = None,
        account_id: str = "123456789012",
        connect_timeout_seconds: float = 1.0,
        read_timeout_seconds: float = 2.0,
    ) -> None:
        self.clock = clock or ManualClock(auto_advance=True)
        self.account_id = account_id
        self.kms = {region: FakeKms(region, self) for region in regions}
        self.keys: dict[str, _Key] = {}
        self.calls: list[Call] = []
        self._ids: Iterator[int] = itertools.count(1)
        self._costs = {
            taxonomy.CONNECT_TIMEOUT: connect_timeout_seconds,
            taxonomy.READ_TIMEOUT: read_timeout_seconds,
        }

    def __getitem__(self, region: str) -> FakeKms:
        return self.kms[region]

    def connect(self, region: str) -> FakeKms:
        """Return the region's KMS: what `Core(connect=…)` takes."""
        return self.kms[region]

    def create_key(self, alias: str, *, regions: Iterable[str] | None = None, multi_region: bool = True) -> str:
        """Make a key in `regions` (all when None), with `alias` in each, and return its id."""
        number = len(self.keys) + 1
        key_id = f"mrk-{number:032x}" if multi_region else f"{number:08x}-0000-4000-8000-{number:012x}"
        there = tuple(self.kms if regions is None else regions)
        self.keys[key_id] = _Key(material=os.urandom(32), states=dict.fromkeys(there, "Enabled"))
        for region in there:
            self.kms[region].aliases[alias] = key_id
        return key_id

    def replicate_key(self, key_id: str, region: str, *, state: str = "Creating") -> None:
        """Begin a replica of the key in `region`; `set_key_state` ends its creation. It has no alias there yet.

        Raises:
            ValueError: a single-region key cannot be replicated.
        """
        if not key_id.startswith("mrk-"):
            raise ValueError(f"{key_id} is a single-region key")
        self.keys[key_id].states[region] = state

    def set_key_state(self, key_id: str, state: str, *, regions: Iterable[str] | None = None) -> None:
        """Put the key into `state` (`Enabled`, `Disabled`, `PendingDeletion`, …) in `regions`, all when None."""
        for region in tuple(self.keys[key_id].states) if regions is None else regions:
            self.keys[key_id].states[region] = state

    def arn(self, key_id: str, region: str) -> str:
        """Return the key's ARN in `region`."""
        return f"arn:aws:kms:{region}:{self.account_id}:key/{key_id}"

    def fail(self, code: str | None, *, regions: Iterable[str] | None = None) -> None:
        """Make every request in `regions`, all when None, fail with `code`; None heals them."""
        for region in self.kms if regions is None else regions:
            self.kms[region].fault = code

    def asked(self, operation: str | None = None) -> list[str]:
        """Return the regions that were asked, in order; for `operation` only, when given."""
        return [call.region for call in self.calls if operation in {None, call.operation}]

    def note(self, call: Call) -> str:
        """Write down `call` and return its request id."""
        self.calls.append(call)
        return f"00000000-0000-4000-8000-{next(self._ids):012x}"

    def spend(self, code: str) -> None:
        """Let the time pass that a failure with `code` takes."""
        self.clock.advance(self._costs.get(code, 0.0))
