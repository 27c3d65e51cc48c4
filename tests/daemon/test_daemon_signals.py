"""Signals to the daemon as a process: SIGHUP reloads, SIGTERM lets a drill restore first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from running_daemon import CLOCK, Start, config, provisioned, start
from waiting import wait_until

from kms_core.testing import ManualClock
from kms_watchdog.commands.run import _Signals
from kms_watchdog.drills.slot_ledger import SlotLedger

__all__ = ["config", "provisioned", "start"]  # fixtures


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_it_is_still_being_loaded(tmp_path: Path, number: signal.Signals) -> None:
    """Its imports take a second or more on a small machine; whoever ends it then has ended it well."""
    (tmp_path / "click.py").write_text("import signal\nprint('loading', flush=True)\nsignal.pause()\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "kms_watchdog", "run"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(number)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_reload_is_told_from_outside(start: Start, config: Path) -> None:
    """SIGHUP: a bad file changes nothing but the metric and a line; a good one is taken by the same process."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")
    runs = daemon.value("canary_runs_total")
    good = config.read_text()

    config.write_text(good + "[log]\nlevl = 'debug'\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.events("config.refused"), says="the bad one is refused")
    after_bad = daemon.value("config_last_reload_successful")
    config.write_text(good.replace("interval_seconds = 1.0", "interval_seconds = 2.0"))
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.value("canary_interval_seconds", canary="round_trip") == 2, says="the good one is taken")

    assert "log.levl: unknown key; did you mean level?" in daemon.events("config.refused")[0]["why"]
    assert (after_bad, daemon.value("config_last_reload_successful")) == (0, 1)
    assert daemon.value("canary_runs_total") >= runs
    assert daemon.get("/readyz")[0] == 200
    assert daemon.stop() == 0


def test_a_storm_of_signals_is_one_reload_and_never_delays_the_end() -> None:
    """Each reload takes seconds: a hundred of them would have kept a SIGTERM waiting for minutes."""
    clock = ManualClock()
    with _Signals(clock) as signals:
        for _ in range(100):
            signal.raise_signal(signal.SIGHUP)
        storm, after_it = signals.next(0.01), signals.next(0.01)
        ending_before = signals.ending
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            clock.advance(1)
            signal.raise_signal(number)
        end = signals.next(0.01)

    assert storm is not None
    assert storm.number == signal.SIGHUP
    assert after_it is None
    assert (ending_before, signals.ending) == (False, True)
    assert end is not None
    assert (end.number, end.at - storm.at) == (signal.SIGTERM, 2)  # when it came, not when it was seen


# It waits for the signal itself: a handler that sets an event can deadlock with the wait for that event.
FAKE_DRILL = """
import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
pathlib.Path(r"{folder}", "began").write_text(" ".join(sys.argv[1:]))
signal.sigtimedwait([signal.SIGTERM if "{obeys}" else signal.SIGUSR1], {seconds})
pathlib.Path(r"{folder}", "restored").write_text("")
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("obeys", "code"), [pytest.param("yes", 0, id="restores"), pytest.param("", 75, id="hangs", marks=pytest.mark.slow)]
)
def test_a_stop_passes_on_to_the_drill(start: Start, config: Path, tmp_path: Path, obeys: str, code: int) -> None:
    """A due slot is started; SIGTERM waits for its restore, or, when that takes too long, says so by 75."""
    package = tmp_path / "fake" / "kms_chaos"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FAKE_DRILL.format(folder=tmp_path, obeys=obeys, seconds=120 if obeys else 6))
    today = CLOCK.now_utc()
    config.write_text(
        config.read_text()
        + f"[drills]\nshutdown_seconds = {30 if obeys else 1.5}\n[drills.slots.x]\ndrill = 'region-blackhole'\n"
        + f"every = 'week'\nday = {today.isoweekday()}\nat = '00:00'\nwindow_days = 6\n"
    )
    (tmp_path / "state").mkdir()
    ledger = SlotLedger(tmp_path / "state" / "slots.db", ManualClock(start_utc=today - timedelta(days=2)))
    ledger.planned_since(["x"])
    ledger.close()
    daemon = start(config, PYTHONPATH=str(tmp_path / "fake"))
    wait_until((tmp_path / "began").exists, says="the slot's drill is started")

    ended = daemon.stop()

    assert ended == code
    assert (tmp_path / "restored").exists() == bool(obeys)
    assert [event["event"] for event in daemon.events("drill.told_to_end")] == ["drill.told_to_end"]
    assert (tmp_path / "began").read_text().startswith(f"run region-blackhole --config {config} --slot x/")
    wait_until((tmp_path / "restored").exists, says="nothing is left of it")
