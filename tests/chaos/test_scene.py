"""The scene that the conductor decides by, and the screen that people look at."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kms_chaos import screen
from kms_chaos.faults.plans import Bite
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.run import Run
from kms_chaos.scene import CanaryView, Scene, View, all_closed, both_lanes_serve, in_state, steady
from kms_chaos.tape import JournalTape
from kms_chaos.testing import (
    FAULT_ON,
    PURPOSES,
    REGIONS,
    RESTORE_AT,
    RUN_ID,
    STARTED,
    TARGET,
    canary_result,
    drill,
    held_story,
)
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.config import Estate, Key, Settings, State
from kms_watchdog.results import Outcome

CANARIES = frozenset((region, purpose) for region in REGIONS for purpose in PURPOSES)
TWIN = frozenset({("HighErrorRate", TARGET, "drill")})


def view_at(t: float) -> View:
    scene = Scene(REGIONS)
    for one in sorted(held_story().lines, key=lambda one: one.t):
        if one.t <= t:
            scene.take(one.event, one.t, one.fields)
    return scene.view(t)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings(
        estate=Estate(account_id="123456789012", primary_region=TARGET, regions=REGIONS),
        keys={purpose: Key(alias=f"alias/{purpose}") for purpose in PURPOSES},
        state=State(dir=tmp_path),
    )
    clock = ManualClock(start_utc=STARTED)
    return Run(settings=settings, drill=drill(), targets=(TARGET,), run_id=RUN_ID, clock=clock)


def test_the_steady_state_needs_every_canary_and_a_look_begun_since() -> None:
    """An old success says nothing about now; a missing canary is not OK."""
    view = view_at(7.0)

    assert steady(view, since=0.5, expected=CANARIES)
    assert not steady(view, since=6.5, expected=CANARIES)
    assert not steady(view, since=0.5, expected=CANARIES | {("eu-north-1", "general")})
    assert not steady(view_at(30.0), since=0.5, expected=CANARIES)


def test_both_lanes_must_serve() -> None:
    """One lane alone, or one failure, is not enough."""
    view = view_at(7.0)

    assert both_lanes_serve(view, since=1.0)
    assert not both_lanes_serve(view, since=6.9)
    failed = replace(view, recent=(*view.recent, replace(view.recent[-1], ok=False)))
    assert not both_lanes_serve(failed, since=1.0)


def test_the_fault_and_what_it_hurts_are_seen() -> None:
    """Failures at the target count from the injection on."""
    before, during, after = view_at(FAULT_ON - 0.5), view_at(30.0), view_at(60.0)

    assert (before.fault_regions, during.fault_regions, after.fault_regions) == ((), (TARGET,), ())
    assert during.every_fault_bit
    assert during.faults[0].bitten > 10
    assert not before.every_fault_bit
    assert during.breakers[TARGET] == "open"
    assert [all_closed(view) for view in (before, during, after)] == [True, False, after.breakers[TARGET] == "closed"]
    assert in_state(before, TWIN, "OK")
    assert in_state(view_at(FAULT_ON + 33), TWIN, "ALARM")
    assert not in_state(before, TWIN | {("Other", TARGET, "drill")}, "OK")


@pytest.mark.parametrize("t", [0.0, 5.0, 12.0, RESTORE_AT + 1, 84.0])
def test_a_picture_can_be_drawn_at_any_time(run: Run, t: float) -> None:
    """And says which phase it is, and whether there is a fault."""
    shown = io.StringIO()

    Console(file=shown, force_terminal=True, width=120).print(screen.picture(run, view_at(t)))

    assert "region-blackhole on us-east-1" in shown.getvalue()
    assert ("FAULT ON" in shown.getvalue()) is (FAULT_ON <= t < RESTORE_AT)


def test_plain_lines_tell_what_changed() -> None:
    """For pipes and logs: phases, fault, breakers, alarms, failures."""
    before, after = view_at(7.0), view_at(FAULT_ON + 33)
    worse = replace(after, failed=2)

    assert screen.changes(None, before) == ["phase baseline"]
    assert screen.changes(before, worse) == [
        "phase hold",
        "fault on: us-east-1",
        "breaker us-east-1: open",
        "alarm HighErrorRate us-east-1 (drill): ALARM",
        "2 operations have failed",
    ]
    assert screen.changes(after, view_at(60.0))[1] == "fault off"
    assert screen.changes(after, after) == []
    assert "operations" in screen.summary(after)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_screen_shows_a_tape_as_it_grows(run: Run, tmp_path: Path, *, terminal: bool) -> None:
    """On a terminal and in a pipe; taken down at the end with the last state shown."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=100)
    clock = SystemClock()
    with JournalWriter(tmp_path / "journal.ndjson", clock) as writer:
        tape = JournalTape(writer, Scene(REGIONS))
        with screen.shown(run, console, clock) as found:
            found.on_air(tape)
            tape.record_now("phase-started", phase="baseline")
            threading.Event().wait(0.4)
            tape.record_now("phase-started", phase="inject")

    assert "baseline" in shown.getvalue()
    assert "inject" in shown.getvalue()


def test_a_screen_that_never_got_a_tape_ends_quietly(run: Run) -> None:
    """A refused drill shows nothing."""
    shown = io.StringIO()

    with screen.shown(run, Console(file=shown, force_terminal=False), SystemClock()):
        pass

    assert shown.getvalue() == ""


TIMED_OUT = Bite(codes=frozenset({"ReadTimeout"}))


class Playing:
    """A scene into which lines are put one by one."""

    def __init__(self) -> None:
        self._scene = Scene(REGIONS)

    def put(self, t: float, event: str, **fields: Any) -> None:
        self._scene.take(event, t, fields)

    def inject(self, t: float, number: str, region: str = TARGET, bite: Bite = TIMED_OUT) -> None:
        self.put(t, "fault-injected", fault_id=number, region=region, bite=bite.to_json())

    def attempt(self, t: float, region: str = TARGET, error_code: str = "ReadTimeout", seconds: float = 0.5) -> None:
        told = {"region": region, "error_code": error_code, "seconds": seconds}
        self.put(t, "attempt", operation="Decrypt", **told)

    def operation(self, t: float, *, ok: bool = True, lane: str = "warm", seconds: float = 0.5) -> None:
        self.put(t, "operation", ok=ok, lane=lane, seconds=seconds, region=TARGET)

    @property
    def view(self) -> View:
        return self._scene.view(99.0)

    @property
    def bitten(self) -> list[int]:
        return [fault.bitten for fault in self.view.faults]


@pytest.fixture
def playing() -> Playing:
    return Playing()


def test_at_first_nothing_has_happened(playing: Playing) -> None:
    """Every breaker is closed, nothing is counted, no fault is on and none has bitten."""
    view = playing.view

    assert (view.at, view.phase, view.phase_since, view.verdict) == (99.0, "start", 0.0, "")
    assert (view.operations, view.failed, view.failed_over) == (0, 0, 0)
    assert (view.faults, view.fault_since, view.every_fault_bit) == ((), None, False)
    assert view.breakers == dict.fromkeys(REGIONS, "closed")
    assert (view.canaries, view.alarms, view.recent) == ({}, {}, ())


def test_what_happens_is_counted(playing: Playing) -> None:
    """Each once; a phase begins when it is said to."""
    playing.put(3.0, "phase-started", phase="hold")
    playing.operation(4.0)
    playing.operation(5.0, ok=False)
    playing.operation(6.0, lane="cold")
    playing.put(7.0, "failed-over", from_region=TARGET)
    playing.put(8.0, "failed-over", from_region=TARGET)
    playing.put(9.0, "verdict", verdict="HELD")
    playing.put(9.5, "an-event-of-later", anything="at all")
    view = playing.view

    assert (view.phase, view.phase_since, view.verdict) == ("hold", 3.0, "HELD")
    assert (view.operations, view.failed, view.failed_over) == (3, 1, 2)
    assert [(one.at, one.seconds, one.ok, one.lane, one.region) for one in view.recent] == [
        (4.0, 0.5, True, "warm", TARGET),
        (5.0, 0.5, False, "warm", TARGET),
        (6.0, 0.5, True, "cold", TARGET),
    ]


def test_the_last_two_thousand_operations_are_kept(playing: Playing) -> None:
    """All are counted."""
    for number in range(2001):
        playing.operation(float(number))

    assert (playing.view.operations, len(playing.view.recent)) == (2001, 2000)
    assert playing.view.recent[0].at == 1.0


def test_a_look_is_known_by_when_it_began_and_why_it_failed(playing: Playing) -> None:
    """KMS's own code before the canary's reason; a look that was OK has neither."""
    failed = canary_result(TARGET, "general", 1.0, hurt=True)
    for purpose, result in {
        "general": failed,
        "pii": {**failed, "error_code": ""},
        "payment": canary_result(TARGET, "payment", 1.0, hurt=False),
    }.items():
        playing.put(4.0, "canary-result", result={**result, "key": purpose})

    assert playing.view.canaries == {
        (TARGET, "general"): CanaryView(at=4.0, began=3.0, outcome=Outcome.FAILED, reason="ReadTimeout"),
        (TARGET, "pii"): CanaryView(at=4.0, began=3.0, outcome=Outcome.FAILED, reason="timeout"),
        (TARGET, "payment"): CanaryView(at=4.0, began=3.98, outcome=Outcome.OK, reason=""),
    }


def test_an_attempt_shows_a_fault_when_it_began_in_it_at_its_region_and_looks_like_it(playing: Playing) -> None:
    """Nothing else counts: a fault that was not seen to bite proves nothing."""
    playing.inject(8.0, "0")
    playing.attempt(8.25)  # began before
    playing.attempt(9.0, region=REGIONS[1])
    playing.attempt(9.0, error_code="")
    assert not playing.view.every_fault_bit
    playing.attempt(8.5)  # began as it did
    playing.attempt(9.0)
    assert playing.view.every_fault_bit
    playing.put(10.0, "fault-removed", fault_id="0")
    playing.attempt(11.0)

    assert playing.bitten == [2]
    assert not playing.view.every_fault_bit


def test_every_fault_that_is_on_must_have_bitten(playing: Playing) -> None:
    """Of several, one that did not is enough; one that is over does not count."""
    playing.inject(8.0, "0")
    playing.inject(9.0, "1", REGIONS[1])
    playing.attempt(9.5)

    assert (playing.bitten, playing.view.every_fault_bit, playing.view.fault_since) == ([1, 0], False, 8.0)
    playing.put(10.0, "fault-removed", fault_id="1")
    assert (playing.view.every_fault_bit, playing.view.fault_regions) == (True, (TARGET,))
    playing.inject(11.0, "2", TARGET)
    assert (playing.view.every_fault_bit, playing.view.fault_regions) == (False, (TARGET,))
    playing.put(12.0, "fault-removed", fault_id="0")
    assert playing.view.fault_since == 11.0


def test_a_fault_that_is_quiet_shows_in_nothing(playing: Playing) -> None:
    """That nobody asks is shown by nothing: the judge counts who did."""
    playing.inject(8.0, "0", bite=Bite(quiet=True, whole=False))

    assert (playing.bitten, playing.view.every_fault_bit) == ([1], True)


def test_a_service_beside_kms_shows_its_own_fault_alone(playing: Playing) -> None:
    """And KMS, well meanwhile or not, does not show it."""
    playing.inject(8.0, "0", bite=Bite(codes=frozenset({"ReadTimeout"}), operations=frozenset({"sts"})))
    playing.attempt(9.0)
    assert playing.bitten == [0]

    playing.put(9.0, "service-attempt", service="sts", region=TARGET, error_code="ReadTimeout", seconds=0.5)

    assert playing.bitten == [1]


def test_what_began_as_the_phase_did_counts(playing: Playing) -> None:
    """A look or an operation that began before says nothing of now; one that failed since spoils it."""
    where = frozenset({(TARGET, "general")})
    playing.put(
        4.0, "canary-result", result={**canary_result(TARGET, "general", 1.0, hurt=False), "duration_seconds": 0.5}
    )
    playing.operation(4.0)
    playing.operation(4.0, lane="cold")
    assert steady(playing.view, since=3.5, expected=where)
    assert not steady(playing.view, since=3.75, expected=where)
    assert both_lanes_serve(playing.view, since=3.5)
    assert not both_lanes_serve(playing.view, since=3.75)

    playing.operation(5.0, ok=False)
    assert not both_lanes_serve(playing.view, since=3.5)
    assert not both_lanes_serve(playing.view, since=4.25)


def test_a_lane_in_which_all_failed_does_not_serve(playing: Playing) -> None:
    """Though both ran."""
    playing.operation(4.0)
    playing.operation(4.0, lane="cold", ok=False)

    assert not both_lanes_serve(playing.view, since=3.0)
