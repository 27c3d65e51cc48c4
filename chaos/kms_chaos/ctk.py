"""A thin door for Chaos Toolkit: its experiments call these functions, and the drill behind them is the engine's own.

Name the control `kms_chaos.ctk_control` in the experiment: it starts the drill before the first probe and ends it after
the last rollback, whatever happened. Functions return JSON's own types only (anything else cuts the journal of
chaostoolkit-lib short), and are bounded in time, since it bounds no Python activity itself.

The configuration is the watchdog's: the experiment's `configuration.kms_watchdog_config`, else KMS_WATCHDOG_CONFIG.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kms_chaos import alarms, drill
from kms_chaos.cued import CuedDrill, CuedError
from kms_chaos.drill import Drill, DrillError
from kms_chaos.run import plan
from kms_core.clock import SystemClock
from kms_watchdog import config as configurations
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.results import Outcome

NAME = "chaos-toolkit"
"""What a drill is called that an experiment describes, instead of naming one of ours."""
EXTENSION = "x-kms-drill"
LONGEST_SECONDS = 600.0
"""How long such a drill holds its fault at the most."""

_LOCK = threading.Lock()
_CURRENT: list[CuedDrill] = []  # one drill at a time, in this process as everywhere


def settings_of(configuration: Mapping[str, Any] | None) -> Settings:
    """Return the watchdog's configuration that an experiment names.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    named = (configuration or {}).get("kms_watchdog_config")
    return configurations.load(Path(str(named or os.environ.get("KMS_WATCHDOG_CONFIG") or "watchdog.toml")))


def begin(
    fault: str,
    region: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    extension: Mapping[str, Any] | None = None,
    title: str = "",
    why: str = "",
    reason: str = "",
    approval: str = "",
    configuration: Mapping[str, Any] | None = None,
) -> str:
    """Start the drill that an experiment describes, and return its run id when the steady state holds.

    `extension` is the experiment's `x-kms-drill`: `drill` names one of ours, whose alarms and objectives then count;
    else `rto_seconds` and `longest_seconds` are taken from it. `reason` and `approval` (a file, or `latest`) are those
    of `kms-chaos run`, which a drill in production needs; an approval is of a drill by its name, so of one of ours.

    Raises:
        CuedError: another drill of this process is on, or the drill was refused, or its steady state did not hold.
        DrillError: there is no such fault, region or drill.
    """
    with _LOCK:
        if _CURRENT:
            raise CuedError(f"drill {_CURRENT[0].run.run_id} of this process is not over")
        settings = settings_of(configuration)
        described = _drill(
            fault, parameters or {}, extension or {}, title=title, why=why, folder=settings.drills.folder
        )
        run = plan(settings, described, region=region, clock=SystemClock())
        found = CuedDrill(replace(run, reason=" ".join(reason.split()), approval=approval))
        _CURRENT.append(found)
    try:
        found.start()
    except CuedError:
        end()
        raise
    return found.run.run_id


def _drill(
    fault: str,
    parameters: Mapping[str, Any],
    extension: Mapping[str, Any],
    *,
    title: str,
    why: str,
    folder: Path | None,
) -> Drill:
    if name := extension.get("drill"):
        named = drill.find(str(name), folder)
        if fault not in {getattr(one, "kind", "") for one in named.faults}:
            raise DrillError(f"drill {name} has no fault {fault!r}")
        return named
    longest = min(LONGEST_SECONDS, float(extension.get("longest_seconds", LONGEST_SECONDS)))
    values = {
        "name": NAME,
        "title": title or "A Chaos Toolkit experiment",
        "why": why or "An experiment that Chaos Toolkit conducts.",
        "mode": "sustained",
        "target": {"region": "primary"},
        "faults": [{"kind": fault, **parameters}],
        "timing": {"hold_at_least_seconds": 1.0, "hold_at_most_seconds": longest, "baseline_at_least_seconds": 2.0},
        "objectives": {"rto_seconds": float(extension.get("rto_seconds", 75.0))},
    }
    try:
        return Drill.model_validate(values)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        raise DrillError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def end() -> dict[str, Any] | None:
    """End the drill of this process: heal, recover, check every message, judge. None when there is none.

    Returns what belongs into the journal of the experiment as `x-kms-drill`.

    Raises:
        CuedError: it has not ended in time; its undo record heals what it may have left.
    """
    with _LOCK:
        found = _CURRENT.pop() if _CURRENT else None
    if found is None:
        return None
    judgement = found.finish()
    return {"schema": 1, "run_id": found.run.run_id, "judgement": judgement.to_json() if judgement else None}


atexit.register(end)


def _current() -> CuedDrill:
    if not _CURRENT:
        raise CuedError("no drill is on: name the control kms_chaos.ctk_control in the experiment")
    return _CURRENT[0]


def inject(
    fault: str,
    region: str,
    parameters: dict[str, Any] | None = None,
    reason: str = "",
    approval: str = "",
    configuration: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Action: put `fault` on in `region`, and return when the server was seen to have it, within 30 s.

    Without the control, it starts the drill first: the same lease, guards and undo record as any other. `reason` and
    `approval` are the drill's, which the control reads here too.

    Raises:
        CuedError: it was refused, or not put on in time, or the drill that is on is another.
        DrillError: there is no such fault or region.
    """
    if not _CURRENT:
        begin(fault, region, parameters=parameters, reason=reason, approval=approval, configuration=configuration)
    found = _current()
    if fault not in {one.kind for one in found.run.faults} or region not in found.run.hurt:
        raise CuedError(f"the drill that is on has no {fault} in {region}")
    found.inject()
    return {"run_id": found.run.run_id, "fault": fault, "region": region, "on": True}


def heal(region: str) -> dict[str, Any]:
    """Action: take the fault off, and return when the server was seen to have none, within 30 s.

    Safe when nothing was injected, which Chaos Toolkit's strategy `always` makes happen.

    Raises:
        CuedError: it was not seen to be gone in time; the undo record heals it.
    """
    if not _CURRENT:
        return {"run_id": "", "region": region, "was_on": False}
    found = _current()
    return {"run_id": found.run.run_id, "region": region, "was_on": found.heal()}


def canary_success_ratio(region: str, window_seconds: float = 30.0) -> float:
    """Probe: return the share of canaries of `region` that were OK, of those in the last seconds; BLIND ones left out.

    They run through the drill's own proxies, so the fault is seen there and nowhere else.

    Raises:
        CuedError: no canary looked in that time: no number would be the truth.
    """
    found = _current()
    records = journal.read(found.run.folder.journal).records
    since = found.run.clock.now_utc() - timedelta(seconds=float(window_seconds))
    results = [r.fields["result"] for r in records if r.event == "canary-result" and r.at_utc >= since]
    outcomes = [Outcome(result["outcome"]) for result in results if result["region"] == region]
    seen = [outcome for outcome in outcomes if outcome is not Outcome.BLIND]
    if not seen:
        raise CuedError(f"no canary of {region} could ask in the last {float(window_seconds):g} s")
    return sum(outcome is Outcome.OK for outcome in seen) / len(seen)


def breaker_state(region: str) -> str:
    """Probe: return the state of the drill's own breaker of `region`: closed, open or half_open.

    Raises:
        CuedError: no drill is on, or the estate has no such region.
    """
    breakers = _current().view.breakers
    if region not in breakers:
        raise CuedError(f"{region} is not a region of this estate: {', '.join(breakers)}")
    return str(breakers[region])


def alarm_state(name: str, region: str, mode: str = "drill", configuration: dict[str, Any] | None = None) -> str:
    """Probe: return CloudWatch's state of one alarm: OK, ALARM, INSUFFICIENT_DATA, or UNREADABLE.

    `mode` is `drill` for the twin that a drill makes fire, or `live`. Needs no drill.

    Raises:
        KeyError, ValueError: there is no such alarm or mode.
    """
    settings = _CURRENT[0].run.settings if _CURRENT else settings_of(configuration)
    hurt = _CURRENT[0].run.hurt if _CURRENT else ()
    key = (name, region, mode)
    board = alarms.AlarmBoard(settings, alarms.reading_region(settings, hurt), frozenset({key}))
    try:
        return board.read()[key].state
    finally:
        board.close()
