"""A core starts with any one region reachable, and never takes an outage for a wrong configuration."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kms_core import Core, CoreConfig, KeyConfig
from kms_core.clock import SystemClock
from kms_core.errors import ConfigurationError, KmsDeniedError, KmsUnavailableError
from kms_core.testing import FakeEstate, ManualClock, core_over

CONTEXT = {"canary": "true"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def pinned_keys(estate: FakeEstate) -> dict[str, KeyConfig]:
    return {
        name: KeyConfig(alias=f"alias/{name}", key_id=estate[EAST].aliases[f"alias/{name}"])
        for name in ("general", "payment")
    }


def round_trip(core: Core) -> bytes:
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    return core.decrypt(message, purpose="general", context=CONTEXT)


@pytest.mark.parametrize("reachable", [EAST, WEST, IRELAND])
def test_any_one_region_is_enough(estate: FakeEstate, make_core: Callable[..., Core], reachable: str) -> None:
    """Whichever two are down, the core starts, seals and opens, and asks no dead region first."""
    estate.fail("ConnectTimeout", regions={EAST, WEST, IRELAND} - {reachable})

    core = make_core()

    assert round_trip(core) == b"x"
    assert set(estate.asked()) == {reachable}
    health = core.health().regions
    assert {region: health[region].joined for region in health} == {
        region: region == reachable for region in (EAST, WEST, IRELAND)
    }


def test_regions_that_were_down_at_the_start_join_later(
    estate: FakeEstate, make_core: Callable[..., Core], clock: ManualClock
) -> None:
    """By the probe of their breaker, as after any outage."""
    estate.fail("ConnectTimeout", regions=[EAST])
    core = make_core()
    estate.fail(None)
    clock.advance(6.1)

    for number in range(2):
        core.encrypt(b"x", purpose="general", context={"number": str(number)})

    assert estate.asked() == [EAST, EAST]
    assert core.health().regions[EAST].breaker == "closed"
    assert core.health().regions[EAST].joined


def test_with_all_regions_down_it_starts_and_works_when_they_are_back(
    estate: FakeEstate, make_core: Callable[..., Core]
) -> None:
    """Until then each call is unavailable, never misconfigured."""
    estate.fail("ConnectTimeout")
    core = make_core()
    assert core.health().keys == {"general": None, "payment": None}
    with pytest.raises(KmsUnavailableError) as failed:
        round_trip(core)
    assert failed.value.attempts[0].operation == "DescribeKey"

    estate.fail(None)

    assert round_trip(core) == b"x"
    assert core.health().keys["general"] == estate[EAST].aliases["alias/general"]


def test_pinned_key_ids_need_no_describe_key(estate: FakeEstate, make_core: Callable[..., Core]) -> None:
    """So a start in an outage asks nobody, and a start needs no permission to describe."""
    estate.fail("ConnectTimeout")
    core = make_core(keys=pinned_keys(estate))
    assert not estate.calls

    estate.fail(None)

    assert round_trip(core) == b"x"
    assert estate.asked("DescribeKey") == []


def test_an_alias_that_exists_nowhere_is_a_wrong_configuration(estate: FakeEstate, config: CoreConfig) -> None:
    """Every region said so: nothing that happens later can heal it."""
    wrong = dataclasses.replace(config, keys={"pii": KeyConfig(alias="alias/pii")})

    with pytest.raises(ConfigurationError, match="alias/pii exists in none of the regions us-east-1, us-west-2"):
        core_over(estate, wrong)

    assert all(kms.closed for kms in estate.kms.values()), "what was opened on the way is closed"


def test_an_alias_that_some_region_could_not_be_asked_for_is_not(
    estate: FakeEstate, make_core: Callable[..., Core]
) -> None:
    """It may exist there: unreachable never reads as misconfigured."""
    for region in (WEST, IRELAND):
        del estate[region].aliases["alias/general"]
    estate.fail("ReadTimeout", regions=[EAST])

    core = make_core()

    assert core.health().keys["general"] is None
    estate.fail(None)
    assert round_trip(core) == b"x"


def test_an_alias_that_vanished_is_denied_at_its_first_use(estate: FakeEstate, make_core: Callable[..., Core]) -> None:
    """Once the core runs, a person must act; the application sees the family that says so."""
    estate.fail("ReadTimeout")
    core = make_core()
    estate.fail(None)
    for region in (EAST, WEST, IRELAND):
        del estate[region].aliases["alias/general"]

    with pytest.raises(KmsDeniedError) as denied:
        round_trip(core)

    assert [attempt.error_code for attempt in denied.value.attempts] == ["NotFoundException"] * 3


def test_another_accounts_key_is_a_wrong_configuration(estate: FakeEstate, config: CoreConfig) -> None:
    """The credentials are somebody else's."""
    with pytest.raises(ConfigurationError, match="not a key of account 999999999999"):
        core_over(estate, dataclasses.replace(config, account_id="999999999999"))


def test_an_alias_that_is_not_the_same_key_everywhere_is_refused(estate: FakeEstate, config: CoreConfig) -> None:
    """What one region sealed, another could not open: better no start than that."""
    other = estate.create_key("alias/other")
    estate[WEST].aliases["alias/general"] = other

    with pytest.raises(ConfigurationError, match=f"alias/general is .* in us-east-1, but {other} in us-west-2"):
        core_over(estate, config)


def test_a_core_without_permission_to_describe_starts_and_is_denied(
    estate: FakeEstate, make_core: Callable[..., Core]
) -> None:
    """Other purposes must not suffer; each call of this one says who has to act."""
    estate.fail("AccessDeniedException")

    core = make_core()

    with pytest.raises(KmsDeniedError) as denied:
        round_trip(core)
    assert denied.value.error_code == "AccessDeniedException"


def test_a_single_region_key_is_used_where_it_is(estate: FakeEstate, make_core: Callable[..., Core]) -> None:
    """It has no relatives, so there is nowhere to go; other regions are not asked."""
    estate.create_key("alias/single", regions=[WEST], multi_region=False)
    core = make_core(keys={"single": KeyConfig(alias="alias/single")})

    message = core.encrypt(b"x", purpose="single", context=CONTEXT)

    assert core.decrypt(message, purpose="single", context=CONTEXT) == b"x"
    assert set(estate.asked()) == {WEST}
    with pytest.raises(ConfigurationError, match="not in us-east-1"):
        core.pinned(EAST).encrypt(b"x", purpose="single", context=CONTEXT)


def test_the_start_takes_no_longer_than_one_attempt(estate: FakeEstate, config: CoreConfig) -> None:
    """All regions are asked at the same time, in threads, and a silent one is given up."""
    clock, released = SystemClock(), threading.Event()
    estate[EAST].during = lambda call: released.wait(20)
    began = clock.monotonic()
    core = Core(dataclasses.replace(config, attempt_timeout_seconds=0.3), clock=clock, connect=estate.connect)
    took = clock.monotonic() - began
    try:
        assert 0.3 <= took < 15.0  # the region would have held it for 20
        assert core.health().regions[EAST].breaker == "open"
        assert round_trip(core) == b"x"
    finally:
        released.set()
        core.close()


@pytest.mark.parametrize("slow_call_seconds", [0.1, 5.0], ids=["slow-rule", "own-time"])
def test_a_silent_region_at_the_start_spoils_no_other(
    estate: FakeEstate, config: CoreConfig, slow_call_seconds: float
) -> None:
    """Answers that lay waiting while a dead region was waited for count as what they were: prompt.

    Keeps out a bug: they were timed until somebody looked at them, and healthy regions began with open breakers.
    """
    released, impatient = threading.Event(), {"attempt_timeout_seconds": 0.3, "slow_call_seconds": slow_call_seconds}
    estate[EAST].during = lambda call: released.wait(20)
    core = Core(dataclasses.replace(config, **impatient), clock=SystemClock(), connect=estate.connect)
    try:
        regions = core.health().regions

        assert {region: (regions[region].breaker, regions[region].joined) for region in (WEST, IRELAND)} == {
            WEST: ("closed", True),
            IRELAND: ("closed", True),
        }
    finally:
        released.set()
        core.close()


@pytest.mark.parametrize("region", ["eu-central-1", ""])
def test_only_configured_regions_can_be_pinned(core: Core, region: str) -> None:
    """A canary for a region that nobody configured is a mistake."""
    with pytest.raises(ConfigurationError, match="us-east-1, us-west-2, eu-west-1 are"):
        core.pinned(region)


def unresolved(estate: FakeEstate, make_core: Callable[..., Core]) -> Any:
    estate.fail("ReadTimeout")
    core = make_core()
    estate.fail(None)
    return core


def test_a_pinned_core_resolves_its_alias_in_its_own_region(estate: FakeEstate, make_core: Callable[..., Core]) -> None:
    """A canary asks no other region, not even for this."""
    core = unresolved(estate, make_core)
    estate.calls.clear()

    core.pinned(IRELAND).encrypt(b"x", purpose="general", context=CONTEXT)

    assert estate.asked() == [IRELAND, IRELAND]
