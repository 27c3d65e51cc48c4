"""Which alarm tells of what: every answer of every canary, every event of the core, every state of the watchdog itself.

What nobody need be told of says why. `kms-alarms check` is red for whatever is on neither list, so that a new kind of
canary, a new reason or a new event cannot go unheard.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kms_alarms.parts import NoneBecause
from kms_alarms.table import ALARMS
from kms_core import events
from kms_watchdog.results import Kind, Reason
from kms_watchdog.sinks.series import results_of

Told = str | NoneBecause
"""A row's name, or why nobody need be told."""

_BLIND: Told = "CanaryBlind"
_NEVER: Mapping[str, Told] = {Reason.MISMATCH: "PlaintextMismatch", Reason.ACCEPTED_MUST_REFUSE: "MustFailAccepted"}

OF_KIND: Mapping[Kind, Told] = {
    Kind.ROUND_TRIP: "HighErrorRate",
    Kind.CROSS_REGION: "CrossRegionFails",
    Kind.FAILOVER_PATH: "FailoverPathFails",
    Kind.GOLDEN: "GoldenFails",
    Kind.MUST_FAIL_CORE: "RefusalProvesNothing",
    Kind.MUST_FAIL_KMS: "RefusalProvesNothing",
    Kind.APPLICATION_ACCESS: "ApplicationAccess",
    Kind.COLD_CONNECTION: "ConnectionFails",
    Kind.CLOCK_OFFSET: "ClockOff",
    Kind.ALARM_PATH: "AlarmPathBroken",
    Kind.KEY_STATE: "RedBelowPaging",
    Kind.REPLICA_DRIFT: "RedBelowPaging",
    Kind.HEADROOM: "RedBelowPaging",
}
"""What a canary of that kind that goes on failing is told by, whatever its reason."""
OF_REASON: Mapping[tuple[Kind, str], Told] = {
    (Kind.COLD_CONNECTION, Reason.CERTIFICATE_EXPIRES): "CertificateExpiry",
    (Kind.KEY_STATE, Reason.KEY_UNUSABLE): "KeyUnusable",
    (Kind.KEY_STATE, Reason.PENDING_DELETION): "KeyPendingDeletion",
    (Kind.KEY_STATE, Reason.ALIAS_WRONG): "AliasWrong",
    (Kind.KEY_STATE, Reason.ROTATION_OFF): "RotationOff",
    (Kind.REPLICA_DRIFT, Reason.DRIFT): "ReplicaDrift",
}
"""Where one reason is told by an alarm of its own."""

OF_EVENT: Mapping[str, Told] = {
    "Attempt": "UnclassifiedErrors",
    "FailedOver": NoneBecause("it is what failover is for; the breaker and the canaries tell why"),
    "Hedged": NoneBecause("it is what hedging is for; HighLatency tells of a slow region"),
    "BreakerMoved": "CircuitBreakerOpen",
    "CacheLookup": NoneBecause("a miss costs one call"),
    "CacheRefreshed": NoneBecause("a refresh that failed is tried again while the key serves; then attempts fail"),
    "StaleKeyUsed": "StaleDataKeysUsed",
    "KeyQuarantined": "KeyQuarantined",
    "OverridesChanged": "RegionEvacuated",
    "OverridesUnreadable": "OverridesUnreadable",
    "AccountNotVerified": NoneBecause(
        "the core goes on, and asks again at the next start; attempts tell if it is wrong"
    ),
}
"""By the event's class in `kms_core.events`."""

OF_STATE: Mapping[str, Told] = {
    "a canary is blind": _BLIND,
    "a canary never ran, or is stale": "CanaryStale",
    "a canary was never well": "NoRecentSuccess",
    "something is red, and pages nobody": "RedBelowPaging",
    "the scheduler stands still": "SchedulerStalled",
    "a job is missed or overdue": "JobsFail",
    "CloudWatch cannot be reached": "PublishFailing",
    "metrics are dropped": "DatumsDropped",
    "the daemon is dead, for Prometheus": "WatchdogDown",
    "the daemon is dead, for CloudWatch": "HeartbeatMissing",
    "the daemon is dead, and both systems too": "WatchdogHeartbeat",
    "the alarm path itself is dead": "Watchdog",
    "an alarm is missing or reaches nobody": "AlarmPathBroken",
    "an alarm was never seen to fire": "AlarmUnproven",
    "a drill is overdue": "DrillOverdue",
    "a regular task is overdue": "TaskOverdue",
    "a drill broke": "DrillFailed",
    "a drill could not tell": "DrillInconclusive",
    "a fault was left behind": "FaultLeaked",
    "a fault cannot be undone": "HealFails",
    "the configuration was not taken": "ReloadFailed",
    "the state folder cannot be written": "StateWriteFailing",
    "the clock jumped": "ClockStepped",
    "the dead man's switch is not reached": "DeadmanFailing",
}
"""States of DESIGN §6: silence is never health."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """One thing that can happen, and who tells of it."""

    what: str
    told: Told | None
    """None: nobody, and nothing says why."""

    @property
    def wrong(self) -> str:
        """What is wrong with it; empty: nothing."""
        if self.told is None:
            return f"{self.what}: no alarm, and no reason why not"
        if isinstance(self.told, str) and self.told not in {row.name for row in ALARMS}:
            return f"{self.what}: there is no alarm {self.told}"
        return ""


def covered() -> Iterator[Covered]:
    """Return everything that can happen, and what tells of it."""
    for kind in Kind:
        for reason in results_of(kind):
            if reason != "success":
                told = _BLIND if reason == "blind" else _NEVER.get(reason) or OF_REASON.get((kind, reason))
                yield Covered(what=f"{kind} {reason}", told=told or OF_KIND.get(kind))
    for event in typing.get_args(events.Event):
        yield Covered(what=f"event {event.__name__}", told=OF_EVENT.get(event.__name__))
    for state, told in OF_STATE.items():
        yield Covered(what=state, told=told)
