"""Encryption as the application has it: green while any region can serve the key."""

from __future__ import annotations

from typing import cast

import pytest
from daemon_kit import REGIONS

from kms_core import Core
from kms_core.testing import FakeEstate, ManualClock
from kms_watchdog import runner
from kms_watchdog.canaries.failover_path import FailoverPath
from kms_watchdog.results import Outcome, Reason

CANARY = FailoverPath("us-east-1", "general")


def test_the_cache_has_its_part(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """The first look needs two requests, the next ones none: as in the application."""
    found = [runner.run(CANARY, core, clock) for _ in range(3)]

    assert [result.outcome for result in found] == [Outcome.OK] * 3
    assert [result.facts["requests"] for result in found] == [2.0, 0.0, 0.0]
    assert {call.context["canary"] for call in estate.calls if call.context} == {"true"}


def test_a_dead_home_region_is_survived(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """That is what failover is for; the region's own round trip is what turns red."""
    estate.fail("ConnectionRefused", regions=["us-east-1"])

    found = runner.run(CANARY, core, clock)

    assert found.outcome is Outcome.OK
    assert found.facts["requests"] == 4.0  # each operation tried home first


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("ReadTimeout", Reason.TIMEOUT, id="silent"),
        pytest.param("ConnectionRefused", Reason.ERROR, id="refused"),
        pytest.param("AccessDeniedException", Reason.DENIED, id="denied"),
    ],
)
def test_no_region_is_a_failure(core: Core, estate: FakeEstate, clock: ManualClock, code: str, reason: Reason) -> None:
    """With the core's own words for what happened where."""
    estate.fail(code)

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, reason)
    assert found.detail.startswith("seal: ")
    assert f"us-east-1: GenerateDataKey {code}" in found.detail


def test_a_cache_that_holds_carries_it_through_an_outage(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """An outage of every region, shorter than the cache's time, is not felt: and the canary must not say it is."""
    runner.run(CANARY, core, clock)
    estate.fail("ConnectionRefused", regions=REGIONS)

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.facts["requests"]) == (Outcome.OK, 0.0)


def test_slow_is_failed_as_well(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Past the deadline before it opened, and past it by opening."""
    for region in REGIONS:
        estate[region].latency_seconds = 0.4

    while_sealing = runner.run(FailoverPath("us-east-1", "general", deadline_seconds=0.3), core, clock)
    while_opening = runner.run(FailoverPath("us-east-1", "payment", deadline_seconds=0.7), core, clock)

    assert [found.reason for found in (while_sealing, while_opening)] == [Reason.TIMEOUT] * 2
    assert [set(found.steps) for found in (while_sealing, while_opening)] == [{"seal"}, {"seal", "open"}]


def test_other_bytes_are_a_mismatch(core: Core, clock: ManualClock) -> None:
    """Also when they come out of a cache."""

    class Swapping:
        """A core that opens something else."""

        requests_made = core.requests_made

        def encrypt(self, plaintext: bytes, **_: object) -> bytes:
            return plaintext

        def decrypt(self, message: bytes, **_: object) -> bytes:
            return message[::-1]

    found = runner.run(CANARY, cast("Core", Swapping()), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
