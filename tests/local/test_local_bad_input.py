"""Bad input for the whole server: bodies that no SDK sends, crowds, noise; the documented error, others unaffected."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kms_local.kms.service import OPERATIONS
from kms_local.testing import LocalAws, start_local_aws

EAST = "us-east-1"
KMS, CLOUDWATCH = "TrentService.", "GraniteServiceVersion20100801."
SIGNED_AS = {KMS: "kms", CLOUDWATCH: "monitoring"}
SERVICES = {KMS: "kms", CLOUDWATCH: "cloudwatch"}
JSON_TYPE = "application/x-amz-json-1.1"
MEBIBYTE = 1024 * 1024


@dataclass
class Server:
    """A running server, and requests for it that no SDK would send."""

    aws: LocalAws
    connections: dict[str, http.client.HTTPSConnection] = field(default_factory=dict)

    @cached_property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.aws.ca_bundle)

    def connection(self, prefix: str) -> http.client.HTTPSConnection:
        if prefix not in self.connections:
            host, port = self.address(prefix)
            self.connections[prefix] = http.client.HTTPSConnection(host, port, context=self.context, timeout=10)
        return self.connections[prefix]

    def address(self, prefix: str = KMS) -> tuple[str, int]:
        host, _, port = self.aws.urls(SERVICES[prefix])[EAST].removeprefix("https://").rpartition(":")
        return host, int(port)

    def ask(
        self, prefix: str, operation: str, body: bytes, content_type: str = JSON_TYPE, method: str = "POST"
    ) -> tuple[int, Any]:
        """Send one request, signed as it is, and return its status and its JSON."""
        url = self.aws.urls(SERVICES[prefix])[EAST]
        headers = {"X-Amz-Target": prefix + operation, "Content-Type": content_type}
        request = AWSRequest(method, f"{url}/", data=body, headers=headers)
        given = self.aws.endpoints["credentials"]
        credentials = Credentials(given["aws_access_key_id"], given["aws_secret_access_key"])
        SigV4Auth(credentials, SIGNED_AS[prefix], EAST).add_auth(request)
        connection = self.connection(prefix)
        connection.request(method, "/", body=body, headers=dict(request.headers))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def works(self) -> bool:
        """Say whether stock boto3 is served."""
        client = boto3.client("kms", **self.aws.client_settings("kms", EAST))
        try:
            return len(client.generate_random(NumberOfBytes=8)["Plaintext"]) == 8
        finally:
            client.close()

    @property
    def proc(self) -> Path:
        return Path("/proc") / str(self.aws.process.pid)

    def descriptors(self) -> int:
        return len(list((self.proc / "fd").iterdir()))

    def resident_bytes(self) -> int:
        pages = int((self.proc / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def said(self) -> str:
        return (self.aws.directory / "serve.log").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own: at the end of everything here it must have had nothing to say."""
    with start_local_aws(tmp_path_factory.mktemp("bad"), toxiproxy=False) as aws:
        made = Server(aws)
        yield made
        for connection in made.connections.values():
            connection.close()
        assert made.said() == ""


@pytest.mark.parametrize("prefix", [KMS, CLOUDWATCH], ids=["kms", "cloudwatch"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut-short"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"x"', id="text"),
        pytest.param(b"7" * 5000, id="long-number"),
        pytest.param(b'{"a":1}x', id="more-behind"),
        pytest.param(b'{"a":NaN}', id="nan"),
        pytest.param(b'{"a":-Infinity}', id="infinity"),
        pytest.param(b'{"a":"\xff"}', id="no-utf-8"),
        pytest.param('{"a":"b"}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"a":"\\ud800"}', id="half-a-character"),
        pytest.param(b"\x00", id="zero"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="deep-and-whole"),
    ],
)
def test_what_is_no_json_object_cannot_be_read(server: Server, prefix: str, body: bytes) -> None:
    """SerializationException, whatever is wrong with it."""
    operation = {KMS: "DescribeKey", CLOUDWATCH: "PutMetricData"}[prefix]

    assert server.ask(prefix, operation, body) == (400, {"__type": "SerializationException"})


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        pytest.param("application/x-amz-json-1.0", None, id="other-version"),
        pytest.param("application/json", None, id="plain-json"),
        pytest.param("APPLICATION/X-AMZ-JSON-1.1; charset=utf-8", None, id="parameters"),
        pytest.param("text/plain", "UnknownOperationException", id="text"),
        pytest.param("application/x-www-form-urlencoded", "UnknownOperationException", id="form"),
        pytest.param("application/jsonp", "UnknownOperationException", id="nearly"),
        pytest.param("", "UnknownOperationException", id="empty"),
    ],
)
def test_the_content_type_chooses_the_protocol(server: Server, content_type: str, code: str | None) -> None:
    """With another type than JSON the target is no operation."""
    status, answer = server.ask(KMS, "GenerateRandom", b'{"NumberOfBytes": 1}', content_type)

    assert (status, answer.get("__type")) == ((200, None) if code is None else (400, code))


@pytest.mark.parametrize("operation", ["CreateKey", "PutKeyPolicy"])
@pytest.mark.parametrize("policy", ["[" * 32_000, '{"Statement":' * 2000 + "1" + "}" * 2000], ids=["cut", "whole"])
def test_a_policy_nested_too_deeply_is_malformed(server: Server, operation: str, policy: str) -> None:
    """JSON inside JSON is read with the same care."""
    members = {"Policy": policy, "PolicyName": "default"}
    if operation == "PutKeyPolicy":
        members["KeyId"] = server.ask(KMS, "CreateKey", b"{}")[1]["KeyMetadata"]["KeyId"]

    status, answer = server.ask(KMS, operation, json.dumps(members).encode())

    assert (status, answer["__type"]) == (400, "MalformedPolicyDocumentException")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_no_operations(server: Server, method: str) -> None:
    """Only POST is."""
    assert server.ask(KMS, "ListKeys", b"{}", method=method) == (400, {"__type": "UnknownOperationException"})


def test_any_members_are_answered_or_refused(server: Server) -> None:
    """Two thousand requests of members and values at random: never a failure of the server's own."""
    rng = random.Random(4)
    key_id = server.ask(KMS, "CreateKey", b'{"MultiRegion": true}')[1]["KeyMetadata"]["KeyId"]
    values: list[Any] = [None, True, 0, -1, 30, 1.5, 1e308, 10**40, "", "x", "\x00", "é", "a" * 5000, "AAAA", "AES_256"]
    values += [
        key_id,
        "alias/x",
        "alias/aws/x",
        f"arn:aws:kms:{EAST}:123456789012:key/{key_id}",
        "arn:",
        "us-west-2",
        "{",
    ]
    values += [[], [1], ["a"], [None], {}, {"a": "b"}, {"a": 1}, [{}], [{"TagKey": "a", "TagValue": "b"}], "[" * 3000]
    members = ["KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "AliasName", "Plaintext", "CiphertextBlob"]
    members += ["EncryptionContext", "KeySpec", "NumberOfBytes", "Policy", "PolicyName", "Tags", "TagKeys", "Limit"]
    members += ["ReplicaRegion", "PrimaryRegion", "PendingWindowInDays", "Marker", "RotationPeriodInDays", "Operations"]
    members += ["Description", "GranteePrincipal", "GrantTokens", "DryRun", "MultiRegion", "EncryptionAlgorithm"]
    operations = sorted(OPERATIONS.keys() - {"DisableKey", "ScheduleKeyDeletion"})

    for _ in range(2000):
        body = {name: rng.choice(values) for name in rng.sample(members, rng.randint(0, 10))}
        operation = rng.choice(operations)
        status, answer = server.ask(KMS, operation, json.dumps(body).encode())
        assert status < 500, (operation, body, answer)


def test_a_thousand_connections_disturb_nobody(server: Server, eventually: Callable[..., None]) -> None:
    """All at once and silent, two hundred behind their handshake: accepted, bounded, and gone without a trace."""
    assert server.works()
    resident = server.resident_bytes()
    with contextlib.ExitStack() as stack:
        raws = []
        for _ in range(1000):
            raw = stack.enter_context(socket.socket())
            raw.settimeout(0)
            raw.connect_ex(server.address())
            raws.append(raw)
        for raw in raws[:200]:
            raw.settimeout(20)
            stack.enter_context(server.context.wrap_socket(raw, server_hostname="localhost"))

        assert server.works()
        eventually(lambda: server.descriptors() > 1000)
        assert server.resident_bytes() - resident < 60 * MEBIBYTE
    eventually(lambda: server.descriptors() < 100)


def test_connections_that_come_and_go_cost_nothing(server: Server) -> None:
    """Memory does not grow with the number of connections there have been, whether they end well or with a RST."""

    def come_and_go(count: int) -> None:
        for number in range(count):
            with (
                socket.create_connection(server.address(), 10) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert tls.recv(1000).startswith(b"HTTP/1.1 400 ")
                if number % 2:
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    context = server.context
    come_and_go(200)
    before = server.resident_bytes()
    come_and_go(600)

    assert server.resident_bytes() - before < 5 * MEBIBYTE


def test_noise_is_answered_or_cut_off(server: Server) -> None:
    """Random bytes, before and behind a handshake, in requests and instead of them: the server stays up and silent."""
    rng = random.Random(9)
    pieces = [
        b"POST / HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"0\r\n\r\n",
    ]
    pieces += [
        b"X-Amz-Target: TrentService.Decrypt\r\n",
        b"Authorization: AWS4-HMAC-SHA256 Credential=\xff/\r\n",
        b"{}",
    ]
    pieces += [
        b"Content-Encoding: gzip\r\n",
        b"Content-Type: text/xml\r\n",
        b"Expect: 100-continue\r\n",
        b"\x16\x03\x01",
    ]
    context = server.context
    for number in range(300):
        data = b"".join(
            rng.choice(pieces) if rng.random() < 0.8 else rng.randbytes(rng.randint(1, 40))
            for _ in range(rng.randint(1, 20))
        )
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            raw = stack.enter_context(socket.create_connection(server.address(), 10))
            if number % 3:
                raw = stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
            raw.sendall(data)
            raw.settimeout(0.01)
            raw.recv(65536)

    assert server.works()
    assert server.said() == ""
