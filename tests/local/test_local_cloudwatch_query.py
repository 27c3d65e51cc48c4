"""CloudWatch's query protocol, beyond what the contract tests of both protocols show: forms, gzip, refusals, limits."""

from __future__ import annotations

import gzip
import http.client
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

XMLNS = "{http://monitoring.amazonaws.com/doc/2010-08-01/}"
Post = Callable[..., tuple[int, ET.Element]]


@pytest.fixture
def post(local_aws: Any) -> Post:
    """Send a signed form, and return status and XML of the answer."""
    document = local_aws.endpoints
    host = document["regions"]["us-east-1"]["cloudwatch"].removeprefix("https://")
    keys = document["credentials"]
    credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    context = ssl.create_default_context(cafile=document["ca_bundle"])

    def send(
        action: str, *, body: bytes | None = None, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[int, ET.Element]:
        form = {"Action": action, "Version": "2010-08-01", **fields}
        content = urlencode(form).encode() if body is None else body
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Host": host, **(headers or {})}
        request = AWSRequest("POST", f"https://{host}/", data=content, headers=kind)
        SigV4Auth(credentials, "monitoring", "us-east-1").add_auth(request)
        connection = http.client.HTTPSConnection(host, timeout=10, context=context)
        connection.request("POST", "/", body=content, headers=dict(request.headers))
        answer = connection.getresponse()
        tree = ET.fromstring(answer.read())  # noqa: S314  our own server's answer
        connection.close()
        return answer.status, tree

    return send


def code(tree: ET.Element) -> str:
    return tree.findtext(f"{XMLNS}Error/{XMLNS}Code") or ""


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_a_form_may_be_compressed(post: Post, encoding: str) -> None:
    """As older SDKs send it, in whatever case the header is written."""
    fields = {
        "Action": "PutMetricData",
        "Version": "2010-08-01",
        "Namespace": f"Query/{encoding}",
        "MetricData.member.1.MetricName": "M",
        "MetricData.member.1.Value": "1e0",
        "MetricData.member.1.Dimensions.member.2.Name": "b",
        "MetricData.member.1.Dimensions.member.2.Value": "2",
        "MetricData.member.1.Dimensions.member.1.Name": "a",
        "MetricData.member.1.Dimensions.member.1.Value": "1",
    }
    body = gzip.compress(urlencode(fields).encode())

    status, tree = post("PutMetricData", body=body, headers={"Content-Encoding": encoding})
    assert (status, tree.tag) == (200, f"{XMLNS}PutMetricDataResponse")
    assert [child.tag for child in tree] == [f"{XMLNS}ResponseMetadata"], "an operation without a result has none"

    _, listed = post("ListMetrics", Namespace=f"Query/{encoding}")
    names = [one.text for one in listed.iter(f"{XMLNS}Name")]
    assert (names, listed.findtext(f".//{XMLNS}MetricName")) == (["a", "b"], "M")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"MetricData.member.1.Value": "one"}, "MalformedInput", id="no-number"),
        pytest.param({"MetricData.member.1.Value": "1_0"}, "MalformedInput", id="python-number"),
        pytest.param({"MetricData.member.1.Value": "NaN"}, "InvalidParameterValue", id="nan"),
        pytest.param({"MetricData.member.x.Value": "1"}, "MalformedInput", id="no-index"),
        pytest.param({"MetricData.member.1.StorageResolution": "1.5"}, "MalformedInput", id="no-integer"),
        pytest.param({"MetricData.member.1.Timestamp": "yesterday"}, "InvalidParameterValue", id="no-time"),
        pytest.param({"StrictEntityValidation": "perhaps"}, "MalformedInput", id="no-boolean"),
        pytest.param({"MetricData": "", "MetricData.member.1.MetricName": ""}, "InvalidParameterValue", id="empty"),
        pytest.param({"MetricData..Value": "1", "MetricData.member.1.": "x"}, "ok", id="odd-names-are-ignored"),
        pytest.param({"x" + ".y" * 5000: "1"}, "ok", id="deep-names-are-ignored"),
    ],
)
def test_malformed_members_are_refused(post: Post, fields: dict[str, str], expected: str) -> None:
    """What is no number, index, time or boolean is told as such; what the operation does not know is left alone."""
    base = {"Namespace": "Query/Malformed", "MetricData.member.1.MetricName": "M", "MetricData.member.1.Value": "1"}

    status, tree = post("PutMetricData", **{**base, **fields})

    assert (code(tree) or "ok", status) == (expected, 200 if expected == "ok" else 400)


def test_lists_come_in_the_order_of_their_numbers(post: Post) -> None:
    """member.10 comes after member.9, wherever it stands in the form; an empty list is one."""
    rule = {"AlarmName": "query-order", "AlarmRule": "FALSE", "OKActions": ""}
    actions = {f"AlarmActions.member.{number}": f"arn:{number}" for number in (5, 4, 11, 9, 10)}
    post("PutCompositeAlarm", **rule, **actions)

    _, tree = post("DescribeAlarms", **{"AlarmTypes.member.1": "CompositeAlarm", "AlarmNames.member.1": "query-order"})
    found = tree.find(f".//{XMLNS}CompositeAlarms/{XMLNS}member/{XMLNS}AlarmActions")
    assert found is not None
    assert [one.text for one in found] == ["arn:4", "arn:5", "arn:9", "arn:10", "arn:11"]
    post("DeleteAlarms", **{"AlarmNames.member.1": "query-order"})


def test_refusals_are_those_of_the_query_protocol(post: Post) -> None:
    """Codes of the query protocol, a side, a message, and the statuses that the documentation gives."""
    status, tree = post("Frobnicate")
    assert (status, code(tree)) == (400, "InvalidAction")
    status, tree = post("DeleteAlarms", **{"AlarmNames.member.1": "nobody"})
    assert (status, code(tree)) == (404, "ResourceNotFound")
    assert tree.findtext(f"{XMLNS}Error/{XMLNS}Type") == "Sender"
    status, tree = post("DescribeAlarms", MaxRecords="0")
    assert (status, code(tree)) == (400, "ValidationError")
    status, tree = post("DescribeAlarms", body=b"\xff\xfe", headers={})
    assert status == 400


def test_a_request_has_a_megabyte_at_most(post: Post) -> None:
    """Compressed or not: what is larger when it is unpacked is refused."""
    fields = {"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": "Query/Large"}
    for number in range(1, 1001):
        fields[f"MetricData.member.{number}.MetricName"] = "M" * 200
        fields[f"MetricData.member.{number}.Value"] = "1"
        fields[f"MetricData.member.{number}.Dimensions.member.1.Name"] = "D"
        fields[f"MetricData.member.{number}.Dimensions.member.1.Value"] = "V" * 700
    body = urlencode(fields).encode()
    assert len(body) > 1024 * 1024

    status, tree = post("PutMetricData", body=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    assert (status, code(tree)) == (413, "RequestEntityTooLarge")


def test_text_comes_back_as_it_was(post: Post) -> None:
    """Markup, quotes and what is not ASCII survive the way through form and XML."""
    text = """<b> & "quotes" 'single' ✓ \t tab"""
    post("PutCompositeAlarm", AlarmName="query-text", AlarmRule="FALSE", AlarmDescription=text)

    _, tree = post("DescribeAlarms", **{"AlarmTypes.member.1": "CompositeAlarm", "AlarmNames.member.1": "query-text"})

    assert tree.findtext(f".//{XMLNS}AlarmDescription") == text
    when = tree.findtext(f".//{XMLNS}StateUpdatedTimestamp") or ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when), "times are in ISO 8601"
    assert tree.findtext(f".//{XMLNS}ActionsEnabled") == "true"
    post("DeleteAlarms", **{"AlarmNames.member.1": "query-text"})
