"""The rendered head of each runbook: how bad, whose, what it is called, how soon it is told. The rest is prose."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from kms_alarms import bounds, prometheus
from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause
from kms_alarms.table import ALARMS
from kms_watchdog.config import Settings
from kms_watchdog.results import Mode

_WORDS = {
    "critical": "critical: wakes somebody",
    "warning": "warning: waits for working hours",
    "none": "always firing",
}
_END = "<!-- end -->"


class RunbookError(ValueError):
    """A page is missing, or has no place for the head of an alarm; the message names both."""


def pages() -> dict[str, tuple[Alarm, ...]]:
    """Return the rows by the file that their runbook is in."""
    found = defaultdict[str, list[Alarm]](list)
    for row in ALARMS:
        found[row.runbook.partition("#")[0]].append(row)
    return {name: tuple(rows) for name, rows in sorted(found.items())}


def render(settings: Settings, folder: Path, name: str) -> str:
    """Return the page `name` of `folder` with its heads as the table makes them.

    Raises:
        RunbookError: there is no such page, or no place in it for one of its alarms.
    """
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except OSError as e:
        raise RunbookError(f"{folder / name}: {e.strerror}: an alarm without a runbook is not rendered") from e
    for row in pages()[name]:
        begin = f"<!-- rendered: {row.name} -->\n"
        before, found, rest = text.partition(begin)
        _, end, after = rest.partition(_END)
        if not found or not end:
            raise RunbookError(f"{folder / name}: no place for {row.name}: {begin.strip()} and {_END}")
        text = before + begin + _head(settings, row) + end + after
    return text


def _head(settings: Settings, row: Alarm) -> str:
    return (
        "| | |\n|---|---|\n"
        f"| severity | {_WORDS[row.severity]} |\n"
        f"| owner | {row.owner} |\n"
        f"| in Prometheus | {_in_prometheus(settings, row)} |\n"
        f"| in CloudWatch | {_in_cloudwatch(settings, row)} |\n"
        f"| a drill's twin | {_twin(row)} |\n"
    )


def _in_prometheus(settings: Settings, row: Alarm) -> str:
    if isinstance(row.prometheus, NoneBecause):
        return f"none: {row.prometheus.reason}"
    within = min(bounds.prometheus(settings, row, rule) for rule in row.prometheus)
    told = f", told within {within:.0f} s of the trouble" if within else ""
    return f"`{prometheus.alert_name(row, Mode.LIVE)}`{told}"


def _in_cloudwatch(settings: Settings, row: Alarm) -> str:
    if isinstance(row.cloudwatch, NoneBecause):
        return f"none: {row.cloudwatch.reason}"
    of_what = f"-{row.cloudwatch.scope.upper().replace('_', '-')}" if isinstance(row.cloudwatch, MetricAlarm) else ""
    name = f"{settings.cloudwatch.alarm_prefix}-{row.name}{of_what.removesuffix('-ESTATE')}"
    return f"`{name}`, told within {bounds.cloudwatch(settings, row):.0f} s of the trouble"


def _twin(row: Alarm) -> str:
    if row.twin_not_because:
        return f"none: {row.twin_not_because}"
    in_prometheus = not isinstance(row.prometheus, NoneBecause)
    names = [f"`{prometheus.alert_name(row, Mode.DRILL)}`"] if in_prometheus else []
    names += [] if isinstance(row.cloudwatch, NoneBecause) else ["the same name with `-Drill-`"]
    return f"{' and '.join(names)}: asks nothing of you"
