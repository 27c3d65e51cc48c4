"""What a drill declares of the core's reaction is what it is judged by: go elsewhere, nowhere, fail in clear words."""

from __future__ import annotations

from typing import Any

import pytest

from kms_chaos.judge import judge
from kms_chaos.testing import FAULT_ON, REGIONS, RESTORE_AT, TARGET, Line, Story, held_story, of
from kms_watchdog.drills.verdict import Verdict

HELD, BROKE, INCONCLUSIVE = Verdict.HELD, Verdict.BROKE, Verdict.INCONCLUSIVE


def declared(story: Story, *, mode: str = "recovery", **tables: dict[str, Any]) -> Story:
    """The same happenings, of a drill that declares something else."""
    file = story.lines[0].fields["drill_file"]
    changed = {name: {**file[name], **values} for name, values in tables.items()}
    return story.changed(of("run-started"), drill_file={**file, "mode": mode, **changed})


def in_fault(lane: str) -> Any:
    def names(one: Line) -> bool:
        began = one.t - one.fields.get("seconds", 0.0)
        return one.event == "operation" and one.fields["lane"] == lane and FAULT_ON <= began < RESTORE_AT

    return names


def numbered(op: int) -> Any:
    return lambda one: one.event == "operation" and one.fields["op"] == op


def failing(story: Story, lane: str, error: str) -> Story:
    failed = sum(map(in_fault(lane), story.lines))
    return story.changed(in_fault(lane), ok=False, error=error, region="").changed(of("workload-ended"), failed=failed)


def of_claim(story: Story, name: str) -> Verdict:
    return next(claim.verdict for claim in judge(story.journal()).claims if claim.name == name)


DENIED = {"cold": "never", "failover": "must_not", "errors": ["AccessDeniedException"]}


def denied() -> Story:
    """The cold lane was refused by the target, and nobody was asked instead."""
    return failing(held_story().without(of("failed-over")), "cold", "AccessDeniedException")


def test_a_core_that_must_not_go_elsewhere_and_did_not_is_held() -> None:
    """Denied is policy, not outage: the warm lane goes on by the cache, the cold one is refused, and says by whom."""
    story = declared(denied(), expect=DENIED)

    assert of_claim(story, "reaction") is HELD
    assert of_claim(story, "warm-and-cold") is HELD


def test_a_core_that_went_elsewhere_although_it_must_not_broke() -> None:
    """A failover that gets past a refusal is a hole."""
    went = {"from_region": TARGET, "to_region": REGIONS[1], "operation": "Decrypt", "purpose": "payment"}
    story = declared(denied().add(30.0, "failed-over", **went), expect=DENIED)

    assert of_claim(story, "reaction") is BROKE


def test_a_core_that_was_served_elsewhere_although_it_must_not_broke() -> None:
    """Also one that says nothing of having gone: where an operation was answered is in the journal."""
    operation = next(o for o in held_story().lines if in_fault("cold")(o)).fields
    round_it = denied().add(30.0, "operation", **{**operation, "op": 999, "seconds": 0.1, "region": REGIONS[1]})

    assert of_claim(declared(round_it, expect={**DENIED, "cold": "sometimes"}), "reaction") is BROKE


def test_a_failover_before_the_fault_is_not_laid_at_its_door() -> None:
    """Only what happened while it was on counts."""
    went = {"from_region": TARGET, "to_region": REGIONS[1], "operation": "Decrypt", "purpose": "payment"}
    story = declared(denied().add(FAULT_ON - 1, "failed-over", **went), expect=DENIED)

    assert of_claim(story, "reaction") is HELD


def test_a_core_that_must_go_elsewhere_is_seen_to() -> None:
    """Nobody going is not proof of anything."""
    nowhere = held_story().without(of("failed-over")).changed(of("operation"), region=TARGET)

    assert of_claim(held_story(), "reaction") is HELD
    assert of_claim(nowhere, "reaction") is INCONCLUSIVE


def test_an_operation_that_fails_in_other_words_broke() -> None:
    """A caller who is told nonsense cannot act on it."""
    story = declared(failing(held_story().without(of("failed-over")), "cold", "Unclassified"), expect=DENIED)

    assert of_claim(story, "reaction") is BROKE


def test_words_that_are_not_declared_are_named_in_order() -> None:
    """Each once; a verdict reads alike wherever it is reached."""
    story = failing(held_story().without(of("failed-over")), "cold", "Unclassified")
    words = ["Tiger", "Ant", "Viper", "Bee", "Unicorn", "Cat"]
    operations = [one.fields["op"] for one in story.lines if in_fault("cold")(one)]
    for op, word in zip(operations, words, strict=False):
        story = story.changed(numbered(op), error=word)
    (reaction,) = (one for one in judge(declared(story, expect=DENIED).journal()).claims if one.name == "reaction")

    assert f"failed with {', '.join(sorted([*words, 'Unclassified']))}, which is not declared" in reaction.finding
    assert len(operations) > len(words)


def test_a_lane_that_nothing_could_serve_and_that_was_served_broke() -> None:
    """A key that is revoked everywhere must not seal any more: an operation that succeeds shows a hole."""
    assert of_claim(declared(held_story(), expect=DENIED), "warm-and-cold") is BROKE


def test_an_operation_that_the_end_of_the_fault_served_is_no_hole() -> None:
    """It began in the dark, waited, and was answered when the light was on again."""
    story = failing(held_story(), "cold", "ReadTimeout")
    nothing = {"cold": "never", "failover": "may", "errors": ["ReadTimeout"]}

    for seconds, verdict in ((4.0, HELD), (1.0, BROKE)):
        ended = RESTORE_AT + 2 if verdict is HELD else RESTORE_AT - 1
        operation = next(o for o in held_story().lines if in_fault("cold")(o)).fields
        late = story.add(ended, "operation", **{**operation, "op": 999, "seconds": seconds})
        assert of_claim(declared(late, expect=nothing), "warm-and-cold") is verdict


def test_an_operation_that_was_written_down_late_is_no_hole() -> None:
    """Served just before the fault, and noted a moment after: it seems to have begun in the dark."""
    nothing = {"cold": "never", "failover": "may", "errors": ["ReadTimeout"]}
    operation = next(o for o in held_story().lines if in_fault("cold")(o)).fields
    story = failing(held_story(), "cold", "ReadTimeout")

    for after_seconds, verdict in ((0.3, HELD), (0.7, BROKE)):
        late = story.add(FAULT_ON + after_seconds, "operation", **{**operation, "op": 999, "seconds": 0.1})
        assert of_claim(declared(late, expect=nothing), "warm-and-cold") is verdict


def test_a_lane_that_may_fail_must_at_least_be_tried() -> None:
    """No operation at all proves nothing."""
    sometimes = {"cold": "sometimes", "failover": "may", "errors": ["ReadTimeout"]}
    untried = held_story().without(in_fault("cold"))

    assert of_claim(declared(held_story(), expect=sometimes), "warm-and-cold") is HELD
    assert of_claim(declared(untried, expect=sometimes), "warm-and-cold") is INCONCLUSIVE
    assert of_claim(declared(untried, expect=DENIED), "warm-and-cold") is INCONCLUSIVE


@pytest.mark.parametrize("lane", ["warm", "cold"])
def test_a_lane_that_serves_sometimes_served_once_at_least(lane: str) -> None:
    """A cache that is off fails all warm operations, in the declared words; a core that never waits all cold ones."""
    sometimes = {"warm": "sometimes", "cold": "sometimes", "failover": "may", "errors": ["ReadTimeout"]}
    story = declared(failing(held_story(), lane, "ReadTimeout"), expect=sometimes)
    operation = next(o for o in held_story().lines if in_fault(lane)(o)).fields
    once = story.add(30.0, "operation", **{**operation, "op": 999, "seconds": 0.1})
    late = story.add(RESTORE_AT + 1, "operation", **{**operation, "op": 999, "seconds": 2.0})

    assert [of_claim(told, "warm-and-cold") for told in (story, once, late)] == [BROKE, HELD, BROKE]


def test_a_warm_operation_that_kms_answered_does_not_show_a_cache() -> None:
    """That lane is there for what the cache serves."""
    sometimes = {"warm": "sometimes", "cold": "never", "failover": "may", "errors": ["ReadTimeout"]}
    asked = failing(held_story(), "cold", "ReadTimeout").changed(in_fault("warm"), cache_hit=False, asked=1)

    assert of_claim(declared(asked, expect=sometimes), "warm-and-cold") is BROKE


def test_a_cold_lane_may_be_served_in_place() -> None:
    """A region that is throttled is healthy: asking it again is right, and going elsewhere is not demanded."""
    at_home = held_story().without(of("failed-over")).changed(of("operation"), region=TARGET)

    assert of_claim(declared(at_home, expect={"failover": "may"}), "warm-and-cold") is HELD
    assert of_claim(declared(at_home, expect={"failover": "must"}), "warm-and-cold") is INCONCLUSIVE


def test_a_breaker_that_must_stay_closed_and_moved_broke() -> None:
    """To move the load of a healthy region starts a cascade."""
    calm = held_story().without(of("breaker-moved"))
    stays = {"moves": [], "stays_closed": True}

    assert of_claim(declared(held_story(), breaker=stays), "breaker-moves") is BROKE
    assert of_claim(declared(calm, breaker=stays), "breaker-moves") is HELD


@pytest.mark.parametrize("claim", ["reaction", "warm-and-cold", "breaker-moves"])
def test_without_a_fault_there_is_no_reaction(claim: str) -> None:
    """It proves nothing, whatever was declared."""
    story = declared(held_story().without(of("fault-injected")), expect=DENIED)

    assert of_claim(story, claim) is INCONCLUSIVE
