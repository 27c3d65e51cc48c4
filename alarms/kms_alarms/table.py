"""The one table of alarms: what is looked at, when it is bad, who is told, what to do, and what proves it.

Each row is rendered for Prometheus and for CloudWatch, live and, where drills make what it reads, as a drill's twin
(DESIGN §6). Metric names come from `kms_watchdog.metrics` alone.
"""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm
from kms_alarms.rows.drills import DRILLS
from kms_alarms.rows.integrity import INTEGRITY
from kms_alarms.rows.keys import KEYS
from kms_alarms.rows.objectives import OBJECTIVES
from kms_alarms.rows.regions import REGIONS
from kms_alarms.rows.watchdog import WATCHDOG

GROUPS: dict[str, tuple[Alarm, ...]] = {
    "objectives": OBJECTIVES,
    "integrity": INTEGRITY,
    "keys": KEYS,
    "regions": REGIONS,
    "drills": DRILLS,
    "watchdog": WATCHDOG,
}
"""Rows by what they are about; also the groups of Prometheus's rules."""
ALARMS: tuple[Alarm, ...] = tuple(row for rows in GROUPS.values() for row in rows)


def alarm(name: str) -> Alarm:
    """Return the row called `name`.

    Raises:
        KeyError: no row has that name.
    """
    for row in ALARMS:
        if row.name == name:
            return row
    raise KeyError(name)


def by_region() -> tuple[Alarm, ...]:
    """Return the rows that CloudWatch has an alarm of for each region: those that drills speak of."""
    return tuple(row for row in ALARMS if isinstance(row.cloudwatch, MetricAlarm) and row.cloudwatch.scope == "region")
