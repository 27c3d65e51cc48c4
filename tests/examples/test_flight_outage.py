"""The example service in an outage: a region lost costs no request, and it is unready only when a key has no region."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from flight_kit import ALL, CALM, NO_CACHE, SECONDS, Flight, Start, environment
from waiting import wait_until

from kms_local.testing import LocalAws

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMPATIENT = dict.fromkeys(CALM, "") | NO_CACHE | {"READINESS_SECONDS": "1"}
"""The core's own timeouts: an outage is what they are for."""


@contextmanager
def under_load(flight: Flight, aws: LocalAws, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Put a load on it until the end of the block; what it printed is read from it there."""
    url = f"http://127.0.0.1:{flight.port}"
    command = [sys.executable, "-m", "parker_flight_api.load", "--url", url, "--rate", "10", "--seconds", "600"]
    with subprocess.Popen([*command, *arguments], env=environment(aws), stdout=subprocess.PIPE, text=True) as load:
        try:
            wait_until(lambda: answered(flight) > 20, says="the load is on", seconds=SECONDS)
            yield load
        finally:
            load.kill()


def answered(flight: Flight) -> float:
    return flight.value("parker_flight_requests_total")


def report_of(load: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """End the load, and return its exit code and its report."""
    load.terminate()
    said, _ = load.communicate(timeout=SECONDS)
    return load.returncode, json.loads(said)


@pytest.mark.parametrize(
    "fault", [pytest.param({"status": 500}, id="fails"), pytest.param({"latency_ms": 60_000}, id="is-silent")]
)
def test_a_lost_region_costs_no_request(start_flight: Start, flight_aws: LocalAws, fault: dict[str, int]) -> None:
    """Under load, with a KMS call in each request; it is degraded for people, and ready for load balancers."""
    flight = start_flight(**IMPATIENT)
    with under_load(flight, flight_aws) as load:
        with flight_aws.fault(service="kms", region="us-east-1", **fault):
            wait_until(lambda: flight.value("kms_core_failovers_total") > 0, says="it has bitten", seconds=SECONDS)
            wait_until(
                lambda: flight.ask("/health")[2]["regions"]["us-east-1"] is False, says="it is seen", seconds=SECONDS
            )
            before = answered(flight)
            wait_until(lambda: answered(flight) > before + 30, says="bookings go on", seconds=SECONDS)
            health, ready, alive = (flight.ask(path) for path in ("/health", "/readyz", "/livez"))
        code, report = report_of(load)

    assert (code, report["failures"], report["outcomes"]) == (0, 0, {"200": report["requests"]})
    assert (health[0], health[2]["status"]) == (503, "degraded")
    assert (ready[0], alive[0]) == (200, 200)
    assert all("us-east-1" not in regions and regions for regions in ready[2]["keys"].values())


def test_what_one_region_sealed_another_opens(start_flight: Start, flight_aws: LocalAws) -> None:
    """Tasks in two regions under one load: each opens what the other sealed, with a KMS call of its own region."""
    flights = [start_flight(**NO_CACHE, AWS_REGION=region) for region in ("us-east-1", "eu-west-1")]
    with under_load(flights[0], flight_aws, "--url", f"http://127.0.0.1:{flights[1].port}") as load:
        wait_until(lambda: answered(flights[1]) > 20, says="both are asked", seconds=SECONDS)
        code, report = report_of(load)

    opened = 'parker_flight_requests_total{route="open",status="200"}'
    assert (code, report["failures"]) == (0, 0)
    assert all(flight.value(opened) > 0 for flight in flights)


def test_it_is_unready_only_while_a_key_has_no_region(start_flight: Start, flight_aws: LocalAws) -> None:
    """The payment key goes in one region, in two, in all; then comes back in one."""
    flight = start_flight(**NO_CACHE, READINESS_SECONDS="1")
    usable, seen = list(flight_aws.regions), []
    with ExitStack() as stack:
        for region in flight_aws.regions:
            stack.enter_context(
                flight_aws.fault(
                    service="kms", region=region, key_id="alias/parker-flight-payment-production", key_state="Disabled"
                )
            )
            usable.remove(region)
            wait_until(lambda: keys(flight)["payment"] == usable, says=f"{region} is seen", seconds=SECONDS)
            seen.append(flight.status("/readyz"))
        alive, health = flight.status("/livez"), flight.ask("/health")
        card, passport = (
            flight.status("/bookings/seal", {"reference": "PF4K2Q", "fields": {field: "x"}})
            for field in ("card", "passport")
        )
    wait_until(lambda: flight.status("/readyz") == 200, says="it is ready again", seconds=SECONDS)

    assert seen == [200, 200, 503]
    assert (alive, health[0], health[2]["status"]) == (200, 500, "unhealthy")
    assert (card, passport) == (500, 200)


def keys(flight: Flight) -> dict[str, list[str]]:
    found: dict[str, list[str]] = flight.ask("/readyz")[2]["keys"]
    return {
        purpose: sorted(regions, key=["us-east-1", "us-west-2", "eu-west-1"].index)
        for purpose, regions in found.items()
    }


def test_it_starts_while_a_region_is_lost(start_flight: Start, flight_aws: LocalAws) -> None:
    """Its own at that; it serves from its first moment on."""
    with flight_aws.fault(service="kms", region="us-east-1", status=500):
        flight = start_flight(**IMPATIENT)
        sealed, ready, health = flight.status("/bookings/seal", ALL), flight.status("/readyz"), flight.ask("/health")

    assert (sealed, ready) == (200, 200)
    assert health[2]["regions"]["us-east-1"] is False


def test_it_starts_while_all_regions_are_lost_and_joins_later(start_flight: Start, flight_aws: LocalAws) -> None:
    """Alive, unready, 503 with a time to come again; then all is well without a restart."""
    with flight_aws.fault(service="kms", status=500):
        flight = start_flight(**IMPATIENT)
        alive, ready, sealed = flight.status("/livez"), flight.status("/readyz"), flight.ask("/bookings/seal", ALL)
    wait_until(lambda: flight.status("/readyz") == 200, says="it is ready", seconds=SECONDS)

    assert (alive, ready, sealed[0], sealed[1]["retry-after"]) == (200, 503, 503, "5")
    wait_until(lambda: flight.status("/bookings/seal", ALL) == 200, says="it serves", seconds=SECONDS)
