"""Credentials that are late, gone or another's; and secrets that no log and no traceback shows."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ports import nobody
from sts_server import Sts
from waiting import wait_until

from kms_core import ConfigurationError, Core, CoreConfig
from kms_core.clock import SystemClock
from kms_core.errors import KmsCoreError, KmsDeniedError, MessageError
from kms_core.events import Attempt, BreakerMoved
from kms_core.kms import KeyMaterial
from kms_core.suites import WRITTEN, derive_keys
from kms_core.testing import FakeEstate

CONTEXT = {"tenant": "parker"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
AWAY = f"http://127.0.0.1:{nobody()}"
ROLE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"
CLOCK = SystemClock()


@pytest.fixture
def sts() -> Iterator[Sts]:
    server = Sts()
    yield server
    server.close()


# Secrets.


def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Have all be logged, also where a command that ran before has quietened botocore."""
    for name in ("", "botocore", "boto3", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)


def answered_keys(client: Any, found: list[bytes]) -> None:
    """Note every data key that `client` answers with."""
    client.meta.events.register(
        "after-call.kms", lambda parsed, **_: found.append(parsed["Plaintext"]) if "Plaintext" in parsed else None
    )


def test_botocores_own_debug_log_shows_no_data_key(
    local_aws: Any, local_credentials: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It writes every answer in full to whoever sets the root logger to DEBUG."""
    everything(caplog)
    keys: list[bytes] = []
    with Core(local_aws.config(), on_client=lambda _, client: answered_keys(client, keys)) as core:
        message = core.encrypt(b"x", purpose="general", context=CONTEXT)
        core.pinned(WEST).decrypt(message, purpose="general", context=CONTEXT)

    text = "\n".join(record.getMessage() for record in caplog.records)
    assert len(keys) == 2
    assert "not shown by kms_core" in text
    assert not [key for key in keys if base64.b64encode(key).decode() in text or repr(key) in text]


def test_the_debug_log_shows_no_roles_credentials(
    local_aws: Any, local_credentials: None, sts: Sts, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the answer of STS, nor the token in the headers that are signed."""
    everything(caplog)
    sts.keys = tuple(local_aws.role.values())
    with Core(local_aws.config(role_arn=ROLE, sts_endpoints={EAST: sts.url})) as core:
        core.encrypt(b"x", purpose="general", context=CONTEXT)

    text = "\n".join(record.getMessage() for record in caplog.records)
    assert local_aws.role["aws_session_token"] not in text
    assert sts.keys[1] not in text


def test_what_the_application_does_with_boto3_is_logged_as_ever(
    local_aws: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the core's own requests are kept quiet."""
    everything(caplog)
    client = local_aws.client(EAST)
    client.list_keys()
    client.close()

    assert any("Response body" in record.getMessage() for record in caplog.records)


def test_a_traceback_with_its_variables_shows_no_key(core: Core, estate: FakeEstate) -> None:
    """Error reporters print them; and whoever sends a message can cause a traceback."""
    message = core.encrypt(b"x" * 100, purpose="general", context=CONTEXT)
    data_key = core._envelope._sealing._entries.popitem()[1].value.data_key  # nothing public gives it away
    derived = KeyMaterial(derive_keys(WRITTEN, bytes(data_key), message[3:35])[0])  # this frame is printed too
    said = ""
    for at in (-1, -60, 40, len(message) - 120):
        changed = bytearray(message)
        changed[at] ^= 1
        for _ in range(2):
            with pytest.raises(MessageError) as refused:
                core.decrypt(bytes(changed), purpose="general", context=CONTEXT)
            report = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
            said += "".join(report.format())
        core.decrypt(message, purpose="general", context=CONTEXT)

    assert "<key material>" in said
    for secret in (data_key, derived):
        assert bytes(secret).__repr__() not in said
        assert bytes(secret).hex() not in said


def test_key_material_is_bytes_that_do_not_print() -> None:
    """In every way that Python has of showing a value."""
    material = KeyMaterial(b"secret")

    assert material == b"secret"
    assert {repr(material), str(material), f"{material}", f"{[material]}"[1:-1]} == {"<key material>"}


# Credentials.


def test_a_platforms_token_is_exchanged_where_sts_can_be_reached(
    local_aws: Any, sts: Sts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On EKS: at home first, then elsewhere, and never at a region that somebody else chose."""
    token = tmp_path / "token"
    token.write_text("the platform's token")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    sts.keys = tuple(local_aws.role.values())
    config = local_aws.config(
        role_arn=ROLE,
        web_identity_token_file=str(token),
        sts_endpoints={EAST: AWAY, WEST: sts.url, IRELAND: AWAY},
    )

    with Core(config) as core:
        assert core.self_check().ok

    assert sts.asked == ["AssumeRoleWithWebIdentity"]
    assert sts.forms[0]["WebIdentityToken"] == ["the platform's token"]
    assert sts.forms[0]["RoleArn"] == [ROLE]


def test_a_throttled_sts_is_asked_elsewhere(local_aws: Any, local_credentials: None, sts: Sts) -> None:
    """It is a region's own, as its other limits are."""
    sts.keys = tuple(local_aws.role.values())
    throttled = Sts()
    throttled.status, throttled.code = 400, "Throttling"
    try:
        endpoints = {EAST: throttled.url, WEST: sts.url}
        with Core(local_aws.config(role_arn=ROLE, sts_endpoints=endpoints)) as core:
            assert core.encrypt(b"x", purpose="general", context=CONTEXT)
    finally:
        throttled.close()

    assert (throttled.asked, sts.asked) == (["AssumeRole"], ["AssumeRole"])


@pytest.mark.slow
def test_silence_of_sts_is_no_outage_of_kms(local_aws: Any, local_credentials: None, sts: Sts, recorder: Any) -> None:
    """Requests that wait for credentials say nothing of the region that they would be sent to."""
    sts.hold = threading.Event()
    away = dict.fromkeys((EAST, WEST, IRELAND), sts.url)
    config = local_aws.config(
        role_arn=ROLE, sts_endpoints=away, deadline_seconds=3.0, attempt_timeout_seconds=0.5, slow_call_seconds=0.4
    )
    with Core(config, recorder) as core:
        for _ in range(4):
            with pytest.raises(KmsDeniedError) as denied:
                core.encrypt(b"x", purpose="general", context=CONTEXT)
        sts.hold.set()

    assert not recorder.of(BreakerMoved)
    assert denied.value.error_code in {"CredentialsLate", "CredentialRetrievalError"}


def credential_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Have boto3 run `script` for its credentials."""
    program = tmp_path / "program.py"
    program.write_text(script)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_credentials_that_do_not_come_in_time_end_the_start_in_time(
    config: CoreConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """boto3 looks for them when a client is made, for as long as it takes."""
    credential_process(monkeypatch, tmp_path, "import threading; threading.Event().wait(8)")
    began = CLOCK.monotonic()

    with pytest.raises(KmsDeniedError, match="in time"):
        Core(dataclasses.replace(config, deadline_seconds=0.5))

    assert CLOCK.monotonic() - began < 6.0


@pytest.mark.parametrize("script", ["raise SystemExit(1)", "print('no json')"], ids=["fails", "says nonsense"])
def test_a_source_of_credentials_that_is_broken_is_the_cores_own_error(
    config: CoreConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    """And not one of botocore's."""
    credential_process(monkeypatch, tmp_path, script)

    with pytest.raises(KmsCoreError):
        Core(config)


def test_a_profile_that_is_not_there_is_a_wrong_configuration(
    config: CoreConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With its name."""
    credential_process(monkeypatch, tmp_path, "")
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-it")

    with pytest.raises(ConfigurationError, match="nobody-has-it"):
        Core(config)


@pytest.mark.slow
def test_credentials_that_come_later_are_found(local_aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The core starts without any, says so, and goes on when somebody has given them."""
    credential_process(monkeypatch, tmp_path, "")
    monkeypatch.delenv("AWS_CONFIG_FILE")
    with Core(local_aws.config()) as core:
        with pytest.raises(KmsDeniedError) as denied:
            core.encrypt(b"x", purpose="general", context=CONTEXT)
        assert denied.value.error_code == "NoCredentialsError"
        for name, value in local_aws.credentials.items():
            monkeypatch.setenv(name.upper(), value)
        never = threading.Event()
        for _ in range(200):
            with contextlib.suppress(KmsDeniedError):
                message = core.encrypt(b"x", purpose="general", context=CONTEXT)
                break
            CLOCK.wait(never, 0.1)

        assert core.decrypt(message, purpose="general", context=CONTEXT) == b"x"


@pytest.mark.parametrize("page", [b"<html>a proxy's page</html>", b"", b"<GetCallerIdentityResponse/>"])
@pytest.mark.parametrize("status", [200, 403])
def test_an_sts_that_nobody_can_read_stops_no_start_and_blames_no_region(
    local_aws: Any, local_credentials: None, sts: Sts, recorder: Any, page: bytes, status: int
) -> None:
    """Botocore raises what is none of its own errors; and the next region's STS is asked."""
    garbled = Sts()
    garbled.page, garbled.status = page, status
    sts.keys = tuple(local_aws.role.values())
    try:
        with Core(local_aws.config(verify_account=True, sts_endpoints={EAST: garbled.url})) as core:
            assert core.encrypt(b"x", purpose="general", context=CONTEXT)
        everywhere = dict.fromkeys((EAST, WEST, IRELAND), garbled.url)
        with (
            Core(local_aws.config(role_arn=ROLE, sts_endpoints=everywhere), recorder) as core,
            pytest.raises(KmsDeniedError),
        ):
            core.encrypt(b"x", purpose="general", context=CONTEXT)
    finally:
        garbled.close()

    assert not recorder.of(BreakerMoved)


def test_a_sender_of_the_applications_own_is_no_wait_for_credentials(
    local_aws: Any, local_credentials: None, recorder: Any
) -> None:
    """A handler that sends in botocore's place keeps later ones from being called; a silent region stays silent.

    A drill found it: requests through its route that nobody answered were excused, and their region with them.
    """
    go_on, signed = threading.Event(), threading.Event()
    dark = threading.Event()

    def on_client(region: str, client: Any) -> None:
        def send(**_: Any) -> None:
            if region == EAST and dark.is_set():
                signed.set()
                go_on.wait(20)

        client.meta.events.register_first("before-send.kms", send)

    config = local_aws.config(attempt_timeout_seconds=0.3, slow_call_seconds=0.3)
    with Core(config, recorder, on_client) as core:
        dark.set()
        assert core.encrypt(b"x", purpose="general", context=CONTEXT)
        go_on.set()

    assert signed.is_set()
    codes = {attempt.error_code for attempt in recorder.of(Attempt) if attempt.region == EAST}
    assert codes == {"", "Deadline"}


def test_only_the_request_that_waits_for_credentials_is_excused(
    real_estate: FakeEstate, config: CoreConfig, recorder: Any
) -> None:
    """Another thread's look for fresh ones says nothing of a region that is silent to this one."""
    go_on = threading.Event()
    waiting: set[int] = set()

    class Waits:
        def __init__(self, kms: Any) -> None:
            self.region, self.close, self.describe_key = kms.region, kms.close, kms.describe_key
            self._kms = kms

        def waits_for_credentials(self, thread: int) -> bool:
            return thread in waiting

        def generate_data_key(self, key_arn: str, context: Any) -> Any:
            if self.region == EAST and context["who"] == "waits":
                waiting.add(threading.get_ident())
            if self.region == EAST:
                go_on.wait(20)
            return self._kms.generate_data_key(key_arn, context)

    quick = dataclasses.replace(config, attempt_timeout_seconds=0.3, slow_call_seconds=0.3)
    with (
        Core(quick, recorder, connect=lambda region: Waits(real_estate[region])) as core,  # type: ignore[arg-type]
        ThreadPoolExecutor(1) as pool,
    ):
        excused = pool.submit(core.encrypt, b"x", purpose="general", context={"who": "waits"})
        wait_until(lambda: bool(waiting), says="it waits for credentials")
        assert core.encrypt(b"x", purpose="general", context={"who": "is let down"})
        with pytest.raises(KmsDeniedError) as denied:
            excused.result(20)
        go_on.set()

    assert denied.value.error_code == "CredentialsLate"
    codes = {attempt.error_code for attempt in recorder.of(Attempt) if attempt.region == EAST}
    assert codes == {"", "Deadline", "CredentialsLate"}, "the first is that of DescribeKey, at the start"


def test_credentials_are_looked_for_once_a_start(
    local_aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A source that gives none is not asked again for each region's client: it may take seconds."""
    asked: list[str] = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_PUT  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        credential_process(monkeypatch, tmp_path, "")
        monkeypatch.delenv("AWS_CONFIG_FILE")
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        with Core(local_aws.config()) as core:
            at_start = len(asked)
            with pytest.raises(KmsDeniedError):
                core.encrypt(b"x", purpose="general", context=CONTEXT)
        server.shutdown()
        thread.join()

    assert 1 <= at_start <= 2, "a token, and perhaps the role's name"


def test_a_platforms_token_needs_no_other_credentials(
    local_aws: Any, sts: Sts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that exchanges it is not signed: nobody looks for something to sign it with."""
    credential_process(monkeypatch, tmp_path, "import threading; threading.Event().wait(60)")
    token = tmp_path / "token"
    token.write_text("the platform's token")
    sts.keys = tuple(local_aws.role.values())
    config = local_aws.config(role_arn=ROLE, web_identity_token_file=str(token), sts_endpoints={EAST: sts.url})

    with Core(config) as core:
        assert core.encrypt(b"x", purpose="general", context=CONTEXT)
