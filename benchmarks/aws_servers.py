"""The servers that `local_aws_speed` compares: `kms-local serve` and moto's, both over TLS, and what they take."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from kms_core.clock import SystemClock
from kms_local.wire.certificates import make_authority, server_pem

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
_CLOCK = SystemClock()
_START_SECONDS = 60.0
_TRY_SECONDS = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")
_KIBIBYTE = 1024


@dataclass(slots=True)
class AwsServer:
    """A server process, and how clients reach it."""

    name: str
    process: subprocess.Popen[bytes]
    urls: dict[str, str]
    ca_bundle: str
    credentials: dict[str, str]
    key_ids: dict[str, str] = field(default_factory=dict)
    """A single-Region key in each region: moto cannot decrypt under another kind."""
    ready_seconds: float = 0.0
    folder: Path = Path()
    """Where it keeps `endpoints.json`; moto's has none."""

    def client(self, region: str) -> Any:
        """Return a stock boto3 client."""
        return boto3.client(
            "kms", region_name=region, endpoint_url=self.urls[region], verify=self.ca_bundle, **self.credentials
        )

    def make_keys(self) -> None:
        """Make the keys that the load uses."""
        for region in REGIONS:
            client = self.client(region)
            self.key_ids[region] = client.create_key()["KeyMetadata"]["KeyId"]
            client.close()

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mib(self) -> dict[str, float]:
        """Return its memory: resident, its share of what is shared (proportional), and what is its own."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) / _KIBIBYTE for line in lines if line.endswith(" kB")}
        return {
            "resident": sizes["Rss"],
            "proportional": sizes["Pss"],
            "private": sizes["Private_Clean"] + sizes["Private_Dirty"],
        }


@contextlib.contextmanager
def let_in(credentials: Mapping[str, str]) -> Iterator[None]:
    """Put a server's credentials where boto3 looks for them in production."""
    given = {name.upper(): value for name, value in credentials.items()} | {"AWS_EC2_METADATA_DISABLED": "true"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def ours() -> Iterator[AwsServer]:
    """Serve KMS with `kms-local serve`: TLS, signatures checked, every request logged."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        began = _CLOCK.monotonic()
        process = _start(stack, "-m", "kms_local", "serve", "--dir", str(folder), "--no-toxiproxy")
        _wait(process, (folder / "endpoints.json").exists)
        ready = _CLOCK.monotonic() - began
        document = json.loads((folder / "endpoints.json").read_text())
        urls = {region: document["regions"][region]["kms"] for region in REGIONS}
        yield AwsServer(
            "kms-local",
            process,
            urls,
            document["ca_bundle"],
            document["credentials"],
            ready_seconds=ready,
            folder=folder,
        )


@contextlib.contextmanager
def motos() -> Iterator[AwsServer]:
    """Serve KMS with moto's own server: TLS with a certificate of the same kind, signatures not checked."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _write_certificate(folder)
        pem = str(folder / "server.pem")
        port = _free_port()
        began = _CLOCK.monotonic()
        flags = ("-H", "127.0.0.1", "-p", str(port), "-c", pem, "-k", pem)
        process = _start(stack, "-m", "moto.server", *flags)
        _wait(process, lambda: _shakes_hands(port, folder / "ca.pem"))
        ready = _CLOCK.monotonic() - began
        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        urls = dict.fromkeys(REGIONS, f"https://127.0.0.1:{port}")
        yield AwsServer("moto", process, urls, str(folder / "ca.pem"), credentials, ready_seconds=ready)


def _start(stack: contextlib.ExitStack, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - our own program or moto's
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    return process


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), _CLOCK.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or _CLOCK.monotonic() > deadline:
            raise RuntimeError("a server did not start")
        _CLOCK.wait(pause, _TRY_SECONDS)


def _shakes_hands(port: int, ca_bundle: Path) -> bool:
    context = ssl.create_default_context(cafile=str(ca_bundle))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as raw,
            context.wrap_socket(raw, server_hostname="localhost"),
        ):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _write_certificate(folder: Path) -> None:
    authority = make_authority(now=_CLOCK.now_utc().timestamp())
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "server.pem").write_bytes(server_pem(authority, ["localhost", "127.0.0.1"]))
