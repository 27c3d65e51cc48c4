"""Sealed in one region, opened in another: whose failure it is, and whose it is not."""

from __future__ import annotations

from typing import cast

import pytest

from kms_core import Core
from kms_core.testing import FakeEstate, ManualClock
from kms_watchdog import runner
from kms_watchdog.canaries.cross_region import CrossRegion
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings
from kms_watchdog.results import Kind, Outcome, Reason

EAST, WEST = "us-east-1", "us-west-2"
CANARY = CrossRegion(EAST, WEST, "general")


def test_one_region_seals_and_the_other_opens(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Each is asked for its own part alone, every time, and both see that a canary asks."""
    estate.calls.clear()

    results = [runner.run(CANARY, core, clock) for _ in range(2)]

    assert [found.outcome for found in results] == [Outcome.OK] * 2
    assert [(call.region, call.operation) for call in estate.calls] == [
        (EAST, "GenerateDataKey"),
        (WEST, "Decrypt"),
    ] * 2
    assert {call.context["canary"] for call in estate.calls} == {"true"}


def test_the_result_names_both_regions_in_order(core: Core, clock: ManualClock) -> None:
    """There and back are two questions."""
    found, back = (runner.run(canary, core, clock) for canary in (CANARY, CrossRegion(WEST, EAST, "general")))

    assert (found.canary, found.region, found.regions) == ("cross_region", "us-east-1:us-west-2", (EAST, WEST))
    assert back.region == "us-west-2:us-east-1"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("ReadTimeout", Reason.TIMEOUT, id="silent"),
        pytest.param("ConnectionRefused", Reason.ERROR, id="refused"),
        pytest.param("ThrottlingException", Reason.THROTTLED, id="throttled"),
        pytest.param("AccessDeniedException", Reason.DENIED, id="denied"),
        pytest.param("NoCredentialsError", Reason.NO_CREDENTIALS, id="no-credentials"),
    ],
)
def test_a_region_that_cannot_seal_blinds_the_question_of_the_other(
    core: Core, estate: FakeEstate, clock: ManualClock, code: str, reason: Reason
) -> None:
    """Nothing was there to open, so nothing is said of the second region; the reason is the first one's."""
    estate.fail(code, regions=[EAST])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, reason, code)
    assert set(found.steps) == {"seal"}
    assert found.detail.startswith("seal: ")
    assert EAST in found.detail


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        pytest.param("ReadTimeout", Outcome.FAILED, Reason.TIMEOUT, id="silent"),
        pytest.param("AccessDeniedException", Outcome.FAILED, Reason.DENIED, id="denied"),
        pytest.param("InvalidCiphertextException", Outcome.FAILED, Reason.MISMATCH, id="other-material"),
        pytest.param("ExpiredTokenException", Outcome.BLIND, Reason.NO_CREDENTIALS, id="expired-credentials"),
    ],
)
def test_a_region_that_does_not_open_has_failed(
    core: Core, estate: FakeEstate, clock: ManualClock, code: str, outcome: Outcome, reason: Reason
) -> None:
    """The steps and the detail say which half it was."""
    estate.fail(code, regions=[WEST])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.error_code) == (outcome, reason, code)
    assert set(found.steps) == {"seal", "open"}
    assert found.detail.startswith("open: ")


def test_other_bytes_are_a_mismatch(clock: ManualClock) -> None:
    """The worst failure there is, and a page of its own."""

    class Swapping:
        """A core that opens something else."""

        def pinned(self, region: str) -> Swapping:
            return self

        def encrypt(self, plaintext: bytes, **_: object) -> bytes:
            return plaintext

        def decrypt(self, message: bytes, **_: object) -> bytes:
            return message[::-1]

    found = runner.run(CANARY, cast("Core", Swapping()), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert found.detail


def test_a_first_half_that_took_all_the_time_blinds(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """The second region was never asked."""
    estate[EAST].latency_seconds = 0.5

    found = runner.run(CrossRegion(EAST, WEST, "general", deadline_seconds=0.4), core, clock)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.TIMEOUT)
    assert "open" not in found.steps


def test_an_answer_past_the_deadline_is_a_timeout(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Later than anybody waits is a failure, whatever it says."""
    estate[WEST].latency_seconds = 0.5

    found = runner.run(CrossRegion(EAST, WEST, "general", deadline_seconds=0.4), core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "Deadline")


def test_every_ordered_pair_of_regions_is_looked_at(settings: Settings) -> None:
    """Three regions and two keys: six pairs each."""
    chosen = settings.canaries.model_copy(update={"kinds": (Kind.CROSS_REGION,)})

    canaries = live_canaries(Ports(settings.model_copy(update={"canaries": chosen}), ManualClock()))

    assert len({(canary.region, canary.purpose) for canary in canaries}) == len(canaries) == 12
    assert all(len(set(canary.region.split(":"))) == 2 for canary in canaries)
