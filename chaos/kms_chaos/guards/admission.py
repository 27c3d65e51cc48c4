"""The guards of one run: which are asked before anything is touched, and which while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property, partial

from kms_chaos.alarms import AlarmBoard, reading_region
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.guards import before, blast_radius, estate, place
from kms_chaos.guards.checking import Guard, GuardResult, NotHeldError, RefusedError, check
from kms_chaos.guards.leave import Leave, leave
from kms_chaos.guards.live_alarms import LiveAlarms
from kms_chaos.lease import DrillLease, FaultNote
from kms_chaos.run import Run
from kms_chaos.undo_record import MARGIN_SECONDS
from kms_core.clock import Clock
from kms_watchdog.drills.copies import copy_configured
from kms_watchdog.drills.folder import folder
from kms_watchdog.evidence.store import StoreError
from kms_watchdog.identity import Identity, caller

_LONGEST_RUN = timedelta(days=1)


class Admission:
    """Lets one run in, or refuses it. Made and used in the main thread; the guards of `during` in any."""

    def __init__(self, run: Run, board: AlarmBoard, lease: DrillLease, upstreams: Mapping[str, str]) -> None:
        """`upstreams` is where the drill's clients go, by region: HOST:PORT."""
        self._run, self._board, self._lease, self._upstreams = run, board, lease, upstreams
        self._settings, self._clock = run.settings, run.clock
        self._watchdog = estate.Watchdog(run.settings, run.clock)
        read_in = reading_region(run.settings, run.hurt)
        self._live = LiveAlarms(run.settings, read_in=read_in, about=run.regions)
        self._survivors_live = LiveAlarms(run.settings, read_in=read_in, about=self._survivors)
        self.leave: Leave | None = None
        """By whose leave the drill runs, once that guard has held."""

    @property
    def _survivors(self) -> tuple[str, ...]:
        return tuple(region for region in self._run.regions if region not in self._run.hurt)

    @cached_property
    def _who(self) -> Identity:
        return caller(self._settings)

    def check(self, more: Mapping[str, Guard]) -> tuple[GuardResult, ...]:
        """Ask every guard, `more` among them, and at last, when all have held, for a way through Toxiproxy.

        Where only twins that an earlier drill made fire are in the way, they are waited for.

        Raises:
            RefusedError: one does not hold.
        """
        checked = self.ask(more)
        if [result.guard for result in checked if not result.held] == ["alarms-quiet"]:
            before.let_twins_clear(
                self._board, self._clock, self._run.halt.event,
                period_seconds=self._settings.cloudwatch.period_seconds, say=self._run.say,
            )  # fmt: skip
            checked = self.ask(more)
        _refuse(checked)
        checked += check({"toxiproxy-leads-to-kms": self._toxiproxy_leads_to_kms})
        _refuse(checked)
        return checked

    def ask(self, more: Mapping[str, Guard]) -> tuple[GuardResult, ...]:
        """Ask every guard that only looks, `more` among them, and return what each found; refuse nobody."""
        return check({**self._of_this_machine(), **more, **self._of_the_estate()})

    def _of_this_machine(self) -> Mapping[str, Guard]:
        run, state_dir, drill = self._run, self._settings.state.dir, self._run.drill
        longest_seconds = drill.timing.baseline_at_most_seconds + drill.longest_fault_seconds
        return {
            "not-halted": lambda: before.nobody_halts(state_dir),
            "window-open": lambda: before.window_is_open(
                self._settings.drills.calendar, self._clock, for_seconds=longest_seconds
            ),
            "nothing-left-over": lambda: before.nothing_is_left_over(state_dir),
            "earlier-fault-over": lambda: earlier_fault_is_over(self._lease, run, self._clock),
            "regions-armed": lambda: blast_radius.regions_are_armed(run.hurt, armed=run.armed),
            "held-on-general": self._held_on_general,
            "account-allowed": lambda: place.account_is_allowed(self._settings, self._who),
            "endpoints-allowed": lambda: place.endpoints_are_allowed(self._settings, self._upstreams),
            "approved": self._approved,
        }

    def _of_the_estate(self) -> Mapping[str, Guard]:
        settings, stop = self._settings, self._run.halt.event
        asked: Mapping[str, Callable[[estate.Document], str]] = {
            "estate-healthy": lambda document: estate.healthy(document, settings),
            "keys-enabled": lambda document: estate.keys_enabled(document, settings),
            "estate-not-drifted": lambda document: estate.not_drifted(document, settings),
            "survivors-unthrottled": lambda document: estate.unthrottled(document, settings, self._survivors),
        }
        return {
            "daemon-watches": lambda: before.daemon_watches(settings),
            **{name: partial(self._watchdog.seen, guard, stop) for name, guard in asked.items()},
            "alarms-quiet": lambda: before.alarms_are_quiet(self._board),
            "live-alarms-quiet": self._live.quiet,
        }

    def during(self) -> Mapping[str, Guard]:
        """Return the guards that go on while the drill runs: any that does not hold ends it."""
        settings = self._settings
        return {
            "not-halted": lambda: before.nobody_halts(settings.state.dir),
            "window-open": lambda: before.window_is_open(settings.drills.calendar, self._clock),
            "daemon-watches": lambda: before.daemon_watches(settings),
            "survivors-unthrottled": lambda: estate.throttling(self._watchdog.document(), settings, self._survivors),
            "survivors-alarms-quiet": self._survivors_live.quiet,
        }

    def close(self) -> None:
        """Let go of the connections."""
        self._live.close()
        self._survivors_live.close()

    def _held_on_general(self) -> str:
        if not self._settings.drills_in_production:
            return "not in production: any key may be drilled"
        run = self._run
        now_utc = self._clock.now_utc()
        return blast_radius.held_on_general(
            self._settings.state.dir, run.drill, run.targets, run.purposes, now_utc,
            not_copied=self._copy_others(now_utc) if blast_radius.LAST in run.purposes else "",
        )  # fmt: skip

    def _copy_others(self, now_utc: datetime) -> str:
        """Copy what other machines ran: a task that a trigger starts has no run of its own. Return why if it failed."""
        try:
            since_utc = now_utc - blast_radius.HELD_WITHIN - _LONGEST_RUN
            copy_configured(self._settings, self._clock, since_utc, self._run.say)
        except StoreError as e:
            return f"drills of other machines are not known: {e}"
        return ""

    def _approved(self) -> str:
        run = self._run
        self.leave = leave(
            self._settings, run.drill, run.hurt, self._who,
            reason=run.reason, approval=run.approval, slot=run.slot, now_utc=self._clock.now_utc(),
        )  # fmt: skip
        return str(self.leave)

    def _toxiproxy_leads_to_kms(self) -> str:
        with Toxiproxy(self._settings.drills.toxiproxy_url) as server:
            return place.toxiproxy_leads_to_kms(server, self._settings, self._upstreams)


def earlier_fault_is_over(lease: DrillLease, run: Run, clock: Clock) -> str:
    """See that what the last holder of the lease may have broken is undone, or its time is up.

    A run of this state folder is looked at here, where its undo record is; that of another machine is undone by the
    healer there, beside its Toxiproxy, or died with it: its time, which somebody else enforces, is waited for.
    """
    note = lease.open_fault()
    if note is None:
        return "no earlier holder of the drill lease left a fault"
    if folder(run.settings.state.dir, note.run_id).path.is_dir():
        return f"the last holder's run {note.run_id} is in this state folder"
    return _is_past(note, clock)


def _is_past(note: FaultNote, clock: Clock) -> str:
    until = note.expires_at_utc + timedelta(seconds=MARGIN_SECONDS)
    if clock.now_utc() < until:
        raise NotHeldError(
            f"drill {note.run_id} on {note.host} may still have a fault on, until {until:%Y-%m-%d %H:%M:%S} UTC: "
            f"`kms-chaos heal --run {note.run_id}` there ends it"
        )
    return f"drill {note.run_id} on {note.host} never said that it was over; its time was up at {until:%H:%M:%S} UTC"


def _refuse(checked: tuple[GuardResult, ...]) -> None:
    if failed := [result for result in checked if not result.held]:
        raise RefusedError("; ".join(f"{result.guard}: {result.detail}" for result in failed))
