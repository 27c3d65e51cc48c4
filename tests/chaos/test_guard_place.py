"""Where a drill is: an account, a server or a Toxiproxy that is not the right one refuses it before anything."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from guard_kit import ACCOUNT, REGIONS, moto_aws, settings_of
from tls_endpoint import HOST, certificate, rude, tls_server

from kms_chaos import stage
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.guards import CannotTellError, NotHeldError, check
from kms_chaos.guards.place import account_is_allowed, endpoints_are_allowed, toxiproxy_leads_to_kms
from kms_watchdog import aws
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.identity import Identity, IdentityError, caller

pytestmark = pytest.mark.slow  # each asks servers

__all__ = ["moto_aws"]

AWS_NAMES = {region: f"kms.{region}.amazonaws.com:443" for region in REGIONS}
STRANGER = "210987654321"


def identity(account: str = ACCOUNT) -> Identity:
    return Identity(account_id=account, arn=f"arn:aws:sts::{account}:assumed-role/KmsDrillRole/x")


def test_only_the_estates_account_unless_others_are_named(tmp_path: Path) -> None:
    """Credentials of another account are the classic accident."""
    settings = settings_of(tmp_path)

    assert ACCOUNT in account_is_allowed(settings, identity())
    with pytest.raises(NotHeldError, match=STRANGER):
        account_is_allowed(settings, identity(STRANGER))


def test_a_list_of_accounts_is_the_whole_list(tmp_path: Path) -> None:
    """The estate's own is allowed only if it stands there: staging's list keeps production out."""
    other = settings_of(tmp_path, f'[drills]\naccounts = ["{STRANGER}"]')
    both = settings_of(tmp_path, f'[drills]\naccounts = ["{STRANGER}", "{ACCOUNT}"]')

    for who in (identity(), identity(STRANGER)):
        with pytest.raises(NotHeldError):
            account_is_allowed(other, who)
        assert account_is_allowed(both, who)


def test_the_role_that_the_cores_take_counts(tmp_path: Path) -> None:
    """Its account is where the drill's requests go, whoever started it."""
    there = settings_of(tmp_path, f'[core]\nrole_arn = "arn:aws:iam::{STRANGER}:role/App"')
    nowhere = settings_of(tmp_path, '[core]\nrole_arn = "App"')

    with pytest.raises(NotHeldError, match=STRANGER):
        account_is_allowed(there, identity())
    with pytest.raises(CannotTellError, match="names no account"):
        account_is_allowed(nowhere, identity())


@pytest.mark.usefixtures("moto_aws")
def test_who_we_are_is_asked_of_sts(tmp_path: Path) -> None:
    """In the home region."""
    found = caller(settings_of(tmp_path))

    assert found.account_id == ACCOUNT
    assert found.arn.startswith(f"arn:aws:sts::{ACCOUNT}:")


@pytest.mark.usefixtures("moto_aws")
def test_without_sts_nobody_knows_who_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that asks has not held."""
    settings = settings_of(tmp_path)

    def unreachable(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://sts.us-east-1.amazonaws.com")

    aws._session().events.register("before-send.sts", unreachable)

    with pytest.raises(IdentityError, match="EndpointConnectionError"):
        caller(settings)
    [result] = check({"account-allowed": lambda: account_is_allowed(settings, caller(settings))})
    assert not result.held


@pytest.mark.parametrize(
    "name",
    [
        "kms.us-east-1.amazonaws.com:443",
        "kms-fips.us-east-1.amazonaws.com:443",
        "kms.us-east-1.api.aws:443",
    ],
)
def test_awss_own_names_are_allowed(tmp_path: Path, name: str) -> None:
    """Of the very region."""
    settings = settings_of(tmp_path)

    assert name in endpoints_are_allowed(settings, {"us-east-1": name})
    with pytest.raises(NotHeldError, match=r"drills\.endpoints"):
        endpoints_are_allowed(settings, {"eu-west-1": name})


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1:443",
        "kms.us-east-1.amazonaws.com:8443",
        "kms.us-east-1.amazonaws.com:4431",
        "kms.us-east-1.amazonaws.com.example.com:443",
        "evil-kms.us-east-1.amazonaws.com:443",
        "kmsxus-east-1.amazonaws.com:443",
    ],
)
def test_other_names_are_not(tmp_path: Path, name: str) -> None:
    """As a variable of the environment may say (AWS_ENDPOINT_URL_KMS)."""
    with pytest.raises(NotHeldError, match="KMS of us-east-1"):
        endpoints_are_allowed(settings_of(tmp_path), {"us-east-1": name})


def test_configured_endpoints_are_allowed_and_nothing_else_there(tmp_path: Path) -> None:
    """A VPC endpoint in the file is meant; AWS's public name then is not."""
    settings = settings_of(tmp_path, '[endpoints.us-east-1]\nkms = "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"')

    assert endpoints_are_allowed(settings, {"us-east-1": "vpce-1.kms.us-east-1.vpce.amazonaws.com:443"})
    with pytest.raises(NotHeldError):
        endpoints_are_allowed(settings, AWS_NAMES)


def test_a_list_of_endpoints_is_the_whole_list(tmp_path: Path) -> None:
    """Toxiproxy's address too."""
    names = ", ".join(f'"{name}"' for name in AWS_NAMES.values())
    without = settings_of(tmp_path, f"[drills]\nendpoints = [{names}]")
    complete = settings_of(tmp_path, f'[drills]\nendpoints = [{names}, "127.0.0.1:8474"]')

    assert endpoints_are_allowed(complete, AWS_NAMES)
    with pytest.raises(NotHeldError, match=r"Toxiproxy is 127\.0\.0\.1:8474"):
        endpoints_are_allowed(without, AWS_NAMES)
    with pytest.raises(NotHeldError, match="KMS of us-east-1"):
        endpoints_are_allowed(complete, {"us-east-1": "kms-fips.us-east-1.amazonaws.com:443"})


@pytest.mark.parametrize(
    "drills",
    [
        pytest.param('accounts = ["12345"]', id="account"),
        pytest.param('endpoints = ["https://kms.us-east-1.amazonaws.com"]', id="url"),
        pytest.param('endpoints = ["kms.us-east-1.amazonaws.com"]', id="no-port"),
    ],
)
def test_lists_that_say_nothing_are_refused_with_the_configuration(tmp_path: Path, drills: str) -> None:
    """A list that could never match would refuse every drill, or seem to allow one."""
    with pytest.raises(ConfigError):
        settings_of(tmp_path, f"[drills]\n{drills}")


@pytest.fixture
def local(make_config: Callable[..., Path], toxiproxy_url: str) -> Settings:
    return load(make_config(toxiproxy_url=toxiproxy_url))


def test_toxiproxy_leads_to_every_region(local: Settings, toxiproxy_url: str) -> None:
    """By TLS with the certificate checked; what was made for it is gone, also what a dead probe left."""
    with Toxiproxy(toxiproxy_url) as server:
        server.create(f"kmswd-probe.{local.estate.name}.us-east-1", upstream="127.0.0.1:1")
        server.create("somebody-elses", upstream="127.0.0.1:1")

        assert "us-east-1, us-west-2, eu-west-1" in toxiproxy_leads_to_kms(server, local, stage.upstreams(local))

        assert set(server.proxies()) == {"somebody-elses"}
        server.delete("somebody-elses")


@pytest.mark.parametrize("wrong", ["nobody", "not-kms", "silent"])
def test_a_toxiproxy_without_a_way_to_kms_refuses(
    local: Settings, toxiproxy_url: str, wrong: str, local_aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there, somebody without the right certificate, or somebody who says nothing."""
    monkeypatch.setattr("kms_chaos.guards.place.PROBE_SECONDS", 0.5)  # how long silence is borne is no matter here
    with socket.create_server(("127.0.0.1", 0)) as listener, Toxiproxy(toxiproxy_url) as server:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        if wrong == "nobody":
            listener.close()
        if wrong == "not-kms":
            upstream = toxiproxy_url.removeprefix("http://")

        with pytest.raises(NotHeldError, match="has no way to"):
            toxiproxy_leads_to_kms(server, local, {"us-west-2": upstream})

        assert server.proxies() == {}


def test_a_toxiproxy_that_makes_no_proxy_tells_nothing(local: Settings, own_toxiproxy: Any) -> None:
    """It does not answer any more."""
    url, process = own_toxiproxy
    with Toxiproxy(url) as server:
        process.kill()
        process.wait()

        with pytest.raises(CannotTellError, match="cannot be asked"):
            toxiproxy_leads_to_kms(server, local, stage.upstreams(local))


@pytest.mark.parametrize("name", [pytest.param("127.0.0.1", id="unknown-authority"), pytest.param(HOST, id="name")])
def test_somebody_elses_certificate_is_no_way_to_kms(
    local: Settings, toxiproxy_url: str, tmp_path: Path, name: str
) -> None:
    """Something in between that speaks TLS is not KMS."""
    pem = certificate(tmp_path, name)
    settings = local
    if name == HOST:  # trusted, and not called as the endpoint is
        settings = local.model_copy(update={"estate": local.estate.model_copy(update={"ca_bundle": pem})})
    with rude(tls_server(pem)) as port, Toxiproxy(toxiproxy_url) as server:
        with pytest.raises(NotHeldError, match="SSLCertVerificationError"):
            toxiproxy_leads_to_kms(server, settings, {"us-west-2": f"127.0.0.1:{port}"})

        assert server.proxies() == {}
