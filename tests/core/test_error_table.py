"""Every row of the error table through botocore and real sockets: who is asked next, what counts, how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ports
import pytest
from tls_kms import Answer, Rude, TlsKms, certificate, deaf_port

from kms_core import Core, CoreConfig, KeyConfig
from kms_core.errors import KmsCoreError, KmsDeniedError, KmsUnavailableError, MessageError
from kms_core.events import Attempt, BreakerMoved, KeyQuarantined
from kms_core.taxonomy import is_unclassified
from kms_core.testing import FakeEstate

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
ONCE = [EAST]
TWICE = [EAST, EAST]
HOP = [EAST, WEST]
AGAIN_THEN_HOP = [EAST, EAST, WEST]

pytestmark = pytest.mark.usefixtures("made_up_credentials")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return {name: certificate(folder, name) for name in ("127.0.0.1", "kms.example.test")}


@pytest.fixture
def servers(real_estate: FakeEstate, certificates: dict[str, Path]) -> Iterator[dict[str, TlsKms]]:
    made = {region: TlsKms(kms, certificates["127.0.0.1"]) for region, kms in real_estate.kms.items()}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture
def real_config(real_estate: FakeEstate, servers: dict[str, TlsKms], certificates: dict[str, Path]) -> CoreConfig:
    """A breaker opens at the first failure that counts, so one call shows whether one does."""
    aliases = real_estate[EAST].aliases
    return CoreConfig(
        account_id="123456789012",
        regions=(EAST, WEST, IRELAND),
        home_region=EAST,
        keys={
            name: KeyConfig(alias=f"alias/{name}", key_id=aliases[f"alias/{name}"]) for name in ("general", "payment")
        },
        endpoints={region: server.url for region, server in servers.items()},
        ca_bundle=str(certificates["127.0.0.1"]),
        circuit_breaker_threshold=1,
        deadline_seconds=60.0,
        connect_timeout_seconds=10.0,
        read_timeout_seconds=10.0,
        attempt_timeout_seconds=20.0,  # generous: what these tests judge is the answer, on a machine that may be busy
        slow_call_seconds=20.0,
    )


IMPATIENT: dict[str, Any] = {
    "connect_timeout_seconds": 0.3,
    "read_timeout_seconds": 0.3,
    "attempt_timeout_seconds": 0.5,
}
"""For servers that never answer."""


def sealed(core: Core, purpose: str = "general") -> KmsCoreError | None:
    """Seal once, and return the error that it ended with, or None."""
    try:
        core.encrypt(b"x", purpose=purpose, context={"canary": "true"})
    except KmsCoreError as e:
        return e
    return None


def counted(recorder: Any, region: str = EAST) -> bool:
    return any(move.region == region and move.new == "open" for move in recorder.of(BreakerMoved))


@dataclasses.dataclass(frozen=True)
class Row:
    """What the table says of one answer."""

    status: int
    code: str
    asked: list[str]
    ends_as: type[KmsCoreError] | None
    counts: bool = False
    quarantines: bool = False


SOON = {"x-amz-retry-after": "1"}
ROWS = [
    Row(500, "KMSInternalException", AGAIN_THEN_HOP, None, counts=True),
    Row(503, "DependencyTimeoutException", AGAIN_THEN_HOP, None, counts=True),
    Row(500, "KeyUnavailableException", AGAIN_THEN_HOP, None, counts=True),
    Row(502, "BadGateway", AGAIN_THEN_HOP, None, counts=True),
    Row(400, "ThrottlingException", AGAIN_THEN_HOP, None),
    Row(429, "TooManyRequests", AGAIN_THEN_HOP, None),
    Row(400, "SlowDown", AGAIN_THEN_HOP, None),
    Row(400, "AccessDeniedException", ONCE, KmsDeniedError),
    Row(400, "InvalidCiphertextException", ONCE, MessageError),
    Row(400, "IncorrectKeyException", ONCE, MessageError),
    Row(400, "InvalidKeyUsageException", ONCE, KmsDeniedError),
    Row(400, "ValidationException", ONCE, KmsDeniedError),
    Row(400, "InvalidArnException", ONCE, KmsDeniedError),
    Row(400, "DisabledException", HOP, None, quarantines=True),
    Row(400, "KMSInvalidStateException", HOP, None, quarantines=True),
    Row(400, "NotFoundException", HOP, None, quarantines=True),
    Row(400, "InvalidGrantTokenException", ONCE, KmsDeniedError),
    Row(400, "ExpiredTokenException", TWICE, KmsDeniedError),
    Row(400, "UnrecognizedClientException", TWICE, KmsDeniedError),
    Row(400, "InvalidClientTokenId", TWICE, KmsDeniedError),
    Row(400, "InvalidSignatureException", TWICE, KmsDeniedError),
    Row(400, "RequestExpired", TWICE, KmsDeniedError),
    Row(400, "LimitExceededException", ONCE, KmsDeniedError),
    Row(400, "DryRunOperationException", ONCE, KmsDeniedError),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.code) for row in ROWS])
def test_an_answer_does_what_its_row_says(
    row: Row, servers: dict[str, TlsKms], real_config: CoreConfig, recorder: Any
) -> None:
    """Who is asked, whether the breaker takes it for a failure of the region, and what the caller sees."""
    servers[EAST].always = Answer(row.status, row.code, headers=SOON)
    with Core(real_config, recorder) as core:
        error = sealed(core)

    attempts = recorder.of(Attempt)
    assert [attempt.region for attempt in attempts] == row.asked
    assert counted(recorder) == row.counts
    assert bool(recorder.of(KeyQuarantined)) == row.quarantines
    assert type(error) is (row.ends_as or type(None))
    if error is not None:
        assert error.error_code == row.code
        assert error.attempts[-1].request_id == "req-1"
    assert not is_unclassified(attempts[0].error_code, row.status)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.code) for row in ROWS])
def test_an_answer_that_every_region_gives_ends_as_its_row_says(
    row: Row, servers: dict[str, TlsKms], real_config: CoreConfig
) -> None:
    """Unavailable when a later call may succeed; denied when a person must act."""
    for server in servers.values():
        server.always = Answer(row.status, row.code, headers=SOON)
    with Core(real_config) as core:
        error = sealed(core)

    expected = row.ends_as or (KmsDeniedError if row.quarantines else KmsUnavailableError)
    assert type(error) is expected


@pytest.mark.parametrize("code", ["DisabledException", "KMSInvalidStateException", "NotFoundException"])
def test_a_payment_keys_state_is_final(code: str, servers: dict[str, TlsKms], real_config: CoreConfig) -> None:
    """Strict by default: failover never goes round a key that somebody disabled."""
    servers[EAST].always = Answer(400, code)
    with Core(real_config) as core:
        error = sealed(core, "payment")

    assert isinstance(error, KmsDeniedError)
    assert not servers[WEST].asked


def test_an_answer_that_nobody_knows_is_a_refusal_and_unclassified(
    servers: dict[str, TlsKms], real_config: CoreConfig, recorder: Any
) -> None:
    """An unknown 4xx: the region is well; drills keep the count of these at zero."""
    servers[EAST].always = Answer(400, "BrandNewException")
    with Core(real_config, recorder) as core:
        error = sealed(core)

    assert isinstance(error, KmsDeniedError)
    assert [attempt.region for attempt in recorder.of(Attempt)] == ONCE
    assert is_unclassified(error.error_code, 400)
    assert not counted(recorder)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    connection.recv(1 << 16)


@contextlib.contextmanager
def rude(behave: Callable[[socket.socket], None] | None) -> Iterator[str]:
    server = Rude(behave)
    try:
        yield server.url
    finally:
        server.close()


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    yield f"https://127.0.0.1:{ports.nobody()}"


@contextlib.contextmanager
def no_name() -> Iterator[str]:
    yield "https://kms.us-east-1.invalid"


CONNECTIONS = [
    pytest.param(nobody, {"ConnectionRefused"}, id="refused"),
    pytest.param(lambda: rude(reset), {"ConnectionReset"}, id="reset"),
    pytest.param(lambda: rude(hang_up), {"ConnectionReset"}, id="hung up in the handshake: SSLEOFError"),
    pytest.param(lambda: rude(None), {"ReadTimeout", "ConnectTimeout", "Deadline"}, id="stalled handshake"),
    pytest.param(deaf_port, {"ConnectTimeout"}, id="SYNs dropped"),
    pytest.param(no_name, {"DnsFailure"}, id="the name does not resolve"),
]


@pytest.mark.parametrize(("endpoint", "codes"), CONNECTIONS)
def test_a_region_that_cannot_be_reached_is_left_at_once_and_counts(
    endpoint: Callable[[], Any], codes: set[str], real_config: CoreConfig, recorder: Any
) -> None:
    """One attempt, no retry in place, and the caller has its answer from the next region."""
    with endpoint() as url:
        endpoints = dict(real_config.endpoints) | {EAST: url}
        config = dataclasses.replace(real_config, endpoints=endpoints, **IMPATIENT)
        with Core(config, recorder) as core:
            assert sealed(core) is None

    first, second = recorder.of(Attempt)
    assert (first.region, second.region) == (EAST, WEST)
    assert first.error_code in codes
    assert counted(recorder)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(200, body={}), id="nothing in it"),
        pytest.param(Answer(200, body={"KeyId": "x", "CiphertextBlob": "eA=="}), id="no Plaintext"),
        pytest.param(Answer(200, body={"Plaintext": "eA==", "CiphertextBlob": "eA=="}), id="no KeyId"),
        pytest.param(Answer(200, body={"KeyId": "x", "Plaintext": "eA=="}), id="no CiphertextBlob"),
        pytest.param(Answer(200, body={"KeyId": "x", "Plaintext": "eA==", "CiphertextBlob": "eA=="}), id="wrong key"),
        pytest.param(Answer(200, body={"KeyId": "x"}, cut=True), id="cut short"),
    ],
)
def test_a_reply_is_believed_only_after_its_fields(
    answer: Answer, servers: dict[str, TlsKms], real_config: CoreConfig, recorder: Any
) -> None:
    """Botocore reports most of these as a success; the region is left, and it counts."""
    servers[EAST].always = answer
    with Core(real_config, recorder) as core:
        assert sealed(core) is None

    assert [attempt.region for attempt in recorder.of(Attempt)] == HOP
    assert recorder.of(Attempt)[0].error_code in {"Truncated", "WrongAnswer", "ConnectionReset"}
    assert counted(recorder)


@pytest.mark.parametrize("name", ["127.0.0.1", "kms.example.test"])
def test_a_certificate_or_a_name_that_is_wrong_is_no_reset(
    name: str,
    real_estate: FakeEstate,
    real_config: CoreConfig,
    recorder: Any,
    tmp_path: Path,
    certificates: dict[str, Path],
) -> None:
    """It may be an attack, and has a code of its own; the region is left, and it counts."""
    shown = certificate(tmp_path, name) if name == "127.0.0.1" else certificates[name]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificates["127.0.0.1"].read_bytes() + certificates["kms.example.test"].read_bytes())
    server = TlsKms(real_estate[EAST], shown)
    try:
        endpoints = dict(real_config.endpoints) | {EAST: server.url}
        config = dataclasses.replace(real_config, endpoints=endpoints, ca_bundle=str(bundle))
        with Core(config, recorder) as core:
            assert sealed(core) is None
    finally:
        server.close()

    assert [(attempt.region, attempt.error_code) for attempt in recorder.of(Attempt)] == [
        (EAST, "TlsError"),
        (WEST, ""),
    ]
    assert counted(recorder)


def test_a_slow_success_counts_as_slow(servers: dict[str, TlsKms], real_config: CoreConfig, recorder: Any) -> None:
    """Any answer is slower than a limit of a microsecond."""
    with Core(dataclasses.replace(real_config, slow_call_seconds=1e-6), recorder) as core:
        assert sealed(core) is None

    assert [(move.region, move.cause) for move in recorder.of(BreakerMoved)] == [(EAST, "slow")]


def test_missing_credentials_are_asked_of_no_region(
    real_config: CoreConfig, servers: dict[str, TlsKms], recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied at once: no region is to blame, and none other would help."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with Core(real_config, recorder) as core:
        error = sealed(core)

    assert isinstance(error, KmsDeniedError)
    assert error.error_code == "NoCredentialsError"
    assert not any(server.asked for server in servers.values())
    assert not counted(recorder)


def test_expired_credentials_are_looked_up_anew_before_the_retry(
    real_config: CoreConfig, servers: dict[str, TlsKms], monkeypatch: pytest.MonkeyPatch, recorder: Any, tmp_path: Path
) -> None:
    """Somebody rotated them on disk: the one retry goes out under the new ones, and the caller notices nothing."""
    file = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = made-up\n")
    servers[EAST].script.append(Answer(400, "ExpiredTokenException"))
    with Core(real_config, recorder) as core:
        file.write_text("[default]\naws_access_key_id = AKIANEW\naws_secret_access_key = made-up\n")
        assert sealed(core) is None

    assert servers[EAST].key_ids_seen == ["AKIAOLD", "AKIANEW"]
    assert [attempt.region for attempt in recorder.of(Attempt)] == TWICE


def test_what_botocore_itself_does_not_know_goes_elsewhere(real_config: CoreConfig, recorder: Any) -> None:
    """An exception of no known class: fail safe, count it, and call it unclassified."""

    def break_it(region: str, client: Any) -> None:
        def explode(**_: Any) -> None:
            raise ZeroDivisionError

        if region == EAST:
            client.meta.events.register("before-send.kms", explode)

    with Core(real_config, recorder, on_client=break_it) as core:
        assert sealed(core) is None

    assert [attempt.error_code for attempt in recorder.of(Attempt)] == ["Unclassified", ""]
    assert counted(recorder)


def test_parameters_that_botocore_refuses_are_a_configuration_error(real_config: CoreConfig, recorder: Any) -> None:
    """Nothing is sent, and no region is to blame."""

    def spoil(region: str, client: Any) -> None:
        def drop(params: dict[str, Any], **_: Any) -> None:
            params.pop("KeyId", None)

        client.meta.events.register("provide-client-params.kms.GenerateDataKey", drop)

    with Core(real_config, recorder, on_client=spoil) as core:
        error = sealed(core)

    assert isinstance(error, KmsDeniedError)
    assert error.error_code == "ParamValidationError"
    assert len(error.attempts) == 1
    assert not counted(recorder)
