"""CloudTrail's LookupEvents with stock boto3: who did what to a key, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from kms_local.cloudtrail import Event, Trail, lookup_events
from kms_local.identities import Identity
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

ME = Identity(arn="arn:aws:iam::123456789012:user/me", principal="arn:aws:iam::123456789012:user/me", user_id="AIDA")


def event(number: int, name: str = "Decrypt", *, read_only: bool = True, **more: Any) -> Event:
    return Event(
        event_id=f"e{number}",
        name=name,
        source="kms.amazonaws.com",
        region="us-east-1",
        account_id="123456789012",
        caller=ME,
        at=float(number),
        read_only=read_only,
        **more,
    )


@pytest.fixture
def trail() -> Trail:
    made = Trail()
    for number in range(120):
        with made.noting(event(number)):
            pass
    return made


def ids(answer: dict[str, Any]) -> list[str]:
    return [one["EventId"] for one in answer["Events"]]


def test_the_newest_come_first_in_pages_of_fifty_at_most(trail: Trail) -> None:
    """Pages join without a gap, and the last has no token."""
    found, token = [], None
    while True:
        page = lookup_events(trail, Params({"NextToken": token} if token else {}))
        found.append(ids(page))
        if (token := page.get("NextToken")) is None:
            break

    assert [len(page) for page in found] == [50, 50, 20]
    assert [one for page in found for one in page] == [f"e{number}" for number in reversed(range(120))]


def test_a_span_of_time_has_both_its_ends(trail: Trail) -> None:
    """What happened at the very start or end belongs to it."""
    answer = lookup_events(trail, Params({"StartTime": 5.0, "EndTime": 7.0}))

    assert ids(answer) == ["e7", "e6", "e5"]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        pytest.param({"MaxResults": 51}, "InvalidMaxResultsException", id="page-too-large"),
        pytest.param({"NextToken": "x"}, "InvalidNextTokenException", id="no-token-of-ours"),
        pytest.param(
            {"LookupAttributes": [{"AttributeKey": "Color", "AttributeValue": "red"}]},
            "InvalidLookupAttributesException",
            id="no-such-attribute",
        ),
        pytest.param(
            {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "x"}] * 2},
            "InvalidLookupAttributesException",
            id="two-attributes",
        ),
    ],
)
def test_what_cannot_be_looked_up_is_refused(trail: Trail, members: dict[str, Any], code: str) -> None:
    """By AWS's own codes."""
    with pytest.raises(ServiceError) as refused:
        lookup_events(trail, Params(members))

    assert refused.value.code == code


def test_looks_by_the_thousand_do_not_push_out_who_changed_a_key() -> None:
    """AWS keeps either for 90 days; what changed something comes among what only read as it happened."""
    trail = Trail()
    for number in range(20_000):
        changes = number in (0, 19_998)
        with trail.noting(event(number, "DisableKey" if changes else "Decrypt", read_only=not changes)):
            pass

    changed = lookup_events(
        trail, Params({"LookupAttributes": [{"AttributeKey": "ReadOnly", "AttributeValue": "false"}]})
    )
    assert ids(changed) == ["e19998", "e0"]
    assert ids(lookup_events(trail, Params({"MaxResults": 3}))) == ["e19999", "e19998", "e19997"]


def test_what_was_refused_is_noted_with_its_code() -> None:
    """An attempt is as telling as a deed."""
    trail = Trail()

    with pytest.raises(ServiceError), trail.noting(event(1, "DisableKey")):
        raise ServiceError("AccessDeniedException", "no")

    [told] = lookup_events(trail, Params({}))["Events"]
    assert json.loads(told["CloudTrailEvent"])["errorCode"] == "AccessDeniedException"


@pytest.fixture
def cloudtrail(local_aws: Any) -> Iterator[Any]:
    """A client for CloudTrail, which answers where CloudWatch does."""
    document = local_aws.endpoints
    client = boto3.session.Session().client(
        "cloudtrail",
        region_name="us-west-2",
        endpoint_url=document["regions"]["us-west-2"]["cloudwatch"],
        verify=document["ca_bundle"],
        **document["credentials"],
    )
    yield client
    client.close()


def test_who_did_what_to_a_key_is_found_by_its_name(local_aws: Any, cloudtrail: Any) -> None:
    """By EventName, in the region where it was done, done or refused."""
    kms = local_aws.client("kms", "us-west-2")
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=arn)
    with pytest.raises(ClientError):
        kms.disable_key(KeyId=arn.replace(arn[-4:], "0000"))

    found = cloudtrail.lookup_events(LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "DisableKey"}])

    refused, done, *_ = found["Events"]
    assert done["Username"] == "kms-local"
    assert done["EventSource"] == "kms.amazonaws.com"
    assert done["Resources"] == [{"ResourceType": "AWS::KMS::Key", "ResourceName": arn}]
    assert done["ReadOnly"] == "false"
    assert "errorCode" not in json.loads(done["CloudTrailEvent"])
    assert json.loads(refused["CloudTrailEvent"])["errorCode"] == "NotFoundException"
    assert refused["Resources"][0]["ResourceName"].endswith("0000")


def test_other_operations_are_unknown(cloudtrail: Any) -> None:
    """Trails are made and looked at; insights, lakes and channels are not there."""
    with pytest.raises(ClientError) as refused:
        cloudtrail.list_channels()

    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"


def test_a_trail_of_all_regions_shows_in_each(local_aws: Any, cloudtrail: Any) -> None:
    """Under its home region's ARN; it logs once it was started, and says what it leaves out."""
    document = local_aws.endpoints
    elsewhere = boto3.session.Session().client(
        "cloudtrail",
        region_name="eu-west-1",
        endpoint_url=document["regions"]["eu-west-1"]["cloudwatch"],
        verify=document["ca_bundle"],
        **document["credentials"],
    )
    arn = cloudtrail.create_trail(Name="all", S3BucketName="b", IsMultiRegionTrail=True)["TrailARN"]
    cloudtrail.create_trail(Name="here", S3BucketName="b")
    before = cloudtrail.get_trail_status(Name=arn)["IsLogging"]
    cloudtrail.start_logging(Name="all")
    usual = cloudtrail.get_event_selectors(TrailName=arn)["EventSelectors"]
    cloudtrail.put_event_selectors(
        TrailName="all",
        EventSelectors=[{"ReadWriteType": "WriteOnly", "ExcludeManagementEventSources": ["kms.amazonaws.com"]}],
    )
    [selected] = cloudtrail.get_event_selectors(TrailName="all")["EventSelectors"]

    assert arn == "arn:aws:cloudtrail:us-west-2:123456789012:trail/all"
    assert [one["TrailARN"] for one in elsewhere.describe_trails()["trailList"]] == [arn]
    assert elsewhere.describe_trails(includeShadowTrails=False)["trailList"] == []
    assert {one["Name"] for one in cloudtrail.describe_trails()["trailList"]} == {"all", "here"}
    assert (before, cloudtrail.get_trail_status(Name=arn)["IsLogging"]) == (False, True)
    assert (usual[0]["ReadWriteType"], usual[0]["ExcludeManagementEventSources"]) == ("All", [])
    assert (selected["ReadWriteType"], selected["ExcludeManagementEventSources"]) == (
        "WriteOnly",
        ["kms.amazonaws.com"],
    )
    with pytest.raises(ClientError, match="TrailAlreadyExists"):
        cloudtrail.create_trail(Name="all", S3BucketName="b")
    for ask in (elsewhere.get_trail_status, elsewhere.start_logging):
        with pytest.raises(ClientError, match="TrailNotFound"):
            ask(Name=arn)
    with pytest.raises(ClientError, match="TrailNotFound"):
        elsewhere.get_event_selectors(TrailName=arn)
    cloudtrail.stop_logging(Name="all")
    assert not cloudtrail.get_trail_status(Name="all")["IsLogging"]
    with pytest.raises(ClientError, match="TrailNotFound"):
        elsewhere.delete_trail(Name="all")
    for name in ("all", "here"):
        cloudtrail.delete_trail(Name=name)
    assert cloudtrail.describe_trails()["trailList"] == []
    elsewhere.close()
