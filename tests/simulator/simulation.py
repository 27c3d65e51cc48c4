"""A month of an estate on virtual time: hosts, their mishaps, an application, and what must hold whatever happens.

KMS, Toxiproxy and the table of the lease are in memory, and a drill does not look (see `sim_drill`). All else is the
product's own: the daemon with its canaries, health, schedule and slot ledger, the core, the conductor's phases, undo
records, journals, healers, and both kinds of lease.
"""

from __future__ import annotations

import itertools
import random
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mishaps import DAY, DAYS, HOUR, MINUTE, REGIONS, Mishap, Month, Outage, month_of
from sim_host import SimHost
from sim_table import Table
from virtual_time import BEGAN_UTC, Host, Process, World, WorldClock, threads_take_turns

from kms_core.errors import KmsCoreError
from kms_core.testing import FakeEstate, core_over
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.slots import REFUSED_AGAIN_AFTER, SlotState
from kms_watchdog.health import Status

CALM_DAYS = 8
"""After the mishaps nothing befalls anybody for so long: longer than the longest window of a slot."""
TELL_SECONDS = 8 * MINUTE
"""So long after its beginning, or its end, an outage is known to who looks every other minute."""
HEAL_SECONDS = 150.0
"""A fault is gone so long after its time is up, where daemon and Toxiproxy can do their work: the look of every minute,
a healer that is killed once, its pause, and the next."""
SHORTEST_WINDOW = 2 * DAY
LEARNT = REFUSED_AGAIN_AFTER.total_seconds() + 10 * MINUTE
"""So long after a slot is due its host knows who fills it: refused because another one drills, it asks again an hour
later, and looks at slots every few minutes then."""
PURPOSES = ("general", "payment")


@dataclass
class Outcome:
    """What a month came to."""

    month: Month
    findings: list[str] = field(default_factory=list)
    """What must not be; empty: all held."""
    counted: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Tell it in a line."""
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.counted.items()))
        return f"seed {self.month.seed}: {'; '.join(self.findings) or 'all held'} ({told})"


def simulate(seed: int, spoil: Callable[[Simulation], None] = lambda _: None) -> Outcome:
    """Live through the month of `seed`; `spoil` may spoil something first, to see that it is found out."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it; to sync there costs nothing
    with tempfile.TemporaryDirectory(prefix="kms-simulated-", dir=memory if memory.is_dir() else None) as folder:
        simulation = Simulation(month_of(seed, _slots_due()), Path(folder))
        spoil(simulation)
        with threads_take_turns(simulation.world):
            try:
                simulation.live()
            finally:
                simulation.world.end()
        return simulation.judged()


def _slots_due() -> tuple[float, ...]:
    mondays = (1 + 7 * week for week in range(5))  # BEGAN_UTC is a Sunday
    return tuple(sorted([*(day * DAY + 3 * HOUR for day in mondays), 9 * DAY + 4 * HOUR]))


class Simulation:
    """One month."""

    def __init__(self, month: Month, folder: Path) -> None:
        self.month, self.outcome = month, Outcome(month)
        self.days, self.calm_days = float(DAYS), float(CALM_DAYS)
        self.world = World()
        self._rng = random.Random(f"{month.seed} lives")
        self.estate = FakeEstate(REGIONS, clock=WorldClock(self.world))
        for purpose in PURPOSES:
            self.estate.create_key(f"alias/{purpose}")
        self.table = Table() if month.hosts > 1 else None
        self._spans = _merged(self._busy_spans())
        self._acted: dict[str, list[float]] = {}
        self.hosts = [
            SimHost(
                machine=Host(f"host-{number}"), world=self.world, folder=folder / f"host-{number}", estate=self.estate,
                table=self.table, rng=self._rng, is_busy=self._is_busy, next_edge=self._next_edge,
                acted=self._note_act, again_after_abort=month.again_after_abort,
            )
            for number in range(month.hosts)
        ]  # fmt: skip

    # -- life --------------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Let the month go by, and the calm after it."""
        nowhere = Host("nowhere")
        for host in self.hosts:
            host.start_daemon()
        self.world.start(nowhere, "application", self._apply)
        for number, outage in enumerate(self.month.outages):
            self.world.start(nowhere, f"outage-{number}", lambda _, one=outage: self._fail(one))  # type: ignore[misc] # bound now
        for number, mishap in enumerate(self.month.mishaps):
            self.world.start(nowhere, f"mishap-{number}", lambda _, one=mishap: self._befall(one))  # type: ignore[misc] # bound now
        self.world.run(self.days * DAY)
        for host in self.hosts:
            host.fates = False
        self.world.run((self.days + self.calm_days) * DAY)

    def _fail(self, outage: Outage) -> int:
        self.world.sleep(outage.began)
        self.estate.fail(outage.code, regions=outage.regions)
        self.world.sleep(outage.ended - outage.began)
        self.estate.fail(None, regions=outage.regions)
        return 0

    def _befall(self, mishap: Mishap) -> int:
        self.world.sleep(mishap.at)
        host = self.hosts[mishap.host]
        self.outcome.counted[mishap.trouble] += 1
        if mishap.trouble != "table-away":
            host.unwell.append((self.world.now, self.world.now + mishap.seconds + 3 * MINUTE))
        match mishap.trouble:
            case "daemon-dies":
                if host.daemon is not None and host.daemon.alive:
                    host.daemon.kill()
                    self.world.sleep(mishap.seconds)
                    host.start_daemon()
            case "daemon-freezes":
                if host.daemon is not None and host.daemon.alive:
                    host.daemon.freeze(mishap.seconds)
                    host.woke_at = self.world.now + mishap.seconds
            case "toxiproxy-dies":
                host.server.die()
                self.world.sleep(mishap.seconds)
                host.server.up = True
            case "toxiproxy-hangs":
                host.server.hangs = True
                self.world.sleep(mishap.seconds)
                host.server.hangs = False
            case "table-away":
                if self.table:
                    self.table.away = True
                    self.world.sleep(mishap.seconds)
                    self.table.away = False
        return 0

    def _apply(self, process: Process) -> int:
        """Seal and open, as an application does, every minute when something is about to happen."""
        config = self.hosts[0].settings.core_config()
        with core_over(self.estate, config) as core:
            while process.alive:
                served = any(kms.fault is None for kms in self.estate.kms.values())
                began = self.world.now
                for purpose in PURPOSES:
                    self.outcome.counted["requests"] += 2
                    try:
                        message = core.encrypt(b"synthetic", purpose=purpose, context={"tenant": f"t-{began}"})
                        core.decrypt(message, purpose=purpose, context={"tenant": f"t-{began}"})
                    except KmsCoreError as e:
                        if served:
                            self._find(f"at {began:.0f} s the application lost a request: {e!r}")
                        self.outcome.counted["requests refused, KMS being nowhere"] += 1
                    if self.world.now - began > 2 * 2 * config.deadline_seconds + 1:
                        self._find(f"at {began:.0f} s four calls took {self.world.now - began:.1f} s")
                self.estate.calls.clear()
                pause = MINUTE if self._is_busy(self.world.now) else 6 * HOUR
                self.world.sleep(min(pause, self._next_edge(self.world.now) - self.world.now))
        return 0

    def _note_act(self, host: str, run_id: str) -> None:
        self._acted.setdefault(f"{host}/{run_id}", []).append(self.world.now)

    # -- when something is about to happen ---------------------------------------------------------------------------

    def _busy_spans(self) -> Iterator[tuple[float, float]]:
        yield (0.0, 5 * MINUTE)
        for due in _slots_due():
            yield (due - MINUTE, due + 3 * MINUTE)
        for outage in self.month.outages:
            for edge in (outage.began, outage.ended):
                yield (edge - MINUTE, edge + TELL_SECONDS + 5 * MINUTE)
        for mishap in self.month.mishaps:
            for edge in (mishap.at, mishap.at + mishap.seconds):
                yield (edge - MINUTE, edge + 3 * MINUTE)

    def _is_busy(self, now: float) -> bool:
        return any(began <= now < ended for began, ended in self._spans)

    def _next_edge(self, now: float) -> float:
        return min((edge for span in self._spans for edge in span if edge > now), default=float("inf"))

    def _find(self, what: str) -> None:
        self.outcome.findings.append(what)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def judged(self) -> Outcome:
        """Return what the month came to."""
        for host in self.hosts:
            self._judge_faults(host)
            self._judge_journals(host)
            self._judge_health(host)
        self._judge_overlaps()
        self._judge_slots()
        return self.outcome

    def _judge_faults(self, host: SimHost) -> None:
        """Nothing is on in the end, and nothing was on past its time where somebody could undo it."""
        records = {found.run_id: found.undo for found in folders(host.settings.state.dir) if found.undo.exists()}
        told = {run_id: undo.read(path).expires_at_utc for run_id, path in records.items()}
        for span in host.server.spans:
            self.outcome.counted["faults"] += 1
            if span.ended is None:
                self._find(f"{host.name}: {span.proxy} still has its fault")
                continue
            run_id = _run_of(span.proxy)
            if run_id not in told:
                self._find(f"{host.name}: {span.proxy} was broken, and no undo record says so")
                continue
            due = (told[run_id] - BEGAN_UTC).total_seconds()
            if span.ended > due + HEAL_SECONDS and not host.was_unwell(due, due + HEAL_SECONDS):
                self._find(
                    f"{host.name}: {span.proxy} was broken until {span.ended:.0f} s, its time was up at {due:.0f} s"
                )
        if host.server.there:
            self._find(f"{host.name}: proxies are left: {sorted(host.server.there)}")

    def _judge_journals(self, host: SimHost) -> None:
        """Each run's journal is whole, and closed."""
        for found in folders(host.settings.state.dir):
            if not found.journal.exists():
                continue
            read = journal.read(found.journal)
            self.outcome.counted["drills"] += 1
            self.outcome.counted["drills healed"] += any(r.event == "healed" for r in read.records)
            if not read.closed:
                self._find(f"{host.name}: the journal of {found.run_id} is not closed")

    def _judge_health(self, host: SimHost) -> None:
        """An outage is known in time, and nothing else is called one."""
        for looked in host.looked:
            down = self._down(looked.at)
            if looked.at - looked.up_since < TELL_SECONDS or down is None:
                continue
            if down == 0 and looked.status is not Status.HEALTHY:
                self._find(f"{host.name}: {looked.status} at {looked.at:.0f} s, nothing being wrong")
            wanted = Status.UNHEALTHY if down == len(REGIONS) else Status.DEGRADED
            if down and looked.status is not wanted:
                self._find(f"{host.name}: {looked.status} at {looked.at:.0f} s, {down} being down")
            self.outcome.counted["looks at health"] += 1

    def _down(self, at: float) -> int | None:
        """Return how many regions are down as far as it can be known; None: an outage began or ended just now."""
        for outage in self.month.outages:
            for edge in (outage.began, outage.ended):
                if 0 <= at - edge < TELL_SECONDS:
                    return None
            if outage.began + TELL_SECONDS <= at < outage.ended:
                return len(outage.regions)
        return 0

    def _judge_overlaps(self) -> None:
        """No two drills have a fault on at once."""
        spans = [(span, host) for host in self.hosts for span in host.server.spans if span.ended is not None]
        for (a, of_a), (b, of_b) in itertools.combinations(spans, 2):
            if _run_of(a.proxy) == _run_of(b.proxy) and of_a is of_b:
                continue
            assert a.ended is not None
            assert b.ended is not None
            if a.began < b.ended and b.began < a.ended:
                self._find(f"{of_a.name}/{a.proxy} and {of_b.name}/{b.proxy} were broken at once")

    def _judge_slots(self) -> None:
        """Each slot has its drill once, or is said to have been missed; nobody is told of a miss that was none."""
        states: dict[str, list[str]] = {}
        done: Counter[str] = Counter()
        for host in self.hosts:
            with sqlite3.connect(f"file:{host.settings.state.dir / 'slots.db'}?mode=ro", uri=True) as db:
                rows = db.execute("SELECT id, state, due_at FROM slot").fetchall()
            db.close()
            for slot, state, due_at in rows:
                states.setdefault(slot, [])
                due = due_at - BEGAN_UTC.timestamp()
                if state == SlotState.MISSED and host.was_unwell_throughout(due + LEARNT, due + SHORTEST_WINDOW):
                    continue  # its daemon was away all the time, and does not ask the table what others did
                states[slot].append(state)
                done[slot] += state == SlotState.DONE
        for slot, found in states.items():
            self.outcome.counted["slots"] += 1
            self.outcome.counted["slots missed"] += all(state == SlotState.MISSED for state in found)
            if done[slot] > 1 + self._untold(slot):
                self._find(f"{slot} had {done[slot]} drills")
            if done[slot] and SlotState.MISSED in found:
                self._find(f"{slot} had its drill, and a host calls it missed")
            if still := {SlotState.CLAIMED, SlotState.RUNNING, SlotState.REFUSED} & set(found):
                self._find(f"{slot} is still {', '.join(sorted(still))} after its window")
        wanted = {f"weekly/2026-W{week}" for week in range(10, 15)} | {"monthly/2026-03"}
        if missing := wanted - states.keys():
            self._find(f"nothing is known of {', '.join(sorted(missing))}")

    def _untold(self, slot: str) -> int:
        """Return how many drills of a slot could not tell the table in time that they had come to their verdict.

        Where the plan says "again", another host then fills the slot once more: at least once, not exactly once.
        """
        late = {run_id for host in self.hosts for run_id in host.late}
        runs = [
            journal.read(found.journal).records for host in self.hosts for found in folders(host.settings.state.dir)
        ]
        told = [run for run in runs if run and run[0].fields.get("slot") == slot]
        untold = sum(
            run[0].fields["run_id"] in late or any(record.event == "lease-unsettled" for record in run) for run in told
        )
        self.outcome.counted["drills that stood still past their lease"] += untold
        return untold if self.month.again_after_abort else 0


def _run_of(proxy: str) -> str:
    found = re.fullmatch(r"kmswd\.(.+)\.(?:us|eu)-\w+-\d", proxy)
    assert found, proxy
    return found[1]


def _merged(spans: Iterator[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], ended))
        else:
            found.append((began, ended))
    return tuple(found)
