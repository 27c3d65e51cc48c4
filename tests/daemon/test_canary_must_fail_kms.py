"""KMS itself must refuse: exactly so, in each region; and what kept it from looking says nothing of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from kms_core import Core
from kms_core.events import Attempt, BreakerMoved, Event, KeyQuarantined
from kms_core.kms import KmsFailure, UnwrappedKey
from kms_core.testing import FakeEstate, FakeKms, ManualClock, core_over
from kms_watchdog import runner
from kms_watchdog.canaries.must_fail_kms import MustFailKms
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings
from kms_watchdog.results import Kind, Outcome, Reason

WEST = "us-west-2"
CANARY = MustFailKms(WEST, "general", "payment")
RIGHT = "InvalidCiphertextException"


class Obliging(FakeKms):
    """Opens what it should refuse with the codes in `opens`, under the name of `answers_as`, when it is set."""

    def __init__(self, region: str, estate: FakeEstate) -> None:
        super().__init__(region, estate)
        self.opens: set[str] = set()
        self.answers_as = ""
        self.key_bytes = 32
        self.overlooks_the_last_bit = False

    def decrypt(self, wrapped: bytes, key_arn: str, context: Mapping[str, str]) -> UnwrappedKey:
        try:
            return super().decrypt(wrapped, key_arn, context)
        except KmsFailure as e:
            if self.overlooks_the_last_bit:
                return super().decrypt(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), key_arn, context)
            if e.code not in self.opens:
                raise
            arn = self.answers_as or key_arn
            return UnwrappedKey(plaintext=bytes(self.key_bytes), key_arn=arn, request_id=e.request_id)


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def west(estate: FakeEstate) -> Obliging:
    made = Obliging(WEST, estate)
    made.aliases = estate[WEST].aliases
    estate.kms[WEST] = made
    return made


@pytest.fixture
def core(estate: FakeEstate, west: Obliging, settings: Settings, recorder: Recorder) -> Iterator[Core]:
    with core_over(estate, settings.core_config(), observer=recorder) as made:
        estate.calls.clear()
        recorder.events.clear()
        yield made


def test_three_ways_are_refused_in_its_own_region(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """One data key made, three unwraps asked, all with `canary=true`; one of them with another pair changed."""
    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.detail) == (Outcome.OK, None, "")
    assert list(found.steps) == ["seal", "context", "bit", "key"]
    assert [(call.region, call.operation) for call in estate.calls] == [
        (WEST, "GenerateDataKey"),
        *[(WEST, "Decrypt")] * 3,
    ]
    sealed, another, *rest = [call.context for call in estate.calls]
    assert {call.context["canary"] for call in estate.calls} == {"true"}
    assert another != sealed
    assert another.keys() == sealed.keys()
    assert rest == [sealed, sealed]


def test_each_way_is_refused_with_its_own_code(core: Core, recorder: Recorder, clock: ManualClock) -> None:
    """As KMS says it; and an observer is told that these refusals were wanted."""
    runner.run(CANARY, core, clock)

    attempts = [event for event in recorder.events if isinstance(event, Attempt)]
    assert [attempt.error_code for attempt in attempts] == ["", RIGHT, RIGHT, "IncorrectKeyException"]
    assert [attempt.refusal_wanted for attempt in attempts] == [False, True, True, True]


def test_refusals_leave_breakers_and_keys_alone(core: Core, recorder: Recorder, clock: ManualClock) -> None:
    """A watchdog that asks for refusals all day must not take the region away from those who work."""
    for _ in range(10):
        assert runner.run(CANARY, core, clock).outcome is Outcome.OK

    assert core.health().regions[WEST].breaker == "closed"
    assert not [event for event in recorder.events if isinstance(event, BreakerMoved | KeyQuarantined)]


def test_without_a_second_purpose_there_is_no_wrong_key(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """The other two ways are tried all the same."""
    found = runner.run(MustFailKms(WEST, "general"), core, clock)

    assert (found.outcome, list(found.steps)) == (Outcome.OK, ["seal", "context", "bit"])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("ReadTimeout", Reason.TIMEOUT, id="silent"),
        pytest.param("ConnectionRefused", Reason.ERROR, id="refused"),
        pytest.param("KMSInternalException", Reason.ERROR, id="5xx"),
        pytest.param("Truncated", Reason.ERROR, id="unreadable"),
        pytest.param("ThrottlingException", Reason.THROTTLED, id="throttled"),
        pytest.param("AccessDeniedException", Reason.DENIED, id="denied"),
        pytest.param("DisabledException", Reason.DENIED, id="disabled"),
        pytest.param("KMSInvalidStateException", Reason.DENIED, id="pending-deletion"),
        pytest.param("ExpiredTokenException", Reason.NO_CREDENTIALS, id="expired-credentials"),
        pytest.param("CredentialsLate", Reason.NO_CREDENTIALS, id="credentials-late"),
    ],
)
@pytest.mark.parametrize("sealed", [pytest.param(True, id="asking"), pytest.param(False, id="sealing")])
def test_what_kept_kms_from_looking_is_blind(
    core: Core, west: Obliging, clock: ManualClock, code: str, reason: Reason, *, sealed: bool
) -> None:
    """No refusal, and no acceptance: nothing is known of what KMS would have said."""
    west.script.extend([None, code, code] if sealed else [code, code])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, reason, code)
    assert list(found.steps) == (["seal", "context"] if sealed else ["seal"])
    assert found.detail


@pytest.mark.parametrize("code", ["403", "RequestAbortedException", "RequestTimeoutException", "NotAuthorized"])
def test_an_answer_about_the_request_alone_is_blind(core: Core, west: Obliging, clock: ManualClock, code: str) -> None:
    """Regression: a proxy's page, whose status is all the code there is, was called KMS's wrong refusal."""
    west.script.extend([None, KmsFailure(code, status=403)])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.error_code) == (Outcome.BLIND, code)


@pytest.mark.parametrize("code", ["ValidationException", "InvalidKeyUsageException", "NewException"])
@pytest.mark.parametrize(("before", "step"), [(1, "context"), (2, "bit"), (3, "key")])
def test_another_refusal_proves_nothing_and_fails(
    core: Core, west: Obliging, clock: ManualClock, code: str, before: int, step: str
) -> None:
    """Whatever made KMS say so, it did not look where it must."""
    west.script.extend([*[None] * before, KmsFailure(code, status=400, request_id="r-1")])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.WRONG_REFUSAL, code)
    assert (list(found.steps)[-1], found.request_id) == (step, "r-1")
    assert code in found.detail


@pytest.mark.parametrize(
    ("before", "code"),
    [pytest.param(1, "IncorrectKeyException", id="context"), pytest.param(3, RIGHT, id="key")],
)
def test_the_right_code_of_another_way_is_the_wrong_one(
    core: Core, west: Obliging, clock: ManualClock, before: int, code: str
) -> None:
    """Each way proves one thing, and only by its own code."""
    west.script.extend([*[None] * before, KmsFailure(code, status=400)])

    assert runner.run(CANARY, core, clock).reason is Reason.WRONG_REFUSAL


@pytest.mark.parametrize(
    ("opens", "step"),
    [pytest.param(RIGHT, "context", id="context"), pytest.param("IncorrectKeyException", "key", id="key")],
)
def test_what_is_opened_must_page(core: Core, west: Obliging, clock: ManualClock, opens: str, step: str) -> None:
    """A region whose KMS does not check what it must protects nothing."""
    west.opens = {opens}

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.ACCEPTED_MUST_REFUSE)
    assert found.detail.startswith(f"{step}: ")


def test_a_changed_bit_that_is_overlooked_must_page(core: Core, west: Obliging, clock: ManualClock) -> None:
    """The context is checked in order, and only the blob is not."""
    west.overlooks_the_last_bit = True

    found = runner.run(CANARY, core, clock)

    assert (found.reason, list(found.steps)[-1]) == (Reason.ACCEPTED_MUST_REFUSE, "bit")


def test_an_opening_that_the_core_does_not_believe_is_one_all_the_same(
    core: Core, estate: FakeEstate, west: Obliging, clock: ManualClock
) -> None:
    """Under another key's name, or with a key of another length: KMS did open it."""
    west.opens, west.answers_as = {"IncorrectKeyException"}, estate.arn(west.aliases["alias/general"], WEST)
    by_name = runner.run(CANARY, core, clock)
    west.opens, west.answers_as, west.key_bytes = {RIGHT}, "", 16
    by_length = runner.run(CANARY, core, clock)

    assert [found.error_code for found in (by_name, by_length)] == ["WrongAnswer", "WrongLength"]
    for found in (by_name, by_length):
        assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.ACCEPTED_MUST_REFUSE)


def test_the_other_keys_state_blinds_only_the_last_way(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """That it is disabled is its own canaries' to say; context and bit were looked at before."""
    estate.set_key_state(estate[WEST].aliases["alias/payment"], "Disabled", regions=[WEST])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.DENIED)
    assert list(found.steps) == ["seal", "context", "bit", "key"]


def test_a_look_out_of_time_is_blind_and_asks_no_more(core: Core, west: Obliging, clock: ManualClock) -> None:
    """What was not asked was not refused."""
    west.latency_seconds = 0.4

    found = runner.run(MustFailKms(WEST, "general", "payment", deadline_seconds=0.6), core, clock)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.TIMEOUT)
    assert list(found.steps) == ["seal", "context"]


def test_every_key_is_the_wrong_one_for_another(settings: Settings) -> None:
    """So that the check of each key's name is tried, in each region."""
    chosen = settings.canaries.model_copy(update={"kinds": (Kind.MUST_FAIL_KMS,)})

    canaries = live_canaries(Ports(settings.model_copy(update={"canaries": chosen}), ManualClock()))

    made = [canary for canary in canaries if isinstance(canary, MustFailKms)]
    assert {(canary.region, canary.purpose) for canary in made} == {
        (region, purpose) for region in settings.estate.regions for purpose in settings.keys
    }
    assert {(canary.purpose, canary.other_purpose) for canary in made} == {
        ("general", "payment"),
        ("payment", "general"),
    }
