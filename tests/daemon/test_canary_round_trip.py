"""The round-trip canary and the runner: whatever happens, a result that says what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import structlog
from daemon_kit import result

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import ClosedError, ConfigurationError, KmsCoreError, KmsUnavailableError, MessageError
from kms_core.testing import FakeEstate, ManualClock
from kms_watchdog import runner
from kms_watchdog.canaries.canary import canary_id
from kms_watchdog.canaries.finding import from_error
from kms_watchdog.canaries.round_trip import PLAINTEXT_BYTES, RoundTrip
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason

CANARY = RoundTrip("us-west-2", "general")


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.results: list[CanaryResult] = []

    def write(self, result: CanaryResult) -> None:
        self.results.append(result)


class Full:
    """A sink whose disk is full."""

    def write(self, result: CanaryResult) -> None:
        raise OSError(28, "No space left on device")


def test_a_round_trip_asks_its_own_region_and_no_other(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """One data key made, one opened, both where the canary looks: no cache, no failover."""
    before = len(estate.calls)

    found = runner.run(CANARY, core, clock)

    assert found.outcome is Outcome.OK
    assert [(call.region, call.operation) for call in estate.calls[before:]] == [
        ("us-west-2", "GenerateDataKey"),
        ("us-west-2", "Decrypt"),
    ]


def test_every_request_says_that_it_is_a_canary(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """IAM confines the watchdog to this pair; purpose and region tell canaries apart in CloudTrail."""
    before = len(estate.calls)

    runner.run(CANARY, core, clock)

    for call in estate.calls[before:]:
        assert {"canary": "true", "purpose": "general", "region": "us-west-2"}.items() <= call.context.items()


def test_the_steps_are_timed_by_the_clock(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """A slow region shows up in the result without the test being slow."""
    estate["us-west-2"].latency_seconds = 0.4

    found = runner.run(CANARY, core, clock)

    assert found.steps == {"seal": pytest.approx(0.4), "open": pytest.approx(0.4)}
    assert found.detail == ""
    assert found.duration_seconds == pytest.approx(0.8)


def test_a_good_answer_past_the_deadline_is_a_timeout(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Working, but later than anybody waits, is not working."""
    estate["us-west-2"].latency_seconds = 0.4

    found = runner.run(RoundTrip("us-west-2", "general", deadline_seconds=0.7), core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "Deadline")
    assert found.detail == "open: took longer than 0.7 s"


def test_a_canary_out_of_time_does_not_go_on_asking(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Once sealing took the whole deadline, opening would only hold the region's thread longer."""
    estate["us-west-2"].latency_seconds = 0.4

    found = runner.run(RoundTrip("us-west-2", "general", deadline_seconds=0.3), core, clock)

    assert found.reason is Reason.TIMEOUT
    assert "open" not in found.steps


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        pytest.param("ConnectTimeout", Outcome.FAILED, Reason.TIMEOUT, id="black-hole"),
        pytest.param("ReadTimeout", Outcome.FAILED, Reason.TIMEOUT, id="no-answer"),
        pytest.param("ConnectionRefused", Outcome.FAILED, Reason.ERROR, id="refused"),
        pytest.param("DnsFailure", Outcome.FAILED, Reason.ERROR, id="dns"),
        pytest.param("KMSInternalException", Outcome.FAILED, Reason.ERROR, id="kms-5xx"),
        pytest.param("ThrottlingException", Outcome.FAILED, Reason.THROTTLED, id="throttled"),
        pytest.param("AccessDeniedException", Outcome.FAILED, Reason.DENIED, id="denied"),
        pytest.param("DisabledException", Outcome.FAILED, Reason.DENIED, id="disabled"),
        pytest.param("ExpiredTokenException", Outcome.BLIND, Reason.NO_CREDENTIALS, id="expired-credentials"),
        pytest.param("UnrecognizedClientException", Outcome.BLIND, Reason.NO_CREDENTIALS, id="wrong-credentials"),
        pytest.param("NoCredentialsError", Outcome.BLIND, Reason.NO_CREDENTIALS, id="no-credentials"),
        pytest.param("CredentialsLate", Outcome.BLIND, Reason.NO_CREDENTIALS, id="late-credentials"),
        pytest.param("TokenRetrievalError", Outcome.BLIND, Reason.NO_CREDENTIALS, id="no-token"),
        pytest.param("RequestExpired", Outcome.BLIND, Reason.NO_CREDENTIALS, id="our-clock"),
    ],
)
def test_each_failure_becomes_its_own_answer(
    core: Core, estate: FakeEstate, clock: ManualClock, code: str, outcome: Outcome, reason: Reason
) -> None:
    """Failed, and why; or blind, when KMS never learned who asked."""
    estate.fail(code, regions=["us-west-2"])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason) == (outcome, reason)
    assert found.error_code == code
    assert found.detail.startswith("seal: ")
    assert f"us-west-2: GenerateDataKey {code}" in found.detail
    assert "\n" not in found.detail


def test_other_bytes_than_were_sealed_are_a_mismatch(core: Core, clock: ManualClock) -> None:
    """The worst failure there is has a reason of its own."""

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
    assert found.detail == "open: it opened, to other bytes than were sealed"


def test_what_kms_refused_is_told_with_its_code(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """The core's own text withholds why a message was refused; whoever mends it needs to know."""
    estate["us-west-2"].script.extend([None, "InvalidCiphertextException"])

    found = runner.run(CANARY, core, clock)

    assert found.detail == (
        "open: the message cannot be opened: us-west-2: Decrypt InvalidCiphertextException after 0 ms"
    )


def test_entropy_is_an_argument(core: Core, clock: ManualClock) -> None:
    """The plaintext is as many random bytes as the canary says, from where the caller says."""
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return b"\7" * count

    runner.run(RoundTrip("us-west-2", "general", entropy=entropy), core, clock)

    assert asked == [PLAINTEXT_BYTES]


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "code"),
    [
        pytest.param(MessageError(), Outcome.FAILED, Reason.MISMATCH, "MessageError", id="message"),
        pytest.param(ClosedError(), Outcome.BLIND, Reason.CRASHED, "ClosedError", id="stopping"),
        pytest.param(ConfigurationError(), Outcome.FAILED, Reason.ERROR, "ConfigurationError", id="configuration"),
        pytest.param(KmsUnavailableError(), Outcome.FAILED, Reason.ERROR, "KmsUnavailableError", id="no-attempt"),
    ],
)
def test_errors_without_an_attempt_are_named_by_their_class(
    error: KmsCoreError, outcome: Outcome, reason: Reason, code: str
) -> None:
    """KMS was not asked, so there is no code of its own."""
    found = from_error(error)

    assert (found.outcome, found.reason, found.error_code) == (outcome, reason, code)


class Broken:
    """A canary with a bug."""

    kind, region, purpose, deadline_seconds = "broken", "us-east-1", "general", 1.0

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        raise ZeroDivisionError


def test_a_canary_that_crashes_is_blind_and_logged(core: Core, clock: ManualClock) -> None:
    """A bug in one canary says nothing about KMS, and stops nothing."""
    kept = Kept()

    with structlog.testing.capture_logs() as logs:
        found = runner.run(Broken(), core, clock, sinks=[kept])

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.CRASHED, "ZeroDivisionError")
    assert kept.results == [found]
    assert [entry["event"] for entry in logs] == ["canary.crashed"]


def test_a_drills_results_say_so(core: Core, clock: ManualClock) -> None:
    """The drill engine runs the same canaries: mode and run are the runner's to say."""
    found = runner.run(CANARY, core, clock, mode=Mode.DRILL, run_id="run-1")

    assert (found.mode, found.run_id) == (Mode.DRILL, "run-1")


def test_a_sink_that_fails_hurts_nobody(core: Core, clock: ManualClock) -> None:
    """A full disk blinds one sink, not its neighbours, and not the canary."""
    kept = Kept()

    with structlog.testing.capture_logs() as logs:
        found = runner.run(CANARY, core, clock, sinks=[Full(), kept])

    assert kept.results == [found]
    assert [entry["event"] for entry in logs] == ["sink.failed"]


def test_a_turn_that_came_too_late_is_blind(clock: ManualClock) -> None:
    """Nobody asked, so nobody knows."""
    found = runner.could_not_ask(CANARY, clock, Reason.OWN_DEADLINE)

    assert (found.outcome, found.reason, found.region) == (Outcome.BLIND, Reason.OWN_DEADLINE, "us-west-2")


def test_a_canary_is_named_by_what_it_looks_at() -> None:
    """The id in logs, jobs and pages."""
    assert canary_id(CANARY) == "round_trip:us-west-2:general"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: result(Outcome.OK), id="ok"),
        pytest.param(
            lambda: result(Outcome.FAILED, request_id="r-1", error_code="X", steps={"seal": 0.5}), id="failed"
        ),
        pytest.param(lambda: result(Outcome.BLIND, mode=Mode.DRILL, run_id="run-1"), id="blind"),
    ],
)
def test_a_result_survives_json(make: Callable[[], CanaryResult]) -> None:
    """What a journal or a log line holds is the whole result."""
    assert CanaryResult.from_json(make().to_json()) == make()


def test_a_result_without_a_reason_is_ok_and_only_that() -> None:
    """A failure always says why."""
    with pytest.raises(ValueError, match="has a reason"):
        CanaryResult.from_json({**result().to_json(), "outcome": "FAILED"})
