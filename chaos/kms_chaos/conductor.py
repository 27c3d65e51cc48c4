"""Conduct a drill: undo record, proxies, baseline, fault, bite, hold, restore, recover, check, verdict.

Whatever happens in between, and whoever stops it, the fault is lifted, the proxies are deleted, the journal says so.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from kms_chaos import alarms, durable, guards, ledger, stage, undo_record
from kms_chaos.drill import Drill
from kms_chaos.faults import route_check, undo
from kms_chaos.faults.blackhole import blackhole
from kms_chaos.faults.route import RouteError
from kms_chaos.faults.toxiproxy import ProxyState, Toxiproxy, ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.halt import Halt, HaltedError, second_timer
from kms_chaos.journal_writer import JournalWriteError, JournalWriter
from kms_chaos.scene import Scene, both_lanes_serve, in_state, steady
from kms_chaos.tape import JournalTape
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_watchdog.config import Settings
from kms_watchdog.drills import verdict as verdicts
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError, folder
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord

_LOOK_SECONDS = 0.2
_BITE_SECONDS = 10.0
_CHECK_SECONDS = 60.0
_TIMER_LEAD_SECONDS = 10.0  # the drill's own timer rings before the daemon's would


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One drill that is about to run."""

    settings: Settings
    drill: Drill
    target: str
    run_id: str
    clock: Clock
    halt: Halt = field(default_factory=Halt)

    @property
    def folder(self) -> DrillFolder:
        """Where its files are."""
        return folder(self.settings.state.dir, self.run_id)

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions of the estate."""
        return self.settings.estate.regions

    @property
    def canaries(self) -> frozenset[tuple[str, str]]:
        """Every canary, by region and purpose."""
        return frozenset((region, purpose) for region in self.regions for purpose in self.settings.keys)

    def alarm_keys(self, rules: tuple[Any, ...]) -> frozenset[tuple[str, str, str]]:
        """Return the alarms of `rules`, for this target."""
        return alarms.keys_of(rules, self.target, self.regions)


class UnmetError(Exception):
    """What a phase waits for did not come in time; the journal shows it, and the judge says what it means."""


def plan(settings: Settings, drill: Drill, *, region: str | None, clock: Clock) -> Run:
    """Return the run of `drill` on `region` (None: the drill's own target), starting now.

    Raises:
        guards.RefusedError: the region is none of the estate's.
        DrillError: it speaks of an alarm that does not exist, or ends before that alarm can fire.
    """
    target = drill.target_region(primary=settings.estate.primary_region, override=region)
    if target not in settings.estate.regions:
        raise guards.RefusedError(f"{target} is not a region of this estate: {', '.join(settings.estate.regions)}")
    run_id = f"{clock.now_utc():%Y%m%dT%H%M%SZ}-{drill.name}"
    timed = drill.for_alarm_period(settings.cloudwatch.period_seconds)
    alarms.check_times(timed, settings.cloudwatch.period_seconds)
    return Run(settings=settings, drill=timed, target=target, run_id=run_id, clock=clock)


def conduct(run: Run, judge: Callable[[Run], verdicts.Judgement], on_air: Callable[[JournalTape], None]) -> None:
    """Run the drill to its verdict, which `judge` gives from the journal; `on_air` gets the tape once there is one.

    Raises:
        guards.RefusedError: a guard did not hold; nothing was touched.
        ToxiproxyError: Toxiproxy does not answer; nothing was touched.
        JournalWriteError: the disk failed; what was broken is restored.
    """
    with ExitStack() as stack:
        stack.enter_context(guards.only_drill(run.settings.state.dir))
        server = stack.enter_context(Toxiproxy(run.settings.drills.toxiproxy_url))
        version, _ = server.version(), server.proxies()  # a server that does not answer ends it here
        target_board = alarms.reading_region(run.settings, run.target)
        keys = alarms.all_keys(run.drill, run.target, run.regions)
        board = alarms.AlarmBoard(run.settings, target_board, keys)
        stack.callback(board.close)
        upstreams = stage.upstreams(run.settings)
        checked = _check_guards(run, board)

        durable.make_folder(run.folder.path)
        stack.enter_context(_owned(run.folder))
        writer = stack.enter_context(JournalWriter(run.folder.journal, run.clock))
        tape = JournalTape(writer, Scene(run.regions))
        on_air(tape)
        tape.record_now("run-started", **_who_and_what(run, version))
        for result in checked:
            tape.record("guard-checked", guard=result.guard, held=result.held, detail=result.detail)
        restored = Conductor(run, server, board, tape, upstreams).perform()
        _finish(run, tape, judge, restored=restored)


def _check_guards(run: Run, board: alarms.AlarmBoard) -> tuple[guards.GuardResult, ...]:
    def route_is_verified() -> str:
        route_check.check(run.clock.now_utc())
        return "a right certificate was accepted; an unknown authority and a wrong name were refused"

    checked = guards.check(
        {
            "nothing-left-over": lambda: guards.nothing_is_left_over(run.settings.state.dir),
            "route-verified": route_is_verified,
            "daemon-watches": lambda: guards.daemon_watches(run.settings),
            "alarms-quiet": lambda: guards.alarms_are_quiet(board),
        }
    )
    if failed := [result for result in checked if not result.held]:
        raise guards.RefusedError("; ".join(f"{result.guard}: {result.detail}" for result in failed))
    return checked


@contextmanager
def _owned(where: DrillFolder) -> Iterator[None]:
    try:
        with where.owned():
            yield
    except FolderBusyError as e:
        raise guards.RefusedError(str(e)) from e


def _who_and_what(run: Run, toxiproxy_version: str) -> dict[str, Any]:
    return {
        "drill": run.drill.name,
        "target": run.drill.target.region,
        "region": run.target,
        "regions": list(run.regions),
        "purposes": sorted(run.settings.keys),
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
        "verdict_schema": verdicts.SCHEMA,
    }


def _finish(run: Run, tape: JournalTape, judge: Callable[[Run], verdicts.Judgement], *, restored: bool) -> None:
    judgement = judge(run)
    tape.record_now(
        "verdict",
        verdict=str(judgement.verdict),
        claims={claim.name: str(claim.verdict) for claim in judgement.claims},
    )
    if restored:  # else the journal stays open, and whoever finds it heals
        tape.record_now("closed", by="drill", verdict=str(judgement.verdict))


class Conductor:
    """Takes one run through its phases."""

    def __init__(
        self,
        run: Run,
        server: Toxiproxy,
        board: alarms.AlarmBoard,
        tape: JournalTape,
        upstreams: Mapping[str, str],
    ) -> None:
        self._run, self._server, self._board, self._tape = run, server, board, tape
        self._clock, self._halt, self._drill = run.clock, run.halt, run.drill
        self._rng = random.Random(run.run_id)  # noqa: S311 - synthetic plaintexts, repeatable by the run's name
        self._restored = True
        self._record = undo_record.plan(
            run_id=run.run_id,
            drill=run.drill,
            target=run.target,
            upstreams=upstreams,
            toxiproxy_url=server.url,
            now_utc=run.clock.now_utc(),
        )

    def perform(self) -> bool:
        """Do it all up to the judging, and return whether everything is verified to be as it was."""
        try:
            with ExitStack() as stack:
                stack.callback(self._delete_proxies)
                self._save_undo(self._record)
                proxies = stage.create_proxies(self._server, self._record)
                watch = alarms.AlarmWatch(self._board, self._tape, self._clock)
                scene = stage.set_up(
                    stack, self._run.settings, self._drill, self._tape, self._clock, self._rng,
                    proxies=proxies, run_id=self._run.run_id,
                )  # fmt: skip
                stack.callback(watch.stop)
                watch.start()
                self._play(scene)
        except (HaltedError, UnmetError) as e:
            self._interrupted(str(e))
        except (ToxiproxyError, KmsCoreError, RouteError) as e:
            self._interrupted(f"{type(e).__name__}: {e}")
        except JournalWriteError:
            raise
        except Exception as e:  # noqa: BLE001 - a drill that crashed still restores, says so, and is judged
            traceback.print_exc(file=sys.stderr)
            self._interrupted(f"crashed: {type(e).__name__}: {e}")
        return self._restored

    def _play(self, scene: stage.Stage) -> None:
        scene.workload.start()
        scene.canaries.start()
        self._baseline(scene)
        self._with_fault(scene)
        self._recover()
        self._phase("check")
        scene.workload.stop()
        scene.canaries.stop()
        self._check_messages(scene, "check", self._run.regions)

    def _baseline(self, scene: stage.Stage) -> None:
        self._phase("baseline")
        timing, since = self._drill.timing, self._tape.seconds
        twins = self._run.alarm_keys((*self._drill.alarms.must_fire, *self._drill.alarms.must_clear))

        def met() -> bool:
            view = self._tape.view()
            return (
                view.at - since >= timing.baseline_at_least_seconds
                and steady(view, since=since, expected=self._run.canaries)
                and both_lanes_serve(view, since=since)
                and in_state(view, twins, "OK")
            )

        if not self._wait_for(met, timing.baseline_at_most_seconds):
            raise UnmetError("the steady state was not there before the fault, so none was injected")
        self._check_messages(scene, "baseline", self._run.regions)

    def _with_fault(self, scene: stage.Stage) -> None:
        self._phase("inject")
        target = next(proxy for proxy in self._record.proxies if proxy.region == self._run.target)
        self._save_undo(undo_record.until(self._record, self._clock.now_utc(), self._drill.longest_fault_seconds))
        with self._limited(), blackhole(self._server, target, lifted=self._lifted) as state:
            self._injected(target, state)
            try:
                self._hold(scene)
            finally:
                self._phase("restore")
        recovery = self._drill.slowest_clear_seconds + self._drill.objectives.rto_seconds + _CHECK_SECONDS
        self._save_undo(undo_record.until(self._record, self._clock.now_utc(), recovery))

    def _injected(self, proxy: ProxyUndo, state: ProxyState) -> None:
        self._tape.record_now(
            "fault-injected",
            fault=self._drill.fault.kind,
            region=proxy.region,
            proxy=proxy.name,
            toxics=[dict(toxic) for toxic in state.toxics],
            enabled=state.enabled,
        )

    def _lifted(self, state: ProxyState) -> None:
        self._tape.record_now(
            "fault-removed",
            region=self._run.target,
            proxy=state.name,
            by="drill",
            enabled=state.enabled,
            toxics_left=list(state.toxic_names),
        )

    def _hold(self, scene: stage.Stage) -> None:
        since = self._tape.seconds
        if not self._wait_for(lambda: self._tape.view().target_failures_since_fault > 0, _BITE_SECONDS):
            raise UnmetError("the fault did not bite: no request through the proxy failed")
        self._phase("hold")
        firing = self._run.alarm_keys(self._drill.alarms.must_fire)
        survivors = tuple(region for region in self._run.regions if region != self._run.target)
        self._wait_for(lambda: self._tape.seconds - since >= self._drill.timing.hold_at_least_seconds / 2, 3600.0)
        self._check_messages(scene, "hold", survivors)

        def met() -> bool:
            view = self._tape.view()
            return view.at - since >= self._drill.timing.hold_at_least_seconds and in_state(view, firing, "ALARM")

        self._wait_for(met, self._drill.timing.hold_at_most_seconds - (self._tape.seconds - since))

    def _recover(self) -> None:
        self._phase("recover")
        since = self._tape.seconds
        clearing = self._run.alarm_keys(self._drill.alarms.must_clear)

        def met() -> bool:
            view = self._tape.view()
            closed = all(state == "closed" for state in view.breakers.values())
            return closed and in_state(view, clearing, "OK") and steady(view, since=since, expected=self._run.canaries)

        self._wait_for(met, max(self._drill.slowest_clear_seconds, self._drill.objectives.rto_seconds))

    def _check_messages(self, scene: stage.Stage, when: str, regions: tuple[str, ...]) -> None:
        ledger.check(
            scene.core, scene.ledger, self._tape, when=when, regions=regions,
            purposes=self._run.settings.keys, halt=self._halt.event, rng=self._rng,
        )  # fmt: skip
        if self._halt.event.is_set():
            raise HaltedError(self._halt.reason)

    def _wait_for(self, met: Callable[[], bool], seconds: float) -> bool:
        until = self._clock.monotonic() + seconds
        while not met():
            left = until - self._clock.monotonic()
            if left <= 0:
                return False
            self._halt.pause(self._clock, min(_LOOK_SECONDS, left))
        return True

    def _phase(self, phase: str) -> None:
        self._tape.record_now("phase-started", phase=phase)

    def _interrupted(self, reason: str) -> None:
        self._tape.record_now("interrupted", reason=reason)

    def _save_undo(self, record: UndoRecord) -> None:
        """Put the undo record on disk first, then say so in the journal."""
        undo_record.write(self._run.folder, record)
        self._record = replace(record)
        self._tape.record_now("undo-recorded", undo=record.to_json())

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """End the fault, and the drill, shortly before its time is up, whatever the conductor is busy with."""

        def time_up() -> None:
            self._halt.call("time is up")
            undo.undo(self._server, self._record)

        left = (self._record.expires_at_utc - self._clock.now_utc()).total_seconds() - _TIMER_LEAD_SECONDS
        executor = threading.Thread(target=time_up, name="time-up", daemon=True)
        with second_timer(self._clock, left, threading.Event(), executor):
            yield

    def _delete_proxies(self) -> None:
        """Delete the drill's proxies, and say what is left of it on the server: the last step of every drill."""
        left, finding = self._what_is_left()
        self._restored = not left
        self._tape.record_now("restore-verified", proxies_left=list(left), by="drill", finding=finding)

    def _what_is_left(self) -> tuple[tuple[str, ...], str]:
        try:
            undo.undo(self._server, self._record)
            return undo.left(self._server, self._record), "read back from the server"
        except ToxiproxyUnreachableError as e:
            if e.refused:
                return (), "the server is gone, and its state with it"
            return tuple(proxy.name for proxy in self._record.proxies), str(e)
        except ToxiproxyError as e:
            return tuple(proxy.name for proxy in self._record.proxies), str(e)
