"""Three regions in memory, cores over them, an observer that remembers; and three regions of a local server."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest

from kms_core import Core, CoreConfig, KeyConfig, SystemClock
from kms_core.events import Event
from kms_core.testing import FakeEstate, ManualClock, core_over

E = TypeVar("E")

CONFIG = CoreConfig(
    account_id="123456789012",
    regions=("us-east-1", "us-west-2", "eu-west-1"),
    home_region="us-east-1",
    keys={
        "general": KeyConfig(alias="alias/general"),
        "payment": KeyConfig(alias="alias/payment", strict_key_state=True),
    },
)


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def config() -> CoreConfig:
    return CONFIG


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto_advance=True)


@pytest.fixture
def estate(clock: ManualClock) -> FakeEstate:
    estate = FakeEstate(clock=clock)
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    return estate


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_core(estate: FakeEstate, recorder: Recorder) -> Iterator[Callable[..., Core]]:
    """Return a function that makes a core over the estate, with the given settings changed."""
    made: list[Core] = []

    def make(**changes: Any) -> Core:
        core = core_over(estate, dataclasses.replace(CONFIG, **changes), observer=recorder)
        made.append(core)
        estate.calls.clear()
        recorder.events.clear()
        return core

    yield make
    for core in made:
        core.close()


@pytest.fixture
def core(make_core: Callable[..., Core]) -> Core:
    return make_core()


@pytest.fixture
def real_estate() -> FakeEstate:
    """Regions in memory whose time is the machine's, for cores with real threads."""
    estate = FakeEstate()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    return estate


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """What requests may wait for; set at the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def threaded(real_estate: FakeEstate, recorder: Recorder) -> Iterator[Callable[..., Core]]:
    """Return a function that makes a core with real threads over `real_estate`, with the given settings changed."""
    made: list[Core] = []

    def make(**changes: Any) -> Core:
        order = {"region_preference": CONFIG.regions}  # else the quicker of two, on a busy machine, comes second
        changed = dataclasses.replace(CONFIG, **(order | changes))
        made.append(Core(changed, recorder, clock=SystemClock(), connect=real_estate.connect))
        real_estate.calls.clear()
        recorder.events.clear()
        return made[-1]

    yield make
    for core in made:
        core.close()


@pytest.fixture
def made_up_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have boto3 find credentials that nobody has, and look nowhere else."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


REGIONS = CONFIG.regions


@dataclasses.dataclass(frozen=True)
class LocalAws:
    """A local AWS with the keys of `CONFIG`, reached by plain boto3."""

    endpoints: dict[str, str]
    ca_bundle: str
    credentials: dict[str, str]
    role: dict[str, str]
    """The credentials of a session, with their token."""
    key_ids: dict[str, str]

    def client(self, region: str) -> Any:
        """Return a plain boto3 client; close it."""
        return boto3.client(
            "kms",
            region_name=region,
            endpoint_url=self.endpoints[region],
            verify=self.ca_bundle,
            **self.credentials,
        )

    def config(self, **changes: Any) -> CoreConfig:
        """Return `CONFIG` for this server, with an order of regions that measured times do not change."""
        changes = {"region_preference": CONFIG.regions} | changes
        endpoints = self.endpoints | changes.pop("endpoints", {})
        return dataclasses.replace(CONFIG, endpoints=endpoints, ca_bundle=self.ca_bundle, **changes)


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """Serve three regions, and make the keys with their replicas and aliases as on AWS."""
    folder = tmp_path_factory.mktemp("local-aws")
    roles = tmp_path_factory.mktemp("roles") / "roles.json"
    roles.write_text(json.dumps({"RoleDetailList": [{"RoleName": "App"}]}))
    command = [sys.executable, "-m", "kms_local", "serve", "--dir", str(folder), "--no-toxiproxy"]
    server = subprocess.Popen([*command, "--creating-seconds", "0", "--iam", str(roles)])
    try:
        document = _endpoints(server, folder / "endpoints.json")
        yield _with_keys(document)
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def local_credentials(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 find the local server's credentials where it looks in production."""
    for name, value in local_aws.credentials.items():
        monkeypatch.setenv(name.upper(), value)


def _endpoints(server: subprocess.Popen[bytes], path: Path) -> dict[str, Any]:
    pause = threading.Event()
    for _ in range(600):
        if path.exists():
            return dict(json.loads(path.read_text()))
        assert server.poll() is None, "the local server ended before it was ready"
        pause.wait(0.05)
    raise AssertionError("the local server was not ready in time")


def _with_keys(document: dict[str, Any]) -> LocalAws:
    aws = LocalAws(
        endpoints={region: found["kms"] for region, found in document["regions"].items()},
        ca_bundle=document["ca_bundle"],
        credentials=document["credentials"],
        role=document["roles"]["App"],
        key_ids={},
    )
    clients = {region: aws.client(region) for region in REGIONS}
    for purpose, key in CONFIG.keys.items():
        key_id = clients[REGIONS[0]].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
        for region in REGIONS[1:]:
            clients[REGIONS[0]].replicate_key(KeyId=key_id, ReplicaRegion=region)
        for client in clients.values():
            client.create_alias(AliasName=key.alias, TargetKeyId=key_id)
        aws.key_ids[purpose] = key_id
    for client in clients.values():
        client.close()
    return aws
