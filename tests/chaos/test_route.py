"""The TLS route: real names, real verification, another socket; and everything else refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, SSLError

from kms_chaos.faults import route_check
from kms_chaos.faults.route import Endpoint, RoutedSession, RouteError, endpoint_of, route
from kms_chaos.faults.toxiproxy import Toxiproxy

REGION = "us-east-1"
ENDPOINT = Endpoint(host="kms.us-east-1.amazonaws.com", port=443)


@pytest.fixture
def make_client(local_aws: Any) -> Iterator[Callable[..., Any]]:
    made = []

    def make(url: str | None = None, *, verify: Any = None) -> Any:
        session = boto3.session.Session(**local_aws.endpoints["credentials"])
        made.append(
            session.client(
                "kms", region_name=REGION, endpoint_url=url,
                verify=local_aws.endpoints["ca_bundle"] if verify is None else verify,
                config=Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1}),
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_the_check_passes_with_the_versions_that_are_installed() -> None:
    """A right certificate is accepted through the route; an unknown authority and a wrong name are refused."""
    route_check.check(datetime.now(UTC))  # noqa: TID251 - certificates know only the real date


def test_the_real_name_is_asked_through_the_proxy_and_verified(local_aws: Any, make_client: Callable[..., Any]) -> None:
    """URL, SNI, certificate, Host and signature are of `kms.us-east-1.amazonaws.com`; only the socket is elsewhere."""
    client = make_client()
    assert endpoint_of(client) == ENDPOINT
    upstream = str(Endpoint.of(local_aws.regions[REGION]["kms"]))
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        proxy = server.create("route-test", upstream=upstream)
        try:
            undo = route(client, proxy.address, verify=local_aws.endpoints["ca_bundle"])

            assert client.list_aliases()["ResponseMetadata"]["HTTPStatusCode"] == 200

            server.disable("route-test")
            with pytest.raises(EndpointConnectionError):
                client.list_aliases()
            undo()
        finally:
            server.delete("route-test")


def test_a_certificate_of_another_region_is_refused(local_aws: Any, make_client: Callable[..., Any]) -> None:
    """Routed to the wrong region's KMS, nothing is sent: its certificate has another name."""
    client = make_client()
    elsewhere = Endpoint.of(local_aws.regions["us-west-2"]["kms"])
    undo = route(client, ("127.0.0.1", elsewhere.port), verify=local_aws.endpoints["ca_bundle"])

    with pytest.raises(SSLError):
        client.list_aliases()
    undo()


def test_an_unknown_authority_is_refused(local_aws: Any, make_client: Callable[..., Any]) -> None:
    """The system's authorities do not know the local one."""
    client = make_client()
    here = Endpoint.of(local_aws.regions[REGION]["kms"])
    undo = route(client, ("127.0.0.1", here.port), verify=True)

    with pytest.raises(SSLError):
        client.list_aliases()
    undo()


def test_verification_cannot_be_off(make_client: Callable[..., Any]) -> None:
    """Neither in the route nor in the client that is routed."""
    with pytest.raises(RouteError, match="verification"):
        route(make_client(), ("127.0.0.1", 1), verify=False)
    with pytest.raises(RouteError, match="verification"):
        route(make_client(verify=False), ("127.0.0.1", 1))


def test_a_route_stays_on_loopback(make_client: Callable[..., Any]) -> None:
    """Another host would see who drills, and when."""
    with pytest.raises(RouteError, match="loopback"):
        route(make_client(), ("192.0.2.1", 443))
    with pytest.raises(RouteError, match="loopback"):
        route(make_client(), ("toxiproxy.example", 443))


def test_plain_http_cannot_be_routed(make_client: Callable[..., Any]) -> None:
    """There would be nothing to verify."""
    with pytest.raises(RouteError, match="https"):
        route(make_client("http://127.0.0.1:1"), ("127.0.0.1", 1))


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://kms.us-west-2.amazonaws.com/", id="another-host"),
        pytest.param("https://kms.us-east-1.amazonaws.com:8443/", id="another-port"),
        pytest.param("http://kms.us-east-1.amazonaws.com/", id="plain"),
    ],
)
def test_a_route_serves_its_endpoint_alone(url: str) -> None:
    """Whatever else a client may ask for does not go this way."""
    session = RoutedSession(ENDPOINT, ("127.0.0.1", 1))

    with pytest.raises(RouteError):
        session.send(AWSRequest(method="GET", url=url).prepare())
    session.close()
