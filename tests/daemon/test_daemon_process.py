"""The daemon as a process: from start to green, through outages and drills, to a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from daemon_kit import JournalFile, LocalCloud, result, undo_record, write_undo
from running_daemon import CLOCK, Start, config, provisioned, start
from waiting import wait_until

from kms_watchdog.results import Mode, Outcome

pytestmark = pytest.mark.slow

__all__ = ["config", "provisioned", "start"]

FAILURES = ("error", "timeout", "throttled", "denied", "mismatch")


def silent_port() -> tuple[socket.socket, int]:
    """Return a socket that takes no connection and refuses none: a black hole."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    return listener, int(listener.getsockname()[1])


def test_from_start_to_green_to_a_clean_end(start: Start, config: Path) -> None:
    """A first result, then every canary in every region; SIGTERM ends it with 0 and leaves nothing behind."""
    daemon = start(config)
    wait_until(lambda: daemon.value("canary_runs_total", result="success") > 0, says="a first result")
    wait_until(lambda: daemon.get("/health")[0] == 200, says="it is green")

    assert daemon.value("canary_up", mode="live") == 9
    assert daemon.get("/livez")[0] == daemon.get("/readyz")[0] == 200
    assert "Healthy" in daemon.get("/")[1]
    assert daemon.value("kms_requests_total", operation="Decrypt", error_type="") >= 9

    assert daemon.stop() == 0
    assert [event["event"] for event in daemon.events("daemon.stopped")] == ["daemon.stopped"]
    assert not (daemon.folder / "state" / "http.json").exists()


@pytest.mark.slow
def test_ctrl_c_is_a_clean_end_too(start: Start, config: Path) -> None:
    """No traceback."""
    daemon = start(config)

    assert daemon.stop(signal.SIGINT) == 0
    assert "Traceback" not in daemon.log.read_text()


@pytest.mark.slow
def test_numbers_reach_cloudwatch_in_two_regions(start: Start, config: Path, cloud: LocalCloud) -> None:
    """With exact dimensions, zeros said; what was counted last is flushed at exit."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")

    assert daemon.stop() == 0

    for region in ("us-east-1", "us-west-2"):
        assert cloudwatch_sum(cloud, region, "CanaryRuns", "us-west-2") >= 3
    assert cloudwatch_sum(cloud, "eu-west-1", "CanaryRuns", "us-west-2") == 0


def cloudwatch_sum(cloud: LocalCloud, where: str, metric: str, region: str) -> float:
    import boto3  # noqa: PLC0415 - a plain script's way of looking

    given = cloud.endpoints["credentials"]
    client = boto3.client(
        "cloudwatch",
        region_name=where,
        endpoint_url=cloud.endpoints["regions"][where]["cloudwatch"],
        verify=cloud.endpoints["ca_bundle"],
        **given,
    )
    now = CLOCK.now_utc()
    points = client.get_metric_statistics(
        Namespace="ParkerFlight/KMS",
        MetricName=metric,
        Dimensions=[{"Name": "Region", "Value": region}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=10,
        Statistics=["Sum"],
    )["Datapoints"]
    client.close()
    return sum(float(point["Sum"]) for point in points)


@pytest.mark.slow
def test_a_region_that_goes_silent_is_degraded_and_named(start: Start, config: Path, cloud: LocalCloud) -> None:
    """One region is a black hole from the start: the others turn green, and it says which and why."""
    hole, port = silent_port()
    with closing(hole):
        kms = cloud.endpoints["regions"]["eu-west-1"]["kms"]
        config.write_text(config.read_text().replace(kms, f"https://127.0.0.1:{port}"))
        daemon = start(config)
        wait_until(lambda: "down" in daemon.get("/health")[1], says="the region is down", seconds=40)

        code, body = daemon.get("/health")
        document = json.loads(body)

    assert (code, document["status"]) == (503, "degraded")
    assert document["regions"] == {"us-east-1": True, "us-west-2": True, "eu-west-1": False}
    assert {r["region"] for r in document["reasons"]} == {"eu-west-1"}
    assert daemon.get("/livez")[0] == 200
    assert daemon.stop() == 0


def test_without_credentials_it_is_blind_not_broken(start: Start, config: Path) -> None:
    """Unhealthy, since nobody knows anything; every look counted as blind, none as failed; and it lives."""
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": "/x", "HOME": "/nonexistent"}
    daemon = start(config, **nobody)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")

    code, body = daemon.get("/health")

    assert code == 500
    assert {r["code"] for r in json.loads(body)["reasons"]} >= {"no_fresh_result", "blind"}
    assert daemon.value("canary_runs_total", result="blind") >= 9
    assert sum(daemon.value("canary_runs_total", result=label) for label in FAILURES) == 0
    assert daemon.get("/livez")[0] == 200
    assert daemon.stop() == 0


def test_a_second_daemon_is_kept_out(start: Start, config: Path, cloud: LocalCloud) -> None:
    """One line, exit code 2, and the first goes on."""
    daemon = start(config)

    second = cloud.run("run", config=config)

    assert second.returncode == 2
    assert f"another daemon (pid {daemon.process.pid}) uses this state.dir" in second.stderr.splitlines()[-1]
    assert daemon.get("/livez")[0] == 200


def test_a_port_in_use_is_one_clear_line(cloud: LocalCloud, config: Path) -> None:
    """Exit code 2 in a moment, nothing left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))

        refused = cloud.run("run", config=config)

    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"kms-watchdog: http.listen: 127.0.0.1:{port} is in use"]
    assert not (config.parent / "state" / "http.json").exists()


def test_a_drills_numbers_are_told_as_the_drills(
    start: Start, config: Path, new_drill: Callable[..., JournalFile]
) -> None:
    """From the journal as it grows, under mode="drill"; live numbers stay clean; its verdict is counted."""
    drill = new_drill()
    with drill.folder.owned():
        write_undo(undo_record(drill.folder.run_id, expires_at_utc=CLOCK.now_utc() + timedelta(hours=1)), drill.folder)
        drill.begin()
        daemon = start(config)
        wait_until(lambda: daemon.value("drill_active") == 1, says="the drill is seen")
        for i in range(3):
            failed = result(Outcome.FAILED, at=i, mode=Mode.DRILL)
            drill.append("canary-result", result=failed.to_json())
        drill.append("breaker-moved", region="us-east-1", old="closed", new="open", cause="failures")
        wait_until(lambda: daemon.value("region_healthy", mode="drill", region="us-east-1") == 0, says="down")
        during = daemon.value("circuit_breaker_state", mode="drill", region="us-east-1", state="open")
        drill.append("restore-verified", proxies_left=[], by="drill")
        drill.append("closed", by="drill", verdict="HELD")
    wait_until(lambda: daemon.value("drill_runs_total", result="held") == 1, says="the verdict is counted")

    assert during == 1
    assert daemon.value("canary_runs_total", mode="drill", result="timeout") == 3
    assert daemon.value("canary_runs_total", mode="live", result="timeout") == 0
    wait_until(lambda: daemon.value("faults_active") == 0, says="no fault is open")
    assert daemon.value("drill_active") == 0
    assert "HELD" in daemon.get("/")[1]
    assert daemon.value("heal_failures_total") == 0


def test_what_a_dead_drill_left_is_healed(start: Start, config: Path, new_drill: Callable[..., JournalFile]) -> None:
    """The real healer, in a process of its own: journal closed, counted, and only then ready."""
    drill = new_drill()
    write_undo(undo_record(drill.folder.run_id, expires_at_utc=CLOCK.now_utc() + timedelta(hours=1)), drill.folder)
    drill.begin()
    drill.append("fault-injected", fault="blackhole", region="us-east-1", proxy="p", toxics=[], enabled=True)
    drill.append_raw(b'{"torn')

    daemon = start(config)
    wait_until(lambda: daemon.value("faults_healed_total", reason="owner_dead") == 1, says="it is healed")
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="it is ready")

    assert daemon.value("drill_active") == daemon.value("faults_active") == 0
    assert b'"event":"closed"' in drill.folder.journal.read_bytes().splitlines()[-1]
    assert len(daemon.events("drill.heal_started")) == 1
    assert daemon.stop() == 0


@pytest.mark.slow
def test_no_secret_is_ever_written(start: Start, config: Path, cloud: LocalCloud) -> None:
    """Neither credentials nor plaintext in logs, state, metrics or pages."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")
    told = [daemon.get(path)[1] for path in ("/", "/metrics", "/health", "/api/v1/status")]
    daemon.stop()

    written = [path.read_bytes() for path in daemon.folder.rglob("*") if path.is_file()]
    secret = cloud.endpoints["credentials"]["aws_secret_access_key"]
    assert not any(secret in text for text in told)
    assert not any(secret.encode() in raw for raw in written)


@pytest.mark.slow
def test_many_at_once_do_not_disturb_the_canaries(start: Start, config: Path) -> None:
    """A few hundred requests from many clients: each answered or told to come back, and the looks go on."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")
    codes: list[int] = []

    def ask() -> None:
        codes.extend(daemon.get(path)[0] for path in ("/", "/metrics", "/health", "/livez") * 5)

    clients = [threading.Thread(target=ask) for _ in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    before = daemon.value("canary_runs_total", result="success")
    wait_until(lambda: daemon.value("canary_runs_total", result="success") >= before + 9, says="another round")

    assert set(codes) <= {200, 503}
    assert codes.count(200) > len(codes) * 0.9
    assert sum(daemon.value("canary_runs_total", result=label) for label in (*FAILURES, "blind")) == 0


@pytest.mark.slow
def test_it_is_small(start: Start, config: Path) -> None:
    """Under 120 MiB after a round, and every thread is accounted for."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")
    status = Path(f"/proc/{daemon.process.pid}/status")
    if not status.exists():
        pytest.skip("reading memory needs /proc")

    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())

    assert int(fields["VmRSS"].split()[0]) < 120 * 1024
    assert int(fields["Threads"]) < 64


def test_its_ready_line_names_the_address(start: Start, config: Path) -> None:
    """In the log, and in http.json for whoever cannot know the port."""
    daemon = start(config)
    wait_until(lambda: daemon.events("daemon.ready"), says="it is ready")

    (listening,) = daemon.events("daemon.listening")
    assert listening["url"] == daemon.url
    assert os.getpgid(daemon.process.pid) > 0
