"""May CloudWatch publish to a topic: the default policy, those that guides recommend, and those that keep it out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kms_watchdog.estate.policy import PolicyError
from kms_watchdog.estate.topic_policy import why_refused

ACCOUNT = "123456789012"
TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts"
ALARM = f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:ParkerFlight-KMS-HighErrorRate-us-east-1"
SERVICE = {"Service": "cloudwatch.amazonaws.com"}
EVERYBODY = {"AWS": "*"}
DEFAULT = {
    "Sid": "__default_statement_ID",
    "Effect": "Allow",
    "Principal": EVERYBODY,
    "Action": ["SNS:GetTopicAttributes", "SNS:Subscribe", "SNS:Publish"],
    "Resource": TOPIC,
    "Condition": {"StringEquals": {"AWS:SourceOwner": ACCOUNT}},
}


def allow(principal: Any, condition: Any = None, *, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    made = {"Effect": effect, "Principal": principal, "Action": "sns:Publish", "Resource": TOPIC, **more}
    return {**made, "Condition": condition} if condition else made


def refused(*statements: dict[str, Any], **attributes: str) -> str:
    document = json.dumps({"Version": "2008-10-17", "Statement": statements})
    return why_refused(
        {"Policy": document, **attributes},
        topic_arn=TOPIC,
        alarm_arn=ALARM,
        watched_keys={"alias/parker-flight-pii-production", "mrk-" + 32 * "a"},
    )


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param([DEFAULT], id="default"),
        pytest.param([allow(SERVICE)], id="service"),
        pytest.param([allow(SERVICE, {"StringEquals": {"aws:SourceAccount": ACCOUNT}})], id="service-of-the-account"),
        pytest.param(
            [allow(SERVICE, {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:Parker*"}})],
            id="service-for-our-alarms",
        ),
        pytest.param([allow("*")], id="everybody"),
        pytest.param([allow({"Service": ["events.amazonaws.com", SERVICE["Service"]]})], id="several-services"),
        pytest.param(
            [DEFAULT, allow("*", {"Bool": {"aws:SecureTransport": "false"}}, effect="Deny")], id="only-over-tls"
        ),
        pytest.param(
            [DEFAULT, {**allow("*", effect="Deny"), "Action": "sns:Subscribe"}], id="another-action-is-denied"
        ),
    ],
)
def test_policies_that_let_alarms_through(statements: list[dict[str, Any]]) -> None:
    """Named, or among everybody who acts for the topic's owner."""
    assert refused(*statements) == ""


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param([allow({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})], id="the-account-alone"),
        pytest.param([allow({"Service": "events.amazonaws.com"})], id="another-service"),
        pytest.param([{**DEFAULT, "Action": "SNS:Subscribe"}], id="another-action"),
        pytest.param([{**DEFAULT, "Resource": f"{TOPIC}-2"}], id="another-topic"),
        pytest.param([allow(SERVICE, {"StringEquals": {"aws:SourceAccount": "210987654321"}})], id="another-account"),
        pytest.param([allow(EVERYBODY, {"StringEquals": {"AWS:SourceOwner": "210987654321"}})], id="another-owner"),
        pytest.param(
            [allow(SERVICE, {"ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:*:*:alarm:Other-*"}})], id="other-alarms"
        ),
        pytest.param([allow(EVERYBODY, {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}})], id="roles-alone"),
    ],
)
def test_policies_that_do_not(statements: list[dict[str, Any]]) -> None:
    """Nobody else's permission is CloudWatch's: a service has no policies of its own."""
    assert refused(*statements) == "its policy does not let CloudWatch publish"


@pytest.mark.parametrize(
    "denial",
    [
        pytest.param(allow(SERVICE, effect="Deny", Sid="NoAlarms"), id="service"),
        pytest.param(allow("*", effect="Deny", Sid="NoAlarms"), id="everybody"),
        pytest.param(
            {
                "Sid": "NoAlarms",
                "Effect": "Deny",
                "NotPrincipal": {"Service": "events.amazonaws.com"},
                "Action": "sns:*",
                "Resource": "*",
            },
            id="all-but-another",
        ),
    ],
)
def test_a_deny_wins(denial: dict[str, Any]) -> None:
    """Whatever else allows it; the statement is named."""
    assert refused(DEFAULT, denial) == "its policy denies CloudWatch to publish (NoAlarms)"


def test_a_deny_for_all_but_cloudwatch_is_no_hindrance() -> None:
    """`NotPrincipal` with the service in it is not about the service."""
    denial = {"Effect": "Deny", "NotPrincipal": SERVICE, "Action": "sns:Publish", "Resource": TOPIC}

    assert refused(DEFAULT, denial) == ""


@pytest.mark.parametrize(
    ("key", "says"),
    [
        pytest.param("alias/aws/sns", "CloudWatch cannot use", id="aws-own"),
        pytest.param(f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/aws/sns", "CloudWatch cannot use", id="aws-own-arn"),
        pytest.param("alias/parker-flight-pii-production", "is watched", id="ours-by-alias"),
        pytest.param(f"arn:aws:kms:us-east-1:{ACCOUNT}:key/mrk-{32 * 'a'}", "is watched", id="ours-by-arn"),
        pytest.param("mrk-" + 32 * "a", "is watched", id="ours-by-id"),
    ],
)
def test_keys_that_keep_alarms_in(key: str, says: str) -> None:
    """AWS's own key lets no alarm through; ours would be silent when it is broken."""
    assert says in refused(DEFAULT, KmsMasterKeyId=key)


def test_a_key_of_the_customers_is_taken_to_do() -> None:
    """Its policy is not looked at here."""
    assert refused(DEFAULT, KmsMasterKeyId="alias/alarms") == ""


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({}, id="none"),
        pytest.param({"Policy": "{"}, id="no-json"),
        pytest.param(
            {"Policy": json.dumps({"Statement": [allow(SERVICE, {"DateLessThan": {"aws:CurrentTime": "x"}})]})},
            id="not-evaluated-here",
        ),
    ],
)
def test_a_policy_that_cannot_be_evaluated(attributes: dict[str, str]) -> None:
    """Neither yes nor no."""
    with pytest.raises(PolicyError):
        why_refused(attributes, topic_arn=TOPIC, alarm_arn=ALARM)
