"""Which alarms are set off together, which are not, and what a run comes to: functions of values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import clock

from kms_alarms.apply import Owner
from kms_alarms.composite import parse_rule
from kms_alarms.drill_lease import LeaseHeldError, no_drill_in_the_estate
from kms_alarms.evaluate import AlarmState
from kms_alarms.proof_plan import Known, Refused, Stroke, plan
from kms_alarms.prove import Came, Outcome, heal, live_alarms, look, next_state, once_each, restore, verdict
from kms_alarms.prove_aws import DoorError, Now
from kms_core.testing import ManualClock
from kms_watchdog.alarm_proofs import Forced
from kms_watchdog.config import Settings, load
from kms_watchdog.configuring.drill_safety import LeaseTable
from kms_watchdog.drills.verdict import Verdict

__all__ = ["clock"]

ROOT = Path(__file__).parents[2]
OK, ALARM, NO_DATA = AlarmState.OK, AlarmState.ALARM, AlarmState.INSUFFICIENT_DATA
HERE = "us-east-1"


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(ROOT / "daemon" / "watchdog.example.toml", environ={})


def known(*alarms: Known) -> dict[str, Known]:
    return {one.name: one for one in alarms}


def metric(name: str, state: AlarmState = OK, **more: Any) -> Known:
    return Known(name=name, arn=f"arn:{name}", row=name, state=state, **more)


def composite(name: str, rule: str, state: AlarmState = OK, **more: Any) -> Known:
    return metric(name, state, rule=parse_rule(rule), **more)


ANY = "ALARM(a) OR ALARM(b) OR ALARM(c)"
TWO = "(ALARM(a) AND ALARM(b)) OR (ALARM(a) AND ALARM(c)) OR (ALARM(b) AND ALARM(c))"


def test_composites_come_first_and_prove_their_children_too() -> None:
    """The one that needs the most before all, so that what it takes along is not set off again."""
    found = plan(
        ["a", "b", "c", "any", "two"], known(*map(metric, "abc"), composite("any", ANY), composite("two", TWO))
    )

    assert found.strokes == (Stroke(forced=("a", "b"), follow=("any", "two")), Stroke(forced=("c",), follow=("any",)))
    assert found.refused == ()


def test_what_follows_is_known_though_nobody_asked_for_it() -> None:
    """Whoever listens to it will be told."""
    found = plan(["a"], known(*map(metric, "abc"), composite("any", ANY), composite("over", "ALARM(any)")))

    assert found.strokes == (Stroke(forced=("a",), follow=("any", "over")),)


@pytest.mark.parametrize(
    ("wanted", "alarms", "why"),
    [
        pytest.param("a", [metric("a", ALARM)], "it is in ALARM now", id="fires"),
        pytest.param("a", [metric("a", stranger="terraform")], "it belongs to terraform", id="somebody-elses"),
        pytest.param("any", [composite("any", ANY)], "a is not there", id="child-missing"),
        pytest.param(
            "any", [*map(metric, "bc"), metric("a", stranger="x"), composite("any", ANY)], "a belongs to x", id="child"
        ),
        pytest.param(
            "any",
            [metric("a"), metric("b", ALARM), metric("c"), composite("any", ANY, ALARM)],
            "it is in ALARM now",
            id="composite-fires",
        ),
        pytest.param(
            "a",
            [metric("a"), metric("b", ALARM), metric("c"), composite("two", TWO)],
            "two would fire with it, for another alarm is in ALARM now",
            id="would-page-for-more",
        ),
        pytest.param(
            "a",
            [metric("a"), composite("his", "ALARM(a)", stranger="him")],
            "his would fire with it, and belongs to him",
            id="somebody-elses-composite",
        ),
        pytest.param(
            "all",
            [*map(metric, "abcd"), composite("all", "ALARM(a) AND ALARM(b) AND ALARM(c) AND ALARM(d)")],
            "it cannot be made to fire by 3 of the alarms that it rests on",
            id="too-many",
        ),
        pytest.param(
            "none",
            [metric("a"), composite("none", "NOT ALARM(a)")],
            "it cannot be made to fire by 3 of the alarms that it rests on",
            id="not-by-firing",
        ),
    ],
)
def test_what_must_not_go_off(wanted: str, alarms: list[Known], why: str) -> None:
    """Nothing but the proof is told to anybody."""
    found = plan([wanted], known(*alarms))

    assert found.strokes == ()
    assert found.refused == (Refused(name=wanted, why=why),)


def test_one_that_fires_keeps_none_of_the_others() -> None:
    """Unless they would fire something together."""
    found = plan(["a", "b", "any"], known(metric("a", ALARM), *map(metric, "bc"), composite("any", ANY, ALARM)))

    assert found.strokes == (Stroke(forced=("b",)),)
    assert [one.name for one in found.refused] == ["any", "a"]


def test_every_live_alarm_belongs_to_a_row(settings: Settings) -> None:
    """And no twin is among them: drills prove those."""
    live = live_alarms(settings, HERE)

    assert live["ParkerFlight-KMS-HighErrorRate"][0] == "HighErrorRate"
    assert live["ParkerFlight-KMS-KeyUnusable-us-west-2-payment"][0] == "KeyUnusable"
    assert live["ParkerFlight-KMS-TwoRegionsDown"][0] == "TwoRegionsDown"
    assert all(row for row, _ in live.values())
    assert not [name for name in live if "-Drill-" in name]


class FakeAlarms:
    """A region's alarms in memory; `refuses` so many calls."""

    region = HERE

    def __init__(self, **states: Now) -> None:
        self.now, self.refuses = dict(states), 0
        self.set_to: list[tuple[str, AlarmState]] = []
        self.described: tuple[dict[str, Any], ...] = ()
        self.owners: dict[str, Owner] = {}

    def alarms(self) -> tuple[dict[str, Any], ...]:
        return self.described

    def owner(self, arn: str) -> Owner:
        return self.owners.get(arn, Owner())

    def states(self, names: Iterable[str]) -> dict[str, Now]:
        if self.refuses > 0:
            self.refuses -= 1
            raise DoorError(f"{HERE}: DescribeAlarms: Throttling")
        return {name: self.now[name] for name in names if name in self.now}

    def set_state(self, name: str, state: AlarmState, reason: str) -> None:
        self.set_to.append((name, state))
        self.now[name] = Now(state=state, reason=reason)


def forced(name: str = "a", state: AlarmState = OK) -> Forced:
    return Forced(name=name, region=HERE, proof="PROOF 1", state=str(state), reason="as it was")


OURS = "PROOF 1 by me"


@pytest.mark.parametrize(
    ("before", "now", "following"),
    [
        pytest.param(OK, Now(state=ALARM, reason=OURS), OK, id="as-we-left-it"),
        pytest.param(NO_DATA, Now(state=ALARM, reason=OURS), OK, id="told-of-the-end-first"),
        pytest.param(NO_DATA, Now(state=OK, reason="PROOF 1 is over"), NO_DATA, id="then-as-it-was"),
        pytest.param(OK, Now(state=OK, reason="PROOF 1 is over"), None, id="done"),
        pytest.param(OK, Now(state=OK, reason="Threshold Crossed"), None, id="cloudwatch-was-first"),
        pytest.param(OK, Now(state=ALARM, reason="Threshold Crossed"), None, id="a-real-one"),
        pytest.param(OK, Now(state=NO_DATA, reason="no data"), None, id="cloudwatch-sees-no-data"),
        pytest.param(OK, Now(state=ALARM, reason="PROOF 2 by you"), None, id="another-proofs"),
        pytest.param(OK, None, None, id="deleted"),
    ],
)
def test_the_way_back(before: AlarmState, now: Now | None, following: AlarmState | None) -> None:
    """What CloudWatch itself has set since is the truth."""
    assert next_state(forced(state=before), now) is following


def test_putting_back_is_tried_again(clock: ManualClock) -> None:
    """A CloudWatch that throttles does not keep an alarm firing."""
    door = FakeAlarms(a=Now(state=ALARM, reason=OURS), over=Now(state=OK, reason=""))
    door.refuses = 3

    back = restore(door, [forced()], ["over"], clock)

    assert set(back) == {"a", "over"}
    assert door.set_to == [("a", OK)]


def test_what_cannot_be_put_back_is_told(clock: ManualClock) -> None:
    """After the time is up, and not before."""
    door = FakeAlarms(a=Now(state=ALARM, reason=OURS), over=Now(state=ALARM, reason=""))
    door.refuses = 10**9

    assert restore(door, [forced()], ["over"], clock) == {}


def test_a_real_alarm_meanwhile_is_left_as_it_is(clock: ManualClock) -> None:
    """To put it back would hide it."""
    door = FakeAlarms(a=Now(state=ALARM, reason="Threshold Crossed"))

    back = restore(door, [forced()], (), clock)

    assert (back["a"].state, door.set_to) == (ALARM, [])
    assert "fires by itself now" in back["a"].finding


def test_healing_leaves_alone_what_is_well(clock: ManualClock) -> None:
    """It looks at what a killed run named, and at nothing else; what it cannot see is not healed."""
    door = FakeAlarms(a=Now(state=ALARM, reason=OURS), b=Now(state=ALARM, reason="Threshold Crossed"))
    elsewhere = Forced(name="c", region="eu-west-1", proof="PROOF 1", state="OK", reason="")

    healed, all_back = heal({HERE: door}, [forced(), forced("b")], clock)
    nothing, seen = heal({HERE: door}, [elsewhere], clock)

    assert ([one.name for one in healed], all_back) == (["a"], True)
    assert (nothing, seen) == ((), False)
    assert door.set_to == [("a", OK)]


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        pytest.param(["proven"], Verdict.HELD, id="proven"),
        pytest.param(["proven", "not told"], Verdict.BROKE, id="not-told"),
        pytest.param(["proven", "not restored"], Verdict.BROKE, id="not-restored"),
        pytest.param(["missing"], Verdict.BROKE, id="missing"),
        pytest.param(["proven", "refused"], Verdict.INCONCLUSIVE, id="refused"),
        pytest.param(["proven", "unclear"], Verdict.INCONCLUSIVE, id="unclear"),
        pytest.param(["refused", "unclear", "not told"], Verdict.BROKE, id="bad-before-unclear"),
        pytest.param([], Verdict.INCONCLUSIVE, id="nothing"),
    ],
)
def test_a_run_comes_to(came: list[Came], expected: Verdict) -> None:
    """Bad before unclear; nothing proven is nothing proven."""
    outcomes = [Outcome(alarm="A", name="a", region=HERE, came=one) for one in came]

    assert verdict(outcomes) is expected


def test_an_alarm_is_told_of_once() -> None:
    """A composite follows many; if it failed to follow one, that is what counts."""
    fine, bad = (Outcome(alarm="A", name="a", region=HERE, came=came) for came in ("proven", "not told"))
    other = Outcome(alarm="A", name="a", region="us-west-2", came="proven")

    assert once_each([fine, other, fine]) == (fine, other)
    assert once_each([fine, bad, fine]) == once_each([bad, fine]) == (bad,)


def described(settings: Settings, name: str, **more: Any) -> dict[str, Any]:
    parameters = live_alarms(settings, HERE)[name][1]
    return {**parameters, "AlarmArn": f"arn:aws:cloudwatch:{HERE}:1:alarm:{name}", "StateValue": "OK", **more}


def test_a_stacks_alarms_are_ours_too(settings: Settings) -> None:
    """Who made them from our template wants them proven; another owner's are left alone."""
    mine, others = "ParkerFlight-KMS-FaultLeaked", "ParkerFlight-KMS-ClockOff-clock_offset"
    door = FakeAlarms()
    door.described = (described(settings, mine), described(settings, others))
    door.owners = {
        door.described[0]["AlarmArn"]: Owner(name="the CloudFormation stack alarms", stack="alarms"),
        door.described[1]["AlarmArn"]: Owner(name="nobody by its tags", nobody=True),
    }

    found = look(settings, door, [mine, others])

    assert found.plan.strokes == (Stroke(forced=(mine,)),)
    assert [(one.name, one.came, one.finding) for one in found.outcomes] == [
        (others, "refused", "it belongs to nobody by its tags")
    ]
    assert [topic.rpartition(":")[2] for topic in found.topics] == ["parker-flight-critical-alerts"]


class FakeTable:
    """A lease's row, which its holder renews or not."""

    def __init__(self, *rvns: str, owner: str = "somebody") -> None:
        self.rvns, self.owner = list(rvns), owner

    def get_item(self, **_: Any) -> dict[str, Any]:
        if not self.rvns:
            return {}
        rvn = self.rvns.pop(0)
        row = {"owner": {"S": self.owner}, "rvn": {"S": rvn}, "ttl": {"N": "60"}, "run": {"S": "20260101T000000Z-x"}}
        return {"Item": row}


@pytest.mark.parametrize(
    ("table", "runs"),
    [
        pytest.param(FakeTable("1", "2"), True, id="renewed"),
        pytest.param(FakeTable("1", "1"), False, id="its-holder-is-dead"),
        pytest.param(FakeTable("1", owner=""), False, id="released"),
        pytest.param(FakeTable(), False, id="never-taken"),
    ],
)
def test_no_proof_while_a_drill_runs_elsewhere(settings: Settings, table: FakeTable, *, runs: bool) -> None:
    """The lease is the estate's; whether its holder lives shows within its ttl on our own clock."""
    lease = LeaseTable(table="kms-drills", region="us-west-2", ttl_seconds=60)
    leased = settings.model_copy(update={"drills": settings.drills.model_copy(update={"lease": lease})})
    clock = ManualClock(auto_advance=True)
    began = clock.monotonic()

    if runs:
        with pytest.raises(LeaseHeldError, match="20260101T000000Z-x holds the lease"):
            no_drill_in_the_estate(leased, clock, client=table)
        assert clock.monotonic() >= began + 60
    else:
        no_drill_in_the_estate(leased, clock, client=table)
