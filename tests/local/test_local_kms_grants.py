"""Grants without a wire: made, found, taken back, and what they would permit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kms_estate import CREATING_SECONDS, EAST, WEST, Desk, Seeded, arn

from kms_local.kms.keys import Grant

ROLE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"
OTHER = "arn:aws:iam::123456789012:role/KmsDrillRole"
CONTEXT = {"canary": "true"}


@pytest.fixture
def desk() -> Desk:
    return Seeded().desk()


@pytest.fixture
def key(desk: Desk) -> str:
    return desk.make_key(WEST)


def make(desk: Desk, key: str, region: str = EAST, **more: Any) -> dict[str, Any]:
    members = {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["Decrypt", "GenerateDataKey"], **more}
    return desk.ask(region, "CreateGrant", **members)


def found(desk: Desk, key: str, region: str = EAST, **more: Any) -> list[dict[str, Any]]:
    return list(desk.ask(region, "ListGrants", KeyId=key, **more)["Grants"])


def test_a_grant_is_listed_as_it_was_made(desk: Desk, key: str) -> None:
    """With the key's ARN, its own id of 64 hexadecimal digits, and the account that made it."""
    made = make(
        desk,
        arn(EAST, key),
        RetiringPrincipal=OTHER,
        Name="canaries",
        Constraints={"EncryptionContextSubset": CONTEXT},
    )

    assert re.fullmatch("[0-9a-f]{64}", made["GrantId"])
    assert found(desk, key) == [
        {
            "KeyId": arn(EAST, key),
            "GrantId": made["GrantId"],
            "Name": "canaries",
            "CreationDate": desk.now,
            "GranteePrincipal": ROLE,
            "RetiringPrincipal": OTHER,
            "IssuingAccount": "arn:aws:iam::123456789012:root",
            "Operations": ["Decrypt", "GenerateDataKey"],
            "Constraints": {"EncryptionContextSubset": CONTEXT},
        }
    ]


def test_a_grant_belongs_to_its_region(desk: Desk, key: str) -> None:
    """The same key elsewhere has none."""
    made = make(desk, key)

    assert found(desk, key, WEST) == []
    assert desk.refusal(WEST, "RevokeGrant", KeyId=key, GrantId=made["GrantId"])[0] == "NotFoundException"
    assert desk.refusal(WEST, "RetireGrant", GrantToken=made["GrantToken"])[0] == "InvalidGrantTokenException"


def test_the_same_request_with_a_name_makes_one_grant(desk: Desk, key: str) -> None:
    """It answers with the same id and another token; a different request, or one without a name, makes another."""
    first, second = (make(desk, key, Name="once") for _ in range(2))

    assert first["GrantId"] == second["GrantId"]
    assert first["GrantToken"] != second["GrantToken"]
    others = [
        make(desk, key, Name="once", Operations=["Decrypt"]),
        make(desk, key, Name="once", Constraints={"EncryptionContextEquals": {}}),
        make(desk, key, Name="twice"),
        make(desk, key),
        make(desk, key),
    ]
    assert len({first["GrantId"], *(one["GrantId"] for one in others)}) == 6


def test_grants_are_found_by_id_and_by_grantee(desk: Desk, key: str) -> None:
    """An id that is none, and one that does not exist, are refused."""
    one, two = make(desk, key), make(desk, key, GranteePrincipal=OTHER)

    assert [entry["GrantId"] for entry in found(desk, key, GrantId=two["GrantId"])] == [two["GrantId"]]
    assert [entry["GrantId"] for entry in found(desk, key, GranteePrincipal=ROLE)] == [one["GrantId"]]
    assert desk.refusal(EAST, "ListGrants", KeyId=key, GrantId="no id")[0] == "InvalidGrantIdException"
    assert desk.refusal(EAST, "ListGrants", KeyId=key, GrantId="0" * 64)[0] == "NotFoundException"


def test_the_list_of_grants_has_pages(desk: Desk, key: str) -> None:
    """Oldest first; 50 when nobody says how many."""
    made = [make(desk, key)["GrantId"] for _ in range(60)]
    first = desk.ask(EAST, "ListGrants", KeyId=key)
    second = desk.ask(EAST, "ListGrants", KeyId=key, Marker=first["NextMarker"])

    assert [len(page["Grants"]) for page in (first, second)] == [50, 10]
    assert [entry["GrantId"] for page in (first, second) for entry in page["Grants"]] == made


def test_grants_to_retire_are_found_over_all_keys_of_a_region(desk: Desk, key: str) -> None:
    """By the principal that may retire them; other regions' are not."""
    other = desk.make_key()
    wanted = [make(desk, one, RetiringPrincipal=OTHER)["GrantId"] for one in (key, other)]
    make(desk, key, RetiringPrincipal=ROLE)
    make(desk, key, WEST, RetiringPrincipal=OTHER)

    listed = desk.ask(EAST, "ListRetirableGrants", RetiringPrincipal=OTHER)

    assert {entry["GrantId"] for entry in listed["Grants"]} == set(wanted)


def test_a_grant_is_revoked_once(desk: Desk, key: str) -> None:
    """The second time there is none."""
    made = make(desk, key)

    assert desk.ask(EAST, "RevokeGrant", KeyId=key, GrantId=made["GrantId"]) == {}
    assert found(desk, key) == []
    code, message = desk.refusal(EAST, "RevokeGrant", KeyId=key, GrantId=made["GrantId"])
    assert (code, message) == ("NotFoundException", f"Grant ID {made['GrantId']} not found")


@pytest.mark.parametrize("by", ["first token", "second token", "id"])
def test_a_grant_is_retired_by_any_of_its_names(desk: Desk, key: str, by: str) -> None:
    """Any of its tokens, or the key and the grant's id."""
    first, second = (make(desk, key, Name="x") for _ in range(2))
    members = {
        "first token": {"GrantToken": first["GrantToken"]},
        "second token": {"GrantToken": second["GrantToken"]},
        "id": {"KeyId": arn(EAST, key), "GrantId": first["GrantId"]},
    }[by]

    desk.ask(EAST, "RetireGrant", **members)

    assert found(desk, key) == []
    assert desk.refusal(EAST, "RetireGrant", GrantToken=first["GrantToken"])[0] == "InvalidGrantTokenException"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"GranteePrincipal": None}, "ValidationException", id="nobody"),
        pytest.param({"GranteePrincipal": "somebody"}, "InvalidArnException", id="grantee-no-arn"),
        pytest.param({"RetiringPrincipal": "somebody"}, "InvalidArnException", id="retiring-no-arn"),
        pytest.param({"Operations": None}, "ValidationException", id="no-operations"),
        pytest.param({"Operations": ["Fly"]}, "ValidationException", id="unknown-operation"),
        pytest.param({"Operations": ["Sign"]}, "ValidationException", id="not-for-symmetric-keys"),
        pytest.param({"Operations": ["CreateGrant"]}, "ValidationException", id="only-grants"),
        pytest.param({"Name": "a b"}, "ValidationException", id="name"),
        pytest.param({"KeyId": "alias/x"}, "InvalidArnException", id="alias"),
        pytest.param({"GrantTokens": ["x"] * 11}, "ValidationException", id="eleven-tokens"),
        pytest.param({"GrantTokens": ["x"]}, "InvalidGrantTokenException", id="no-token"),
        pytest.param(
            {"Constraints": {"EncryptionContextEquals": {str(n): "" for n in range(9)}}},
            "ValidationException",
            id="nine-pairs",
        ),
        pytest.param(
            {"Constraints": {"EncryptionContextSubset": {"a": "x" * 385}}}, "ValidationException", id="long-value"
        ),
        pytest.param({"Constraints": {"EncryptionContextEquals": {"a": 1}}}, "SerializationException", id="number"),
        pytest.param({"GranteeServicePrincipal": "x.amazonaws.com"}, "UnsupportedOperationException", id="service"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(desk: Desk, key: str, more: dict[str, Any], code: str) -> None:
    """And a dry run is refused alike."""
    members = {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["Decrypt"], **more}

    assert desk.refusal(EAST, "CreateGrant", **members)[0] == code
    assert desk.refusal(EAST, "CreateGrant", DryRun=True, **members)[0] == code


def test_a_grant_of_nothing_but_grants_is_refused_in_awss_words(desk: Desk, key: str) -> None:
    """As AWS was seen to answer."""
    members = {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["CreateGrant"]}
    message = "Grants must not contain only the CreateGrant operation."

    assert desk.refusal(EAST, "CreateGrant", **members) == ("ValidationException", message)


def test_dry_runs_change_nothing(desk: Desk, key: str) -> None:
    """No grant is made, revoked or retired."""
    made = make(desk, key)
    for operation, members in (
        ("CreateGrant", {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["Decrypt"]}),
        ("RevokeGrant", {"KeyId": key, "GrantId": made["GrantId"]}),
        ("RetireGrant", {"GrantToken": made["GrantToken"]}),
    ):
        assert desk.refusal(EAST, operation, DryRun=True, **members)[0] == "DryRunOperationException"

    assert [entry["GrantId"] for entry in found(desk, key)] == [made["GrantId"]]


def test_a_keys_state_stops_new_grants_and_not_the_end_of_old_ones(desk: Desk, key: str) -> None:
    """Neither Disabled nor PendingDeletion lets one be made; listing, revoking and retiring go on."""
    first, second = make(desk, key, WEST), make(desk, key, WEST)
    members = {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["Decrypt"]}
    desk.ask(WEST, "DisableKey", KeyId=key)
    assert desk.refusal(WEST, "CreateGrant", **members) == ("DisabledException", f"{arn(WEST, key)} is disabled.")

    desk.ask(WEST, "ScheduleKeyDeletion", KeyId=key)

    assert desk.refusal(WEST, "CreateGrant", **members) == (
        "KMSInvalidStateException",
        f"{arn(WEST, key)} is pending deletion.",
    )
    assert len(found(desk, key, WEST)) == 2
    desk.ask(WEST, "RevokeGrant", KeyId=key, GrantId=first["GrantId"])
    desk.ask(WEST, "RetireGrant", GrantToken=second["GrantToken"])
    assert found(desk, key, WEST) == []


def test_a_replica_begins_without_grants(desk: Desk) -> None:
    """And can be given one while it is being made."""
    key = desk.make_key()
    make(desk, key)
    desk.ask(EAST, "ReplicateKey", KeyId=key, ReplicaRegion=WEST)

    assert found(desk, key, WEST) == []
    assert make(desk, key, WEST)["GrantId"]
    desk.wait(seconds=CREATING_SECONDS)
    assert len(found(desk, key, WEST)) == 1


def grant(**more: Any) -> Grant:
    fields = {"grant_id": "0" * 64, "grantee": ROLE, "operations": ("Decrypt", "DescribeKey"), "created_at": 0.0}
    return Grant(**{**fields, **more})


@pytest.mark.parametrize(
    ("more", "operation", "context", "expected"),
    [
        pytest.param({}, "Decrypt", {}, True, id="listed"),
        pytest.param({}, "Encrypt", {}, False, id="not-listed"),
        pytest.param({"context_equals": CONTEXT}, "Decrypt", CONTEXT, True, id="equal"),
        pytest.param({"context_equals": CONTEXT}, "Decrypt", {**CONTEXT, "a": "b"}, False, id="more-than-equal"),
        pytest.param({"context_equals": {}}, "Decrypt", CONTEXT, False, id="none-wanted"),
        pytest.param({"context_subset": CONTEXT}, "Decrypt", {**CONTEXT, "a": "b"}, True, id="superset"),
        pytest.param({"context_subset": CONTEXT}, "Decrypt", {"canary": "True"}, False, id="other-case"),
        pytest.param({"context_subset": CONTEXT}, "DescribeKey", {}, True, id="describe-has-no-context"),
    ],
)
def test_what_a_grant_permits(more: dict[str, Any], operation: str, context: dict[str, str], *, expected: bool) -> None:
    """Its operations, within its constraints; DescribeKey is bound by none."""
    assert grant(**more).permits(operation, context) is expected


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        pytest.param({}, {}, False, id="without-CreateGrant"),
        pytest.param({"operations": ("CreateGrant", "Decrypt")}, {"operations": ("Decrypt",)}, True, id="fewer"),
        pytest.param({"operations": ("CreateGrant", "Decrypt")}, {"operations": ("Encrypt",)}, False, id="others"),
        pytest.param(
            {"operations": ("CreateGrant", "Decrypt"), "context_subset": CONTEXT},
            {"operations": ("Decrypt",)},
            False,
            id="looser",
        ),
        pytest.param(
            {"operations": ("CreateGrant", "Decrypt"), "context_subset": CONTEXT},
            {"operations": ("Decrypt",), "context_equals": {**CONTEXT, "a": "b"}},
            True,
            id="stricter",
        ),
        pytest.param(
            {"operations": ("CreateGrant", "Decrypt"), "context_equals": CONTEXT},
            {"operations": ("Decrypt",), "context_subset": CONTEXT},
            False,
            id="subset-for-equals",
        ),
    ],
)
def test_a_grantees_own_grants_are_no_wider(parent: dict[str, Any], child: dict[str, Any], *, expected: bool) -> None:
    """No more operations, and constraints as strict."""
    assert grant(**parent).covers(grant(**child)) is expected
