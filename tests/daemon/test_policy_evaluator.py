"""What policies allow: the elements, the operators, and the way identity and key policies meet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.estate.policies import Principals, key_policy
from kms_watchdog.estate.policy import (
    Outcome,
    Policy,
    PolicyError,
    Request,
    evaluate,
    parse_policy,
    trust_allows,
)

ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/mrk-0123456789abcdef0123456789abcdef"
ALIAS = f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/parker-flight-pii-production"


def role(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def request(action: str = "kms:Decrypt", resource: str = KEY, who: str = "App", **context: Any) -> Request:
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    return Request(action=action, resource=resource, principal=role(who), context=keys)


def statement(effect: str = "Allow", action: Any = "kms:Decrypt", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def identity(*statements: dict[str, Any]) -> Policy:
    return parse_policy({"Version": "2012-10-17", "Statement": list(statements)})


def of_key(*statements: dict[str, Any]) -> Policy:
    return parse_policy({"Version": "2012-10-17", "Statement": list(statements)}, of_resource=True)


def delegation(**more: Any) -> dict[str, Any]:
    return statement(action="kms:*", Principal={"AWS": ROOT}, **more)


def meets(condition: dict[str, Any], **context: Any) -> bool:
    """Say whether a request with these condition keys meets one condition."""
    return evaluate(request(**context), identity=[identity(statement(Condition=condition))]).allowed


# -- elements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        pytest.param("kms:Decrypt", "kms:Decrypt", True, id="same"),
        pytest.param("KMS:decrypt", "kms:Decrypt", True, id="case"),
        pytest.param("kms:GenerateDataKey*", "kms:GenerateDataKeyWithoutPlaintext", True, id="star"),
        pytest.param("kms:ReEncrypt*", "kms:ReEncryptFrom", True, id="re-encrypt"),
        pytest.param("kms:?ecrypt", "kms:Decrypt", True, id="one-character"),
        pytest.param("kms:Decrypt", "kms:DecryptMore", False, id="longer"),
        pytest.param("kms.Decrypt", "kmsXDecrypt", False, id="a-dot-is-a-dot"),
        pytest.param("*", "sns:Publish", True, id="everything"),
    ],
)
def test_actions(pattern: str, action: str, *, matches: bool) -> None:
    """Action patterns ignore case and know two wildcards."""
    assert evaluate(request(action), identity=[identity(statement(action=pattern))]).allowed is matches


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        pytest.param(KEY, KEY, True, id="same"),
        pytest.param(f"arn:aws:kms:*:{ACCOUNT}:key/mrk-*", KEY, True, id="stars"),
        pytest.param(ALIAS, KEY, False, id="an-alias-authorises-no-key"),
        pytest.param("arn:aws:kms:us-west-2:*:key/*", KEY, False, id="another-region"),
        pytest.param(f"arn:aws:k*:{ACCOUNT}:key/*", KEY, False, id="a-star-stays-in-its-part"),
        pytest.param("arn:aws:kms", KEY, True, id="missing-parts-are-any"),
        pytest.param(f"arn:aws:kms:us-east-1:{ACCOUNT}:key/*", "*", False, id="an-action-without-resource"),
        pytest.param("*", "*", True, id="star-for-it"),
    ],
)
def test_resources(pattern: str, resource: str, *, matches: bool) -> None:
    """Resource patterns are ARNs, compared part by part."""
    asked = request("kms:ListKeys", resource)
    assert evaluate(asked, identity=[identity(statement(action="kms:*", resource=pattern))]).allowed is matches


def test_not_action_and_not_resource() -> None:
    """Everything but what they name."""
    all_but_decrypt = identity({"Effect": "Allow", "NotAction": "kms:Decrypt", "Resource": "*"})
    all_but_the_key = identity({"Effect": "Allow", "Action": "kms:Decrypt", "NotResource": KEY})

    assert not evaluate(request("kms:Decrypt"), identity=[all_but_decrypt]).allowed
    assert evaluate(request("kms:Encrypt"), identity=[all_but_decrypt]).allowed
    assert not evaluate(request(), identity=[all_but_the_key]).allowed
    assert evaluate(request(resource=KEY[:-1] + "0"), identity=[all_but_the_key]).allowed


# -- conditions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        pytest.param({"StringEquals": {"k": "a"}}, {"k": "a"}, True, id="equals"),
        pytest.param({"StringEquals": {"k": "a"}}, {"k": "A"}, False, id="equals-minds-case"),
        pytest.param({"StringEquals": {"K": "a"}}, {"k": "a"}, True, id="key-names-do-not"),
        pytest.param({"StringEquals": {"k": ["b", "a"]}}, {"k": "a"}, True, id="any-of-a-list"),
        pytest.param({"StringEquals": {"k": "a"}}, {}, False, id="absent"),
        pytest.param({"StringEquals": {"k": "a*"}}, {"k": "ab"}, False, id="equals-has-no-wildcard"),
        pytest.param({"StringEqualsIfExists": {"k": "a"}}, {}, True, id="if-exists-absent"),
        pytest.param({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False, id="if-exists-other"),
        pytest.param({"StringNotEquals": {"k": "a"}}, {}, True, id="not-equals-absent"),
        pytest.param({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False, id="not-equals-is-none-of-these"),
        pytest.param({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True, id="not-equals-other"),
        pytest.param({"StringEqualsIgnoreCase": {"k": "A"}}, {"k": "a"}, True, id="ignore-case"),
        pytest.param({"StringNotEqualsIgnoreCase": {"k": "A"}}, {"k": "a"}, False, id="not-ignore-case"),
        pytest.param({"StringLike": {"k": "a?c*"}}, {"k": "abcd"}, True, id="like"),
        pytest.param({"StringNotLike": {"k": "a*"}}, {"k": "abc"}, False, id="not-like"),
        pytest.param({"ArnEquals": {"k": role("*")}}, {"k": role("App")}, True, id="arn-equals-has-wildcards"),
        pytest.param({"ArnLike": {"k": "arn:aws:i*:role/App"}}, {"k": role("App")}, False, id="arn-parts"),
        pytest.param({"ArnNotEquals": {"k": role("App")}}, {"k": role("App")}, False, id="arn-not-equals"),
        pytest.param({"ArnNotLike": {"k": role("A*")}}, {"k": role("B")}, True, id="arn-not-like"),
        pytest.param({"Bool": {"k": True}}, {"k": "true"}, True, id="bool"),
        pytest.param({"Bool": {"k": "true"}}, {"k": "false"}, False, id="bool-other"),
        pytest.param({"Bool": {"k": "true"}}, {}, False, id="bool-absent"),
        pytest.param({"Null": {"k": "true"}}, {}, True, id="null-absent"),
        pytest.param({"Null": {"k": "false"}}, {}, False, id="null-false-absent"),
        pytest.param({"Null": {"k": False}}, {"k": ["x", "y"]}, True, id="null-false-present"),
        pytest.param({"NumericLessThanEquals": {"k": "30"}}, {"k": "7"}, True, id="numeric"),
        pytest.param({"NumericGreaterThan": {"k": 30}}, {"k": "30"}, False, id="numeric-border"),
        pytest.param({"NumericNotEquals": {"k": "30"}}, {"k": "30.0"}, False, id="numeric-not-equals"),
        pytest.param({"NumericLessThan": {"k": "30"}}, {"k": "x"}, False, id="numeric-of-text"),
        pytest.param({"ForAnyValue:StringLike": {"k": "alias/a*"}}, {"k": ["x", "alias/ab"]}, True, id="any"),
        pytest.param({"ForAnyValue:StringEquals": {"k": "a"}}, {}, False, id="any-absent"),
        pytest.param({"ForAnyValue:StringNotEquals": {"k": "a"}}, {}, False, id="any-not-absent"),
        pytest.param({"ForAnyValue:StringNotEquals": {"k": "a"}}, {"k": ["a", "b"]}, True, id="any-not"),
        pytest.param({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "b"]}, True, id="all"),
        pytest.param({"ForAllValues:StringEquals": {"k": ["a"]}}, {"k": ["a", "b"]}, False, id="all-but-one"),
        pytest.param({"ForAllValues:StringEquals": {"k": ["a"]}}, {}, True, id="all-absent-is-the-trap"),
        pytest.param({"StringEquals": {"k": "a", "l": "b"}}, {"k": "a"}, False, id="every-key-must-hold"),
        pytest.param({"StringEquals": {"k": "a"}, "Bool": {"l": "true"}}, {"k": "a"}, False, id="every-operator"),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, Any], *, expected: bool) -> None:
    """Each operator as IAM documents it, absent keys included."""
    assert meets(condition, **context) is expected


def test_the_principals_arn_is_known_without_being_given() -> None:
    """`aws:PrincipalArn` is the role, in every request."""
    assert meets({"ArnEquals": {"aws:PrincipalArn": role("App")}})
    assert not meets({"ArnEquals": {"aws:PrincipalArn": role("Other")}})


# -- identity and key policy --------------------------------------------------------------------------------------


def test_an_identity_policy_alone_is_not_enough_for_a_key() -> None:
    """The key policy must let the account's IAM policies decide."""
    allowing = identity(statement())
    others_key = of_key(statement(Principal={"AWS": role("Other")}))

    assert evaluate(request(), identity=[allowing], resource=of_key(delegation())).allowed
    refused = evaluate(request(), identity=[allowing], resource=others_key)
    assert refused.outcome is Outcome.NOT_ALLOWED_BY_RESOURCE


def test_a_delegation_alone_is_not_enough_either() -> None:
    """The account is named, the caller has no policy: nothing is allowed."""
    refused = evaluate(request(), identity=[], resource=of_key(delegation()))
    assert refused.outcome is Outcome.NOT_ALLOWED_BY_IDENTITY


@pytest.mark.parametrize("who", [role("App"), "*"])
def test_a_key_policy_that_names_the_caller_suffices(who: str) -> None:
    """Named directly, or everybody: no identity policy is needed."""
    assert evaluate(request(), identity=[], resource=of_key(statement(Principal={"AWS": who}))).allowed


def test_a_session_may_be_named() -> None:
    """An assumed role is its session too."""
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/App/night"
    asked = Request(action="kms:Decrypt", resource=KEY, principal=role("App"), session=session)

    assert evaluate(asked, identity=[], resource=of_key(statement(Principal={"AWS": session}))).allowed


@pytest.mark.parametrize(
    "denying",
    [
        pytest.param({"AWS": "*"}, id="everybody"),
        pytest.param({"AWS": role("App")}, id="by-name"),
        pytest.param({"AWS": ROOT}, id="the-account"),
        pytest.param({"AWS": ACCOUNT}, id="the-accounts-number"),
    ],
)
def test_a_deny_in_the_key_policy_wins(denying: dict[str, str]) -> None:
    """Over every Allow, wherever that stands."""
    key = of_key(delegation(), statement("Deny", Sid="No", Principal=denying))
    decision = evaluate(request(), identity=[identity(statement())], resource=key)

    assert (decision.outcome, decision.sid, decision.source) == (Outcome.EXPLICIT_DENY, "No", "resource-based policy")


def test_a_deny_for_somebody_else_does_not_count() -> None:
    """Neither by name nor by NotPrincipal."""
    key = of_key(
        delegation(),
        statement("Deny", Principal={"AWS": role("Other")}),
        {"Effect": "Deny", "NotPrincipal": {"AWS": role("App")}, "Action": "kms:*", "Resource": "*"},
    )
    assert evaluate(request(), identity=[identity(statement())], resource=key).allowed
    assert not evaluate(request(who="Third"), identity=[identity(statement())], resource=key).allowed


def test_a_boundary_limits_what_identity_policies_give() -> None:
    """Both must allow."""
    policies, boundary = [identity(statement(action="kms:*"))], identity(statement(action="kms:DescribeKey"))

    assert evaluate(request("kms:DescribeKey"), identity=policies, boundary=boundary).allowed
    refused = evaluate(request("kms:Decrypt"), identity=policies, boundary=boundary)
    assert refused.outcome is Outcome.NOT_ALLOWED_BY_BOUNDARY


def test_a_boundary_limits_a_role_that_a_key_policy_names() -> None:
    """Named by its role's ARN it stays within the boundary; named by its session it does not need to."""
    session, boundary = f"arn:aws:sts::{ACCOUNT}:assumed-role/App/night", identity(statement(action="sns:*"))
    asked = Request(action="kms:Decrypt", resource=KEY, principal=role("App"), session=session)

    by_role = evaluate(
        asked, identity=[], boundary=boundary, resource=of_key(statement(Principal={"AWS": role("App")}))
    )
    by_session = evaluate(asked, identity=[], boundary=boundary, resource=of_key(statement(Principal={"AWS": session})))

    assert by_role.outcome is Outcome.NOT_ALLOWED_BY_BOUNDARY
    assert by_session.allowed


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """Backtracking would take years: the test's own time limit is the judge."""
    assert not meets({"StringLike": {"k": "*a" * 12 + "*b"}}, k="a" * 5000)


def test_trust() -> None:
    """A trust that names the caller suffices; one for the account needs the caller's own policy; others are refused."""
    asked = Request(action="sts:AssumeRole", resource=role("Payment"), principal=role("App"))
    allowing = identity(statement(action="sts:AssumeRole", resource=role("Payment")))

    def trust(who: dict[str, str]) -> Policy:
        document = {"Statement": [{"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}]}
        return parse_policy(document, of_resource=True)

    assert trust_allows(asked, trust({"AWS": role("App")})).allowed
    assert not trust_allows(asked, trust({"AWS": ROOT})).allowed
    assert trust_allows(asked, trust({"AWS": ROOT}), identity=[allowing]).allowed
    assert not trust_allows(asked, trust({"Service": "ecs-tasks.amazonaws.com"}), identity=[allowing]).allowed


# -- the product's own policies and the guide's -------------------------------------------------------------------

PAYMENT = parse_policy(
    key_policy(
        Principals(
            account_id=ACCOUNT,
            partition="aws",
            applications=["ParkerFlightPaymentRole"],
            watchers=["KmsWatchdogRole", "KmsDrillRole"],
            break_glass="KmsBreakGlassRole",
        ),
        regions=["us-east-1", "us-west-2", "eu-west-1"],
        canary_context=("canary", "true"),
    ),
    of_resource=True,
)
EVERYTHING = identity(statement(action="*"))
CANARY: dict[str, Any] = {"kms:EncryptionContext:canary": "true", "kms:EncryptionContextKeys": ["canary"]}
CUSTOMER: dict[str, Any] = {"kms:EncryptionContext:tenant": "x", "kms:EncryptionContextKeys": ["tenant"]}


@pytest.mark.parametrize(
    ("who", "action", "context", "allowed"),
    [
        pytest.param("ParkerFlightPaymentRole", "kms:Decrypt", CUSTOMER, True, id="its-application"),
        pytest.param("ParkerFlightServiceRole", "kms:Decrypt", CUSTOMER, False, id="another-application"),
        pytest.param("ParkerFlightServiceRole", "kms:Decrypt", CANARY, False, id="another-one-with-a-canary"),
        pytest.param("KmsWatchdogRole", "kms:GenerateDataKey", CANARY, True, id="watchdog-canary"),
        pytest.param("KmsWatchdogRole", "kms:Decrypt", CUSTOMER, False, id="watchdog-customer-data"),
        pytest.param("KmsWatchdogRole", "kms:Decrypt", {}, False, id="watchdog-without-context"),
        pytest.param("KmsDrillRole", "kms:Decrypt", CANARY, True, id="drill-canary"),
        pytest.param("Admin", "kms:DescribeKey", {}, True, id="anybody-with-a-policy-may-look"),
        pytest.param("Admin", "kms:PutKeyPolicy", {}, True, id="the-way-out"),
        pytest.param("Admin", "kms:DisableKey", {}, False, id="destroying"),
        pytest.param("KmsBreakGlassRole", "kms:ScheduleKeyDeletion", {}, True, id="break-glass"),
        pytest.param("Admin", "kms:CreateGrant", {}, False, id="grants"),
        pytest.param("Admin", "kms:ReplicateKey", {"kms:ReplicaRegion": "ap-south-1"}, False, id="replica-elsewhere"),
        pytest.param("Admin", "kms:ReplicateKey", {"kms:ReplicaRegion": "eu-west-1"}, True, id="replica-here"),
    ],
)
def test_our_key_policy_separates(who: str, action: str, context: dict[str, Any], *, allowed: bool) -> None:
    """Whatever a role's own policies say, the payment key is its application's, and the watchdog's for canaries."""
    asked = Request(action=action, resource=KEY, principal=role(who), context=context)
    assert evaluate(asked, identity=[EVERYTHING], resource=PAYMENT).allowed is allowed


def test_the_guides_via_service_blocks_direct_use() -> None:
    """B1: a call that does not come through S3 never has `kms:ViaService`."""
    via = {"StringEquals": {"kms:ViaService": ["s3.us-east-1.amazonaws.com", "dynamodb.us-east-1.amazonaws.com"]}}
    assert not evaluate(request(), identity=[identity(statement(Condition=via))]).allowed


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "says"),
    [
        pytest.param("{", "not JSON", id="broken"),
        pytest.param([], "JSON object", id="a-list"),
        pytest.param({}, "one Statement", id="no-statement"),
        pytest.param({"Statement": []}, "one Statement", id="no-statements"),
        pytest.param({"Version": "2020-01-01", "Statement": statement()}, "Version", id="version"),
        pytest.param({"Statement": "x"}, "one Statement", id="text"),
        pytest.param({"Statement": [7]}, "statement 1", id="a-number"),
        pytest.param({"Statement": statement("Maybe")}, "Effect", id="effect"),
        pytest.param({"Statement": {"Effect": "Allow", "Resource": "*"}}, "Action", id="no-action"),
        pytest.param({"Statement": {"Effect": "Allow", "Action": "x"}}, "Resource", id="no-resource"),
        pytest.param({"Statement": statement(NotAction="x")}, "exactly one", id="both"),
        pytest.param({"Statement": statement(Conditions={})}, "Conditions", id="unknown-element"),
        pytest.param({"Statement": statement(action=[])}, "Action", id="empty-list"),
        pytest.param({"Statement": statement(Principal="*")}, "Principal", id="a-principal-in-an-identitys"),
        pytest.param({"Statement": statement(resource="arn:aws:s3:::${aws:username}")}, "variables", id="variable"),
        pytest.param({"Statement": statement(Condition=[])}, "Condition", id="condition-list"),
        pytest.param({"Statement": statement(Condition={"StringEquals": "x"})}, "StringEquals", id="block"),
        pytest.param({"Statement": statement(Condition={"IpAddress": {"k": "::1"}})}, "IpAddress", id="operator"),
        pytest.param({"Statement": statement(Condition={"BoolNot": {"k": "1"}})}, "BoolNot", id="no-operator"),
        pytest.param({"Statement": statement(Condition={"NumericNotLessThan": {"k": "1"}})}, "Numeric", id="negated"),
        pytest.param({"Statement": statement(Condition={"NullIfExists": {"k": "true"}})}, "NullIfExists", id="null"),
        pytest.param({"Statement": statement(Condition={"Some:Bool": {"k": "true"}})}, "Some:Bool", id="quantifier"),
        pytest.param({"Statement": statement(Condition={"NumericEquals": {"k": "x"}})}, "number", id="number"),
        pytest.param({"Statement": statement(Condition={"Bool": {"k": {}}})}, "text", id="value"),
    ],
)
def test_what_is_not_evaluated_is_refused(document: Any, says: str) -> None:
    """Nothing is skipped in silence; the text names the place."""
    with pytest.raises(PolicyError, match=says):
        parse_policy(document)


@pytest.mark.parametrize("who", [{}, {"Nobody": "x"}, 7, {"AWS": []}])
def test_bad_principals_are_refused(who: Any) -> None:
    """A key policy's statement says about whom it is."""
    with pytest.raises(PolicyError, match="Principal"):
        of_key(statement(Principal=who))
    with pytest.raises(PolicyError, match="Principal"):
        of_key(statement())


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another error."""
    try:
        parse_policy(text, of_resource=True)
    except PolicyError:
        return
    raise AssertionError("no text that short is a policy")


@given(st.text(alphabet="ab*?:.[", max_size=8), st.text(alphabet="ab:.[", max_size=8))
def test_wildcards_mean_what_they_mean(pattern: str, value: str) -> None:
    """The reference is a matcher by recursion."""

    def matches(wanted: str, given: str) -> bool:
        if not wanted:
            return not given
        if wanted[0] == "*":
            return any(matches(wanted[1:], given[position:]) for position in range(len(given) + 1))
        return bool(given) and wanted[0] in {"?", given[0]} and matches(wanted[1:], given[1:])

    assert meets({"StringLike": {"k": pattern}}, k=value) is matches(pattern, value)


def test_a_json_text_is_read_too() -> None:
    """As KMS hands it out."""
    policy = parse_policy(json.dumps({"Statement": [delegation()]}), of_resource=True)
    assert evaluate(request("kms:PutKeyPolicy"), identity=[EVERYTHING], resource=policy).allowed
