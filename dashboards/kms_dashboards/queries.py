"""Selectors with the dashboards' variables in them, and the few expressions that several panels share. Pure."""

from __future__ import annotations

from kms_alarms.parts import series
from kms_watchdog import metrics
from kms_watchdog.metrics import Metric
from kms_watchdog.results import Kind

REGION, KEY = "~$region", "~$key"
OF_PAIRS = "~(.*:)?${region}(:.*)?"
"""A region, or one of the two that a canary across regions looks at."""
STALE_AFTER_INTERVALS = 3
ROUND_TRIP = str(Kind.ROUND_TRIP)
WELL, COUNTED = "success", "!blind"
FAILED = "!~success|blind"
"""Values of `result`: blind counts for neither side (DESIGN §6)."""


def chosen(metric: Metric, suffix: str = "", **labels: str) -> str:
    """Return a selector of `metric` for what the reader has chosen: region, key, and mode where it has one.

    Raises:
        ValueError: the metric has no such label.
    """
    offered = {name: value for name, value in (("region", REGION), ("key", KEY)) if name in metric.labels}
    return series(metric, suffix, **{**offered, **labels})


def looking(expression: str, **labels: str) -> str:
    """Return `expression` for canaries that look: one that never did, or is stale, is a gap, not its last answer.

    `labels` are those that `expression` selects canaries by.
    """
    age = f"time() - {chosen(metrics.CANARY_LAST_RUN, **labels)}"
    limit = f"({STALE_AFTER_INTERVALS} * {series(metrics.CANARY_INTERVAL)})"
    return f"({expression} and {age} < on (canary, job, instance) group_left () {limit})"


def lowest(metric: Metric, **labels: str) -> str:
    """Return the worst of a 0/1 gauge within a step: zooming out must not lose a failure."""
    return f"min_over_time({chosen(metric, **labels)}[$__rate_interval])"


def worst_look(**labels: str) -> str:
    """Return whether each look of a step was well, 1 or 0, of canaries that look; `labels` select them.

    Looks alone count: before its first, and from one drill to the next, a canary's gauge shows no answer.
    """
    return f"(min_over_time({looking(chosen(metrics.CANARY_UP, **labels), **labels)}[$__rate_interval:]))"


def rate(selector: str, by: str) -> str:
    """Return how much of it there is in a second."""
    return f"sum by ({by}) (rate({selector}[$__rate_interval]))"


def growth(selector: str, by: str) -> str:
    """Return how much of it there was in a step."""
    return f"sum by ({by}) (increase({selector}[$__rate_interval]))"


def quantile(share: float, metric: Metric, by: str, **labels: str) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({share:g}, {rate(chosen(metric, '_bucket', **labels), f'le, {by}')})"


def or_zero(expression: str, alive: Metric) -> str:
    """Return `expression`, or 0 while the watchdog is there to tell; nothing when it is not: silence is not health.

    `alive` is a metric without labels that it always exports.
    """
    return f"{expression} or 0 * max({series(alive)})"


def breaker(mode: str) -> str:
    """Return the worst of each region's breaker within a step: 0 closed, 1 half-open, 2 open."""
    half, opened = (chosen(metrics.BREAKER_STATE, state=state, mode=mode) for state in ("half_open", "open"))
    return (
        f"clamp_max(max by (region) (max_over_time({half}[$__rate_interval]))\n"
        f"+ max by (region) (max_over_time({opened}[$__rate_interval])) * 2, 2)"
    )
