"""Rotation on a clock moved by hand: when new key material comes, who shares it, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from kms_estate import CREATING_SECONDS, DAY, EAST, NOON, WEST, Desk, Seeded, arn


@pytest.fixture
def desk() -> Desk:
    return Seeded().desk()


def rotations(desk: Desk, region: str, key_id: str, **more: Any) -> list[dict[str, Any]]:
    return list(desk.ask(region, "ListKeyRotations", KeyId=key_id, **more)["Rotations"])


def status(desk: Desk, region: str, key_id: str) -> dict[str, Any]:
    return desk.ask(region, "GetKeyRotationStatus", KeyId=key_id)


def material(desk: Desk, region: str, key_id: str) -> str:
    return str(desk.ask(region, "DescribeKey", KeyId=key_id)["KeyMetadata"]["CurrentKeyMaterialId"])


def test_the_calendar_rotates_for_every_region_at_once(desk: Desk) -> None:
    """At each date, not before; seen alike by primary and replica."""
    key_id = desk.make_key(WEST)
    first = material(desk, EAST, key_id)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    enabled_at = desk.now

    desk.wait(days=90, seconds=-1)
    assert material(desk, WEST, key_id) == first
    desk.wait(seconds=1)
    assert material(desk, WEST, key_id) == material(desk, EAST, key_id) != first
    desk.wait(days=200)

    found = rotations(desk, WEST, key_id)
    assert [one["RotationDate"] for one in found] == [enabled_at + days * DAY for days in (90, 180, 270)]
    assert {one["RotationType"] for one in found} == {"AUTOMATIC"}
    assert status(desk, EAST, key_id)["NextRotationDate"] == enabled_at + 360 * DAY


def test_what_was_sealed_before_a_rotation_still_opens(desk: Desk) -> None:
    """Decrypt tells which material it was, and new blobs are made under the new one."""
    key_id = desk.make_key(WEST)
    old_material, old = material(desk, EAST, key_id), desk.encrypt(EAST, key_id, tenant="7")
    desk.ask(EAST, "RotateKeyOnDemand", KeyId=key_id)
    desk.wait(seconds=CREATING_SECONDS)
    new = desk.encrypt(WEST, key_id, tenant="7")

    for blob, expected in ((old, old_material), (new, material(desk, EAST, key_id))):
        for region in (EAST, WEST):
            answer = desk.ask(region, "Decrypt", CiphertextBlob=blob, EncryptionContext={"tenant": "7"})
            assert answer["KeyMaterialId"] == expected
    assert old_material != material(desk, EAST, key_id)
    moved = desk.ask(
        EAST, "ReEncrypt", CiphertextBlob=old, SourceEncryptionContext={"tenant": "7"}, DestinationKeyId=key_id
    )
    assert moved["SourceKeyMaterialId"] == old_material
    assert moved["DestinationKeyMaterialId"] == material(desk, EAST, key_id)


def test_a_disabled_primary_does_not_rotate_and_makes_up_for_it(desk: Desk) -> None:
    """Once, at the moment it is enabled; the calendar goes on from there."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=100)
    desk.ask(EAST, "DisableKey", KeyId=key_id)
    desk.wait(days=350)
    assert rotations(desk, WEST, key_id) == []
    assert status(desk, WEST, key_id)["KeyRotationEnabled"] is True

    desk.ask(EAST, "EnableKey", KeyId=key_id)

    assert [one["RotationDate"] for one in rotations(desk, EAST, key_id)] == [desk.now]
    assert status(desk, EAST, key_id)["NextRotationDate"] == desk.now + 100 * DAY


def test_a_short_pause_moves_nothing(desk: Desk) -> None:
    """Enabled again before the date, the key rotates on the date."""
    key_id = desk.make_key(multi_region=False)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id)
    desk.ask(EAST, "DisableKey", KeyId=key_id)
    desk.wait(days=300)
    desk.ask(EAST, "EnableKey", KeyId=key_id)
    desk.wait(days=65)

    assert [one["RotationDate"] for one in rotations(desk, EAST, key_id)] == [NOON + 365 * DAY]


def test_a_disabled_replica_is_no_reason_not_to_rotate(desk: Desk) -> None:
    """The primary alone decides."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.ask(WEST, "DisableKey", KeyId=key_id)
    desk.wait(days=91)

    assert len(rotations(desk, WEST, key_id)) == 1


def test_nothing_rotates_while_a_deletion_is_pending(desk: Desk) -> None:
    """The status reads false meanwhile, and true again after the deletion is cancelled."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.ask(EAST, "ScheduleKeyDeletion", KeyId=key_id)
    desk.wait(days=100)

    assert rotations(desk, EAST, key_id) == []
    assert status(desk, EAST, key_id) == {"KeyId": key_id, "KeyRotationEnabled": False}
    desk.ask(EAST, "CancelKeyDeletion", KeyId=key_id)
    assert status(desk, EAST, key_id)["KeyRotationEnabled"] is True
    assert rotations(desk, EAST, key_id) == []  # cancelled, it is disabled still
    desk.ask(EAST, "EnableKey", KeyId=key_id)
    assert len(rotations(desk, EAST, key_id)) == 1


def test_the_calendar_moves_with_the_primary(desk: Desk) -> None:
    """After UpdatePrimaryRegion the new primary is asked, and its state counts."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.ask(EAST, "UpdatePrimaryRegion", KeyId=key_id, PrimaryRegion=WEST)
    desk.wait(seconds=CREATING_SECONDS)
    desk.ask(EAST, "DisableKey", KeyId=key_id)
    desk.wait(days=90)

    assert len(rotations(desk, EAST, key_id)) == 1
    assert desk.refusal(EAST, "RotateKeyOnDemand", KeyId=key_id)[0] == "DisabledException"
    assert desk.ask(WEST, "RotateKeyOnDemand", KeyId=key_id) == {"KeyId": key_id}


def test_a_new_period_counts_from_the_last_rotation(desk: Desk) -> None:
    """Made shorter than the time gone by, it is due at once; without a period the old one stays."""
    key_id = desk.make_key(multi_region=False)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=200)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id)
    assert status(desk, EAST, key_id)["RotationPeriodInDays"] == 200
    desk.wait(days=100)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=120)
    assert status(desk, EAST, key_id)["NextRotationDate"] == NOON + 120 * DAY

    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)

    assert [one["RotationDate"] for one in rotations(desk, EAST, key_id)] == [desk.now]


def test_rotation_on_demand_takes_a_moment_and_leaves_the_calendar_alone(desk: Desk) -> None:
    """Under way it is told by the status, and asking again starts no second one."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=730)
    before = status(desk, EAST, key_id)
    asked_at = desk.now
    desk.ask(EAST, "RotateKeyOnDemand", KeyId=key_id)
    desk.wait(seconds=CREATING_SECONDS / 2)
    desk.ask(EAST, "RotateKeyOnDemand", KeyId=key_id)

    assert status(desk, WEST, key_id) == {**before, "OnDemandRotationStartDate": asked_at}
    assert rotations(desk, WEST, key_id) == []
    desk.wait(seconds=CREATING_SECONDS / 2)
    assert status(desk, WEST, key_id) == before
    (done,) = rotations(desk, WEST, key_id)
    assert (done["RotationType"], done["RotationDate"]) == ("ON_DEMAND", asked_at + CREATING_SECONDS)


def test_rotation_on_demand_has_a_limit_for_life(desk: Desk) -> None:
    """25 times a key; automatic rotations do not count."""
    key_id = desk.make_key(multi_region=False)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    for _ in range(25):
        desk.ask(EAST, "RotateKeyOnDemand", KeyId=key_id)
        desk.wait(days=10)

    assert desk.refusal(EAST, "RotateKeyOnDemand", KeyId=key_id)[0] == "LimitExceededException"
    kinds = [one["RotationType"] for one in rotations(desk, EAST, key_id)]
    assert (kinds.count("ON_DEMAND"), kinds.count("AUTOMATIC")) == (25, 2)


def test_rotation_on_demand_keeps_off_the_calendars_own(desk: Desk) -> None:
    """From 20 minutes before an automatic rotation it is a ConflictException."""
    key_id = desk.make_key(multi_region=False)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.wait(days=90, seconds=-20 * 60)

    assert desk.refusal(EAST, "RotateKeyOnDemand", KeyId=key_id)[0] == "ConflictException"
    desk.wait(seconds=20 * 60)
    assert desk.ask(EAST, "RotateKeyOnDemand", KeyId=key_id)


@pytest.mark.parametrize("operation", ["EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"])
def test_a_replica_refuses_what_is_the_primarys(desk: Desk, operation: str) -> None:
    """By its own ARN."""
    key_id = desk.make_key(WEST)

    code, message = desk.refusal(WEST, operation, KeyId=key_id)

    assert code == "UnsupportedOperationException"
    assert message is not None
    assert arn(WEST, key_id) in message


def test_the_list_of_rotations_has_pages_and_the_first_material_on_request(desk: Desk) -> None:
    """The first material has no date and no type; one alone is CURRENT."""
    key_id = desk.make_key(WEST)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.wait(days=300)

    everything = rotations(desk, WEST, key_id, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    page = desk.ask(WEST, "ListKeyRotations", KeyId=key_id, Limit=2)
    rest = desk.ask(WEST, "ListKeyRotations", KeyId=key_id, Limit=2, Marker=page["NextMarker"])

    assert [one["KeyMaterialState"] for one in everything] == ["NON_CURRENT"] * 3 + ["CURRENT"]
    assert everything[0].keys() == {"KeyId", "KeyMaterialId", "KeyMaterialState"}
    assert (page["Truncated"], rest["Truncated"]) == (True, False)
    assert [*page["Rotations"], *rest["Rotations"]] == everything[1:]
    assert rotations(desk, WEST, key_id, IncludeKeyMaterial="ROTATIONS_ONLY") == everything[1:]


def test_disabled_rotation_stays_off(desk: Desk) -> None:
    """And starts anew when it is enabled again."""
    key_id = desk.make_key(multi_region=False)
    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id, RotationPeriodInDays=90)
    desk.ask(EAST, "DisableKeyRotation", KeyId=key_id)
    desk.wait(days=1000)
    assert rotations(desk, EAST, key_id) == []

    desk.ask(EAST, "EnableKeyRotation", KeyId=key_id)

    assert status(desk, EAST, key_id)["NextRotationDate"] == desk.now + 365 * DAY
