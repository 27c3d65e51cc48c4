"""What differs between the keys there should be and those there are: each thing by its own name, in its own region."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from estate_kit import KEY_ID, OTHER_ID, FakeReader, key_in, reader_of
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import DesiredKey, desired_keys
from kms_watchdog.estate.diff import Difference, Field, canonical_policy, diff_region
from kms_watchdog.estate.kms_admin import EstateError
from kms_watchdog.estate.observed import observe_region

PRIMARY, REPLICA = "us-east-1", "eu-west-1"


@pytest.fixture
def wanted(settings: Settings) -> DesiredKey:
    return desired_keys(settings)[0]


def differences(wanted: DesiredKey, reader: FakeReader, key_id: str | None = KEY_ID) -> tuple[Difference, ...]:
    found = observe_region(wanted, reader, reader.region, key_id)
    return diff_region(wanted, reader.region, found, key_id)


@pytest.mark.parametrize("region", [PRIMARY, REPLICA])
def test_as_configured_nothing_differs(wanted: DesiredKey, region: str) -> None:
    """Tags of others are their own affair."""
    assert differences(wanted, reader_of(wanted, region)) == ()


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        pytest.param({"state": "Disabled"}, Field.STATE, "is Disabled", id="disabled"),
        pytest.param({"state": "PendingDeletion"}, Field.STATE, "is PendingDeletion", id="to-be-deleted"),
        pytest.param({"state": "Updating"}, Field.STATE, "is Updating", id="primary-is-moved"),
        pytest.param({"multi_region_type": ""}, Field.SPEC, "a key of one region", id="one-region"),
        pytest.param({"primary_region": "us-west-2"}, Field.STATE, "is in us-west-2, not us-east-1", id="primary"),
        pytest.param({"multi_region_type": "PRIMARY"}, Field.STATE, "a PRIMARY here, not the REPLICA", id="role"),
        pytest.param({"spec": "HMAC_256"}, Field.SPEC, "HMAC_256, not SYMMETRIC_DEFAULT", id="spec"),
        pytest.param({"usage": "SIGN_VERIFY"}, Field.USAGE, "SIGN_VERIFY, not ENCRYPT_DECRYPT", id="usage"),
        pytest.param({"description": ""}, Field.DESCRIPTION, "its description is ''", id="description"),
    ],
)
def test_what_kms_describes(wanted: DesiredKey, change: dict[str, Any], field: Field, says: str) -> None:
    """One thing otherwise is one difference."""
    reader = reader_of(wanted, REPLICA)
    reader.change(**change)

    [found] = differences(wanted, reader)

    assert (found.field, found.region, found.purpose) == (field, REPLICA, "general")
    assert says in found.what


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"key_policy": {"Statement": []}}, Field.POLICY, id="policy"),
        pytest.param({"key_tags": {}}, Field.TAGS, id="tags"),
        pytest.param({"on": False}, Field.ROTATION, id="rotation"),
        pytest.param({"alias_targets": {}}, Field.ALIAS, id="no-alias"),
    ],
)
def test_what_hangs_on_the_key(wanted: DesiredKey, change: dict[str, Any], field: Field) -> None:
    """KMS keeps these apart in each region, rotation excepted."""
    reader = reader_of(wanted, REPLICA)
    for name, value in change.items():
        setattr(reader, name, value)

    assert [each.field for each in differences(wanted, reader)] == [field]


def test_an_alias_that_leads_elsewhere_hides_nothing_of_the_key(wanted: DesiredKey) -> None:
    """The key the application uses is compared, not the one that the alias leads to."""
    reader = reader_of(wanted, REPLICA)
    reader.alias_targets[wanted.alias] = key_in(wanted, REPLICA, key_id=OTHER_ID)
    reader.key_policy = {"Statement": []}

    found = differences(wanted, reader)

    assert [(each.field, OTHER_ID in each.what) for each in found] == [(Field.POLICY, False), (Field.ALIAS, True)]


def test_without_an_id_the_alias_says_which_key_it_is(wanted: DesiredKey) -> None:
    """Before anything is known, the region is judged by itself."""
    assert differences(wanted, reader_of(wanted, REPLICA, key_id=OTHER_ID), None) == ()


def test_a_key_that_is_not_there_differs_in_state(wanted: DesiredKey) -> None:
    """A replica that was deleted for good."""
    found = differences(wanted, FakeReader(REPLICA))

    assert [str(each) for each in found] == [
        f"general in eu-west-1: {KEY_ID} is not there",
        "general in eu-west-1: alias/general does not exist",
    ]


@pytest.mark.parametrize("state", ["Creating", "PendingDeletion", "PendingReplicaDeletion"])
def test_kms_is_not_asked_whether_a_key_rotates_that_cannot(wanted: DesiredKey, state: str) -> None:
    """It refuses to tell of one that is being made, and says false of one about to be deleted: neither is drift."""
    reader = reader_of(wanted, PRIMARY)
    reader.on = False
    reader.change(state=state, deletion_at_utc=datetime(2026, 2, 1, tzinfo=UTC))

    found = differences(wanted, reader)

    assert "GetKeyRotationStatus" not in reader.calls
    assert [(each.field, each.passes) for each in found] == [(Field.STATE, state == "Creating")]


def test_a_disabled_keys_rotation_is_still_compared(wanted: DesiredKey) -> None:
    """It is paused, and its status does not change."""
    reader = reader_of(wanted, PRIMARY)
    reader.on = False
    reader.change(state="Disabled")

    assert [each.field for each in differences(wanted, reader)] == [Field.STATE, Field.ROTATION]


def test_a_region_that_does_not_answer_is_an_error_not_a_difference(wanted: DesiredKey) -> None:
    """Silence is no drift."""
    reader = reader_of(wanted, REPLICA)
    reader.fail("GetKeyPolicy", "ReadTimeoutError", unreachable=True)

    with pytest.raises(EstateError, match="eu-west-1: GetKeyPolicy: ReadTimeoutError"):
        observe_region(wanted, reader, REPLICA, KEY_ID)


# -- policies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "same"),
    [
        pytest.param(
            {"Statement": [{"Action": ["b", "a"], "Principal": {"AWS": ["x"]}}]},
            {"Statement": {"Principal": {"AWS": "x"}, "Action": ["a", "b"]}},
            id="lists",
        ),
        pytest.param({"Principal": "*"}, {"Principal": {"AWS": "*"}}, id="everybody"),
        pytest.param({"Condition": {"Bool": {"k": True}}}, {"Condition": {"Bool": {"k": "true"}}}, id="booleans"),
        pytest.param({"Action": ["a", "a", "b"]}, {"Action": ["b", "a"]}, id="repetitions"),
    ],
)
def test_policies_are_compared_by_meaning(one: Any, same: Any) -> None:
    """KMS gives lists of one as a value, lists and members in another order."""
    assert canonical_policy(one) == canonical_policy(same)
    assert canonical_policy(one) != canonical_policy({"Statement": []})


def shuffled(value: Any, draw: Any) -> Any:
    """Return `value` in another of its shapes: members and lists in another order, lists of one unwrapped or not."""
    if isinstance(value, dict):
        return {name: shuffled(value[name], draw) for name in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        parts = [shuffled(part, draw) for part in draw(st.permutations(value))]
        return parts[0] if len(parts) == 1 and draw(st.booleans()) else parts
    return [value] if draw(st.booleans()) else value


@given(data=st.data())
def test_any_shape_of_the_rendered_policy_is_the_rendered_policy(data: st.DataObject) -> None:
    """The order of members must not decide about the order of statements."""
    policy = {
        "Statement": [
            {"Sid": "a", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": ["x", "y"], "Resource": "*"},
            {"Sid": "b", "Effect": "Allow", "Principal": {"AWS": ["r"]}, "Action": "z", "Resource": "*"},
        ]
    }
    again = {"Statement": shuffled(policy["Statement"], data.draw)}

    assert canonical_policy(again) == canonical_policy(policy)


def test_a_role_that_was_deleted_is_drift(wanted: DesiredKey) -> None:
    """KMS gives the unique id of a principal that is gone: the statement no longer means the role of that name."""
    reader = reader_of(wanted, REPLICA)
    arn = "arn:aws:iam::123456789012:role/KmsBreakGlassRole"
    reader.key_policy = json.loads(json.dumps(wanted.policy).replace(arn, "AROAEXAMPLEID0000000"))

    assert [each.field for each in differences(wanted, reader)] == [Field.POLICY]


def test_what_is_wanted_can_be_otherwise(wanted: DesiredKey) -> None:
    """Spec and usage come from the desired key, not from here."""
    reader = reader_of(wanted, REPLICA)

    assert [each.field for each in differences(replace(wanted, spec="HMAC_256"), reader)] == [Field.SPEC]
