"""The rounds: a drill and a watchdog at work, blows at drawn instants, a look at what is missing and what is left."""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from kill_arena import CLOCK, SECONDS, Arena, Service
from kill_figures import Figures
from kill_ledger import (
    Kept,
    Metric,
    damage,
    drills_at_once,
    faults_left,
    lost_history,
    lost_journals,
    lost_metrics,
    not_closed,
    read_kept,
    told_and_not_kept,
)
from kill_plan import Blow, Round, rounds
from killed_drills import FAULTS
from waiting import wait_until

from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folder
from kms_watchdog.state_folder import StateError

FLUSH_SECONDS = 5.0
"""The history is written every second: so long after `/metrics` told of a look, it is kept on a busy machine too."""
RECOVER_SECONDS = 90.0
_LOOK_SECONDS = 0.5
_ASK_SECONDS = 0.25
"""Between two questions whether something has come true: whoever is asked has work to do."""
_REFUSED = 4
_TRIES = 5


@dataclass
class Life:
    """One life of the daemon, and what it told of itself."""

    kept_at_start: int
    """How many looks there were before it began."""
    told: list[tuple[float, int]] = field(default_factory=list)
    """When, by `lived`, and how many looks it had made."""
    stood_still: float = 0.0
    """Seconds."""

    def due(self, now: float) -> int:
        """Return how many looks must be kept at `now`."""
        return max((count for at, count in self.told if at + FLUSH_SECONDS <= now - self.stood_still), default=0)

    def tell(self, now: float, count: int) -> None:
        """Note what it said; time in which it stood still does not count."""
        self.told.append((now - self.stood_still, count))


@dataclass
class Torture:
    """Strikes, starts again, and compares."""

    arena: Arena
    figures: Figures
    say: Callable[[str], object] = print
    before: Kept = field(default_factory=Kept)
    """The last that was read: all of it must be in whatever is read later."""
    metrics: set[Metric] = field(default_factory=set)
    """Have waited, and are not known to be delivered."""
    doubtful: set[Metric] = field(default_factory=set)
    """Of them, those that waited when the local AWS died, which forgets what it has answered."""
    life: Life = field(default_factory=lambda: Life(0))
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _recovering: set[str] = field(default_factory=set)
    _away: set[str] = field(default_factory=set)
    """Down, or standing still."""
    _drills: dict[str, Service] = field(default_factory=dict)
    _killed: dict[str, datetime] = field(default_factory=dict)
    """Drills that were killed, and when."""
    _looked: float = 0.0
    _asked: float = 0.0

    def run(self, kills: int) -> None:
        """Go on until so many were killed, or something is missing or left."""
        for one in rounds(self.figures.seed, tuple(FAULTS)):
            self.play(one)
            if self.figures.findings or self.figures.kills.total() >= kills:
                return

    def play(self, one: Round) -> None:
        """Play one round to its end, and print its line."""
        name = f"{one.number:04}-{one.fault}"
        drill = self._begin_drill(one.fault, name)
        begun = CLOCK.monotonic()
        for blow in one.blows:
            self._at(begun + blow.after_seconds, lambda blow=blow: self._strike(blow, drill, name))  # type: ignore[misc] # bound now
        if one.rival_after_seconds is not None:
            self._at(begun + one.rival_after_seconds, lambda: self._start_drill(one.fault, f"{name}-rival"))
        self._wait(lambda: not self._events and not self._recovering, "all blows fall and all recover")
        self._wait(self._drills_ended, "its drills end")
        self._wait(self._all_closed, "what was killed is healed")
        self._look_at_all()
        self.figures.rounds += 1
        self.figures.load.append(os.getloadavg()[0])
        blows = "; ".join(map(str, one.blows))
        findings = "nothing is missing, nothing is left" if not self.figures.findings else str(self.figures.findings)
        self.say(f"round {one.number} of seed {self.figures.seed}: {one.fault}: {blows}: {findings}")

    def finish(self) -> None:
        """See that every metric that ever waited was delivered in the end."""
        self._wait(self._all_delivered, "the queue drains")

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def _wait(self, what: Callable[[], bool], says: str) -> None:
        """Do what is due, and look at what the daemon tells, until `what`; a deadline passed is a finding's."""
        wait_until(lambda: self._turn() and what(), says=says, seconds=SECONDS)

    def _turn(self) -> bool:
        """Do what is due; return whether it is time to ask again."""
        while self._events and self._events[0][0] <= CLOCK.monotonic():
            heapq.heappop(self._events)[2]()
        now = CLOCK.monotonic()
        if now - self._asked < _ASK_SECONDS:
            return False
        self._asked = now
        for name in sorted(self._recovering):
            service = self.arena.services[name]
            if self.arena.recovered(name):
                self._recovering.discard(name)
                self._note_recovery(name, service)
            else:
                assert now - service.started < RECOVER_SECONDS, f"{name} does not recover: see {service.log}"
        if now - self._looked > _LOOK_SECONDS and "daemon" not in self._away and self.arena.tells_of_itself():
            self._looked = now
            count = self.arena.live_looks()
            self.life.tell(CLOCK.monotonic(), count)  # after the answer, however long that took
        return True

    def _begin_drill(self, fault: str, run_id: str) -> Service:
        """Start a drill, once more when its guards refuse it: on a busy machine a look may come too late for them."""
        for _ in range(_TRIES):
            self._wait(self.arena.is_well, "the daemon calls all well")
            self._start_drill(fault, run_id)
            drill = self._drills[run_id]
            self._wait(lambda drill=drill: drill.ended or self._has_begun(run_id), "the drill begins")  # type: ignore[misc] # bound now
            if self._has_begun(run_id):
                break
            self._drills_ended()
        return drill

    def _has_begun(self, run_id: str) -> bool:
        return folder(self.arena.state, run_id).journal.exists()

    def _start_drill(self, fault: str, run_id: str) -> None:
        self._drills[run_id] = self.arena.start_drill(fault, run_id)

    def _strike(self, blow: Blow, drill: Service, run_id: str) -> None:
        service = drill if blow.victim == "drill" else self.arena.services[blow.victim]
        if blow.kills:
            self._kill(blow, service, run_id)
        elif service.signal(signal.SIGSTOP):
            self.figures.stops[blow.victim] += 1
            self._away.add(blow.victim)
            since = CLOCK.monotonic()
            self._at(since + blow.away_seconds, lambda: self._continue(blow, service, since))
        else:
            self.figures.missed[blow.victim] += 1

    def _kill(self, blow: Blow, service: Service, run_id: str) -> None:
        self._acknowledge()
        if blow.victim == "aws":
            self._settle_deliveries()
        writes = self.arena.writes.last
        if not service.signal(signal.SIGKILL):
            self.figures.missed[blow.victim] += 1
            return
        self.figures.kills[blow.victim] += 1
        died = CLOCK.monotonic()
        self._away.add(blow.victim)
        match blow.victim:
            case "drill":
                self._killed[run_id] = CLOCK.now_utc()
                self._away.discard("drill")
                return
            case "aws":
                self._forget_what_nobody_can_tell()
                self.figures.acknowledged["aws_writes"] = max(self.figures.acknowledged["aws_writes"], writes)
            case "daemon":
                self._compare(died)
            case "toxiproxy":
                pass
        self._at(died + blow.away_seconds, lambda: self._start_again(blow.victim))

    def _start_again(self, name: str) -> None:
        if name == "daemon":
            self.life = Life(read_kept(self.arena.state).live_looks)
        self.arena.services[name].start()
        if name == "toxiproxy":
            wait_until(lambda: self.arena.recovered(name), says="Toxiproxy answers", seconds=RECOVER_SECONDS)
            self._note_recovery(name, self.arena.services[name])
            self.arena.invite_strangers()
        else:
            self._recovering.add(name)
        self._away.discard(name)

    def _note_recovery(self, name: str, service: Service) -> None:
        self.figures.recoveries.setdefault(name, []).append(CLOCK.monotonic() - service.started)
        self.figures.processor.setdefault(name, []).append(service.processor_seconds)

    def _continue(self, blow: Blow, service: Service, since: float) -> None:
        service.signal(signal.SIGCONT)
        self._away.discard(blow.victim)
        if blow.victim == "daemon":
            self.life.stood_still += CLOCK.monotonic() - since

    def _drills_ended(self) -> bool:
        for run_id, drill in list(self._drills.items()):
            if not drill.ended:
                continue
            assert drill.process is not None
            code = drill.process.wait()
            del self._drills[run_id]
            if run_id.endswith("-rival"):
                self.figures.rivals["refused" if code == _REFUSED else "let in"] += 1
            else:
                self.figures.drills["killed" if code == -signal.SIGKILL else f"exit code {code}"] += 1
        return not self._drills

    def _all_closed(self) -> bool:
        kept = read_kept(self.arena.state)
        if not_closed(kept):
            return False
        for run_id, died in self._killed.items():
            records = journal.parse_all(kept.journals.get(run_id, b"")).records
            healed = [record.at_utc for record in records if record.event == "healed"]
            self.figures.heals += [(at - died).total_seconds() for at in healed]
        self._killed.clear()
        return True

    def _acknowledge(self) -> None:
        """Read what is kept now; all that was kept before must be in it."""
        try:
            after = read_kept(self.arena.state)
        except (sqlite3.Error, StateError) as e:
            self.figures.findings.append(f"the state folder cannot be read: {e}")
            return
        self.figures.findings += [*lost_history(self.before, after), *lost_journals(self.before, after)]
        self.before = after
        new = after.waiting - self.metrics
        self.figures.acknowledged["metrics"] += len(new)
        self.metrics |= new

    def _compare(self, died: float) -> None:
        """Look at the dead daemon's files: what it had told of, and what was read before, is there."""
        self._acknowledge()
        due = self.life.due(died)
        self.figures.acknowledged["looks_told"] += due
        findings = told_and_not_kept(due, self.life.kept_at_start, self.before)
        self.figures.found["looks_told"] += 0 if findings else due
        self.figures.findings += [*findings, *damage(self.arena.state)]

    def _settle_deliveries(self) -> None:
        """Have CloudWatch tell which metrics it has got, before that is forgotten with it."""
        gone = frozenset(self.metrics - self.before.waiting)
        got = self.arena.delivered(gone)
        nobody_knows = (gone & self.doubtful) - got
        self.figures.findings += lost_metrics(gone - nobody_knows, self.before, lambda _: got)
        self.figures.found["metrics"] += len(got)
        self.figures.not_told += len(nobody_knows)
        self._drop(gone)

    def _forget_what_nobody_can_tell(self) -> None:
        """Drop the metrics that left the queue in the moments before the local AWS died.

        Of those that wait still, one may have been answered already, and leave the queue without being sent again.
        """
        self._acknowledge()
        gone = frozenset(self.metrics - self.before.waiting)
        self.figures.not_told += len(gone)
        self._drop(gone)
        self.doubtful |= self.metrics

    def _drop(self, gone: frozenset[Metric]) -> None:
        self.metrics -= gone
        self.doubtful -= gone

    def _all_delivered(self) -> bool:
        """Whether nothing is waiting any more; a finding ends the wait too."""
        self._acknowledge()
        self._settle_deliveries()
        return not self.metrics or bool(self.figures.findings)

    def _look_at_all(self) -> None:
        """See that nothing is missing and nothing is left, with everybody running again."""
        self._acknowledge()
        self._settle_deliveries()
        figures, kept = self.figures, self.arena.writes.kept()
        if kept < figures.acknowledged["aws_writes"]:
            figures.findings.append(f"state.json: write {figures.acknowledged['aws_writes']} was answered, has {kept}")
        figures.found["aws_writes"] = min(kept, figures.acknowledged["aws_writes"])
        figures.findings += [
            *damage(self.arena.state),
            *faults_left(self.arena.proxies(), self.arena.strangers),
            *drills_at_once(self.before),
        ]
        figures.faults_injected = sum(b'"event":"fault-injected"' in raw for raw in self.before.journals.values())
        figures.kept = {
            "history_rows": len(self.before.rows),
            "history_looks": self.before.live_looks,
            "journal_lines": sum(raw.count(b"\n") for raw in self.before.journals.values()),
        }
