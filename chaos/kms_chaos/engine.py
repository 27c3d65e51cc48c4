"""The engine around a drill: guards before, the folder and its journal, the conductor, and the verdict at the end."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from kms_chaos import alarms, durable, guards, notify, stage
from kms_chaos.conductor import Conductor
from kms_chaos.evidence.keeper import Keeper
from kms_chaos.evidence.signing import SigningRefusedError
from kms_chaos.evidence.store import StoreRefusedError
from kms_chaos.faults import route_check
from kms_chaos.guards.admission import Admission
from kms_chaos.guards.services import services_are_allowed
from kms_chaos.halt import HaltedError
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.lease import DrillLease, FaultNote, FencedError, LeaseUnreachableError, before_acting, held
from kms_chaos.lease_choice import lease_of
from kms_chaos.run import Run, cache_seconds
from kms_chaos.scene import Scene
from kms_chaos.tape import JournalTape
from kms_chaos.undo_record import MARGIN_SECONDS
from kms_watchdog.drills import verdict as verdicts
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError


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
        stack.enter_context(_admitted(lease, run))
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
        _claim_slot(lease, run)

        durable.make_folder(run.folder.path)
        stack.enter_context(_owned(run.folder))
        _note_fault(lease, run)
        writer = stack.enter_context(JournalWriter(run.folder.journal, run.clock))
        tape = JournalTape(writer, Scene(run.regions))
        on_air(tape)
        tape.record_now("run-started", **_who_and_what(run, version), **evidence, **_by_leave(admission, lease))
        for result in checked:
            tape.record("guard-checked", guard=result.guard, held=result.held, detail=result.detail)
        with notify.notifying(run, tape.record, **_by_whom(admission)) as telling:
            with keeper.streaming(writer, tape.record), _guarded(admission, run, tape):
                may_act = partial(before_acting, lease)
                restored = conductor(run, server, board, tape, upstreams, may_act, services).perform()
            _settle(lease, run, tape, restored=restored)
            judgement = _judged(run, tape, judge)
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


@contextmanager
def _admitted(lease: DrillLease, run: Run) -> Iterator[None]:
    try:
        with held(lease, run.halt, run.clock):
            yield
    except HaltedError as e:
        raise guards.RefusedError(f"halted before it began: {e}") from e


def _claim_slot(lease: DrillLease, run: Run) -> None:
    """Claim the run's slot, if it fills one.

    Raises:
        guards.RefusedError: the slot has had its drill, or the lease is lost.
    """
    planned = run.settings.drills.slots.get(run.slot.partition("/")[0])
    again = planned is not None and planned.again_after_abort
    with _refused_without_lease():
        if run.slot and not lease.claim_slot(run.slot, again=again):
            raise guards.RefusedError(f"slot {run.slot} has had its drill: {lease.where} says so")


def _note_fault(lease: DrillLease, run: Run) -> None:
    """Note in the lease until when the run may break something; its folder, where a healer looks, is there by then.

    Raises:
        guards.RefusedError: the lease is lost; the folder is gone again.
    """
    drill = run.drill
    recovery = drill.slowest_clear_seconds + drill.objectives.rto_seconds
    longest = drill.timing.baseline_at_most_seconds + drill.longest_fault_seconds + recovery + 3 * MARGIN_SECONDS
    until = run.clock.now_utc() + timedelta(seconds=longest)
    note = FaultNote(run_id=run.run_id, host=socket.gethostname(), token=lease.token, expires_at_utc=until)
    try:
        with _refused_without_lease():
            lease.record_fault(note)
    except guards.RefusedError:
        run.folder.path.rmdir()
        raise


@contextmanager
def _refused_without_lease() -> Iterator[None]:
    try:
        yield
    except (FencedError, LeaseUnreachableError) as e:
        raise guards.RefusedError(f"the drill lease: {e}") from e


def _settle(lease: DrillLease, run: Run, tape: JournalTape, *, restored: bool) -> None:
    """Tell the lease what came of the run: best effort, what it does not learn only makes the next drill wait."""
    try:
        if restored:
            lease.settle_fault(run.run_id)
        if run.slot and not run.halt.event.is_set():
            lease.finish_slot(run.slot)
    except (FencedError, LeaseUnreachableError) as e:
        tape.record_now("lease-unsettled", error=str(e))


def _keeper(run: Run) -> Keeper:
    try:
        return Keeper.open(run)
    except (StoreRefusedError, SigningRefusedError) as e:
        raise guards.RefusedError(f"evidence: {e}") from e


@contextmanager
def _owned(where: DrillFolder) -> Iterator[None]:
    try:
        with where.owned():
            yield
    except FolderBusyError as e:
        raise guards.RefusedError(str(e)) from e


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


def _who_and_what(run: Run, toxiproxy_version: str) -> dict[str, Any]:
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
