"""How much may be hurt: two regions when armed, `payment` when the same drill was seen to hold on `general`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kms_chaos import testing
from kms_chaos.drill import Drill
from kms_chaos.guards import NotHeldError
from kms_chaos.guards.blast_radius import held_on_general, regions_are_armed
from kms_chaos.judge import judge
from kms_chaos.testing import END, REGIONS, STARTED, TARGET, Story, drill, held_story, of
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.verdict import Verdict

ALL = ("general", "pii", "payment")
LATER = STARTED + timedelta(days=3)
RUN_IDS = ("20261124T031500Z-region-blackhole", "20261125T031500Z-region-blackhole")


def on_general(story: Story | None = None) -> Story:
    """The story of the drill on `general` alone."""
    story = story or held_story()
    only = story.without(lambda one: _canary_of(one, "payment"))
    relabelled = only.changed(lambda one: one.fields.get("purpose") == "payment", purpose="general")
    return relabelled.changed(of("run-started"), purposes=["general"], targets=[TARGET])


def _canary_of(one: testing.Line, purpose: str) -> bool:
    return one.event == "canary-result" and bool(one.fields["result"]["key"] == purpose)


def stored(state: Path, story: Story, *, run_id: str = RUN_IDS[0], by: str = "drill", told: Any = None) -> DrillFolder:
    """Write the run as the engine does: journal, verdict in it and beside it, closed; `told` is said instead."""
    judgement = judge(story.journal())
    where = folder(state, run_id)
    where.path.mkdir(parents=True)
    said = {"verdict": str(judgement.verdict), **(told or {})}["verdict"]
    whole = story.add(END + 1, "verdict", verdict=said, claims={}).add(END + 2, "closed", by=by)
    where.journal.write_bytes(whole.raw())
    where.verdict.write_text(json.dumps({**judgement.to_json(), **(told or {})}), encoding="utf-8")
    return where


def held(state: Path, of_drill: Drill | None = None, *, days: float = 3, targets: tuple[str, ...] = (TARGET,)) -> str:
    return held_on_general(state, of_drill or drill(), targets, ALL, STARTED + timedelta(days=days))


def test_one_region_needs_no_arming_and_two_do() -> None:
    """Whoever hurts two says so."""
    assert regions_are_armed(REGIONS[:1], armed=False)
    assert "armed" in regions_are_armed(REGIONS[:2], armed=True)
    with pytest.raises(NotHeldError, match="hurts 2 regions"):
        regions_are_armed(REGIONS[:2], armed=False)


def test_the_story_held() -> None:
    """Else these tests would show nothing."""
    assert judge(on_general().journal()).verdict is Verdict.HELD


def test_keys_below_payment_need_no_drill_before(tmp_path: Path) -> None:
    """General comes first, so nothing can come before it."""
    assert held_on_general(tmp_path, drill(), (TARGET,), ("general", "pii"), LATER)


def test_payment_after_the_same_drill_held_on_general(tmp_path: Path) -> None:
    """Its other words and its keys do not make it another one."""
    stored(tmp_path, on_general())
    reworded = drill().model_copy(update={"name": "monthly", "title": "Ours", "why": "Because."})
    load = reworded.workload.model_copy(update={"purposes": ALL})

    assert RUN_IDS[0] in held(tmp_path)
    assert held(tmp_path, reworded.model_copy(update={"workload": load}))


@pytest.mark.parametrize(("days", "good"), [(0, False), (1, True), (34.9, True), (35.1, False)])
def test_within_35_days_and_not_before_it_ended(tmp_path: Path, days: float, *, good: bool) -> None:
    """A run whose end is yet to come is a wrong clock's."""
    stored(tmp_path, on_general())

    if good:
        assert held(tmp_path, days=days)
    else:
        with pytest.raises(NotHeldError, match="within 35 days"):
            held(tmp_path, days=days)


def test_nothing_was_drilled_yet(tmp_path: Path) -> None:
    """No run, no leave."""
    with pytest.raises(NotHeldError, match="none has"):
        held(tmp_path)


def test_another_drill_is_another_drill(tmp_path: Path) -> None:
    """One that holds its fault for a tenth of the time proves nothing of this one."""
    stored(tmp_path, on_general())
    longer = drill().timing.model_copy(update={"hold_at_most_seconds": 999.0})

    with pytest.raises(NotHeldError):
        held(tmp_path, drill().model_copy(update={"timing": longer}))
    with pytest.raises(NotHeldError):
        held(tmp_path, targets=("eu-west-1",))


def test_a_drill_with_payment_in_it_does_not_clear_the_way_for_payment(tmp_path: Path) -> None:
    """Though it held: it skipped the step that it should have been."""
    both = held_story().changed(of("run-started"), targets=[TARGET])
    assert judge(both.journal()).verdict is Verdict.HELD
    stored(tmp_path, both)

    with pytest.raises(NotHeldError):
        held(tmp_path)


def test_a_drill_on_other_keys_does_not_clear_the_way_for_payment(tmp_path: Path) -> None:
    """`general` comes first."""
    relabelled = (
        replace(one, fields={"result": {**one.fields["result"], "key": "pii"}}) if one.event == "canary-result" else one
        for one in on_general().lines
    )
    on_pii = Story(tuple(relabelled)).changed(lambda one: one.fields.get("purpose") == "general", purpose="pii")
    on_pii = on_pii.changed(of("run-started"), purposes=["pii"])
    assert judge(on_pii.journal()).verdict is Verdict.HELD
    stored(tmp_path, on_pii)

    with pytest.raises(NotHeldError):
        held(tmp_path)


def test_a_drill_that_did_not_hold_does_not_count(tmp_path: Path) -> None:
    """Whatever somebody wrote over its verdict."""
    failed = on_general().changed(of("messages-checked", when="check"), wrong=[7])
    assert judge(failed.journal()).verdict is Verdict.BROKE
    stored(tmp_path, failed)
    stored(tmp_path, failed, run_id=RUN_IDS[1], told={"verdict": "HELD"})

    with pytest.raises(NotHeldError, match=f"{RUN_IDS[1]} does not count: judged again, it did not hold"):
        held(tmp_path)


def _edit(where: DrillFolder) -> None:
    where.journal.write_bytes(where.journal.read_bytes().replace(b'"ok":true', b'"ok":True', 1))


def _cut(where: DrillFolder) -> None:
    where.journal.write_bytes(where.journal.read_bytes()[:-20])


def _leave_open(where: DrillFolder) -> None:
    lines = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(b"".join(lines[:-1]))


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        pytest.param(_edit, {}, id="edited"),
        pytest.param(_cut, {}, id="torn"),
        pytest.param(_leave_open, {}, id="not-closed"),
        pytest.param(lambda where: where.journal.unlink(), {}, id="no-journal"),
        pytest.param(lambda _: None, {"journal_head": journal.GENESIS}, id="verdict-of-another-journal"),
        pytest.param(lambda _: None, {"run_id": RUN_IDS[1]}, id="verdict-of-another-run"),
    ],
)
def test_a_verdict_that_its_journal_does_not_bear_out_does_not_count(
    tmp_path: Path, spoil: Callable[[DrillFolder], None], verdict: dict[str, str]
) -> None:
    """A claim is not evidence; and an older run that is whole still counts."""
    spoil(stored(tmp_path, on_general(), run_id=RUN_IDS[1], told=verdict))

    with pytest.raises(NotHeldError, match="does not count"):
        held(tmp_path)
    stored(tmp_path, on_general())
    assert RUN_IDS[0] in held(tmp_path)


def test_a_run_that_was_healed_does_not_count(tmp_path: Path) -> None:
    """Somebody else closed it: its owner died."""
    stored(tmp_path, on_general(), by="healer")

    with pytest.raises(NotHeldError, match="not closed by the drill"):
        held(tmp_path)


def test_the_latest_that_held_is_named(tmp_path: Path) -> None:
    """Two have; and a run that ended this very instant counts."""
    stored(tmp_path, on_general())
    stored(tmp_path, on_general(), run_id=RUN_IDS[1])

    assert RUN_IDS[1] in held(tmp_path)
    assert held(tmp_path, days=(END + 2) / 86400)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        pytest.param("{", "does not count: ", id="torn"),
        pytest.param("[]", "does not count: ", id="a-list"),
        pytest.param("{}", "does not count: 'verdict'", id="without-a-verdict"),
        pytest.param('{"verdict": "HELD"}', "does not count: 'journal_head'", id="without-a-head"),
    ],
)
def test_a_verdict_that_cannot_be_read_does_not_count(tmp_path: Path, verdict: str, says: str) -> None:
    """And keeps no other run from counting."""
    stored(tmp_path, on_general(), run_id=RUN_IDS[1]).verdict.write_text(verdict, encoding="utf-8")

    with pytest.raises(NotHeldError, match=f"{RUN_IDS[1]} {says}"):
        held(tmp_path)
    stored(tmp_path, on_general())
    assert RUN_IDS[0] in held(tmp_path)


def _put_a_folder_in_its_place(where: DrillFolder) -> None:
    where.journal.unlink()
    where.journal.mkdir()


def _begin_otherwise(where: DrillFolder) -> None:
    _rewrite(where, on_general().without(of("run-started")).add(END + 2, "closed", by="drill"))


def _say_nonsense_of_the_fault(where: DrillFolder) -> None:
    odd = on_general().changed(of("fault-injected"), toxics="none that can be read")
    whole = odd.add(END + 1, "verdict", verdict="HELD", claims={}).add(END + 2, "closed", by="drill")
    _rewrite(where, whole)
    told = next(one for one in whole.journal().records if one.event == "verdict")
    claimed = json.loads(where.verdict.read_text(encoding="utf-8"))
    where.verdict.write_text(json.dumps({**claimed, "journal_head": told.prev}), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(_edit, "(edited|not a journal record)", id="edited"),
        pytest.param(_put_a_folder_in_its_place, "Is a directory", id="not-a-file"),
        pytest.param(_begin_otherwise, "its journal has no beginning", id="without-its-first-line"),
        pytest.param(_say_nonsense_of_the_fault, "'str' object has no attribute", id="cannot-be-judged"),
    ],
)
def test_a_journal_that_cannot_be_read_or_judged_does_not_count(
    tmp_path: Path, spoil: Callable[[DrillFolder], None], says: str
) -> None:
    """Its chain may be whole all the same; and it keeps no other run from counting."""
    spoil(stored(tmp_path, on_general(), run_id=RUN_IDS[1]))

    with pytest.raises(NotHeldError, match=f"{RUN_IDS[1]} does not count: .*{says}"):
        held(tmp_path)
    stored(tmp_path, on_general())
    assert RUN_IDS[0] in held(tmp_path)


def test_a_journal_that_goes_on_after_its_end_does_not_count(tmp_path: Path) -> None:
    """Its last line is not the drill's closing, or is half a line."""
    for spoil in (lambda raw: raw + b'{"torn', lambda raw: b"".join(raw.splitlines(keepends=True)[:-1])):
        where = stored(tmp_path / str(id(spoil)), on_general())
        where.journal.write_bytes(spoil(where.journal.read_bytes()))

        with pytest.raises(NotHeldError, match="was not closed by the drill"):
            held(tmp_path / str(id(spoil)))


def test_it_counts_to_the_end_of_the_thirty_fifth_day(tmp_path: Path) -> None:
    """To the second."""
    stored(tmp_path, on_general())

    assert held(tmp_path, days=35 + (END + 2) / 86400)
    with pytest.raises(NotHeldError):
        held(tmp_path, days=35 + (END + 2.001) / 86400)


def test_a_run_without_a_verdict_is_no_reason(tmp_path: Path) -> None:
    """It was interrupted, or is another drill's: nothing is said of it."""
    stored(tmp_path, on_general()).verdict.unlink()

    with pytest.raises(NotHeldError, match=r"on us-east-1: none has$"):
        held(tmp_path)


def _rewrite(where: DrillFolder, story: Story) -> None:
    where.journal.write_bytes(story.raw())


def test_a_journal_whose_end_is_not_the_drills_closing_does_not_count(tmp_path: Path) -> None:
    """Something follows, or there was no verdict before it, or another one."""
    story, verdict = on_general(), {"verdict": "HELD", "claims": {}}
    told = story.add(END + 1, "verdict", **verdict)
    for number, whole in enumerate(
        (
            told.add(END + 2, "closed", by="drill").add(END + 3, "note", by="drill"),
            story.add(END + 2, "closed", by="drill"),
        )
    ):
        _rewrite(stored(tmp_path / str(number), story), whole)
        with pytest.raises(NotHeldError, match="its journal was not closed by the drill"):
            held(tmp_path / str(number))

    broke = story.add(END + 1, "verdict", **{**verdict, "verdict": "BROKE"}).add(END + 2, "closed", by="drill")
    _rewrite(stored(tmp_path / "broke", story), broke)
    with pytest.raises(NotHeldError, match="judged again, it did not hold"):
        held(tmp_path / "broke")


def test_a_drill_with_another_load_is_another_drill(tmp_path: Path) -> None:
    """Its keys may differ, and nothing else of it."""
    stored(tmp_path, on_general())
    lighter = drill().workload.model_copy(update={"operations_per_second": 1.0})

    with pytest.raises(NotHeldError):
        held(tmp_path, drill().model_copy(update={"workload": lighter}))


def test_a_training_does_not_clear_the_way_for_payment(tmp_path: Path) -> None:
    """Its fault lasted as long as somebody looked for it."""
    stored(tmp_path, on_general().changed(of("run-started"), training=True))

    with pytest.raises(NotHeldError):
        held(tmp_path)
