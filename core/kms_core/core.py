"""`Core`: what an application, a canary and a drill call."""

from __future__ import annotations

import functools
import random
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from kms_core import _sts
from kms_core._breakers import Breakers
from kms_core._budget import Budgets
from kms_core._bulkhead import Bulkhead, Lane
from kms_core._data_keys import DataKeys
from kms_core._deadline import Deadline
from kms_core._envelope import Envelope
from kms_core._facade_bulk import Bulk
from kms_core._facade_lifecycle import Lifecycle
from kms_core._facade_operator import OperatorFacade
from kms_core._failover import Failover, Settings
from kms_core._health import CoreHealth, Sight
from kms_core._hedge import Hedging
from kms_core._keyring import KeyRing
from kms_core._observe import emitter
from kms_core._order import Order
from kms_core._pinned import PinnedCore, owned
from kms_core._quarantine import Quarantine
from kms_core._regions import Regions
from kms_core._supply import BACKGROUND_LANE, Supply
from kms_core._timing import Timings
from kms_core.breaker import BreakerPolicy
from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig
from kms_core.errors import ConfigurationError
from kms_core.events import Observer
from kms_core.kms import Kms
from kms_core.overrides import OverrideSource


class Core(Bulk, Lifecycle, OperatorFacade):
    """Envelope encryption under multi-Region KMS keys, in the AWS Encryption SDK message format.

    Safe to use from any thread. Close it, or use it as a context manager: it holds threads and connections.

    Args:
        config: which keys in which regions, and how patiently.
        observer: told about attempts, failovers, breakers and the cache (`kms_core.events`).
        on_client: called once with each region and each boto3 client of it, before the client is used: at the start,
            and in a thread of the core's when credentials had to be looked up anew.
        clock: the machine's own when None.
        rng: chooses jitter only; never key material.
        connect: makes a region's `Kms`; boto3 when None. For tests: `kms_core.testing.FakeEstate.connect`.
        lane: makes what runs a region's attempts; threads when None. For tests: `kms_core.testing.InlineLane`.
        overrides: where people write that a region be avoided or preferred (`kms_core.overrides`).
        override_interval_seconds: how often it is read, in a thread; None: by `read_overrides` alone.

    Raises:
        ConfigurationError: an alias exists in no region, or is another account's, or a file is missing. Regions that
            cannot be reached are no such error: they join later.
        KmsDeniedError: whoever gives boto3 its credentials does not, or not in time.
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
        overrides: OverrideSource | None = None,
        override_interval_seconds: float | None = 15.0,
    ) -> None:
        clock = clock or SystemClock()
        rng = rng or random.SystemRandom()
        self._emit = emit = emitter(observer)
        self._config = config
        self._clock = clock
        self._lane = lane or functools.partial(Bulkhead, clock=clock)
        self._closing = threading.Event()
        session = _sts.session(config, clock) if connect is None else None
        credentials_by = Deadline(clock, config.deadline_seconds)
        clients = self._clients(connect, on_client, session, credentials_by)
        timings = Timings(
            config.regions, slow_seconds=config.slow_call_seconds, attempt_seconds=config.attempt_timeout_seconds
        )
        order = Order(config.region_order, config.fixed_regions, timings.smoothed)
        budgets = Budgets(config.regions)
        self._watch_overrides(overrides, order, emit)
        self._breakers = Breakers(config.region_order, _breaker_policy(config), clock=clock, rng=rng, emit=emit)
        self._regions = Regions(
            clients,
            {region: self._lane(region) for region in config.regions},
            self._breakers,
            timings=timings,
            home=config.home_region,
            clock=clock,
            emit=emit,
        )
        background = self._lane(BACKGROUND_LANE)
        failover = Failover(
            self._regions,
            self._breakers,
            Quarantine(clock=clock, emit=emit),
            _failover_settings(config),
            order,
            budgets,
            Hedging(self._regions, self._breakers, timings, clock=clock, emit=emit) if config.hedging else None,
            background,
            clock=clock,
            rng=rng,
            emit=emit,
            closing=self._closing,
        )
        self._sight = Sight(
            home=config.home_region,
            regions=self._regions,
            breakers=self._breakers,
            timings=timings,
            budgets=budgets,
            order=order,
        )
        self._keyring = KeyRing(config, failover, clock=clock)
        self._supply = Supply(config, self._keyring, self._breakers, background, clock=clock, emit=emit)
        self._envelope = Envelope(
            config, self._keyring, _data_keys(config, failover), self._supply, clock=clock, emit=emit
        )
        self._forgotten = weakref.finalize(self, _let_go, self._closing, self._regions, background)
        self._forgotten.atexit = False
        self._start(session, Deadline(clock, max(credentials_by.left(), config.attempt_timeout_seconds)))
        self._start_watch(override_interval_seconds)

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Return the message that holds `plaintext`, sealed under the key of `purpose` and bound to `context`.

        `context` is not secret: it stands in the message and in CloudTrail. The same one must be given to open.

        Raises:
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had.
        """
        self._refuse_if_closed()
        return self._envelope.seal(owned(plaintext), purpose=purpose, context=context)

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Return the plaintext of `message`, when it is of `purpose` and was sealed under exactly `context`.

        Nothing is returned before everything verified.

        Raises:
            MessageError: it is not, or it is no message, or somebody changed it.
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: no region could open its data key.
        """
        self._refuse_if_closed()
        return self._envelope.open(owned(message), purpose=purpose, context=context)

    def encrypt_from_cache(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes | None:
        """Do as `encrypt` where a data key is at hand, so that nothing waits for KMS; None where there is none.

        Raises:
            ContextError: the context cannot be used.
        """
        self._refuse_if_closed()
        return self._envelope.seal_from_cache(owned(plaintext), purpose, context)

    def decrypt_from_cache(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes | None:
        """Do as `decrypt` where the like was opened before and its data key is at hand; None where that is not so.

        Raises:
            MessageError: somebody changed the message.
        """
        self._refuse_if_closed()
        return self._envelope.open_from_cache(owned(message), purpose, context)

    def pinned(self, region: str) -> PinnedCore:
        """Return this core confined to `region`.

        Raises:
            ConfigurationError: no such region is configured.
        """
        if region not in self._config.regions:
            raise ConfigurationError(f"region {region!r} is not configured; {', '.join(self._config.regions)} are")
        return PinnedCore(self._envelope, region, self._refuse_if_closed)

    def requests_made(self) -> AbstractContextManager[list[str]]:
        """Give a list that gets the KMS operation of each request that calls from this thread make meanwhile.

        For who must show that none was made, or how many, whatever other threads do at the same time. What is fetched
        in the background, and what another thread asks for while this one waits for it, is not in the list.
        """
        return self._regions.requests_made()

    def health(self) -> CoreHealth:
        """Return what this process knows of its regions and keys; asks nobody.

        Raises:
            ForkedError: this is a child process.
        """
        self._refuse_if_forked()
        return self._sight.health(
            self._keyring.ids(),
            self._supply.stale_uses(),
            cached_keys=self._supply.cached(),
            evicted_keys=self._supply.evicted(),
        )


def _let_go(closing: threading.Event, regions: Regions, background: Lane) -> None:
    """End the threads of a core that was forgotten and not closed."""
    closing.set()
    background.close()
    regions.close()


def _failover_settings(config: CoreConfig) -> Settings:
    return Settings(
        attempt_seconds=config.attempt_timeout_seconds,
        max_attempts=config.max_retries + 1,
        failover_on_access_denied=config.failover_on_access_denied,
    )


def _data_keys(config: CoreConfig, failover: Failover) -> DataKeys:
    named = config.primary_region if config.edk_arn == "primary" else None
    return DataKeys(failover, frame_length=config.frame_length, named_region=named)


def _breaker_policy(config: CoreConfig) -> BreakerPolicy:
    return BreakerPolicy(
        trip_after_failures=config.circuit_breaker_threshold,
        open_seconds=config.breaker_open_seconds,
        max_open_seconds=max(60.0, config.breaker_open_seconds),
        probe_seconds=2 * config.attempt_timeout_seconds,
    )
