"""Who gets in: signatures, TLS, connections; and what is logged of it."""

from __future__ import annotations

import concurrent.futures
import gzip
import http.client
import json
import socket
import ssl
from typing import Any

import pytest
from botocore.exceptions import ClientError, SSLError


def code_of(client: Any) -> str:
    with pytest.raises(ClientError) as caught:
        client.list_keys()
    return str(caught.value.response["Error"]["Code"])


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("https://").rpartition(":")
    return host, int(port)


def test_a_request_signed_for_another_region_is_refused(local_aws: Any) -> None:
    """A client of us-west-2 that reaches us-east-1 by mistake is told, as AWS tells it."""
    assert code_of(local_aws.client("kms", "us-east-1", signed_for="us-west-2")) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "UnrecognizedClientException", id="stranger"),
        pytest.param({"aws_secret_access_key": "wrong"}, "InvalidSignatureException", id="wrong-secret"),
    ],
)
def test_other_credentials_are_refused(local_aws: Any, more: dict[str, str], code: str) -> None:
    """Signatures are really checked."""
    assert code_of(local_aws.client("kms", **{**local_aws.endpoints["credentials"], **more})) == code


def test_an_unsigned_request_is_refused(local_aws: Any) -> None:
    """No signature, no answer."""
    client = local_aws.client("kms")
    host, port = address(client.meta.endpoint_url)
    connection = http.client.HTTPSConnection(
        host, port, context=ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"]), timeout=10
    )
    connection.request("POST", "/", body="{}", headers={"X-Amz-Target": "TrentService.ListKeys"})
    answer = connection.getresponse()

    assert answer.status == 400
    assert answer.headers["x-amzn-RequestId"]
    assert answer.headers["Date"].endswith("GMT")
    assert json.loads(answer.read())["__type"] == "MissingAuthenticationTokenException"
    connection.close()


def test_clients_without_the_private_ca_refuse_us(local_aws: Any) -> None:
    """The certificate is not one that the world trusts."""
    with pytest.raises(SSLError):
        local_aws.client("kms", verify=True).list_keys()


@pytest.mark.parametrize(
    ("name", "good"),
    [
        pytest.param("kms.us-east-1.amazonaws.com", True, id="real-name"),
        pytest.param("localhost", True, id="localhost"),
        pytest.param("127.0.0.1", True, id="address"),
        pytest.param("kms.us-west-2.amazonaws.com", False, id="other-region"),
        pytest.param("sns.us-east-1.amazonaws.com", False, id="other-service"),
    ],
)
def test_certificates_are_for_the_real_names(local_aws: Any, name: str, *, good: bool) -> None:
    """A listener's certificate is good for its own region's end point, localhost and 127.0.0.1, and for no other."""
    context = ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what newer versions of Python do by default
    where = address(local_aws.endpoints["regions"]["us-east-1"]["kms"])

    with socket.create_connection(where, 10) as raw:
        if good:
            context.wrap_socket(raw, server_hostname=name).close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(raw, server_hostname=name)


def test_many_calls_use_one_connection(local_aws: Any) -> None:
    """Connections are kept alive: fifty calls come from one port."""
    client = local_aws.client("kms", "eu-west-1")
    for _ in range(50):
        client.generate_random(NumberOfBytes=8)

    ports = {line["peer_port"] for line in local_aws.requests() if line["operation"] == "GenerateRandom"}
    newest = local_aws.requests()[-1]["peer_port"]
    assert newest in ports
    assert sum(line["peer_port"] == newest for line in local_aws.requests()) == 50


def test_a_stalled_handshake_keeps_nobody_waiting(local_aws: Any) -> None:
    """Twenty clients connect and say nothing, and the twenty-first is answered before its own time out of 10 s."""
    where = address(local_aws.endpoints["regions"]["us-west-2"]["kms"])
    stalled = [socket.create_connection(where, 10) for _ in range(20)]

    local_aws.client("kms", "us-west-2").list_keys()

    for raw in stalled:  # the server's own limit on handshakes is 30 s: they are all still there
        raw.settimeout(0)
        with pytest.raises(BlockingIOError):
            raw.recv(1)
        raw.close()


def test_clients_at_once_all_get_their_own_answer(local_aws: Any) -> None:
    """Eight threads on one client: each call is answered with what it asked for."""
    client = local_aws.client("kms")
    key_id = client.create_key()["KeyMetadata"]["KeyId"]

    def round_trip(number: int) -> bool:
        plaintext = b"%d" % number
        blob = client.encrypt(KeyId=key_id, Plaintext=plaintext)["CiphertextBlob"]
        return bool(client.decrypt(CiphertextBlob=blob)["Plaintext"] == plaintext)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(80)))


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        pytest.param("TrentService.ListKeys", b"{", "SerializationException", id="broken-json"),
        pytest.param("TrentService.ListKeys", b"[]", "SerializationException", id="not-an-object"),
        pytest.param("TrentService.DescribeKey", b'{"KeyId": 7}', "SerializationException", id="wrong-type"),
        pytest.param("TrentService.DescribeKey", b"{}", "ValidationException", id="missing-member"),
        pytest.param("TrentService.Nonsense", b"{}", "UnknownOperationException", id="unknown-operation"),
        pytest.param("Other.ListKeys", b"{}", "UnknownOperationException", id="other-service"),
    ],
)
def test_malformed_requests_have_the_documented_error(local_aws: Any, target: str, body: bytes, code: str) -> None:
    """What boto3 would never send is refused with a code, and the connection goes on."""
    client = local_aws.client("kms")

    def replace(params: dict[str, Any], **_: Any) -> None:
        params["body"] = body
        params["headers"]["X-Amz-Target"] = target

    client.meta.events.register("before-call.kms.ListKeys", replace)
    assert code_of(client) == code
    client.meta.events.unregister("before-call.kms.ListKeys", replace)
    client.list_keys()


def test_compressed_bodies_are_read(local_aws: Any) -> None:
    """A body sent with gzip means what it says; a broken one is refused."""
    client = local_aws.client("kms")

    def compress(params: dict[str, Any], **_: Any) -> None:
        params["body"] = gzip.compress(b'{"NumberOfBytes": 3}')
        params["headers"]["Content-Encoding"] = "gzip"

    client.meta.events.register("before-call.kms.GenerateRandom", compress)

    assert len(client.generate_random(NumberOfBytes=999)["Plaintext"]) == 3


def test_an_oversized_body_is_refused(local_aws: Any) -> None:
    """A body beyond the limit is answered with 413, without being kept."""
    where = address(local_aws.endpoints["regions"]["us-east-1"]["kms"])
    context = ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"])
    with socket.create_connection(where, 10) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        tls.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + bytes(2 * 1024 * 1024 + 1))

        assert tls.recv(100).startswith(b"HTTP/1.1 413 ")


def test_what_is_not_http_is_refused(local_aws: Any) -> None:
    """Garbage inside TLS is answered with 400, and the connection ends."""
    where = address(local_aws.endpoints["regions"]["us-east-1"]["kms"])
    context = ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"])
    with socket.create_connection(where, 10) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        tls.sendall(b"hello?\r\n\r\n")
        answer = b""
        while more := tls.recv(1000):
            answer += more

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_the_request_log_tells_what_was_asked(local_aws: Any) -> None:
    """A line a request: region, operation, key, fingerprint of the context, result; never the context itself."""
    client = local_aws.client("kms", "eu-west-1")
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    made = client.generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext={"canary": "very-secret"})
    with pytest.raises(ClientError):
        client.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"canary": "other"})

    lines = [line for line in local_aws.requests() if line["region"] == "eu-west-1"][-2:]

    assert [line["operation"] for line in lines] == ["GenerateDataKey", "Decrypt"]
    assert [line["result"] for line in lines] == ["ok", "InvalidCiphertextException"]
    assert lines[0]["key_id"].endswith(key_id)
    assert lines[0]["context_sha256"] != lines[1]["context_sha256"]
    assert lines[0]["request_id"] == made["ResponseMetadata"]["RequestId"]
    assert "very-secret" not in (local_aws.directory / "requests.ndjson").read_text()


def test_faults_are_switched_at_run_time(local_aws: Any, stopwatch: Any) -> None:
    """An API fault hits its region and operation alone, and is gone when it is switched off."""
    east, west = local_aws.client("kms", "us-east-1"), local_aws.client("kms", "us-west-2")
    key_id = east.create_key()["KeyMetadata"]["KeyId"]
    fault = {"service": "kms", "region": "us-east-1", "operation": "ListKeys", "error_code": "ThrottlingException"}

    assert local_aws.admin("POST", "/faults", fault)[0] == 201
    assert local_aws.admin("POST", "/faults", {"operation": "ListAliases", "latency_ms": 300})[0] == 201
    try:
        assert code_of(east) == "ThrottlingException"
        west.list_keys()
        east.describe_key(KeyId=key_id)
        watch = stopwatch()
        east.list_aliases()
        assert watch.seconds() >= 0.3
        assert len(local_aws.admin("GET", "/state")[1]["faults"]) == 2
    finally:
        assert local_aws.admin("DELETE", "/faults")[0] == 204
    east.list_keys()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"error_code": "X", "rate": 2}, id="rate"),
        pytest.param({"error_code": "X", "nonsense": 1}, id="unknown-member"),
        pytest.param({"error_code": 5}, id="type"),
        pytest.param([], id="not-an-object"),
    ],
)
def test_bad_faults_are_refused(local_aws: Any, fault: object) -> None:
    """The admin API says what is wrong and switches nothing on."""
    assert local_aws.admin("POST", "/faults", fault)[0] == 400


def test_the_admin_api_wants_its_token(local_aws: Any) -> None:
    """Without the token of endpoints.json nothing is answered."""
    assert local_aws.admin("GET", "/state", token="wrong")[0] == 401
    assert local_aws.admin("GET", "/nonsense")[0] == 404


def test_the_state_shows_keys_and_aliases(local_aws: Any) -> None:
    """GET /state tells what a test wants to know about the estate."""
    client = local_aws.client("kms")
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName=f"alias/{key_id}", TargetKeyId=key_id)

    state = local_aws.admin("GET", "/state")[1]["regions"]["us-east-1"]

    assert state["keys"][key_id] == "Enabled"
    assert state["aliases"][f"alias/{key_id}"] == key_id
