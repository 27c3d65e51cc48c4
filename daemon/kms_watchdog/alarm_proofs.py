"""Proofs that alarms reach a subscriber: what `kms-alarms prove` writes down, and who reads it.

Each run has `STATE/alarm-proofs/RUN_ID/journal.ndjson`, a hash chain of `drills.journal`'s format, with these events:

    proof-started   run_id, by (ARN, as STS tells it), slot, regions
    alarm-forced    name (CloudWatch's), region, proof (what its reason begins with), state (before), reason (before);
                    on disk before the alarm is touched
    alarm-restored  name, region, state
    alarm-proved    alarm (the table's row), name, region, system, by, fired_at_utc, told_at_utc (null: no subscriber
                    got it in time), restored_at_utc (null: the alarm is not as it was), finding
    verdict         verdict: HELD (all were told and restored), BROKE (one was not) or INCONCLUSIVE
    closed          by, verdict
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from kms_core.clock import Clock
from kms_watchdog import alarm_definitions
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import RUN_ID, DrillFolder, drills_dir
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.durable import make_folders, sync_folder
from kms_watchdog.sinks.sink import AlarmMoved

log = structlog.get_logger("alarms")

CLOUDWATCH = "cloudwatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmProof:
    """One alarm that was set off to see whether a subscriber is told."""

    alarm: str
    """The table's row."""
    name: str
    """What CloudWatch calls it."""
    region: str
    """The region that the alarm lives in."""
    system: str = CLOUDWATCH
    """The way from alarm to subscriber that was gone."""
    by: str
    """ARN."""
    run_id: str
    fired_at_utc: datetime
    told_at_utc: datetime | None
    """When a subscriber got it; None: none did in time."""
    restored_at_utc: datetime | None
    """When it was seen to be as before; None: it was not."""
    finding: str = ""
    """What is wrong, in words."""

    def to_fields(self) -> dict[str, Any]:
        """Return it as fields of a journal's record."""
        values = asdict(self)
        del values["run_id"]
        return {name: one.isoformat() if isinstance(one, datetime) else one for name, one in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """An alarm that a run has set off and not seen restored."""

    name: str
    region: str
    proof: str
    """What the reason begins with that the run gave it."""
    state: str
    """Before."""
    reason: str
    """Before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRun:
    """One run, as far as its journal tells of it."""

    run_id: str
    proofs: tuple[AlarmProof, ...] = ()
    left: tuple[Forced, ...] = ()
    """What it has set off and did not see restored."""
    closed: bool = False
    broken: str = ""
    """Why its journal is not believed; empty when it is."""


def proofs_dir(state_dir: Path) -> Path:
    """Return the folder that holds all runs' folders."""
    return state_dir / "alarm-proofs"


def folder(state_dir: Path, run_id: str) -> DrillFolder:
    """Return the folder of `run_id`, which need not exist; it has journal and lock as a drill's has.

    Raises:
        ValueError: `run_id` is not fit to be a folder's name.
    """
    return DrillFolder(proofs_dir(state_dir) / run_id)


def folders(state_dir: Path) -> tuple[DrillFolder, ...]:
    """Return all runs' folders, in order of time."""
    parent = proofs_dir(state_dir)
    if not parent.is_dir():
        return ()
    return tuple(
        DrillFolder(path) for path in sorted(parent.iterdir()) if path.is_dir() and RUN_ID.fullmatch(path.name)
    )


@contextmanager
def no_drill_meanwhile(state_dir: Path) -> Iterator[None]:
    """Hold the lock that every drill of this state folder holds, so that none runs, nor another proof.

    Raises:
        FolderBusyError: a drill runs, or a proof.
        OSError: the folder cannot be made.
    """
    parent = drills_dir(state_dir)
    parent.mkdir(parents=True, exist_ok=True)
    with DrillFolder(parent).owned():
        yield


def make_folder(found: DrillFolder) -> None:
    """Make a run's folder, which must not exist, and return when its name is on disk.

    Raises:
        FileExistsError: it is there already.
        OSError: it cannot be made.
    """
    make_folders(found.path.parent)
    found.path.mkdir()
    sync_folder(found.path.parent)


class ProofJournal:
    """The only writer of one run's journal; every line is on disk when `write` returns. Not for several threads."""

    def __init__(self, found: DrillFolder, clock: Clock) -> None:
        """Make the journal, and the folder if it is not there.

        Raises:
            FileExistsError: the run has a journal already.
            OSError: it cannot be made.
        """
        make_folders(found.path)
        self._clock, self._began = clock, clock.monotonic()
        self._file = found.journal.open("xb", buffering=0)
        sync_folder(found.path)
        self._seq, self._prev = 0, journal.GENESIS

    def write(self, event: str, **fields: Any) -> None:
        """Append one line.

        Raises:
            OSError: it is not on disk.
        """
        raw, self._prev = journal.line(
            seq=self._seq,
            at_utc=self._clock.now_utc(),
            t=self._clock.monotonic() - self._began,
            event=event,
            fields=fields,
            prev=self._prev,
        )
        self._seq += 1
        self._file.write(raw)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Twice is harmless."""
        self._file.close()


def read_one(found: DrillFolder) -> ProofRun:
    """Return what one run's journal tells; of a broken one that it is."""
    try:
        known = journal.read(found.journal)
        return _run(found.run_id, known)
    except (JournalError, OSError, KeyError, ValueError, TypeError) as e:
        return ProofRun(run_id=found.run_id, broken=" ".join(f"{type(e).__name__}: {e}".split()))


def read_all(state_dir: Path) -> tuple[ProofRun, ...]:
    """Return every run of the state folder, in order of time."""
    return tuple(read_one(found) for found in folders(state_dir))


def all_proofs(state_dir: Path) -> tuple[AlarmProof, ...]:
    """Return every proof that the state folder's runs tell of, in order of the runs' times."""
    return tuple(proof for run in read_all(state_dir) for proof in run.proofs)


def sizes(state_dir: Path) -> dict[str, int]:
    """Return by run how many bytes its journal has: what grows has news."""
    return {found.run_id: _size(found.journal) for found in folders(state_dir)}


def _run(run_id: str, known: journal.Journal) -> ProofRun:
    left: dict[tuple[str, str], Forced] = {}
    proofs = []
    for record in known.records:
        f = record.fields
        match record.event:
            case "alarm-forced":
                names = ("name", "region", "proof", "state", "reason")
                left.setdefault((f["region"], f["name"]), Forced(**{name: str(f[name]) for name in names}))
            case "alarm-restored":
                left.pop((f["region"], f["name"]), None)
            case "alarm-proved":
                proofs.append(_proof(run_id, f))
            case "proof-started" if f["run_id"] != run_id:
                raise ValueError(f"its journal is that of {f['run_id']}")
            case _:
                pass
    return ProofRun(run_id=run_id, proofs=tuple(proofs), left=tuple(left.values()), closed=known.closed)


def _proof(run_id: str, f: Mapping[str, Any]) -> AlarmProof:
    def at(name: str) -> datetime | None:
        return datetime.fromisoformat(f[name]) if f[name] else None

    return AlarmProof(
        alarm=str(f["alarm"]),
        name=str(f["name"]),
        region=str(f["region"]),
        system=str(f["system"]),
        by=str(f["by"]),
        run_id=run_id,
        fired_at_utc=datetime.fromisoformat(f["fired_at_utc"]),
        told_at_utc=at("told_at_utc"),
        restored_at_utc=at("restored_at_utc"),
        finding=str(f["finding"]),
    )


def to_be_proven(settings: Settings) -> dict[str, frozenset[str]]:
    """Return the live alarms that have to be seen to fire by and by, each with the regions that it lives in.

    They are those of the rendered definitions; where none are configured, nobody here knows which there should be.
    """
    where = settings.canaries.alarm_path.definitions
    if where is None or not settings.cloudwatch.enabled:
        return {}
    found: dict[str, frozenset[str]] = {}
    twins = f"{settings.cloudwatch.alarm_prefix}-Drill-"
    for region in settings.publish_regions:
        try:
            alarms = alarm_definitions.read(alarm_definitions.path_of(where, region))
        except alarm_definitions.DefinitionsError:
            continue  # the daemon does not start without them, and the canary tells of those that are gone
        for name in (str(alarm["AlarmName"]) for alarm in alarms):
            if not name.startswith(twins):
                found[name] = found.get(name, frozenset()) | {region}
    return found


def standing(proofs: Iterable[AlarmProof], wanted: Mapping[str, Collection[str]]) -> dict[str, AlarmMoved]:
    """Return when each alarm of `wanted` was last proven, in the region where that is longest ago. Pure.

    One that was not proven in all its regions is left out: in one of them nobody has seen it.
    """
    newest: dict[tuple[str, str], AlarmProof] = {}
    for proof in sorted(proofs, key=lambda one: one.fired_at_utc):
        if proof.told_at_utc is not None:
            newest[proof.name, proof.region] = proof
    found = {}
    for name, regions in wanted.items():
        known = [newest.get((name, region)) for region in regions]
        there = [proof for proof in known if proof is not None]
        if there and len(there) == len(known):
            restored = [proof.restored_at_utc.timestamp() for proof in there if proof.restored_at_utc]
            found[name] = AlarmMoved(
                fired_at=min(proof.fired_at_utc.timestamp() for proof in there),
                cleared_at=min(restored) if len(restored) == len(there) else None,
            )
    return found


class ProofWatch:
    """Reads the runs' journals as they grow, and tells how alarms stand; from one thread at a time."""

    def __init__(
        self,
        state_dir: Path,
        wanted: Mapping[str, Collection[str]],
        tell: Callable[[Mapping[str, AlarmMoved]], None],
    ) -> None:
        self._state_dir, self._wanted, self._tell = state_dir, wanted, tell
        self._read: dict[str, tuple[int, Sequence[AlarmProof]]] = {}

    def look(self) -> None:
        """Read what has come since the last look."""
        if not self._wanted:
            return
        changed = False
        for found in folders(self._state_dir):
            size = _size(found.journal)
            if size == self._read.get(found.run_id, (0, ()))[0]:
                continue
            run = read_one(found)
            if run.broken:
                log.error("alarm_proof.journal_broken", run_id=run.run_id, error=run.broken)
            self._read[found.run_id] = (size, run.proofs)
            changed = True
        if changed:
            self._tell(standing((one for _, proofs in self._read.values() for one in proofs), self._wanted))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it is not there yet
