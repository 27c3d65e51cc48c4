"""Read the runs that are known here, and judge each again: what counts is what its journal proves, not what it says.

A `verdict.json`, or a verdict in the journal, that is not what the journal proves is named, and the run does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kms_chaos.alarm_sights import Sighting, of_drill
from kms_chaos.drill import Drill
from kms_chaos.judge import judge
from kms_chaos.judging.history import History
from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.drills.copies import all_folders
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import Journal, JournalError, parse_all
from kms_watchdog.drills.verdict import Judgement, Verdict
from kms_watchdog.json_text import read_json

_OPEN = "the journal is not closed: it runs still, or waits to be healed"
_TRAINING = "a training: its fault lasted as long as somebody looked for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One run that can be believed, and what it proves."""

    run_id: str
    drill: Drill
    judgement: Judgement
    ended_at_utc: datetime
    hurt: tuple[str, ...]
    """The regions that a fault was ordered for."""
    purposes: tuple[str, ...]
    alarms: tuple[tuple[str, str], ...]
    """Alarm and region of those that had to fire."""
    sightings: tuple[Sighting, ...] = ()
    """Every alarm that it saw fire."""

    @property
    def verdict(self) -> Verdict:
        """What its journal proves."""
        return self.judgement.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One run that does not count, and why."""

    run_id: str
    why: str
    open: bool = False
    """Whether nobody need look at it: a training, or one that runs still or waits to be healed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's folder as it was read: the bytes, and what they prove or why they prove nothing."""

    folder: DrillFolder
    raw: bytes
    """The journal."""
    journal: Journal | None
    """None when it is broken."""
    found: Proof | Doubt
    judgement: Judgement | None
    """What the journal proves, whether it counts or not; None when it cannot be judged."""


def read(state_dir: Path) -> Iterator[Run]:
    """Yield every run that left a journal or a verdict, copies from the evidence store too, in order of time."""
    return (read_one(where) for where in all_folders(state_dir) if where.journal.is_file() or where.verdict.is_file())


def found(state_dir: Path) -> tuple[tuple[Proof, ...], tuple[Doubt, ...]]:
    """Return what counts, and what does not."""
    all_found = [run.found for run in read(state_dir)]
    counts = tuple(one for one in all_found if isinstance(one, Proof))
    return counts, tuple(one for one in all_found if isinstance(one, Doubt))


def found_of_alarms(state_dir: Path) -> tuple[tuple[AlarmProof, ...], tuple[Doubt, ...]]:
    """Return what `kms-alarms prove` has proven, and its runs that do not count."""
    runs = alarm_proofs.read_all(state_dir)
    doubts = (Doubt(run_id=run.run_id, why=f"the record is broken: {run.broken}") for run in runs if run.broken)
    return tuple(proof for run in runs for proof in run.proofs), tuple(doubts)


def read_one(where: DrillFolder) -> Run:
    """Return the run in one folder.

    Raises:
        OSError: it cannot be read.
    """
    raw = where.journal.read_bytes() if where.journal.exists() else b""
    try:
        journal = parse_all(raw)
        history, judgement = History.of(journal), judge(journal)
    except (JournalError, KeyError, TypeError, ValueError) as e:  # an edited chain, or records of another version
        why = " ".join(f"the journal is broken: {e}".split())
        return Run(folder=where, raw=raw, journal=None, found=Doubt(run_id=where.run_id, why=why), judgement=None)
    why = _doubt(where, raw, journal, judgement)
    training = bool(history.records[0].fields.get("training"))
    doubt = Doubt(run_id=where.run_id, why=why or (_OPEN if not journal.closed else _TRAINING), open=not why)
    found = doubt if why or training or not journal.closed else _proof(history, journal, judgement)
    return Run(folder=where, raw=raw, journal=journal, found=found, judgement=judgement)


def _doubt(where: DrillFolder, raw: bytes, journal: Journal, judgement: Judgement) -> str:
    """Return why the run does not count; empty when it does."""
    if judgement.run_id != where.run_id:
        return f"its journal is that of {judgement.run_id}"
    if journal.torn and journal.closed:
        return "something follows the journal's last line"
    said = [str(r.fields["verdict"]) for r in journal.records if r.event == "verdict"]
    if said and said[-1] != judgement.verdict:
        return f"the journal says {said[-1]}, and proves {judgement.verdict}"
    return _file_doubt(where, judgement) or _manifest_doubt(where, raw)


def _file_doubt(where: DrillFolder, judgement: Judgement) -> str:
    try:
        said = read_json(where.verdict.read_bytes())
        told = {name: said[name] for name in ("run_id", "drill", "region", "verdict", "journal_head")}
    except FileNotFoundError:
        return ""  # a drill that was healed has none; the journal is what counts
    except (ValueError, KeyError, TypeError) as e:
        return f"verdict.json cannot be read: {type(e).__name__}"
    proved = {name: value for name, value in judgement.to_json().items() if name in told}
    differs = [name for name in told if told[name] != proved[name]]
    return f"verdict.json says {differs[0]} {told[differs[0]]}, the journal {proved[differs[0]]}" if differs else ""


def _manifest_doubt(where: DrillFolder, raw: bytes) -> str:
    try:
        listed = read_json(where.manifest.read_bytes())["files"][where.journal.name]["sha256"]
    except FileNotFoundError:
        return ""  # nobody has sealed it yet
    except (ValueError, KeyError, TypeError) as e:
        return f"{where.manifest.name} cannot be read: {type(e).__name__}"
    if listed != hashlib.sha256(raw).hexdigest():
        return f"its journal is not the one that {where.manifest.name} lists"
    return ""


def _proof(h: History, journal: Journal, judgement: Judgement) -> Proof:
    hurt = {order.region for order in h.orders}
    rules = h.drill.alarms.must_fire
    return Proof(
        run_id=h.run_id,
        drill=h.drill,
        judgement=judgement,
        ended_at_utc=journal.records[-1].at_utc,
        hurt=tuple(region for region in h.regions if region in hurt),
        purposes=h.purposes,
        alarms=tuple((rule.alarm, region) for rule in rules for region in rule.regions(h.targets, h.regions)),
        sightings=of_drill(h.run_id, journal),
    )
