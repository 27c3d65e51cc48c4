"""What was acknowledged before a kill, and what of it is missing after: values and functions, apart from reading files.

What counts as acknowledged is what the daemon's README and the writers' contracts promise: a committed row ("a kill
loses nothing", `sqlite_file`), a look that was counted more than a second ago (`HistorySink`), a metric in the queue
until CloudWatch has it (`MetricQueue`), and a journal's whole line (`JournalWriter`).
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.journal import Journal, JournalError
from kms_watchdog.sqlite_file import open_read_only
from kms_watchdog.state_folder import StateError

Metric = tuple[str, str]
"""A region, and a datum as the queue writes it."""
DATABASES = ("history.db", "cloudwatch.db", "slots.db")
_VERSION = 2
"""The newest schema of the three: an older file of the same hundred opens too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a state folder holds at one moment."""

    rows: Mapping[int, str] = field(default_factory=dict)
    """Looks kept whole, by their number."""
    last: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """The number of each canary's newest look."""
    sums: Mapping[tuple[Any, ...], int] = field(default_factory=dict)
    """How many looks each hour, canary and mode has."""
    waiting: frozenset[Metric] = frozenset()
    """Metrics in the queue; their numbers are given again once it was empty, and name nothing."""
    journals: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def live_looks(self) -> int:
        """How many looks of the watchdog's own are summed."""
        return sum(count for (*_, mode), count in self.sums.items() if mode == "live")


def read_kept(state: Path) -> Kept:
    """Read a state folder, also while a daemon writes to it.

    Raises:
        StateError, sqlite3.Error: a database cannot be read.
    """
    with closing(open_read_only(state / "history.db", version=_VERSION)) as history:
        rows = dict(history.execute("SELECT id, body FROM results").fetchall())
        ticks = history.execute("SELECT canary, region, key, max(number) FROM ticks GROUP BY 1, 2, 3").fetchall()
        hours = history.execute("SELECT hour, canary, region, key, mode, ok + failed + blind FROM hourly").fetchall()
    with closing(open_read_only(state / "cloudwatch.db", version=_VERSION)) as queue:
        waiting = queue.execute("SELECT region, body FROM waiting").fetchall()
    return Kept(
        rows=rows,
        last={(canary, region, key): number for canary, region, key, number in ticks},
        sums={tuple(who): count for *who, count in hours},
        waiting=frozenset(waiting),
        journals={each.path.name: each.journal.read_bytes() for each in folders(state) if each.journal.exists()},
    )


def lost_history(before: Kept, after: Kept) -> list[str]:
    """Return what `before` had of looks and `after` has not."""
    gone = [number for number, body in before.rows.items() if after.rows.get(number) != body]
    found = [f"history.db: look {number} is gone or another" for number in gone]
    found += [f"history.db: {who} fell from look {n} to {after.last.get(who, 0)}" for who, n in before.last.items()
              if after.last.get(who, 0) < n]  # fmt: skip
    found += [f"history.db: {who} had {n} looks, has {after.sums.get(who, 0)}" for who, n in before.sums.items()
              if after.sums.get(who, 0) < n]  # fmt: skip
    return found


def lost_journals(before: Kept, after: Kept) -> list[str]:
    """Return the journals whose whole lines are not those they were, or whose chain is broken."""
    found = []
    for run_id, raw in before.journals.items():
        whole = raw[: raw.rfind(b"\n") + 1]
        if not after.journals.get(run_id, b"").startswith(whole):
            found.append(f"{run_id}: lines that were on disk are gone or others")
    for run_id, raw in after.journals.items():
        try:
            journal.parse_all(raw)
        except JournalError as e:
            found.append(f"{run_id}: its chain is broken: {e}")
    return found


def lost_metrics(
    before: frozenset[Metric], after: Kept, delivered: Callable[[frozenset[Metric]], Collection[Metric]]
) -> list[str]:
    """Return the metrics that waited, wait no more, and were not delivered."""
    gone = before - after.waiting
    missing = gone.difference(delivered(gone)) if gone else ()
    return [f"cloudwatch.db: {region} never got {body}" for region, body in sorted(missing)]


def told_and_not_kept(told: int, kept_at_start: int, after: Kept) -> list[str]:
    """Return a finding if fewer looks are summed than `/metrics` had told of, since the daemon started."""
    kept = after.live_looks - kept_at_start
    return [] if kept >= told else [f"history.db: {told} looks had been told of, {kept} were kept"]


def damage(state: Path) -> list[str]:
    """Return the databases that do not open or were moved aside as damaged."""
    found = [f"{path.name}: moved aside" for path in state.glob("*.damaged-*")]
    for name in DATABASES:
        if not (state / name).exists():
            found.append(f"{name}: not there")
            continue
        try:
            with closing(open_read_only(state / name, version=_VERSION)) as db:
                (said,) = db.execute("PRAGMA quick_check").fetchone()
        except (sqlite3.Error, StateError) as e:
            said = str(e)
        if said != "ok":
            found.append(f"{name}: {said}")
    return found


def faults_left(proxies: Mapping[str, Any], strangers: Mapping[str, Any]) -> list[str]:
    """Return what is on a Toxiproxy besides what others have there, and what of theirs is not as it was."""
    found = [f"Toxiproxy: {name} is left, {proxy}" for name, proxy in proxies.items() if name not in strangers]
    return found + [
        f"Toxiproxy: {name} was {proxy}, is {proxies.get(name)}" for name, proxy in strangers.items()
        if proxies.get(name) != proxy
    ]  # fmt: skip


def not_closed(after: Kept) -> list[str]:
    """Return the drills that nobody has finished."""
    return [f"{run_id}: its journal is open" for run_id, found in _parsed(after) if found.records and not found.closed]


def drills_at_once(after: Kept) -> list[str]:
    """Return pairs of drills of which one broke something while the other's fault was not closed yet."""
    spans = []
    for run_id, found in _parsed(after):
        broke = [record.at_utc for record in found.records if record.event == "fault-injected"]
        if broke:
            spans.append((broke[0], found.records[-1].at_utc, run_id))
    spans.sort()
    return [
        f"{second} broke something at {began} while {first}, until {ended}, was not over"
        for (_, ended, first), (began, _, second) in itertools.pairwise(spans)
        if began < ended
    ]


def _parsed(kept: Kept) -> Iterable[tuple[str, Journal]]:
    """Yield each journal whose chain holds; of the others `lost_journals` tells."""
    for run_id, raw in kept.journals.items():
        try:
            yield run_id, journal.parse_all(raw)
        except JournalError:
            continue
