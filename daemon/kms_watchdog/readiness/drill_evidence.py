"""What the drills of the last weeks show of breakers and failover: verdicts, and the whole journals behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_watchdog.drills import journal
from kms_watchdog.drills.copies import all_folders
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.follow import closed_view
from kms_watchdog.drills.journal import JournalError, Record
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.verdict import SCHEMA, Verdict
from kms_watchdog.json_text import read_json
from kms_watchdog.readiness.items import BREAKERS, FAILOVER, Evidence, Item, State

_CLAIMS: Mapping[str, frozenset[str]] = {
    BREAKERS: frozenset({"breaker-moves"}),
    FAILOVER: frozenset({"workload-objective", "nothing-lost", "reaction"}),
}
"""By item, the claims that speak of it: a drill that broke in one of them says that it is not well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A closed run, as far as one of its files is believed."""

    run_id: str
    drill: str
    ended_at_utc: datetime
    verdict: Verdict
    broke: frozenset[str] = frozenset()
    """Names of claims."""
    opened_and_closed: bool = False
    """Whether a region's breaker opened, and closed again."""
    failed_over: int = 0
    """Calls."""
    doubt: str = ""
    """Why it is not believed; empty when it is."""


def judged_runs(state_dir: Path, since_utc: datetime) -> Iterator[JudgedRun]:
    """Yield the closed runs that ended since then, oldest first; their journals are read whole, chain and all."""
    for found in all_folders(state_dir):
        view = closed_view(found)
        if view is None or view.ended_at_utc is None or view.ended_at_utc < since_utc or view.verdict is None:
            continue
        yield _judged(found, view, view.ended_at_utc, view.verdict)


def _judged(found: DrillFolder, view: RunView, ended_at_utc: datetime, verdict: Verdict) -> JudgedRun:
    try:
        records = journal.read(found.journal).records
        claims = _claims(found, verdict)
        opened_and_closed, failed_over = _moved(records), sum(r.event == "failed-over" for r in records)
    except (JournalError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        doubt = " ".join(f"{type(e).__name__}: {e}".split())
        return JudgedRun(run_id=found.run_id, drill=view.drill, ended_at_utc=ended_at_utc, verdict=verdict, doubt=doubt)
    return JudgedRun(
        run_id=found.run_id,
        drill=view.drill,
        ended_at_utc=ended_at_utc,
        verdict=verdict,
        broke=frozenset(name for name, of_claim in claims.items() if of_claim is Verdict.BROKE),
        opened_and_closed=opened_and_closed,
        failed_over=failed_over,
    )


def _claims(found: DrillFolder, verdict: Verdict) -> Mapping[str, Verdict]:
    values: Any = read_json(found.verdict.read_text(encoding="utf-8"))
    if values["schema"] != SCHEMA:
        raise ValueError(f"a verdict of schema {values['schema']}, this version reads {SCHEMA}")
    if values["run_id"] != found.run_id or values["verdict"] != verdict:
        raise ValueError("verdict.json says something else than the journal")
    return {str(claim["name"]): Verdict(claim["verdict"]) for claim in values["claims"]}


def _moved(records: Iterable[Record]) -> bool:
    opened = set[str]()
    for record in records:
        if record.event == "breaker-moved":
            region, new = str(record.fields["region"]), record.fields["new"]
            if new == "open":
                opened.add(region)
            elif new == "closed" and region in opened:
                return True
    return False


def evidence(item: Item, runs: Iterable[JudgedRun], now_utc: datetime) -> Iterator[Evidence]:
    """Yield what `runs`, oldest first, show of breakers or failover. Pure.

    Of each drill the newest run counts that could tell. One that broke in what the item is about is bad, whatever
    another drill showed; one that is not believed is no evidence.
    """
    runs = tuple(runs)
    newest = {run.drill: run for run in runs if _tells(item, run)}
    broken = [run for run in newest.values() if run.verdict is Verdict.BROKE]
    if broken:
        for run in broken:
            seen = f"BROKE: {', '.join(sorted(run.broke & _CLAIMS[item.id]))}"
            yield Evidence(what=run.run_id, seen=seen, at_utc=run.ended_at_utc, state=State.BAD)
        return
    if held := [run for run in newest.values() if run.verdict is Verdict.HELD]:
        run = max(held, key=lambda run: run.ended_at_utc)
        seen = "HELD, a breaker opened and closed"
        if item.id == FAILOVER:
            seen = f"HELD, {run.failed_over} calls failed over"
        yield Evidence(what=run.run_id, seen=seen, at_utc=run.ended_at_utc)
        return
    seen = f"none within {item.lasts.days} days HELD and showed it"
    doubted = "".join(f"; {run.run_id} is not believed: {run.doubt}" for run in runs if run.doubt)
    yield Evidence(what="drills", seen=seen + doubted, at_utc=now_utc, state=State.BAD)


def _tells(item: Item, run: JudgedRun) -> bool:
    if run.doubt or run.verdict is Verdict.INCONCLUSIVE:
        return False
    if run.verdict is Verdict.BROKE:
        return bool(run.broke & _CLAIMS[item.id])
    return run.opened_and_closed if item.id == BREAKERS else run.failed_over > 0
