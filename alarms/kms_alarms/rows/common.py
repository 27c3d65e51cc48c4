"""Expressions that several rows share."""

from __future__ import annotations

from kms_alarms.parts import MetricAlarm, reasons, series
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind, Reason

SAME_DAEMON = "on (canary, job, instance) group_left ()"
"""Joins a canary's series with those of its kind, of one daemon: two daemons of one estate must not be mixed."""
LIVE_ALONE = "no drill touches it: it is read from the real estate, or from the daemon itself"
ANY = "~.+"


def failing(kinds: str, looks: int) -> str:
    """Return what is true once a canary of `kinds` has failed so often in a row; one missed scrape does not end it."""
    return f"max_over_time({series(m.CANARY_CONSECUTIVE_FAILURES, canary=kinds)}[$[60]]) >= {looks}"


def lately(selector: str) -> str:
    """Return the newest value of the last minute: one missed scrape neither ends a state nor makes it last longer."""
    return f"last_over_time({selector}[$[60]])"


def configured_for(intervals: int) -> str:
    """Return what is true once the daemon has had its configuration for so many of a canary's intervals.

    A time that is 0 means never, and right after a start nothing has happened yet.
    """
    return (
        f"and on (canary, job, instance) ({intervals} * {series(m.CANARY_INTERVAL)} "
        f"< on (job, instance) group_left () (time() - {series(m.CONFIG_RELOADED)}))"
    )


def any_of(kinds: str, *of: Reason, within_seconds: int = 900) -> str:
    """Return what is true for a while after canaries of `kinds` failed for one of these reasons, even once."""
    return f"increase({series(m.CANARY_RUNS, canary=kinds, result=reasons(*of))}[$[{within_seconds}]]) > 0"


def check_failing(*kinds: Kind) -> MetricAlarm:
    """Return the CloudWatch alarm on canaries of `kinds` that fail again and again, one a kind.

    A canary that goes on failing fails ten times within a period, and one that fails now and then hardly thrice.
    """
    return MetricAlarm(
        scope="kind",
        kinds=kinds,
        inputs={"failures": (m.CW_KIND_FAILURES, "Sum")},
        threshold=2,
        evaluation_periods=3,
        datapoints_to_alarm=2,
        period_seconds=300,
        least_looks=10,
        missing="notBreaching",
        unit="failed looks",
    )
