"""The canaries that use keys, against the local AWS over TLS: exact codes, and a key that really rotates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from daemon_kit import REGIONS, LocalCloud
from waiting import wait_until

from kms_core import Core, SystemClock
from kms_core.events import Attempt, Event
from kms_core.testing import ManualClock
from kms_watchdog import runner
from kms_watchdog.canaries.golden import Golden
from kms_watchdog.canaries.must_fail_core import MustFailCore
from kms_watchdog.canaries.must_fail_kms import MustFailKms
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings, load
from kms_watchdog.golden_store import OwnedGoldenStore
from kms_watchdog.key_rotations import KeyRotations
from kms_watchdog.results import Kind, Outcome, Reason
from kms_watchdog.state_folder import StateFolder

pytestmark = pytest.mark.slow

EAST, WEST, _ = REGIONS
KINDS = (Kind.CROSS_REGION, Kind.FAILOVER_PATH, Kind.GOLDEN, Kind.MUST_FAIL_CORE, Kind.MUST_FAIL_KMS)


@dataclass
class Stage:
    """Keys of its own on the local AWS, a core over them, and what the core's attempts came to."""

    settings: Settings
    core: Core
    clients: dict[str, Any]
    key_ids: dict[str, str]
    events: list[Event]

    def codes(self, *, region: str) -> list[str]:
        return [event.error_code for event in self.events if isinstance(event, Attempt) and event.region == region]


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def stage(cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name, value in cloud.endpoints["credentials"].items():
        monkeypatch.setenv(name.upper(), value)
    settings = load(cloud.config(tmp_path, prefix=f"keyed-{tmp_path.name.strip('_').replace('_', '-')}"))
    session = boto3.session.Session()
    clients = {
        region: session.client(
            "kms",
            region_name=region,
            endpoint_url=cloud.endpoints["regions"][region]["kms"],
            verify=cloud.endpoints["ca_bundle"],
        )
        for region in REGIONS
    }
    key_ids = {purpose: make_key(clients, key.alias) for purpose, key in settings.keys.items()}
    recorder = Recorder()
    with Core(settings.core_config(), recorder) as core:
        recorder.events.clear()
        yield Stage(settings, core, clients, key_ids, recorder.events)
    for client in clients.values():
        client.close()


def make_key(clients: dict[str, Any], alias: str) -> str:
    key_id = str(clients[EAST].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"])
    for region in REGIONS[1:]:
        clients[EAST].replicate_key(KeyId=key_id, ReplicaRegion=region)
    for region in REGIONS:
        wait_until(
            lambda client=clients[region]: client.describe_key(KeyId=key_id)["KeyMetadata"]["Enabled"],
            says=f"{alias} is in {region}",
        )
        clients[region].create_alias(AliasName=alias, TargetKeyId=key_id)
    return key_id


def test_all_of_them_are_green_on_an_estate_in_order(stage: Stage) -> None:
    """Each pair, region and key, over real connections, as the daemon builds them."""
    chosen = stage.settings.canaries.model_copy(update={"kinds": KINDS, "deadline_seconds": 10.0})
    canaries = live_canaries(Ports(stage.settings.model_copy(update={"canaries": chosen}), SystemClock()))

    results = [runner.run(canary, stage.core, SystemClock()) for canary in canaries]

    assert len(results) == 18 + 3 + 9 + 3 + 9
    assert {(result.outcome, result.detail) for result in results} == {(Outcome.OK, "")}


def test_kms_refuses_each_way_with_its_own_code_in_every_region(stage: Stage) -> None:
    """The codes are those of the wire; a changed context has kept `canary=true`, or policy would have answered."""
    for region in REGIONS:
        stage.events.clear()

        found = runner.run(MustFailKms(region, "general", "pii"), stage.core, SystemClock())

        assert (found.outcome, found.detail) == (Outcome.OK, "")
        assert stage.codes(region=region) == [
            "",
            "InvalidCiphertextException",
            "InvalidCiphertextException",
            "IncorrectKeyException",
        ]
        assert stage.core.health().regions[region].breaker == "closed"


def test_a_disabled_key_blinds_what_needs_it_and_nothing_else(stage: Stage) -> None:
    """KMS looks at a key's state before it looks at what it is to open."""
    stage.clients[WEST].disable_key(KeyId=stage.key_ids["pii"])

    wrong_key = runner.run(MustFailKms(WEST, "general", "pii"), stage.core, SystemClock())
    elsewhere = runner.run(MustFailKms(EAST, "general", "pii"), stage.core, SystemClock())

    assert (wrong_key.outcome, wrong_key.reason) == (Outcome.BLIND, Reason.DENIED)
    assert (wrong_key.error_code, list(wrong_key.steps)[-1]) == ("DisabledException", "key")
    assert elsewhere.outcome is Outcome.OK


def test_the_core_refuses_alone_with_real_threads(stage: Stage) -> None:
    """The second look needs nothing of KMS at all."""
    canary = MustFailCore(EAST, "general", "pii")
    runner.run(canary, stage.core, SystemClock())
    stage.events.clear()

    found = runner.run(canary, stage.core, SystemClock())

    assert (found.outcome, found.facts["refusals"]) == (Outcome.OK, 5.0)
    assert not [event for event in stage.events if isinstance(event, Attempt)]


def test_what_was_sealed_before_a_rotation_opens_everywhere_after_it(stage: Stage) -> None:
    """With the key's old material, which KMS keeps; and the canary knows from KMS that there was a rotation."""
    folder = StateFolder(stage.settings.state.dir)
    folder.prepare()
    clock = ManualClock(start_utc=SystemClock().now_utc() - dt.timedelta(hours=2))
    store = OwnedGoldenStore(folder, clock)
    rotations = KeyRotations(stage.clients[EAST], clock)
    canaries = {
        region: Golden(region, "general", store, rotations, lists_rotations=region == EAST) for region in REGIONS
    }
    runner.run(canaries[EAST], stage.core, clock)

    stage.clients[EAST].rotate_key_on_demand(KeyId=stage.key_ids["general"])
    wait_until(
        lambda: stage.clients[EAST].list_key_rotations(KeyId=stage.key_ids["general"])["Rotations"],
        says="the key has rotated",
    )
    clock.advance(2 * 3600.0 + 60.0)
    runner.run(canaries[EAST], stage.core, clock)
    found = [runner.run(canary, stage.core, clock) for canary in canaries.values()]
    store.close()

    assert [result.outcome for result in found] == [Outcome.OK] * 3
    assert [list(result.steps) for result in found] == [["newest", "rotation"]] * 3
    assert [result.facts["rotations_spanned"] for result in found] == [1.0] * 3
