"""The phases of a drill, by a clock of their own: what each waits for, how long, and what it says whatever happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from guard_kit import settings_of

from kms_chaos.conductor import Conductor, UnmetError
from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.orders import Orders
from kms_chaos.faults.plans import bite
from kms_chaos.faults.route import RouteError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.halt import HaltedError
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.lease import FencedError, LeaseUnreachableError
from kms_chaos.ledger import Ledger
from kms_chaos.run import Run
from kms_chaos.scene import Scene, View
from kms_chaos.testing import (
    FAULT_ON,
    PURPOSES,
    REGIONS,
    RESTORE_AT,
    RUN_ID,
    STARTED,
    TARGET,
    Story,
    drill,
    held_story,
    of,
)
from kms_core.errors import KmsUnavailableError
from kms_core.testing import ManualClock

LOOK = 0.2
STORY = held_story().without(lambda one: one.event in {"phase-started", "undo-recorded"})
UPSTREAMS = {region: f"kms.{region}.amazonaws.com:443" for region in REGIONS}


class Playing:
    """A tape on which a story plays as the clock goes on, and which keeps what the conductor says."""

    def __init__(self, clock: ManualClock, story: Story) -> None:
        self._clock, self._began = clock, clock.monotonic()
        self._scene, self._left = Scene(REGIONS), sorted(story.lines, key=lambda one: one.t)
        self.said: list[tuple[str, float, dict[str, Any]]] = []

    @property
    def seconds(self) -> float:
        return self._clock.monotonic() - self._began

    def record(self, event: str, **fields: Any) -> None:
        self.record_now(event, **fields)

    def record_now(self, event: str, **fields: Any) -> None:
        self.said.append((event, self.seconds, fields))

    def view(self) -> View:
        while self._left and self._left[0].t <= self.seconds:
            one = self._left.pop(0)
            self._scene.take(one.event, one.t, one.fields)
        return self._scene.view(self.seconds)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, _, fields in self.said if name == event]


class Server:
    """A Toxiproxy in memory; `fails` is raised by what makes, `deaf` by what deletes."""

    url = "http://127.0.0.1:1"

    def __init__(self, *, fails: Exception | None = None, deaf: Exception | None = None, keeps: str = "") -> None:
        self._fails, self._deaf, self._keeps = fails, deaf, keeps
        self.there: dict[str, ProxyState] = {}

    def create(self, name: str, *, upstream: str, listen: str) -> ProxyState:
        if self._fails and self.there:
            raise self._fails
        self.there[name] = ProxyState(name=name, listen=listen, upstream=upstream, enabled=True, toxics=())
        return self.there[name]

    def proxies(self) -> dict[str, ProxyState]:
        self.asked_by = threading.current_thread()
        if self._deaf:
            raise self._deaf
        return dict(self.there)

    def proxy(self, name: str) -> ProxyState | None:
        return self.there.get(name)

    def disable(self, name: str) -> None: ...

    def enable(self, name: str) -> None: ...

    def remove_toxic(self, name: str, toxic: str) -> None: ...

    def delete(self, name: str) -> None:
        if self._keeps not in name or not self._keeps:
            del self.there[name]


class Well:
    """Whatever is asked of a part of the stage that this drill has no use for, it is well."""

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_, **__: True


class Stage:
    """What the phases need of a stage when the story plays itself."""

    watchdog: Any = Well()
    new_core: Any = None


class NotWell(Well):
    """A watchdog of the drill's own of which one thing is not so."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_, **__: name != self._what


class Noting:
    """A part of the stage that notes what it is told to do, and when."""

    def __init__(self, name: str, noted: list[Any]) -> None:
        self._name, self._noted = name, noted

    def __getattr__(self, what: str) -> Callable[..., None]:
        return lambda *told: self._noted.append((f"{self._name}.{what}", *told))


class StageClock(ManualClock):
    """Moves on when the conductor waits; a timer in another thread is noted, and waits for its end."""

    def __init__(self) -> None:
        super().__init__(start_utc=STARTED, auto_advance=True)
        self.timers: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            return super().wait(event, seconds)
        self.timers.append(seconds)
        return event.wait(60.0)


class Checked(Conductor):
    """A conductor that notes when it checks messages, instead of asking a core."""

    checks: list[tuple[str, float, tuple[str, ...]]]

    def _check_messages(self, scene: Any, when: str, regions: tuple[str, ...]) -> None:
        self.checks.append((when, round(self._tape.seconds, 3), regions))


class Rehearsal:
    """A conductor before its audience of fakes."""

    def __init__(
        self,
        folder: Path,
        story: Story = STORY,
        *,
        at: float = 0.0,
        server: Server | None = None,
        clock: ManualClock | None = None,
        kind: type[Checked] = Checked,
        services: dict[tuple[str, str], str] | None = None,
    ) -> None:
        self.clock = clock or ManualClock(start_utc=STARTED, auto_advance=True)
        self.tape, self.server = Playing(self.clock, story), server or Server()
        file = story.lines[0].fields["drill_file"]
        folder.mkdir(exist_ok=True)
        settings = settings_of(folder)
        self.run = Run(
            settings=settings, drill=type(drill()).model_validate(file), targets=(TARGET,), run_id=RUN_ID,
            clock=self.clock,
        )  # fmt: skip
        load = self.run.drill.workload.model_copy(update={"purposes": PURPOSES})
        object.__setattr__(self.run, "drill", self.run.drill.model_copy(update={"workload": load}))
        self.run.folder.path.mkdir(parents=True)
        board: Any = None
        server_, tape = self.server, self.tape
        self.conductor = kind(self.run, server_, board, tape, UPSTREAMS, services=services or {})  # type: ignore[arg-type]
        self.conductor.checks = []
        self.clock.advance(at)
        self.turns: list[float] = []

    def turn(self) -> None:
        self.turns.append(self.tape.seconds)

    @property
    def checks(self) -> list[tuple[str, float, tuple[str, ...]]]:
        return self.conductor.checks

    @property
    def phases(self) -> list[tuple[str, float]]:
        return [(fields["phase"], round(at, 3)) for event, at, fields in self.tape.said if event == "phase-started"]

    def play(self, phase: str, *more: Any, stage: Any = None) -> float:
        """Play one phase, and return when it ended."""
        stage = stage or Stage()
        getattr(self.conductor, phase)(stage, *more)
        return self.tape.seconds


OPENED = {"region": REGIONS[1], "old": "closed", "new": "open", "cause": "slow"}


def longer_baseline() -> Story:
    """The drill whose fault comes later, so that nothing but the baseline's own rules ends it."""
    return STORY.without(lambda one: one.t >= FAULT_ON)


# ---------------------------------------------------------------------------------------------------- waiting


def test_a_wait_ends_as_soon_as_it_is_met(tmp_path: Path) -> None:
    """Looked at every fifth of a second; turned at each look, the last one too: what was due by then is done."""
    found = Rehearsal(tmp_path)

    assert found.conductor._wait_for(lambda: found.tape.seconds >= 1.0, 60.0, found.turn)

    assert found.tape.seconds == pytest.approx(1.0)
    assert found.turns == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_wait_ends_in_its_time(tmp_path: Path) -> None:
    """Not a look later; what was met at the last instant is met."""
    found = Rehearsal(tmp_path)

    assert not found.conductor._wait_for(lambda: False, 0.5, found.turn)
    assert found.tape.seconds == pytest.approx(0.5)
    assert found.turns == pytest.approx([0.0, 0.2, 0.4, 0.5])
    assert found.conductor._wait_for(lambda: found.tape.seconds >= 0.75, 0.25)
    assert not found.conductor._wait_for(lambda: False, 0.0)
    assert found.tape.seconds == pytest.approx(0.75)


def test_a_halt_ends_a_wait(tmp_path: Path) -> None:
    """At once, with its reason."""
    found = Rehearsal(tmp_path)
    found.run.halt.call("SIGTERM")

    with pytest.raises(HaltedError, match="SIGTERM"):
        found.conductor._wait_for(lambda: False, 60.0)

    assert found.tape.seconds == 0.0


# ----------------------------------------------------------------------------------------------------- phases


def test_the_baseline_lasts_its_least_even_when_all_is_well(tmp_path: Path) -> None:
    """Then every message is opened in every region."""
    found = Rehearsal(tmp_path, longer_baseline(), at=0.5)

    assert found.play("_baseline") == pytest.approx(6.5, abs=LOOK)

    assert found.phases == [("baseline", 0.5)]
    assert found.checks == [("baseline", pytest.approx(6.5, abs=LOOK), REGIONS)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s.changed(of("alarm-state", mode="drill"), state="INSUFFICIENT_DATA"), id="twin"),
        pytest.param(lambda s: s.without(of("operation", lane="cold")), id="lane"),
        pytest.param(lambda s: s.without(of("canary-result")), id="canaries"),
        pytest.param(lambda s: s.add(0.3, "breaker-moved", **OPENED), id="breaker"),
        pytest.param(lambda s: s.without(lambda one: one.t > 0.5 and one.event == "canary-result"), id="old-looks"),
    ],
)
def test_a_baseline_that_is_not_met_injects_nothing(tmp_path: Path, change: Callable[[Story], Story]) -> None:
    """After the longest that it may take; nothing is checked any more."""
    found = Rehearsal(tmp_path, change(longer_baseline()), at=0.5)

    with pytest.raises(UnmetError, match="none was injected"):
        found.play("_baseline")

    assert found.tape.seconds == pytest.approx(45.5)
    assert found.checks == []


def test_the_baseline_waits_for_a_breaker_that_a_slow_start_opened(tmp_path: Path) -> None:
    """As long as it takes; a fault that finds it open would be judged by its closing."""
    slow = longer_baseline().add(0.3, "breaker-moved", **OPENED)
    found = Rehearsal(
        tmp_path, slow.add(9.0, "breaker-moved", **{**OPENED, "old": "half_open", "new": "closed"}), at=0.5
    )

    assert found.play("_baseline") == pytest.approx(9.0, abs=LOOK)


def test_a_look_from_before_the_baseline_does_not_meet_it(tmp_path: Path) -> None:
    """Only what began in it counts: the canaries' next looks are waited for."""
    late = longer_baseline().add(
        12.0, "canary-result", result=next(one for one in STORY.lines if one.event == "canary-result").fields["result"]
    )
    found = Rehearsal(tmp_path, late, at=6.5)

    with pytest.raises(UnmetError):
        found.play("_baseline")


def test_the_hold_waits_for_the_bite_and_for_every_alarm(tmp_path: Path) -> None:
    """Messages are opened in the regions that are left when half of the least is over."""
    found = Rehearsal(tmp_path, at=FAULT_ON)

    ended = found.play("_hold", found.turn)

    assert found.phases == [("hold", pytest.approx(9.0, abs=2 * LOOK))]
    assert found.checks == [("hold", pytest.approx(18.0, abs=LOOK), REGIONS[1:])]
    assert ended == pytest.approx(40.0, abs=LOOK)
    assert len(found.turns) == pytest.approx((ended - FAULT_ON) / LOOK, abs=3)


def test_the_hold_lasts_its_least_when_every_alarm_fires_sooner(tmp_path: Path) -> None:
    """Twenty seconds, from the injection on."""
    file = STORY.lines[0].fields["drill_file"]
    quiet = STORY.changed(of("run-started"), drill_file={**file, "alarms": {}})
    found = Rehearsal(tmp_path, quiet, at=FAULT_ON)

    assert found.play("_hold", found.turn) == pytest.approx(FAULT_ON + 20, abs=LOOK)


def test_the_hold_ends_in_its_time_when_an_alarm_never_fires(tmp_path: Path) -> None:
    """From the injection on, the waiting for the bite included; the judge says what it means."""
    found = Rehearsal(tmp_path, STORY.without(of("alarm-state", state="ALARM")), at=FAULT_ON)

    assert found.play("_hold", found.turn) == pytest.approx(FAULT_ON + 75)


class SlowToCheck(Checked):
    """A conductor that opens messages for ten seconds."""

    def _check_messages(self, scene: Any, when: str, regions: tuple[str, ...]) -> None:
        super()._check_messages(scene, when, regions)
        self._clock.wait(threading.Event(), 10.0)


def test_the_hold_is_over_as_soon_as_its_least_is_full(tmp_path: Path) -> None:
    """Here when the messages are open, which took the second half of it: no look later."""
    file = STORY.lines[0].fields["drill_file"]
    quiet = STORY.changed(of("run-started"), drill_file={**file, "alarms": {}})
    found = Rehearsal(tmp_path, quiet, at=FAULT_ON, kind=SlowToCheck)

    assert found.play("_hold", found.turn) == pytest.approx(FAULT_ON + 20)
    assert found.checks == [("hold", FAULT_ON + 10, REGIONS[1:])]


def test_a_fault_that_does_not_bite_is_not_held(tmp_path: Path) -> None:
    """After ten seconds."""
    found = Rehearsal(tmp_path, STORY.changed(of("attempt"), error_code=""), at=FAULT_ON)

    with pytest.raises(UnmetError, match="did not bite"):
        found.play("_hold", found.turn)

    assert found.tape.seconds == pytest.approx(FAULT_ON + 10)
    assert found.phases == []


def test_all_is_well_again_when_breakers_alarms_and_canaries_are(tmp_path: Path) -> None:
    """The alarm is the last of them."""
    found = Rehearsal(tmp_path, at=RESTORE_AT + 0.5)

    assert found.play("_recover") == pytest.approx(78.1, abs=LOOK)
    assert found.phases == [("recover", RESTORE_AT + 0.5)]


@pytest.mark.parametrize(
    ("change", "until"),
    [
        pytest.param(lambda s: s.without(of("breaker-moved", new="closed")), 90.0, id="breaker"),
        pytest.param(lambda s: s.without(lambda o: o.event == "alarm-state" and o.t > RESTORE_AT), 90.0, id="alarm"),
        pytest.param(lambda s: s.without(lambda o: o.event == "canary-result" and o.t > RESTORE_AT), 90.0, id="looks"),
    ],
)
def test_the_recovery_is_waited_for_as_long_as_alarms_may_take_to_clear(
    tmp_path: Path, change: Callable[[Story], Story], until: float
) -> None:
    """Which is longer than the RTO here; then the judge says what it means."""
    found = Rehearsal(tmp_path, change(STORY), at=RESTORE_AT + 0.5)

    assert found.play("_recover") == pytest.approx(RESTORE_AT + 0.5 + until)


def test_a_recovery_drill_goes_on_until_there_is_enough_to_judge_by(tmp_path: Path) -> None:
    """Twice the least number of operations, at the drill's rate; where it did not recover there is nothing more."""
    file = STORY.lines[0].fields["drill_file"]
    recovery = STORY.changed(of("run-started"), drill_file={**file, "mode": "recovery"})
    found = Rehearsal(tmp_path, recovery, at=RESTORE_AT + 0.5)
    open_ = Rehearsal(tmp_path / "other", recovery.without(of("breaker-moved", new="closed")), at=RESTORE_AT + 0.5)

    assert found.play("_recover") == pytest.approx(78.1 + 40 / 12, abs=LOOK)
    assert open_.play("_recover") == pytest.approx(RESTORE_AT + 0.5 + 90.0)


@pytest.mark.parametrize(
    ("what", "phase", "at", "ended"),
    [
        pytest.param("settled", "_hold", FAULT_ON, FAULT_ON + 75, id="settled"),
        pytest.param("well", "_recover", RESTORE_AT + 0.5, RESTORE_AT + 90.5, id="well"),
    ],
)
def test_the_drills_own_watchdog_is_waited_for_too(
    tmp_path: Path, what: str, phase: str, at: float, ended: float
) -> None:
    """As long as for everything else."""
    found, stage = Rehearsal(tmp_path, at=at), Stage()
    stage.watchdog = NotWell(what)

    assert found.play(phase, *([found.turn] if phase == "_hold" else []), stage=stage) == pytest.approx(ended)


def test_without_the_drills_own_watchdog_ready_nothing_is_injected(tmp_path: Path) -> None:
    """It must have looked at everything once."""
    found, stage = Rehearsal(tmp_path, longer_baseline(), at=0.5), Stage()
    stage.watchdog = NotWell("ready")

    with pytest.raises(UnmetError):
        found.play("_baseline", stage=stage)


def test_where_no_region_is_left_nobody_is_asked_to_open_messages(tmp_path: Path) -> None:
    """All are hurt: there is none to ask mid-failover."""
    file = STORY.lines[0].fields["drill_file"]
    everywhere = {**file, "target": {**file["target"], "count": "all"}, "alarms": {}}
    found = Rehearsal(tmp_path, STORY.changed(of("run-started"), drill_file=everywhere), at=FAULT_ON)
    object.__setattr__(found.run, "targets", REGIONS)

    found.play("_hold", found.turn)

    assert found.checks == []


class InOrder(Checked):
    """A conductor that notes its phases instead of going through them."""

    noted: list[Any]

    def _baseline(self, scene: Any) -> None:
        self.noted.append("baseline")

    def _with_faults(self, scene: Any) -> None:
        self.noted.append("faults")

    def _recover(self, scene: Any) -> None:
        self.noted.append("recover")


def test_the_traffic_runs_from_before_the_baseline_until_all_is_well(tmp_path: Path) -> None:
    """Then it stops, and every message is opened in every region."""
    found = Rehearsal(tmp_path, kind=InOrder)
    noted: list[Any] = []
    stage: Any = Stage()
    for part in ("workload", "canaries", "probes", "watchdog"):
        setattr(stage, part, Noting(part, noted))
    found.conductor.noted = noted  # type: ignore[attr-defined]

    found.play("_play", stage=stage)

    begun = {("workload.start",), ("canaries.start",), ("probes.start",), ("watchdog.begin",)}
    assert set(noted[:4]) == begun
    assert noted[4:7] == ["baseline", "faults", "recover"]
    assert {("workload.stop",), ("canaries.stop",)} <= set(noted[7:])
    assert [phase for phase, _ in found.phases] == ["check"]
    assert found.checks == [("check", 0.0, REGIONS)]


def test_the_stage_is_set_over_the_drills_own_proxies_and_alarms_are_watched_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before the play until after it, whatever the play was; then the proxies go."""
    found = Rehearsal(tmp_path, kind=InOrder)
    noted: list[Any] = []
    found.conductor.noted = noted  # type: ignore[attr-defined]
    stage: Any = Stage()
    for part in ("workload", "canaries", "probes", "watchdog"):
        setattr(stage, part, Noting(part, []))

    def set_up(*_: Any, **given: Any) -> Any:
        noted.append({where: proxy.name for where, proxy in given["proxies"].items()})
        noted.append(given["up"])
        return stage

    monkeypatch.setattr("kms_chaos.stage.set_up", set_up)
    monkeypatch.setattr("kms_chaos.alarms.AlarmWatch", lambda *_: Noting("alarms", noted))

    assert found.conductor.perform()

    assert noted == [
        {("kms", region): f"kmswd.{RUN_ID}.{region}" for region in REGIONS},
        frozenset(REGIONS[1:]),
        ("alarms.start",),
        "baseline",
        "faults",
        "recover",
        ("alarms.stop",),
    ]
    assert found.server.there == {}


class OnAndOff(Checked):
    """A conductor whose faults are words on the tape."""

    @contextmanager
    def _fault(self, order: Any, scene: Any) -> Iterator[None]:
        self._tape.record_now("on", fault=order.id)
        yield
        self._tape.record_now("off", fault=order.id)


def test_the_fault_is_on_from_its_undo_record_on_disk_until_the_restore(tmp_path: Path) -> None:
    """The record says how long it may last, then how long the recovery may; a second timer enforces the former."""
    file = STORY.lines[0].fields["drill_file"]
    cold = {**file, "actions": [{"kind": "cold_start", "after_seconds": 2.0}]}
    clock = StageClock()
    found = Rehearsal(
        tmp_path, STORY.changed(of("run-started"), drill_file=cold), at=FAULT_ON, clock=clock, kind=OnAndOff
    )
    noted: list[Any] = []
    stage: Any = Stage()
    stage.watchdog = Noting("watchdog", noted)
    stage.watchdog.settled = lambda: True

    @contextmanager
    def no_core() -> Iterator[Any]:
        raise KmsUnavailableError("nobody")
        yield

    stage.new_core = no_core
    ended = found.play("_with_faults", stage=stage)

    names = [name for name, *_ in found.tape.said]
    assert names == [
        "phase-started", "undo-recorded", "on", "phase-started", "cold-start", "phase-started", "off", "undo-recorded",
    ]  # fmt: skip
    assert [phase for phase, _ in found.phases] == ["inject", "hold", "restore"]
    on = found.tape.said[names.index("on")]
    cold_start = found.tape.said[names.index("cold-start")]
    assert on[1:] == (FAULT_ON, {"fault": f"0-blackhole-{TARGET}"})
    assert cold_start[1] == pytest.approx(FAULT_ON + 2, abs=LOOK)
    first, last = (undo["undo"]["expires_at_utc"] for undo in found.tape.of("undo-recorded"))
    assert first == (STARTED + timedelta(seconds=FAULT_ON + 75 + 30)).isoformat()
    assert last == (STARTED + timedelta(seconds=round(ended, 6) + 90 + 75 + 60 + 30)).isoformat()
    assert json.loads(found.run.folder.undo.read_text())["expires_at_utc"] == last
    assert clock.timers == [pytest.approx(75 + 30 - 10)]
    turned = [told for name, told in noted if name == "watchdog.turn"]
    assert turned[0] == 0.0
    assert turned[-1] == pytest.approx(ended - FAULT_ON, abs=2 * LOOK)
    assert not found.run.halt.event.is_set()


def test_a_fault_with_a_time_of_its_own_is_on_for_that_time(tmp_path: Path) -> None:
    """It begins and ends while the first one is held; one that is due a moment after the first waits for its moment."""
    file = STORY.lines[0].fields["drill_file"]
    short = {"kind": "blackhole", "region": "us-west-2", "after_seconds": 5.0, "for_seconds": 3.0}
    soon = {"kind": "blackhole", "region": "eu-west-1", "after_seconds": 1.0, "for_seconds": 1.0}
    story = STORY.changed(of("run-started"), drill_file={**file, "faults": [*file["faults"], short, soon]})
    found = Rehearsal(tmp_path, story, at=FAULT_ON, clock=StageClock(), kind=OnAndOff)

    found.play("_with_faults")

    times = [
        (name, fields["fault"], round(at - FAULT_ON)) for name, at, fields in found.tape.said if name in {"on", "off"}
    ]
    assert times == [
        ("on", f"0-blackhole-{TARGET}", 0),
        ("on", "2-blackhole-eu-west-1", 1),
        ("off", "2-blackhole-eu-west-1", 2),
        ("on", "1-blackhole-us-west-2", 5),
        ("off", "1-blackhole-us-west-2", 8),
        ("off", f"0-blackhole-{TARGET}", 32),
    ]


class SlowToAct(OnAndOff):
    """A conductor that needs four seconds to put a fault on, and by then has lost its lease if it is said so."""

    fenced = False

    @contextmanager
    def _fault(self, order: Any, scene: Any) -> Iterator[None]:
        self._clock.wait(threading.Event(), 4.0)
        if self.fenced:
            raise FencedError("taken")
        with super()._fault(order, scene):
            yield


def test_the_bite_is_waited_for_from_when_the_first_faults_are_on(tmp_path: Path) -> None:
    """However long putting them on took: ten seconds are left for it."""
    mild = STORY.changed(of("attempt"), error_code="")
    found = Rehearsal(tmp_path, mild, at=FAULT_ON, clock=StageClock(), kind=SlowToAct)

    with pytest.raises(UnmetError, match="did not bite"):
        found.play("_with_faults")

    assert found.tape.seconds == pytest.approx(FAULT_ON + 4 + 10)


def test_where_the_first_fault_could_not_be_put_on_no_restore_is_decided(tmp_path: Path) -> None:
    """The time from the decision to the fault's end would be measured from a decision that nobody took."""
    found = Rehearsal(tmp_path, at=FAULT_ON, clock=StageClock(), kind=SlowToAct)
    found.conductor.fenced = True  # type: ignore[attr-defined]

    with pytest.raises(FencedError):
        found.play("_with_faults")

    assert [phase for phase, _ in found.phases] == ["inject"]


def evacuated(folder: Path) -> tuple[Rehearsal, Any]:
    file = STORY.lines[0].fields["drill_file"]
    story = STORY.changed(of("run-started"), drill_file={**file, "faults": [{"kind": "evacuation"}]})
    found, stage = Rehearsal(folder, story, at=FAULT_ON), Stage()
    stage.orders, stage.lines = Orders(found.clock), dict.fromkeys(REGIONS)  # type: ignore[attr-defined]
    return found, stage


def test_a_fault_is_noted_as_it_was_read_back(tmp_path: Path) -> None:
    """On, with what would show it, and off again, by whom."""
    found, stage = evacuated(tmp_path)
    [order] = found.run.faults

    with found.conductor._fault(order, stage):
        assert stage.orders.avoided == [TARGET]

    which = {"fault_id": order.id, "fault": "evacuation", "region": TARGET}
    assert found.tape.of("fault-injected") == [{**which, "avoided": [TARGET], "bite": bite(order.plan).to_json()}]
    assert found.tape.of("fault-removed") == [{**which, "avoided": [], "by": "drill"}]


def test_a_fault_is_put_on_the_proxy_and_the_line_of_its_own_region_and_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several, each has its own."""
    sites: list[Any] = []

    @contextmanager
    def applied(_order: Any, site: Any, *, lifted: Any) -> Iterator[dict[str, Any]]:
        sites.append((site.proxy.name, site.line))
        yield {}

    monkeypatch.setattr("kms_chaos.conductor.applied", applied)
    file = STORY.lines[0].fields["drill_file"]
    faults = [
        {"kind": "blackhole", "region": "us-west-2"},
        {"kind": "blackhole", "region": "us-west-2", "service": "sts"},
    ]
    services = {("sts", "us-west-2"): "sts.us-west-2.amazonaws.com:443"}
    story = STORY.changed(of("run-started"), drill_file={**file, "faults": faults, "watchdog": {}})
    found = Rehearsal(tmp_path, story, services=services)
    stage: Any = Stage()
    stage.orders, stage.lines = None, {region: f"line of {region}" for region in REGIONS}
    stage.service_lines = {where: f"line of {where}" for where in services}

    for order in found.run.faults:
        with found.conductor._fault(order, stage):
            pass

    assert sites == [
        (f"kmswd.{RUN_ID}.us-west-2", "line of us-west-2"),
        (f"kmswd.{RUN_ID}.us-west-2.sts", "line of ('sts', 'us-west-2')"),
    ]


def test_who_may_not_act_any_more_injects_nothing(tmp_path: Path) -> None:
    """The lease is asked right before each fault."""
    found, stage = evacuated(tmp_path)

    def fenced() -> None:
        raise FencedError("taken")

    found.conductor._may_act = fenced
    with pytest.raises(FencedError), found.conductor._fault(found.run.faults[0], stage):
        pytest.fail("the fault was on")

    assert stage.orders.avoided == []
    assert found.tape.said == []


class Core:
    """A core of which only doors are asked for."""

    def pinned(self, region: str) -> str:
        return region


def test_messages_are_opened_where_it_is_said_and_a_halt_ends_it(tmp_path: Path) -> None:
    """With none sealed yet each region says so; whoever was halted meanwhile goes no further."""
    found, stage = Rehearsal(tmp_path), Stage()
    stage.core, stage.ledger = Core(), Ledger()  # type: ignore[attr-defined]
    scene: Any = stage

    Conductor._check_messages(found.conductor, scene, "hold", REGIONS[1:])
    assert {(one["when"], one["region"]) for one in found.tape.of("messages-checked")} == {
        ("hold", region) for region in REGIONS[1:]
    }

    found.run.halt.call("SIGTERM")
    with pytest.raises(HaltedError, match="SIGTERM"):
        Conductor._check_messages(found.conductor, scene, "hold", REGIONS)


# ------------------------------------------------------------------------------------------- whatever happens


@pytest.mark.parametrize(
    ("error", "says"),
    [
        pytest.param(HaltedError("SIGINT"), "SIGINT", id="halted"),
        pytest.param(UnmetError("no bite"), "no bite", id="unmet"),
        pytest.param(FencedError("taken"), "the drill lease: taken", id="fenced"),
        pytest.param(LeaseUnreachableError("no answer"), "the drill lease: no answer", id="lease-unreachable"),
        pytest.param(ToxiproxyError("HTTP 500"), "ToxiproxyError: HTTP 500", id="toxiproxy"),
        pytest.param(KmsUnavailableError("nobody"), "KmsUnavailableError: nobody", id="core"),
        pytest.param(RouteError("no way"), "RouteError: no way", id="route"),
        pytest.param(ZeroDivisionError("oops"), "crashed: ZeroDivisionError: oops", id="crash"),
    ],
)
def test_whatever_ends_it_is_said_and_what_was_made_is_deleted(tmp_path: Path, error: Exception, says: str) -> None:
    """The undo record was on disk before; the last word is that nothing is left."""
    found = Rehearsal(tmp_path, server=Server(fails=error))

    assert found.conductor.perform()

    assert found.server.there == {}
    assert [name for name, *_ in found.tape.said] == ["undo-recorded", "restore-verified", "interrupted"]
    assert found.tape.of("interrupted") == [{"reason": says}]
    assert found.tape.of("restore-verified") == [
        {"proxies_left": [], "by": "drill", "finding": "read back from the server"}
    ]
    assert json.loads(found.run.folder.undo.read_text()) == json.loads(
        json.dumps(found.tape.of("undo-recorded")[0]["undo"])
    )


def test_a_journal_that_cannot_be_written_is_told_to_whoever_called(tmp_path: Path) -> None:
    """There is nowhere to say it; what was made is deleted all the same."""
    found = Rehearsal(tmp_path, server=Server(fails=JournalWriteError("the disk is full")))

    with pytest.raises(JournalWriteError):
        found.conductor.perform()

    assert found.server.there == {}


ALL = [f"kmswd.{RUN_ID}.{region}" for region in REGIONS]


@pytest.mark.parametrize(
    ("server", "left", "finding"),
    [
        pytest.param(Server(keeps="eu-west-1"), ALL[2:], "read back", id="stays"),
        pytest.param(Server(deaf=ToxiproxyError("HTTP 500")), ALL, "HTTP 500", id="error"),
        pytest.param(Server(deaf=ToxiproxyUnreachableError("hangs", refused=False)), ALL, "hangs", id="hangs"),
        pytest.param(Server(deaf=ToxiproxyUnreachableError("gone", refused=True)), [], "the server is gone", id="gone"),
    ],
)
def test_what_may_be_left_is_named_and_is_not_restored(
    tmp_path: Path, server: Server, left: list[str], finding: str
) -> None:
    """A server that does not answer may have all of it; one that is gone has nothing."""
    found = Rehearsal(tmp_path, server=server)
    for name in ALL:
        server.create(name, upstream="x", listen="y")

    found.conductor._delete_proxies()

    [verified] = found.tape.of("restore-verified")
    assert verified["proxies_left"] == left
    assert finding in verified["finding"]
    assert found.conductor._restored is not bool(left)


def test_what_nobody_could_look_at_is_not_restored(tmp_path: Path) -> None:
    """The last step itself crashed: it is said, and the drill's folder stays open for whoever heals."""
    found = Rehearsal(tmp_path, server=Server(fails=HaltedError("no"), deaf=ZeroDivisionError("oops")))

    assert found.conductor.perform() is False

    assert found.tape.of("interrupted") == [{"reason": "crashed: ZeroDivisionError: oops"}]
    assert found.tape.of("restore-verified") == []


def test_a_crash_is_told_on_stderr_with_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal has one line of it, by which nobody finds a mistake; what the drill waits for in vain is no crash."""
    Rehearsal(tmp_path / "crashed", server=Server(fails=ZeroDivisionError("oops"))).conductor.perform()
    crashed = capsys.readouterr().err
    Rehearsal(tmp_path / "halted", server=Server(fails=HaltedError("no"))).conductor.perform()

    assert crashed.startswith("Traceback (most recent call last)")
    assert crashed.endswith("ZeroDivisionError: oops\n")
    assert capsys.readouterr().err == ""


def test_the_undo_record_says_until_when(tmp_path: Path) -> None:
    """The longest baseline and the longest fault, and a margin."""
    found = Rehearsal(tmp_path, server=Server(fails=HaltedError("no")))
    found.conductor.perform()

    [recorded] = found.tape.of("undo-recorded")
    assert recorded["undo"]["expires_at_utc"] == (STARTED + timedelta(seconds=45 + 75 + 30)).isoformat()
    assert [proxy["name"] for proxy in recorded["undo"]["proxies"]] == ALL


def test_the_second_timer_rings_before_the_daemons_and_lifts_everything(tmp_path: Path) -> None:
    """Whatever the conductor hangs on; that a server is deaf then is found at the last step."""
    for server in (Server(), Server(deaf=ToxiproxyError("no"))):
        found = Rehearsal(tmp_path / str(id(server)), server=server)
        server.there = {ALL[0]: ProxyState(name=ALL[0], listen="", upstream="", enabled=True, toxics=())}
        before = found.clock.monotonic()

        with found.conductor._limited():
            assert found.run.halt.event.wait(20.0)

        assert found.run.halt.reason == "time is up"
        assert found.clock.monotonic() - before == pytest.approx(45 + 75 + 30 - 10)
        assert (server.there == {}) is (server._deaf is None)
        assert server.asked_by.daemon  # one that hangs there does not keep the process alive
