"""The report: verdict first, the fault window drawn, nothing loaded from anywhere, nothing hostile let through."""

from __future__ import annotations

import re

import pytest
from hostile_names import hostile_story

from kms_chaos.judge import judge
from kms_chaos.report import render
from kms_chaos.testing import END, Story, held_story, of

pytestmark = pytest.mark.slow


def report(story: Story) -> str:
    journal = story.journal()
    return render(journal, judge(journal))


def test_a_report_stands_alone() -> None:
    """No script, no address, no style or image from elsewhere; a policy that forbids them."""
    page = report(held_story())

    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    addresses = set(re.findall(r"https?://[^\"'\s<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places


def test_the_verdict_comes_first_and_every_claim_is_there() -> None:
    """And the hash up to which it was judged."""
    journal = held_story().journal()
    judgement = judge(journal)
    page = render(journal, judgement)

    assert page.index("HELD") < page.index("<svg") < page.index("What had to be proved")
    assert all(claim.title in page for claim in judgement.claims)
    assert judgement.journal_head in page


def test_the_fault_window_is_drawn_over_latency_and_outcome() -> None:
    """Shaded in the fault's colour, in every panel; without a fault there is no shade."""
    with_fault, without = report(held_story()), report(held_story().without(of("fault-injected")))

    assert with_fault.count("fill: var(--fault)") >= 4
    assert "fill: var(--fault)" not in without
    assert "Latency of every operation" in with_fault


def test_the_same_journal_gives_the_same_report() -> None:
    """Byte for byte: nothing in it is of today."""
    assert report(held_story()) == report(held_story())


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "</svg><img src=x>"])
def test_what_a_journal_says_is_text(hostile: str) -> None:
    """A reason that KMS, a server or a file gave is never markup."""
    page = report(held_story().add(END + 1, "interrupted", reason=hostile).changed(of("run-started"), drill=hostile))

    assert hostile not in page
    assert "<script" not in page


def test_a_healed_drill_says_so() -> None:
    """Who reads it must not take it for a drill that ended by itself."""
    story = held_story().add(
        END + 1, "healed", by="healer", reason="owner_dead", proxies=["kmswd.x"], torn_line=True, finding=""
    )

    assert "The drill died" in report(story)


def test_a_drill_that_broke_nothing_has_a_report_too() -> None:
    """A refused baseline leaves little to draw, and no error."""
    story = held_story().without(lambda one: one.t > 1.0).add(2.0, "interrupted", reason="baseline missed")

    page = report(story)

    assert "INCONCLUSIVE" in page
    assert "baseline missed" in page


def test_everything_that_a_reader_asks_for_is_there() -> None:
    """Verdict, timeline, claims, recovery in parts with their error, messages, what was touched, guards, evidence."""
    page = report(held_story())

    headings = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert headings == [
        "Timeline",
        "What had to be proved",
        "Recovery time, in its parts",
        "Recovery point, in messages",
        "What was touched, and how it was undone",
        "Guards, and who asked for it",
        "Measured",
        "Evidence",
    ]
    assert "first error → first answer without this region" in page
    assert "± 1.0 s" in page
    assert "0 did not open again" in page
    assert "deleted, read back in line" in page
    assert "@media print" in page
    assert "prefers-color-scheme: dark" in page


def test_a_fault_has_a_lane_and_one_that_was_not_removed_says_so() -> None:
    """Its shade runs to the right edge."""
    assert ">blackhole us-east-1<" in report(held_story())
    assert ">blackhole us-east-1, not removed<" in report(held_story().without(of("fault-removed")))


def test_what_was_left_behind_is_seen() -> None:
    """A proxy of the drill is still on the server, and messages did not open."""
    story = held_story().changed(
        of("restore-verified"), proxies_left=["kmswd.20261124T031500Z-region-blackhole.us-east-1"]
    )
    story = story.changed(of("messages-checked", when="check"), opened=79, wrong=[5])

    page = report(story)

    assert "nobody saw it undone" in page
    assert "Restore failed" in page
    assert "1 did not open again" in page
    assert "(numbers 5)" in page


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "</style><img src=x>"])
def test_what_guards_toxics_and_people_say_is_text(hostile: str) -> None:
    """Everywhere in the page."""
    story = held_story().changed(of("guard-checked"), detail=hostile, guard=hostile)
    story = story.changed(of("run-started"), reason=hostile, approver={"arn": hostile}, versions={hostile: hostile})
    story = story.changed(of("restore-verified"), finding=hostile).add(3.0, hostile)

    assert hostile not in report(story)


def test_a_name_with_dollars_is_a_name() -> None:
    """A picture takes what stands between two dollars for mathematics, unless told not to; these would be wrong."""
    page = report(hostile_story(r" $\frac{$ $x^{2$"))

    assert page.partition("</svg>")[0].count(r"us-east-1 $\frac{$ $x^{2$") > 3


def test_a_drill_that_died_before_any_alarm_was_read_has_a_report_too() -> None:
    """An alarm that the drill speaks of has then no state at all to be drawn."""
    page = report(held_story().without(lambda one: one.t > 0.35))

    assert "INCONCLUSIVE" in page or "BROKE" in page
    assert "HighErrorRate us-east-1 (drill)" in page
