"""The engine around a drill: guards before, the folder and its journal, the conductor, and the verdict at the end."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from kms_chaos import alarms, guards, notify, stage, tenure
from kms_chaos.conductor import Conductor
from kms_chaos.evidence.keeper import Keeper
from kms_chaos.evidence.signing import SigningRefusedError
from kms_chaos.faults import route_check
from kms_chaos.guards.admission import Admission
from kms_chaos.guards.services import services_are_allowed
from kms_chaos.lease import DrillLease, before_acting
from kms_chaos.lease_choice import lease_of
from kms_chaos.run import Run, cache_seconds
from kms_chaos.scene import Scene
from kms_chaos.tape import JournalTape
from kms_watchdog.drills import verdict as verdicts
from kms_watchdog.evidence.store import StoreRefusedError


def conduct(
    run: Run,
    judge: Callable[[Run], verdicts.Judgement],
    on_air: Callable[[JournalTape], None],
    conductor: type[Conductor] = Conductor,
) -> None:
    """Run the drill to its verdict, which `judge` gives from the journal; `on_air` gets the tape once there is one.

    `conductor` takes it through its phases.

    Raises:
        guards.RefusedError: a guard did not hold; nothing was touched.
        ToxiproxyError: Toxiproxy does not answer; nothing was touched.
        JournalWriteError: the disk failed; what was broken is restored.
    """
    with ExitStack() as stack:
        lease = lease_of(run.settings, run.clock, run_id=run.run_id, hurt=run.hurt)
        stack.enter_context(tenure.admitted(lease, run))
        server = stack.enter_context(run.reach(run.settings.drills.toxiproxy_url))
        version, _ = server.version(), server.proxies()  # a server that does not answer ends it here
        target_board = alarms.reading_region(run.settings, run.hurt)
        keys = alarms.all_keys(run.drill, run.targets, run.regions)
        board = alarms.AlarmBoard(run.settings, target_board, keys)
        stack.callback(board.close)
        upstreams = stage.upstreams(run.settings)
        services = stage.service_upstreams(run.settings, run.services)
        keeper = _keeper(run)
        evidence = keeper.about()
        admission = Admission(run, board, lease, upstreams)
        stack.callback(admission.close)
        checked = admission.check(more_guards(run, services))
        writer = stack.enter_context(tenure.begun(lease, run))
        tape = JournalTape(writer, Scene(run.regions))
        on_air(tape)
        tape.record_now("run-started", **who_and_what(run, version), **evidence, **_by_leave(admission, lease))
        for result in checked:
            tape.record("guard-checked", guard=result.guard, held=result.held, detail=result.detail)
        with notify.notifying(run, tape.record, **_by_whom(admission)) as telling:
            with keeper.streaming(writer, tape.record), _guarded(admission, run, tape):
                may_act = partial(before_acting, lease)
                restored = conductor(run, server, board, tape, upstreams, may_act, services).perform()
            tenure.settle(lease, run, tape, restored=restored)
            judgement = _judged(run, tape, judge)
            tenure.finish(lease, run, tape)
            telling.ended(judgement, notify.stopped_by(run.folder))
            if restored:  # else the journal stays open, and whoever finds it heals
                tape.record_now("closed", by="drill", verdict=str(judgement.verdict))
        keeper.finish()


def more_guards(run: Run, services: Mapping[stage.Where, str]) -> Mapping[str, guards.Guard]:
    """Return the guards beside those of `Admission`; `services` is where the drill's watchdog reaches them."""

    def route_is_verified() -> str:
        route_check.check(run.clock.now_utc())
        return "a right certificate was accepted; an unknown authority and a wrong name were refused"

    more = {"services-allowed": partial(services_are_allowed, run.settings, services)} if services else {}
    return {"route-verified": route_is_verified, **more}


def _keeper(run: Run) -> Keeper:
    try:
        return Keeper.open(run)
    except (StoreRefusedError, SigningRefusedError) as e:
        raise guards.RefusedError(f"evidence: {e}") from e


@contextmanager
def _guarded(admission: Admission, run: Run, tape: JournalTape) -> Iterator[None]:
    """Go on looking at the guards that count while a drill runs; the first that does not hold calls its halt."""

    def note(failed: guards.GuardResult) -> None:
        tape.record_now("guard-checked", guard=failed.guard, held=False, detail=failed.detail)

    with guards.GuardWatch(admission.during(), run.halt, run.clock, note=note).watching():
        yield


def _by_leave(admission: Admission, lease: DrillLease) -> dict[str, Any]:
    return {
        "leave": admission.leave.to_json() if admission.leave else None,
        "lease": {"where": lease.where, "token": lease.token},
    }


def who_and_what(run: Run, toxiproxy_version: str) -> dict[str, Any]:
    """Return what the journal's first line says of a run."""
    return {
        "drill": run.alias or run.drill.name,
        "target": run.drill.target.region,
        "region": "" if run.alias else run.target,
        "training": bool(run.alias),
        "targets": list(run.targets),
        "regions": list(run.regions),
        "purposes": sorted(run.purposes),
        "cache_seconds": cache_seconds(run.settings),
        "drill_file": run.drill.model_dump(mode="json"),
        "config": run.settings.model_dump(mode="json"),
        "versions": {
            "kms-watchdog": importlib.metadata.version("kms-watchdog"),
            "python": platform.python_version(),
            "boto3": importlib.metadata.version("boto3"),
            "toxiproxy": toxiproxy_version,
        },
        "owner": {"pid": os.getpid(), "host": socket.gethostname()},
        "run_id": run.run_id,
        "slot": run.slot,
        "verdict_schema": verdicts.SCHEMA,
    }


def _by_whom(admission: Admission) -> dict[str, str]:
    leave = admission.leave
    return {"started_by": leave.started_by if leave else "", "reason": leave.reason if leave else ""}


def _judged(run: Run, tape: JournalTape, judge: Callable[[Run], verdicts.Judgement]) -> verdicts.Judgement:
    judgement = judge(run)
    tape.record_now(
        "verdict",
        verdict=str(judgement.verdict),
        claims={claim.name: str(claim.verdict) for claim in judgement.claims},
        figures=dict(judgement.figures),
    )
    return judgement
