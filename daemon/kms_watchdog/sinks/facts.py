"""Which of a canary's facts becomes which gauge: one table. Pure.

A look that was BLIND saw nothing: what was known before it stands, and the time of the last check tells its age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kms_watchdog import metrics
from kms_watchdog.health import Subject
from kms_watchdog.metrics import Metric
from kms_watchdog.results import CanaryResult, Fact, Kind, Mode, Outcome

DRIFT_FIELDS = ("policy", "spec", "usage", "rotation", "tags", "state", "description", "alias")
CONNECTION_STEPS = ("dns", "tcp", "tls")
_DAY_SECONDS = 86_400.0


class Gauged(NamedTuple):
    """One gauge and what it says."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def _number(fact: Fact, _ended_at: float) -> float:
    return float(fact)


def _in_days(fact: Fact, ended_at: float) -> float:
    return ended_at + float(fact) * _DAY_SECONDS


def _ago(fact: Fact, ended_at: float) -> float:
    return ended_at - float(fact)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is made of the fact `name`; `last` is the metric's last label where that is not the key."""

    name: str
    metric: Metric
    value: Callable[[Fact, float], float] = _number
    """Of the fact, and of the Unix time at which the look ended: gauges tell times, never ages."""
    last: tuple[str, ...] = ()


_RULES: Mapping[str, tuple[_Rule, ...]] = {
    Kind.KEY_STATE: (
        _Rule("usable", metrics.KEY_USABLE),
        _Rule("rotation_enabled", metrics.KEY_ROTATION),
        _Rule("deletion_timestamp", metrics.KEY_DELETION),
    ),
    Kind.REPLICA_DRIFT: tuple(_Rule(f"drift_{field}", metrics.REPLICA_DRIFT, last=(field,)) for field in DRIFT_FIELDS),
    Kind.COLD_CONNECTION: (_Rule("certificate_days_left", metrics.CERTIFICATE_EXPIRY, _in_days),),
    Kind.CLOCK_OFFSET: (_Rule("offset_seconds", metrics.CLOCK_OFFSET),),
    Kind.GOLDEN: (
        _Rule("messages", metrics.GOLDEN_MESSAGES),
        _Rule("oldest_age_seconds", metrics.GOLDEN_OLDEST, _ago),
        _Rule("rotations_spanned", metrics.GOLDEN_ROTATIONS),
    ),
    Kind.HEADROOM: (
        _Rule("throttles", metrics.HEADROOM_THROTTLES),
        _Rule("requests_per_second", metrics.HEADROOM_REQUESTS),
        _Rule("quota_share", metrics.HEADROOM_QUOTA),
        _Rule("cost_usd_month", metrics.HEADROOM_COST),
    ),
    Kind.ALARM_PATH: (_Rule("definitions_compared", metrics.ALARM_DEFINITIONS),),
}
_METADATA_KINDS = frozenset({Kind.KEY_STATE, Kind.REPLICA_DRIFT})


def gauges(result: CanaryResult) -> Iterator[Gauged]:
    """Return what `result` sets, `key_info` apart; nothing for a BLIND look and for a drill's.

    Raises:
        ValueError: a fact that shall be a number is none.
    """
    if result.outcome is Outcome.BLIND or result.mode is not Mode.LIVE:
        return
    ended_at = result.started_at_utc.timestamp() + result.duration_seconds
    for rule in _RULES.get(result.canary, ()):
        if rule.name in result.facts:
            labels = _labels(rule.metric, result.region, result.key, rule.last)
            yield Gauged(rule.metric, labels, rule.value(result.facts[rule.name], ended_at))
    if result.canary == Kind.COLD_CONNECTION:
        for step in CONNECTION_STEPS:
            if step in result.steps:
                yield Gauged(metrics.CONNECTION_STEP, (result.region, step), result.steps[step])
    if result.canary in _METADATA_KINDS:
        yield Gauged(metrics.METADATA_CHECKED, (result.region,), ended_at)


def key_info(result: CanaryResult) -> tuple[str, ...] | None:
    """Return the labels of `key_info` that `result` tells; None: it tells none."""
    facts = result.facts
    if result.mode is not Mode.LIVE or result.outcome is Outcome.BLIND or not {"state", "key_id"} <= facts.keys():
        return None
    primary = str(bool(facts.get("primary", False))).lower()
    return (result.region, result.key, str(facts["state"]), str(facts["key_id"]), primary)


def series_of(subject: Subject) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Return the gauges that looks at `subject` can set, but for `key_info`, whose labels nobody knows before."""
    for rule in _RULES.get(subject.canary, ()):
        yield rule.metric, _labels(rule.metric, subject.region, subject.key, rule.last)
    if subject.canary == Kind.COLD_CONNECTION:
        for step in CONNECTION_STEPS:
            yield metrics.CONNECTION_STEP, (subject.region, step)
    if subject.canary in _METADATA_KINDS:
        yield metrics.METADATA_CHECKED, (subject.region,)


def _labels(metric: Metric, region: str, key: str, last: tuple[str, ...]) -> tuple[str, ...]:
    where = (region, key) if "key" in metric.labels else (region,)
    return (*where, *last)
