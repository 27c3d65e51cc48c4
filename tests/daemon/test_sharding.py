"""Several watchdogs of one estate: who looks at what, the same in every process, and each place with its own view."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daemon_answer import all_well
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import aws
from kms_watchdog.canaries.canary import canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries, own_canaries
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.costs.requests import kms_requests_per_month
from kms_watchdog.daemon import Daemon, subject_of
from kms_watchdog.health import Status, Subject
from kms_watchdog.reload import unchangeable
from kms_watchdog.results import PAIR, Kind
from kms_watchdog.sharding import EVERYWHERE, seen_in_part, watchers_of, weight
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.status_client import view
from kms_watchdog.web.page import Page, Viewer

PLACES = ("use1", "usw2", "euw1")
HOMES = {"use1": "us-east-1", "usw2": "us-west-2", "euw1": "eu-west-1"}

names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"], include_characters="-"), min_size=1, max_size=12)
teams = st.lists(names, min_size=1, max_size=9, unique=True)
ids = st.text(min_size=1, max_size=40)


# ---------------------------------------------------------------------------------------------------- who looks at what


@given(ids, teams, st.integers(2, 12))
def test_each_canary_has_as_many_watchers_as_it_should(canary: str, members: list[str], watchers: int) -> None:
    """`watchers` different members, or all where there are fewer."""
    found = watchers_of(canary, members, watchers)

    assert len(set(found)) == len(found) == min(watchers, len(members))
    assert set(found) <= set(members)


@given(ids, teams, st.integers(2, 12), st.data())
def test_the_order_in_which_members_are_named_does_not_matter(
    canary: str, members: list[str], watchers: int, data: st.DataObject
) -> None:
    """Two configurations that list the same places differently agree."""
    other = data.draw(st.permutations(members))

    assert watchers_of(canary, other, watchers) == watchers_of(canary, members, watchers)


@given(st.lists(ids, min_size=1, max_size=30), teams, names, st.integers(2, 4))
def test_one_place_more_takes_its_own_share_and_moves_nothing_else(
    canaries: list[str], members: list[str], new: str, watchers: int
) -> None:
    """What a canary loses it loses to the new place alone; what the new one does not take stays where it was."""
    before = {canary: watchers_of(canary, members, watchers) for canary in canaries}
    after = {canary: watchers_of(canary, [*members, new], watchers) for canary in canaries if new not in members}

    for canary, found in after.items():
        kept = [member for member in found if member != new]
        assert kept == list(before[canary][: len(kept)])
        assert new in found or found == before[canary]


@given(teams, st.lists(ids, min_size=1, max_size=30), st.integers(2, 4), st.data())
def test_a_place_that_goes_leaves_everything_watched(
    members: list[str], canaries: list[str], watchers: int, data: st.DataObject
) -> None:
    """While one of two is dead, the other still looks: no canary has the dead one alone."""
    dead = data.draw(st.sampled_from(members))

    for canary in canaries:
        left = set(watchers_of(canary, members, watchers)) - {dead}
        assert left or len(members) == 1


def test_a_share_is_as_large_as_it_should_be() -> None:
    """Four places, two for each of a thousand canaries: half of them each, within a tenth; a fifth moves two fifths."""
    canaries = [f"round_trip:us-east-1:key{number}" for number in range(1000)]
    four, five = ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]
    load_of = Counter(member for canary in canaries for member in watchers_of(canary, four, 2))
    moved = sum(set(watchers_of(canary, four, 2)) != set(watchers_of(canary, five, 2)) for canary in canaries)

    assert all(450 <= load_of[member] <= 550 for member in four)
    assert 350 <= moved <= 450


def test_the_weights_never_change() -> None:
    """Else two versions of the watchdog, one in each place, would disagree for as long as a roll-out lasts."""
    assert weight("use1", "round_trip:us-east-1:pii") == 0x5A4392CEC51FA3C7
    assert watchers_of("round_trip:us-east-1:pii", PLACES, 2) == ("euw1", "usw2")


def test_every_process_finds_the_same() -> None:
    """Also one that hashes strings differently."""
    asks = (
        "from kms_watchdog.sharding import watchers_of\n"
        "print([watchers_of(f'c{n}', ('use1', 'usw2', 'euw1'), 2) for n in range(50)])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", asks],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert told == [str([watchers_of(f"c{n}", PLACES, 2) for n in range(50)])] * 2


def test_keys_are_seen_in_part_where_a_region_is_missing() -> None:
    """By round trips alone: they say whether a key can be used."""
    subjects = [Subject("round_trip", "a", "pii"), Subject("round_trip", "b", "pii"), Subject("round_trip", "a", "x")]

    assert seen_in_part(subjects, ["pii", "x", "y"], ["a", "b"]) == {"x", "y"}
    assert seen_in_part([*subjects, Subject("key_state", "b", "x")], ["x"], ["a", "b"]) == {"x"}


# ------------------------------------------------------------------------------------------------------- configuration


@pytest.fixture
def replicas(write_config: Callable[..., Path]) -> Callable[..., Settings]:
    """Return the settings of one place."""

    def settings_of(
        more: str, environ: Mapping[str, str] | None = None, elsewhere: str = "", name: str = "watchdog.toml"
    ) -> Settings:
        return load(write_config(f"[replicas]\n{more}\n{elsewhere}", name=name), environ=environ or {})

    return settings_of


MEMBERS = 'members = ["use1", "usw2", "euw1"]'


@pytest.mark.parametrize(
    ("more", "why"),
    [
        pytest.param(
            f"{MEMBERS}\nplace = 'use2'", r"place must be one of members \(use1, usw2, euw1\)", id="a-stranger"
        ),
        pytest.param(MEMBERS, "place is missing", id="nobody"),
        pytest.param("place = 'use1'", "there are none", id="no-members"),
        pytest.param("members = ['a', 'a']\nplace = 'a'", "must not repeat", id="twice"),
        pytest.param(f"{MEMBERS}\nplace = 'use1'\nwatchers = 1", "greater than or equal to 2", id="one-watcher"),
        pytest.param("members = ['a|b']\nplace = 'a|b'", "1 to 40 of a-z, 0-9 and -", id="a-name-with-a-bar"),
        pytest.param(f"{MEMBERS}\nplaces = 'use1'", "did you mean place", id="misspelt"),
    ],
)
def test_what_makes_no_sense_is_refused(replicas: Callable[..., Settings], more: str, why: str) -> None:
    """With the configuration, before anything looks at nothing."""
    with pytest.raises(ConfigError, match=why):
        replicas(more)


def test_a_container_is_told_its_place_by_a_variable(replicas: Callable[..., Settings]) -> None:
    """One file for all places; members can come so too."""
    there = replicas(MEMBERS, {"KMS_WATCHDOG__REPLICAS__PLACE": "euw1"})
    all_of_it = replicas(
        "", {"KMS_WATCHDOG__REPLICAS__PLACE": "a", "KMS_WATCHDOG__REPLICAS__MEMBERS": '["a", "b"]'}, name="other.toml"
    )

    assert (there.replicas.place, there.monitor) == ("euw1", "test-euw1")
    assert there.monitors == ("test-use1", "test-usw2", "test-euw1")
    assert all_of_it.replicas.members == ("a", "b")


def test_all_places_publish_to_the_same_regions(replicas: Callable[..., Settings]) -> None:
    """Wherever they run: the alarm on a place's heartbeat waits in a region for what is published there."""
    found = {
        replicas(
            f"{MEMBERS}\nplace = '{place}'", {"KMS_WATCHDOG__ESTATE__HOME_REGION": home}, name=f"{place}.toml"
        ).publish_regions
        for place, home in HOMES.items()
    }

    assert found == {("us-east-1", "us-west-2")}


def test_without_members_nothing_is_as_it_was_not(settings: Settings) -> None:
    """One watchdog, which looks at everything and goes by its home region."""
    ports = Ports(settings, ManualClock())

    assert settings.monitors == (settings.monitor,) == ("test-us-east-1",)
    assert [canary_id(c) for c in own_canaries(ports)] == [canary_id(c) for c in live_canaries(ports)]


def test_a_place_cannot_change_without_a_restart(replicas: Callable[..., Settings]) -> None:
    """Its name is on every series; members may come and go."""
    here = replicas(f"{MEMBERS}\nplace = 'use1'")
    there = replicas(f"{MEMBERS}\nplace = 'usw2'", name="other.toml")
    fewer = replicas("members = ['use1', 'usw2']\nplace = 'use1'", name="fewer.toml")

    assert unchangeable(here, there) == "replicas.place"
    assert unchangeable(here, fewer) == ""


def test_what_canaries_cost_is_counted_for_all_places(replicas: Callable[..., Settings], settings: Settings) -> None:
    """Twice what one watchdog asks, and three times what every place asks for itself."""
    one, three = kms_requests_per_month(settings), kms_requests_per_month(replicas(f"{MEMBERS}\nplace = 'use1'"))

    assert three[Kind.ROUND_TRIP] == 2 * one[Kind.ROUND_TRIP]
    assert three[Kind.FAILOVER_PATH] == 3 * one[Kind.FAILOVER_PATH]


# ------------------------------------------------------------------------------------------------- the canaries of each


@pytest.fixture
def rosters(
    replicas: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, list[Subject]]]:
    """What each of three places looks at, each at home in a region of its own."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    aws._session.cache_clear()
    found = {}
    for place, home in HOMES.items():
        settings = replicas(
            f"{MEMBERS}\nplace = '{place}'", {"KMS_WATCHDOG__ESTATE__HOME_REGION": home}, name=f"{place}.toml"
        )
        found[place] = [subject_of(canary) for canary in own_canaries(Ports(settings, ManualClock()))]
    yield found
    aws._session.cache_clear()


def test_every_canary_of_the_estate_has_two_watchers(rosters: dict[str, list[Subject]], settings: Settings) -> None:
    """And what is about a place itself is looked at by each: two of those go by the name of its home."""
    looked = Counter(subject for subjects in rosters.values() for subject in subjects)
    shared = {s for c in live_canaries(Ports(settings, ManualClock())) if (s := subject_of(c)).canary not in EVERYWHERE}

    assert {subject for subject in looked if subject.canary not in EVERYWHERE} == shared
    assert {looked[subject] for subject in shared} == {2}
    for place, subjects in rosters.items():
        mine = {subject.canary: subject.region for subject in subjects}
        assert {kind for kind in mine if kind in EVERYWHERE} == EVERYWHERE
        assert mine[Kind.FAILOVER_PATH] == mine[Kind.MUST_FAIL_CORE] == HOMES[place]


def test_every_region_is_seen_from_two_places(rosters: dict[str, list[Subject]], settings: Settings) -> None:
    """By round trips, which say whether it can be used."""
    for region in settings.estate.regions:
        seers = {
            place
            for place, subjects in rosters.items()
            for subject in subjects
            if subject.canary == Kind.ROUND_TRIP and region in subject.region.split(PAIR)
        }
        assert len(seers) >= 2


# ------------------------------------------------------------------------------------------------------ a place's view

SIX = ("use1", "usw2", "euw1", "apn1", "sae1", "afs1")
"""So many that each sees but a part of three regions and one key."""
SMALL = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/general"
[canaries]
kinds = ["round_trip", "cross_region", "failover_path"]
interval_seconds = 1.0
deadline_seconds = 0.9
[cloudwatch]
enabled = false
[state]
dir = "{place}"
[replicas]
members = ["use1", "usw2", "euw1", "apn1", "sae1", "afs1"]
place = "{place}"
"""


@contextmanager
def running(path: Path, estate: FakeEstate) -> Iterator[Daemon]:
    """A daemon over keys in memory."""
    settings, clock = load(path, environ={}), SystemClock()
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    daemon = Daemon(
        settings, path, folder, clock, make_core=lambda config, observer: core_over(estate, config, observer=observer)
    )
    daemon.start()
    try:
        yield daemon
    finally:
        assert daemon.stop()


def write_place(folder: Path, place: str) -> Path:
    path = folder / f"{place}.toml"
    path.write_text(SMALL.format(place=place), encoding="utf-8")
    return path


def test_a_place_is_well_by_what_it_looks_at_itself(tmp_path: Path) -> None:
    """Ready and healthy, with no word of what is another's; whose region is not healthy there says nobody here."""
    place, seen = of_a_part()
    estate = FakeEstate(tuple(HOMES.values()), clock=ManualClock(auto_advance=True))
    estate.create_key("alias/general")

    with running(write_place(tmp_path, place), estate) as daemon:
        wait_until(lambda: not daemon.waiting_for(), says="the first round is over")
        wait_until(lambda: daemon.health_now().status is Status.HEALTHY, says="it is healthy")
        wait_until(
            lambda: healthy(daemon) and set(healthy(daemon).values()) == {1.0}, says="the regions it sees are well"
        )
        assert set(healthy(daemon)) == seen
        status = daemon.status()

    assert status.board.canaries
    assert all(place in watchers_of(s.id, SIX, 2) or s.canary in EVERYWHERE for s in status.board.canaries)


def healthy(daemon: Daemon) -> dict[str, float]:
    """Return the live `region_healthy` of each region, after seeing that every series says where it is from."""
    text = daemon.metrics_text("")[0].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert samples
    assert {sample.labels["place"] for sample in samples} == {daemon.settings.replicas.place}
    return {
        s.labels["region"]: s.value for s in samples if s.name.endswith("region_healthy") and s.labels["mode"] == "live"
    }


def test_a_key_that_is_usable_nowhere_here_may_be_usable_elsewhere(tmp_path: Path) -> None:
    """So it is down here, which is degraded: what nobody can use anywhere, an alarm over all places says."""
    place, seen = of_a_part()
    estate = FakeEstate(tuple(HOMES.values()), clock=ManualClock(auto_advance=True))
    estate.create_key("alias/general")
    estate.fail("KMSInternalException", regions=seen)

    with running(write_place(tmp_path, place), estate) as daemon:
        wait_until(lambda: "down" in {r.code for r in daemon.health_now().reasons}, says="it is down")
        wait_until(lambda: set(daemon.health_now().regions.values()) == {False}, says="all it sees is down")
        health = daemon.health_now()

    assert (health.status, dict(health.keys)) == (Status.DEGRADED, {"general": False})


def of_a_part() -> tuple[str, set[str]]:
    """Return a place that looks at the key in some regions, not in all, and in which."""
    for place in SIX:
        seen = {region for region in HOMES.values() if place in watchers_of(f"round_trip:{region}:general", SIX, 2)}
        if 0 < len(seen) < len(HOMES):
            return place, seen
    raise AssertionError("every place sees all or nothing")


def test_two_places_keep_their_views_apart(tmp_path: Path) -> None:
    """A region that one of them cannot reach is down there, and well where it is reached."""
    here, there = watchers_of("round_trip:us-west-2:general", SIX, 2)
    estates = [FakeEstate(tuple(HOMES.values()), clock=ManualClock(auto_advance=True)) for _ in range(2)]
    for estate in estates:
        estate.create_key("alias/general")
    estates[0].fail("KMSInternalException", regions=["us-west-2"])

    with ExitStack() as stack:
        one, other = (
            stack.enter_context(running(write_place(tmp_path, place), estate))
            for place, estate in zip((here, there), estates, strict=True)
        )
        wait_until(lambda: "down" in {r.code for r in one.health_now().reasons}, says="it is down for the one")
        wait_until(lambda: healthy(other).get("us-west-2") == 1.0, says="it is well for the other")
        assert healthy(one)["us-west-2"] == 0.0


def test_what_is_seen_in_part_is_usable_nowhere_for_nobody(replicas: Callable[..., Settings]) -> None:
    """The document says what this place cannot tell, and people are told in words."""
    settings = replicas(f"{MEMBERS}\nplace = 'use1'")
    document = all_well(settings)
    keys = {key["purpose"]: key for key in document["keys"]}
    regions = {region["region"]: region for region in document["regions"]}

    assert (document["place"], document["members"]) == ("use1", list(PLACES))
    assert {region: one["watched"] for region, one in regions.items()} == {
        region: any(is_seen("use1", region, key) for key in settings.keys) for region in settings.estate.regions
    }
    assert {key: one["watched"] for key, one in keys.items()} == {
        key: all(is_seen("use1", region, key) for region in settings.estate.regions) for key in settings.keys
    }
    assert all(key["usable"] for key in keys.values())
    assert all(row.good for row in view(document).regions)


def test_a_page_says_what_its_place_cannot_tell(replicas: Callable[..., Settings]) -> None:
    """Neither well nor ill: looked at elsewhere; a key is never called usable nowhere for it."""
    settings = replicas(f"{MEMBERS}\nplace = 'use1'")
    document = all_well(settings)
    document["regions"][1] |= {"healthy": None, "watched": False}
    document["keys"][0] |= {"usable": None, "watched": False}

    page, shown = Page().whole(document, Viewer()), view(document)

    assert "test seen from use1" in page
    assert "looked at elsewhere" in page
    assert "not where this place looks" in page
    assert "not healthy" not in page
    assert "every key opens" not in page
    assert shown.regions[1].cells[1] == "looked at elsewhere"
    assert shown.keys[0].cells[-1] == "not usable where this place looks"


def is_seen(place: str, region: str, key: str) -> bool:
    return place in watchers_of(f"round_trip:{region}:{key}", PLACES, 2)
