"""Real servers for the drill engine's tests: a local AWS, Toxiproxy of both makes, and a daemon that says it lives."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import boto3
import ports
import pytest
from daemon_answer import all_well
from fault_bench import Bench

from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core import SystemClock
from kms_watchdog.config import load

READY_SECONDS = 20.0
PURPOSES = ("general", "pii")


def wait_until(met: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when `met`; fail after `seconds`."""
    clock, never = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds
    while not met():
        if clock.monotonic() > until:
            pytest.fail(f"not within {seconds:g} s: {what}")
        never.wait(0.05)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until


@pytest.fixture
def free_port() -> int:
    return ports.free()


def _real_toxiproxy() -> str | None:
    return os.environ.get("TOXIPROXY_BIN") or shutil.which("toxiproxy-server")


@pytest.fixture(
    params=[
        pytest.param("embedded"),
        pytest.param(
            "real", marks=pytest.mark.skipif(_real_toxiproxy() is None, reason="no TOXIPROXY_BIN, no toxiproxy-server")
        ),
    ]
)
def toxiproxy_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The admin address of a Toxiproxy of our own: the embedded one, and a real one where there is one."""
    port = ports.free()
    real = _real_toxiproxy()
    command = [real] if request.param == "real" and real else [sys.executable, "-m", "kms_local", "toxiproxy"]
    server = subprocess.Popen(
        [*command, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), READY_SECONDS, "Toxiproxy")
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def own_toxiproxy(free_port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Toxiproxy for one test alone, that may stop it or kill it."""
    url = f"http://127.0.0.1:{free_port}"
    command = [sys.executable, "-m", "kms_local", "toxiproxy", "-port", str(free_port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(url), READY_SECONDS, "Toxiproxy")
        yield url, server
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    with Toxiproxy(url) as server:
        try:
            server.version()
        except ToxiproxyError:
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAws:
    """A local AWS with the estate's keys and alarms."""

    endpoints: dict[str, object]
    environment: dict[str, str]

    @property
    def toxiproxy_url(self) -> str:
        return str(self.endpoints["toxiproxy"]["url"])  # type: ignore[index]

    @property
    def regions(self) -> dict[str, dict[str, str]]:
        return self.endpoints["regions"]  # type: ignore[return-value]


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """`kms-local serve` with keys under the configured aliases."""
    home = tmp_path_factory.mktemp("aws")
    server = subprocess.Popen(
        [sys.executable, "-m", "kms_local", "serve", "--dir", str(home), "--creating-seconds", "0"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until((home / "endpoints.json").exists, READY_SECONDS, "the local AWS")
        endpoints = json.loads((home / "endpoints.json").read_text(encoding="utf-8"))
        keys = endpoints["credentials"]
        environment = {**os.environ, **{name.upper(): value for name, value in keys.items()}}
        aws = LocalAws(endpoints=endpoints, environment=environment)
        _create_keys(aws)
        yield aws
    finally:
        server.terminate()
        server.wait(READY_SECONDS)


def _create_keys(aws: LocalAws) -> None:
    session = boto3.session.Session(**aws.endpoints["credentials"])  # type: ignore[arg-type]
    ca = str(aws.endpoints["ca_bundle"])
    clients = {
        region: session.client("kms", region_name=region, endpoint_url=urls["kms"], verify=ca)
        for region, urls in aws.regions.items()
    }
    primary, *replicas = clients
    for purpose in PURPOSES:
        key = clients[primary].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
        for region in replicas:
            clients[primary].replicate_key(KeyId=key, ReplicaRegion=region)
        for client in clients.values():
            client.create_alias(AliasName=f"alias/test-{purpose}", TargetKeyId=key)
    for client in clients.values():
        client.close()


@pytest.fixture
def make_config(local_aws: LocalAws, tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a configuration with a state folder of its own."""

    def make(*, toxiproxy_url: str | None = None, home_region: str = "us-east-1") -> Path:
        lines = [
            "[estate]",
            'account_id = "123456789012"',
            'primary_region = "us-east-1"',
            f"regions = {json.dumps(list(local_aws.regions))}",
            f'home_region = "{home_region}"',
            f'ca_bundle = "{local_aws.endpoints["ca_bundle"]}"',
        ]
        for purpose in PURPOSES:
            lines += [f"[keys.{purpose}]", f'alias = "alias/test-{purpose}"']
        for region, urls in local_aws.regions.items():
            lines += [f"[endpoints.{region}]", *(f'{service} = "{url}"' for service, url in urls.items())]
        lines += ["[core]", "breaker_open_seconds = 1", "connect_timeout_seconds = 0.5", "read_timeout_seconds = 0.8"]
        lines += ["[cloudwatch]", "period_seconds = 10", "[state]", 'dir = "state"']
        lines += ["[drills]", f'toxiproxy_url = "{toxiproxy_url or local_aws.toxiproxy_url}"']
        path = tmp_path / "watchdog.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / "state").mkdir(exist_ok=True)
        return path

    return make


class _Livez(http.server.BaseHTTPRequestHandler):
    config: Path

    def do_GET(self) -> None:
        known = {"/livez": lambda: b"", "/api/v1/status": lambda: json.dumps(all_well(load(self.config))).encode()}
        body = known.get(self.path, lambda: b"")()
        self.send_response(200 if self.path in known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def daemon_lives(tmp_path: Path) -> Iterator[None]:
    """Something that says, as the daemon does, that it lives and all is well, and is named in the state folder."""
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    handler = type("Livez", (_Livez,), {"config": tmp_path / "watchdog.toml"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        (state / "http.json").write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}))
        try:
            yield
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def short_drill(tmp_path: Path) -> Path:
    """A drill that holds its fault for seconds, and speaks of no alarm."""
    path = tmp_path / "short.toml"
    path.write_text(
        """
title = "A short black hole"
why = "To see the engine at work."
mode = "sustained"
[target]
region = "primary"
[[faults]]
kind = "blackhole"
[timing]
baseline_at_least_seconds = 1
baseline_at_most_seconds = 20
hold_at_least_seconds = 4
hold_at_most_seconds = 15
[workload]
operations_per_second = 20.0
canary_interval_seconds = 0.5
[objectives]
p99_seconds = 3.0
rto_seconds = 25.0
[breaker]
moves = ["closed>open", "open>half_open", "half_open>closed"]
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def real_toxiproxy_url() -> Iterator[str | None]:
    """The admin address of a real Toxiproxy for all tests, where there is one."""
    real, port = _real_toxiproxy(), ports.free()
    if real is None:
        yield None
        return
    server = subprocess.Popen(
        [real, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), READY_SECONDS, "Toxiproxy")
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def server(request: pytest.FixtureRequest, local_aws: LocalAws) -> Iterator[Toxiproxy]:
    """A Toxiproxy that other tests use too: the local AWS's own, or a real one when the test asks for it."""
    real = getattr(request, "param", "embedded") == "real"
    url = request.getfixturevalue("real_toxiproxy_url") if real else local_aws.toxiproxy_url
    if url is None:
        pytest.skip("no TOXIPROXY_BIN, no toxiproxy-server")
    with Toxiproxy(url) as found:
        yield found


@pytest.fixture
def bench(local_aws: LocalAws, server: Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Proxies and lines to all regions, gone afterwards."""
    for name, value in local_aws.endpoints["credentials"].items():  # type: ignore[attr-defined]
        monkeypatch.setenv(name.upper(), value)
    with ExitStack() as stack:
        yield Bench(local_aws, server, stack)
