"""How much a drill may hurt: two regions only when armed, `payment` only after the same drill held on `general`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kms_chaos.drill import Drill
from kms_chaos.guards.checking import NotHeldError
from kms_chaos.judge import judge
from kms_watchdog.drills import journal
from kms_watchdog.drills.copies import all_folders
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import Journal, JournalError
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.json_text import read_json

FIRST, LAST = "general", "payment"
"""The keys of the least and of the most sensitive data."""
HELD_WITHIN = timedelta(days=35)
"""A month, and some days for whoever was ill: monthly drills keep it up."""
_OF_NO_MATTER = frozenset({"name", "title", "why"})


def regions_are_armed(hurt: Sequence[str], *, armed: bool) -> str:
    """See that more than one region is hurt on purpose only."""
    if len(hurt) > 1 and not armed:
        raise NotHeldError(f"the drill hurts {len(hurt)} regions ({', '.join(hurt)}): only with --arm")
    return f"hurts {', '.join(hurt) or 'the KMS of no region'}{', armed' if armed else ''}"


def held_on_general(
    state_dir: Path,
    drill: Drill,
    targets: Sequence[str],
    purposes: tuple[str, ...],
    now_utc: datetime,
    *,
    not_copied: str = "",
) -> str:
    """See that a drill with `payment` held lately without it, on the same regions, on this machine or another.

    A verdict alone is a claim: it counts when the run's journal is whole, was closed by the drill itself, has the head
    that the verdict names, and gives the same verdict when it is judged again.

    Args:
        state_dir: holds the runs of this machine, and copies of others'.
        drill: what is to be run.
        targets: the regions to hurt.
        purposes: the keys.
        now_utc: the time.
        not_copied: why others' runs may be missing; empty: they are there.
    """
    if LAST not in purposes:
        return f"{LAST} is not among {', '.join(purposes)}"
    reasons = [not_copied] if not_copied else []
    for where in reversed(all_folders(state_dir)):
        try:
            ended_at_utc = _held_at(where, drill, targets)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:  # a `JournalError` is a `ValueError`
            reasons.append(f"{where.run_id} does not count: {e}")
            continue
        if ended_at_utc is not None and timedelta() <= now_utc - ended_at_utc <= HELD_WITHIN:
            return f"{where.run_id} held on {FIRST} {ended_at_utc:%Y-%m-%d}"
    told = f" ({reasons[0]})" if reasons else ""
    raise NotHeldError(
        f"{LAST} is drilled only after the same drill has held on {FIRST} without it within {HELD_WITHIN.days} days, "
        f"on {', '.join(targets)}: none has{told}"
    )


def _held_at(where: DrillFolder, drill: Drill, targets: Sequence[str]) -> datetime | None:
    """Return when the run ended, if it held and is the same drill on `general`; None: it is another, or did not hold.

    Raises:
        JournalError, OSError, ValueError, KeyError: it says that it held, and that cannot be believed.
    """
    if not where.verdict.is_file():
        return None
    claimed = read_json(where.verdict.read_text(encoding="utf-8"))
    if claimed["verdict"] != Verdict.HELD:
        return None
    found = journal.read(where.journal)
    if not _is_the_same(_first(found).fields, drill, targets):
        return None
    return _proven(found, claimed)


def _proven(found: Journal, claimed: Mapping[str, Any]) -> datetime:
    last, told = found.records[-1], next(_of_event(found, "verdict"), None)
    if found.torn or last.event != "closed" or last.fields.get("by") != "drill" or told is None:
        raise JournalError("its journal was not closed by the drill")
    if (claimed["journal_head"], claimed["run_id"]) != (told.prev, _first(found).fields["run_id"]):
        raise JournalError("its verdict is of another journal")
    before = Journal(records=found.records[: told.seq])
    if judge(before).verdict is not Verdict.HELD or told.fields["verdict"] != Verdict.HELD:
        raise JournalError("judged again, it did not hold")
    return last.at_utc


def _is_the_same(started: Mapping[str, Any], drill: Drill, targets: Sequence[str]) -> bool:
    purposes = started["purposes"]
    if FIRST not in purposes or LAST in purposes or list(started["targets"]) != list(targets):
        return False
    if started.get("training"):  # it proves nothing: its fault lasted as long as somebody looked for it
        return False
    return _core(Drill.model_validate(started["drill_file"])) == _core(drill)


def _core(drill: Drill) -> Mapping[str, Any]:
    """Return what makes a drill the same on other keys: all but its name, its words and the keys."""
    values = {name: value for name, value in drill.model_dump(mode="json").items() if name not in _OF_NO_MATTER}
    return {**values, "workload": {k: v for k, v in values["workload"].items() if k != "purposes"}}


def _first(found: Journal) -> journal.Record:
    if not found.records or found.records[0].event != "run-started":
        raise JournalError("its journal has no beginning")
    return found.records[0]


def _of_event(found: Journal, event: str) -> Iterator[journal.Record]:
    return (record for record in found.records if record.event == event)
