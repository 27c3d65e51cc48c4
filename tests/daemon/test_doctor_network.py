"""`doctor network` against servers that are wrong in one way each: name, certificate, what an endpoint refuses."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import Told, doctor, refused
from ports import nobody
from tls_endpoint import certificate, rude, tls_server

from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.doctor.network import Door, NetworkLook, source_of
from kms_watchdog.doctor.questions import Questions
from kms_watchdog.doctor.seen import Notebook, Seen, Subject
from kms_watchdog.name_lookup import Resolver, SocketAddress
from kms_watchdog.new_connection import Proxy

BASE = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
ca_bundle = "{bundle}"
[keys.pii]
alias = "alias/pii"
[state]
dir = "state"
[endpoints.us-east-1]
kms = "{home}"
[endpoints.us-west-2]
kms = "{west}"
"""


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Credentials that are nobody's, and nothing else of this machine's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODYNOBO",
        "AWS_SECRET_ACCESS_KEY": "no-secret-of-anybody",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    aws._session.cache_clear()
    yield monkeypatch
    aws._session.cache_clear()


def answer(body: Mapping[str, Any] | None = None, *, date: dt.datetime | None = None) -> bytes:
    """What a server says to whatever it is asked."""
    said = json.dumps(body or {"__type": "MissingAuthenticationTokenException"}).encode()
    when = format_datetime(date or SystemClock().now_utc(), usegmt=True)
    head = f"HTTP/1.1 400 Bad Request\r\nDate: {when}\r\nx-amzn-RequestId: req-7\r\nContent-Length: {len(said)}\r\n\r\n"
    return head.encode() + said


Ask = Callable[..., Told]


@pytest.fixture
def ask(tmp_path: Path, write_config: Callable[..., Path]) -> Ask:
    """Ask for the ways to two regions, one of which is behind a port of ours, the other nowhere."""

    def run(home_port: int, bundle: Path, *, host: str = "127.0.0.1", west: str = "") -> Told:
        west = west or f"https://127.0.0.1:{nobody()}"
        base = BASE.format(bundle=bundle, home=f"https://{host}:{home_port}", west=west)
        told = doctor(write_config(base=base), "network")
        for _ in range(5):  # a machine that is slow for a moment is not what is asked about
            if not any("Timeout" in str(line.get("code", "")) for line in told.document["evidence"]):
                break
            told = doctor(write_config(base=base), "network")
        return told

    return run


def first(found: Told) -> tuple[int, str, str]:
    cause = next(one for one in found.document["causes"] if one["region"] == "us-east-1")
    return found.code, cause["id"], cause["because"]


def test_what_a_vpc_endpoints_policy_refuses(ask: Ask, tmp_path: Path) -> None:
    """Told from AWS's words, with the request's id and without the words themselves, which name a session."""
    text = (
        "User: arn:aws:sts::123456789012:assumed-role/App/alice is not authorized to perform: kms:DescribeKey on "
        "resource: arn:aws:kms:us-east-1:123456789012:key/mrk-1 because no VPC endpoint policy allows the "
        "kms:DescribeKey action"
    )
    pem = certificate(tmp_path, "127.0.0.1")
    body = {"__type": "AccessDeniedException", "message": text}
    with rude(tls_server(pem, answer(body))) as port:
        found = ask(port, pem)

    assert first(found) == (
        1,
        "endpoint-policy-refuses",
        "AccessDeniedException: no VPC endpoint policy allows it",
    )
    assert "alice" not in json.dumps(found.document)
    assert {line["request_id"] for line in found.lines("dry_run")} == {"req-7"}
    assert found.document["ways"][0]["refused_by_endpoint"] >= 1


def test_a_certificate_for_another_name(ask: Ask, tmp_path: Path) -> None:
    """Trusted, and not for what was asked."""
    pem = certificate(tmp_path, "localhost")
    with rude(tls_server(pem, answer())) as port:
        found = ask(port, pem)

    assert first(found)[:2] == (1, "certificate-name")


def test_a_certificate_that_has_expired(ask: Ask, tmp_path: Path) -> None:
    """By a clock that is right: then it is the certificate."""
    pem = certificate(tmp_path, "127.0.0.1", ends=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
    with rude(tls_server(pem, answer())) as port:
        found = ask(port, pem)

    assert first(found)[:2] == (1, "certificate-expired")
    assert "clock-off" not in found.causes
    assert [line["code"] for line in found.lines("clock")] == [""]


def test_a_certificate_that_ends_soon(ask: Ask, tmp_path: Path) -> None:
    """While everything else is well."""
    pem = certificate(tmp_path, "127.0.0.1", ends=SystemClock().now_utc() + dt.timedelta(days=3))
    with rude(tls_server(pem, answer())) as port:
        found = ask(port, pem)

    assert first(found)[:2] == (1, "certificate-ends")


def test_a_server_that_speaks_no_tls(ask: Ask, tmp_path: Path) -> None:
    """A proxy's page in clear, most likely."""

    def clear(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with rude(clear) as port:
        found = ask(port, certificate(tmp_path, "127.0.0.1"))

    assert first(found)[:2] == (1, "tls-fails")


def test_a_server_that_hangs_up(ask: Ask, tmp_path: Path) -> None:
    """In the handshake: an outage, whatever SSL calls it."""
    with rude(lambda connection: connection.close()) as port:
        found = ask(port, certificate(tmp_path, "127.0.0.1"))

    assert first(found)[:2] == (1, "connection-breaks")


def test_a_name_that_is_none(ask: Ask, tmp_path: Path) -> None:
    """It does not resolve, here or anywhere (RFC 6761)."""
    found = ask(443, certificate(tmp_path, "127.0.0.1"), host="kms.invalid")

    assert first(found)[:2] == (1, "name-unknown")


def test_an_endpoint_of_another_region(ask: Ask, tmp_path: Path) -> None:
    """By AWS's own name in it, whoever answers there; it leads nowhere on this machine."""
    west = "https://vpce-0.kms.us-east-1.vpce.amazonaws.com.invalid"

    found = ask(nobody(), certificate(tmp_path, "127.0.0.1"), west=west)

    assert [where for where, _ in found.because("endpoint-of-another-region")] == ["us-west-2"]


def test_a_profile_that_is_not_there(
    write_config: Callable[..., Path], tmp_path: Path, stranger: pytest.MonkeyPatch
) -> None:
    """No client can be made: one line, and 2."""
    stranger.setenv("AWS_PROFILE", "nobody")
    pem = certificate(tmp_path, "127.0.0.1")
    url = f"https://127.0.0.1:{nobody()}"

    code, told = refused(write_config(base=BASE.format(bundle=pem, home=url, west=url)))

    assert (code, told.count("\n")) == (2, 1)
    assert "nobody" in told


# -- the look itself -------------------------------------------------------------------------------------------------


def look_at(host: str, addresses: tuple[str, ...] | OSError, *, proxy: Proxy | None = None) -> list[Seen]:
    """What is seen of a name that resolves so, and of a way whose certificates cannot be read."""

    def lookup(_host: str, _port: int) -> tuple[SocketAddress, ...]:
        if isinstance(addresses, OSError):
            raise addresses
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return tuple((int(families[ipaddress.ip_address(one).version]), (one, 443)) for one in addresses)

    notebook = Notebook()
    look = NetworkLook(
        door=Door(
            host=host,
            port=443,
            source=source_of(host, None),
            proxy=proxy,
            connector=None,
            timeless=None,
            trouble="x.pem cannot be read",
        ),
        questions=Questions(region="us-east-1", notebook=notebook, clock=ManualClock()),
        resolver=Resolver(lookup),
        timeout_seconds=5.0,
    )
    assert look.look() is False
    return list(notebook.lines(["us-east-1"]))


@pytest.mark.parametrize(
    ("addresses", "where"),
    [
        (("10.0.3.7", "10.0.4.9"), "private"),
        (("52.119.1.1",), "public"),
        (("10.0.3.7", "52.119.1.1"), "partly private"),
        (("fd00::7",), "private"),
    ],
)
def test_where_a_name_leads(addresses: tuple[str, ...], where: str) -> None:
    """To a VPC endpoint, or out."""
    name, _ = look_at("kms.us-east-1.amazonaws.com", addresses)

    assert (name.subject, name.fact("place"), name.fact("source")) == (Subject.NAME, where, "AWS's own")
    assert name.answered == f"{', '.join(addresses)}: {where}"


def test_a_resolver_that_fails_is_told_in_its_words() -> None:
    """And a name from nowhere known is the environment's."""
    name, connection = look_at("kms.example.org", socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    assert (name.code, name.answered, name.fact("source")) == (
        "DnsFailure",
        "Name or service not known",
        "the environment",
    )
    assert (connection.code, connection.answered) == ("CaBundleUnreadable", "x.pem cannot be read")


def test_behind_a_proxy_the_name_is_the_proxys_to_look_up() -> None:
    """Its address is told, and its password is not."""
    name, connection = look_at("kms.us-east-1.amazonaws.com", (), proxy=Proxy.of("http://me:secret@proxy.example:3128"))

    assert name.answered == "not looked up here: the proxy proxy.example:3128 does"
    assert "secret" not in name.answered + connection.asked
