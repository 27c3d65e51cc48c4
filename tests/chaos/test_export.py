"""What a drill tells others: recovery in parts, JUnit that is never green by omission, JSON, Markdown for a ticket."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from kms_chaos.cli import cli
from kms_chaos.durable import make_folder
from kms_chaos.export import as_json, junit, markdown
from kms_chaos.export.account import Account, account
from kms_chaos.export.forms import FORMS
from kms_chaos.export.steps import shades
from kms_chaos.judge import judge
from kms_chaos.judging.history import History
from kms_chaos.testing import END, FAULT_OFF, FAULT_ON, REGIONS, RESTORE_AT, RUN_ID, TARGET, Line, Story, held_story, of
from kms_chaos.timings import Timing, key_loss, timings
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.verdict import Claim, Verdict

pytestmark = pytest.mark.slow  # each renders a report


def history(story: Story) -> History:
    return History.of(story.journal())


def told(story: Story) -> Account:
    journal = story.journal()
    return account(journal, judge(journal))


def part(story: Story, name: str, *, lane: str = "", region: str = TARGET) -> Timing:
    (found,) = [t for t in timings(history(story)) if (t.name, t.lane, t.region) == (name, lane, region)]
    return found


def test_the_recovery_time_comes_in_parts() -> None:
    """Each between two lines of the journal, warm and cold apart."""
    story = held_story()

    assert part(story, "detect").seconds == 3.0
    assert part(story, "divert", lane="cold").seconds == pytest.approx(0.499)
    assert part(story, "divert", lane="warm").seconds == 0.0  # the cache never stopped
    assert part(story, "divert", lane="warm").note == "from the cache"
    assert part(story, "divert", lane="cold").note == "answered by us-west-2"
    assert part(story, "undo").seconds == 0.1
    assert part(story, "breaker-closed").seconds == 4.1
    assert part(story, "traffic-home", lane="cold").seconds == pytest.approx(7.4)
    assert part(story, "alarm-fired").seconds == 32.0
    assert part(story, "alarm-cleared").seconds == 30.0


def test_each_part_names_its_lines() -> None:
    """What it was measured between can be looked up."""
    found = part(held_story(), "detect")
    records = history(held_story()).records

    assert [records[seq].event for seq in found.evidence] == ["fault-injected", "breaker-moved"]


def test_the_error_is_the_spacing_of_the_samples() -> None:
    """With one sample in three, it is three times as large; an alarm's is how late it was read."""
    sparse = held_story().without(lambda one: one.event == "attempt" and int(one.t) % 3 != 0)

    assert part(held_story(), "detect").error_seconds == 1.0
    assert part(sparse, "detect").error_seconds == 3.0
    assert part(held_story(), "alarm-fired").error_seconds == 1.0
    assert part(held_story().changed(of("alarm-state"), since_utc=""), "alarm-fired").error_seconds is None


def test_a_breaker_that_stays_closed_is_detected_by_the_first_error() -> None:
    """And the part says so."""
    found = part(held_story().without(of("breaker-moved")), "detect")

    assert found.seconds == pytest.approx(1.001)
    assert "stayed closed" in found.note


@pytest.mark.parametrize(
    ("story", "name", "lane", "note"),
    [
        pytest.param(held_story().without(of("fault-removed")), "undo", "", "not removed", id="never undone"),
        pytest.param(
            held_story().without(of("breaker-moved", new="closed")), "breaker-closed", "", "half_open", id="open"
        ),
        pytest.param(
            held_story().without(of("breaker-moved")), "breaker-closed", "", "never opened", id="never opened"
        ),
        pytest.param(
            held_story().without(of("alarm-state", state="ALARM")), "alarm-fired", "", "not fire", id="silent"
        ),
        pytest.param(
            held_story().without(lambda one: one.event == "operation" and one.t > FAULT_OFF),
            "traffic-home",
            "cold",
            "no operation asked",
            id="nobody came home",
        ),
        pytest.param(held_story().changed(of("attempt"), error_code=""), "divert", "cold", "no request", id="no bite"),
        pytest.param(
            held_story().without(of("phase-started", phase="restore")), "undo", "", "nobody decided", id="healed"
        ),
    ],
)
def test_what_did_not_happen_has_no_number(story: Story, name: str, lane: str, note: str) -> None:
    """It has a reason instead."""
    found = part(story, name, lane=lane)

    assert found.seconds is None
    assert note in found.note


def two_in_a_row() -> Story:
    """The black hole, and a second one in the same region from 5 s later on, off a second before the first."""
    file = held_story().lines[0].fields["drill_file"]
    second = {**file["faults"][0], "after_seconds": 5.0}
    story = held_story().changed(of("run-started"), drill_file={**file, "faults": [*file["faults"], second]})
    which = {"fault_id": f"1-blackhole-{TARGET}", "fault": "blackhole", "region": TARGET, "bite": {}, "toxics": []}
    story = story.add(FAULT_ON + 5, "fault-injected", **which, enabled=True)
    return story.add(RESTORE_AT - 1, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])


def test_of_several_faults_in_a_region_the_first_counts_on_and_the_last_counts_off() -> None:
    """While one of them is on, nothing is over."""
    left = two_in_a_row().without(of("fault-removed", fault_id=f"1-blackhole-{TARGET}"))

    assert part(two_in_a_row(), "detect").seconds == 3.0
    assert part(two_in_a_row(), "breaker-closed").seconds == 4.1
    assert part(left, "breaker-closed").seconds is None
    assert len(shades(history(two_in_a_row()))) == 2


def test_without_a_fault_nothing_had_to_recover() -> None:
    """There is nothing to measure from."""
    assert timings(history(held_story().without(of("fault-injected")))) == ()


def test_messages_that_did_not_open_are_lost() -> None:
    """Whichever region could not, and whenever it was tried."""
    story = held_story().changed(of("messages-checked", when="hold", region=REGIONS[1]), opened=22, wrong=[7, 9])

    loss = key_loss(history(story))

    assert loss is not None
    assert loss.lost == (7, 9)
    assert (loss.sealed, loss.untried) == (80, 0)
    assert loss.sealed_in_fault > 0


def test_messages_that_nobody_tried_are_neither_lost_nor_safe() -> None:
    """A region that was not asked, and one that was asked for some."""
    some = key_loss(history(held_story().changed(of("messages-checked", when="check", region=TARGET), opened=50)))
    none = key_loss(history(held_story().without(of("messages-checked", when="check", region=TARGET))))

    assert some is not None
    assert none is not None
    assert (some.lost, some.untried, none.untried) == ((), 30, 80)
    assert TARGET not in some.regions
    assert key_loss(history(held_story().without(of("messages-checked", when="check")))) is None


def test_a_fault_that_nobody_removed_is_shaded_to_the_edge() -> None:
    """Though the restore began; a removed one ends where its removal began."""
    (removed,) = shades(history(held_story()))
    (left,) = shades(history(held_story().without(of("fault-removed"))))

    assert (removed.began, removed.ended, removed.lifted) == (FAULT_ON, RESTORE_AT, True)
    assert (left.ended, left.lifted) == (END, False)


def cases(story: Story) -> dict[str, str]:
    """Return what CI sees of each test case: success, failure or error."""
    root = ET.fromstring(junit.render(told(story)))  # noqa: S314 - our own output
    found = {}
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        found[str(case.get("name"))] = kinds[0] if kinds else "success"
    counts = {tag: list(found.values()).count(tag) for tag in ("failure", "error")}
    for one in (root, *root.iter("testsuite")):
        assert (one.get("failures"), one.get("errors")) == (str(counts["failure"]), str(counts["error"]))
        assert (one.get("tests"), one.get("skipped")) == (str(len(found)), "0")
    return found


def test_junit_has_a_case_for_each_claim_and_for_the_verdict() -> None:
    """All green, and only then."""
    found = cases(held_story())

    assert found.keys() == {"verdict", *(claim.name for claim in judge(held_story().journal()).claims)}
    assert set(found.values()) == {"success"}


@pytest.mark.parametrize(
    ("story", "claim", "seen"),
    [
        pytest.param(held_story().without(of("fault-removed")), "restored", "failure", id="broke"),
        pytest.param(held_story().changed(of("attempt"), error_code=""), "fault-was-real", "error", id="inconclusive"),
    ],
)
def test_ci_is_never_green_for_what_did_not_hold(story: Story, claim: str, seen: str) -> None:
    """Nor for what nobody could see: skipped would be green."""
    found = cases(story)

    assert found[claim] == seen
    assert found["verdict"] != "success"


def test_a_run_that_was_cut_short_is_an_error_though_every_claim_held() -> None:
    """The verdict is a case of its own."""
    found = cases(held_story().add(END + 1, "interrupted", reason="SIGTERM"))

    assert found.pop("verdict") == "error"
    assert "failure" not in found.values()


def test_junit_survives_what_xml_cannot_hold() -> None:
    """Control characters and markup, from a server's own words."""
    a = told(held_story())
    nasty = Claim(name="x", title="t", verdict=Verdict.BROKE, finding="\x00\x1b[31m</failure>&\ud800 \U0001f511")
    broken = replace(a, judgement=replace(a.judgement, claims=(nasty,), verdict=Verdict.BROKE))

    root = ET.fromstring(junit.render(broken).encode())  # noqa: S314 - our own output

    (failure,) = root.findall(".//testcase[@name='x']/failure")
    assert "</failure>&" in (failure.text or "")
    assert "\U0001f511" in (failure.text or "")


def test_json_holds_the_verdict_as_the_file_does() -> None:
    """And all else that the report tells, by name."""
    a = told(held_story())

    values = json.loads(as_json.render(a))

    assert values["judgement"] == a.judgement.to_json()
    assert {t["name"] for t in values["timings"]} >= {"detect", "divert", "steady-state", "alarm-fired"}
    assert values["key_loss"]["lost"] == []
    assert [g["guard"] for g in values["guards"]] == [
        "nothing-left-over", "route-verified", "daemon-watches", "alarms-quiet",
    ]  # fmt: skip
    assert all(proxy["undone"] for proxy in values["touched"])


def test_what_was_touched_and_not_seen_to_be_undone_is_named() -> None:
    """One proxy left on the server."""
    (name, *_) = [t.name for t in told(held_story()).touched]
    story = held_story().changed(of("restore-verified"), proxies_left=[name])

    found = {t.name: t.undone for t in told(story).touched}

    assert found.pop(name) == ""
    assert all(found.values())
    assert "**not seen to be undone**" in markdown.render(told(story))


def test_markdown_is_a_ticket_in_which_nobody_is_mentioned() -> None:
    """What a server said is text: no markup, no table cell more, no mention."""
    text = markdown.render(told(held_story().add(END + 1, "interrupted", reason="@oncall <b> | *x* [y](z)")))

    assert text.startswith("## INCONCLUSIVE: ")
    assert "@\u200boncall \\<b\\> \\| \\*x\\* \\[y\\](z)" in text
    rows = [line for line in text.splitlines() if line.startswith("| HELD")]
    assert rows
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)


def test_a_journal_that_was_not_closed_says_so() -> None:
    """A fault may still be on, unless it was seen to be gone: a drill's own report is made before its journal's end."""
    torn_away = held_story().without(of("restore-verified"))

    assert "may still be on: nobody has verified" in told(torn_away).cut_short
    assert told(held_story()).cut_short == ""
    assert told(torn_away.add(END + 2, "closed", by="drill", verdict="HELD")).cut_short == ""


def test_who_asked_and_who_approved_is_told() -> None:
    """Whatever the engine writes down at the start and no other place shows."""
    story = held_story().changed(
        of("run-started"),
        reason="quarterly",
        approval={"by": "bo"},
        verdict_schema=1,
        slot="",
        previous=None,
        armed=True,
    )

    found = dict(told(story).circumstances)

    assert found["reason"] == "quarterly"
    assert found["approval"] == "by bo"
    assert (found["verdict schema"], found["slot"], found["previous"], found["armed"]) == ("1", "none", "none", "yes")
    assert "config" not in found


def test_new_kinds_of_records_are_counted_and_break_nothing() -> None:
    """A fault without proxy or toxics, events and figures that this version does not know."""

    def other(one: Line) -> bool:
        return one.event in {"fault-injected", "fault-removed"}

    story = held_story().add(3.0, "something-new", value=1)
    bare = Story(
        tuple(
            replace(one, fields={k: v for k, v in one.fields.items() if k not in {"proxy", "toxics", "toxics_left"}})
            if other(one)
            else one
            for one in story.lines
        )
    )

    a = told(bare)

    assert a.events["something-new"] == 1
    for form in ("json", "markdown", "junit", "ctk"):
        assert FORMS[form].render(a)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_the_command_makes_every_form(tmp_path: Path, form: str) -> None:
    """HTML beside the journal, as ever; the others on stdout; any into a file."""
    where = DrillFolder(tmp_path / RUN_ID)
    make_folder(where.path)
    where.journal.write_bytes(held_story().raw())
    output = tmp_path / "out"

    printed = CliRunner().invoke(cli, ["report", str(where.path), "--format", form])
    kept = CliRunner().invoke(cli, ["report", str(where.path), "--format", form, "--output", str(output)])

    assert (printed.exit_code, kept.exit_code) == (0, 0), printed.output
    expected = where.report.read_text(encoding="utf-8") if form == "html" else printed.stdout
    assert output.read_text(encoding="utf-8") == expected
    assert where.report.exists() is (form == "html")
    assert "HELD" in expected


def test_what_is_sealed_is_not_written_again(tmp_path: Path) -> None:
    """The same bytes are fine; other ones would make `kms-chaos verify` say that the report was edited."""
    where = DrillFolder(tmp_path / RUN_ID)
    make_folder(where.path)
    where.journal.write_bytes(held_story().raw())
    assert CliRunner().invoke(cli, ["report", str(where.path)]).exit_code == 0
    where.report.write_text("as an earlier version wrote it", encoding="utf-8")
    where.manifest.write_text("{}", encoding="utf-8")

    refused = CliRunner().invoke(cli, ["report", str(where.path)])
    kept = CliRunner().invoke(cli, ["report", str(where.path), "--output", str(tmp_path / "other.html")])

    assert (refused.exit_code, kept.exit_code) == (4, 0)
    assert "is sealed" in refused.output
    assert where.report.read_text(encoding="utf-8") == "as an earlier version wrote it"
    assert "HELD" in (tmp_path / "other.html").read_text(encoding="utf-8")
