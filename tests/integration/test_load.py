"""Under load: ten thousand targets on one process, a thousand requests a second, a hundred thousand series."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_kit import REGIONS
from running_daemon import Start, config, provisioned, start
from waiting import wait_until

from kms_core import Core
from kms_core.clock import SystemClock
from kms_core.testing import FakeEstate
from kms_watchdog import aws
from kms_watchdog.config import load
from kms_watchdog.daemon import Daemon
from kms_watchdog.results import CanaryResult, Outcome
from kms_watchdog.state_folder import StateFolder

ROOT = Path(__file__).parents[2]
KEYS = 3334
TARGETS = KEYS * len(REGIONS)
INTERVAL_SECONDS = 120.0
RATE, SECONDS = 1000, 10
__all__ = ["config", "provisioned", "start"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Well:
    """A sink that remembers of whom it has heard that all is well: a question that costs nothing."""

    def __init__(self) -> None:
        self.subjects: set[tuple[str, str]] = set()

    def write(self, result: CanaryResult) -> None:
        if result.outcome is Outcome.OK:
            self.subjects.add((result.region, result.key))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon of ten thousand round trips over KMS in memory: its own threads, schedule and clock, and no network."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    aws._session.cache_clear()
    estate = FakeEstate()
    lines = ["[estate]", f'account_id = "{estate.account_id}"', f'primary_region = "{REGIONS[0]}"']
    lines += [f"regions = {list(estate.kms)}".replace("'", '"')]
    for number in range(KEYS):
        estate.create_key(f"alias/k{number}")
        lines += [f"[keys.k{number}]", f'alias = "alias/k{number}"']
    lines += ["[canaries]", 'kinds = ["round_trip"]', f"interval_seconds = {INTERVAL_SECONDS}"]
    lines += ["[prometheus]", "counted_by_key = false", "[cloudwatch]", "enabled = false", "[state]", 'dir = "state"']
    path = tmp_path / "watchdog.toml"
    path.write_text("\n".join(lines) + "\n")
    settings = load(path, environ={})
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    daemon = Daemon(
        settings,
        path,
        folder,
        SystemClock(),
        make_core=lambda config, observer: Core(config, observer, connect=estate.connect),
    )
    yield daemon
    daemon.stop()
    aws._session.cache_clear()


@pytest.mark.heavy
@pytest.mark.minutes(2.4)
def test_ten_thousand_targets_are_all_looked_at(many: Daemon) -> None:
    """Every one of them, well, by a process that stays alive, answers, and shows each in less than 100,000 series."""
    well = Well()
    many.results = (*many.results, well)
    many.start()

    wait_until(
        lambda: len(well.subjects) == TARGETS,
        says="each has been well; on a busy machine its first turn may have come too late, and the next one counts",
        seconds=700,
    )
    lines = many.metrics_text("")[0].decode().splitlines()

    assert many.waiting_for() == ()
    assert many.alive()
    assert many.health_now().status != "unhealthy"
    assert all(many.health_now().keys.values())
    looked = [li for li in lines if li.startswith("kms_watchdog_canary_last_success_") and 'mode="live"' in li]
    assert sum(1 for line in looked if not line.endswith(" 0.0")) == TARGETS
    assert sum(1 for line in lines if not line.startswith("#")) < 100_000


@pytest.mark.heavy
@pytest.mark.minutes(2.4)
def test_a_thousand_requests_a_second_are_answered(start: Start, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is answered or told to come back, none with an error, and no look is missed meanwhile."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.http_load import ask  # noqa: PLC0415 - benchmarks are no package that is installed

    daemon = start(config)
    wait_until(lambda: daemon.get("/health")[0] == 200, says="it is green", seconds=60)

    answers = ask(f"{daemon.url}/health", rate=RATE, seconds=SECONDS)

    assert answers.errors == {}
    assert set(answers.statuses) <= {200, 503}
    assert answers.statuses.total() == RATE * SECONDS
    assert answers.statuses[200] > 0
    assert daemon.value("scheduler_jobs_total", result="missed") == 0
    assert daemon.get("/health")[0] == 200
    assert daemon.stop() == 0


def test_a_hundred_thousand_series_do_not_start(tmp_path: Path) -> None:
    """The daemon ends before it listens, with the usage's exit code and one line that says what to do."""
    lines = ["[estate]", 'account_id = "123456789012"', f'primary_region = "{REGIONS[0]}"']
    lines += [f"regions = {list(REGIONS)}".replace("'", '"'), "[state]", 'dir = "state"']
    for number in range(200):
        lines += [f"[keys.k{number}]", f'alias = "alias/k{number}"']
    path = tmp_path / "watchdog.toml"
    path.write_text("\n".join(lines) + "\n")

    ended = subprocess.run(
        [sys.executable, "-m", "kms_watchdog", "run", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode == 2, ended.stderr
    assert "prometheus.max_series: 200 keys would make 1" in ended.stderr.splitlines()[-1]
    assert "counted_by_key = false" in ended.stderr
    assert not (tmp_path / "state" / "http.json").exists()
