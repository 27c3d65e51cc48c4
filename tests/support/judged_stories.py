"""Stories of drills, judged: what each says that the drill in which all held does not, in readable lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

from kms_chaos.faults.plans import bite, ordered
from kms_chaos.judge import judge
from kms_chaos.judging.history import History
from kms_chaos.testing import FAULT_OFF, FAULT_ON, REGIONS, RUN_ID, STARTED, TARGET, Line, Story, drill, held_story, of
from kms_chaos.timings import Timing, key_loss, timings
from kms_chaos.undo_record import proxy_name
from kms_watchdog.drills.journal import GENESIS, Journal, Record
from kms_watchdog.drills.verdict import Judgement

Which = Callable[[Line], bool]
BASE = held_story()
SECOND, THIRD = REGIONS[1:]


def journal_of(story: Story) -> Journal:
    """Return the story's journal without writing and reading it: hashes are made up, which saves most of the time."""
    records, prev = [], GENESIS
    for seq, one in enumerate(sorted(story.lines, key=lambda one: one.t)):
        made_up = f"{seq:064x}"
        at = STARTED + timedelta(seconds=one.t)
        records.append(Record(seq=seq, at_utc=at, t=one.t, event=one.event, fields=one.fields, prev=prev, hash=made_up))
        prev = made_up
    return Journal(records=tuple(records))


def judged(story: Story) -> Judgement:
    """Return what the story proves."""
    return judge(journal_of(story))


def both(*conditions: Which) -> Which:
    """Return what names the lines that all `conditions` name."""
    return lambda one: all(condition(one) for condition in conditions)


def between(began: float, ended: float) -> Which:
    """Return what names the lines of that time, its ends left out."""
    return lambda one: began < one.t < ended


def canary(region: str, purpose: str | None = None) -> Which:
    """Return what names the looks of a region's canaries."""

    def names(one: Line) -> bool:
        result = one.fields.get("result", {})
        return one.event == "canary-result" and result["region"] == region and purpose in {None, result["key"]}

    return names


def moved(story: Story, which: Which, t: float, **fields: Any) -> Story:
    """Return the story with the lines that `which` names at another time, and fields of them changed."""
    return Story(
        tuple(replace(one, t=t, fields={**one.fields, **fields}) if which(one) else one for one in story.lines)
    )


def looks(story: Story, which: Which, **result: Any) -> Story:
    """Return the story with what canaries found changed."""
    lines = (
        replace(one, fields={"result": {**one.fields["result"], **result}}) if which(one) else one
        for one in story.lines
    )
    return Story(tuple(lines))


def declared(story: Story, *, mode: str | None = None, **tables: Any) -> Story:
    """Return the same happenings, of a drill that declares something else; a table is merged, a list replaced."""
    file = story.lines[0].fields["drill_file"]
    changed = {n: {**file[n], **v} if isinstance(v, dict) and file.get(n) else v for n, v in tables.items()}
    return story.changed(of("run-started"), drill_file={**file, "mode": mode or file["mode"], **changed})


def two_regions(story: Story = BASE) -> Story:
    """Return the drill with its second region as dark as the first, a tenth of a second later."""
    story = declared(story, target={"count": 2}, objectives={"p99_seconds": 9.0})
    story = story.changed(of("run-started"), targets=[TARGET, SECOND])
    order = ordered(drill().faults, (TARGET, SECOND), REGIONS)[1]
    which = {"fault_id": order.id, "fault": order.kind, "region": SECOND, "proxy": proxy_name(RUN_ID, SECOND)}
    toxics = [toxic.to_json() for toxic in order.toxics]
    story = story.add(
        FAULT_ON + 0.1, "fault-injected", **which, toxics=toxics, enabled=True, bite=bite(order.plan).to_json()
    )
    story = story.add(FAULT_OFF + 0.1, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])
    dark = both(of("attempt", region=SECOND), between(FAULT_ON + 0.2, FAULT_OFF))
    story = story.changed(dark, error_code="ReadTimeout", seconds=0.4)
    return story.changed(of("operation", region=SECOND), region=THIRD)


def of_fault(story: Story, fault: dict[str, Any], **shown: Any) -> Story:
    """Return the drill with another fault in place of the black hole, and with what was shown of it."""
    story = declared(story, faults=[fault])
    [order] = ordered(judged_drill(story).faults, (TARGET,), REGIONS)
    which = {"fault_id": order.id, "fault": order.kind, **shown}
    return story.changed(lambda one: one.event in {"fault-injected", "fault-removed"}, **which)


def judged_drill(story: Story) -> Any:
    """Return the drill that the story is of."""
    return type(drill()).model_validate(story.lines[0].fields["drill_file"])


def report(story: Story) -> str:
    """Return the verdict on `story`, and what is said of a claim or a figure otherwise than of the drill that held."""
    verdict, *lines = _lines(story)
    known = _of_base() if story is not BASE else frozenset[str]()
    return "\n".join([verdict, *(line for line in lines if line not in known)])


@cache
def _of_base() -> frozenset[str]:
    return frozenset(_lines(BASE))


def _lines(story: Story) -> Iterator[str]:
    journal = journal_of(story)
    judgement = judge(journal)
    yield f"verdict: {judgement.verdict}"
    for claim in judgement.claims:
        yield f"{claim.name}: {claim.verdict}: {claim.finding}{_evidence(journal, claim.evidence)}"
    yield from (f"{name} = {value}" for name, value in judgement.figures.items())
    history = History.of(journal)
    yield from (_timed(journal, one) for one in timings(history))
    yield f"keys: {loss.to_json() if (loss := key_loss(history)) else 'not tried at the end'}"


def _timed(journal: Journal, one: Timing) -> str:
    where = " ".join(filter(None, (one.name, one.region, one.lane)))
    told = f"{one.title}: {one.seconds} s, give or take {one.error_seconds}{f', {one.note}' if one.note else ''}"
    return f"{where}: {told}{_evidence(journal, one.evidence)}"


def _evidence(journal: Journal, numbers: tuple[int, ...]) -> str:
    lines = [journal.records[number] for number in numbers]
    return f" [{', '.join(f'{line.event} {line.t:g}' for line in lines)}]" if lines else ""
