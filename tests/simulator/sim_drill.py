"""A drill and a healer as processes of the simulator: their own code, over a Toxiproxy and a table in memory.

What is left out is what a drill looks with (cores, canaries, alarms, over TLS): phases last as long as they are told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sim_toxiproxy import SimToxiproxy
from virtual_time import Process, TurnLock, World

from kms_chaos import durable, heal, tenure
from kms_chaos.conductor import Conductor
from kms_chaos.drill import find
from kms_chaos.engine import who_and_what
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.guards import before
from kms_chaos.guards.admission import earlier_fault_is_over
from kms_chaos.guards.checking import NotHeldError, RefusedError
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.lease import DrillLease, LeaseUnreachableError, before_acting
from kms_chaos.lease_dynamo import DynamoLease
from kms_chaos.lease_file import FileLease
from kms_chaos.run import Run, plan
from kms_chaos.scene import Scene
from kms_chaos.tape import JournalTape
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.slots import Slot

if TYPE_CHECKING:
    from sim_table import Table
    from sim_toxiproxy import Server

BROKE, USAGE, UNCLEAR, REFUSED = 1, 2, 3, 4
BASELINE_SECONDS, HOLD_SECONDS, RECOVER_SECONDS = 10.0, 60.0, 30.0
UPSTREAM = "kms.{region}.amazonaws.com:443"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a process of the simulator is."""

    world: World
    settings: Settings
    clock: Clock
    server: Server
    table: Table | None
    """None: the lease is the state folder's own."""
    step: Callable[[str], None]
    """Called at each point where the process may be stopped, killed or overtaken."""
    acted: Callable[[str], None] = lambda _run_id: None
    """Called between the last look at the lease and the fault."""

    def lease(self, run_id: str) -> DrillLease:
        """Return the drill lease, not acquired."""
        table = self.settings.drills.lease
        if self.table is None or table is None:
            return FileLease(self.settings.state.dir)
        made = DynamoLease(
            self.table.client(self.step), self.clock, table=table.table, name=self.settings.estate.name,
            ttl_seconds=table.ttl_seconds, run_id=run_id,
        )  # fmt: skip
        made._lock = TurnLock(self.world)  # type: ignore[assignment]
        return made

    def reach(self, url: str) -> SimToxiproxy:
        """Return this host's Toxiproxy, whatever `url` says."""
        return SimToxiproxy(url, self.server, self.step)


class SteppingTape(JournalTape):
    """A tape at which a process may be stopped before and after each line."""

    def __init__(self, writer: JournalWriter, regions: tuple[str, ...], step: Callable[[str], None]) -> None:
        super().__init__(writer, Scene(regions))
        self._step = step
        self.interrupted = False

    def record(self, event: str, **fields: Any) -> None:
        """Note `event`."""
        self.record_now(event, **fields)

    def record_now(self, event: str, **fields: Any) -> None:
        """Note `event`, on disk."""
        self._step(f"{event} is to be written")
        super().record_now(event, **fields)
        self.interrupted = self.interrupted or event == "interrupted"
        self._step(f"{event} is written")


class SimConductor(Conductor):
    """The conductor, with phases that last as long as they are told to and look at nothing."""

    def _set_up(self, stack: ExitStack, created: Mapping[str, ProxyState]) -> Any:
        del stack, created
        line = SimpleNamespace(proxy_lock=threading.RLock())
        return SimpleNamespace(
            lines=dict.fromkeys(self._run.regions, line), service_lines={}, orders=None, new_core=None,
            watchdog=SimpleNamespace(turn=lambda _elapsed: None),
        )  # fmt: skip

    def _play(self, scene: Any) -> None:
        self._phase("baseline")
        self._halt.pause(self._clock, BASELINE_SECONDS)
        self._with_faults(scene)
        self._phase("recover")
        self._halt.pause(self._clock, RECOVER_SECONDS)

    def _hold(self, scene: Any, turn: Callable[[], None]) -> None:
        del scene
        self._phase("hold")
        self._wait_for(lambda: False, HOLD_SECONDS, turn)


def run_of(where: Surroundings, slot: Slot | None, run_id: str, drill: str, region: str | None) -> Run:
    """Return the run that a daemon would start for a slot."""
    made = plan(
        where.settings, find(drill), region=region, clock=where.clock, run_id=run_id, slot=slot.id if slot else ""
    )
    return replace(made, reach=where.reach)


def drill(where: Surroundings, run: Run) -> int:
    """Do what the engine does around a conductor, from the lease to the last line; return the exit code.

    Of the guards those that keep drills apart are asked: leftovers, the earlier holder's fault, a halt.
    """
    lease = where.lease(run.run_id)
    try:
        with ExitStack() as stack:
            stack.enter_context(tenure.admitted(lease, run))
            server = stack.enter_context(where.reach(run.settings.drills.toxiproxy_url))
            version = server.version()
            _guards(lease, run)
            writer = stack.enter_context(tenure.begun(lease, run))
            tape = SteppingTape(writer, run.regions, where.step)
            tape.record_now("run-started", **who_and_what(run, version))
            upstreams = {region: UPSTREAM.format(region=region) for region in run.regions}

            def may_act() -> None:
                before_acting(lease)
                where.acted(run.run_id)

            restored = SimConductor(run, server, _NO_BOARD, tape, upstreams, may_act).perform()
            tenure.settle(lease, run, tape, restored=restored)
            verdict = "INCONCLUSIVE" if tape.interrupted or not restored else "HELD"
            tape.record_now("verdict", verdict=verdict, claims={}, figures={})
            tenure.finish(lease, run, tape)
            if restored:
                tape.record_now("closed", by="drill", verdict=verdict)
            _seal(run.folder)
            return 0 if verdict == "HELD" else BROKE
    except tenure.SlotTakenError as e:
        return 0 if e.done else UNCLEAR
    except (RefusedError, NotHeldError):
        return REFUSED
    except ToxiproxyError:
        return USAGE
    finally:
        if isinstance(lease, FileLease):
            lease.release()  # as the kernel does for the dead: who unwinds may die again before he comes to it


_NO_BOARD: Any = None  # nothing of the stage that would read alarms is set up


def _guards(lease: DrillLease, run: Run) -> None:
    state_dir: Path = run.settings.state.dir
    before.nobody_halts(state_dir)
    before.nothing_is_left_over(state_dir)
    try:
        earlier_fault_is_over(lease, run, run.clock)
    except LeaseUnreachableError as e:
        raise RefusedError(str(e)) from e


def _seal(found: DrillFolder) -> None:
    """Stand for the keeper of evidence, which is not simulated: a run without its manifest is sealed by healers."""
    durable.write(found.manifest, b"{}\n")


def healer(where: Surroundings, run_id: str) -> int:
    """Do what `kms-chaos heal --run` does: undo, finish the journal, tell the lease; return the exit code."""
    found = folder(where.settings.state.dir, run_id)
    where.step("heal begins")
    try:
        heal.heal(found, where.clock, toxiproxy_url=where.settings.drills.toxiproxy_url, reach=where.reach)
    except heal.OwnerLivesError:
        return REFUSED
    except ToxiproxyError:
        return BROKE
    where.step("healed")
    _seal(found)
    try:
        tenure.settle_dead(where.lease(run_id), found)
    except LeaseUnreachableError:
        return BROKE
    return 0


@dataclass
class SimChild:
    """A process that a daemon has started, as `subprocess.Popen` shows it."""

    process: Process
    told: Callable[[str], None] = lambda _signal: None

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return None if self.process.running else self.process.exit_code

    def send_signal(self, sig: int) -> None:
        """Tell it to restore and end."""
        self.told(f"signal {sig}")

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        del timeout
        while self.process.running:
            self.process.world.sleep(0.01)
        return self.process.exit_code or 0
