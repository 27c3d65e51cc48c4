"""Shipped drills made short, and conducted with one thing broken: real drills, of seconds instead of a minute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kms_chaos import drill, engine, heal
from kms_chaos.drill import Drill
from kms_chaos.faults.plans import FaultPlan
from kms_chaos.judge import judge
from kms_chaos.run import Run, plan
from kms_core import SystemClock
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.verdict import Claim, Judgement, Verdict

Conduct = Callable[..., Judgement]
HOLD_SECONDS = 5.0
"""How long a short drill holds its fault, where nothing else is said."""

_WATCHDOG_SECONDS = 45.0


def shortened(name: str, *, hold_seconds: float = HOLD_SECONDS) -> Drill:
    """Return the shipped drill `name` as it is, but for the time that it takes, and the alarms, which take a minute.

    It holds for `hold_seconds`, and what it begins or ends later comes sooner; it has more traffic, since it must see
    as much in less time.
    """
    whole = drill.find(name)
    timed = (*whole.faults, *whole.actions)
    ends = [one.after_seconds + ((one.for_seconds or 0.0) if isinstance(one, FaultPlan) else 0.0) for one in timed]
    sooner = min(1.0, (hold_seconds - 1.0) / (max(ends) or 1.0))
    timing = {
        "baseline_at_least_seconds": 1.0,
        "hold_at_least_seconds": hold_seconds,
        "hold_at_most_seconds": max(hold_seconds, whole.timing.hold_at_most_seconds),
    }
    load = {"operations_per_second": 20.0, "canary_interval_seconds": 0.5}
    values = whole.model_dump()
    values["timing"].update(timing)
    values["workload"].update(load)
    if whole.watchdog is not None:  # it takes its own time to start, and the hold waits for it
        values["watchdog"]["ready_within_seconds"] = _WATCHDOG_SECONDS
        longest = whole.watchdog.last_after_seconds + _WATCHDOG_SECONDS + hold_seconds
        values["timing"]["hold_at_most_seconds"] = longest
    values["alarms"] = {}
    for one in (*values["faults"], *values["actions"]):
        one.update({span: one[span] * sooner for span in ("after_seconds", "for_seconds") if one.get(span)})
    return Drill.model_validate(values)


@contextmanager
def conducting() -> Iterator[Conduct]:
    """Give what runs a drill to its verdict, with any field of `Run` replaced; what such a drill leaves is healed."""
    found: list[Run] = []

    def conduct(settings: Settings, short: Drill, **sabotage: Any) -> Judgement:
        run = dataclasses.replace(plan(settings, short, region=None, clock=SystemClock()), armed=True, **sabotage)
        found.append(run)
        engine.conduct(run, _judged, lambda _tape: None)
        return _judged(run)

    try:
        yield conduct
    finally:
        for run in found:
            heal.heal(folder(run.settings.state.dir, run.run_id), SystemClock())  # a restore that was made to fail


def _judged(run: Run) -> Judgement:
    return judge(journal.read(run.folder.journal))


def claim_of(judgement: Judgement, name: str) -> Claim:
    """Return the claim called `name`."""
    return next(claim for claim in judgement.claims if claim.name == name)


def not_held(judgement: Judgement) -> dict[str, str]:
    """Return every claim but that of the alarms that was not held, and why: what a failed test prints."""
    others = (claim for claim in judgement.claims if claim.name != "alarms")
    return {c.name: f"{c.verdict}: {c.finding}" for c in others if c.verdict is not Verdict.HELD}
