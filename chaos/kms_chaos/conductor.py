"""Conduct a drill: undo record, proxies, baseline, fault, bite, hold, restore, recover, check, verdict.

Whatever happens in between, and whoever stops it, the fault is lifted, the proxies are deleted, the journal says so.
"""

from __future__ import annotations

import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import MappingProxyType

from kms_chaos import alarms, ledger, stage, undo_record
from kms_chaos.actions import Actions
from kms_chaos.faults import undo
from kms_chaos.faults.apply import Shown, Site, applied
from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.plans import Ordered, bite
from kms_chaos.faults.route import RouteError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.halt import HaltedError, second_timer
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.judging.workload_and_breaker import LEAST_OPERATIONS
from kms_chaos.lease import FencedError, LeaseUnreachableError
from kms_chaos.run import Run
from kms_chaos.scene import all_closed, both_lanes_serve, in_state, steady
from kms_chaos.tape import JournalTape
from kms_chaos.timeline import Timeline
from kms_core.errors import KmsCoreError
from kms_watchdog.drills.undo import UndoRecord

_LOOK_SECONDS = 0.2
_BITE_SECONDS = 10.0
_CHECK_SECONDS = 60.0
_SETTLE = 2.0
"""How many times the least number of operations a recovery drill goes on for once all is well."""
_TIMER_LEAD_SECONDS = 10.0  # the drill's own timer rings before the daemon's would


class UnmetError(Exception):
    """What a phase waits for did not come in time; the journal shows it, and the judge says what it means."""


class Conductor:
    """Takes one run through its phases."""

    def __init__(
        self,
        run: Run,
        server: Toxiproxy,
        board: alarms.AlarmBoard,
        tape: JournalTape,
        upstreams: Mapping[str, str],
        may_act: Callable[[], None] = lambda: None,
        services: Mapping[stage.Where, str] = MappingProxyType({}),
    ) -> None:
        """Take `run` through its phases; `may_act` is asked right before each fault, and raises when it may not be.

        `upstreams` is where each region's KMS is, `services` where the services beside it are that are to be hurt.
        """
        self._may_act = may_act
        self._ends = (*(("kms", region) for region in upstreams), *services)
        self._run, self._server, self._board, self._tape = run, server, board, tape
        self._clock, self._halt, self._drill = run.clock, run.halt, run.drill
        self._rng = random.Random(run.run_id)  # noqa: S311 - synthetic plaintexts, repeatable by the run's name
        self._restored = False
        self._record = undo_record.plan(
            run_id=run.run_id,
            drill=run.drill,
            faults=run.faults,
            upstreams=upstreams,
            services=services,
            toxiproxy_url=server.url,
            now_utc=run.clock.now_utc(),
        )

    def perform(self) -> bool:
        """Do it all up to the judging, and return whether everything is verified to be as it was."""
        try:
            with ExitStack() as stack:
                stack.callback(self._delete_proxies)
                self._save_undo(self._record)
                created = stage.create_proxies(self._server, self._record)
                scene = self._set_up(stack, created)
                self._play(scene)
        except (HaltedError, UnmetError) as e:
            self._interrupted(str(e))
        except (FencedError, LeaseUnreachableError) as e:
            self._interrupted(f"the drill lease: {e}")
        except (ToxiproxyError, KmsCoreError, RouteError) as e:
            self._interrupted(f"{type(e).__name__}: {e}")
        except JournalWriteError:
            raise
        except Exception as e:  # noqa: BLE001 - a drill that crashed still restores, says so, and is judged
            traceback.print_exc(file=sys.stderr)
            self._interrupted(f"crashed: {type(e).__name__}: {e}")
        return self._restored

    def _set_up(self, stack: ExitStack, created: Mapping[str, ProxyState]) -> stage.Stage:
        """Set up what the drill plays on, and begin to watch the alarms; all ends with `stack`."""
        watch = alarms.AlarmWatch(self._board, self._tape, self._clock)
        scene = stage.set_up(
            stack, self._run.settings, self._drill, self._tape, self._clock, self._rng,
            proxies={where: created[self._proxy_name(where)] for where in self._ends},
            up=frozenset(self._run.regions) - frozenset(self._run.hurt),
            purposes=self._run.purposes, run_id=self._run.run_id, folder=self._run.folder.path,
            make_core=self._run.make_core, make_watchdog=self._run.make_watchdog,
        )  # fmt: skip
        stack.callback(watch.stop)
        watch.start()
        return scene

    def _play(self, scene: stage.Stage) -> None:
        scene.workload.start()
        scene.canaries.start()
        scene.probes.start()
        scene.watchdog.begin()
        self._baseline(scene)
        self._with_faults(scene)
        self._recover(scene)
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
                and all_closed(view)
                and in_state(view, twins, "OK")
                and scene.watchdog.ready()
            )

        if not self._wait_for(met, timing.baseline_at_most_seconds):
            raise UnmetError("the steady state was not there before the fault, so none was injected")
        self._check_messages(scene, "baseline", self._run.regions)

    def _with_faults(self, scene: stage.Stage) -> None:
        self._phase("inject")
        self._save_undo(undo_record.until(self._record, self._clock.now_utc(), self._drill.longest_fault_seconds))
        with self._limited(), Timeline(self._run.faults, lambda order: self._fault(order, scene)) as timeline:
            since = self._tape.seconds
            actions = Actions(self._drill.actions, scene.new_core, self._tape, self._clock, purposes=self._run.purposes)
            timeline.turn(0.0)

            def turn() -> None:
                timeline.turn(self._tape.seconds - since)
                actions.turn(self._tape.seconds - since)
                scene.watchdog.turn(self._tape.seconds - since)

            try:
                self._hold(scene, turn)
            finally:
                self._phase("restore")
        recovery = self._drill.slowest_clear_seconds + self._drill.objectives.rto_seconds + _CHECK_SECONDS
        self._save_undo(undo_record.until(self._record, self._clock.now_utc(), recovery))

    @contextmanager
    def _fault(self, order: Ordered, scene: stage.Stage) -> Iterator[None]:
        """Put one fault on for the block; the journal says what was seen of it, on and off again."""
        where = (order.service, order.region)
        site = Site(
            server=self._server,
            proxy=next(proxy for proxy in self._record.proxies if proxy.name == self._proxy_name(where)),
            line=scene.lines[order.region] if order.service == "kms" else scene.service_lines[where],
            clock=self._clock,
            rng=self._rng,
            stop=self._halt.event,
            orders=scene.orders,
        )

        def note(event: str, shown: Shown) -> None:
            self._tape.record_now(event, fault_id=order.id, fault=order.kind, region=order.region, **shown)

        lifted = partial(note, "fault-removed")
        self._may_act()
        with applied(order, site, lifted=lambda shown: lifted({**shown, "by": "drill"})) as shown:
            note("fault-injected", {**shown, "bite": bite(order.plan).to_json()})
            yield

    def _hold(self, scene: stage.Stage, turn: Callable[[], None]) -> None:
        since, timing = self._tape.seconds, self._drill.timing
        if not self._wait_for(lambda: self._tape.view().every_fault_bit, _BITE_SECONDS, turn):
            raise UnmetError("the fault did not bite: no request through the proxy failed")
        self._phase("hold")
        firing = self._run.alarm_keys(self._drill.alarms.must_fire)
        survivors = tuple(region for region in self._run.regions if region not in self._run.hurt)
        self._wait_for(lambda: False, timing.hold_at_least_seconds / 2 - (self._tape.seconds - since), turn)
        if survivors:
            self._check_messages(scene, "hold", survivors)

        def met() -> bool:
            view = self._tape.view()
            fired = view.at - since >= timing.hold_at_least_seconds and in_state(view, firing, "ALARM")
            return fired and scene.watchdog.settled()

        self._wait_for(met, timing.hold_at_most_seconds - (self._tape.seconds - since), turn)

    def _proxy_name(self, where: stage.Where) -> str:
        service, region = where
        return undo_record.proxy_name(self._run.run_id, region, service)

    def _recover(self, scene: stage.Stage) -> None:
        self._phase("recover")
        since, since_monotonic = self._tape.seconds, self._clock.monotonic()
        clearing = self._run.alarm_keys(self._drill.alarms.must_clear)

        def met() -> bool:
            view = self._tape.view()
            watched = scene.watchdog.well(since=since_monotonic)
            return (
                watched
                and all_closed(view)
                and in_state(view, clearing, "OK")
                and steady(view, since=since, expected=self._run.canaries)
            )

        well = self._wait_for(met, max(self._drill.slowest_clear_seconds, self._drill.objectives.rto_seconds))
        if well and self._drill.mode == "recovery":  # judged from now on: there must be something to judge by
            self._wait_for(lambda: False, _SETTLE * LEAST_OPERATIONS / self._drill.workload.operations_per_second)

    def _check_messages(self, scene: stage.Stage, when: str, regions: tuple[str, ...]) -> None:
        ledger.check(
            scene.core, scene.ledger, self._tape, when=when, regions=regions,
            purposes=self._run.purposes, halt=self._halt.event, rng=self._rng,
        )  # fmt: skip
        if self._halt.event.is_set():
            raise HaltedError(self._halt.reason)

    def _wait_for(self, met: Callable[[], bool], seconds: float, turn: Callable[[], None] = lambda: None) -> bool:
        """Wait until `met`, at most so long, and return whether it was; `turn` is called at each look."""
        until = self._clock.monotonic() + seconds
        while True:
            turn()  # first: what was due while the conductor was busy is done, also when nothing is left to wait for
            if met():
                return True
            left = until - self._clock.monotonic()
            if left <= 0:
                return False
            self._halt.pause(self._clock, min(_LOOK_SECONDS, left))

    def _phase(self, phase: str) -> None:
        self._tape.record_now("phase-started", phase=phase)

    def _interrupted(self, reason: str) -> None:
        self._tape.record_now("interrupted", reason=reason)

    def _save_undo(self, record: UndoRecord) -> None:
        """Put the undo record on disk first, then say so in the journal."""
        undo_record.write(self._run.folder, record)
        self._record = record
        self._tape.record_now("undo-recorded", undo=record.to_json())

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """End the fault, and the drill, shortly before its time is up, whatever the conductor is busy with."""

        def time_up() -> None:
            self._halt.call("time is up")
            with suppress(ToxiproxyError):  # what it leaves, the last step of every drill finds and tells
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
