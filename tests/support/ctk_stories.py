"""Drills of every ending, for the tests of what Chaos Toolkit makes of our journals."""

from __future__ import annotations

from kms_chaos.export.account import Account, account
from kms_chaos.judge import judge
from kms_chaos.testing import END, Story, held_story, of

NO_BASELINE = "the steady state was not there before the fault, so none was injected"


def told(story: Story) -> Account:
    journal = story.journal()
    return account(journal, judge(journal))


def unbroken(reason: str) -> Story:
    """A drill that was ended before its fault."""
    story = held_story().without(lambda one: one.t > 7.0 and one.event != "restore-verified")
    return story.add(7.5, "interrupted", reason=reason)


STORIES = {
    "held": held_story(),
    "broke": held_story().without(of("fault-removed")),
    "dip during": held_story().changed(lambda one: one.event == "operation" and 20 < one.t < 30, ok=False, error="X"),
    "baseline not met": unbroken(NO_BASELINE),
    "guard": held_story().changed(of("guard-checked", guard="alarms-quiet"), held=False, detail="one fires"),
    "signal": held_story().add(END + 1, "interrupted", reason="SIGTERM"),
    "time": held_story().add(END + 1, "interrupted", reason="time is up"),
    "crashed": held_story().add(END + 1, "interrupted", reason="crashed: ValueError: x"),
    "killed": held_story().add(
        END + 1, "healed", by="healer", reason="owner_dead", proxies=[], torn_line=False, finding=""
    ),
    "nobody could see": held_story().without(of("alarm-state")),
    "restore failed": held_story().changed(of("restore-verified"), proxies_left=["kmswd.x"]),
}
CLASSES = {
    "held": "passed",
    "broke": "deviated",
    "dip during": "deviated",
    "baseline not met": "baseline-not-met",
    "guard": "interrupted",
    "signal": "interrupted",
    "time": "interrupted",
    "crashed": "aborted",
    "killed": "aborted",
    "nobody could see": "interrupted",
    "restore failed": "deviated",
}
"""As CLI 1.21 classifies, in this order: interrupted, aborted, baseline not met, deviated, passed."""
