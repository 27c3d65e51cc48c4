"""CBOR: the examples of RFC 8949, round trips, and whatever else a client may send."""

from __future__ import annotations

import http.client
import math
import ssl
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from kms_local.wire.cbor import Time, decode, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param("00", 0, id="zero"),
        pytest.param("1903e8", 1000, id="two-bytes"),
        pytest.param("1bffffffffffffffff", 2**64 - 1, id="eight-bytes"),
        pytest.param("3903e7", -1000, id="negative"),
        pytest.param("f93c00", 1.0, id="half"),
        pytest.param("fa47c35000", 100_000.0, id="single"),
        pytest.param("fb3ff199999999999a", 1.1, id="double"),
        pytest.param("f4", False, id="false"),
        pytest.param("f6", None, id="null"),
        pytest.param("f7", None, id="undefined"),
        pytest.param("c11a514b67b0", 1_363_896_240, id="time-of-seconds"),
        pytest.param("c1fb41d452d9ec200000", 1_363_896_240.5, id="time-of-fractions"),
        pytest.param("4401020304", b"\x01\x02\x03\x04", id="bytes"),
        pytest.param("62c3bc", "ü", id="text"),
        pytest.param("7f657374726561646d696e67ff", "streaming", id="text-in-pieces"),
        pytest.param("9f018202039f0405ffff", [1, [2, 3], [4, 5]], id="lists-without-length"),
        pytest.param("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}, id="map-without-length"),
        pytest.param("a26161016162820203", {"a": 1, "b": [2, 3]}, id="map"),
    ],
)
def test_examples_of_the_rfc(encoded: str, expected: object) -> None:
    """Appendix A of RFC 8949, as far as SDKs write it."""
    assert decode(bytes.fromhex(encoded)) == expected


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("", id="nothing"),
        pytest.param("0000", id="two-values"),
        pytest.param("19ff", id="cut-short"),
        pytest.param("9bffffffffffffffff", id="a-list-of-more-than-there-is"),
        pytest.param("bbffffffffffffffff", id="a-map-of-more-than-there-is"),
        pytest.param("7bffffffffffffffff", id="a-text-of-more-than-there-is"),
        pytest.param("1c", id="reserved-argument"),
        pytest.param("f8ff", id="simple-value"),
        pytest.param("ff", id="break-alone"),
        pytest.param("9f01", id="no-end"),
        pytest.param("bf616101", id="no-end-of-a-map"),
        pytest.param("7f01ff", id="piece-of-another-kind"),
        pytest.param("7f7f61ffffff", id="pieces-in-pieces"),
        pytest.param("a10102", id="key-that-is-no-text"),
        pytest.param("a2616101616102", id="key-twice"),
        pytest.param("62ffff", id="not-utf-8"),
        pytest.param("81" * 100_000, id="too-deep"),
        pytest.param("c1" * 100_000, id="tags-too-deep"),
    ],
)
def test_what_is_no_value_is_refused(encoded: str) -> None:
    """Nothing is read beyond what is there, and nothing is made of less than a whole."""
    with pytest.raises(ValueError, match=r"."):
        decode(bytes.fromhex(encoded))


@given(VALUES)
def test_values_come_back(value: object) -> None:
    """What is encoded is decoded to the same."""
    assert decode(encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever comes, it ends, with a value or with a ValueError."""
    try:
        decode(data)
    except ValueError:
        return


def test_times_and_infinities() -> None:
    """A time is tag 1 around a double; a number that is none is a number all the same."""
    assert encode(Time(1_363_896_240.5)).hex() == "c1fb41d452d9ec200000"
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode(-math.inf)) == -math.inf


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        pytest.param("DescribeAlarms", b"", (200, None), id="no-body"),
        pytest.param("DescribeAlarms", b"\xff", (400, "SerializationException"), id="no-cbor"),
        pytest.param("DescribeAlarms", encode([1]), (400, "SerializationException"), id="no-map"),
        pytest.param("DescribeAlarms", encode({"MaxRecords": "1"}), (400, "SerializationException"), id="type"),
        pytest.param("Frobnicate", encode({}), (400, "UnknownOperationException"), id="operation"),
        pytest.param("DeleteAlarms", encode({"AlarmNames": ["x"]}), (404, "ResourceNotFound"), id="nobody"),
    ],
)
def test_refusals_over_the_wire(local_aws: Any, operation: str, body: bytes, expected: tuple[int, str | None]) -> None:
    """Statuses and types are those of the JSON protocol."""
    document = local_aws.endpoints
    host = document["regions"]["us-east-1"]["cloudwatch"].removeprefix("https://")
    keys = document["credentials"]
    path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
    request = AWSRequest("POST", f"https://{host}{path}", data=body, headers={"Host": host})
    SigV4Auth(
        Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"]), "monitoring", "us-east-1"
    ).add_auth(request)
    connection = http.client.HTTPSConnection(
        host, timeout=10, context=ssl.create_default_context(cafile=document["ca_bundle"])
    )
    connection.request("POST", path, body=body, headers=dict(request.headers))
    answer = connection.getresponse()
    members = decode(answer.read())
    connection.close()

    assert (answer.status, members.get("__type")) == expected
    assert answer.headers["smithy-protocol"] == "rpc-v2-cbor"
