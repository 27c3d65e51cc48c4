"""What to do about the keys: a pure diff, and policies that lock nobody out."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from estate_kit import KEY_ID, key_in

from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import PURPOSE_TAG, DesiredKey, desired_keys
from kms_watchdog.estate.observed import ObservedKey, ObservedRegion, ObservedReplica
from kms_watchdog.estate.plan import Group, plan
from kms_watchdog.estate.policies import MAX_POLICY_BYTES, Principals, key_policy

ALL: frozenset[Group] = frozenset({"keys", "aliases", "rotation"})
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


@pytest.fixture
def wanted(settings: Settings) -> DesiredKey:
    return desired_keys(settings)[0]


def replica(wanted: DesiredKey, region: str, **more: Any) -> ObservedReplica:
    """A key as it should be, but for what is named: what KMS describes, or what hangs on it."""
    usual = {"policy": wanted.policy, "tags": {**wanted.tags, "cost": "x"}, "rotates": True}
    apart = {name: more.pop(name) for name in usual.keys() & more.keys()}
    return ObservedReplica(key=key_in(wanted, region, **more), **{**usual, **apart})


def observed(wanted: DesiredKey, **there: ObservedRegion) -> ObservedKey:
    """Everything as it should be, but for the regions that are named, with `_` for `-`."""
    regions = {region: there.get(region.replace("-", "_")) or well(wanted, region) for region in wanted.regions}
    return ObservedKey(purpose=wanted.purpose, candidates=(KEY_ID,), regions=regions)


def well(wanted: DesiredKey, region: str, **more: Any) -> ObservedRegion:
    here = replica(wanted, region, **more)
    return ObservedRegion(alias_target=here.key.key_id, replica=here)


def steps(wanted: DesiredKey, found: ObservedKey, groups: frozenset[Group] = ALL) -> list[tuple[str, str]]:
    return [(step.kind, step.region) for step in plan(wanted, found, groups).steps]


NOWHERE = ObservedRegion(alias_target=None, replica=None)


def nothing(wanted: DesiredKey) -> ObservedKey:
    return ObservedKey(purpose=wanted.purpose, candidates=(), regions=dict.fromkeys(wanted.regions, NOWHERE))


def test_where_all_is_there_nothing_is_done(wanted: DesiredKey) -> None:
    """A second run changes nothing."""
    found = plan(wanted, observed(wanted), ALL)

    assert (found.steps, found.differences, found.refusals) == ((), (), ())


def test_where_nothing_is_there_the_order_is_kms_own(wanted: DesiredKey) -> None:
    """Key, alias, rotation on the primary; then each replica: made, waited for, alias."""
    assert steps(wanted, nothing(wanted)) == [
        ("create_key", "us-east-1"),
        ("create_alias", "us-east-1"),
        ("enable_rotation", "us-east-1"),
        ("replicate", "us-west-2"),
        ("await_enabled", "us-west-2"),
        ("create_alias", "us-west-2"),
        ("replicate", "eu-west-1"),
        ("await_enabled", "eu-west-1"),
        ("create_alias", "eu-west-1"),
    ]


def test_a_half_finished_run_is_continued(wanted: DesiredKey) -> None:
    """Found by its tag, without an alias, one replica still being made: no second key."""
    primary = replica(wanted, "us-east-1", rotates=False)
    creating = replica(wanted, "us-west-2", state="Creating", rotates=None)
    found = observed(
        wanted,
        us_east_1=ObservedRegion(alias_target=None, replica=primary),
        us_west_2=ObservedRegion(alias_target=None, replica=creating),
        eu_west_1=NOWHERE,
    )

    assert steps(wanted, found) == [
        ("create_alias", "us-east-1"),
        ("enable_rotation", "us-east-1"),
        ("await_enabled", "us-west-2"),
        ("create_alias", "us-west-2"),
        ("replicate", "eu-west-1"),
        ("await_enabled", "eu-west-1"),
        ("create_alias", "eu-west-1"),
    ]


@pytest.mark.parametrize(
    ("groups", "kinds"),
    [
        pytest.param({"keys"}, {"create_key", "replicate", "await_enabled"}, id="keys"),
        pytest.param({"keys", "rotation"}, {"create_key", "replicate", "await_enabled", "enable_rotation"}, id="two"),
    ],
)
def test_only_the_steps_that_were_asked_for(wanted: DesiredKey, groups: set[Group], kinds: set[str]) -> None:
    """`--steps`."""
    assert {kind for kind, _ in steps(wanted, nothing(wanted), frozenset(groups))} == kinds


def test_aliases_without_a_key_are_refused(wanted: DesiredKey) -> None:
    """There is nothing they could point to."""
    found = plan(wanted, nothing(wanted), frozenset({"aliases"}))

    assert found.steps == ()
    assert "there is no key yet" in found.refusals[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"candidates": (KEY_ID, "mrk-2")}, "several keys", id="aliases-disagree"),
        pytest.param({"state": "Disabled"}, "is Disabled", id="disabled"),
        pytest.param({"state": "PendingDeletion"}, "is PendingDeletion", id="to-be-deleted"),
        pytest.param({"multi_region_type": ""}, "key of one region", id="single-region"),
        pytest.param({"primary_region": "eu-west-1"}, "is in eu-west-1, not us-east-1", id="primary-elsewhere"),
        pytest.param({"spec": "RSA_2048"}, "its spec is RSA_2048, not SYMMETRIC_DEFAULT", id="another-spec"),
        pytest.param({"usage": "SIGN_VERIFY"}, "its usage is SIGN_VERIFY", id="another-usage"),
        pytest.param({"gone": True}, "not in us-east-1", id="primary-lost"),
    ],
)
def test_what_a_person_must_decide_is_refused(wanted: DesiredKey, change: dict[str, Any], says: str) -> None:
    """No step at all for that key, and why."""
    if "candidates" in change:
        found = dataclasses.replace(observed(wanted), **change)
    else:
        found = observed(wanted, us_east_1=NOWHERE if "gone" in change else well(wanted, "us-east-1", **change))

    answer = plan(wanted, found, ALL)

    assert answer.steps == ()
    assert says in " ".join(answer.refusals)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"policy": {"Version": "2012-10-17", "Statement": []}}, "key policy", id="policy"),
        pytest.param({"tags": {PURPOSE_TAG: "other"}}, "tags", id="tags"),
        pytest.param({"description": "mine"}, "description", id="description"),
    ],
)
def test_what_differs_is_named_and_left(wanted: DesiredKey, change: dict[str, Any], says: str) -> None:
    """KMS never copies policy, tags and description: each region is compared; somebody may have had a reason."""
    found = observed(wanted, eu_west_1=well(wanted, "eu-west-1", **change))

    answer = plan(wanted, found, ALL)

    assert answer.steps == ()
    assert [(d.region, says in d.what) for d in answer.differences] == [("eu-west-1", True)]


def test_the_desired_keys_are_the_configurations(settings: Settings) -> None:
    """Primary first; replicas say where they are; tags find a half-finished run."""
    general, payment = desired_keys(settings)

    assert general.regions == REGIONS
    assert general.description_in("us-east-1") == "general (test)"
    assert general.description_in("eu-west-1") == "general (test) (replica in eu-west-1)"
    assert payment.tags == {
        "managed-by": "kms-watchdog",
        "kms-watchdog:estate": "test",
        "kms-watchdog:purpose": "payment",
    }
    assert len(general.policy_text) < MAX_POLICY_BYTES


@pytest.fixture
def policy() -> dict[str, Any]:
    who = Principals(
        account_id="123456789012",
        partition="aws",
        applications=["ParkerFlightPaymentRole"],
        watchers=["KmsWatchdogRole", "KmsDrillRole"],
        break_glass="KmsBreakGlassRole",
    )
    return key_policy(who, regions=REGIONS, canary_context=("canary", "true"))


def statement(policy: dict[str, Any], sid: str) -> dict[str, Any]:
    (found,) = (s for s in policy["Statement"] if s["Sid"] == sid)
    return dict(found)


def test_the_policy_locks_nobody_out(policy: dict[str, Any]) -> None:
    """The account may do everything that no Deny forbids, and no Deny forbids to change the policy."""
    assert statement(policy, "LetIamPoliciesDecide") == {
        "Sid": "LetIamPoliciesDecide",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    denied = json.dumps([s["Action"] for s in policy["Statement"] if s["Effect"] == "Deny"])
    assert "PutKeyPolicy" not in denied
    assert '"kms:*"' not in denied


def test_nobody_else_uses_the_key(policy: dict[str, Any]) -> None:
    """The application's role, and the watchers; by ARN of the role, which sessions share."""
    condition = statement(policy, "NobodyElseUsesThisKey")["Condition"]

    assert condition == {
        "ArnNotEquals": {
            "aws:PrincipalArn": [
                f"arn:aws:iam::123456789012:role/{role}"
                for role in ("ParkerFlightPaymentRole", "KmsWatchdogRole", "KmsDrillRole")
            ]
        }
    }


def test_the_watchdog_sees_only_canaries(policy: dict[str, Any]) -> None:
    """Without the pair, or with another value, its use of the key is denied: it cannot open customer data."""
    condition = statement(policy, "WatchdogSeesOnlyCanaries")["Condition"]

    assert condition["StringNotEquals"] == {"kms:EncryptionContext:canary": "true"}
    assert [arn.rpartition("/")[2] for arn in condition["ArnEquals"]["aws:PrincipalArn"]] == [
        "KmsWatchdogRole",
        "KmsDrillRole",
    ]


def test_only_break_glass_destroys(policy: dict[str, Any]) -> None:
    """Deletion, disabling, rotation off, another primary."""
    found = statement(policy, "OnlyBreakGlassDestroys")

    assert {"kms:ScheduleKeyDeletion", "kms:DisableKey"} <= set(found["Action"])
    assert found["Condition"]["ArnNotEquals"]["aws:PrincipalArn"].endswith("role/KmsBreakGlassRole")


def test_replicas_stay_in_the_estate(policy: dict[str, Any]) -> None:
    """And grants are nobody's."""
    assert statement(policy, "ReplicasOnlyHere")["Condition"] == {
        "StringNotEquals": {"kms:ReplicaRegion": list(REGIONS)}
    }
    assert statement(policy, "NoGrants")["Action"] == "kms:CreateGrant"


def test_values_are_frozen(wanted: DesiredKey) -> None:
    """What was planned is what is done."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        wanted.alias = "alias/other"  # type: ignore[misc]
