"""Halt and resume: one switch that outlives processes and machines, and needs neither AWS nor a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from guard_kit import NOW, write_config

from kms_chaos import halting
from kms_chaos.cli import cli
from kms_chaos.guards import NotHeldError, nobody_halts
from kms_core.testing import ManualClock
from kms_watchdog.drills import halt_order
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.watch import DrillWatch
from kms_watchdog.sinks.prometheus import Exposition


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=NOW)


def test_a_halt_keeps_drills_away_until_somebody_resumes(tmp_path: Path, clock: ManualClock) -> None:
    """Who, when and why are in the refusal; who ended it and why are kept."""
    assert nobody_halts(tmp_path) == "no halt is engaged"
    halting.engage(tmp_path, clock, by="ann@desk", reason="a real outage")

    with pytest.raises(NotHeldError, match="2026-11-25 10:00 UTC by ann@desk: a real outage"):
        nobody_halts(tmp_path)
    clock.advance(3600)
    assert halting.resume(tmp_path, clock, by="bob@desk", reason="it is over")

    assert nobody_halts(tmp_path)
    ended = json.loads((tmp_path / "drills/halt-ended.json").read_text())
    assert (ended["halt"]["by"], ended["ended_by"], ended["reason"]) == ("ann@desk", "bob@desk", "it is over")
    assert ended["ended_at_utc"] == "2026-11-25T11:00:00+00:00"
    assert not halting.resume(tmp_path, clock, by="bob@desk", reason="again")


def test_a_second_halt_does_not_hide_the_first(tmp_path: Path, clock: ManualClock) -> None:
    """Whoever comes later sees why it began."""
    first = halting.engage(tmp_path, clock, by="ann", reason="first")
    clock.advance(60)

    assert halting.engage(tmp_path, clock, by="bob", reason="second") == first
    assert halt_order.read(tmp_path) == first


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="torn"),
        pytest.param('{"schema": 2, "by": "x", "at_utc": "2026-11-25T10:00:00+00:00", "reason": "y"}', id="newer"),
        pytest.param("[]", id="no-order"),
    ],
)
def test_a_halt_that_cannot_be_read_halts(tmp_path: Path, clock: ManualClock, content: str) -> None:
    """Somebody wrote it; it ends by `resume`, and a new one takes its place."""
    where = halt_order.path(tmp_path)
    where.parent.mkdir()
    where.write_text(content)

    with pytest.raises(NotHeldError, match="a halt is engaged"):
        nobody_halts(tmp_path)
    assert halt_order.engaged(tmp_path)
    assert halting.engage(tmp_path, clock, by="ann", reason="known").reason == "known"
    where.write_text(content)
    assert halting.resume(tmp_path, clock, by="ann", reason="over")
    assert not halt_order.engaged(tmp_path)


def test_the_commands(tmp_path: Path) -> None:
    """Neither asks AWS; `list` goes on; a drill is refused before anything is touched."""
    config = ["--config", str(write_config(tmp_path))]
    run = CliRunner()

    halted = run.invoke(cli, ["halt", "--reason", "a  real\noutage", *config])
    listed = run.invoke(cli, ["list", *config])
    resumed = run.invoke(cli, ["resume", "--reason", "over", *config])
    again = run.invoke(cli, ["resume", "--reason", "over", *config])

    assert (halted.exit_code, listed.exit_code, resumed.exit_code, again.exit_code) == (0, 0, 0, 0)
    assert ": a real outage" in halted.output
    assert "may start again" in resumed.output
    assert "no halt was engaged" in again.output
    assert folders(tmp_path / "state") == ()


@pytest.mark.parametrize("command", ["halt", "resume"])
def test_without_a_reason_nothing_is_done(tmp_path: Path, command: str) -> None:
    """White space is none."""
    config = ["--config", str(write_config(tmp_path))]

    for arguments in ([], ["--reason", "  "]):
        assert CliRunner().invoke(cli, [command, *arguments, *config]).exit_code == 2
    assert not halt_order.engaged(tmp_path / "state")


def test_the_daemon_shows_a_halt(tmp_path: Path, clock: ManualClock) -> None:
    """As long as it is engaged, at each look; one that cannot be read too."""
    exposition = Exposition()
    watch = DrillWatch(tmp_path, exposition, clock, start=lambda _: pytest.fail("heals"), follower=Follower(tmp_path))

    def shown() -> str:
        watch.look()
        lines = exposition.render("")[0].decode().splitlines()
        return next(line for line in lines if line.startswith("kms_watchdog_drills_halted")).rpartition(" ")[2]

    assert shown() == "0.0"
    halting.engage(tmp_path, clock, by="ann", reason="an outage")
    assert shown() == "1.0"
    halt_order.path(tmp_path).write_text("{")
    assert shown() == "1.0"
    halting.resume(tmp_path, clock, by="ann", reason="over")
    assert shown() == "0.0"
