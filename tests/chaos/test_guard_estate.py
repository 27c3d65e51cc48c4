"""Guards that ask the daemon: an estate that is not well, not known to be well, or another one, refuses a drill."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon_answer import all_well, seen, subjects
from guard_kit import NOW, settings_of

from kms_chaos.guards import CannotTellError, NotHeldError, estate
from kms_core.testing import ManualClock
from kms_watchdog import evacuation
from kms_watchdog.config import Settings
from kms_watchdog.health import Subject
from kms_watchdog.results import CanaryResult, Kind, Reason

SURVIVORS = ("us-west-2", "eu-west-1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def bad(kind: Kind, region: str, why: Reason | None, **facts: float) -> Any:
    """Return what one kind of canary says of one region; None for `why`: it has not looked; the others are OK."""

    def look(subject: Subject) -> CanaryResult | None:
        if (subject.canary, subject.region) != (kind, region):
            return seen(subject, at_utc=NOW)
        return seen(subject, at_utc=NOW, why=why, **facts) if why or facts else None

    return look


def test_an_estate_that_is_well_is_said_to_be(settings: Settings) -> None:
    """With what was counted, for the journal."""
    document = all_well(settings, NOW)

    assert estate.healthy(document, settings) == "9 round trips are up, 3 breakers closed"
    assert estate.keys_enabled(document, settings) == "9 keys and replicas are Enabled"
    assert estate.not_drifted(document, settings) == "9 keys and replicas are as configured"
    assert "us-west-2, eu-west-1 throttle nobody" in estate.unthrottled(document, settings, SURVIVORS)


@pytest.mark.parametrize(
    ("kind", "guard"),
    [
        pytest.param(Kind.ROUND_TRIP, estate.healthy, id="round-trip"),
        pytest.param(Kind.KEY_STATE, estate.keys_enabled, id="key-state"),
        pytest.param(Kind.REPLICA_DRIFT, estate.not_drifted, id="drift"),
    ],
)
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_one_canary_that_is_not_well_is_enough(settings: Settings, kind: Kind, guard: Any, region: str) -> None:
    """In any region; one failure too, long before anybody is paged."""
    document = all_well(settings, NOW, look=bad(kind, region, Reason.TIMEOUT), looks=1)

    with pytest.raises(NotHeldError, match=rf"{kind} of {region} \w+ is \w+: {Reason.TIMEOUT}$"):
        guard(document, settings)


@pytest.mark.parametrize(
    ("kind", "guard"),
    [
        pytest.param(Kind.ROUND_TRIP, estate.healthy, id="round-trip"),
        pytest.param(Kind.KEY_STATE, estate.keys_enabled, id="key-state"),
        pytest.param(Kind.REPLICA_DRIFT, estate.not_drifted, id="drift"),
    ],
)
def test_news_that_is_old_is_no_news(settings: Settings, kind: Kind, guard: Any) -> None:
    """A canary that was OK and is silent since is not up."""
    document = all_well(settings, NOW, stale=lambda subject: subject.canary == kind)

    with pytest.raises(NotHeldError, match="is stale"):
        guard(document, settings)


@pytest.mark.parametrize("breaker", ["open", "half_open"])
def test_a_live_breaker_that_is_open_refuses(settings: Settings, breaker: str) -> None:
    """The region has trouble of its own."""
    document = all_well(settings, NOW, breakers={"us-west-2": breaker})

    with pytest.raises(NotHeldError, match=f"breaker of us-west-2 is {breaker}"):
        estate.healthy(document, settings)


def test_a_region_that_somebody_took_out_of_use_refuses(settings: Settings) -> None:
    """There is one survivor fewer than the drill thinks."""
    document = all_well(settings, NOW, forced="eu-west-1")

    with pytest.raises(NotHeldError, match="taken eu-west-1 out of use"):
        estate.healthy(document, settings)


@pytest.mark.parametrize("detail", [True, False])
def test_a_region_that_is_evacuated_refuses(settings: Settings, *, detail: bool) -> None:
    """Its breaker is closed and all is well there: only the order says that it carries nothing."""
    left = evacuation.order("eu-west-1", lasts=timedelta(hours=1), reason="INC-7", by="ann", now_utc=NOW)
    document = all_well(settings, NOW, orders=[left], detail=detail)

    with pytest.raises(NotHeldError, match="taken eu-west-1 out of use"):
        estate.healthy(document, settings)


def test_a_kind_that_is_not_configured_has_not_been_looked_at(tmp_path: Path) -> None:
    """Absent is not well."""
    settings = settings_of(tmp_path, '[canaries]\nkinds = ["round_trip"]')
    document = all_well(settings, NOW)

    assert estate.healthy(document, settings)
    with pytest.raises(NotHeldError, match=r"canaries\.kinds lacks key_state"):
        estate.keys_enabled(document, settings)
    with pytest.raises(NotHeldError, match=r"canaries\.kinds lacks replica_drift"):
        estate.not_drifted(document, settings)
    with pytest.raises(NotHeldError, match=r"canaries\.kinds lacks headroom"):
        estate.unthrottled(document, settings, SURVIVORS)


def test_a_canary_that_the_daemon_does_not_have_has_not_looked(settings: Settings) -> None:
    """It runs with another configuration than ours."""
    document = all_well(settings, NOW)
    document["canaries"] = [c for c in document["canaries"] if (c["canary"], c["key"]) != (Kind.KEY_STATE, "pii")]

    with pytest.raises(NotHeldError, match="no key_state of us-east-1 pii"):
        estate.keys_enabled(document, settings)


@pytest.mark.parametrize(
    ("why", "facts", "detail"),
    [
        pytest.param(None, {"throttles": 2.0}, True, id="throttled"),
        pytest.param(Reason.HEADROOM_LOW, {}, False, id="without-the-token"),
    ],
)
def test_a_survivor_that_throttles_refuses_and_ends_a_drill(
    settings: Settings, why: Reason | None, facts: dict[str, float], *, detail: bool
) -> None:
    """Its headroom is what the drill lives on; of the region that is hurt nothing is asked."""
    document = all_well(settings, NOW, look=bad(Kind.HEADROOM, "eu-west-1", why, **facts), detail=detail)

    for guard in (estate.unthrottled, estate.throttling):
        with pytest.raises(NotHeldError, match="eu-west-1, which carries the traffic"):
            guard(document, settings, SURVIVORS)
        assert guard(document, settings, ("us-west-2",))


def test_late_news_of_throttling_tells_nothing_during_a_drill(settings: Settings) -> None:
    """Not at once the end of it: the watch counts how often in a row."""
    document = all_well(settings, NOW, stale=lambda subject: subject.canary == Kind.HEADROOM)

    with pytest.raises(CannotTellError, match="is stale"):
        estate.throttling(document, settings, SURVIVORS)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"estate": "staging"}, id="name"),
        pytest.param({"regions": [{"region": "us-east-1"}]}, id="regions"),
        pytest.param({"keys": [{"purpose": "general"}]}, id="keys"),
    ],
)
def test_the_daemon_of_another_estate_tells_nothing(settings: Settings, change: dict[str, Any]) -> None:
    """It may be well, and ours not."""
    with pytest.raises(CannotTellError, match="another estate"):
        estate.of_this_estate({**all_well(settings, NOW), **change}, settings)


@pytest.mark.parametrize("seconds", [-31, 31])
def test_an_answer_of_another_time_tells_nothing(settings: Settings, seconds: int) -> None:
    """Something in between kept it, or a clock is wrong."""
    document = all_well(settings, NOW)

    estate.of_now(document, NOW + timedelta(seconds=29))
    with pytest.raises(CannotTellError, match="s old"):
        estate.of_now(document, NOW + timedelta(seconds=seconds))


class Script(estate.Watchdog):
    """A daemon whose answers are written down; the last one stays."""

    def __init__(self, settings: Settings, clock: ManualClock, *answers: dict[str, Any]) -> None:
        super().__init__(settings, clock)
        self._answers, self.asked = list(answers), 0

    def document(self) -> dict[str, Any]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def test_a_daemon_that_has_just_started_is_waited_for(settings: Settings) -> None:
    """Its first looks come within an interval."""
    young = all_well(settings, NOW, look=bad(Kind.KEY_STATE, "us-east-1", None))
    clock = ManualClock(auto_advance=True)
    watchdog = Script(settings, clock, young, young, all_well(settings, NOW))

    assert watchdog.seen(lambda document: estate.keys_enabled(document, settings), threading.Event())
    assert watchdog.asked == 3


def test_it_is_waited_for_a_minute_in_all(settings: Settings) -> None:
    """Not once more for each guard."""
    clock = ManualClock(auto_advance=True)
    watchdog = Script(settings, clock, all_well(settings, NOW, look=lambda _: None))
    before = clock.monotonic()

    for guard in (estate.healthy, estate.keys_enabled, estate.not_drifted):
        with pytest.raises(NotHeldError, match="has not looked yet"):
            watchdog.seen(lambda document, guard=guard: guard(document, settings), threading.Event())  # type: ignore[misc]

    assert 60 <= clock.monotonic() - before < 65


def test_what_is_bad_is_told_at_once(settings: Settings) -> None:
    """Nobody waits for a canary that has not looked when another has failed."""
    clock = ManualClock(auto_advance=True)

    def look(subject: Subject) -> CanaryResult | None:
        if subject.canary == Kind.KEY_STATE and subject.region == "us-east-1":
            return None
        return bad(Kind.KEY_STATE, "eu-west-1", Reason.TIMEOUT)(subject)  # type: ignore[no-any-return]

    watchdog = Script(settings, clock, all_well(settings, NOW, look=look))
    with pytest.raises(NotHeldError, match="key_state of eu-west-1"):
        watchdog.seen(lambda document: estate.keys_enabled(document, settings), threading.Event())

    assert watchdog.asked == 1


def test_without_a_daemon_nothing_is_known(settings: Settings) -> None:
    """No address, or nobody there."""
    watchdog = estate.Watchdog(settings, ManualClock(start_utc=NOW))

    with pytest.raises(CannotTellError, match=r"no readable http\.json"):
        watchdog.document()
    (settings.state.dir / "http.json").write_text('{"url": "http://127.0.0.1:1"}', encoding="utf-8")
    with pytest.raises(CannotTellError, match="does not tell"):
        watchdog.document()


def test_a_region_that_is_not_healthy_yet_refuses(settings: Settings) -> None:
    """Its breaker is closed, or nobody knows, and its round trips are up: it is on its way back."""
    ill = all_well(settings, NOW)
    ill["regions"][1]["healthy"] = False
    unknown = all_well(settings, NOW)
    unknown["regions"][2]["breaker"] = "unknown"

    with pytest.raises(NotHeldError, match="us-west-2 is not healthy yet: its breaker is closed"):
        estate.healthy(ill, settings)
    with pytest.raises(NotHeldError, match="eu-west-1 is not healthy yet: its breaker is unknown"):
        estate.healthy(unknown, settings)


def test_a_key_that_is_usable_nowhere_refuses(settings: Settings) -> None:
    """Whatever its round trips say."""
    document = all_well(settings, NOW)
    document["keys"][1]["usable"] = False

    with pytest.raises(NotHeldError, match="key pii is usable nowhere"):
        estate.healthy(document, settings)


def test_a_canary_that_is_up_and_failed_last_is_not_well(settings: Settings) -> None:
    """One failure does not page anybody, and refuses a drill; without a reason it is named by how it is shown."""
    document = all_well(settings, NOW)
    [found] = [
        c for c in document["canaries"] if (c["canary"], c["region"], c["key"]) == ("key_state", "us-west-2", "pii")
    ]
    found["last"] = {**found["last"], "outcome": "FAILED", "reason": None}

    with pytest.raises(NotHeldError, match=r"^key_state of us-west-2 pii is up: up$"):
        estate.keys_enabled(document, settings)


def test_headroom_that_could_not_be_measured_refuses_and_does_not_end_a_drill(settings: Settings) -> None:
    """At the start it must be known; later, only throttling counts."""
    document = all_well(settings, NOW, look=bad(Kind.HEADROOM, "eu-west-1", Reason.TIMEOUT))

    with pytest.raises(NotHeldError, match="headroom of eu-west-1"):
        estate.unthrottled(document, settings, SURVIVORS)
    assert estate.throttling(document, settings, SURVIVORS) == "us-west-2, eu-west-1 throttle nobody"


def test_without_survivors_there_is_nothing_to_throttle(settings: Settings) -> None:
    """All regions are hurt."""
    assert estate.unthrottled(all_well(settings, NOW), settings, ()) == "no region is to carry the traffic"


def test_of_several_that_have_not_looked_the_first_is_told(settings: Settings) -> None:
    """And it is not as if one had looked and failed."""
    document = all_well(settings, NOW, look=lambda _: None)

    with pytest.raises(estate.NotYetError, match=r"^key_state of us-east-1 general has not looked yet$"):
        estate.keys_enabled(document, settings)


def test_another_estate_is_told_from_ours_in_full(settings: Settings) -> None:
    """Names, regions and keys of both, whatever their order; one that says nothing is none."""
    ours = "production of eu-west-1, us-east-1, us-west-2 with general, payment, pii"

    estate.of_this_estate(all_well(settings, NOW), settings)
    with pytest.raises(
        CannotTellError, match=f"^the daemon .* another estate: None of nothing with nothing, not {ours}$"
    ):
        estate.of_this_estate({}, settings)
    with pytest.raises(
        CannotTellError, match=f"another estate: x of eu-west-1, us-east-1, us-west-2 with .*, not {ours}$"
    ):
        estate.of_this_estate({**all_well(settings, NOW), "estate": "x"}, settings)


def test_it_is_asked_once_a_second_for_a_minute(settings: Settings) -> None:
    """And not once more when the minute is over."""
    watchdog = Script(settings, ManualClock(auto_advance=True), all_well(settings, NOW, look=lambda _: None))

    with pytest.raises(estate.NotYetError):
        watchdog.seen(lambda document: estate.healthy(document, settings), threading.Event())

    assert watchdog.asked == 61


def test_a_halt_ends_the_waiting_for_a_daemon(settings: Settings) -> None:
    """What it said last is the reason."""
    stop = threading.Event()
    stop.set()
    watchdog = Script(settings, ManualClock(auto_advance=True), all_well(settings, NOW, look=lambda _: None))

    with pytest.raises(estate.NotYetError):
        watchdog.seen(lambda document: estate.healthy(document, settings), stop)

    assert watchdog.asked == 1


def test_it_is_told_how_many_were_throttled_where_the_daemon_says_so(settings: Settings) -> None:
    """Else only that little is left."""
    counted = all_well(settings, NOW, look=bad(Kind.HEADROOM, "eu-west-1", None, throttles=2.0))
    hidden = all_well(settings, NOW, look=bad(Kind.HEADROOM, "eu-west-1", Reason.HEADROOM_LOW), detail=False)

    with pytest.raises(NotHeldError, match="has 2 throttled requests"):
        estate.throttling(counted, settings, SURVIVORS)
    with pytest.raises(NotHeldError, match="has little headroom left"):
        estate.throttling(hidden, settings, SURVIVORS)


REPLICAS = """
[replicas]
members = ["use1", "usw2", "euw1"]
place = "{place}"
"""


def test_of_several_places_the_daemon_is_asked_for_its_own_canaries(tmp_path: Path) -> None:
    """The others' are told of by the live alarms; a canary of its own that is missing or ill refuses as ever."""
    settings = settings_of(tmp_path, REPLICAS.format(place="use1"))
    trips = [s for s in subjects(settings) if s.canary == Kind.ROUND_TRIP]
    assert 0 < len(trips) < 9
    document = all_well(settings, NOW)
    ill = all_well(settings, NOW, look=bad(Kind.ROUND_TRIP, trips[0].region, Reason.TIMEOUT), looks=1)
    lacking = {**document, "canaries": [one for one in document["canaries"] if one["canary"] != Kind.ROUND_TRIP]}

    assert estate.healthy(document, settings) == f"{len(trips)} round trips are up, 3 breakers closed"
    with pytest.raises(NotHeldError, match="round_trip of"):
        estate.healthy(ill, settings)
    with pytest.raises(NotHeldError, match="it has no round_trip of"):
        estate.healthy(lacking, settings)


@pytest.mark.parametrize("there", [REPLICAS.format(place="usw2"), ""], ids=["another-place", "everywhere"])
def test_a_daemon_of_another_place_is_none_of_ours(tmp_path: Path, there: str) -> None:
    """It looks at other canaries than this configuration expects."""
    here = settings_of(tmp_path, REPLICAS.format(place="use1"))
    document = all_well(settings_of(tmp_path, there), NOW)

    with pytest.raises(CannotTellError, match=r"looks from (usw2|everywhere), and this configuration is of use1"):
        estate.of_this_estate(document, here)
