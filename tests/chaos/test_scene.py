"""The scene that the conductor decides by, and the screen that people look at."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kms_chaos import screen
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.run import Run
from kms_chaos.scene import Scene, View, both_lanes_serve, in_state, steady
from kms_chaos.tape import JournalTape
from kms_chaos.testing import FAULT_ON, PURPOSES, REGIONS, RESTORE_AT, RUN_ID, STARTED, TARGET, drill, held_story
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.config import Estate, Key, Settings, State

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
