"""How fast KMS is from here: round trips through the crypto core, pinned to each region, over old and new connections.

What is timed is the core's own attempt at KMS, as its metrics tell it. A new connection is had by closing the client's
idle ones just before; the time-outs while measuring are wide, so that they cut nothing off that is to be measured.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from kms_core import Core, CoreConfig
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_core.events import Attempt, Event
from kms_watchdog.canaries.round_trip import PLAINTEXT_BYTES
from kms_watchdog.config import CANARY_CONTEXT, Settings
from kms_watchdog.readiness.timeouts import CONNECTIONS, OPERATIONS, Connection, Figures

CONNECT_SECONDS, READ_SECONDS, ATTEMPT_SECONDS, DEADLINE_SECONDS = 5.0, 10.0, 15.0, 20.0
FAILURES_IN_A_ROW = 3
"""After so many a region is left alone: each may take as long as a deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    regions: tuple[str, ...]
    purpose: str
    warm: int
    """Round trips over a connection that stays open."""
    cold: int
    """Round trips whose two requests each open one."""

    @property
    def requests(self) -> int:
        """At most so many requests to KMS: one round trip to warm up, and in each region one to find the key."""
        return len(self.regions) * (2 * len(self.turns) + 1)

    @property
    def turns(self) -> tuple[Connection | None, ...]:
        """The round trips of one region, in order; the first is not measured."""
        warm: Connection = "warm"
        cold: Connection = "cold"
        return (None, *(warm,) * self.warm, *(cold,) * self.cold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it."""

    plan: Plan
    figures: tuple[Figures, ...]
    """Of the regions in which every request was answered; each region has all of them or none."""
    failures: Mapping[str, Mapping[str, int]]
    """By region, error codes and how often; regions without failures are not in it."""

    @property
    def complete(self) -> bool:
        """Whether every region gave all figures."""
        return not self.failures and len(self.figures) == len(self.plan.regions) * len(OPERATIONS) * len(CONNECTIONS)


@dataclass(slots=True)
class _Tape:
    """What one region's attempts took, by operation and connection. The region's thread alone moves `now`."""

    now: Connection | None = None
    """None: what happens is not to be measured."""
    seconds: dict[tuple[str, Connection], list[float]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Tapes:
    """The core's observer (`kms_core.events.Observer`)."""

    by_region: Mapping[str, _Tape]

    def on_event(self, event: Event) -> None:
        """Write down a pinned attempt."""
        if not isinstance(event, Attempt) or not event.pinned or event.operation not in OPERATIONS:
            return
        tape = self.by_region[event.region]
        if event.error_code:
            tape.failed[event.error_code] += 1
        elif tape.now is not None:
            tape.seconds.setdefault((event.operation, tape.now), []).append(event.seconds)


def patient(settings: Settings, purpose: str) -> CoreConfig:
    """Return the configuration to measure with: the one key, and wide time-outs.

    Raises:
        kms_core.errors.ConfigurationError: the core refuses the configuration.
    """
    config = settings.core_config()
    return replace(
        config,
        keys={purpose: config.keys[purpose]},
        connect_timeout_seconds=CONNECT_SECONDS,
        read_timeout_seconds=READ_SECONDS,
        attempt_timeout_seconds=ATTEMPT_SECONDS,
        deadline_seconds=DEADLINE_SECONDS,
    )


def measure(settings: Settings, plan: Plan, clock: Clock) -> Measured:
    """Ask KMS as `plan` says, regions at the same time, requests of one region one after the other.

    Raises:
        kms_core.errors.ConfigurationError, KmsDeniedError: the core cannot begin.
    """
    tapes = {region: _Tape() for region in plan.regions}
    clients: dict[str, Any] = {}
    with (
        Core(
            patient(settings, plan.purpose),
            _Tapes(tapes),
            on_client=lambda region, client: clients.update({region: client}),
            clock=clock,
            override_interval_seconds=None,
        ) as core,
        ThreadPoolExecutor(len(plan.regions)) as threads,
    ):
        list(threads.map(lambda region: _region(core, plan, region, tapes[region], clients), plan.regions))
    return measured(plan, {r: t.seconds for r, t in tapes.items()}, {r: t.failed for r, t in tapes.items()})


def measured(
    plan: Plan,
    seconds: Mapping[str, Mapping[tuple[str, Connection], list[float]]],
    failed: Mapping[str, Mapping[str, int]],
) -> Measured:
    """Return the figures of the regions that answered everything. Pure."""
    wanted = {(operation, kind): getattr(plan, kind) for operation in OPERATIONS for kind in CONNECTIONS}
    whole = [
        region
        for region in plan.regions
        if not failed.get(region) and all(len(seconds[region].get(what, ())) == count for what, count in wanted.items())
    ]
    return Measured(
        plan=plan,
        figures=tuple(
            Figures.of(region, operation, kind, seconds[region][operation, kind])
            for region in whole
            for operation, kind in wanted
        ),
        failures={
            region: dict(failed.get(region) or {"Unanswered": 1}) for region in plan.regions if region not in whole
        },
    )


def _region(core: Core, plan: Plan, region: str, tape: _Tape, clients: Mapping[str, Any]) -> None:
    door = core.pinned(region)
    context = {**CANARY_CONTEXT, "purpose": plan.purpose, "region": region}
    in_a_row = 0

    def ready() -> None:
        if tape.now == "cold" and region in clients:
            clients[region].close()  # the idle connections; the next request opens one

    for turn in plan.turns:
        tape.now = turn
        try:
            ready()
            message = door.encrypt(os.urandom(PLAINTEXT_BYTES), purpose=plan.purpose, context=context)
            ready()
            door.decrypt(message, purpose=plan.purpose, context=context)
        except KmsCoreError as e:
            if not tape.failed:  # nothing was sent at all
                tape.failed[e.error_code or type(e).__name__] += 1
            in_a_row += 1
            if in_a_row == FAILURES_IN_A_ROW:
                return
        else:
            in_a_row = 0
