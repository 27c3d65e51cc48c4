"""The ways to KMS: address, trust and proxy are those that boto3 takes, and the canaries find KMS by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.httpsession import get_cert_path
from daemon_kit import REGIONS, LocalCloud

from kms_core import Core, SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings, load
from kms_watchdog.doors import Doors
from kms_watchdog.new_connection import Address, Proxy
from kms_watchdog.results import Kind, Outcome

KINDS = ["round_trip", "cold_connection", "clock_offset"]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment that names no certificates and no proxies."""
    for name in ("AWS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws._session.cache_clear()  # it keeps the environment it has seen
    yield monkeypatch
    aws._session.cache_clear()


def test_aws_is_found_by_its_own_name(settings: Settings, bare: pytest.MonkeyPatch) -> None:
    """Without an endpoint: the region's public name, the authorities that boto3 brings, and no proxy."""
    way = aws.way_to_kms(settings, "eu-west-1")

    assert way == aws.Way("https://kms.eu-west-1.amazonaws.com", get_cert_path(verify=True), None)
    assert Doors(settings).to_kms("eu-west-1").server == Address("kms.eu-west-1.amazonaws.com", 443)


def test_an_endpoint_of_ones_own(write_config: Callable[..., Path], bare: pytest.MonkeyPatch) -> None:
    """As configured, port and all."""
    settings = load(write_config('[endpoints.eu-west-1]\nkms = "https://vpce-1.example:8443"\n'))

    connector = Doors(settings).to_kms("eu-west-1")

    assert connector.server == Address("vpce-1.example", 8443)


def test_the_environment_counts_as_for_boto3(settings: Settings, bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AWS_CA_BUNDLE, HTTPS_PROXY and NO_PROXY."""
    bare.setenv("AWS_CA_BUNDLE", str(tmp_path / "corporate.pem"))
    bare.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    bare.setenv("NO_PROXY", "kms.us-west-2.amazonaws.com")

    through, direct = aws.way_to_kms(settings, "us-east-1"), aws.way_to_kms(settings, "us-west-2")

    assert through.ca_file == str(tmp_path / "corporate.pem")
    assert through.proxy_url == "http://user:secret@proxy.example:3128"
    assert direct.proxy_url is None
    assert "secret" not in repr(through)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("http://proxy.example:3128", Address("proxy.example", 3128), id="whole"),
        pytest.param("proxy.example", Address("proxy.example", 8080), id="a-host-alone"),
        pytest.param("http://[::1]:3128", Address("::1", 3128), id="ipv6"),
    ],
)
def test_a_proxys_url(url: str, address: Address) -> None:
    """What people write into HTTPS_PROXY."""
    found = Proxy.of(url)

    assert (found.address, found.authorization) == (address, "")


def test_addresses_in_words() -> None:
    """IPv6 in brackets, or its colons and the port's could not be told apart."""
    assert (str(Address("kms.example", 443)), str(Address("::1", 8443))) == ("kms.example:443", "[::1]:8443")


def test_the_canaries_find_the_local_aws(cloud_here: LocalCloud, tmp_path: Path, core: Core) -> None:
    """Every region: a new connection comes about, and KMS's refusal of an unsigned question tells the time."""
    path = cloud_here.config(tmp_path, prefix="doors", kinds=KINDS)
    looking = [one for one in live_canaries(Ports(load(path), ManualClock())) if one.kind != Kind.ROUND_TRIP]

    found = [canary.run(core, SystemClock()) for canary in looking]

    assert [(one.canary, one.region) for one in found] == [(kind, region) for kind in KINDS[1:] for region in REGIONS]
    assert [(one.outcome, one.detail) for one in found] == [(Outcome.OK, "")] * 6
    assert all(abs(float(one.facts["offset_seconds"])) < 30 for one in found[3:])
