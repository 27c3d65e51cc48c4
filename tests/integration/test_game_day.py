"""A game day, whole: one command loses a region under the example application, and each step holds to its promise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from waiting import wait_until
from whole_processes import MARK, ROOT, DemoProcess, marked

from kms_local.game_day import alerting

pytestmark = [pytest.mark.alone, pytest.mark.minutes(4), pytest.mark.timeout(900)]
GAME_DAY = (sys.executable, "-m", "kms_local", "game-day", "--dir", "{dir}")
LOST = "us-east-1"
ANOTHER = "us-west-2"
"""Which gets metrics too, and is not lost."""
MUTED = f"ParkerFlight-KMS-HighErrorRate-{LOST}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedDay:
    """A game day that has ended, and all that it left."""

    exit_code: int
    output: str
    folder: Path
    left: list[int]

    @property
    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return document

    def verdicts(self) -> dict[str, str]:
        return {step["key"]: step["verdict"] for step in self.report["steps"]}


@pytest.fixture(scope="module")
def finished_day(tmp_path_factory: pytest.TempPathFactory) -> FinishedDay:
    """`kms-local game-day`, run to its end once for all tests that look at what it left."""
    parent, mark = tmp_path_factory.mktemp("game-day"), uuid.uuid4().hex
    done = subprocess.run(
        [part.replace("{dir}", str(parent)) for part in GAME_DAY],
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=800,
    )
    print(done.stdout)
    [folder] = parent.iterdir()
    return FinishedDay(exit_code=done.returncode, output=done.stdout, folder=folder, left=marked(mark))


@pytest.mark.slow
def test_every_step_holds_to_its_promise(finished_day: FinishedDay) -> None:
    """Application, breaker, canary, health, alarms, pages, runbook, order, and all of it back again."""
    verdicts = finished_day.verdicts()
    without = {} if alerting.programs() else {"NOT_RUN": "no Prometheus"}

    assert finished_day.exit_code == 0, finished_day.output
    assert finished_day.report["verdict"] == "HELD"
    assert set(verdicts.values()) <= {"HELD", *without} | ({"NOT_RUN"} if not _has_aws(finished_day) else set())
    assert verdicts.keys() >= {
        "requests-failed",
        "breaker-open",
        "canary-failed",
        "health-degraded",
        "cloudwatch-HighErrorRate",
        "page-sns-HighErrorRate",
        "order-application",
        "breaker-closed",
        "canary-ok",
        "cloudwatch-ok-HighErrorRate",
        "return-application",
        "data-lost",
    }


def _has_aws(day: FinishedDay) -> bool:
    return all(command["exit_code"] is not None for command in day.report["commands"])


@pytest.mark.slow
def test_the_lost_regions_own_log_agrees(finished_day: FinishedDay) -> None:
    """While it was lost its KMS was asked nothing, by nobody; the others were, and it was again afterwards."""
    began = {name: datetime.fromisoformat(at_utc) for name, at_utc in finished_day.report["began"].items()}
    lines = (finished_day.folder / "aws" / "requests.ndjson").read_text(encoding="utf-8").splitlines()
    asked = [(entry["region"], datetime.fromisoformat(entry["at_utc"])) for entry in map(json.loads, lines)]
    on_its_way = 0.5  # what had gone in when the door fell shut

    during = [region for region, at_utc in asked if (at_utc - began["lost"]).total_seconds() - on_its_way > 0]
    while_lost = [
        region
        for region, at_utc in asked
        if on_its_way < (at_utc - began["lost"]).total_seconds() and at_utc < began["back"]
    ]

    assert LOST not in while_lost
    assert while_lost.count(ANOTHER) > 50
    assert LOST in during


@pytest.mark.slow
def test_the_person_followed_the_page_as_it_is_printed(finished_day: FinishedDay) -> None:
    """Three commands to look, one to leave the region, one to return; each is a line of the page."""
    report = finished_day.report
    page = (ROOT / "alarms" / "runbooks" / report["runbook"]).read_text(encoding="utf-8")
    flat = " ".join(page.replace("\\\n", " ").split())
    texts = [" ".join(command["text"].replace("\\", " ").split()) for command in report["commands"]]

    assert len(texts) == 5
    assert all(text in flat for text in texts), texts


@pytest.mark.slow
def test_a_game_day_leaves_a_report_and_nothing_running(finished_day: FinishedDay) -> None:
    """Three forms of the same; no process of its survives it."""
    page = (finished_day.folder / "report.html").read_text(encoding="utf-8")

    assert finished_day.left == []
    assert "HELD" in (finished_day.folder / "report.md").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<script" not in page
    assert str(finished_day.folder / "report.html") in finished_day.output.replace("\n", "")


@pytest.mark.slow
def test_ctrl_c_while_the_region_is_lost(start_demo: Callable[..., DemoProcess]) -> None:
    """Nothing is left running, and the exit code says that nobody can tell."""
    day = start_demo(*GAME_DAY)
    wait_until(lambda: day.exists("daemon.log") and _says(day, "canary.failed"), seconds=180, says="it is lost")

    os.killpg(day.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group

    wait_until(lambda: not day.alive(), seconds=60, says="every process has ended")
    assert day.process.wait(10) == 3


def _says(day: DemoProcess, word: str) -> bool:
    return word in (day.folder.path / "daemon.log").read_text(encoding="utf-8")


@pytest.mark.catalogue
def test_an_alarm_that_somebody_muted_breaks_the_day(start_demo: Callable[..., DemoProcess]) -> None:
    """The alarm is ALARM in time, and nobody is told: exit code 1, and the report names the page that did not come."""
    day = start_demo(*GAME_DAY)
    wait_until(lambda: day.exists("requests.ndjson"), seconds=180, says="the load is on")
    _mute(day.folder.aws / "endpoints.json")

    code = day.process.wait(800)

    report = json.loads((day.folder.path / "report.json").read_text(encoding="utf-8"))
    verdicts = {step["key"]: step["verdict"] for step in report["steps"]}
    assert (code, report["verdict"]) == (1, "BROKE")
    assert verdicts["cloudwatch-HighErrorRate"] == "HELD"
    assert verdicts["page-sns-HighErrorRate"] == "MISSING"
    assert verdicts["requests-failed"] == "HELD"


def _mute(endpoints: Path) -> None:
    """Do what somebody does who is tired of an alarm, wherever it is: the lost region's tells of it once it is back."""
    document = json.loads(endpoints.read_text(encoding="utf-8"))
    for region in (LOST, ANOTHER):
        client = boto3.client(
            "cloudwatch",
            region_name=region,
            endpoint_url=document["regions"][region]["cloudwatch"],
            verify=document["ca_bundle"],
            **document["credentials"],
        )
        client.disable_alarm_actions(AlarmNames=[MUTED])
        client.close()
