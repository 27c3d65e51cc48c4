"""One command runs the watchdog over three local regions, through a drill, to a verdict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from whole_processes import FinishedDemo, read_journal, records

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.minutes(2), pytest.mark.timeout(330)]
TARGET = "us-east-1"


def fault_window(demo: FinishedDemo) -> tuple[float, float]:
    """Return when the fault was read back from the server, and when its removal began, which closes connections."""
    [injected] = records(demo.drill, "fault-injected")
    [restore] = [r for r in records(demo.drill, "phase-started") if r.fields["phase"] == "restore"]
    return injected.t, restore.t


def test_the_demo_ends_with_held_and_zero(finished_demo: FinishedDemo) -> None:
    """Exit code 0 is for HELD alone, and the report's path is printed."""
    verdict = json.loads(finished_demo.drill.verdict.read_text(encoding="utf-8"))

    assert (finished_demo.exit_code, verdict["verdict"]) == (0, "HELD"), finished_demo.output
    assert str(finished_demo.drill.report) in finished_demo.output


def test_nothing_is_left_running(finished_demo: FinishedDemo) -> None:
    """No process of the demo's survives it."""
    assert finished_demo.left == []


def test_requests_to_the_target_timed_out_through_the_proxy(finished_demo: FinishedDemo) -> None:
    """The black hole was real: while it lasted, no request that began in it was answered by us-east-1."""
    begin, end = fault_window(finished_demo)
    proxy = f"kmswd.{finished_demo.drill.run_id}.{TARGET}"
    during = [
        r.fields
        for r in records(finished_demo.drill, "attempt")
        if r.fields["region"] == TARGET and begin < r.t - r.fields["seconds"] and r.t < end
    ]

    assert len(during) > 5
    assert {attempt["proxy"] for attempt in during} == {proxy}
    assert {attempt["error_code"] for attempt in during} <= {"ReadTimeout", "ConnectTimeout", "Deadline"}


def test_no_operation_failed_to_the_caller(finished_demo: FinishedDemo) -> None:
    """Failover hides the region's loss from whoever seals and opens."""
    operations = records(finished_demo.drill, "operation")

    assert len(operations) > 300
    assert [r.fields for r in operations if not r.fields["ok"]] == []


def test_the_breaker_opened_and_closed_again(finished_demo: FinishedDemo) -> None:
    """Closed → open → half-open → … → closed, of the target's region alone."""
    events = [r.fields for r in records(finished_demo.drill, "breaker-moved")]
    moves = [(event["old"], event["new"]) for event in events]

    assert {event["region"] for event in events} == {TARGET}
    assert moves[0] == ("closed", "open")
    assert moves[-1] == ("half_open", "closed")
    assert all(before[1] == after[0] for before, after in pairwise(moves))


def test_the_alarms_twin_went_ok_alarm_ok(finished_demo: FinishedDemo) -> None:
    """CloudWatch's evaluator saw it, from what the daemon published, and no live alarm moved."""
    seen: dict[tuple[str, str], list[str]] = {}
    for r in records(finished_demo.drill, "alarm-state"):
        states = seen.setdefault((r.fields["region"], r.fields["mode"]), [])
        if r.fields["state"] not in states[-1:]:
            states.append(r.fields["state"])

    moved = {key: states for key, states in seen.items() if states != ["OK"]}

    assert moved == {(TARGET, "drill"): ["OK", "ALARM", "OK"]}
    assert (TARGET, "live") in seen


def test_the_watched_regions_own_log_agrees(finished_demo: FinishedDemo) -> None:
    """The local KMS's request log: in the fault, nobody of the drill's got an answer from the target."""
    [injected] = records(finished_demo.drill, "fault-injected")
    [removed] = records(finished_demo.drill, "fault-removed")
    answered = {r.fields["request_id"] for r in records(finished_demo.drill, "attempt") if r.fields["region"] == TARGET}
    log = [json.loads(line) for line in (finished_demo.folder.aws / "requests.ndjson").read_text().splitlines()]
    during = [
        entry["request_id"]
        for entry in log
        if entry["region"] == TARGET and injected.at_utc.isoformat() < entry["at_utc"] < removed.at_utc.isoformat()
    ]

    assert read_journal(finished_demo.drill).closed
    assert during, "the watchdog's own canaries were answered all the while"
    assert not answered & set(during)


def test_the_verdict_can_be_reached_again_from_the_journal(finished_demo: FinishedDemo, tmp_path: Path) -> None:
    """`judge` on a copy of the journal alone, without the system, repeats it byte for byte."""
    copy = tmp_path / finished_demo.drill.run_id
    copy.mkdir()
    shutil.copy(finished_demo.drill.journal, copy)

    again = subprocess.run(
        [sys.executable, "-m", "kms_chaos", "judge", "--json", str(copy)], capture_output=True, text=True, check=False
    )

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(finished_demo.drill.verdict.read_text(encoding="utf-8"))


def test_the_report_opens_in_a_browser(finished_demo: FinishedDemo, tmp_path: Path) -> None:
    """One file, no script, nothing fetched; the fault is shaded over latency and outcome."""
    html = finished_demo.drill.report.read_text(encoding="utf-8")
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("CI"), "CI must have Chromium"
        pytest.skip("no chromium on PATH")

    shown = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            finished_demo.drill.report.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout

    assert "<script" not in html
    assert "HELD" in shown
    assert shown.count("<svg") >= 1
    for words in ("Latency of every operation", "What had to be proved", "The fault bit the target"):
        assert words in shown
