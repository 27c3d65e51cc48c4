"""Who may use which key: what is missing, what is too much, and what cannot be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from estate_kit import ACCOUNT, key_in, role

from kms_watchdog.config import CANARY_CONTEXT, Settings
from kms_watchdog.estate.access import (
    Caller,
    KeyAccess,
    Role,
    RoleAccess,
    UnreadableRole,
    Wrong,
    asks_for,
    judge,
    parse_about_kms,
)
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import Grant
from kms_watchdog.estate.policy import PolicyError, parse_policy

KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/mrk-{'1' * 32}"
NORMAL, CANARY = (("tenant", "any"),), tuple(CANARY_CONTEXT.items())
ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
DELEGATES = {"Effect": "Allow", "Principal": ROOT, "Action": "kms:*", "Resource": "*"}
OWN = Caller(role="App", uses=True)
STRANGER = Caller(role="App", uses=False)
WATCHDOG = Caller(role="App", uses=False, watches=True)
WITH_CONTEXT = {"Null": {"kms:EncryptionContextKeys": "false"}}
AS_CANARY = {"StringEquals": {"kms:EncryptionContext:canary": "true"}}


def allow(*actions: str, resource: Any = KEY, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": [f"kms:{action}" for action in actions], "Resource": resource, **more}


USES = allow("GenerateDataKey", "Decrypt", Condition=WITH_CONTEXT)
DESCRIBES = allow("DescribeKey")
WATCHES = allow("GenerateDataKey", "Decrypt", Condition=AS_CANARY)


def of_key(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Statement": [DELEGATES, *statements]}


def deny(*actions: str, **condition: Any) -> dict[str, Any]:
    more = {"Condition": condition} if condition else {}
    return {"Sid": "Planted", **allow(*actions, resource="*", effect="Deny"), "Principal": {"AWS": "*"}, **more}


def arn_is(operator: str = "ArnEquals", name: str = "App") -> dict[str, Any]:
    return {operator: {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{name}"}}


@pytest.fixture
def key(settings: Settings) -> Any:
    """Make what us-east-1 says of access to the general key."""

    def make(*statements: Mapping[str, Any], policy: Mapping[str, Any] | None = None, **more: Any) -> KeyAccess:
        parsed = parse_policy(policy or of_key(*statements), of_resource=True)
        return KeyAccess(key=key_in(desired_keys(settings)[0], "us-east-1"), policy=parsed, **{"grants": (), **more})

    return make


def found(access: KeyAccess, caller: Caller, of: Role) -> list[tuple[Wrong, str]]:
    faults = judge(access, ((caller, of),), normal=NORMAL, canary=CANARY)
    return [(fault.wrong, fault.text) for fault in faults]


# -- as it should be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "statements"),
    [
        pytest.param(OWN, (USES, DESCRIBES), id="application"),
        pytest.param(STRANGER, (DESCRIBES,), id="of-another-key"),
        pytest.param(STRANGER, (), id="of-nothing"),
        pytest.param(WATCHDOG, (WATCHES, DESCRIBES), id="watchdog"),
    ],
)
def test_who_may_what_he_should_is_no_fault(key: Any, caller: Caller, statements: tuple[Any, ...]) -> None:
    """Its own key for the application, canaries for the watchdog, nothing for others."""
    assert found(key(), caller, role("App", *statements)) == []


# -- missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        pytest.param((), "may not GenerateDataKey, Decrypt, DescribeKey in us-east-1", id="nothing"),
        pytest.param((allow("GenerateDataKey"), DESCRIBES), "may not Decrypt in us-east-1", id="opening"),
        pytest.param((USES,), "may not DescribeKey", id="describing"),
        pytest.param((WATCHES, DESCRIBES), "may not GenerateDataKey, Decrypt", id="canaries-alone"),
        pytest.param((allow("*", resource=KEY.replace("east", "west")),), "may not GenerateDataKey", id="other-region"),
        pytest.param((allow("*", resource=f"arn:aws:kms:*:{ACCOUNT}:alias/*"),), "may not Generate", id="alias"),
        pytest.param(
            (allow("*", Condition={"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}),),
            "may not GenerateDataKey",
            id="through-s3-alone",
        ),
    ],
)
def test_a_role_that_may_not_use_its_key(key: Any, statements: tuple[Any, ...], says: str) -> None:
    """The setup guide's mistakes among them: an alias as Resource, ViaService (aws.md, B1 and B2)."""
    [(wrong, text)] = found(key(), OWN, role("App", *statements))

    assert wrong is Wrong.MISSING
    assert text.startswith(f"App {says}")


def test_a_deny_in_the_key_policy_is_named(key: Any) -> None:
    """Who mends it learns which statement it is."""
    [(wrong, text)] = found(key(deny("Decrypt", **arn_is())), OWN, role("App", USES, DESCRIBES))

    assert wrong is Wrong.MISSING
    assert text == "App may not Decrypt in us-east-1: explicit deny in the resource-based policy (Planted)"


def test_a_boundary_counts(key: Any) -> None:
    """It limits what the role's own policies give."""
    limited = role("App", USES, DESCRIBES, boundary=allow("GenerateDataKey", "DescribeKey"))

    assert [text for _, text in found(key(), OWN, limited)] == [
        "App may not Decrypt in us-east-1: no permissions boundary allows it"
    ]


def test_a_key_policy_that_does_not_delegate(key: Any) -> None:
    """IAM policies count only if the key's policy lets the account decide."""
    locked = key(policy={"Statement": [{**DELEGATES, "Principal": {"AWS": "arn:aws:iam::999999999999:root"}}]})

    [(wrong, text)] = found(locked, OWN, role("App", USES, DESCRIBES))

    assert (wrong, text.endswith("no resource-based policy allows it")) == (Wrong.MISSING, True)


def test_a_role_that_does_not_exist_has_no_access(key: Any) -> None:
    """The application cannot run under it."""
    assert found(key(), OWN, None) == [(Wrong.MISSING, "there is no role App")]


def test_the_watchdog_needs_its_canaries(key: Any) -> None:
    """Refused even with the pair: its round trips will fail."""
    [(wrong, text)] = found(key(), WATCHDOG, role("App", DESCRIBES))

    assert (wrong, "may not GenerateDataKey, Decrypt" in text) == (Wrong.MISSING, True)


# -- too much -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "statement", "which"),
    [
        pytest.param(STRANGER, USES, "Decrypt, GenerateDataKey", id="anothers-key"),
        pytest.param(STRANGER, allow("Decrypt", Condition=AS_CANARY), "Decrypt", id="as-if-a-canary"),
        pytest.param(STRANGER, allow("Encrypt", Condition={"Null": {"kms:EncryptionContextKeys": "true"}}), "Encrypt",
                     id="without-a-context"),
        pytest.param(STRANGER, allow("ReEncrypt*", resource="*"), "ReEncryptFrom, ReEncryptTo", id="star"),
        pytest.param(WATCHDOG, allow("Decrypt"), "Decrypt", id="watchdog-without-the-pair"),
        pytest.param(WATCHDOG, allow("Decrypt", Condition=WITH_CONTEXT), "Decrypt", id="watchdog-with-any-pair"),
    ],
)  # fmt: skip
def test_a_role_that_may_more_than_it_should(
    key: Any, caller: Caller, statement: Mapping[str, Any], which: str
) -> None:
    """Under any of the contexts: an application's, none, the canary's."""
    statements = (statement, WATCHES, DESCRIBES) if caller.watches else (statement,)

    assert found(key(), caller, role("App", *statements)) == [
        (Wrong.EXCESS, f"App may {which} in us-east-1, and should not")
    ]


def test_the_rendered_key_policy_closes_the_key_to_greedy_roles(settings: Settings, key: Any) -> None:
    """A role that may everything still cannot use the key: the key's own policy denies it."""
    rendered = desired_keys(settings)[0].policy

    assert found(key(policy=rendered), STRANGER, role("App", allow("*", resource="*"))) == []


def test_a_principal_named_in_the_key_policy_needs_no_policy_of_its_own(key: Any) -> None:
    """Access that no role's policy shows."""
    named = {**allow("Decrypt", resource="*"), "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/App"}}

    assert [wrong for wrong, _ in found(key(named), STRANGER, role("App"))] == [Wrong.EXCESS]


def test_every_grant_is_too_much(key: Any) -> None:
    """Our key policies let nobody make one."""
    access = key(grants=(Grant(grantee="arn:aws:iam::999999999999:root", operations=("Decrypt", "Encrypt")),))

    assert found(access, STRANGER, role("App")) == [
        (Wrong.EXCESS, "arn:aws:iam::999999999999:root may Decrypt, Encrypt in us-east-1, by a grant")
    ]


def in_context(**operators: Any) -> dict[str, Any]:
    """An Allow that holds under some context alone."""
    return allow("Decrypt", Condition=operators)


CONTEXTS = [
    pytest.param(in_context(StringEquals={"kms:EncryptionContext:app": "orders"}), id="a-pair"),
    pytest.param(in_context(StringLike={"kms:EncryptionContext:app": ["orders-*", "b"]}), id="a-pattern"),
    pytest.param(in_context(Null={"kms:EncryptionContext:app": "false"}), id="a-name"),
    pytest.param(
        in_context(**{"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["app", "env"]}, **WITH_CONTEXT}),
        id="names-alone",
    ),
    pytest.param(
        in_context(StringEquals={"kms:EncryptionContext:app": "orders", "kms:EncryptionContext:env": "prod"}),
        id="two-pairs",
    ),
]


@pytest.mark.parametrize("statement", CONTEXTS)
@pytest.mark.parametrize("caller", [STRANGER, WATCHDOG], ids=["stranger", "watchdog"])
def test_an_allow_under_a_context_of_its_own_is_too_much(
    key: Any, caller: Caller, statement: Mapping[str, Any]
) -> None:
    """Regression: it was asked about three contexts, none of them the policy's; but whoever asks chooses it."""
    statements = (statement, WATCHES, DESCRIBES) if caller.watches else (statement,)

    assert found(key(), caller, role("App", *statements)) == [
        (Wrong.EXCESS, "App may Decrypt in us-east-1, and should not")
    ]


def test_a_deny_that_a_context_escapes_is_no_protection(key: Any) -> None:
    """Regression: the key's policy asks for a pair, which a stranger sends too."""
    asks = deny("Decrypt", StringNotEquals={"kms:EncryptionContext:app": "orders"})

    assert [wrong for wrong, _ in found(key(asks), STRANGER, role("App", allow("Decrypt")))] == [Wrong.EXCESS]


@pytest.mark.parametrize("statement", CONTEXTS)
def test_whether_an_application_sends_the_context_it_must_is_not_known(key: Any, statement: Mapping[str, Any]) -> None:
    """Regression: a policy that asks for the application's own pairs was said to lock it out."""
    app = role("App", statement, allow("GenerateDataKey", Condition=WITH_CONTEXT), DESCRIBES)

    [(wrong, text)] = found(key(), OWN, app)

    assert wrong is Wrong.UNREADABLE
    assert text.startswith("App and Decrypt in us-east-1 cannot be judged: it depends on kms:EncryptionContext:app")


# -- what cannot be said ------------------------------------------------------------------------------------------

FROM_VPC = {"StringEquals": {"aws:SourceVpce": "vpce-1"}}


def test_what_depends_on_what_no_policy_tells_is_not_judged(key: Any) -> None:
    """Where a request comes from is known when it comes."""
    unsure = role("App", allow("Decrypt", Condition=FROM_VPC), allow("GenerateDataKey", "DescribeKey"))

    assert found(key(), OWN, unsure) == [
        (Wrong.UNREADABLE, "App and Decrypt in us-east-1 cannot be judged: it depends on aws:SourceVpce")
    ]


def test_a_deny_from_elsewhere_is_not_judged_either(key: Any) -> None:
    """A data perimeter in the key policy: whether it denies, the network decides."""
    perimeter = deny("*", StringNotEquals={"aws:SourceVpce": "vpce-1"})

    assert {wrong for wrong, _ in found(key(perimeter), OWN, role("App", USES, DESCRIBES))} == {Wrong.UNREADABLE}


@pytest.mark.parametrize(
    ("caller", "statements"),
    [
        pytest.param(OWN, (allow("*", Condition=FROM_VPC), USES, DESCRIBES), id="allowed-anyway"),
        pytest.param(STRANGER, (allow("Decrypt", Condition={**FROM_VPC, **arn_is(name="Other")}),), id="of-others"),
    ],
)
def test_what_does_not_decide_does_not_matter(key: Any, caller: Caller, statements: tuple[Any, ...]) -> None:
    """Whether or not it holds, the answer is the same."""
    assert found(key(), caller, role("App", *statements)) == []


def test_excess_that_may_be_is_unreadable(key: Any) -> None:
    """Not said to be allowed, not said to be well."""
    unsure = found(key(), STRANGER, role("App", allow("Encrypt", Condition=FROM_VPC)))

    assert [(wrong, "Encrypt" in text) for wrong, text in unsure] == [(Wrong.UNREADABLE, True)]


def test_an_unreadable_role_says_why(key: Any) -> None:
    """Whoever mends it must know what."""
    assert found(key(), OWN, UnreadableRole("iam: GetRole: AccessDenied")) == [
        (Wrong.UNREADABLE, "App cannot be judged: iam: GetRole: AccessDenied")
    ]


@pytest.mark.parametrize(
    ("condition", "more"),
    [
        pytest.param({"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/gen*"}}, {"aliases": ("alias/general",)},
                     id="aliases"),
        pytest.param({"StringEquals": {"aws:ResourceTag/team": "a"}}, {"tags": (("team", "a"),)}, id="tags"),
        pytest.param({"StringEquals": {"aws:PrincipalTag/team": "a"}}, {}, id="the-roles-tags"),
        pytest.param({"StringEquals": {"kms:MultiRegionKeyType": "PRIMARY"}}, {}, id="role-of-the-key"),
        pytest.param({"StringLike": {"aws:userid": "AROAAPP:*"}}, {}, id="user-id"),
    ],
)  # fmt: skip
def test_what_is_known_of_key_and_role_is_in_the_request(
    key: Any, condition: dict[str, Any], more: dict[str, Any]
) -> None:
    """So that policies by tag and by alias can be judged; where the values are others, access is missing."""
    statement = allow("GenerateDataKey", "Decrypt", "DescribeKey", Condition=condition)
    made = role("App", statement)
    tagged = RoleAccess(
        name=made.name, arn=made.arn, role_id=made.role_id, policies=made.policies, boundary=None, tags=(("team", "a"),)
    )

    assert found(key(**more), OWN, tagged) == []
    assert asks_for(next(iter(next(iter(condition.values())))).lower(), tagged.policies)


# -- documents ----------------------------------------------------------------------------------------------------


def test_statements_about_other_services_may_use_what_is_not_evaluated() -> None:
    """An application's role has more policies than ours: a variable in one about S3 must not blind us."""
    mine = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/${aws:username}"}

    assert parse_about_kms({"Statement": [mine, USES]}, "Inline") == parse_about_kms({"Statement": USES}, "Inline")
    assert parse_about_kms({"Statement": mine}, "Inline").statements == ()


@pytest.mark.parametrize("action", ["kms:*", "*", "k*:Decrypt", "KMS:Decrypt", ["s3:*", "kms:Decrypt"]])
def test_statements_that_may_be_about_kms_must_be_evaluated(action: Any) -> None:
    """What is skipped in silence allows or denies the wrong thing."""
    statement = {"Effect": "Deny", "Action": action, "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "x"}}}

    with pytest.raises(PolicyError, match="Inline: statement 1: the condition operator IpAddress"):
        parse_about_kms({"Statement": [statement]}, "Inline")


def test_not_action_is_about_kms() -> None:
    """Everything but S3 is KMS too."""
    policy = parse_about_kms({"Statement": {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}}, "Inline")

    assert len(policy.statements) == 1


@pytest.mark.parametrize("shape", ["nothing", {"Statement": "x"}, {"Statement": [{"Effect": "Allow"}]}])
def test_what_is_no_policy_is_refused(shape: Any) -> None:
    """Also where it does not say what it is about."""
    with pytest.raises(PolicyError):
        parse_about_kms(shape, "Inline")
