"""How long it takes at the most, from the trouble until somebody is told, by each of the two ways. Pure arithmetic.

What adds up is written down here once: the canary's interval and deadline, how often it must fail, Prometheus's scrape
and evaluation, `for`, Alertmanager's `group_wait`; the watchdog's publishing, CloudWatch's periods and evaluation.
Runbooks show the sum, drills measure it.
"""

from __future__ import annotations

import math

from kms_alarms.evaluate import EXTRA_PERIODS
from kms_alarms.parts import Alarm, Composite, MetricAlarm, NoneBecause, Rule
from kms_alarms.table import alarm
from kms_watchdog.config import Settings

SCRAPE_SECONDS = 15
"""Prometheus's `scrape_interval` in `dashboards/provisioning/prometheus.yml`."""
EVALUATION_SECONDS = 15
"""Its `evaluation_interval`."""
GROUP_WAIT_SECONDS = 10
"""Alertmanager's `group_wait` in `alarms/prometheus/alertmanager.example.yml`."""
PUBLISH_SECONDS = 15
"""From a period's end until its numbers are in CloudWatch, when it answers."""
STANDARD_PERIOD_SECONDS = 60
_SHORT_PERIODS = (10, 20, 30)
_FINEST_EVALUATION_SECONDS = 10
"""How often CloudWatch evaluates an alarm of high resolution; others once a minute."""


def seen_seconds(settings: Settings, row: Alarm, *, least_looks: int = 1) -> float:
    """Return how long it takes until the watchdog's own metrics show the trouble, at the most.

    A look may have been well just before; each of the next, `least_looks` of them or more, takes its whole deadline.
    """
    seen = row.seen
    if seen.kind is None:
        return seen.seconds
    timing = settings.canaries.timing(seen.kind)
    looks = max(seen.looks, least_looks)
    return looks * timing.interval_seconds + timing.deadline_seconds + seen.seconds


def prometheus(settings: Settings, row: Alarm, rule: Rule) -> float:
    """Return how long until a receiver is told of what `rule` sees; 0: it has no such time, for it fires always."""
    if row.severity == "none":
        return 0.0
    return seen_seconds(settings, row) + SCRAPE_SECONDS + EVALUATION_SECONDS + _for_seconds(rule) + GROUP_WAIT_SECONDS


def _for_seconds(rule: Rule) -> int:
    """Return `for` as it works: rules are looked at every so often, and `for` must be over at such a look."""
    return -(-rule.for_seconds // EVALUATION_SECONDS) * EVALUATION_SECONDS


def cloudwatch(settings: Settings, row: Alarm) -> float:
    """Return how long until a topic is told; 0: there is no such alarm in CloudWatch."""
    match row.cloudwatch:
        case NoneBecause():
            return 0.0
        case Composite(of=of):
            return cloudwatch(settings, alarm(of))
        case MetricAlarm() as watch:
            failures = int(watch.threshold) + 1 if watch.least_looks else 1  # of one canary, within the first period
            seen = seen_seconds(settings, row, least_looks=failures)
            return seen + _slowest_seconds(watch, period_of(settings, watch)) + PUBLISH_SECONDS


def slowest_seconds(watch: MetricAlarm, period_seconds: int) -> int:
    """Return the longest this alarm may take to fire once its metric shows the trouble in every period.

    The first period may have begun just before; CloudWatch evaluates once a period, or once a minute for longer ones.
    Where silence breaches, it looks back further than it needs before it believes in it.
    """
    return _slowest_seconds(watch, scaled_period(watch, period_seconds))


def _slowest_seconds(watch: MetricAlarm, period: int) -> int:
    evaluation = max(_FINEST_EVALUATION_SECONDS, min(period, STANDARD_PERIOD_SECONDS))
    silence = EXTRA_PERIODS * period if watch.missing == "breaching" else 0
    return watch.datapoints_to_alarm * period + evaluation + silence


def period_of(settings: Settings, watch: MetricAlarm) -> int:
    """Return the alarm's period with these settings: each of its canaries looks often enough within it."""
    rarest = max((settings.canaries.timing(kind).interval_seconds for kind in watch.kinds), default=0.0)
    needed = math.ceil(watch.least_looks * rarest / STANDARD_PERIOD_SECONDS) * STANDARD_PERIOD_SECONDS
    usual = scaled_period(watch, settings.cloudwatch.period_seconds)
    return usual if watch.least_looks * rarest <= usual else needed


def scaled_period(watch: MetricAlarm, period_seconds: int) -> int:
    """Return the alarm's period where numbers are published every `period_seconds`, 10 or 60.

    CloudWatch takes 10, 20, 30 and multiples of 60.
    """
    period = watch.period_seconds * period_seconds // STANDARD_PERIOD_SECONDS
    return period if period in _SHORT_PERIODS else -(-period // STANDARD_PERIOD_SECONDS) * STANDARD_PERIOD_SECONDS
