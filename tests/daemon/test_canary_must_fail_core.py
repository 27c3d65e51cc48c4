"""The core must refuse by itself: what it lets through, what it refuses elsewhere, and what it leaves to KMS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import cast

import pytest
from daemon_kit import REGIONS

from kms_core import Core
from kms_core.errors import ClosedError, KmsUnavailableError, MessageError, Step
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import runner
from kms_watchdog.canaries.must_fail_core import MustFailCore
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings
from kms_watchdog.results import Kind, Outcome, Reason

CANARY = MustFailCore("us-east-1", "general", "payment")
WAYS = ["context", "purpose", "message_id", "header_tag", "frame"]


class Altered:
    """A core of which `instead` sees every message before the real one, from the second on (the first is in order)."""

    def __init__(self, core: Core, instead: Callable[[bytes, str, Mapping[str, str]], bytes | None]) -> None:
        self._core, self._instead = core, instead
        self.good = b""

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        self.good = self._core.encrypt(plaintext, purpose=purpose, context=context)
        return self.good

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        in_order = message == self.good and purpose == CANARY.purpose and context == CANARY.context
        if not in_order and (said := self._instead(message, purpose, context)) is not None:
            return said
        return self._core.decrypt(message, purpose=purpose, context=context)

    def requests_made(self) -> AbstractContextManager[list[str]]:
        return self._core.requests_made()


def altered(core: Core, instead: Callable[[bytes, str, Mapping[str, str]], bytes | None]) -> Core:
    return cast("Core", Altered(core, instead))


def test_all_ways_are_refused_without_asking_kms(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Two requests for the data key that is needed once; the next look makes none at all."""
    estate.calls.clear()

    first = runner.run(CANARY, core, clock)
    asked = estate.asked("GenerateDataKey") + estate.asked("Decrypt")
    second = runner.run(CANARY, core, clock)

    assert [found.outcome for found in (first, second)] == [Outcome.OK] * 2
    assert list(first.steps) == ["seal", "open", *WAYS]
    assert first.facts == {"refusals": 5.0}
    assert len(asked) == 2
    assert len(estate.calls) == 2


def test_without_a_second_purpose_that_way_is_left_out(core: Core, clock: ManualClock) -> None:
    """The other four are tried."""
    found = runner.run(MustFailCore("us-east-1", "general"), core, clock)

    assert (found.outcome, found.facts["refusals"]) == (Outcome.OK, 4.0)
    assert "purpose" not in found.steps


def offers(message: bytes, purpose: str, context: Mapping[str, str], *, good: bytes) -> str:
    """Return which way it is that the canary tries."""
    if context != CANARY.context:
        return "context"
    if purpose != CANARY.purpose:
        return "purpose"
    (at,) = (at for at in range(len(good)) if good[at] != message[at])
    return {3: "message_id", len(good) - 1: "frame"}.get(at, "header_tag")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_accepted_must_page(core: Core, clock: ManualClock, way: str) -> None:
    """Each of them: a core that opens it protects nobody."""

    def instead(message: bytes, purpose: str, context: Mapping[str, str]) -> bytes | None:
        return b"opened" if offers(message, purpose, context, good=lax.good) == way else None

    lax = Altered(core, instead)

    found = runner.run(CANARY, cast("Core", lax), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.ACCEPTED_MUST_REFUSE)
    assert found.detail.startswith(f"{way}: ")
    assert found.facts["refusals"] == WAYS.index(way)


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_at_another_place_is_the_wrong_one(core: Core, clock: ManualClock, way: str) -> None:
    """It may be luck, and luck is no check."""

    def instead(message: bytes, purpose: str, context: Mapping[str, str]) -> bytes | None:
        if offers(message, purpose, context, good=lax.good) == way:
            raise MessageError(step=Step.TRAILING)
        return None

    lax = Altered(core, instead)

    found = runner.run(CANARY, cast("Core", lax), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.WRONG_REFUSAL)
    assert "trailing bytes" in found.detail
    assert found.detail.startswith(f"{way}: ")


@pytest.mark.parametrize("way", WAYS)
def test_a_core_that_leaves_it_to_kms_has_failed(core: Core, clock: ManualClock, way: str) -> None:
    """The refusal is right, and KMS was asked for it: in an outage there would be none."""

    def instead(message: bytes, purpose: str, context: Mapping[str, str]) -> bytes | None:
        if offers(message, purpose, context, good=lax.good) == way:
            core.pinned("us-west-2").encrypt(b"", purpose="general", context=CANARY.context)
        return None

    lax = Altered(core, instead)

    found = runner.run(CANARY, cast("Core", lax), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.ASKED_KMS)
    assert found.detail == f"{way}: the core asked KMS: GenerateDataKey"


def test_an_acceptance_with_the_help_of_kms_is_one_first_of_all(core: Core, clock: ManualClock) -> None:
    """That KMS was asked is the smaller trouble."""

    def instead(*_: object) -> bytes:
        core.pinned("us-west-2").encrypt(b"", purpose="general", context=CANARY.context)
        return b"opened"

    assert runner.run(CANARY, altered(core, instead), clock).reason is Reason.ACCEPTED_MUST_REFUSE


def test_requests_of_others_do_not_count(core: Core, clock: ManualClock) -> None:
    """Other canaries ask through the same core, in the same moment, in threads of their own."""

    def other() -> None:
        core.pinned("us-west-2").encrypt(b"", purpose="general", context=CANARY.context)

    def instead(*_: object) -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)

    assert runner.run(CANARY, altered(core, instead), clock).outcome is Outcome.OK


def test_a_data_key_that_left_the_cache_just_then_is_no_failure(
    core: Core, estate: FakeEstate, settings: Settings, clock: ManualClock
) -> None:
    """Once it may happen that its time ends between a good opening and the attempt after it."""
    moments = iter([settings.core.data_key_ttl_seconds + 1])

    def instead(message: bytes, purpose: str, context: Mapping[str, str]) -> None:
        if offers(message, purpose, context, good=lax.good) == "frame":
            clock.advance(next(moments, 0.0))

    lax = Altered(core, instead)
    slow = MustFailCore("us-east-1", "general", "payment", deadline_seconds=1000.0)

    found = runner.run(slow, cast("Core", lax), clock)

    assert found.outcome is Outcome.OK
    assert len(estate.asked("Decrypt")) == 2  # at first, and by the attempt


def test_a_dead_home_region_does_not_blind_it(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """It asks about the core, which is as well with a data key from anywhere."""
    estate.fail("ConnectionRefused", regions=["us-east-1"])

    assert runner.run(CANARY, core, clock).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("ConnectionRefused", Reason.ERROR, id="refused"),
        pytest.param("AccessDeniedException", Reason.DENIED, id="denied"),
        pytest.param("NoCredentialsError", Reason.NO_CREDENTIALS, id="no-credentials"),
    ],
)
def test_without_a_data_key_it_is_blind(
    core: Core, estate: FakeEstate, clock: ManualClock, code: str, reason: Reason
) -> None:
    """Nothing was there to refuse."""
    estate.fail(code)

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.facts["refusals"]) == (Outcome.BLIND, reason, 0.0)


@pytest.mark.parametrize("error", [ClosedError("closed"), KmsUnavailableError("no time")], ids=["closed", "no-time"])
def test_an_attempt_that_could_not_be_made_is_blind(core: Core, clock: ManualClock, error: Exception) -> None:
    """The core has neither refused nor accepted."""

    def instead(*_: object) -> None:
        raise error

    found = runner.run(CANARY, altered(core, instead), clock)

    assert found.outcome is Outcome.BLIND


def test_a_message_in_order_that_does_not_open_is_a_mismatch(
    core: Core, estate: FakeEstate, clock: ManualClock
) -> None:
    """A core that refuses everything would pass all other tests of this page."""
    for region in REGIONS:
        estate[region].script.extend([None, "InvalidCiphertextException"])

    found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert list(found.steps) == ["seal", "open"]


def test_other_bytes_are_a_mismatch(core: Core, clock: ManualClock) -> None:
    """What opens must be what was sealed, before anything is said of refusals."""

    class Swapping:
        def encrypt(self, plaintext: bytes, **_: object) -> bytes:
            return plaintext

        def decrypt(self, message: bytes, **_: object) -> bytes:
            return message[::-1]

    found = runner.run(CANARY, cast("Core", Swapping()), clock)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)


def test_a_look_out_of_time_is_blind(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """What was not tried was not refused."""
    for region in REGIONS:
        estate[region].latency_seconds = 0.4

    found = runner.run(MustFailCore("us-east-1", "general", "payment", deadline_seconds=0.5), core, clock)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.TIMEOUT)


def test_learning_a_key_from_its_alias_is_no_asking(estate: FakeEstate, settings: Settings, clock: ManualClock) -> None:
    """A core that started in an outage asks DescribeKey at the first use of a purpose, and opens nothing by that."""
    estate.fail("ConnectionRefused")
    with core_over(estate, settings.core_config()) as core:
        estate.fail(None)
        clock.advance(60)
        estate.calls.clear()

        found = runner.run(CANARY, core, clock)

    assert found.outcome is Outcome.OK
    assert len(estate.asked("DescribeKey")) == 2


def test_a_key_that_cannot_be_learnt_blinds_the_way_that_needs_it(
    estate: FakeEstate, settings: Settings, clock: ManualClock
) -> None:
    """The other purpose's alias is gone: KMS was asked where it leads, and for no opening."""
    estate.fail("ConnectionRefused")
    with core_over(estate, settings.core_config()) as core:
        estate.fail(None)
        for region in REGIONS:
            del estate[region].aliases["alias/payment"]
        clock.advance(60)

        found = runner.run(CANARY, core, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.DENIED, "NotFoundException")
    assert list(found.steps)[-1] == "purpose"


def test_every_purpose_is_offered_under_another(settings: Settings) -> None:
    """From the home region."""
    chosen = settings.canaries.model_copy(update={"kinds": (Kind.MUST_FAIL_CORE,)})

    canaries = live_canaries(Ports(settings.model_copy(update={"canaries": chosen}), ManualClock()))

    made = [canary for canary in canaries if isinstance(canary, MustFailCore)]
    assert [(canary.region, canary.purpose, canary.other_purpose) for canary in made] == [
        ("us-east-1", "general", "payment"),
        ("us-east-1", "payment", "general"),
    ]
