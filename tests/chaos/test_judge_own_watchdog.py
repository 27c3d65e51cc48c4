"""What a drill's own watchdog did is judged by the journal: each thing that it may get wrong is seen in the claim."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kms_chaos.drill import Drill, find
from kms_chaos.faults.plans import bite, ordered
from kms_chaos.judge import judge
from kms_chaos.testing import (
    FAULT_OFF,
    FAULT_ON,
    REGIONS,
    RESTORE_AT,
    RUN_ID,
    STARTED,
    TARGET,
    Line,
    Story,
    held_story,
    of,
)
from kms_chaos.undo_record import proxy_name
from kms_watchdog.drills.verdict import Claim, Verdict

HELD, BROKE, INCONCLUSIVE = Verdict.HELD, Verdict.BROKE, Verdict.INCONCLUSIVE
KILLED_AT = FAULT_ON + 8
FIRST, SECOND = 101, 102
"""Process ids."""
WITHIN = 30.0

Sabotage = Callable[[Story], Story]


def iso(t: float) -> str:
    return (STARTED + timedelta(seconds=t)).isoformat()


def with_limit(drill: Drill, seconds: float) -> dict[str, Any]:
    """The drill's file, of another patience with its watchdog."""
    file = drill.model_dump(mode="json")
    return {**file, "watchdog": {**file["watchdog"], "ready_within_seconds": seconds}}


def of_drill(name: str) -> Story:
    """The made-up happenings, as those of another shipped drill."""
    drill = find(name)
    story = held_story().changed(of("run-started"), drill_file=with_limit(drill, WITHIN))
    orders = ordered(drill.faults, (TARGET,), REGIONS)
    if {order.service for order in orders} == {"kms"}:
        return story
    story = story.without(of("fault-injected")).without(of("fault-removed"))
    for order in orders:
        toxics = [toxic.to_json() for toxic in order.toxics]
        proxy = proxy_name(RUN_ID, order.region, order.service)
        which = {"fault_id": order.id, "fault": order.kind, "region": order.region, "proxy": proxy}
        story = story.add(
            FAULT_ON, "fault-injected", **which, toxics=toxics, enabled=True, bite=bite(order.plan).to_json()
        ).add(FAULT_OFF, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])
    return story


def look(story: Story, t: float, pid: int, **says: Any) -> Story:
    well = {
        "answers": True,
        "ready": True,
        "health_code": 200,
        "status": "healthy",
        "regions": dict.fromkeys(REGIONS, True),
        "keys_usable": True,
        "failover_up": True,
        "history_since_utc": iso(4.0),
        "queued": {},
        "accepted": {},
        "dropped": 0,
        "looked_up": {f"kms {region}": 3 for region in REGIONS},
    }
    return story.add(t + 0.5, "watchdog-looked", pid=pid, seconds=0.1, **{**well, **says})


DARK = {"status": "degraded", "health_code": 503, "regions": {region: region != TARGET for region in REGIONS}}
UNSEEN = {"answers": False, "ready": False, "health_code": 0, "status": "", "regions": {}}


def killed() -> Story:
    story = of_drill("watchdog-killed").add(1.0, "watchdog-started", pid=FIRST)
    story = look(look(story, 4.0, FIRST), 12.0, FIRST, **DARK)
    story = story.add(KILLED_AT, "watchdog-killed", pid=FIRST, code=-9)
    story = story.add(KILLED_AT + 0.1, "watchdog-started", pid=SECOND)
    story = look(story, KILLED_AT + 1, SECOND, **UNSEEN)
    story = look(story, KILLED_AT + 9, SECOND, **DARK)
    story = look(story, RESTORE_AT - 2, SECOND, **DARK)
    return look(look(story, 50.0, SECOND, **DARK), 60.0, SECOND).add(84.0, "watchdog-ended", pid=SECOND, code=0)


def cold_start() -> Story:
    story = of_drill("watchdog-cold-start").add(FAULT_ON + 3, "watchdog-started", pid=FIRST)
    story = look(look(story, 14.0, FIRST, **UNSEEN), 22.0, FIRST, **DARK)
    return look(story, 60.0, FIRST).add(84.0, "watchdog-ended", pid=FIRST, code=0)


def unreachable() -> Story:
    """CloudWatch took 100 datums before the fault, none in it, and all afterwards."""
    way = {f"cloudwatch {region}": 2 for region in REGIONS[:2]}
    story = of_drill("cloudwatch-unreachable").add(1.0, "watchdog-started", pid=FIRST)
    for t, waiting, taken in ((4.0, 0, 100), (20.0, 30, 100), (40.0, 90, 100), (50.0, 20, 170), (60.0, 0, 220)):
        numbers = {"queued": dict.fromkeys(REGIONS[:2], waiting), "accepted": dict.fromkeys(REGIONS[:2], taken)}
        story = look(story, t, FIRST, looked_up=way, **numbers)
    return story.add(84.0, "watchdog-ended", pid=FIRST, code=0)


def sts_dark() -> Story:
    way = {f"sts {TARGET}": 1, f"sts {REGIONS[1]}": 1}
    story = of_drill("sts-dark").add(FAULT_ON + 2, "watchdog-started", pid=FIRST)
    story = look(look(story, 20.0, FIRST, looked_up=way), 60.0, FIRST, looked_up=way)
    for second in range(1, 84):
        for region in REGIONS:
            dark = region == TARGET and FAULT_ON <= second <= RESTORE_AT + 1
            story = story.add(
                second + 0.1,
                "service-attempt",
                service="sts",
                region=region,
                seconds=0.9 if dark else 0.01,
                error_code="ReadTimeout" if dark else "",
                proxy=proxy_name(RUN_ID, region, "sts"),
            )
    return story.add(84.0, "watchdog-ended", pid=FIRST, code=0)


def claim_of(story: Story, name: str = "watchdog-goes-on") -> Claim:
    return next(claim for claim in judge(story.journal()).claims if claim.name == name)


@pytest.mark.parametrize("story", [killed, cold_start, unreachable, sts_dark])
def test_what_went_well_is_held(story: Callable[[], Story]) -> None:
    """Each of the four drills; a drill without a watchdog makes no such claim."""
    found = claim_of(story())

    assert found.verdict is HELD, found.finding
    assert "watchdog-goes-on" not in {claim.name for claim in judge(held_story().journal()).claims}


def at(t: float, pid: int | None = None) -> Callable[[Line], bool]:
    """Names the look at `t`."""
    return lambda one: one.event == "watchdog-looked" and one.t == t + 0.5 and pid in {None, one.fields["pid"]}


def silent_to(pid: int) -> Callable[[Line], bool]:
    return lambda one: one.event == "watchdog-looked" and one.fields["pid"] == pid


GOOD_TALE = {"status": "healthy", "health_code": 200, "regions": dict.fromkeys(REGIONS, True)}
ALL_DOWN = {"regions": dict.fromkeys(REGIONS, False)}


@pytest.mark.parametrize(
    ("story", "sabotage", "verdict", "says"),
    [
        pytest.param(killed, lambda s: s.without(of("watchdog-ended")), BROKE, "nobody saw", id="lives-on"),
        pytest.param(
            killed, lambda s: s.changed(of("watchdog-killed"), code=0), INCONCLUSIVE, "not killed by", id="not-killed"
        ),
        pytest.param(
            killed, lambda s: s.changed(at(KILLED_AT + 9), history_since_utc=iso(KILLED_AT + 3)), BROKE,
            "knew nothing", id="history-lost",
        ),
        pytest.param(
            killed, lambda s: s.changed(at(KILLED_AT + 9), history_since_utc=""), BROKE, "knew nothing", id="no-history"
        ),
        pytest.param(killed, lambda s: s.without(of("watchdog-started", pid=SECOND)), BROKE, "1 starts", id="down"),
        pytest.param(
            killed, lambda s: s.changed(silent_to(SECOND), ready=False), BROKE, "never ready", id="never-ready"
        ),
        pytest.param(
            killed, lambda s: s.changed(at(RESTORE_AT - 2), **UNSEEN), BROKE, "was silent for 21 s", id="fell-silent"
        ),
        pytest.param(
            cold_start, lambda s: s.changed(at(14.0), ready=False).changed(at(22.0), ready=False), BROKE,
            "after 49.5 s, not 30 s", id="too-late",
        ),
        pytest.param(
            cold_start, lambda s: s.changed(of("watchdog-started"), pid=FIRST).without(at(22.0)), BROKE,
            "49.5 s", id="ready-after-the-fault",
        ),
        pytest.param(
            cold_start, lambda s: s.changed(at(22.0), **GOOD_TALE), BROKE, "us-east-1 well", id="sees-nothing"
        ),
        pytest.param(cold_start, lambda s: s.changed(at(22.0), **ALL_DOWN), BROKE, "eu-west-1 down", id="cries-wolf"),
        pytest.param(
            cold_start, lambda s: s.changed(at(22.0), keys_usable=False), BROKE, "for lost", id="calls-a-key-lost"
        ),
        pytest.param(cold_start, lambda s: s.changed(at(22.0), failover_up=False), BROKE, "for lost", id="no-failover"),
        pytest.param(cold_start, lambda s: s.changed(at(22.0), health_code=500), BROKE, "/health", id="code"),
        pytest.param(cold_start, lambda s: s.changed(at(60.0), **DARK), BROKE, "did not get well", id="stays-ill"),
        pytest.param(
            cold_start, lambda s: s.changed(at(22.0), looked_up={}).changed(at(60.0), looked_up={}), INCONCLUSIVE,
            "opened no connection to kms us-east-1", id="past-the-proxies",
        ),
        pytest.param(
            unreachable, lambda s: s.changed(at(40.0), queued=dict.fromkeys(REGIONS[:2], 0)), INCONCLUSIVE,
            "nothing waited", id="nothing-waited",
        ),
        pytest.param(
            unreachable, lambda s: s.changed(of("watchdog-looked"), queued={}, accepted={}), INCONCLUSIVE,
            "sent nothing", id="publishes-nothing",
        ),
        pytest.param(unreachable, lambda s: s.without(at(60.0)), BROKE, "not all sent", id="not-sent"),
        pytest.param(
            unreachable, lambda s: s.changed(at(60.0), accepted={TARGET: 150, REGIONS[1]: 220}), BROKE,
            "us-east-1 took 50 of the 90", id="lost-on-the-way",
        ),
        pytest.param(unreachable, lambda s: s.changed(at(50.0), dropped=7), BROKE, "gave up 7", id="dropped"),
        pytest.param(unreachable, lambda s: s.changed(at(40.0), **UNSEEN), BROKE, "was silent for 20 s", id="hangs"),
        pytest.param(
            sts_dark, lambda s: s.changed(silent_to(FIRST), looked_up={}), INCONCLUSIVE, "no connection to sts",
            id="sts-not-asked",
        ),
        pytest.param(
            sts_dark, lambda s: s.without(at(20.0)), BROKE, "ready after 50.5 s", id="starts-when-sts-is-back"
        ),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_seen(story: Callable[[], Story], sabotage: Sabotage, verdict: Verdict, says: str) -> None:
    """Each in its own words; what nobody could see is no proof."""
    found = claim_of(sabotage(story()))

    assert says in found.finding
    assert found.verdict is verdict


def test_a_start_that_ended_after_the_fault_proves_nothing_about_it() -> None:
    """However patient the drill is."""
    patient = of("run-started"), with_limit(find("watchdog-cold-start"), 60.0)
    story = cold_start().without(at(22.0)).changed(patient[0], drill_file=patient[1])

    found = claim_of(story)

    assert "start was not within the fault" in found.finding
    assert found.verdict is INCONCLUSIVE


def test_a_look_that_was_not_answered_in_time_is_no_silence() -> None:
    """A machine may be busy: what counts is how long nobody answered."""
    story = look(cold_start(), 26.0, FIRST, **UNSEEN)

    assert claim_of(story).verdict is HELD


def test_a_drill_that_was_cut_short_says_that_nobody_saw() -> None:
    """No watchdog is blamed for a drill that a halt ended."""
    story = killed().without(of("watchdog-started", pid=SECOND)).add(30.0, "interrupted", reason="SIGTERM")

    assert claim_of(story).verdict is INCONCLUSIVE


def in_fault(region: str) -> Callable[[Line], bool]:
    def names(one: Line) -> bool:
        mine = one.event == "service-attempt" and one.fields["region"] == region
        return mine and one.t - 0.9 > FAULT_ON and one.t < RESTORE_AT

    return names


def before(one: Line) -> bool:
    return one.event == "service-attempt" and one.t < FAULT_ON


def after(one: Line) -> bool:
    return one.event == "service-attempt" and one.fields["region"] == TARGET and one.t > RESTORE_AT


@pytest.mark.parametrize(
    ("claim", "sabotage", "verdict"),
    [
        pytest.param("fault-was-real", lambda s: s, HELD, id="well"),
        pytest.param(
            "fault-was-real", lambda s: s.changed(in_fault(TARGET), error_code=""), INCONCLUSIVE, id="no-bite"
        ),
        pytest.param(
            "fault-was-real", lambda s: s.changed(in_fault(REGIONS[1]), error_code="ReadTimeout"), INCONCLUSIVE,
            id="elsewhere-too",
        ),
        pytest.param(
            "fault-was-real", lambda s: s.changed(in_fault(TARGET), proxy="another"), INCONCLUSIVE, id="no-proxy"
        ),
        pytest.param(
            "steady-state-before", lambda s: s.changed(before, error_code="ReadTimeout"), INCONCLUSIVE, id="dark-before"
        ),
        pytest.param("restored", lambda s: s.changed(after, error_code="ReadTimeout"), BROKE, id="dark-afterwards"),
    ],
)  # fmt: skip
def test_a_fault_of_sts_is_proven_by_requests_to_sts(claim: str, sabotage: Sabotage, verdict: Verdict) -> None:
    """KMS was well all along, which is what the fault must not touch; of the story's KMS, here, nothing failed."""
    story = sts_dark().changed(of("attempt"), error_code="")

    assert claim_of(sabotage(story), claim).verdict is verdict


def test_kms_that_fails_while_sts_is_dark_is_another_fault() -> None:
    """The made-up KMS of the target timed out: what was broken was not what the drill says."""
    assert claim_of(sts_dark(), "fault-was-real").verdict is INCONCLUSIVE
