"""Several faults, in several regions: each must bite, each must end, and the regions that none hits stay well."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kms_chaos.faults.plans import bite, ordered
from kms_chaos.judge import judge
from kms_chaos.testing import FAULT_OFF, FAULT_ON, REGIONS, RUN_ID, TARGET, Line, Story, drill, held_story, of
from kms_chaos.undo_record import proxy_name
from kms_watchdog.drills.verdict import Judgement, Verdict

HELD, BROKE, INCONCLUSIVE = Verdict.HELD, Verdict.BROKE, Verdict.INCONCLUSIVE
SECOND, THIRD = REGIONS[1:]


def two_regions() -> Story:
    """The made-up drill, with the second region as dark as the first."""
    first = held_story()
    hurt = first.lines[0].fields["drill_file"]
    hurt = {**hurt, "target": {**hurt["target"], "count": 2}, "objectives": {**hurt["objectives"], "p99_seconds": 9}}
    story = first.changed(of("run-started"), drill_file=hurt, targets=[TARGET, SECOND])
    order = ordered(drill().faults, (TARGET, SECOND), REGIONS)[1]
    which = {"fault_id": order.id, "fault": order.kind, "region": SECOND, "proxy": proxy_name(RUN_ID, SECOND)}
    toxics = [toxic.to_json() for toxic in order.toxics]
    story = story.add(
        FAULT_ON + 0.1, "fault-injected", **which, toxics=toxics, enabled=True, bite=bite(order.plan).to_json()
    )
    story = story.add(FAULT_OFF + 0.1, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])
    story = story.changed(dark(SECOND), error_code="ReadTimeout", seconds=0.4)
    return story.changed(lambda one: one.event == "operation" and one.fields["region"] == SECOND, region=THIRD)


def dark(region: str) -> Callable[[Line], bool]:
    return lambda one: one.event == "attempt" and one.fields["region"] == region and FAULT_ON + 0.2 < one.t < FAULT_OFF


def of_claim(judgement: Judgement, name: str) -> Verdict:
    return next(claim.verdict for claim in judgement.claims if claim.name == name)


def claimed(story: Story, name: str) -> Verdict:
    return of_claim(judge(story.journal()), name)


def test_both_bit_and_the_third_region_stayed_well() -> None:
    """The claims of the fault and of its removal speak of both."""
    judgement = judge(two_regions().journal())

    assert of_claim(judgement, "fault-was-real") is HELD
    assert of_claim(judgement, "restored") is HELD
    assert "us-west-2" in next(c.finding for c in judgement.claims if c.name == "fault-was-real")


def test_one_that_did_not_bite_makes_the_drill_say_nothing() -> None:
    """Half a fault is another drill."""
    story = two_regions().changed(dark(SECOND), error_code="", seconds=0.01)

    assert claimed(story, "fault-was-real") is INCONCLUSIVE


def test_one_that_was_never_put_on_makes_the_drill_say_nothing() -> None:
    """What the file orders is what must have been there."""
    story = two_regions().without(of("fault-injected", region=SECOND)).without(of("fault-removed", region=SECOND))

    assert claimed(story, "fault-was-real") is INCONCLUSIVE


def test_one_that_hurt_a_third_region_makes_the_drill_say_nothing() -> None:
    """The regions that no fault was ordered for are the control group."""
    story = two_regions().changed(dark(THIRD), error_code="ReadTimeout")

    assert claimed(story, "fault-was-real") is INCONCLUSIVE


@pytest.mark.parametrize("region", [TARGET, SECOND])
def test_one_that_was_not_taken_off_broke(region: str) -> None:
    """Whichever it was."""
    assert claimed(two_regions().without(of("fault-removed", region=region)), "restored") is BROKE


def test_a_breaker_that_stayed_open_broke_in_either_region() -> None:
    """Both must move as declared, and both must come home."""
    moves = [one for one in two_regions().lines if one.event == "breaker-moved"]
    story = two_regions()
    for one in moves:
        story = story.add(one.t, one.event, **{**one.fields, "region": SECOND})

    assert claimed(two_regions(), "breaker-moves") is BROKE  # the second region's never opened
    assert claimed(story, "breaker-moves") is HELD
    assert claimed(story.without(of("breaker-moved", region=SECOND, new="closed")), "breaker-moves") is BROKE


def test_the_removal_of_one_fault_may_leave_the_toxics_of_the_other() -> None:
    """Two faults on one proxy end one after the other; the last to end leaves nothing."""
    file = held_story().lines[0].fields["drill_file"]
    again = {**file["faults"][0], "after_seconds": 5.0}
    story = held_story().changed(of("run-started"), drill_file={**file, "faults": [*file["faults"], again]})
    orders = ordered((*drill().faults, drill().faults[0].model_copy(update={"after_seconds": 5.0})), (TARGET,), REGIONS)
    second = {"fault_id": orders[1].id, "fault": "blackhole", "region": TARGET, "proxy": proxy_name(RUN_ID, TARGET)}
    toxics = [toxic.to_json() for order in orders for toxic in order.toxics]
    story = story.add(
        FAULT_ON + 5, "fault-injected", **second, toxics=toxics, enabled=True, bite=bite(orders[1].plan).to_json()
    )
    theirs, mine = ([toxic.name for toxic in order.toxics] for order in orders)

    first_last = story.add(FAULT_OFF - 0.05, "fault-removed", **second, by="drill", enabled=True, toxics_left=theirs)
    kept = story.add(FAULT_OFF - 0.05, "fault-removed", **second, by="drill", enabled=True, toxics_left=mine)
    left = first_last.changed(of("fault-removed", fault_id=orders[0].id), toxics_left=mine)

    assert [claimed(s, "restored") for s in (first_last, kept, left)] == [HELD, BROKE, BROKE]
