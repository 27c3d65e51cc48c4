"""A scheduled drill, and a stop in the middle of its fault: restored before the daemon ends, and written down."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from waiting import wait_until
from whole_processes import CLOCK, read_journal, records

from kms_core.testing import ManualClock
from kms_local.demo.configuration import DemoFolder, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import SlotState

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]


def test_a_stop_in_the_middle_of_a_scheduled_drill(stage: Stage, tmp_path: Path) -> None:
    """The daemon starts what is due, passes SIGTERM on, waits for the restore and ends with 0; the ledger knows."""
    folder = DemoFolder(next(iter((tmp_path / "stage").iterdir())))
    now = CLOCK.now_utc()
    with folder.configuration.open("a", encoding="utf-8") as config:
        config.write("\n[drills.slots.weekly]\ndrill = 'region-blackhole'\nevery = 'week'\n")
        config.write(f"day = {now.isoweekday()}\nat = '00:00'\nwindow_days = 6\n")
    folder.state.mkdir(exist_ok=True)
    slots = folder.state / "slots.db"
    with closing(SlotLedger(slots, ManualClock(start_utc=now - timedelta(days=2)))) as ledger:
        ledger.planned_since(["weekly"])
    stage.start_daemon()
    wait_until(lambda: folders(folder.state), seconds=60, says="the slot's drill has a folder")
    (run,) = folders(folder.state)
    wait_until(lambda: records(run, "fault-injected"), seconds=90, says="the fault is in place")

    os.kill(int(json.loads((folder.state / "http.json").read_text())["pid"]), signal.SIGTERM)
    daemon = stage._daemon
    assert daemon is not None
    code = daemon.wait(60)

    toxiproxy = read_endpoints(folder)["toxiproxy"]["url"]
    with urllib.request.urlopen(f"{toxiproxy}/proxies", timeout=10) as answer:  # noqa: S310 - ours, on 127.0.0.1
        assert json.loads(answer.read()) == {}
    assert code == 0
    assert read_journal(run).closed
    assert [record.fields["reason"] for record in records(run, "interrupted")] == ["SIGTERM"]
    [started] = records(run, "run-started")
    assert started.fields["slot"].startswith("weekly/")
    with closing(SlotLedger(slots, CLOCK)) as ledger:
        assert [(row.id, row.run_id, row.state) for row in ledger.rows()] == [
            (started.fields["slot"], run.run_id, SlotState.ABORTED)
        ]
