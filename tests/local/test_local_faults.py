"""Faults of the API: whom they hit, what they do, when they end; by value, and through stock boto3 over TLS."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from kms_local.faults import Fate, Fault, Faults, parse_fault
from kms_local.kms.keys import KeyState
from kms_local.wire.errors import ServiceError

EAST, WEST = "us-east-1", "us-west-2"
CONTEXT = {"canary": "faults"}


class ManualClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def faults(clock: ManualClock) -> Faults:
    return Faults(random.Random(7), clock)


def outcome(faults: Faults, operation: str = "Decrypt", service: str = "kms", names: tuple[str, ...] = ()) -> str:
    """Send one request past the faults; return `ok` or its error and status."""
    try:
        asyncio.run(faults.suffer(service=service, region=EAST, operation=operation, key_names=lambda: names))
    except ServiceError as error:
        return f"{error.code} {error.status}"
    return "ok"


# -- by value -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "service", "expected"),
    [
        pytest.param({"error_code": "ThrottlingException"}, "kms", "ThrottlingException 400", id="throttled"),
        pytest.param({"error_code": "AccessDeniedException"}, "kms", "AccessDeniedException 400", id="denied"),
        pytest.param({"error_code": "KMSInternalException"}, "kms", "KMSInternalException 500", id="internal"),
        pytest.param({"error_code": "KeyUnavailableException"}, "kms", "KeyUnavailableException 500", id="key"),
        pytest.param({"error_code": "DependencyTimeoutException"}, "kms", "DependencyTimeoutException 503", id="503"),
        pytest.param({"error_code": "AccessDenied"}, "sts", "AccessDenied 403", id="denied-query"),
        pytest.param({"error_code": "AuthorizationError"}, "sns", "AuthorizationError 403", id="denied-sns"),
        pytest.param({"error_code": "Throttled"}, "sns", "Throttled 429", id="throttled-sns"),
        pytest.param({"error_code": "Whatever"}, "kms", "Whatever 400", id="own-code"),
        pytest.param({"error_code": "Whatever", "status": 418}, "kms", "Whatever 418", id="own-status"),
        pytest.param({"status": 502}, "kms", "KMSInternalException 502", id="bare-status"),
        pytest.param({"status": 500}, "cloudwatch", "InternalServiceError 500", id="bare-status-cloudwatch"),
        pytest.param({"status": 503}, "sns", "InternalError 503", id="bare-status-sns"),
        pytest.param({"status": 599}, "sts", "InternalFailure 599", id="bare-status-sts"),
        pytest.param({"per_second": 0}, "kms", "ThrottlingException 400", id="limit"),
        pytest.param({"per_second": 0}, "cloudwatch", "Throttling 400", id="limit-cloudwatch"),
    ],
)
def test_errors_have_their_status(faults: Faults, members: dict[str, Any], service: str, expected: str) -> None:
    """A code brings its HTTP status, a status alone the code of the service."""
    faults.add(parse_fault(members))

    assert outcome(faults, service=service) == expected


def test_a_limit_lets_through_what_is_below_it(faults: Faults, clock: ManualClock) -> None:
    """Ten a second: ten at once and the eleventh not; half a second later five more."""
    faults.add(parse_fault({"per_second": 10}))

    assert [outcome(faults) for _ in range(11)].count("ok") == 10
    clock.time += 0.5
    assert [outcome(faults) for _ in range(11)].count("ok") == 5
    clock.time += 3600
    assert [outcome(faults) for _ in range(11)].count("ok") == 10


def test_a_limit_below_one_a_second_still_lets_some_through(faults: Faults, clock: ManualClock) -> None:
    """One in ten seconds is one now and the next in ten seconds."""
    faults.add(parse_fault({"per_second": 0.1}))

    assert [outcome(faults), outcome(faults)] == ["ok", "ThrottlingException 400"]
    clock.time += 9
    assert outcome(faults) != "ok"
    clock.time += 1.1
    assert outcome(faults) == "ok"


def test_a_rate_hits_its_share(faults: Faults) -> None:
    """A quarter means about a quarter."""
    faults.add(parse_fault({"error_code": "X", "rate": 0.25}))

    assert 200 < [outcome(faults) for _ in range(1000)].count("X 400") < 300


def test_a_fault_ends_after_its_hits(faults: Faults) -> None:
    """`times` counts hits, not what passes by, and the fault is gone afterwards."""
    faults.add(parse_fault({"error_code": "X", "times": 2, "operation": "Decrypt"}))

    assert [outcome(faults, name) for name in ("Decrypt", "Encrypt", "Decrypt", "Decrypt")] == [
        "X 400",
        "ok",
        "X 400",
        "ok",
    ]
    assert faults.active() == []


def test_a_fault_ends_after_its_time(faults: Faults, clock: ManualClock) -> None:
    """`seconds` from when it was switched on; what is left is told."""
    number = faults.add(parse_fault({"error_code": "X", "seconds": 60}))
    clock.time += 59
    assert outcome(faults) == "X 400"
    assert faults.active() == [{"id": number, "error_code": "X", "seconds": 60, "hits": 1, "seconds_left": 1.0}]
    clock.time += 1

    assert outcome(faults) == "ok"
    assert faults.active() == []
    assert not faults.remove(number)


@pytest.mark.parametrize(
    ("meant", "names", "hit"),
    [
        pytest.param("*", (), True, id="any"),
        pytest.param("k1", ("k1", "arn:k1", "alias/a"), True, id="id"),
        pytest.param("alias/a", ("k1", "arn:k1", "alias/a"), True, id="alias"),
        pytest.param("k", ("k1",), False, id="part-of-an-id"),
        pytest.param("k1", (), False, id="no-key"),
    ],
)
def test_a_key_is_meant_by_a_whole_name(faults: Faults, meant: str, names: tuple[str, ...], *, hit: bool) -> None:
    """Any of a key's names means it, and half a name means nothing."""
    faults.add(parse_fault({"error_code": "X", "key_id": meant}))

    assert (outcome(faults, names=names) == "X 400") is hit


def test_key_states_reach_only_what_uses_a_key(faults: Faults) -> None:
    """The operation learns the state; others are left alone."""
    faults.add(parse_fault({"key_state": "Disabled", "key_id": "k1"}))

    def fate(operation: str, service: str = "kms") -> Fate:
        return asyncio.run(faults.suffer(service=service, region=EAST, operation=operation, key_names=lambda: ("k1",)))

    assert fate("Decrypt").key_states == (("k1", KeyState.DISABLED),)
    assert fate("EnableKey") == fate("Decrypt", "cloudwatch") == Fate()


@pytest.mark.parametrize(
    ("members", "named"),
    [
        pytest.param({}, "error_code", id="nothing"),
        pytest.param({"error_code": "X", "rate": 1.5}, "rate", id="rate"),
        pytest.param({"error_code": "X", "rate": float("nan")}, "rate", id="nan"),
        pytest.param({"error_code": "X", "rate": True}, "rate", id="rate-type"),
        pytest.param({"error_code": 5}, "error_code", id="code-type"),
        pytest.param({"error_code": "X", "nonsense": 1}, "nonsense", id="unknown"),
        pytest.param({"error_code": "X", "times": 0}, "times", id="times"),
        pytest.param({"error_code": "X", "times": 1.5}, "times", id="times-type"),
        pytest.param({"error_code": "X", "seconds": -1}, "seconds", id="seconds"),
        pytest.param({"status": 200}, "status", id="status"),
        pytest.param({"status": 404}, "status", id="status-without-code"),
        pytest.param({"latency_ms": 10**9}, "latency_ms", id="latency"),
        pytest.param({"jitter_ms": -1}, "jitter_ms", id="jitter"),
        pytest.param({"truncate_at": -1}, "truncate_at", id="cut"),
        pytest.param({"truncate_head": True, "error_code": "X"}, "truncate_head", id="cut-head"),
        pytest.param({"truncate_at": 1, "truncate_with": "kill"}, "truncate_with", id="cut-with"),
        pytest.param({"truncate_at": 1, "truncate_head": "yes"}, "truncate_head", id="cut-head-type"),
        pytest.param({"key_state": "Broken"}, "key_state", id="state"),
        pytest.param({"key_state": "Disabled", "service": "sns"}, "service", id="state-service"),
        pytest.param({"key_state": "Disabled", "operation": "ListKeys"}, "operation", id="state-operation"),
        pytest.param({"per_second": -1}, "per_second", id="limit"),
    ],
)
def test_a_mistake_is_named(members: dict[str, Any], named: str) -> None:
    """The text says which member is wrong."""
    with pytest.raises(ValueError, match=named):
        parse_fault(members)


def test_null_is_not_given() -> None:
    """A member that is null has its default."""
    assert parse_fault({"error_code": "X", "times": None}) == Fault(error_code="X")


# -- over the wire ------------------------------------------------------------------------------------------------


@pytest.fixture
def switch_on(local_aws: Any) -> Iterator[Callable[..., int]]:
    """Switch faults on through the admin API; all are off afterwards."""

    def add(**members: Any) -> int:
        status, answer = local_aws.admin("POST", "/faults", members)
        assert status == 201, answer
        return int(answer["id"])

    yield add
    assert local_aws.admin("DELETE", "/faults")[0] == 204


@pytest.fixture
def key(local_aws: Any) -> str:
    """A key of us-east-1 with a replica in us-west-2."""
    east = local_aws.client("kms", EAST)
    key_id = str(east.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"])
    east.replicate_key(KeyId=key_id, ReplicaRegion=WEST)
    return key_id


def error_of(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return str(response["Error"]["Code"]), int(response["ResponseMetadata"]["HTTPStatusCode"])


def test_one_fault_is_switched_off_alone(local_aws: Any, switch_on: Callable[..., int]) -> None:
    """DELETE /faults/N ends that one; a second time it is not there any more."""
    first = switch_on(operation="ListKeys", error_code="A")
    second = switch_on(operation="ListAliases", error_code="B")

    assert local_aws.admin("DELETE", f"/faults/{first}")[0] == 204
    assert local_aws.admin("DELETE", f"/faults/{first}")[0] == 404
    assert local_aws.admin("DELETE", "/faults/x")[0] == 404
    assert [one["id"] for one in local_aws.admin("GET", "/faults")[1]["faults"]] == [second]
    assert local_aws.admin("PUT", "/faults", {})[0] == 404


@pytest.mark.parametrize("meant", ["id", "arn", "alias", "alias-arn"])
@pytest.mark.parametrize("named", ["id", "arn", "alias"])
def test_a_key_is_denied_under_every_name(
    local_aws: Any, switch_on: Callable[..., int], meant: str, named: str
) -> None:
    """However a fault and a request call a key: it is that key, and no other one."""
    client = local_aws.client("kms", EAST)
    meta = client.create_key()["KeyMetadata"]
    other = client.create_key()["KeyMetadata"]["KeyId"]
    alias = f"alias/{meta['KeyId']}"
    client.create_alias(AliasName=alias, TargetKeyId=meta["KeyId"])
    names = {
        "id": meta["KeyId"],
        "arn": meta["Arn"],
        "alias": alias,
        "alias-arn": meta["Arn"].replace("key/", "alias/", 1),
    }
    blob = client.encrypt(KeyId=meta["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    switch_on(region=EAST, key_id=names[meant], error_code="AccessDeniedException")

    assert error_of(lambda: client.encrypt(KeyId=names[named], Plaintext=b"x")) == ("AccessDeniedException", 400)
    assert error_of(lambda: client.decrypt(CiphertextBlob=blob)) == ("AccessDeniedException", 400)
    client.encrypt(KeyId=other, Plaintext=b"x")


def test_other_services_have_their_own_errors(local_aws: Any, switch_on: Callable[..., int]) -> None:
    """A status alone means each service's own internal error; a denial is 403 in the query protocol."""
    sns, sts, cloudwatch = (local_aws.client(name) for name in ("sns", "sts", "cloudwatch"))
    switch_on(service="sns", error_code="AuthorizationError")
    switch_on(service="sts", status=503)
    switch_on(service="cloudwatch", per_second=0)

    assert error_of(lambda: sns.create_topic(Name="x")) == ("AuthorizationError", 403)
    assert error_of(sts.get_caller_identity) == ("InternalFailure", 503)
    assert error_of(cloudwatch.list_metrics) == ("Throttling", 400)


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        pytest.param("Disabled", "DisabledException", "is disabled", id="disabled"),
        pytest.param("PendingDeletion", "KMSInvalidStateException", "is pending deletion", id="pending-deletion"),
        pytest.param("PendingReplicaDeletion", "KMSInvalidStateException", "is pending replica", id="pending-replica"),
        pytest.param("Creating", "KMSInvalidStateException", "is creating", id="creating"),
        pytest.param("Unavailable", "KMSInvalidStateException", "is unavailable", id="unavailable"),
    ],
)
def test_a_key_seems_to_be_in_a_state(
    local_aws: Any, switch_on: Callable[..., int], key: str, state: str, code: str, words: str
) -> None:
    """In one region it looks and behaves like that, in the other it works, and afterwards nothing has happened."""
    east, west = local_aws.client("kms", EAST), local_aws.client("kms", WEST)
    blob = east.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)["CiphertextBlob"]
    before = east.describe_key(KeyId=key)["KeyMetadata"]
    number = switch_on(region=EAST, key_id=key, key_state=state)

    with pytest.raises(ClientError, match=words):
        east.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert error_of(lambda: east.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT))[0] == code
    seen = east.describe_key(KeyId=key)["KeyMetadata"]
    assert (seen["KeyState"], seen["Enabled"]) == (state, False)
    assert ("DeletionDate" in seen) is (state == "PendingDeletion")
    east.generate_random(NumberOfBytes=1)
    assert west.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] in {"Creating", "Enabled"}
    assert local_aws.admin("GET", "/state")[1]["regions"][EAST]["keys"][key] == "Enabled"
    assert local_aws.admin("DELETE", f"/faults/{number}")[0] == 204

    assert east.describe_key(KeyId=key)["KeyMetadata"] == before
    assert east.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["KeyId"] == before["Arn"]


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_cut_answer_is_a_success_to_boto3(
    local_aws: Any, switch_on: Callable[..., int], key: str, ending: str
) -> None:
    """The trap itself: HTTP 200, no error, no retry, and nothing in it."""
    client = local_aws.client("kms", EAST)
    client.list_keys()
    switch_on(operation="GenerateDataKey", truncate_at=40, truncate_with=ending, times=1)

    answer = client.generate_data_key(KeyId=key, KeySpec="AES_256")

    assert answer.keys() == {"ResponseMetadata"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert len(client.generate_data_key(KeyId=key, KeySpec="AES_256")["Plaintext"]) == 32


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_an_answer_without_a_status_line_is_an_error(
    local_aws: Any, switch_on: Callable[..., int], ending: str
) -> None:
    """Cut before the status line is complete, the connection is closed and nothing else."""
    client = local_aws.client("kms", EAST)
    client.list_keys()
    switch_on(operation="ListKeys", truncate_at=0, truncate_head=True, truncate_with=ending, times=1)

    with pytest.raises(ConnectionClosedError):
        client.list_keys()
    client.list_keys()


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"truncate_at": 0}, b"", id="no-body"),
        pytest.param({"truncate_at": 7}, b'{"__typ', id="in-the-body"),
        pytest.param({"truncate_at": 100_000}, b'{"__type":"X","message":""}', id="behind-the-body"),
    ],
)
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_an_answer_is_cut_at_the_byte(
    local_aws: Any, switch_on: Callable[..., int], members: dict[str, Any], expected: bytes, ending: str
) -> None:
    """The head arrives whole, the body up to the byte, error answers too; then FIN or RST."""
    switch_on(operation="ListKeys", error_code="X", truncate_with=ending, **members)

    received, end = _raw_answer(local_aws, "ListKeys")

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Length: 27" in head
    assert body == expected
    assert end == ending


def test_an_answer_is_cut_in_its_head(local_aws: Any, switch_on: Callable[..., int]) -> None:
    """With `truncate_head` the byte is counted from the status line on."""
    switch_on(operation="ListKeys", truncate_at=12, truncate_head=True)

    assert _raw_answer(local_aws, "ListKeys") == (b"HTTP/1.1 200", "fin")


def _raw_answer(local_aws: Any, operation: str) -> tuple[bytes, str]:
    """Send what boto3 would, and return what comes back and how TCP ended: `ssl`'s own sockets do not tell a RST."""
    client = local_aws.client("kms", EAST)
    request = _as_boto3_sends(client, operation)
    host, _, port = client.meta.endpoint_url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    received, end = b"", ""
    with socket.create_connection((host, int(port)), 10) as raw:
        for step in (lambda: tls.do_handshake() or 1, lambda: tls.write(request), lambda: tls.read(65536)):
            done: int | bytes | None = None
            while not end and not isinstance(done, int):
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    done = None
                if outgoing.pending:
                    raw.sendall(outgoing.read())
                if done is None:
                    end = _take(raw, incoming)
                elif isinstance(done, bytes):
                    received += done
                    end = "" if done else "a last word of TLS"
    return received, end


def _take(raw: socket.socket, incoming: ssl.MemoryBIO) -> str:
    try:
        data = raw.recv(65536)
    except ConnectionResetError:
        return "rst"
    incoming.write(data)
    return "" if data else "fin"


def _as_boto3_sends(client: Any, operation: str) -> bytes:
    found: list[bytes] = []

    def keep(request: Any, **_: Any) -> None:
        lines = [
            f"{name}: {value if isinstance(value, str) else value.decode()}" for name, value in request.headers.items()
        ]
        host = client.meta.endpoint_url.removeprefix("https://")
        found.append("\r\n".join(["POST / HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode() + request.body)
        raise InterruptedError

    client.meta.events.register(f"before-send.kms.{operation}", keep)
    with pytest.raises(InterruptedError):
        client.list_keys()
    return found[0]


def test_slow_answers_are_slow(local_aws: Any, switch_on: Callable[..., int], stopwatch: Any) -> None:
    """Latency adds up over faults; others go on meanwhile."""
    east, west = local_aws.client("kms", EAST), local_aws.client("kms", WEST)
    east.list_keys()
    switch_on(region=EAST, operation="ListKeys", latency_ms=300, jitter_ms=100)
    switch_on(region=EAST, operation="ListKeys", latency_ms=100)
    watch = stopwatch()
    east.list_keys()

    assert watch.seconds() >= 0.3
    west.list_keys()
    assert watch.seconds() < 5


def test_admin_errors_name_the_member(local_aws: Any) -> None:
    """What is wrong with a fault comes back as text, JSON that is nested too deeply too."""
    status, answer = local_aws.admin("POST", "/faults", {"error_code": "X", "rate": 7})

    assert (status, answer["error"]) == (400, "rate must be in 0..1, not 7")


# -- the command --------------------------------------------------------------------------------------------------


def fault_command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kms-local fault` for the server of a directory."""
    verb, *more = arguments
    return subprocess.run(
        [sys.executable, "-m", "kms_local", "fault", verb, "--dir", str(directory), *more],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_command_switches_on_and_off(local_aws: Any, switch_on: Callable[..., int]) -> None:
    """Add prints a number, list shows what is on, clear ends it; a mistake is one line and exit code 2."""
    first = switch_on(operation="ListAliases", error_code="A")
    added = fault_command(local_aws.directory, "add", "--operation", "ListKeys", "--error-code", "B", "--times", "5")
    number = added.stdout.strip()
    assert error_of(local_aws.client("kms", EAST).list_keys) == ("B", 400)
    listed = [json.loads(line) for line in fault_command(local_aws.directory, "list").stdout.splitlines()]
    assert [(one["id"], one["hits"]) for one in listed] == [(first, 0), (int(number), 1)]
    assert listed[1]["times"] == 5

    assert fault_command(local_aws.directory, "clear", number).returncode == 0
    assert [one["id"] for one in local_aws.admin("GET", "/faults")[1]["faults"]] == [first]
    assert fault_command(local_aws.directory, "clear").returncode == 0
    assert local_aws.admin("GET", "/faults")[1]["faults"] == []
    for arguments in (("add", "--rate", "7", "--error-code", "X"), ("clear", "999")):
        failed = fault_command(local_aws.directory, *arguments)
        assert (failed.returncode, failed.stderr.count("\n")) == (2, 1), failed


def test_the_command_needs_a_server(tmp_path: Path) -> None:
    """A directory without one is named."""
    failed = fault_command(tmp_path, "list")

    assert failed.returncode == 2
    assert failed.stderr == f"kms-local fault: no server runs in {tmp_path}: there is no endpoints.json\n"
