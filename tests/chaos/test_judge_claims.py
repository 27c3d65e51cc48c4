"""Each claim can be red, and says so: the made-up drill that held, with one thing changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kms_chaos.judge import judge
from kms_chaos.testing import (
    END,
    FAULT_OFF,
    FAULT_ON,
    REGIONS,
    RESTORE_AT,
    TARGET,
    Line,
    Story,
    canary_result,
    held_story,
    of,
)
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.verdict import Judgement, Verdict

HELD, BROKE, INCONCLUSIVE = Verdict.HELD, Verdict.BROKE, Verdict.INCONCLUSIVE
OTHER = REGIONS[1]


def verdict_of(judgement: Judgement, claim: str) -> Verdict:
    return next(c.verdict for c in judgement.claims if c.name == claim)


def after(t: float) -> Callable[[Line], bool]:
    return lambda one: one.t > t


def both(*conditions: Callable[[Line], bool]) -> Callable[[Line], bool]:
    return lambda one: all(condition(one) for condition in conditions)


def with_rto(story: Story, seconds: float) -> Story:
    file = story.lines[0].fields["drill_file"]
    return story.changed(
        of("run-started"), drill_file={**file, "objectives": {**file["objectives"], "rto_seconds": seconds}}
    )


def canary(region: str) -> Callable[[Line], bool]:
    return lambda one: one.event == "canary-result" and one.fields["result"]["region"] == region


def alarm(state: str, region: str = TARGET, mode: str = "drill") -> Callable[[Line], bool]:
    return of("alarm-state", state=state, region=region, mode=mode)


def test_a_drill_in_which_everything_was_seen_is_held() -> None:
    """HELD needs all eight claims, each with the lines that show it."""
    judgement = judge(held_story().journal())

    assert judgement.verdict is HELD
    assert [c.verdict for c in judgement.claims] == [HELD] * 9
    assert all(c.evidence for c in judgement.claims)


def test_figures_are_measured_from_the_journal_alone() -> None:
    """Detect, divert, recover and the alarm's lag are the journal's own distances."""
    figures = judge(held_story().journal()).figures

    assert figures["detect_seconds"] == pytest.approx(3.0)
    assert figures["divert_seconds"] == pytest.approx(1.5)
    assert figures["alarm_fired_seconds"] == pytest.approx(32.0)
    assert figures["alarm_cleared_seconds"] == pytest.approx(30.0, abs=0.2)
    assert figures["failed_operations"] == 0


def test_a_verdict_can_be_reached_again() -> None:
    """Lines from the verdict on are not looked at: judging a finished journal gives the same, byte for byte."""
    story = held_story()

    again = story.add(END + 1, "verdict", verdict="HELD", claims={}).add(END + 2, "closed", by="drill", verdict="HELD")

    assert judge(again.journal()).to_json() == judge(story.journal()).to_json()


CASES: list[tuple[str, str, Verdict, Verdict, Callable[[Story], Story]]] = [
    ("no guard was asked", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("guard-checked"))),
    ("a guard did not hold", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("guard-checked", guard="daemon-watches"), held=False)),
    ("a canary failed before", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.add(7.8, "canary-result", result=canary_result(OTHER, "general", 6.8, hurt=True))),
    ("a canary was never seen before", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(lambda one: canary(OTHER)(one) and one.t < FAULT_ON)),
    ("operations failed before", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("operation", op=6), ok=False, error="ReadTimeout")),
    ("the twin was not OK before", "steady-state-before", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(both(alarm("OK"), lambda one: one.t < FAULT_ON), state="INSUFFICIENT_DATA")),
    ("the fault did not bite", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("attempt", region=TARGET, error_code="ReadTimeout"))),
    ("the target answered during the fault", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(both(of("attempt", region=TARGET), lambda one: 20 < one.t < 22), error_code="")),
    ("requests passed the proxy by", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("attempt", region=TARGET), proxy="")),
    ("the toxics were not read back", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("fault-injected"), toxics=[])),
    ("the proxy was disabled", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("fault-injected"), enabled=False)),
    ("the fault touched another region", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(both(of("attempt", region=OTHER), lambda one: 20 < one.t < 21), error_code="ReadTimeout")),
    ("nobody asked another region", "fault-was-real", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("attempt", region=OTHER))),
    ("an operation failed during", "workload-objective", BROKE, BROKE,
     lambda s: s.changed(of("operation", op=40), ok=False, error="KmsUnavailableError")
                .changed(of("workload-ended"), failed=1)),
    ("p99 was missed", "workload-objective", BROKE, BROKE,
     lambda s: s.changed(both(of("operation"), lambda one: 20 < one.t < 23), seconds=3.5)),
    ("too few operations", "workload-objective", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(both(of("operation"), lambda one: 12 < one.t < RESTORE_AT))),
    ("operations were lost from the journal", "workload-objective", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("operation", op=40))),
    ("operations never ended", "workload-objective", BROKE, BROKE,
     lambda s: s.changed(of("workload-ended"), offered=160)),
    ("the workload did not say how it ended", "workload-objective", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("workload-ended"))),
    ("the breaker never opened", "breaker-moves", BROKE, BROKE,
     lambda s: s.without(of("breaker-moved"))),
    ("the breaker opened only when the fault was lifted", "breaker-moves", BROKE, BROKE,
     lambda s: s.without(both(of("breaker-moved"), lambda one: one.t < RESTORE_AT))
                .add(RESTORE_AT + 0.05, "breaker-moved", region=TARGET, old="closed", new="open", cause="failures")),
    ("the breaker opened before the fault was put on", "breaker-moves", BROKE, INCONCLUSIVE,
     lambda s: s.without(of("breaker-moved", old="closed"))
                .add(FAULT_ON - 0.5, "breaker-moved", region=TARGET, old="closed", new="open", cause="failures")),
    ("the breaker never probed", "breaker-moves", BROKE, BROKE,
     lambda s: s.without(of("breaker-moved", new="half_open"))),
    ("the breaker stayed open", "breaker-moves", BROKE, BROKE,
     lambda s: s.without(of("breaker-moved", new="closed"))),
    ("another breaker opened", "breaker-moves", BROKE, BROKE,
     lambda s: s.add(30, "breaker-moved", region=OTHER, old="closed", new="open", cause="failures")),
    ("the alarm did not fire", "alarms", BROKE, BROKE,
     lambda s: s.without(alarm("ALARM"))),
    ("the alarm fired too late", "alarms", BROKE, BROKE,
     lambda s: Story(tuple(Line(t=FAULT_ON + 71, event=o.event, fields=o.fields) if alarm("ALARM")(o) else o
                           for o in s.lines))),
    ("the alarm could not be read", "alarms", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(alarm("ALARM"), state="UNREADABLE")),
    ("the alarm did not clear", "alarms", BROKE, BROKE,
     lambda s: s.without(both(alarm("OK"), after(FAULT_OFF)))),
    ("the alarm cleared while the fault was on", "alarms", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.add(FAULT_ON + 35, "alarm-state", alarm="HighErrorRate", region=TARGET, mode="drill", state="OK",
                     since_utc="", reason="", last=False)),
    ("another region's twin fired", "alarms", BROKE, BROKE,
     lambda s: s.add(40, "alarm-state", alarm="HighErrorRate", region=OTHER, mode="drill", state="ALARM",
                     since_utc="", reason="", last=False)),
    ("a live alarm fired", "alarms", BROKE, BROKE,
     lambda s: s.add(40, "alarm-state", alarm="HighErrorRate", region=TARGET, mode="live", state="ALARM",
                     since_utc="", reason="", last=False)),
    ("a live alarm was not read to the end", "alarms", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("alarm-state", region=OTHER, mode="live", last=True))),
    ("a live alarm had no data", "alarms", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("alarm-state", region=OTHER, mode="live"), state="INSUFFICIENT_DATA")),
    ("the removal was not recorded", "restored", BROKE, BROKE,
     lambda s: s.without(of("fault-removed"))),
    ("the toxics were still there", "restored", BROKE, BROKE,
     lambda s: s.changed(of("fault-removed"), toxics_left=["kmswd_blackhole_0_upstream"])),
    ("nobody verified", "restored", BROKE, BROKE,
     lambda s: s.without(of("restore-verified"))),
    ("a proxy was left", "restored", BROKE, BROKE,
     lambda s: s.changed(of("restore-verified"), proxies_left=["kmswd.x"])),
    ("the canaries did not come back", "restored", BROKE, BROKE,
     lambda s: s.without(both(canary(TARGET), after(FAULT_OFF)))),
    ("the steady state came back too late", "restored", BROKE, BROKE,
     lambda s: with_rto(s, 30.0).add(81.5, "canary-result", result=canary_result(TARGET, "general", 80.5, hurt=True))
                .add(81.9, "canary-result", result=canary_result(TARGET, "general", 81.8, hurt=False))),
    ("a message was lost", "nothing-lost", BROKE, BROKE,
     lambda s: s.changed(of("messages-checked", when="hold", region=OTHER), opened=23, refused=1, wrong=[17])),
    ("messages were not checked mid-failover", "nothing-lost", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.without(of("messages-checked", when="hold"))),
    ("not all messages were tried", "nothing-lost", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("messages-checked", when="check", region=TARGET), opened=12)),
    ("KMS accepted a wrong context", "nothing-lost", BROKE, BROKE,
     lambda s: s.changed(of("context-refused", when="hold", region=OTHER, purpose="payment"), error_code="accepted")),
    ("KMS was not heard about a wrong context", "nothing-lost", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("context-refused", when="check", region=TARGET), error_code="ReadTimeout")),
    ("the core refused, not KMS", "nothing-lost", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("context-refused", when="check", region=TARGET), error_code="MessageError")),
    ("no cold operation was seen", "warm-and-cold", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("operation", lane="cold"), asked=0)),
    ("the warm lane never hit the cache", "warm-and-cold", INCONCLUSIVE, INCONCLUSIVE,
     lambda s: s.changed(of("operation", lane="warm"), cache_hit=False)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "of_claim", "overall", "change"),
    [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in CASES],
)
def test_each_claim_can_be_red(
    claim: str, of_claim: Verdict, overall: Verdict, change: Callable[[Story], Story]
) -> None:
    """One thing changed turns its claim, and with it the verdict."""
    judgement = judge(change(held_story()).journal())

    assert verdict_of(judgement, claim) is of_claim
    assert judgement.verdict is overall


def test_an_answer_that_was_written_down_late_was_not_given_during_the_fault() -> None:
    """A busy machine notes an attempt after its end, so that it seems to have begun after the fault did."""
    attempt = next(o for o in held_story().lines if of("attempt", region=TARGET, error_code="")(o)).fields

    for after_seconds, verdict in ((0.3, HELD), (0.7, INCONCLUSIVE)):
        late = held_story().add(FAULT_ON + after_seconds, "attempt", **{**attempt, "seconds": 0.1})
        assert verdict_of(judge(late.journal()), "fault-was-real") is verdict


def test_a_breaker_that_opens_while_the_fault_is_put_on_opened_for_it() -> None:
    """A refusal is known at once, before the fault was read back."""
    soon = {"region": TARGET, "old": "closed", "new": "open", "cause": "failures"}
    story = held_story().without(of("breaker-moved", old="closed")).add(FAULT_ON - 0.05, "breaker-moved", **soon)

    assert verdict_of(judge(story.journal()), "breaker-moves") is HELD


def test_what_a_fault_breaks_while_it_is_put_on_was_not_broken_before() -> None:
    """It bites as soon as it is ordered, and is read back later; the callers that it meets meanwhile count."""
    soon = both(of("operation"), lambda one: one.t == FAULT_ON - 0.05)
    first = next(one for one in held_story().lines if one.event == "operation" and one.fields["lane"] == "cold")
    story = held_story().add(FAULT_ON - 0.05, "operation", **{**first.fields, "op": 999})
    story = story.add(FAULT_ON - 0.04, "canary-result", result=canary_result(TARGET, "general", 7.0, hurt=True))
    told = story.changed(soon, ok=False, error="ConnectionRefused").changed(
        of("workload-ended"), offered=157, operations=157, failed=1
    )

    judgement = judge(told.journal())

    assert verdict_of(judgement, "steady-state-before") is HELD
    assert verdict_of(judgement, "workload-objective") is BROKE
    assert judgement.verdict is BROKE


@pytest.mark.parametrize("code", ["HedgeLost", "Saturated", "CredentialsLate", "NoCredentialsError"])
def test_an_attempt_that_nobody_answered_was_not_spared_by_the_fault(code: str) -> None:
    """Overtaken by a hedge, or never sent: the region said nothing, and the fault was whole; an error is a word."""
    some = both(of("attempt", region=TARGET), lambda one: 20 < one.t < 22)

    unanswered = judge(held_story().changed(some, error_code=code).journal())
    answered = judge(held_story().changed(some, error_code="KMSInternalException").journal())

    assert verdict_of(unanswered, "fault-was-real") is HELD
    assert verdict_of(answered, "fault-was-real") is INCONCLUSIVE


def test_no_fault_is_no_proof() -> None:
    """A drill whose baseline was missed injects nothing, and proves nothing: not green, not red."""
    story = held_story().without(after(7.0)).add(7.1, "restore-verified", proxies_left=[], by="drill", finding="")
    story = story.add(7.2, "interrupted", reason="the steady state was not there")

    judgement = judge(story.journal())

    assert judgement.verdict is INCONCLUSIVE
    assert {c.verdict for c in judgement.claims} == {INCONCLUSIVE}


def test_a_failed_restore_is_broke_whatever_else() -> None:
    """Also where the fault never bit and the run was cut short."""
    story = held_story().without(of("attempt")).changed(of("restore-verified"), proxies_left=["kmswd.x"])

    judgement = judge(story.add(END + 1, "interrupted", reason="SIGTERM").journal())

    assert judgement.verdict is BROKE


def test_a_run_that_was_interrupted_is_inconclusive_even_if_all_was_well() -> None:
    """Interrupted and restored: exit code 3."""
    judgement = judge(held_story().add(END + 1, "interrupted", reason="SIGINT").journal())

    assert judgement.verdict is INCONCLUSIVE


def test_what_is_missing_from_a_run_cut_short_is_not_held_against_the_system() -> None:
    """A breaker that had no time to close did not break."""
    story = held_story().without(of("breaker-moved", new="closed")).add(END + 1, "interrupted", reason="SIGINT")

    judgement = judge(story.journal())

    assert verdict_of(judgement, "breaker-moves") is INCONCLUSIVE


def test_an_alarm_that_could_not_be_read_for_a_while_may_vouch_for_itself() -> None:
    """CloudWatch tells since when a state has been: a gap that this covers is no gap."""
    gap = {"alarm": "HighErrorRate", "region": OTHER, "mode": "live", "reason": "", "last": False}
    story = held_story().add(30, "alarm-state", **gap, state="UNREADABLE", since_utc="")

    assert verdict_of(judge(story.journal()), "alarms") is HELD

    blind = story.changed(
        of("alarm-state", region=OTHER, mode="live", last=True), since_utc="2026-11-24T03:15:45+00:00"
    )
    assert verdict_of(judge(blind.journal()), "alarms") is INCONCLUSIVE


def test_a_recovery_drill_may_fail_until_its_rto_and_not_after() -> None:
    """Two kinds of test: must hold, and must recover."""
    file = {**held_story().lines[0].fields["drill_file"], "mode": "recovery"}
    story = held_story().changed(of("run-started"), drill_file=file)
    during = story.changed(of("operation", op=41), ok=False, error="x").changed(of("workload-ended"), failed=1)
    after_rto = story.changed(of("operation", op=159), ok=False, error="x").changed(of("workload-ended"), failed=1)

    for told, verdict in ((story, HELD), (during, HELD), (after_rto, BROKE)):
        quicker = with_rto(told, 10.0)
        assert verdict_of(judge(quicker.journal()), "workload-objective") is verdict


def test_a_journal_of_something_else_is_refused() -> None:
    """The judge does not guess."""
    with pytest.raises(JournalError, match="run-started"):
        judge(Story().add(0.0, "phase-started", phase="baseline").journal())
