"""What holds of every verdict, whatever is missing from the journal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kms_chaos.judge import judge
from kms_chaos.testing import Story, held_story, of
from kms_watchdog.drills.journal import JournalError, parse_all
from kms_watchdog.drills.verdict import Verdict

WHOLE = held_story()
FLAWS = {
    "an operation failed": WHOLE.changed(of("operation", op=40), ok=False, error="x").changed(
        of("workload-ended"), failed=1
    ),
    "a message was lost": WHOLE.changed(of("messages-checked", when="check"), opened=70, wrong=[1, 2]),
    "a proxy was left": WHOLE.changed(of("restore-verified"), proxies_left=["kmswd.x"]),
    "a context was accepted": WHOLE.changed(of("context-refused", when="hold"), error_code="accepted"),
    "a guard did not hold": WHOLE.changed(of("guard-checked", guard="alarms-quiet"), held=False),
}
PROOF_OF_FLAW = {"operation", "workload-ended", "messages-checked", "restore-verified", "context-refused",
                 "guard-checked"}  # fmt: skip


def thinned(story: Story, seed: int, share: float, *, keep: set[str]) -> Story:
    rng = random.Random(seed)
    return story.without(lambda one: one.event != "run-started" and one.event not in keep and rng.random() < share)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(flaw=st.sampled_from(sorted(FLAWS)), seed=st.integers(0, 2**32), share=st.floats(0.0, 1.0))
def test_dropping_evidence_never_makes_a_drill_held(flaw: str, seed: int, share: float) -> None:
    """However much of what speaks for the drill is lost, a flaw that is in the journal stays one."""
    story = thinned(FLAWS[flaw], seed, share, keep=PROOF_OF_FLAW)

    assert judge(story.journal()).verdict is not Verdict.HELD


@settings(max_examples=40, deadline=None)
@given(event=st.sampled_from(sorted({one.event for one in WHOLE.lines} - {"run-started", "failed-over"})))
def test_without_one_kind_of_evidence_no_drill_is_held(event: str) -> None:
    """Every kind of line is needed; silence is never health."""
    story = WHOLE.without(lambda one: one.event == event and one.fields.get("phase") != "restore")

    verdict = judge(story.journal()).verdict

    if event != "phase-started":  # the phases are for people; the restore's alone bounds the fault
        assert verdict is not Verdict.HELD


@settings(max_examples=40, deadline=None)
@given(end=st.floats(0.0, 84.9))
def test_a_journal_that_ends_early_is_never_held(end: float) -> None:
    """A drill that was killed at any instant proves nothing."""
    story = WHOLE.without(lambda one: one.t > end)

    assert judge(story.journal()).verdict is not Verdict.HELD


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2**32), bit=st.integers(0, 7))
def test_an_edited_journal_is_refused_or_torn(place: int, bit: int) -> None:
    """One flipped bit anywhere breaks the chain or tears the last line: no edited line is ever believed."""
    raw = bytearray(SMALL)
    raw[place % len(raw)] ^= 1 << bit

    try:
        found = parse_all(bytes(raw))
    except JournalError:
        return
    assert found.torn
    assert found.records == parse_all(SMALL).records[: len(found.records)]


SMALL = Story(WHOLE.lines[:12]).raw()
