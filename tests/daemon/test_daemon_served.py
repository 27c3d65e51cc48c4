"""What the daemon joins for who looks from outside: looks on demand, readiness, liveness, the dead man's switch."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from running_daemon import Running, Start, config, provisioned, start
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_watchdog import aws
from kms_watchdog.config import load
from kms_watchdog.daemon import FIRST_EACH_SECONDS, FIRST_OTHER_SECONDS, FIRST_USE_SECONDS, Daemon
from kms_watchdog.installed_series import DEADMAN
from kms_watchdog.results import Outcome
from kms_watchdog.state_folder import StateFolder

__all__ = ["config", "provisioned", "start"]

TOKEN = "a-token-that-nobody-guesses"
NOWHERE = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
[keys.general]
alias = "alias/general"
key_id = "mrk-0123456789abcdef0123456789abcdef"
[endpoints.us-east-1]
kms = "https://127.0.0.1:1"
[endpoints.us-west-2]
kms = "https://127.0.0.1:1"
[core]
deadline_seconds = 0.5
max_retries = 0
[canaries]
kinds = ["round_trip", "failover_path", "cold_connection"]
interval_seconds = 3600
[state]
dir = "state"
[cloudwatch]
enabled = false
"""
"""Nobody listens at these addresses: a look ends at once, and nothing leaves this machine."""


@contextmanager
def switch() -> Iterator[tuple[str, list[str]]]:
    """Listen for pings; give the address, and what came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ping/secret", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Daemon]]:
    """Build a daemon over nothing; it does not run yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws._session.cache_clear()
    made: list[Daemon] = []

    def make(more: str = "") -> Daemon:
        path = tmp_path / "watchdog.toml"
        path.write_text(NOWHERE + more)
        settings = load(path, environ={})
        folder = StateFolder(settings.state.dir)
        folder.prepare()
        made.append(Daemon(settings, path, folder, SystemClock()))
        return made[-1]

    yield make
    for daemon in made:
        if daemon.scheduler._inner.running:  # which no public name shows
            daemon.stop()
        else:
            daemon.kept.close()
            daemon.core.close()
    aws._session.cache_clear()


def value(daemon: Daemon, name: str, **labels: str) -> float:
    lines = daemon.exposition.render("")[0].decode().splitlines()
    found = [line for line in lines if line.startswith(f"kms_watchdog_{name}")]
    return sum(float(line.rpartition(" ")[2]) for line in found if all(f'{k}="{v}"' in line for k, v in labels.items()))


def test_a_look_on_demand_is_a_live_result_like_any(build: Callable[..., Daemon]) -> None:
    """Counted, kept, folded: what a person sees and what the numbers say is the same."""
    daemon = build()

    seen = daemon.run_canary("round_trip:us-east-1:general")

    assert (seen.outcome, seen.region) == (Outcome.FAILED, "us-east-1")
    assert value(daemon, "canary_runs_total", canary="round_trip", region="us-east-1", mode="live") == 1
    assert daemon.history.failures() == (seen,)
    assert [health.last for health in daemon.health.board().canaries.values() if health.last] == [seen]


def test_the_first_round_does_not_take_an_interval(build: Callable[..., Daemon]) -> None:
    """Ready within seconds, though every canary looks but once an hour, and though all that it sees is bad."""
    daemon = build()
    jobs = {job.id: job.first_within_seconds for job in daemon.jobs()}

    daemon.start()
    wait_until(lambda: not daemon.waiting_for(), says="it is ready")

    assert jobs["round_trip:us-east-1:general"] == FIRST_USE_SECONDS
    assert jobs["cold_connection:us-west-2"] == FIRST_OTHER_SECONDS
    assert daemon.health_now().status == "unhealthy"
    assert daemon.alive()


def test_a_crowd_of_first_looks_is_spread(build: Callable[..., Daemon]) -> None:
    """Hundreds due within one second would wait longer than a job's grace, and be missed: blind at every start."""
    keys = "".join(f'[keys.k{number}]\nalias = "alias/k{number}"\n' for number in range(150))

    daemon = build(keys)
    firsts = {job.first_within_seconds for job in daemon.jobs() if job.kind.startswith("canary.")}

    assert len(daemon.canaries) > 450
    assert firsts == {len(daemon.canaries) * FIRST_EACH_SECONDS}


def test_it_is_alive_only_while_results_are_written(build: Callable[..., Daemon]) -> None:
    """A dead writer forgets everything: whoever restarts processes must hear of it."""
    daemon = build()
    before = daemon.alive()

    daemon.history.close()

    assert (before, daemon.alive()) == (True, False)


def test_an_unhealthy_daemon_does_not_ping(build: Callable[..., Daemon]) -> None:
    """Round after round: the switch rings, as it should."""
    with switch() as (url, came):
        daemon = build(
            f'[canaries.round_trip]\ninterval_seconds = 0.5\ndeadline_seconds = 0.4\n[health]\ndeadman_url = "{url}"\n'
        )
        daemon.start()
        wait_until(lambda: value(daemon, "scheduler_jobs_total", job=DEADMAN, result="executed") >= 3, says="it checks")

    assert came == []
    assert value(daemon, "deadman_pings_total") == 0
    assert value(daemon, "canary_runs_total", canary="round_trip") > 2


def ask(daemon: Running, method: str, path: str, **headers: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=20)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_healthy_daemon_pings_and_serves_who_knows_the_token(start: Start, config: Path) -> None:
    """As a process: the switch hears of each good round, a canary looks on demand, and no secret is in the log."""
    (config.parent / "token").write_text(f"{TOKEN}\n")
    with switch() as (url, came):
        text = config.read_text().replace("[http]", f'[health]\ndeadman_url = "{url}"\n[http]\ntoken_file = "token"')
        config.write_text(text)
        daemon = start(config)
        wait_until(lambda: daemon.value("deadman_pings_total", result="success") >= 2, says="it pings")
        ran, result = ask(
            daemon, "POST", "/api/v1/canaries/round_trip:eu-west-1:pii/run", Authorization=f"Bearer {TOKEN}"
        )
        refused, _ = ask(daemon, "POST", "/api/v1/canaries/round_trip:eu-west-1:pii/run")
        _, status = ask(daemon, "GET", "/api/v1/status", Authorization=f"Bearer {TOKEN}")
        daemon.stop()

    assert set(came) == {"/ping/secret"}
    assert (ran, result["outcome"], result["region"], refused) == (200, "OK", "eu-west-1", 401)
    assert (status["schema"], status["detail"]) == (2, True)
    assert TOKEN not in daemon.log.read_text()
    assert "ping/secret" not in daemon.log.read_text()


def test_a_report_is_a_file_of_its_runs_folder_and_nothing_else(build: Callable[..., Daemon], tmp_path: Path) -> None:
    """Neither a path, nor a link that somebody laid there, leads a stranger to another file."""
    daemon = build()
    drills = daemon.settings.state.dir / "drills"
    (secret := tmp_path / "token").write_text("a secret")
    for run_id in ("good", "linked"):
        (drills / run_id).mkdir(parents=True)
    (drills / "good" / "report.html").write_text("<!doctype html>")
    (drills / "linked" / "report.html").symlink_to(secret)

    served = {name: daemon.report(name) for name in ("good", "linked", "none", "..", "../..", str(tmp_path), "a/b", "")}

    assert {name: path for name, path in served.items() if path} == {"good": drills / "good" / "report.html"}
