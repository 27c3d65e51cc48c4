"""The canaries that read the estate, over fakes: each answer, its reason, its facts, and what is blind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from estate_kit import OTHER_ID, FakeReader, key_in, reader_of, role

from kms_core import Core
from kms_core.events import Attempt, BreakerMoved
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import runner
from kms_watchdog.canaries.application_access import ApplicationAccess, callers
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.estate_look import MAX_DETAILS, one_line
from kms_watchdog.canaries.headroom import Headroom
from kms_watchdog.canaries.key_state import KeyState
from kms_watchdog.canaries.replica_drift import ReplicaDrift
from kms_watchdog.config import HeadroomLook, Settings
from kms_watchdog.estate.access import Role
from kms_watchdog.estate.desired import DesiredKey, desired_keys
from kms_watchdog.estate.diff import Field
from kms_watchdog.estate.kms_admin import EstateError
from kms_watchdog.estate.roles import RoleBook
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.sinks.sink import Seen
from kms_watchdog.traffic import SLOTS, Traffic

REGION = "us-west-2"


@pytest.fixture
def wanted(settings: Settings) -> DesiredKey:
    return desired_keys(settings)[0]


@pytest.fixture
def key_id(core: Core) -> str:
    """The id under which the core, as the application would, uses the general key."""
    found = core.health().keys["general"]
    assert found is not None
    return found


@pytest.fixture
def reader(wanted: DesiredKey, key_id: str) -> FakeReader:
    return reader_of(wanted, REGION, key_id=key_id)


def key_state(reader: FakeReader, **more: Any) -> KeyState:
    return KeyState(region=REGION, purpose="general", alias="alias/general", reader=reader, **more)


def answer_of(found: CanaryResult) -> tuple[Outcome, Reason | None]:
    return found.outcome, found.reason


# -- key state ----------------------------------------------------------------------------------------------------


def test_a_key_in_good_state(core: Core, clock: ManualClock, reader: FakeReader, key_id: str) -> None:
    """OK, and what gauges are made of."""
    canary = key_state(reader)

    found = runner.run(canary, core, clock)

    assert (canary_id(canary), answer_of(found)) == ("key_state:us-west-2:general", (Outcome.OK, None))
    assert found.facts == {
        "state": "Enabled",
        "key_id": key_id,
        "primary": False,
        "usable": 1.0,
        "rotation_enabled": 1.0,
        "deletion_timestamp": 0.0,
    }
    assert set(found.steps) == {"describe", "rotation"}


@pytest.mark.parametrize(
    ("change", "reason", "says", "facts"),
    [
        pytest.param({"state": "Disabled"}, Reason.KEY_UNUSABLE, "is Disabled", {"usable": 0.0}, id="disabled"),
        pytest.param({"state": "Creating"}, Reason.KEY_UNUSABLE, "is Creating", {"usable": 0.0}, id="creating"),
        pytest.param(
            {"state": "PendingDeletion", "deletion_at_utc": datetime(2026, 2, 1, tzinfo=UTC)},
            Reason.PENDING_DELETION,
            "is PendingDeletion, gone at 2026-02-01 00:00 UTC",
            {"usable": 0.0, "deletion_timestamp": datetime(2026, 2, 1, tzinfo=UTC).timestamp()},
            id="pending-deletion",
        ),
        pytest.param(
            {"state": "PendingReplicaDeletion"},
            Reason.PENDING_DELETION,
            "is PendingReplicaDeletion",
            {"usable": 0.0, "deletion_timestamp": 0.0},
            id="waits-for-replicas",
        ),
    ],
)
def test_a_key_in_bad_state(
    core: Core,
    clock: ManualClock,
    reader: FakeReader,
    change: Mapping[str, Any],
    reason: Reason,
    says: str,
    facts: Mapping[str, Any],
) -> None:
    """FAILED, with the state in words and in facts."""
    reader.change(**change)

    found = runner.run(key_state(reader), core, clock)

    assert answer_of(found) == (Outcome.FAILED, reason)
    assert says in found.detail
    assert {"state": change["state"], **facts}.items() <= found.facts.items()


def test_a_key_whose_primary_moves_is_usable(core: Core, clock: ManualClock, reader: FakeReader) -> None:
    """Updating hinders no cryptography."""
    reader.change(state="Updating", multi_region_type="PRIMARY")

    found = runner.run(key_state(reader), core, clock)

    assert answer_of(found) == (Outcome.OK, None)
    assert (found.facts["usable"], found.facts["primary"]) == (1.0, True)


def test_rotation_that_is_off(core: Core, clock: ManualClock, reader: FakeReader) -> None:
    """A replica answers too."""
    reader.on = False

    found = runner.run(key_state(reader), core, clock)

    assert answer_of(found) == (Outcome.FAILED, Reason.ROTATION_OFF)
    assert found.facts["rotation_enabled"] == 0.0


def test_an_alias_that_leads_elsewhere(
    core: Core, clock: ManualClock, reader: FakeReader, wanted: DesiredKey, key_id: str
) -> None:
    """Round trips stay green, since the core knows the id; the next start would use another key."""
    reader.alias_targets["alias/general"] = key_in(wanted, REGION, key_id=OTHER_ID)

    found = runner.run(key_state(reader), core, clock)

    assert answer_of(found) == (Outcome.FAILED, Reason.ALIAS_WRONG)
    assert found.detail == f"alias/general leads to {OTHER_ID}; the application uses {key_id}"
    assert found.facts["key_id"] == key_id


def test_an_alias_that_is_gone(core: Core, clock: ManualClock, reader: FakeReader) -> None:
    """The key is there: the alias alone is told."""
    reader.alias_targets.clear()

    found = runner.run(key_state(reader), core, clock)

    assert (answer_of(found), found.facts["state"]) == ((Outcome.FAILED, Reason.ALIAS_WRONG), "Enabled")


def test_a_key_that_is_gone(core: Core, clock: ManualClock, key_id: str) -> None:
    """Deleted for good."""
    found = runner.run(key_state(FakeReader(REGION)), core, clock)

    assert (answer_of(found), found.detail) == ((Outcome.FAILED, Reason.KEY_UNUSABLE), f"{key_id} is not there")
    assert (found.facts["state"], found.facts["key_id"]) == ("Missing", key_id)
    assert "rotation_enabled" not in found.facts


def test_a_core_that_has_reached_nobody_knows_no_id(clock: ManualClock, settings: Settings, wanted: DesiredKey) -> None:
    """It starts in an outage; then the region is judged by its alias."""
    dark = FakeEstate(("us-east-1", "us-west-2", "eu-west-1"), clock=clock)
    dark.create_key("alias/general")
    dark.create_key("alias/payment")
    dark.fail("ConnectionRefused")
    with core_over(dark, settings.core_config()) as core:
        there = runner.run(key_state(reader_of(wanted, REGION)), core, clock)
        gone = runner.run(key_state(FakeReader(REGION)), core, clock)

    assert answer_of(there) == (Outcome.OK, None)
    assert (answer_of(gone), gone.facts["key_id"]) == ((Outcome.FAILED, Reason.ALIAS_WRONG), "")


# -- what cannot be read ------------------------------------------------------------------------------------------


@pytest.fixture
def make(settings: Settings, clock: ManualClock, wanted: DesiredKey, reader: FakeReader) -> Callable[[str], Canary]:
    """Make a canary of a kind over the fake."""
    book = RoleBook(role, ("KmsWatchdogRole",), clock, max_age_seconds=30)

    def make(kind: str) -> Canary:
        if kind == "key_state":
            return key_state(reader)
        if kind == "replica_drift":
            return ReplicaDrift(region=REGION, wanted=wanted, reader=reader)
        return ApplicationAccess(
            region=REGION, purpose="general", alias="alias/general", callers=(), reader=reader, roles=book
        )

    return make


KINDS = ["key_state", "replica_drift", "application_access"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("AccessDeniedException", Reason.UNREADABLE, id="denied"),
        pytest.param("ThrottlingException", Reason.UNREADABLE, id="throttled"),
        pytest.param("ReadTimeoutError", Reason.UNREADABLE, id="silent"),
        pytest.param("Truncated", Reason.UNREADABLE, id="truncated"),
        pytest.param("ExpiredTokenException", Reason.NO_CREDENTIALS, id="expired"),
    ],
)
def test_what_aws_does_not_tell_is_blind(
    core: Core,
    clock: ManualClock,
    reader: FakeReader,
    make: Callable[[str], Canary],
    kind: str,
    code: str,
    reason: Reason,
) -> None:
    """Nothing is known, so nothing is said to be wrong; AWS's code and request id are kept."""
    reader.fail("DescribeKey", code)

    found = runner.run(make(kind), core, clock)

    assert answer_of(found) == (Outcome.BLIND, reason)
    assert (found.error_code, found.request_id) == (code, "r-1")
    assert found.detail == f"us-west-2: DescribeKey: {code}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_out_of_time_asks_no_further(
    core: Core, clock: ManualClock, reader: FakeReader, make: Callable[[str], Canary], kind: str
) -> None:
    """One slow answer spends the whole time: blind, and the region's thread is free again."""
    reader.before_each = lambda: clock.advance(11)

    found = runner.run(make(kind), core, clock)

    assert answer_of(found) == (Outcome.BLIND, Reason.OWN_DEADLINE)
    assert reader.calls == ["DescribeKey"]
    assert found.steps["describe"] == pytest.approx(11)


def test_what_was_found_late_stands(core: Core, clock: ManualClock, reader: FakeReader) -> None:
    """Drift that was seen late is drift."""
    reader.change(state="Disabled")
    reader.before_each = lambda: clock.advance(6)

    found = runner.run(key_state(reader), core, clock)

    assert (answer_of(found), found.duration_seconds) == ((Outcome.FAILED, Reason.KEY_UNUSABLE), 12.0)


def test_a_long_list_becomes_a_line() -> None:
    """A page shows the first, and says how many more there are."""
    assert one_line(tuple("abcdefgh")) == "a; b; c; d; e; f; and 2 more"
    assert one_line(("a",) * MAX_DETAILS).count("a") == MAX_DETAILS


# -- drift --------------------------------------------------------------------------------------------------------


def test_no_drift(core: Core, clock: ManualClock, reader: FakeReader, wanted: DesiredKey) -> None:
    """Every field has its fact, all 0."""
    found = runner.run(ReplicaDrift(region=REGION, wanted=wanted, reader=reader), core, clock)

    assert answer_of(found) == (Outcome.OK, None)
    assert found.facts == {f"drift_{name}": 0.0 for name in Field}


def test_drift_is_named_field_by_field(core: Core, clock: ManualClock, reader: FakeReader, wanted: DesiredKey) -> None:
    """In the detail for people, in facts for gauges."""
    reader.key_tags, reader.on = {}, False

    found = runner.run(ReplicaDrift(region=REGION, wanted=wanted, reader=reader), core, clock)

    assert answer_of(found) == (Outcome.FAILED, Reason.DRIFT)
    assert {name for name, value in found.facts.items() if value} == {"drift_rotation", "drift_tags"}
    assert found.detail.startswith("rotation: its rotation is off; tags: its tags kms-watchdog:estate")


# -- access -------------------------------------------------------------------------------------------------------


@pytest.fixture
def access(
    settings: Settings, clock: ManualClock, reader: FakeReader, wanted: DesiredKey
) -> Callable[..., ApplicationAccess]:
    """Make the canary; roles by name are as IAM would tell of them."""

    def make(roles: Mapping[str, Role] | Exception, **more: Any) -> ApplicationAccess:
        def read(name: str) -> Role:
            if isinstance(roles, Exception):
                raise roles
            return roles.get(name)

        names = tuple(caller.role for caller in callers(settings, "general"))
        return ApplicationAccess(
            region=REGION,
            purpose="general",
            alias="alias/general",
            callers=callers(settings, "general"),
            reader=reader,
            roles=RoleBook(read, names, clock, max_age_seconds=30),
            **more,
        )

    return make


@pytest.fixture
def watchers(reader: FakeReader) -> dict[str, Role]:
    """The watchdog's and the drills' role, as they should be."""
    assert reader.key is not None
    condition = {"StringEquals": {"kms:EncryptionContext:canary": "true"}}
    use = {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": reader.key.arn}
    describe = {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": reader.key.arn}
    return {name: role(name, {**use, "Condition": condition}, describe) for name in ("KmsWatchdogRole", "KmsDrillRole")}


def test_access_as_it_should_be(
    core: Core, clock: ManualClock, access: Callable[..., ApplicationAccess], watchers: dict[str, Role]
) -> None:
    """OK; aliases and tags are asked for only where a policy speaks of them."""
    found = runner.run(access(watchers), core, clock)

    assert answer_of(found) == (Outcome.OK, None), found.detail
    assert found.facts == {"access_missing": 0.0, "access_excess": 0.0, "access_unreadable": 0.0}
    assert set(found.steps) == {"roles", "describe", "policy", "grants"}


def test_what_is_missing_outweighs_excess_and_both_outweigh_what_cannot_be_judged(
    core: Core, clock: ManualClock, access: Callable[..., ApplicationAccess], watchers: dict[str, Role]
) -> None:
    """The worst is the reason; all are counted."""
    greedy = role("KmsWatchdogRole", {"Effect": "Allow", "Action": "kms:*", "Resource": "*"})

    missing = runner.run(access({**watchers, "KmsDrillRole": None}), core, clock)
    both = runner.run(access({"KmsDrillRole": None, "KmsWatchdogRole": greedy}), core, clock)

    assert (answer_of(missing), missing.detail) == (
        (Outcome.FAILED, Reason.ACCESS_MISSING),
        "there is no role KmsDrillRole",
    )
    assert (both.reason, both.facts["access_missing"]) == (Reason.ACCESS_MISSING, 1.0)


def test_policies_that_ask_for_aliases_and_tags_get_them(
    core: Core, clock: ManualClock, access: Callable[..., ApplicationAccess], reader: FakeReader
) -> None:
    """Two requests more, where they decide something."""
    condition = {
        "ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/general"},
        "StringEquals": {"aws:ResourceTag/cost": "x", "kms:EncryptionContext:canary": "true"},
    }
    statement = {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}
    describe = {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"}
    roles = {n: role(n, {**statement, "Condition": condition}, describe) for n in ("KmsWatchdogRole", "KmsDrillRole")}

    found = runner.run(access(roles), core, clock)

    assert answer_of(found) == (Outcome.OK, None), found.detail
    assert {"ListAliases", "ListResourceTags"} <= set(reader.calls)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        pytest.param({"Statement": [{"Effect": "Allow"}]}, "the key policy in us-west-2 cannot be judged", id="broken"),
        pytest.param(None, "there is no key mrk-", id="no-key"),
    ],
)
def test_a_key_that_cannot_be_judged_is_blind(
    core: Core,
    clock: ManualClock,
    access: Callable[..., ApplicationAccess],
    reader: FakeReader,
    policy: Mapping[str, Any] | None,
    says: str,
) -> None:
    """That it is not there is another canary's to say."""
    if policy is None:
        reader.key, reader.alias_targets = None, {}
    else:
        reader.key_policy = policy

    found = runner.run(access({}), core, clock)

    assert answer_of(found) == (Outcome.BLIND, Reason.UNREADABLE)
    assert says in found.detail


def test_a_silent_iam_is_blind(core: Core, clock: ManualClock, access: Callable[..., ApplicationAccess]) -> None:
    """And KMS is not asked at all."""
    error = EstateError("iam", "GetRole", "EndpointConnectionError", unreachable=True)

    found = runner.run(access(error), core, clock)

    assert (answer_of(found), found.error_code) == ((Outcome.BLIND, Reason.UNREADABLE), "EndpointConnectionError")
    assert set(found.steps) == {"roles"}


# -- headroom -----------------------------------------------------------------------------------------------------

LIMITS = HeadroomLook(window_seconds=60, quota_requests_per_second=100, max_quota_share=0.1)


def attempt(code: str = "", operation: str = "Decrypt", region: str = REGION, mode: Mode = Mode.LIVE) -> Seen:
    event = Attempt(
        region=region,
        operation=operation,
        purpose="general",
        seconds=0.01,
        error_code=code,
        request_id="",
        pinned=True,
    )
    return Seen(event=event, mode=mode, at_utc=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def traffic(clock: ManualClock) -> Traffic:
    return Traffic(clock, window_seconds=60)


def headroom(traffic: Traffic) -> Headroom:
    return Headroom(region=REGION, limits=LIMITS, traffic=traffic, round_seconds=30)


def test_headroom_tells_what_the_canaries_take_up(core: Core, clock: ManualClock, traffic: Traffic) -> None:
    """Requests a second of all kinds, the share of the quota for the use of keys, and what a month costs."""
    clock.advance(60)
    for _ in range(120):
        traffic.on_event(attempt())
    for _ in range(60):
        traffic.on_call(REGION, "")

    found = runner.run(headroom(traffic), core, clock)

    assert (canary_id(headroom(traffic)), answer_of(found)) == ("headroom:us-west-2", (Outcome.OK, None))
    assert found.facts == {
        "throttles": 0.0,
        "requests_per_second": pytest.approx(3.0),
        "quota_share": pytest.approx(0.02),
        "cost_usd_month": pytest.approx(3 * 365.25 * 86_400 / 12 / 10_000 * 0.03),
    }


@pytest.mark.parametrize("source", ["core", "management"])
def test_one_refusal_for_load_is_low_headroom(core: Core, clock: ManualClock, traffic: Traffic, source: str) -> None:
    """KMS is shared: others' load throttles us too, and ours others."""
    if source == "core":
        traffic.on_event(attempt("ThrottlingException"))
    else:
        traffic.on_call(REGION, "ThrottlingException")

    found = runner.run(headroom(traffic), core, clock)

    assert answer_of(found) == (Outcome.FAILED, Reason.HEADROOM_LOW)
    assert found.detail == "KMS throttled 1 of our requests in 60 s"
    assert found.facts["throttles"] == 1.0


def test_too_large_a_share_is_low_headroom(core: Core, clock: ManualClock, traffic: Traffic) -> None:
    """Management calls have quotas of their own."""
    clock.advance(60)
    for _ in range(601):
        traffic.on_event(attempt())
        traffic.on_call(REGION, "")

    found = runner.run(headroom(traffic), core, clock)

    assert (found.reason, found.detail) == (Reason.HEADROOM_LOW, "we use 10.0% of 100 requests/s")


def test_what_is_older_than_the_window_is_forgotten(clock: ManualClock, traffic: Traffic) -> None:
    """The window moves, and memory is bounded."""
    traffic.on_event(attempt("ThrottlingException"))
    clock.advance(59)
    before = traffic.load(REGION).throttled
    clock.advance(1)
    for _ in range(10 * SLOTS):
        traffic.on_call(REGION, "")
        clock.advance(1)

    assert (before, traffic.load(REGION).throttled) == (1, 0)
    assert traffic.load(REGION).management == SLOTS - 1
    assert len(traffic._slots[REGION]) <= SLOTS


def test_only_our_own_live_requests_count(clock: ManualClock, traffic: Traffic) -> None:
    """A drill's throttling is made; another region's is that region's; other events are none."""
    traffic.on_event(attempt("ThrottlingException", mode=Mode.DRILL))
    traffic.on_event(attempt("ThrottlingException", region="eu-west-1"))
    moved = BreakerMoved(region=REGION, old="closed", new="open", cause="failures")
    traffic.on_event(Seen(event=moved, mode=Mode.LIVE, at_utc=clock.now_utc()))
    traffic.on_event(attempt(operation="DescribeKey"))

    load = traffic.load(REGION)

    assert (load.throttled, load.cryptographic, load.management) == (0, 0, 1)


def test_a_process_that_has_just_started_makes_no_wild_guess(core: Core, clock: ManualClock, traffic: Traffic) -> None:
    """One round of canaries in a second is still one round an interval."""
    clock.advance(1)
    for _ in range(30):
        traffic.on_event(attempt())

    assert runner.run(headroom(traffic), core, clock).facts["requests_per_second"] == pytest.approx(1.0)
