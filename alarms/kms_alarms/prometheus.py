"""The table as Prometheus's recording and alerting rules, live and drill; the same bytes each time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from kms_alarms import bounds, burn_rate
from kms_alarms.parts import Alarm, NoneBecause, Rule
from kms_alarms.table import GROUPS
from kms_watchdog.config import Settings
from kms_watchdog.metrics import PLACE
from kms_watchdog.results import Mode

HEADER = "# Rendered by kms-alarms render from the table in alarms/kms_alarms. Do not edit by hand: make alarms.\n"
RECORD_EVERY_SECONDS = 30
RUNBOOKS = "alarms/runbooks/"
"""Where runbooks are when [http] runbooks_url does not say: in this repository."""
_RANGE, _NUMBER = re.compile(r"\$\[(\d+)\]"), re.compile(r"\$\((\d+)\)")
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


@dataclass(frozen=True, slots=True)
class Pace:
    """How much shorter than written the times of the rules are."""

    scale: float = 1.0
    at_most_seconds: float = math.inf

    def of(self, seconds: float) -> float:
        """Return what becomes of a time of so many seconds."""
        return min(seconds * self.scale, self.at_most_seconds)


UNSCALED = Pace()


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as such."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def render(settings: Settings, *, scale: float = 1.0, at_most_seconds: float = math.inf) -> str:
    """Return the rule file.

    For tests: `scale` shortens every time in it alike, 0.1 makes a minute six seconds; then none is longer than
    `at_most_seconds`, so that a week's alarm is seen to fire too. Windows of one rule may become the same by it.
    """
    pace = Pace(scale, at_most_seconds)
    document = {
        "groups": [
            {
                "name": "kms-watchdog.records",
                "interval": duration(pace.of(RECORD_EVERY_SECONDS)),
                "rules": [{"record": name, "expr": timed(expr, pace)} for name, expr in burn_rate.records()],
            },
            *(
                {
                    "name": f"kms-watchdog.{group}",
                    "rules": [one for row in rows for one in _rules(settings, row, pace)],
                }
                for group, rows in GROUPS.items()
            ),
        ]
    }
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def alert_name(row: Alarm, mode: Mode) -> str:
    """Return what Prometheus calls the alarm; `Watchdog` is everybody's name, and has no prefix."""
    if row.name == "Watchdog":
        return row.name
    return f"Kms{'Drill' if mode is Mode.DRILL else ''}{row.name}"


def duration(seconds: float) -> str:
    """Return `seconds` as Prometheus writes a duration, to the millisecond: 90 is `1m30s`."""
    left = max(1, round(seconds * 1000))
    parts = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def timed(expr: str, pace: Pace = UNSCALED) -> str:
    """Return `expr` with its times written out."""
    expr = _RANGE.sub(lambda found: duration(pace.of(int(found[1]))), expr)
    return _NUMBER.sub(lambda found: f"{pace.of(int(found[1])):g}", expr)


def runbook_url(settings: Settings, runbook: str) -> str:
    """Return where a page of `alarms/runbooks` is found."""
    return f"{settings.http.runbooks_url or RUNBOOKS}{runbook}"


def _rules(settings: Settings, row: Alarm, pace: Pace) -> Iterator[dict[str, Any]]:
    if isinstance(row.prometheus, NoneBecause):
        return
    for mode in row.modes:
        for rule in row.prometheus:
            for each in _placed(settings, rule):
                yield _rule(settings, row, each, mode, pace)


def _placed(settings: Settings, rule: Rule) -> Iterator[Rule]:
    """Return `rule` as it is for the places that share the canaries: one watchdog that looks at everything has none."""
    members = settings.replicas.members
    if rule.of_each_place:
        for place in members:
            named = rule.summary.replace("$place", place)
            labels = {**(rule.labels or {}), PLACE: place}
            yield replace(rule, expr=rule.expr.replace("$place", place), summary=named, labels=labels)
    else:
        yield replace(rule, expr=rule.shared) if members and rule.shared else rule


def _rule(settings: Settings, row: Alarm, rule: Rule, mode: Mode, pace: Pace) -> dict[str, Any]:
    within = bounds.prometheus(settings, row, rule)
    return {
        "alert": alert_name(row, mode),
        "expr": timed(rule.expr, pace).replace("$mode", mode),
        **({"for": duration(pace.of(rule.for_seconds))} if rule.for_seconds else {}),
        **({"keep_firing_for": duration(pace.of(rule.keep_seconds))} if rule.keep_seconds else {}),
        "labels": {
            "severity": rule.severity or row.severity,
            "owner": row.owner,
            "mode": str(mode),
            "alarm": row.name,
            **(rule.labels or {}),
        },
        "annotations": {
            "summary": rule.summary or row.title,
            "description": f"{row.title}. Hurt: {row.hurts}."
            + (f" Told within {duration(within)} of the trouble." if within else ""),
            "runbook_url": runbook_url(settings, row.runbook),
        },
    }
