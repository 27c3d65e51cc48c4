"""The day itself: calm, lost, noticed, the runbook followed, back, recovered; what was written is read back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kms_alarms.table import alarm
from kms_core.clock import Clock
from kms_local.demo.configuration import DemoFolder
from kms_local.game_day import alerting, moments
from kms_local.game_day.judging import Command, Record, Step, Verdict, found, judge, timed_step
from kms_local.game_day.promises import Plan, Since, Timed, plan
from kms_local.game_day.runbook import FIRST, FIX, Reader, first_commands, fix_command
from kms_local.game_day.stage import GameStage

CALM_SECONDS = 10.0
"""Requests are answered for so long before the region is lost, and after everything has recovered."""
HELD_SECONDS = 20.0
"""The region is lost for so long at least."""
LATE_SECONDS = 20.0
"""What has not come this long after its time does not come: until then it is late, and measured."""
LOAD_SECONDS = 3600.0
_LOOK_SECONDS = 0.25
EVACUATE, RETURN = "kms-watchdog evacuate", "kms-watchdog return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the day is done."""

    rate: float
    """Requests a second."""
    scale: float
    """By how much the times of Prometheus and Alertmanager are shortened."""


@dataclass(slots=True)
class Day:
    """One game day on its way; `say` is told each step as it is reached."""

    stage: GameStage
    folder: DemoFolder
    clock: Clock
    way: Way
    say: Callable[[str], None]
    tell: Callable[[Step], None]
    installed: frozenset[str] = frozenset()
    began: dict[Since, datetime] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    page: str = ""
    load: dict[str, Any] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _never: threading.Event = field(default_factory=threading.Event)

    def play(self, daemon_url: str, pager_url: str) -> None:
        """Play the day, from a healthy estate and a running daemon to the last booking opened.

        Raises:
            StageError: something does not start or ends; the region is given back all the same.
        """
        with ExitStack() as stack:
            port = self._start_alerting(daemon_url, pager_url)
            promised = self.plan()
            self.stage.start_alarm_log(port)
            self.say("the example application, and a load whose every answer is checked")
            url = self.stage.start_application()
            self.stage.start_load(url, rate=self.way.rate, seconds=LOAD_SECONDS)
            self._calm()
            stack.callback(self.stage.give_back)
            self._lose(promised)
            self._recover(promised)
            self._calm()
            self.say("the load ends, and opens everything that was sealed once more")
            self.load = self.stage.end_load()

    def plan(self) -> Plan:
        """Return what is promised of this day."""
        return plan(self.stage.settings, self.stage.region, rate=self.way.rate, scale=self.way.scale)

    def steps(self) -> tuple[Step, ...]:
        """Judge what was written down."""
        return judge(self.plan(), self.record(), installed=self.installed)

    def record(self) -> Record:
        """Return what was written down so far."""
        return Record(
            began=dict(self.began),
            moments=tuple(sorted(self._moments(), key=lambda moment: moment.at_utc)),
            requests=tuple(moments.requests(self._read("requests.ndjson"))),
            load=self.load,
            runbook=self.page,
            commands=tuple(self.commands),
        )

    def _moments(self) -> Iterator[moments.Moment]:
        yield from moments.of_application(self._read("application.log"))
        yield from moments.of_watchdog(self._read("daemon.log"))
        yield from moments.of_pager(self._read("pager.log"))
        yield from moments.of_alarms(self._read("alarms.ndjson"))

    def _read(self, name: str) -> str:
        path = self.folder.path / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _start_alerting(self, daemon_url: str, pager_url: str) -> int | None:
        programs = alerting.programs()
        if programs is None:
            self.say("no Prometheus or no Alertmanager on PATH: CloudWatch's alarms alone")
            return None
        self.say("Prometheus and Alertmanager, with the shipped rules and routes")
        self.installed = frozenset({"prometheus"})
        return self.stage.start_alerting(programs, daemon_url, pager_url, scale=self.way.scale)

    def _calm(self) -> None:
        until = self.clock.monotonic() + CALM_SECONDS
        while self.clock.monotonic() < until:
            self._alive()
            self.clock.wait(self._never, _LOOK_SECONDS)

    def _alive(self) -> None:
        self.stage.daemon_is_alive()
        self.stage.load_is_alive()

    def _lose(self, promised: Plan) -> None:
        """Lose the region until every step that follows has come, or has not come for too long."""
        self.say(f"{promised.region} is lost: Toxiproxy drops everything, in both directions")
        self.began["lost"] = self.clock.now_utc()
        self.stage.lose()
        self._wait(promised, "lost", at_least=HELD_SECONDS, meanwhile=self._follow)
        self._wait(promised, "ordered")

    def _recover(self, promised: Plan) -> None:
        self.say(f"{promised.region} is given back")
        self.began["back"] = self.clock.now_utc()
        self.stage.give_back()
        self._wait(promised, "back")
        if "ordered" in self.began:
            self._command(FIX, RETURN, rf"{promised.region}", begins="taken back")
            self._wait(promised, "taken back")

    def _wait(
        self, promised: Plan, since: Since, *, at_least: float = 0.0, meanwhile: Callable[[Record], None] | None = None
    ) -> None:
        """Wait for every step that counts from `since`, telling each as it comes."""
        began = self.began.get(since)
        if began is None:
            return
        waited_for = [one for one in promised.timed if one.since == since and self._possible(one)]
        latest = max(one.within_seconds for one in waited_for) + LATE_SECONDS
        while True:
            self._alive()
            record = self.record()
            passed = (self.clock.now_utc() - began).total_seconds()
            self._tell(waited_for, record)
            if meanwhile is not None:
                meanwhile(record)
            if passed >= latest or (passed >= at_least and all(one.key in self._told for one in waited_for)):
                return
            self.clock.wait(self._never, _LOOK_SECONDS)

    def _possible(self, timed: Timed) -> bool:
        return not timed.needs or timed.needs in self.installed

    def _tell(self, waited_for: list[Timed], record: Record) -> None:
        for timed in waited_for:
            step = timed_step(timed, record, installed=self.installed)
            if timed.key not in self._told and step.verdict is not Verdict.MISSING:
                self._told.add(timed.key)
                self.tell(step)

    def _follow(self, record: Record) -> None:
        """Do what a person does who is paged: open the page's runbook, run its first commands, and then its fix."""
        if self.page:
            return
        paged = [(moment.at_utc, one.row) for one in self.plan().timed if one.row and (moment := found(one, record))]
        row = next((name for _, name in sorted(paged) if alarm(name).severity == "critical"), "")
        if not row:
            return
        self.page = alarm(row).runbook
        self.say(f"{row} has paged: its runbook, {self.page}")
        region = self.stage.region
        status, history, *others = first_commands(self.stage.runbook(self.page))
        self._run(FIRST, status, rf"{region}\s.*(down|breaker open)", (0, 1))
        self._run(FIRST, history, rf"round_trip\s+{region}\s", (0, 1))
        for command in others:
            self._run(FIRST, command, "", ())  # that nobody answers is its answer
        self._command(FIX, EVACUATE, rf"{region} is asked last", begins="ordered")

    def _command(self, section: str, beginning: str, shows: str, *, begins: Since) -> None:
        """Run a command of the fix; what it brings about begins with its end."""
        done = self._run(section, fix_command(self.stage.runbook(self.page), beginning), shows, (0,))
        if done.good:
            self.began[begins] = self.stage.ordered_at_utc()

    def _run(self, section: str, printed: str, shows: str, exit_codes: tuple[int, ...]) -> Command:
        reader = Reader(
            folder=self.folder.path, environment=self.stage.reader, region=self.stage.region, clock=self.clock
        )
        done = reader.run(section, printed, shows=shows, exit_codes=exit_codes)
        self.commands.append(done)
        self.say(f"  $ {done.text}{'' if done.good else f': {done.said}'}")
        return done
