"""Messages of hours, weeks and years ago: they open everywhere, or the canary says which does not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from kms_core import Core
from kms_core.testing import FakeEstate, ManualClock
from kms_watchdog import runner
from kms_watchdog.canaries.golden import Golden
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings
from kms_watchdog.golden_ladder import DAY, HOUR, WEEK
from kms_watchdog.golden_store import FILE, GoldenMessage, OwnedGoldenStore, VisitedGoldenStore
from kms_watchdog.key_rotations import AGAIN_SECONDS, ASK_SECONDS, KeyRotations
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason
from kms_watchdog.state_folder import StateFolder

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


class Listing:
    """KMS's management door, of which only the list of rotations is used."""

    def __init__(self) -> None:
        self.dates: list[dt.datetime] = []
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.half = False
        """Whether its answers are cut off."""
        self.before: Callable[[], object] = lambda: None

    def list_key_rotations(self, *, KeyId: str, Limit: int) -> dict[str, Any]:  # noqa: N803 - boto3's names
        self.asked.append(KeyId)
        self.before()
        if self.error is not None:
            raise self.error
        if self.half:
            return {"ResponseMetadata": {"HTTPStatusCode": 200}}
        return {"Rotations": [{"KeyId": KeyId, "RotationDate": date} for date in self.dates], "Truncated": False}


@pytest.fixture
def listing() -> Listing:
    return Listing()


@pytest.fixture
def rotations(listing: Listing, clock: ManualClock) -> KeyRotations:
    return KeyRotations(listing, clock)


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[OwnedGoldenStore]:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    made = OwnedGoldenStore(folder, clock)
    yield made
    made.close()


@dataclasses.dataclass
class Looks:
    """Golden canaries of one key, a look at a time."""

    core: Core
    clock: ManualClock
    store: OwnedGoldenStore
    rotations: KeyRotations

    def at(self, region: str = EAST, *, deadline_seconds: float = 10.0) -> CanaryResult:
        canary = Golden(
            region,
            "general",
            self.store,
            self.rotations,
            lists_rotations=region == EAST,
            deadline_seconds=deadline_seconds,
        )
        return runner.run(canary, self.core, self.clock)

    def after(self, *seconds: float) -> None:
        """Look once after each time."""
        for pause in seconds:
            self.clock.advance(pause)
            assert self.at().outcome is Outcome.OK


@pytest.fixture
def looks(core: Core, clock: ManualClock, store: OwnedGoldenStore, rotations: KeyRotations) -> Looks:
    return Looks(core, clock, store, rotations)


def test_an_empty_store_is_no_blindness(looks: Looks, estate: FakeEstate, store: OwnedGoldenStore) -> None:
    """A fresh installation seals its first message, opens it, and keeps it."""
    estate.calls.clear()

    found = looks.at(WEST)

    assert (found.outcome, found.facts) == (
        Outcome.OK,
        {"messages": 1.0, "oldest_age_seconds": 0.0, "newest_age_seconds": 0.0},
    )
    assert [(call.region, call.operation) for call in estate.calls] == [(WEST, "GenerateDataKey"), (WEST, "Decrypt")]
    assert {call.context["canary"] for call in estate.calls} == {"true"}
    (created,) = store.created("general")
    kept = store.read("general", created)
    assert kept is not None
    assert (kept.sealed_in, len(kept.digest)) == (WEST, 32)


def test_one_regions_message_is_opened_in_every_other(looks: Looks, estate: FakeEstate, clock: ManualClock) -> None:
    """Pinned, and each time: a cache would hide a region that lost a key's old material."""
    looks.at(EAST)
    clock.advance(60)
    estate.calls.clear()

    for region in (EAST, WEST, IRELAND) * 2:
        assert looks.at(region).outcome is Outcome.OK

    assert estate.asked() == [EAST, WEST, IRELAND] * 2


def test_messages_of_every_age_are_opened(looks: Looks, clock: ManualClock, listing: Listing) -> None:
    """Newest, a day, weeks, before the last rotation, and the oldest; the facts say how far that reaches."""
    looks.after(0, 3 * WEEK, 5 * DAY)
    listing.dates = [clock.now_utc() - dt.timedelta(days=300), clock.now_utc() + dt.timedelta(hours=1)]
    looks.after(2 * DAY, 10 * DAY, WEEK, 2 * HOUR, 2 * HOUR)

    found = looks.at(EAST)

    assert list(found.steps) == ["newest", "day", "weeks", "rotation", "oldest"]
    assert found.facts["messages"] >= 5
    assert found.facts["oldest_age_seconds"] == pytest.approx(3 * WEEK + 24 * DAY + 4 * HOUR)
    assert found.facts["newest_age_seconds"] == 0.0
    assert found.facts["rotations_spanned"] == 1.0


def test_a_new_message_is_sealed_each_hour_and_no_sooner(looks: Looks, store: OwnedGoldenStore) -> None:
    """By whichever region looks first."""
    looks.after(0, 30, HOUR - 60, 30, 30)
    assert len(store.created("general")) == 2
    looks.clock.advance(HOUR)
    looks.at(IRELAND)
    looks.at(WEST)

    created = store.created("general")
    newest = store.read("general", created[-1])

    assert len(created) == 3
    assert newest is not None
    assert newest.sealed_in == IRELAND


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        pytest.param("ReadTimeout", Outcome.FAILED, Reason.TIMEOUT, id="silent"),
        pytest.param("ConnectionRefused", Outcome.FAILED, Reason.ERROR, id="refused"),
        pytest.param("AccessDeniedException", Outcome.FAILED, Reason.DENIED, id="denied"),
        pytest.param("ThrottlingException", Outcome.FAILED, Reason.THROTTLED, id="throttled"),
        pytest.param("InvalidCiphertextException", Outcome.FAILED, Reason.MISMATCH, id="material-gone"),
        pytest.param("ExpiredTokenException", Outcome.BLIND, Reason.NO_CREDENTIALS, id="expired-credentials"),
    ],
)
def test_the_first_that_does_not_open_ends_the_look(
    looks: Looks, estate: FakeEstate, code: str, outcome: Outcome, reason: Reason
) -> None:
    """With what it stood for, its age and where it was sealed: whoever mends it needs that first."""
    looks.after(0, 2 * DAY, 2 * HOUR)
    before = looks.store.created("general")
    looks.clock.advance(2 * HOUR)
    estate[EAST].script.extend([None, code, code])

    found = looks.at()

    assert (found.outcome, found.reason, found.error_code) == (outcome, reason, code)
    assert list(found.steps) == ["newest", "day"]
    assert found.detail.startswith("day: sealed in us-east-1 52.0 hours ago: ")
    assert looks.store.created("general") == before


def test_old_material_that_is_lost_is_found(looks: Looks, estate: FakeEstate, listing: Listing) -> None:
    """The key still seals and opens what is new; only what is old says that something is gone."""
    looks.after(0, 2 * DAY, 2 * HOUR)
    key = estate.keys[estate[EAST].aliases["alias/general"]]
    key.material = b"\7" * 32
    looks.store.keep(sealed_now(looks))

    found = looks.at(WEST)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert list(found.steps) == ["newest", "day"]


def sealed_now(looks: Looks) -> GoldenMessage:
    """Return a new message, as a look would keep it."""
    looks.clock.advance(HOUR)
    canary = Golden(EAST, "general", looks.store, looks.rotations)
    message = looks.core.pinned(EAST).encrypt(b"x", purpose="general", context=canary.context)
    created = looks.clock.now_utc().timestamp()
    old = looks.store.read("general", looks.store.created("general")[0])
    assert old is not None
    return dataclasses.replace(old, created=created, message=message, digest=hashlib.sha256(b"x").digest())


def test_other_bytes_are_a_mismatch(looks: Looks) -> None:
    """The store keeps a digest, and no plaintext, to know it by."""
    made = looks.at()
    (created,) = looks.store.created("general")
    kept = looks.store.read("general", created)
    assert made.outcome is Outcome.OK
    assert kept is not None
    looks.clock.advance(2 * HOUR)
    looks.store.keep(
        dataclasses.replace(kept, created=looks.clock.now_utc().timestamp(), digest=bytes(32)),
    )

    found = looks.at()

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert "other bytes" in found.detail


def test_a_purpose_that_was_given_another_key_is_said_in_words(
    looks: Looks, estate: FakeEstate, clock: ManualClock
) -> None:
    """What is old no longer opens, for the application neither; the core's refusal alone would not say why."""
    looks.at()
    clock.advance(60)
    (created,) = looks.store.created("general")
    kept = looks.store.read("general", created)
    assert kept is not None
    others = looks.core.encrypt(b"x", purpose="payment", context=kept.context)
    clock.advance(HOUR)
    looks.store.keep(dataclasses.replace(kept, created=clock.now_utc().timestamp(), message=others))

    found = looks.at()

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert "under another key than this purpose has now" in found.detail


def test_a_region_that_cannot_seal_the_first_one_is_blind(looks: Looks, estate: FakeEstate) -> None:
    """There is nothing old to open, and nothing new either."""
    estate.fail("ConnectionRefused", regions=[WEST])

    found = looks.at(WEST)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.ERROR, "ConnectionRefused")
    assert looks.store.created("general") == ()


def test_a_first_one_that_does_not_open_is_failed_and_not_kept(looks: Looks, estate: FakeEstate) -> None:
    """Else it would be red for years."""
    estate[WEST].script.extend([None, "InvalidCiphertextException"])

    found = looks.at(WEST)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.MISMATCH)
    assert looks.store.created("general") == ()


def test_that_a_new_one_cannot_be_sealed_is_not_this_canarys_news(looks: Looks, estate: FakeEstate) -> None:
    """What is old opened, which was the question; the round trip says that sealing does not work."""
    looks.at()
    looks.clock.advance(2 * HOUR)
    estate[EAST].script.extend([None, "AccessDeniedException"])

    found = looks.at()

    assert found.outcome is Outcome.OK
    assert len(looks.store.created("general")) == 1


def test_slow_openings_are_a_timeout_and_no_more_are_tried(looks: Looks, estate: FakeEstate) -> None:
    """More would only hold the region's thread."""
    looks.after(0, 2 * DAY, 2 * HOUR)
    estate[EAST].latency_seconds = 0.4

    cut = looks.at(deadline_seconds=0.3)
    late = looks.at(deadline_seconds=0.7)

    assert [(found.outcome, found.reason) for found in (cut, late)] == [(Outcome.FAILED, Reason.TIMEOUT)] * 2
    assert [list(found.steps) for found in (cut, late)] == [["newest"], ["newest", "day"]]


def test_the_time_of_what_is_done_for_later_is_not_the_answers(
    looks: Looks, estate: FakeEstate, listing: Listing
) -> None:
    """Regression: what is old opened in time, and a slow list of rotations or a slow sealing made it a failure."""
    looks.at()
    looks.clock.advance(2 * HOUR)
    estate[EAST].latency_seconds = 0.3
    listing.before = lambda: looks.clock.advance(5)

    found = looks.at(deadline_seconds=0.5)

    assert (found.outcome, list(found.steps)) == (Outcome.OK, ["newest", "seal"])
    assert listing.asked
    assert found.duration_seconds > 5


def test_a_slow_first_look_is_a_timeout(looks: Looks, estate: FakeEstate) -> None:
    """Its message is good, and kept."""
    estate[WEST].latency_seconds = 0.4

    found = looks.at(WEST, deadline_seconds=0.5)

    assert found.reason is Reason.TIMEOUT
    assert len(looks.store.created("general")) == 1


def test_a_store_that_cannot_be_read_blinds(looks: Looks, tmp_path: Path) -> None:
    """Nobody knows what would have opened."""
    looks.at()
    with sqlite3.connect(tmp_path / "state" / FILE) as db:
        db.execute("DROP TABLE golden")
    db.close()

    found = looks.at()

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.UNREADABLE)
    assert FILE in found.detail


def test_a_message_that_was_let_go_of_meanwhile_is_passed_over(core: Core, looks: Looks, clock: ManualClock) -> None:
    """Another region's look has thinned them since this one looked at the list."""
    looks.after(0, 2 * DAY)
    clock.advance(2 * HOUR)

    class Thinned(OwnedGoldenStore):
        def __init__(self) -> None:
            """It reads from the other's."""

        def created(self, purpose: str) -> tuple[float, ...]:
            return (*looks.store.created(purpose), clock.now_utc().timestamp())

        def read(self, purpose: str, created: float) -> GoldenMessage | None:
            return looks.store.read(purpose, created)

    found = runner.run(Golden(WEST, "general", Thinned(), looks.rotations), core, clock)

    assert (found.outcome, list(found.steps)) == (Outcome.OK, ["day"])


def test_rotations_are_asked_in_the_primary_region_and_seldom(
    looks: Looks, listing: Listing, estate: FakeEstate, clock: ManualClock
) -> None:
    """No other region's look waits for the primary; and the list changes once a year."""
    looks.at()
    looks.at(WEST)
    assert listing.asked == []
    looks.at()
    looks.at()
    clock.advance(ASK_SECONDS - 1)
    looks.at()
    assert listing.asked == [estate[EAST].aliases["alias/general"]]

    clock.advance(1)
    looks.at(WEST)
    looks.at()

    assert len(listing.asked) == 2


def test_a_list_that_cannot_be_read_takes_nothing_away(
    rotations: KeyRotations, listing: Listing, clock: ManualClock
) -> None:
    """What was known stays known, and KMS is asked again soon; nothing known is nothing said."""
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListKeyRotations")
    listing.error = denied
    rotations.refresh("general", "mrk-1")
    unknown = rotations.known("general")
    listing.error, listing.dates = None, [clock.now_utc()]
    rotations.refresh("general", "mrk-1")
    too_soon = rotations.known("general")
    clock.advance(AGAIN_SECONDS)
    rotations.refresh("general", "mrk-1")
    known = rotations.known("general")
    clock.advance(ASK_SECONDS)
    listing.error = denied
    rotations.refresh("general", "mrk-1")

    assert (unknown, too_soon) == (None, None)
    assert known == rotations.known("general") == (listing.dates[0].timestamp(),)


@pytest.mark.parametrize("half", [False, True], ids=["denied", "half-an-answer"])
def test_where_rotations_are_unknown_no_number_is_given(looks: Looks, listing: Listing, *, half: bool) -> None:
    """Zero would be a claim; and half a list (regression: it crashed the look) is none."""
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListKeyRotations")
    listing.half, listing.error = half, None if half else denied
    looks.at()

    found = looks.at()

    assert found.outcome is Outcome.OK
    assert "rotations_spanned" not in found.facts


def golden_of(settings: Settings, *, owns_state: bool) -> Iterable[Golden]:
    chosen = settings.canaries.model_copy(update={"kinds": (Kind.GOLDEN,)})
    changed = settings.model_copy(update={"canaries": chosen})
    ports = Ports(changed, ManualClock(), owns_state=owns_state)
    yield from cast("tuple[Golden, ...]", live_canaries(ports))
    ports.close()


def test_the_owner_of_the_folder_writes_and_others_visit(settings: Settings) -> None:
    """The daemon holds the lock; `once`, and whoever only wants names, open no file for writing."""
    StateFolder(settings.state.dir).prepare()

    visiting = list(golden_of(settings, owns_state=False))
    assert not (settings.state.dir / FILE).exists()
    owning = list(golden_of(settings, owns_state=True))

    assert {type(canary.store) for canary in visiting} == {VisitedGoldenStore}
    assert {type(canary.store) for canary in owning} == {OwnedGoldenStore}
    assert {(canary.region, canary.lists_rotations) for canary in owning} == {
        (EAST, True),
        (WEST, False),
        (IRELAND, False),
    }
