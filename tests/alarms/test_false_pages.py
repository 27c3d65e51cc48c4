"""Ninety ordinary days page nobody, and two hundred planted faults page within their bounds: a simulation, seeded.

Ordinary means: a run in ten thousand fails, one in a thousand is slow, once a day a run fails for sure, the watchdog is
started anew every third day, and some minutes' numbers arrive late. CloudWatch's alarms are those that are rendered,
evaluated as CloudWatch does, a minute at a time.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kms_alarms import bounds, cloudwatch
from kms_alarms.alarm_tests import definition_of
from kms_alarms.evaluate import AlarmDefinition, AlarmState, MetricStat, evaluate
from kms_alarms.table import alarm
from kms_watchdog.config import load

EXAMPLE = Path(__file__).parents[2] / "daemon" / "watchdog.example.toml"
SETTINGS = load(EXAMPLE)
DAYS, SEEDS, FAULTS = 90, 100, 200
MINUTES = DAYS * 1440
RUNS_A_MINUTE = 6  # three keys every thirty seconds
FAILS, SLOW = 1e-4, 1e-3
USUAL_MS, SLOW_MS = 20.0, 4000.0
REGION = "us-east-1"

RENDERED = {one["AlarmName"]: one for one in cloudwatch.render(SETTINGS, alarm_region=REGION)}


def definition(name: str) -> AlarmDefinition:
    return definition_of(RENDERED[f"ParkerFlight-KMS-{name}"])


@dataclass
class Days:
    """What one region's canaries did in ninety days: only what is out of the ordinary is kept, by minute."""

    failed: Counter[int] = field(default_factory=Counter)
    slow: Counter[int] = field(default_factory=Counter)
    silent: set[int] = field(default_factory=set)
    """The watchdog was being started anew: nothing was published."""
    late: dict[int, int] = field(default_factory=dict)
    """Numbers that came so many minutes late."""

    @classmethod
    def ordinary(cls, rng: random.Random) -> Days:
        found = cls()
        for counts, rate in ((found.failed, FAILS), (found.slow, SLOW)):
            run = 0.0
            while (run := run + rng.expovariate(rate)) < MINUTES * RUNS_A_MINUTE:
                counts[int(run) // RUNS_A_MINUTE] += 1
        for day in range(DAYS):
            found.failed[day * 1440 + rng.randrange(1440)] += 1
            found.late[day * 1440 + rng.randrange(1440)] = rng.randint(1, 4)
        for third in range(0, DAYS, 3):
            begin = third * 1440 + rng.randrange(1440)
            found.silent.update(range(begin, begin + rng.randint(1, 3)))
        return found

    def statistic(self, stat: MetricStat, start: int, periods: int, now: int) -> float | None:
        """Return what CloudWatch has of the minutes from `start` on, when it looks at minute `now`."""
        there = [
            minute
            for minute in range(start, start + periods)
            if minute not in self.silent and minute + 1 + self.late.get(minute, 0) <= now
        ]
        if not there:
            return None
        match stat.name:
            case "CanaryRuns":
                return float(RUNS_A_MINUTE * len(there))
            case "CanaryFailures":
                return float(sum(self.failed[minute] for minute in there))
            case "CanaryDuration":
                slow = sum(self.slow[minute] for minute in there)
                count = RUNS_A_MINUTE * len(there)
                rank = -(-count * int(stat.statistic[1:]) // 100)
                return SLOW_MS if rank > count - slow else USUAL_MS
            case "CanaryHeartbeat":
                return 2.0 * len(there)
            case _:
                return 0.0

    def slow_together(self) -> set[int]:
        """Return the minutes in whose five several runs were slow: a single one of thirty is no tenth."""
        buckets = Counter[int]()
        for minute, count in self.slow.items():
            buckets[minute // 5] += count
        return {minute for minute in self.slow if buckets[minute // 5] > 1}

    def interesting(self, of: Iterable[int], watch: AlarmDefinition) -> list[int]:
        """Return the minutes at which a look can see anything out of the ordinary."""
        span = (watch.evaluation_periods + 3) * watch.period_seconds // 60
        return sorted({minute + later for minute in of for later in range(1, span + 1)})


def pages(days: Days, watch: AlarmDefinition, around: Iterable[int]) -> list[int]:
    """Return the minutes at which the alarm went to ALARM; between the looks everything was ordinary, and it was OK."""
    found, state, before = list[int](), AlarmState.OK, -1
    periods = watch.period_seconds // 60
    for now in days.interesting(around, watch):
        if now != before + 1:
            state = AlarmState.OK
        before = now
        newest = now // periods * periods
        begin = newest - (watch.evaluation_periods + 2) * periods
        if begin < 0:
            continue
        statistics = {
            query: {
                float(start * 60): value
                for start in range(begin, newest, periods)
                if (value := days.statistic(stat, start, periods, now)) is not None
            }
            for query, stat in watch.queries.items()
            if isinstance(stat, MetricStat)
        }
        after = evaluate(watch, statistics, now=now * 60.0, previous=state).state
        if after is AlarmState.ALARM and state is not AlarmState.ALARM:
            found.append(now)
        state = after
    return found


@pytest.mark.slow
@pytest.mark.computes
@pytest.mark.minutes(4)
@pytest.mark.timeout(2400)
def test_ninety_ordinary_days_page_nobody() -> None:
    """A hundred times, each with its own luck: error rate, latency, the application's way, the heart."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    watched: Mapping[str, AlarmDefinition] = {
        name: definition(name)
        for name in (
            "HighErrorRate-us-east-1",
            "HighLatency-us-east-1",
            "FailoverPathFails-failover_path",
            "CheckFails-key_state",
            "HeartbeatMissing-production-us-east-1",
        )
    }
    for seed in range(SEEDS):
        days = Days.ordinary(random.Random(seed))
        silence = {*days.silent, *days.late}
        for name, watch in watched.items():
            around = {*silence, *(days.slow_together() if "Latency" in name else days.failed)}
            found[name] += [(seed, minute) for minute in pages(days, watch, around)]

    assert {name: told for name, told in found.items() if told} == {}


def test_the_simulation_can_page() -> None:
    """Else it would prove nothing: the same days with an hour of failures, of slowness, of silence."""
    days = Days.ordinary(random.Random(7))
    hour = range(50_000, 50_060)
    days.failed.update(dict.fromkeys(hour, RUNS_A_MINUTE))
    days.slow.update(dict.fromkeys(hour, RUNS_A_MINUTE))
    silent = Days.ordinary(random.Random(7))
    silent.silent.update(hour)

    assert pages(days, definition("HighErrorRate-us-east-1"), hour) == [50_003]
    assert pages(days, definition("HighLatency-us-east-1"), hour) == [50_010]
    assert len(pages(silent, definition("HeartbeatMissing-production-us-east-1"), hour)) == 1


# ------------------------------------------------------------------------------------------------------ planted faults


@dataclass(frozen=True)
class Planted:
    """A fault of which somebody must be told, and the alarm that must tell it."""

    row: str
    name: str
    looks: float
    """Seconds between looks that show it."""
    metric: str
    value: float
    """What a bad period's statistic is; of counted failures: what each look that fails adds to it."""
    counted: bool = False

    def statistic(self, start: float, period: float, seen: float) -> float:
        """Return that of the period from `start` on, of a fault that the first look shows at `seen`."""
        if start + period <= seen:
            return GOOD[self.metric]
        if not self.counted:
            return self.value
        first = max(0, math.ceil((start - seen) / self.looks))
        return self.value * max(0, math.ceil((start + period - seen) / self.looks) - first)


KINDS = (
    Planted("HighErrorRate", "HighErrorRate-us-east-1", 30.0, "CanaryFailures", 6.0),
    Planted("KeyUnusable", "KeyUnusable-us-east-1-pii", 30.0, "KeyUsable", 0.0),
    Planted("PlaintextMismatch", "PlaintextMismatch-us-east-1", 30.0, "IntegrityFailures", 1.0),
    Planted("CheckFails", "CheckFails-key_state", 30.0, "CanaryFailures", 1.0, counted=True),
    Planted("FailoverPathFails", "FailoverPathFails-failover_path", 30.0, "CanaryFailures", 1.0, counted=True),
    Planted("HeartbeatMissing", "HeartbeatMissing-production-us-east-1", 0.0, "CanaryHeartbeat", 0.0),
)
GOOD = {"CanaryRuns": 6.0, "CanaryFailures": 0.0, "KeyUsable": 1.0, "IntegrityFailures": 0.0, "CanaryHeartbeat": 2.0}


def told_after(planted: Planted, rng: random.Random) -> float:
    """Return how many seconds after the fault somebody was told; the watchdog's and CloudWatch's phases are random."""
    watch = definition(planted.name)
    period, deadline = float(watch.period_seconds), SETTINGS.canaries.deadline_seconds
    began = 36_000.0 + rng.uniform(0, period)
    seen = began + rng.uniform(0, planted.looks) + (rng.uniform(0, deadline) if planted.looks else 0.0)
    dead = planted.row == "HeartbeatMissing"
    phase = rng.uniform(0, bounds.STANDARD_PERIOD_SECONDS)
    publish = rng.uniform(0, bounds.PUBLISH_SECONDS)
    state = AlarmState.OK
    for look in range(2000):
        now = began - 600 + phase + look * bounds.STANDARD_PERIOD_SECONDS
        newest = int((now - publish) // period)
        first = int(now // period) - watch.evaluation_periods - 3
        starts = [start * period for start in range(first, newest)]
        statistics = {
            query: {
                start: planted.statistic(start, period, seen) if stat.name == planted.metric else GOOD[stat.name]
                for start in starts
                if not (dead and start + period > began)
            }
            for query, stat in watch.queries.items()
            if isinstance(stat, MetricStat)
        }
        state = evaluate(watch, statistics, now=now, previous=state).state
        if state is AlarmState.ALARM:
            return now - began
    raise AssertionError(f"{planted.name} never fired")


def test_every_planted_fault_is_told_within_its_bound() -> None:
    """Two hundred, at random instants; none is missed, none is told before it is there."""
    rng, told = random.Random(20261129), defaultdict[str, list[float]](list)
    for number in range(FAULTS):
        planted = KINDS[number % len(KINDS)]
        told[planted.row].append(told_after(planted, rng))

    assert sum(len(times) for times in told.values()) == FAULTS
    for row, times in told.items():
        bound = bounds.cloudwatch(SETTINGS, alarm(row))
        assert min(times) > 0
        assert max(times) <= bound, f"{row}: {max(times):.0f} s, not within {bound:.0f} s"
        assert max(times) > bound / 2, f"{row}: the bound of {bound:.0f} s is idle talk"
