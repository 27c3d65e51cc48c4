"""What befalls drills: one fails, cannot tell, never ends, is killed, is halted, is overdue."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta

from alarm_path import AGAIN_SECONDS, CLOCK, Fires, Page, Situation, Stand, wait_for

from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folders
from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.readiness.sign_offs import SCHEMA
from kms_watchdog.readiness.tasks import DIGEST

BROKE, REFUSED = 1, 4
"""The exit codes of a drill that found something bad, and of one that was not let in."""
OTHERS = r"(?s).*"
"""What any answer is: that command looks at other alarms, which may fire or not."""
LONG = """
title = "A long black hole"
why = "To be ended by somebody."
mode = "sustained"
[target]
region = "primary"
[[faults]]
kind = "blackhole"
[timing]
baseline_at_least_seconds = 1
baseline_at_most_seconds = 60
hold_at_least_seconds = 600
hold_at_most_seconds = 900
[workload]
operations_per_second = 4.0
canary_interval_seconds = 2.0
[objectives]
p99_seconds = 3.0
rto_seconds = 60.0
"""


def _start(stand: Stand, drill: str, **environment: str) -> None:
    """Start a drill, and see that its fault is on.

    On a machine that is slow for a while, the live HighLatency fires, and a drill is refused then, at its door or
    during its baseline: it is started again.
    """
    asking = stand.shells[False].sitting("asks")

    def is_let_in() -> bool:
        if asking.run("kms-chaos plan region-blackhole --ask", {}).exit_code:
            return False
        _launch(stand, drill, environment)
        process = stand.started["drill"]
        wait_for(lambda: process.poll() is not None or _has_begun(stand), says="the drill begins", seconds=300)
        return process.poll() != REFUSED or _has_begun(stand)

    wait_for(is_let_in, says="no guard is against a drill", every=AGAIN_SECONDS)


def _launch(stand: Stand, drill: str, environment: Mapping[str, str]) -> None:
    """Start a drill's process in a session of its own, so that it can be killed whole."""
    stand.kept["runs"] = " ".join(found.run_id for found in folders(stand.first.state))
    log = (stand.folder.path / "drill.log").open("ab")
    with log:
        stand.started["drill"] = subprocess.Popen(
            [sys.executable, "-m", "kms_chaos", "run", drill, "--config", str(stand.first.config)],
            env={**stand.first.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _has_begun(stand: Stand) -> bool:
    """Whether the drill that was started last has put its fault on."""
    found = _new(stand)
    if found is None or not found.journal.exists():
        return False
    return any(record.event == "fault-injected" for record in journal.read(found.journal).records)


def _ended(stand: Stand) -> None:
    """Wait until the drill has ended."""
    wait_for(lambda: stand.started["drill"].poll() is not None, says="the drill ends", seconds=300)


def _new(stand: Stand) -> DrillFolder | None:
    """Return the folder of the drill that was started last, once it has one."""
    before = stand.kept["runs"].split()
    return next((found for found in folders(stand.first.state) if found.run_id not in before), None)


def _start_a_long_one(stand: Stand) -> None:
    path = stand.folder.path / "long.toml"
    path.write_text(LONG, encoding="utf-8")
    _start(stand, str(path))
    process = stand.started["drill"]
    assert process.poll() is None, (stand.folder.path / "drill.log").read_text(encoding="utf-8")[-3000:]


def _let_go(stand: Stand) -> None:
    """End what is left of a drill, and let drills run again."""
    process = stand.started.get("drill")
    if process is not None and process.poll() is None:
        process.terminate()
        _ended(stand)
    shell = stand.shells[False].sitting("resumes")
    shell.run('kms-chaos resume --reason "INC-7: over"', {})


STUCK = Situation(
    name="a drill runs for very long",
    plant=_start_a_long_one,
    fires=(Fires(row="DrillStuck"),),
    pages=(
        Page(
            name="drill-stuck.md",
            shows=(r"drill\t", r"(?s)kms_chaos.*kmswd\.", OTHERS),
            fix=("kms-chaos halt", _ended, "kms-chaos resume"),
            over=("kms-chaos heal",),
        ),
    ),
    mend=_let_go,
)


def _stop_one(stand: Stand) -> None:
    _start_a_long_one(stand)
    shell = stand.shells[False].sitting("halts")
    for command in ('kms-chaos halt --reason "INC-7: for a test"', 'kms-chaos resume --reason "INC-7: over"'):
        ran = shell.run(command, {})
        assert ran.exit_code == 0, str(ran)
        if "halt" in command:
            _ended(stand)


STOPPED = Situation(
    name="a drill is stopped",
    plant=_stop_one,
    fires=(Fires(row="DrillInconclusive"),),
    pages=(
        Page(
            name="drill-inconclusive.md",
            shows=(r"INCONCLUSIVE", r"status\t", r"ParkerFlight-KMS-Drill-"),
            fix=("kms-chaos plan region-blackhole --ask",),
        ),
    ),
    mend=_let_go,
)


def _halt(stand: Stand) -> None:
    ran = stand.shells[False].sitting("halts").run('kms-chaos halt --reason "INC-7: for a test"', {})
    assert ran.exit_code == 0, str(ran)


HALTED = Situation(
    name="drills are halted",
    plant=_halt,
    fires=(Fires(row="DrillsHalted"),),
    pages=(
        Page(
            name="drills-halted.md",
            shows=(r'"reason": ?"INC-7: for a test"', r"status\t", OTHERS),
            fix=("kms-chaos resume", "kms-chaos plan region-blackhole --ask"),
        ),
    ),
    mend=_let_go,
)


def _kill_one(stand: Stand) -> None:
    """Kill a drill that holds its fault, and hold its Toxiproxy, so that nobody can undo it."""
    _start_a_long_one(stand)
    stand.toxiproxy.send_signal(signal.SIGSTOP)
    os.killpg(stand.started["drill"].pid, signal.SIGKILL)
    stand.started["drill"].wait(30)


def _toxiproxy_answers(stand: Stand) -> None:
    stand.toxiproxy.send_signal(signal.SIGCONT)


KILLED_DRILL = Situation(
    name="a drill is killed, and its Toxiproxy does not answer",
    plant=_kill_one,
    fires=(Fires(row="FaultLeaked"), Fires(row="HealFails")),
    pages=(
        Page(
            name="heal-fails.md",
            shows=(r"(?i)timed out|timeout|no answer|does not answer", r"undo\.json:.*toxiproxy_url", OTHERS),
            fix=(_toxiproxy_answers, "kms-chaos heal"),
            over=("kms-chaos heal",),
        ),
        Page(
            name="fault-leaked.md",
            shows=(r"(?i)timed out|timeout|no answer|does not answer", r"^$", r"ParkerFlight-KMS-FaultLeaked"),
            over=("kms-chaos heal",),
        ),
    ),
    mend=_toxiproxy_answers,
)


def _fail_one(stand: Stand) -> None:
    """Run a drill of a core that does not fail over; one that a guard ends half way is run again."""

    def ends_broken() -> bool:
        _start(
            stand,
            "region-blackhole",
            KMS_WATCHDOG__CORE__MAX_RETRIES="0",
            KMS_WATCHDOG__CORE__CIRCUIT_BREAKER_THRESHOLD="100",
        )
        _ended(stand)
        return stand.started["drill"].returncode == BROKE

    wait_for(ends_broken, says="a drill ends BROKE", every=AGAIN_SECONDS)


FAILED = Situation(
    name="a drill whose failover is off",
    plant=_fail_one,
    fires=(Fires(row="DrillFailed", labels={"drill": "region-blackhole"}, member=("region-blackhole",)),),
    pages=(Page(name="drill-failed.md", shows=(r"BROKE", r"nothing to heal", OTHERS)),),
    mend=_let_go,
)


def _prove(stand: Stand) -> None:
    """Prove a live alarm once: until then it was never seen to fire."""
    ran = stand.shells[False].sitting("proves").run("kms-alarms prove FaultLeaked", {}, "y")
    assert ran.exit_code == 0, str(ran)


UNPROVEN = Situation(
    name="an alarm's last firing is long ago",
    prepare=_prove,
    plant=lambda _: None,
    fires=(Fires(row="AlarmUnproven", labels={"unproven": "ParkerFlight-KMS-FaultLeaked"}),),
    pages=(
        Page(
            name="alarm-unproven.md",
            shows=(r"FaultLeaked", r"FaultLeaked", r"(?s).*"),
            fix=("kms-alarms prove FaultLeaked",),
        ),
    ),
)
"""A month is a minute here: an alarm that was proven is unproven again soon after."""


def _miss_a_slot(stand: Stand) -> None:
    """Have a slot that has been planned for forty days, and whose window closed some days ago.

    It is planned first, and made old afterwards: the daemon forgets slots that its configuration does not have.
    """
    now = CLOCK.now_utc()
    day = min(28, (now - timedelta(days=10)).day)
    stand.kept["slots"] = stand.second.config.read_text(encoding="utf-8")
    slot = f'\n[drills.slots.yearly]\ndrill = "region-refused"\nday = {day}\nat = "00:00"\nwindow_days = 1\n'
    stand.second.config.write_text(stand.kept["slots"] + slot, encoding="utf-8")
    stand.second.signal(signal.SIGHUP)
    since = (now - timedelta(days=40)).timestamp()

    def is_old_now() -> bool:
        with closing(sqlite3.connect(stand.second.state / "slots.db", timeout=30)) as ledger, ledger:
            return ledger.execute("UPDATE plan SET since = ? WHERE name = 'yearly'", (since,)).rowcount == 1

    wait_for(is_old_now, says="the slot is planned")
    stand.second.signal(signal.SIGHUP)


def _slot_gone(stand: Stand) -> None:
    stand.second.config.write_text(stand.kept["slots"], encoding="utf-8")
    stand.second.signal(signal.SIGHUP)


OVERDUE = Situation(
    name="a slot's window closes without a run",
    second=True,
    plant=_miss_a_slot,
    fires=(Fires(row="DrillOverdue", labels={"drill": "region-refused"}),),
    pages=(Page(name="drill-overdue.md", shows=(r"(?i)halt|window|guard|holds", OTHERS, OTHERS)),),
    mend=_slot_gone,
)


def _looked_after(stand: Stand, days: float) -> None:
    """Have both daemons look after the weekly review for so many days."""
    since = (CLOCK.now_utc() - timedelta(days=days)).isoformat()
    for watchdog in (stand.first, stand.second):
        KeptFile(watchdog.state / "sign-offs.json", schema=SCHEMA).change(
            lambda found: {**(found or {}), "since_utc": {**(found or {}).get("since_utc", {}), DIGEST: since}}
        )


TASK_OVERDUE = Situation(
    name="the weekly review was never delivered",
    plant=lambda stand: _looked_after(stand, 40),
    fires=(Fires(row="TaskOverdue", labels={"task": DIGEST}),),
    pages=(
        Page(
            name="task-overdue.md",
            shows=(rf"overdue\t{DIGEST}", r"# KMS of ", r'"since_utc"'),
            fix=("kms-watchdog tasks ack weekly-digest",),
        ),
    ),
    mend=lambda stand: _looked_after(stand, 0),
)
"""Signed on the first daemon's machine alone: done at one of them is done."""
