"""Every query of every dashboard, asked of a real Prometheus over a real daemon: before, during and after a drill.

A query that gives nothing draws an empty panel, and nobody knows whether all is well or a label is misspelt. So each
must have data in each phase; those that may be empty stand in `MAY_BE_EMPTY`, with why, and when they must have some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from dashboard_answers import Answers, Board
from dashboard_capture import capture
from dashboard_prometheus import scraping
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_dashboards.rendering import BUILDERS, render
from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.config import load

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.minutes(3.5), pytest.mark.timeout(1500)]

KEEP = os.environ.get("KMS_WATCHDOG_DASHBOARD_ANSWERS")
"""A folder to keep what was answered in, for `dashboards/preview`."""
DRILL, TARGET, OTHER = "region-blackhole", "us-east-1", "us-west-2"
PATIENCE = 300.0
RAN = (0, 1)
"""Exit codes of a drill that ran: it held or it broke, and there is something to show."""
BEFORE, DURING, AFTER, OUTAGE = "before", "during", "after", "outage"
"""The drill's phases, and a fault of the live traffic after them."""
OF_DRILL = "overview.json, mode drill"


@dataclass(frozen=True, slots=True)
class MayBeEmpty:
    """Why a query gives nothing at times, and the phases in which it must give something."""

    why: str
    must: Sequence[str]


_FIRST = MayBeEmpty("nothing to tell of drills before the first one", (AFTER,))
_ACTIVE = MayBeEmpty("no drill has a canary or an alert outside a drill", (DURING,))
_BAD = MayBeEmpty("nothing is bad", (OUTAGE,))
MAY_BE_EMPTY: Mapping[str, MayBeEmpty] = {
    'overview.json: panel "Red, but below paging"': _BAD,
    'overview.json: panel "Alerts" B': _BAD,
    'overview.json: panel "Alerts" A': _BAD,
    'internals.json: panel "Failed attempts, by error"': _BAD,
    'overview.json: annotation "Alerts"': _BAD,
    'internals.json: annotation "Alerts"': _BAD,
    'keys-and-estate.json: annotation "Alerts"': _BAD,
    'drills.json: annotation "Alerts"': _ACTIVE,
    'overview.json: annotation "Drills"': _ACTIVE,
    'internals.json: annotation "Drills"': _ACTIVE,
    'keys-and-estate.json: annotation "Drills"': _ACTIVE,
    'drills.json: annotation "Drills"': _ACTIVE,
    'drills.json: panel "Drill" A': MayBeEmpty("a drill has no series before it first runs", (DURING, AFTER)),
    'drills.json: panel "The drill\'s canaries"': _ACTIVE,
    'drills.json: panel "Last run of each drill" C': MayBeEmpty(
        "the schedule tells it, first run or not", (BEFORE, DURING, AFTER)
    ),
    'drills.json: panel "Last run of each drill"': _FIRST,
    'drills.json: panel "Detection and recovery"': _FIRST,
    'keys-and-estate.json: panel "What differs"': MayBeEmpty("no key differs from the configuration", (OUTAGE,)),
    f'{OF_DRILL}: panel "Red, but below paging"': MayBeEmpty(
        "within seconds the twins that page fire, as they must; the same query has to answer in the outage", ()
    ),
    OF_DRILL: MayBeEmpty("no drill has canaries of its own outside a drill", (DURING,)),
}
"""By the beginning of the place; the first that fits counts. All else must have data before, during and after."""


def must(where: str, phase: str) -> bool:
    """Return whether a query must have data in a phase."""
    found = next((one for begins, one in MAY_BE_EMPTY.items() if where.startswith(begins)), None)
    return phase in found.must if found else phase != OUTAGE


@pytest.fixture
def folder(stage: Stage, tmp_path: Path) -> DemoFolder:
    return DemoFolder(next(iter((tmp_path / "stage").iterdir())))


@contextmanager
def dead_mans_switch() -> Iterator[str]:
    """Take pings on loopback."""

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Switch) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def configure(folder: DemoFolder, switch: str) -> None:
    """Add what the demo leaves out: a dead man's switch, and a slot due in two weeks; and look half as often."""
    due = SystemClock().now_utc() + timedelta(days=14)
    patient = "interval_seconds = 10.0\ndeadline_seconds = 9.0"  # a busy machine must not look like an outage
    text = folder.configuration.read_text(encoding="utf-8")
    folder.configuration.write_text(text.replace("interval_seconds = 5.0\ndeadline_seconds = 4.0", patient))
    with folder.configuration.open("a", encoding="utf-8") as file:
        file.write(
            f'\n[health]\ndeadman_url = "{switch}"\n'
            f'\n[drills.slots.failover]\ndrill = "{DRILL}"\nevery = "month"\nday = {min(due.day, 28)}\nat = "03:00"\n'
        )


def kms_local(folder: DemoFolder, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "kms_local", *arguments, "--dir", str(folder.aws)],
        check=True,
        capture_output=True,
        timeout=60,
    )


def client(folder: DemoFolder, service: str, region: str) -> Any:
    """Return a client of the local AWS."""
    endpoints = read_endpoints(folder)
    given = endpoints["credentials"]
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=endpoints["regions"][region][service],
        verify=endpoints["ca_bundle"],
        aws_access_key_id=given["aws_access_key_id"],
        aws_secret_access_key=given["aws_secret_access_key"],
    )


def allow_for_a_busy_machine(folder: DemoFolder) -> None:
    """Let the alarms of latency take a minute for slow: while one is up, no drill may begin."""
    for path in folder.alarms.glob("*.json"):
        alarms = json.loads(path.read_text(encoding="utf-8"))
        for alarm in alarms:
            if "HighLatency" in alarm["AlarmName"]:
                alarm["Threshold"] = 60_000
                client(folder, "cloudwatch", path.stem).put_metric_alarm(**alarm)
        path.write_text(json.dumps(alarms), encoding="utf-8")  # what the canary of the alarms' path compares with


def describe_otherwise(folder: DemoFolder) -> None:
    """Make one replica's description another than the configuration has."""
    kms = client(folder, "kms", OTHER)
    kms.update_key_description(KeyId=kms.list_keys()["Keys"][0]["KeyId"], Description="somebody was here")


@dataclass
class Watched:
    """The dashboards over one Prometheus."""

    boards: Sequence[Board]
    answers: Answers

    def begin(self) -> None:
        self.answers.begin(self.boards)

    def empty(self, phase: str) -> dict[str, str]:
        """Return what must have had data by now, and has not."""
        self.answers.ask(self.boards)
        return {where: why for where, why in self.answers.missing.items() if must(where, phase)}

    def fill(self, phase: str) -> None:
        """Wait until everything has had data that must in this phase."""
        self.begin()
        try:
            wait_until(lambda: not self.empty(phase), seconds=PATIENCE, says=f"all panels have data {phase}")
        except AssertionError as e:
            raise AssertionError(f"{e}: {json.dumps(self.answers.missing, indent=1)}") from e


@contextmanager
def started_drill(folder: DemoFolder) -> Iterator[subprocess.Popen[str]]:
    """Start a drill; one that still runs at the end is told to restore and end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "run", DRILL, "--json", "--config", str(folder.configuration)],
        env={**os.environ, **credentials(read_endpoints(folder))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def drill(folder: DemoFolder, watched: Watched) -> None:
    """Run a drill to its end, and look at the dashboards all the while.

    On a busy machine a guard may refuse it or end it before its time: then it is tried again.
    """
    clock = SystemClock()
    until = clock.monotonic() + 2 * PATIENCE
    while True:
        with started_drill(folder) as running:
            watched.begin()
            seconds = max(1.0, until - clock.monotonic())
            wait_until(partial(_over, running, watched), seconds=seconds, says="the drill is over")
            output, errors = running.communicate()
        print("the drill:", json.loads(output)["verdict"] if output else errors)
        if running.returncode in RAN:
            return


def _over(running: subprocess.Popen[str], watched: Watched) -> bool:
    watched.empty(DURING)
    return running.poll() is not None


def boards() -> tuple[Board, ...]:
    made = {name: json.loads(render(name)) for name in sorted(BUILDERS)}
    drill = Board.of(OF_DRILL, made["overview.json"], mode="drill")
    return (*(Board.of(name, document) for name, document in made.items()), drill)


def test_every_query_has_data_before_during_and_after_a_drill(stage: Stage, folder: DemoFolder, tmp_path: Path) -> None:
    """And in an outage of the live traffic, those that show what is bad."""
    with dead_mans_switch() as switch:
        configure(folder, switch)
        allow_for_a_busy_machine(folder)
        stage.command("kms_alarms", "subscribe", stage.start_pager())
        url = stage.start_daemon()
        with scraping(load(folder.configuration), url, tmp_path / "prometheus") as prometheus:
            watched = Watched(boards(), Answers(prometheus))
            watched.fill(BEFORE)

            drill(folder, watched)
            assert watched.empty(DURING) == {}, "without data during the drill"

            watched.fill(AFTER)
            if KEEP:
                capture(prometheus, Path(KEEP), minutes=3)

            describe_otherwise(folder)
            kms_local(
                folder, "fault", "add", "--region", TARGET, "--service", "kms", "--error-code", "KMSInternalException"
            )
            watched.fill(OUTAGE)
            if KEEP:
                capture(prometheus, Path(KEEP) / "outage", minutes=6)
            kms_local(folder, "fault", "clear")


def test_what_may_be_empty_is_on_a_dashboard() -> None:
    """A reason for a panel that is gone would excuse another some day."""
    places = [where for board in boards() for where in board.queries]

    assert [begins for begins in MAY_BE_EMPTY if not any(where.startswith(begins) for where in places)] == []
