"""Three local regions over TLS, each behind a Toxiproxy proxy, and the faults that can hit the first of them."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse

from kms_core import CoreConfig, KeyConfig

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
TARGET = REGIONS[0]
ALIAS = "alias/general"
_START_TRIES = 600
_TRY_SECONDS = 0.05

FAULTS = ("refused", "silent", "reset", "+600 ms", "truncated", "SYN-dropped", "DNS failure")
_TOXICS: dict[str, dict[str, Any]] = {
    "silent": {"type": "timeout", "attributes": {"timeout": 0}},
    "reset": {"type": "reset_peer", "attributes": {"timeout": 0}},
    "+600 ms": {"type": "latency", "attributes": {"latency": 600, "jitter": 0}},
}


@dataclass(slots=True)
class Detour:
    """What a client's requests meet before they are sent: nothing, another address, or an answer that was cut."""

    url: str | None = None
    cut: bool = False

    def attach(self, region: str, client: Any) -> None:
        """Put this into the way of `client`, when it is the target region's: `Core(on_client=…)` takes it."""
        if region == TARGET:
            client.meta.events.register("before-send.kms", self)

    def __call__(self, request: Any, **_: Any) -> Any:
        """Botocore's hook: an answer in place of the request, or None to send it, to wherever its URL says."""
        if self.cut:
            return AWSResponse(request.url, 200, {"Content-Type": "application/x-amz-json-1.1"}, _Raw(b'{"KeyId":"'))
        if self.url is not None:
            request.url = self.url
        return None


class _Raw:
    """What is left of an answer; botocore reads it as urllib3's."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        """Yield the body."""
        yield self._body


@dataclass(slots=True)
class LocalAws:
    """Where everything is, and the switches."""

    document: dict[str, Any]
    key_id: str = ""
    proxied: dict[str, str] = field(default_factory=dict)
    detour: Detour = field(default_factory=Detour)

    def config(self, **changes: Any) -> CoreConfig:
        """Return what a core needs to go through the proxies."""
        return CoreConfig(
            account_id=self.document["account_id"],
            regions=REGIONS,
            home_region=TARGET,
            keys={"general": KeyConfig(alias=ALIAS, key_id=self.key_id)},
            endpoints=self.proxied,
            ca_bundle=self.document["ca_bundle"],
            **changes,
        )

    def client(self, region: str, **settings: Any) -> Any:
        """Return a boto3 client with its defaults, through the proxy."""
        return self._client(region, self.proxied[region], **settings)

    def direct(self, region: str) -> Any:
        """Return a client that no fault touches."""
        return self._client(region, self.document["regions"][region]["kms"])

    def _client(self, region: str, url: str, **settings: Any) -> Any:
        client = boto3.client(
            "kms",
            region_name=region,
            endpoint_url=url,
            verify=self.document["ca_bundle"],
            **self.document["credentials"],
            **settings,
        )
        self.detour.attach(region, client)
        return client

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Have the target region suffer `name` inside the block, and none after it."""
        with contextlib.ExitStack() as healing:
            self._begin(name, healing)
            yield

    def _begin(self, name: str, healing: contextlib.ExitStack) -> None:
        proxy = f"/proxies/{TARGET}"
        if name == "refused":
            healing.callback(self._toxiproxy, "POST", proxy, {"enabled": True})
            self._toxiproxy("POST", proxy, {"enabled": False})
        elif name in _TOXICS:
            healing.callback(self._heal)
            self._toxiproxy("POST", f"{proxy}/toxics", {"name": "fault", "stream": "downstream", **_TOXICS[name]})
        elif name == "truncated":
            healing.callback(self._uncut)
            self.detour.cut = True
        else:
            healing.callback(setattr, self.detour, "url", None)
            self.detour.url = _unanswered(healing) if name == "SYN-dropped" else "https://kms.us-east-1.invalid/"

    def _uncut(self) -> None:
        self.detour.cut = False

    def _heal(self) -> None:
        """Disable, delete, enable: a toxic that is deleted first can hold up the whole API of a real Toxiproxy."""
        proxy = f"/proxies/{TARGET}"
        self._toxiproxy("POST", proxy, {"enabled": False})
        self._toxiproxy("DELETE", f"{proxy}/toxics/fault")
        self._toxiproxy("POST", proxy, {"enabled": True})

    def route(self) -> None:
        """Make the proxies."""
        for region in REGIONS:
            upstream = self.document["regions"][region]["kms"].removeprefix("https://")
            made = self._toxiproxy(
                "POST", "/proxies", {"name": region, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
            )
            self.proxied[region] = f"https://{made['listen']}"

    def _toxiproxy(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url = self.document["toxiproxy"]["url"] + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - http on loopback
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310 - as above
            text = reply.read()
        return json.loads(text) if text else None


def _unanswered(healing: contextlib.ExitStack) -> str:
    """Return an address whose SYNs are dropped: a listener with a full queue, from which nobody accepts."""
    listener = healing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(8):
        filler = healing.enter_context(socket.socket())
        filler.settimeout(0)
        filler.connect_ex(listener.getsockname())
    return f"https://127.0.0.1:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def local_aws() -> Iterator[LocalAws]:
    """Serve three regions with one multi-Region key, its replicas and aliases, behind proxies."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kms_local", "serve", "--dir", folder, "--creating-seconds", "0"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own program
        try:
            aws = LocalAws(document=_endpoints(server, Path(folder) / "endpoints.json"))
            aws.route()
            _make_key(aws)
            yield aws
        finally:
            server.terminate()
            server.wait(20)


def _endpoints(server: subprocess.Popen[bytes], path: Path) -> dict[str, Any]:
    pause = threading.Event()
    for _ in range(_START_TRIES):
        if path.exists():
            return dict(json.loads(path.read_text()))
        if server.poll() is not None:
            raise RuntimeError("the local server ended before it was ready")
        pause.wait(_TRY_SECONDS)
    raise RuntimeError("the local server was not ready in time")


def _make_key(aws: LocalAws) -> None:
    clients: dict[str, Any] = {region: aws.direct(region) for region in REGIONS}
    aws.key_id = clients[TARGET].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    for region in REGIONS[1:]:
        clients[TARGET].replicate_key(KeyId=aws.key_id, ReplicaRegion=region)
    for client in clients.values():
        client.create_alias(AliasName=ALIAS, TargetKeyId=aws.key_id)
        client.close()


def within(seconds: float, call: Callable[[], object]) -> BaseException | bool:
    """Make `call` in a thread of its own; return True, the error it raised, or False when it took longer."""
    outcome: list[BaseException | bool] = []

    def run() -> None:
        try:
            call()
            outcome.append(True)
        except BaseException as e:  # noqa: BLE001 - a peer's failure is a figure here
            outcome.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else False
