"""`Core`: what an application, a canary and a drill call."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

from kms_core._breakers import Breakers
from kms_core._bulkhead import Bulkhead, Lane
from kms_core._data_keys import DataKeys
from kms_core._deadline import Deadline
from kms_core._envelope import Envelope
from kms_core._failover import Failover, Settings
from kms_core._keyring import KeyRing
from kms_core._kms_boto3 import connector
from kms_core._observe import emitter
from kms_core._quarantine import Quarantine
from kms_core._regions import Regions
from kms_core.breaker import BreakerPolicy
from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig
from kms_core.errors import ClosedError, ConfigurationError
from kms_core.events import BreakerState, Observer
from kms_core.kms import Kms
from kms_core.message import EncryptedDataKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionHealth:
    """One region as this process sees it."""

    region: str
    breaker: BreakerState
    since_seconds: float
    """How long the breaker has been in this state."""
    joined: bool
    """Whether the region has answered this process yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreHealth:
    """All regions, in the order in which they are tried, and the key ids that are known."""

    regions: Mapping[str, RegionHealth]
    keys: Mapping[str, str | None]
    """Purpose to key id; None while its alias could not be resolved."""


class Core:
    """Envelope encryption under multi-Region KMS keys, in the AWS Encryption SDK message format.

    Safe to use from any thread. Close it, or use it as a context manager: it holds threads and connections.

    Args:
        config: which keys in which regions, and how patiently.
        observer: told about attempts, failovers, breakers and the cache (`kms_core.events`).
        on_client: called once with each region and its boto3 client, before the client is used.
        clock: the machine's own when None.
        rng: chooses jitter only; never key material.
        connect: makes a region's `Kms`; boto3 when None. For tests: `kms_core.testing.FakeEstate.connect`.
        lane: makes what runs a region's attempts; threads when None. For tests: `kms_core.testing.InlineLane`.

    Raises:
        ConfigurationError: an alias exists in no region, or is another account's, or a file is missing. Regions that
            cannot be reached are no such error: they join later.
    """

    def __init__(
        self,
        config: CoreConfig,
        observer: Observer | None = None,
        on_client: Callable[[str, Any], None] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        *,
        connect: Callable[[str], Kms] | None = None,
        lane: Callable[[str], Lane] | None = None,
    ) -> None:
        clock = clock or SystemClock()
        rng = rng or random.SystemRandom()
        emit = emitter(observer)
        self._config = config
        self._closing = threading.Event()
        self._breakers = Breakers(config.region_order, _breaker_policy(config), clock=clock, rng=rng, emit=emit)
        self._regions = Regions(
            _connected(config, connect or connector(config, on_client)),
            {region: (lane or functools.partial(Bulkhead, clock=clock))(region) for region in config.regions},
            self._breakers,
            slow_seconds=config.slow_call_seconds,
            clock=clock,
            emit=emit,
        )
        failover = Failover(
            self._regions,
            self._breakers,
            Quarantine(clock=clock, emit=emit),
            Settings(attempt_seconds=config.attempt_timeout_seconds, max_attempts=config.max_retries + 1),
            clock=clock,
            rng=rng,
            emit=emit,
            closing=self._closing,
        )
        self._keyring = KeyRing(config, failover, clock=clock)
        self._envelope = Envelope(
            config, self._keyring, DataKeys(failover, frame_length=config.frame_length), clock=clock, emit=emit
        )
        self._start(clock)

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Return the message that holds `plaintext`, sealed under the key of `purpose` and bound to `context`.

        `context` is not secret: it stands in the message and in CloudTrail. The same one must be given to open.

        Raises:
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had.
        """
        self._refuse_if_closed()
        return self._envelope.seal(_bytes(plaintext), purpose=purpose, context=context)

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Return the plaintext of `message`, when it is of `purpose` and was sealed under exactly `context`.

        Nothing is returned before everything verified.

        Raises:
            MessageError: it is not, or it is no message, or somebody changed it.
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: no region could open its data key.
        """
        self._refuse_if_closed()
        return self._envelope.open(_bytes(message), purpose=purpose, context=context)

    def pinned(self, region: str) -> PinnedCore:
        """Return this core confined to `region`.

        Raises:
            ConfigurationError: no such region is configured.
        """
        if region not in self._config.regions:
            raise ConfigurationError(f"region {region!r} is not configured; {', '.join(self._config.regions)} are")
        return PinnedCore(self._envelope, region, self._refuse_if_closed)

    def health(self) -> CoreHealth:
        """Return what this process knows of its regions and keys; asks nobody."""
        regions = {
            region: RegionHealth(
                region=region,
                breaker=seen.state,
                since_seconds=seen.since_seconds,
                joined=self._regions.joined(region),
            )
            for region, seen in self._breakers.view().items()
        }
        return CoreHealth(regions=MappingProxyType(regions), keys=MappingProxyType(self._keyring.ids()))

    def close(self) -> None:
        """End every thread and connection, and forget every data key. Calls that are under way raise `ClosedError`."""
        self._closing.set()
        self._regions.close()
        self._envelope.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, clock: Clock) -> None:
        deadline = Deadline(clock, self._config.deadline_seconds)
        try:
            self._keyring.resolve_at_start(
                self._regions, self._breakers, self._config.attempt_timeout_seconds, deadline
            )
        except BaseException:
            self.close()
            raise

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise ClosedError("the core is closed")


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
        return self._envelope.seal(_bytes(plaintext), purpose=purpose, context=context, region=self.region)

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Do as `Core.decrypt`, with a data key that this region opens now."""
        self._refuse_if_closed()
        return self._envelope.open(_bytes(message), purpose=purpose, context=context, region=self.region)

    def unwrap(self, wrapped: EncryptedDataKey, context: Mapping[str, str], *, purpose: str) -> None:
        """Ask KMS in this region to unwrap `wrapped` under exactly `context`, which nobody compares before.

        Returns nothing, never the key: what counts is whether KMS itself refuses.

        Raises:
            MessageError: another purpose's key wrapped it (`error_code` is empty), or KMS refused (it is KMS's).
            KmsUnavailableError, KmsDeniedError: the region could not say.
        """
        self._refuse_if_closed()
        self._envelope.unwrap(wrapped, context, purpose=purpose, region=self.region)


def _breaker_policy(config: CoreConfig) -> BreakerPolicy:
    return BreakerPolicy(
        trip_after_failures=config.circuit_breaker_threshold,
        open_seconds=config.breaker_open_seconds,
        max_open_seconds=max(60.0, config.breaker_open_seconds),
        probe_seconds=2 * config.attempt_timeout_seconds,
    )


def _connected(config: CoreConfig, connect: Callable[[str], Kms]) -> dict[str, Kms]:
    """Return a `Kms` for each region; when one cannot be made, those that were are closed."""
    made: dict[str, Kms] = {}
    try:
        for region in config.regions:
            made[region] = connect(region)
    except BaseException:
        for kms in made.values():
            kms.close()
        raise
    return made


def _bytes(value: bytes | bytearray | memoryview) -> bytes:
    """Return `value` as bytes of our own, which nobody can change under us."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"bytes are expected, not {type(value).__name__}")
