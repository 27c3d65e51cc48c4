"""What goes wrong around a watchdog: the right metric, health state and log line each, and a daemon still running."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from daemon_kit import KEYS_ALONE, REGIONS, LocalCloud
from running_daemon import CLOCK, Running, Start, config, provisioned, start
from waiting import wait_until

from kms_watchdog.results import Kind

__all__ = ["config", "provisioned", "start"]

pytestmark = [pytest.mark.slow, pytest.mark.minutes(2.5)]

SECONDS = 60.0
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Proxies:
    """A Toxiproxy proxy before each region's KMS."""

    url: str
    config: Path

    def call(self, method: str, path: str, body: object = None) -> Any:
        address = urlsplit(self.url)
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status < 300, text
        return json.loads(text) if text else None

    def switch(self, regions: Sequence[str], *, on: bool) -> None:
        for region in regions:
            self.call("POST", f"/proxies/{self.config.parent.name}.{region}", {"enabled": on})


@pytest.fixture
def proxies(cloud: LocalCloud, config: Path) -> Iterator[Proxies]:
    made = Proxies(str(cloud.endpoints["toxiproxy"]["url"]), config)
    text = config.read_text()
    names = []
    for region in REGIONS:
        kms = str(cloud.endpoints["regions"][region]["kms"])
        name = f"{config.parent.name}.{region}"
        body = {"name": name, "listen": "127.0.0.1:0", "upstream": urlsplit(kms).netloc}
        text = text.replace(f'"{kms}"', f'"https://{made.call("POST", "/proxies", body)["listen"]}"')
        names.append(name)
    config.write_text(text)
    yield made
    for name in names:
        made.call("DELETE", f"/proxies/{name}")


def green(daemon: Running) -> None:
    wait_until(lambda: daemon.get("/health")[0] == 200, says="it is green", seconds=SECONDS)


def health(daemon: Running) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(daemon.get("/health")[1] or "{}")
    return document


def codes(daemon: Running, region: str = "") -> set[str]:
    return {r["code"] for r in health(daemon).get("reasons", ()) if r["region"] == region or not region}


@pytest.mark.parametrize(
    ("lost", "status", "code"),
    [
        pytest.param(("eu-west-1",), "degraded", 503, id="one"),
        pytest.param(("eu-west-1", "us-west-2"), "degraded", 503, id="two"),
        pytest.param(REGIONS, "unhealthy", 500, id="all"),
    ],
)
def test_kms_is_unreachable(
    start: Start, config: Path, proxies: Proxies, lost: Sequence[str], status: str, code: int
) -> None:
    """Degraded while a region is left, unhealthy without one; counted, named, logged; green again afterwards."""
    daemon = start(config)
    green(daemon)

    proxies.switch(lost, on=False)
    wait_until(
        lambda: health(daemon).get("status") == status and all("down" in codes(daemon, r) for r in lost),
        says="the loss is told",
        seconds=SECONDS,
    )

    assert daemon.get("/health")[0] == code
    assert {region: well for region, well in health(daemon)["regions"].items() if not well} == dict.fromkeys(
        lost, False
    )
    for region in lost:
        failed = daemon.value("canary_runs_total", canary="round_trip", region=region, mode="live", result="error")
        assert failed + daemon.value("canary_runs_total", canary="round_trip", region=region, result="timeout") >= 3
        assert daemon.value("circuit_breaker_transitions_total", region=region, to="open", mode="live") >= 1
        assert region in {event["region"] for event in daemon.events("canary.failed")}
    assert daemon.get("/livez")[0] == 200

    proxies.switch(lost, on=True)
    green(daemon)
    assert {event["region"] for event in daemon.events("canary.recovered")} >= set(lost)
    assert daemon.stop() == 0


def test_wrong_credentials_are_blindness(start: Start, config: Path) -> None:
    """Nobody was heard: blind, not failed; unhealthy, since nothing is known; and the page is served."""
    daemon = start(config, AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY="wrong" * 8)
    wait_until(lambda: daemon.value("canary_runs_total", result="blind") >= 9, says="a round is over", seconds=SECONDS)

    assert daemon.get("/health")[0] == 500
    assert "blind" in codes(daemon)
    assert daemon.value("canary_runs_total", result="error") == daemon.value("canary_runs_total", result="denied") == 0
    assert {event["reason"] for event in daemon.events("canary.blind")} == {"no_credentials"}
    assert daemon.get("/")[0] == daemon.get("/livez")[0] == 200
    assert daemon.stop() == 0


def test_expiring_credentials_are_renewed_and_their_loss_is_blindness(
    start: Start, config: Path, cloud: LocalCloud, tmp_path: Path
) -> None:
    """Renewed while they can be; blind, not failed, when they cannot; green again with the next ones."""
    given = cloud.endpoints["credentials"]
    document = {
        "Version": 1,
        "AccessKeyId": given["aws_access_key_id"],
        "SecretAccessKey": given["aws_secret_access_key"],
        "Expiration": f"{CLOCK.now_utc() + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",  # each call asks anew
    }
    issued, away = tmp_path / "credentials.json", tmp_path / "credentials.away"
    issued.write_text(json.dumps(document))
    (tmp_path / "aws").write_text(f"[default]\ncredential_process = cat {issued}\n")
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    daemon = start(config, AWS_CONFIG_FILE=str(tmp_path / "aws"), **nobody)
    green(daemon)

    issued.rename(away)
    wait_until(lambda: "blind" in codes(daemon), says="it is blind", seconds=SECONDS)

    assert daemon.value("canary_runs_total", mode="live", result="blind") > 0
    assert sum(daemon.value("canary_runs_total", mode="live", result=r) for r in ("error", "denied")) == 0
    assert "no_credentials" in {event["reason"] for event in daemon.events("canary.blind")}

    away.rename(issued)
    green(daemon)
    assert daemon.stop() == 0


@pytest.fixture
def own_keys(cloud: LocalCloud, tmp_path: Path) -> Path:
    """A configuration with keys of its own, which a test may harm."""
    kinds = (Kind.ROUND_TRIP, Kind.KEY_STATE)
    made = cloud.config(tmp_path, prefix=f"harmed{next(_NUMBERS)}", kinds=kinds)
    assert cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=made).returncode == 0
    return made


def kms(cloud: LocalCloud, region: str) -> Any:
    return boto3.client(
        "kms",
        region_name=region,
        endpoint_url=cloud.endpoints["regions"][region]["kms"],
        verify=cloud.endpoints["ca_bundle"],
        **cloud.endpoints["credentials"],
    )


def alias_of(path: Path, purpose: str) -> str:
    return str(tomllib.loads(path.read_text())["keys"][purpose]["alias"])


def test_an_alias_is_missing_in_one_region(start: Start, cloud: LocalCloud, own_keys: Path) -> None:
    """Told at once, and used all the same: the core knows the key from where its alias is."""
    with closing(kms(cloud, "us-west-2")) as client:
        client.delete_alias(AliasName=alias_of(own_keys, "pii"))
    daemon = start(own_keys)
    wait_until(lambda: "down" in codes(daemon, "us-west-2"), says="it is told", seconds=SECONDS)
    down = {(r["canary"], r["region"], r["key"]) for r in health(daemon)["reasons"] if r["code"] == "down"}

    assert daemon.get("/health")[0] == 503
    assert down == {("key_state", "us-west-2", "pii")}
    assert (
        daemon.value("canary_runs_total", canary="key_state", region="us-west-2", key="pii", result="alias_wrong") >= 3
    )
    assert daemon.value("canary_up", canary="round_trip", region="us-west-2", key="pii", mode="live") == 1
    failed = {
        (e["region"], e["key"], e["reason"]) for e in daemon.events("canary.failed") if e["canary"] == "key_state"
    }
    assert failed == {("us-west-2", "pii", "alias_wrong")}
    assert daemon.stop() == 0


def test_a_key_is_disabled_in_one_region(start: Start, cloud: LocalCloud, own_keys: Path) -> None:
    """KMS's own code is in the log; the key is usable elsewhere, so degraded."""
    daemon = start(own_keys)
    green(daemon)
    with closing(kms(cloud, "eu-west-1")) as client:
        arn = client.describe_key(KeyId=alias_of(own_keys, "payment"))["KeyMetadata"]["Arn"]
        client.disable_key(KeyId=arn)
        wait_until(lambda: "down" in codes(daemon, "eu-west-1"), says="it is told", seconds=SECONDS)

        assert daemon.get("/health")[0] == 503
        failed = [e for e in daemon.events("canary.failed") if e["canary"] == "round_trip"]
        assert {(e["region"], e["key"], e["error_code"]) for e in failed} == {
            ("eu-west-1", "payment", "DisabledException")
        }
        assert daemon.value("canary_up", canary="round_trip", region="eu-west-1", key="payment", mode="live") == 0

        client.enable_key(KeyId=arn)
    green(daemon)
    assert daemon.stop() == 0


def test_a_corrupt_history_is_moved_aside(start: Start, config: Path) -> None:
    """Said loudly, kept, started anew."""
    state = config.parent / "state"
    state.mkdir()
    (state / "history.db").write_bytes(b"this is no database " * 500)
    daemon = start(config)
    green(daemon)

    (said,) = daemon.events("sqlite.damaged")
    assert Path(said["moved_to"]).read_bytes().startswith(b"this is no database")
    assert daemon.stop() == 0
    with closing(sqlite3.connect(f"file:{state / 'history.db'}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of so many MiB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("no mount here")
    place = Path(tempfile.mkdtemp())
    command = [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "kmswd-test", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        place.rmdir()
        pytest.skip("no file system can be mounted by this user")
    try:
        yield place
    finally:
        subprocess.run([umount, "--lazy", str(place)], check=True)
        place.rmdir()


def test_the_disk_is_full(start: Start, config: Path) -> None:
    """The looks go on and are served from memory; it is said when writing fails, and when it works again."""
    with small_disk(8) as disk:
        config.write_text(config.read_text().replace('dir = "state"', f'dir = "{disk}"'))
        (config.parent / "state").symlink_to(disk)
        daemon = start(config)
        green(daemon)

        with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)
        wait_until(lambda: daemon.events("history.failed"), says="it is said", seconds=SECONDS)
        runs = daemon.value("canary_runs_total", canary="round_trip", mode="live", result="success")
        wait_until(
            lambda: daemon.value("canary_runs_total", canary="round_trip", mode="live", result="success") > runs + 9,
            says="the looks go on",
        )

        assert daemon.get("/health")[0] == daemon.get("/livez")[0] == 200

        (disk / "ballast").unlink()
        wait_until(lambda: daemon.events("history.recovered"), says="it works again", seconds=SECONDS)
        assert daemon.stop() == 0


def test_a_slow_reader_of_metrics_holds_up_nobody(start: Start, config: Path) -> None:
    """Fifty clients that ask and never read: others are answered, and the looks go on."""
    daemon = start(config)
    green(daemon)
    address = urlsplit(daemon.url)
    held = []
    for _ in range(50):
        client = socket.create_connection((address.hostname or "", address.port or 0), 5)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n" * 20)
        held.append(client)

    runs = daemon.value("canary_runs_total", canary="round_trip", mode="live", result="success")
    wait_until(
        lambda: daemon.value("canary_runs_total", canary="round_trip", mode="live", result="success") > runs + 18,
        says="the looks go on",
    )

    assert daemon.get("/health")[0] == daemon.get("/livez")[0] == 200
    assert daemon.value("scheduler_jobs_total", result="missed") == 0
    for client in held:
        client.close()
    assert daemon.stop() == 0


def test_ten_thousand_requests_at_once(start: Start, config: Path) -> None:
    """From 200 clients: each is answered or told to come back; no look is missed, and it is as small as before."""
    daemon = start(config)
    green(daemon)
    before = files_of(daemon)
    address = urlsplit(daemon.url)

    def ask(paths: Sequence[str]) -> list[int]:
        found = []
        for path in paths:
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
            with closing(connection), suppress(OSError):
                connection.request("GET", path)
                found.append(connection.getresponse().status)
        return found

    paths = ("/health", "/livez", "/api/v1/status", "/metrics", "/nothing") * 10
    with ThreadPoolExecutor(200) as clients:
        answers = [status for statuses in clients.map(ask, [paths] * 200) for status in statuses]

    assert set(answers) <= {200, 404, 503}
    assert answers.count(200) > 5_000
    assert daemon.value("scheduler_jobs_total", result="missed") == 0
    wait_until(lambda: files_of(daemon) <= before + 20, says="connections are let go", seconds=SECONDS)
    green(daemon)
    assert daemon.stop() == 0


def files_of(daemon: Running) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@pytest.fixture
def faketime() -> Path:
    """The library by which a process sees another time of day; where it is not installed, skip, but not in CI."""
    found = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if found is None:
        assert os.environ.get("CI") != "true", "CI installs faketime"
        pytest.skip("no libfaketime here: Debian has it in the package faketime")
    return found


@pytest.mark.parametrize("step", [pytest.param("-86400", id="back-a-day"), pytest.param("+86400", id="on-a-day")])
def test_the_systems_clock_is_set(start: Start, config: Path, faketime: Path, tmp_path: Path, step: str) -> None:
    """KMS refuses another day's signatures: blind, not failed. The looks go on at their pace; green again after."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    daemon = start(
        config,
        LD_PRELOAD=str(faketime),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_FORCE_MONOTONIC_FIX="0",  # else each wait for the GIL ends at once, and threads fight for it instead
    )
    green(daemon)

    offset.write_text(step)
    wait_until(lambda: daemon.events("scheduler.clock_stepped"), says="the step is seen", seconds=SECONDS)
    looks, began = round_trips(daemon), CLOCK.monotonic()
    wait_until(lambda: round_trips(daemon) > looks + 45, says="five more rounds: no silence", seconds=SECONDS)
    passed = CLOCK.monotonic() - began

    assert passed > 2, "five rounds at a pace of one a second: no storm"
    assert daemon.get("/livez")[0] == 200
    assert daemon.get("/health")[0] == 500
    assert codes(daemon) >= {"blind"}
    assert daemon.value("canary_runs_total", canary="round_trip", mode="live", result="error") == 0
    wait_until(
        lambda: daemon.value("scheduler_clock_steps_total") >= 1, says="it is counted, a second later", seconds=SECONDS
    )

    offset.write_text("+0")
    green(daemon)
    assert daemon.stop() == 0


def round_trips(daemon: Running) -> float:
    return daemon.value("canary_runs_total", canary="round_trip", mode="live")
