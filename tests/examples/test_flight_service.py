"""The example service starts, seals and opens, tells errors apart, and does not start on a bad configuration."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import ports
import pytest
from flight_kit import ALL, FIELDS, NO_CACHE, SECONDS, Flight, Start, environment, flights, serve_once
from parker_flight_api.settings import Settings
from waiting import wait_until

from kms_core.errors import ConfigurationError
from kms_local.testing import LocalAws

CARDS = "alias/parker-flight-payment-production"


@pytest.fixture
def flight(start_flight: Start) -> Flight:
    return start_flight(**NO_CACHE, HEALTH_TOKEN="made-up", READINESS_SECONDS="1")


@pytest.fixture(scope="module")
def shared_flight(flight_aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    """One for all requests that change nothing."""
    with flights(flight_aws, tmp_path_factory.mktemp("shared")) as start:
        yield start()


def sealed_by(flight: Flight, **fields: str) -> dict[str, str]:
    status, _, answer = flight.ask("/bookings/seal", {"reference": "PF4K2Q", "fields": fields or FIELDS})
    assert status == 200, answer
    return dict(answer["sealed"])


def test_a_day_in_its_life(flight: Flight) -> None:
    """Ready, sealed, opened, counted; each field under its own key, and nothing readable in what is sealed."""
    ready = flight.ask("/readyz")
    health = flight.ask("/health")
    sealed = sealed_by(flight)
    opened = flight.ask("/bookings/open", {"reference": "PF4K2Q", "sealed": sealed})

    assert (ready[0], ready[2]["ready"], len(ready[2]["keys"]["payment"])) == (200, True, 3)
    assert (health[0], health[2]["status"], health[2]["regions"]) == (
        200, "healthy", dict.fromkeys(("us-east-1", "us-west-2", "eu-west-1"), True),
    )  # fmt: skip
    assert health[2]["circuitBreakers"]["us-east-1"] == {"state": "CLOSED"}
    assert opened[::2] == (200, {"reference": "PF4K2Q", "fields": FIELDS})
    messages = {name: base64.b64decode(text) for name, text in sealed.items()}
    assert not any(value.encode() in messages[name] for name, value in FIELDS.items())
    assert flight.value('parker_flight_requests_total{route="seal",status="200"}') == 1
    assert flight.value("kms_core_operation_duration_seconds_count") > 0
    assert flight.value('parker_flight_key_usable_regions{purpose="pii"}') == 3

    flight.process.terminate()
    assert flight.process.wait(SECONDS) == 0
    assert "Traceback" not in flight.said()
    assert not any(value in flight.said() for value in FIELDS.values())


def test_what_was_not_sealed_so_is_not_opened(flight: Flight) -> None:
    """Changed, of another field, of another booking: one answer, 422, which does not say which."""
    sealed = sealed_by(flight)
    message = bytearray(base64.b64decode(sealed["passport"]))
    message[-1] ^= 1
    changed = base64.b64encode(message).decode()
    answers = [
        flight.ask("/bookings/open", {"reference": reference, "sealed": {name: text}})
        for reference, name, text in (
            ("PF4K2Q", "passport", changed),
            ("PF4K2Q", "card", sealed["passport"]),
            ("AAAAAA", "passport", sealed["passport"]),
            ("PF4K2Q", "passport", ""),
        )
    ]

    assert {answer[0] for answer in answers} == {422}
    assert len({str(answer[2]) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/bookings/seal", b"{", 400, id="no-json"),
        pytest.param("/bookings/seal", b"[" * 60_000, 400, id="nested"),
        pytest.param("/bookings/seal", {"reference": "PF4K2Q"}, 400, id="no-fields"),
        pytest.param("/bookings/seal", ALL | {"context": {}}, 400, id="a-context-of-its-own"),
        pytest.param("/bookings/seal", {"reference": "PF4K2Q", "fields": {}}, 400, id="empty"),
        pytest.param("/bookings/seal", {"reference": "PF4K2Q", "fields": {"pnr": "x"}}, 400, id="unknown-field"),
        pytest.param("/bookings/seal", {"reference": "PF4K2Q", "fields": {"card": 4111}}, 400, id="no-text"),
        pytest.param("/bookings/seal", {"reference": "../etc", "fields": FIELDS}, 400, id="reference"),
        pytest.param("/bookings/seal", b"x" * 70_000, 413, id="too-large"),
        pytest.param("/bookings/open", {"reference": "PF4K2Q", "sealed": {"card": "é"}}, 400, id="no-base64"),
        pytest.param("/elsewhere", b"", 404, id="elsewhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(shared_flight: Flight, path: str, body: Any, status: int) -> None:
    """By the form of the request alone; KMS is not asked."""
    assert shared_flight.status(path, body) == status
    assert shared_flight.status("/bookings/seal") == 405


def test_each_error_of_the_core_has_its_answer(flight: Flight, flight_aws: LocalAws) -> None:
    """No region: come again, and when; denied: ours to mend, and logged; neither says more to a stranger."""
    everywhere = {"service": "kms", "operation": "GenerateDataKey"}
    with flight_aws.fault(**everywhere, error_code="KMSInternalException"):
        unavailable = flight.ask("/bookings/seal", ALL)
    flight.ask("/bookings/seal", ALL)
    with flight_aws.fault(**everywhere, error_code="AccessDeniedException"):
        denied = flight.ask("/bookings/seal", ALL)

    assert (unavailable[0], unavailable[1].get("retry-after")) == (503, "5")
    assert denied[0] == 500
    assert "AccessDenied" not in str(denied[2])
    assert "kms.denied code=AccessDeniedException: somebody must look" in flight.said()
    assert flight.value('parker_flight_requests_total{route="seal",status="503"}') >= 1


def test_detail_is_for_who_shows_the_token(flight: Flight, flight_aws: LocalAws) -> None:
    """Which key failed where, with KMS's code; a stranger sees the guide's form alone."""
    with flight_aws.fault(service="kms", region="eu-west-1", key_id=CARDS, key_state="Disabled"):
        wait_until(lambda: not flight.ask("/health")[2]["regions"]["eu-west-1"], says="the look has seen it")
        stranger, wrong, shown = (
            flight.ask("/health", Authorization=f"Bearer {token}")[2] for token in ("", "guessed", "made-up")
        )

    assert "failed" not in stranger | wrong
    assert stranger["status"] == "degraded"
    assert shown["failed"] == [{"region": "eu-west-1", "key": "payment", "code": "DisabledException"}]


def test_the_health_check_tells_whether_the_process_lives(shared_flight: Flight, flight_aws: LocalAws) -> None:
    """Of the port that the environment names."""
    alive = healthcheck(environment(flight_aws, PORT=str(shared_flight.port)))
    nobody = healthcheck(environment(flight_aws, PORT=str(ports.nobody())))
    nowhere = healthcheck(environment(flight_aws, PORT="http"))

    assert (alive.returncode, nobody.returncode, nowhere.returncode) == (0, 1, 1)
    assert "not alive" in nobody.stderr


def healthcheck(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parker_flight_api", "healthcheck"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=SECONDS)


BASE = {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "eu-west-1"}
GENERAL = "alias/parker-flight-general-production"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"AWS_ACCOUNT_ID": ""}, "AWS_ACCOUNT_ID is not set: 12 digits", id="no-account"),
        pytest.param({"AWS_ACCOUNT_ID": "1234"}, "AWS_ACCOUNT_ID: account_id must be 12 digits", id="account"),
        pytest.param({"AWS_REGION": ""}, "AWS_REGION is not set", id="no-region"),
        pytest.param({"AWS_REGION": "us-east"}, "AWS_REGION: home_region must be named as AWS does", id="region"),
        pytest.param({"AWS_REGION": "us-west-9"}, "AWS_REGION: us-west-9 is no region of AWS's", id="no-such-region"),
        pytest.param({"KMS_REGIONS": "us-east-1,us-west-9"}, "KMS_REGIONS: us-west-9 is no region", id="one-of-them"),
        pytest.param({"CLOUDWATCH_REGIONS": "mars-1"}, "CLOUDWATCH_REGIONS: mars-1 is no region", id="metrics-region"),
        pytest.param({"KMS_REGION_PREFERENCE": "eu-north-1"}, "names eu-north-1, which is not in", id="preference"),
        pytest.param(
            {"KMS_KEY_ALIAS_PII": GENERAL}, "each purpose needs a key of its own", id="two-purposes-one-alias"
        ),
        pytest.param({"KMS_MAX_RETRIES": "many"}, "KMS_MAX_RETRIES must be a whole number", id="retries"),
        pytest.param({"PORT": "80000"}, "PORT must be a whole number from 0 to 65535, not '80000'", id="port"),
        pytest.param({"READINESS_SECONDS": "nan"}, "READINESS_SECONDS must be a number from 1 to 300", id="seconds"),
        pytest.param({"SHUTDOWN_SECONDS": "600"}, "SHUTDOWN_SECONDS must be a whole number from 1 to 90", id="end"),
        pytest.param({"KMS_ENDPOINTS_FILE": "/none"}, "KMS_ENDPOINTS_FILE: /none cannot be read", id="no-file"),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(changes: dict[str, str], said: str) -> None:
    """Before anything is asked of AWS."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Settings.from_env(BASE | changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "is not JSON", id="no-json"),
        pytest.param("[]", "should be {", id="no-object"),
        pytest.param('{"regions": {"us-east-1": "https://x"}}', "should be {", id="no-services"),
        pytest.param('{"regions": {"us-east-1": {"kms": "http://x"}}}', "must be https://HOST", id="no-tls"),
    ],
)
def test_a_file_with_endpoints_that_cannot_be_right_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With what it should be."""
    file = tmp_path / "endpoints.json"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"^KMS_ENDPOINTS_FILE: ") as refused:
        Settings.from_env(BASE | {"KMS_ENDPOINTS_FILE": str(file)})

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"AWS_ACCOUNT_ID": ""}, "AWS_ACCOUNT_ID is not set", id="no-account"),
        pytest.param({"AWS_ACCOUNT_ID": "210987654321"}, "210987654321", id="another-account"),
        pytest.param({"KMS_KEY_ALIAS_PII": "alias/also-general"}, "have the same key", id="two-purposes-one-key"),
        pytest.param({"NODE_ENV": "staging"}, "exists in none of the regions", id="no-such-alias"),
        pytest.param(
            {"KMS_PURPOSES": "loyalty"}, "KMS_PURPOSES must name one of general, payment, pii", id="no-such-purpose"
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "no key can be used: NoCredentialsError",
            id="no-credentials",
        ),
    ],
)
def test_a_bad_configuration_ends_it_before_it_listens(
    flight_aws: LocalAws, also_general: None, changes: dict[str, str], said: str
) -> None:
    """Exit code 1, and the last line says what is wrong."""
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

    ended = serve_once(environment(flight_aws, **nowhere | changes))

    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("parker_flight_api: cannot start: ")
    assert said in last
    assert "listening" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_ends_it_too(flight_aws: LocalAws) -> None:
    """Before KMS is asked for anything."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = serve_once(environment(flight_aws, PORT=str(taken.getsockname()[1])))

    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.endswith("is in use")


@pytest.fixture(scope="module")
def also_general(flight_aws: LocalAws) -> None:
    """A second alias for the general key, in every region."""
    for region in flight_aws.regions:
        kms = boto3.client("kms", **flight_aws.client_settings("kms", region))
        key_id = kms.describe_key(KeyId=GENERAL)["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/also-general", TargetKeyId=key_id)
        kms.close()
