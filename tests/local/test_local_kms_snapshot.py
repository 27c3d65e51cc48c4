"""An estate through a snapshot: all of it comes back, and what is not one of ours is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from kms_estate import CREATING_SECONDS, EAST, WEST, Desk, Seeded

from kms_local.kms.keys import Estate
from kms_local.kms.snapshot import VERSION, from_document, to_document

REGIONS = (EAST, WEST)


@pytest.fixture
def desk() -> Desk:
    """An estate in which everything that can be is on its way."""
    desk = Seeded(regions=REGIONS).desk()
    key = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key, RotationPeriodInDays=90)
    desk.wait(days=100)
    desk.ask(EAST, "CreateAlias", AliasName="alias/x", TargetKeyId=key)
    desk.ask(WEST, "TagResource", KeyId=key, Tags=[{"TagKey": "a", "TagValue": "ü"}])
    constraints = {"EncryptionContextEquals": {"canary": "true"}}
    members = {"GranteePrincipal": "arn:aws:iam::123456789012:role/x", "Operations": ["Decrypt", "RetireGrant"]}
    desk.ask(WEST, "CreateGrant", KeyId=key, Name="n", Constraints=constraints, **members)
    desk.ask(EAST, "RotateKeyOnDemand", KeyId=key)
    desk.ask(EAST, "UpdatePrimaryRegion", KeyId=key, PrimaryRegion=WEST)
    other = desk.make_key()
    desk.ask(EAST, "ReplicateKey", KeyId=other, ReplicaRegion=WEST)
    desk.ask(EAST, "ScheduleKeyDeletion", KeyId=other, PendingWindowInDays=9)
    desk.ask(EAST, "ScheduleKeyDeletion", KeyId=desk.make_key(multi_region=False), PendingWindowInDays=8)
    return desk


def read(document: Any, regions: tuple[str, ...] = REGIONS) -> Estate:
    return from_document(document, regions=regions, creating_seconds=CREATING_SECONDS)


def test_everything_comes_back(desk: Desk) -> None:
    """Through JSON text; and what was on its way arrives as it would have."""
    document = to_document(desk.estate)
    again = Desk(read(json.loads(json.dumps(document))), desk.rng, desk.now)
    assert to_document(again.estate) == document

    for one in (desk, again):
        one.estate.entropy = Seeded().desk().rng.randbytes
        one.wait(days=400)
        one.estate.settle(one.now)

    assert to_document(again.estate) == to_document(desk.estate) != document


def test_blobs_and_tokens_of_before_are_good_after(desk: Desk) -> None:
    """Key material of every age, aliases and grants."""
    blob = desk.encrypt(EAST, "alias/x", tenant="7")
    again = Desk(read(to_document(desk.estate)), desk.rng, desk.now)

    assert again.decrypt(WEST, blob, tenant="7") == b"secret"
    (grant,) = again.ask(
        WEST, "ListGrants", KeyId=again.ask(EAST, "DescribeKey", KeyId="alias/x")["KeyMetadata"]["KeyId"]
    )["Grants"]
    assert grant["Constraints"] == {"EncryptionContextEquals": {"canary": "true"}}


def test_a_snapshot_is_no_view(desk: Desk) -> None:
    """What happens to the estate afterwards is not in it."""
    document = to_document(desk.estate)
    before = copy.deepcopy(document)
    desk.ask(WEST, "TagResource", KeyId=document["families"][0]["key_id"], Tags=[{"TagKey": "b", "TagValue": ""}])
    desk.wait(days=400)
    desk.estate.settle(desk.now)

    assert document == before


def test_a_region_may_be_new(desk: Desk) -> None:
    """It is empty then; one with keys may not be missing."""
    assert read(to_document(desk.estate), (*REGIONS, "eu-west-1")).regions["eu-west-1"].keys == {}
    with pytest.raises(ValueError, match=f"keys in {WEST}, which is not served"):
        read(to_document(desk.estate), (EAST,))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda it: it.update(version=VERSION + 1), "version 2", id="newer"),
        pytest.param(lambda it: it.pop("version"), "version None", id="none"),
        pytest.param(lambda it: it.pop("families"), "not a document of this program", id="part-missing"),
        pytest.param(lambda it: it.update(regions=[]), "not a document of this program", id="other-type"),
        pytest.param(lambda it: it["families"][0]["materials"].clear(), "contradicts itself", id="no-material"),
        pytest.param(lambda it: it["families"][0].update(regions=[EAST]), "contradicts itself", id="region-missing"),
        pytest.param(
            lambda it: it["families"][0].update(primary_region=EAST), "contradicts itself", id="other-primary"
        ),
        pytest.param(
            lambda it: it["families"][0]["materials"][0].update(secret="?"), "base64|padding", id="not-base64"
        ),
        pytest.param(lambda it: it["regions"][EAST]["keys"][0].update(state="Asleep"), "Asleep", id="unknown-state"),
        pytest.param(lambda it: it["regions"][EAST]["aliases"][0].update(key_id="x"), "alias without", id="alias"),
    ],
)
def test_what_is_no_snapshot_is_refused(desk: Desk, change: Callable[[Any], object], says: str) -> None:
    """With a ValueError, and before anything is served from it."""
    document = json.loads(json.dumps(to_document(desk.estate)))
    change(document)

    with pytest.raises(ValueError, match=says):
        read(document)
