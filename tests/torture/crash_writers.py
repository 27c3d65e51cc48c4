"""`python crash_writers.py NAME FOLDER`: what the product writes down, one step after the other, for somebody to trace.

Each writer yields what can be read once a step is promised; that is said on stdout. `read` is the way in which the
product reads it after a crash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from crash_writer import Writer, main
from daemon_kit import START, result

from kms_chaos import durable, halting
from kms_chaos.guards.before import only_drill
from kms_chaos.journal_writer import JournalWriter
from kms_core.clock import SystemClock
from kms_core.overrides import RegionOverride
from kms_watchdog import alarm_proofs
from kms_watchdog.drills import halt_order, journal
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import Plan, SlotState
from kms_watchdog.override_store import FileStore
from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.readiness.sign_offs import SignOffs
from kms_watchdog.results import Outcome
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sinks.history import _TRIM_EVERY as TRIM_EVERY
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.queue import MetricQueue
from kms_watchdog.state_folder import StateFolder

CLOCK = SystemClock()
REGIONS = ("us-east-1", "us-west-2")
DUE = datetime(2026, 1, 6, 3, 15, tzinfo=UTC)
PLAN = Plan(name="weekly", drill="region-blackhole", every="week", day=2, at=time(3, 15), window=timedelta(hours=4))
DAMAGED = b"SQLite format 3\0" + b"no page" * 1000
RUN_ID = "20260106T031500Z-proof"


def queue(state: Path) -> Iterator[Any]:
    """Put, taken out, and the log begun anew, as it is each thousand pages."""
    waiting = MetricQueue(state / "cloudwatch.db", CLOCK)
    yield _waiting(waiting)
    for number in range(6):
        waiting.put([_datum(number), _datum(number + 100)], REGIONS[: 1 + number % 2])
        yield _waiting(waiting)
    for _ in range(2):
        waiting.remove([each.id for each in waiting.oldest(REGIONS[0], 3)])
        yield _waiting(waiting)
        waiting._file.call(lambda db: db.execute("PRAGMA wal_checkpoint").fetchone())
        yield _waiting(waiting)
        waiting.put([_datum(900), _datum(901)], REGIONS)
        yield _waiting(waiting)
    there = _waiting(waiting)
    waiting.close()
    yield there


def damaged(state: Path) -> Iterator[Any]:
    """A queue that cannot be read any more: moved aside, with its log, and begun anew."""
    waiting = MetricQueue(state / "cloudwatch.db", CLOCK)
    yield _waiting(waiting)
    waiting.put([_datum(1)], REGIONS)
    yield _waiting(waiting)
    waiting.close()


def _datum(at: int) -> Datum:
    return Datum(
        namespace="N", name="CanaryRuns", unit="Count", dimensions=(("Region", "us-east-1"),), period_start=at,
        resolution=1, values=(1.0,), counts=(2.0,),
    )  # fmt: skip


def _waiting(found: MetricQueue) -> dict[str, Any]:
    return {region: [each.datum.period_start for each in found.oldest(region, 1000)] for region in REGIONS}


def _waiting_in(state: Path) -> Any:
    found = MetricQueue(state / "cloudwatch.db", CLOCK)
    try:
        there = _waiting(found)
        found.put([_datum(5000)], REGIONS)
        assert all(waiting[-1] == 5000 for waiting in _waiting(found).values()), "the queue takes nothing any more"
        found.remove([found.oldest(region, 1000)[-1].id for region in REGIONS])
        return there
    finally:
        found.close()


def history(state: Path) -> Iterator[Any]:
    """Looks, some of them failed, written in batches; those of the first are so old that they go again."""
    sink = HistorySink(state / "history.db", CLOCK)
    yield []
    lately = (CLOCK.now_utc() - START).total_seconds() - 3600.0
    for batch in range(6):
        for number in range(3):
            at = 3.0 * batch + number + (lately if batch else 0.0)
            sink.write(result(Outcome.FAILED if number == batch % 3 else Outcome.OK, at=at))
        sink._writes = TRIM_EVERY - 1 if batch == 3 else batch  # every so many writes, what is too old goes
        sink.flush()
        sink._settle()
        yield _looks(sink)
        if batch % 2:
            sink._file.call(lambda db: db.execute("PRAGMA wal_checkpoint").fetchone())
            yield _looks(sink)
    sink.close()
    yield _looks(sink)


def _looks(sink: HistorySink) -> list[str]:
    return [f"{look.started_at_utc} {look.outcome}" for looks in sink.ticks().values() for look in looks]


def _looks_in(state: Path) -> Any:
    sink = HistorySink(state / "history.db", CLOCK)
    there, lately = _looks(sink), START + timedelta(days=1)
    failed = {f"{look.started_at_utc} {look.outcome}" for look in sink.failures() if look.started_at_utc > lately}
    assert failed == {each for each in there if each.endswith(Outcome.FAILED) and each > str(lately)}, failed
    sink.write(result(Outcome.OK, at=5000.0))
    sink.close()
    again = HistorySink(state / "history.db", CLOCK)
    assert len(_looks(again)) == len(there) + 1, "the history takes nothing any more"
    again.close()
    return there


def slots(state: Path) -> Iterator[Any]:
    """Scheduled drills: planned, claimed, settled, missed, struck out."""
    ledger = SlotLedger(state / "slots.db", CLOCK)
    yield _rows(ledger)
    ledger.planned_since([PLAN.name])
    yield _rows(ledger)
    for number, slot in enumerate(PLAN.slots(DUE, DUE + timedelta(days=30))[:4]):
        if number == 1:
            ledger.miss(slot)
        else:
            ledger.claim(slot, f"run-{number}")
        yield _rows(ledger)
        if number != 1:
            ledger.settle(ledger.rows()[-1], SlotState.RUNNING if number else SlotState.DONE, "noted")
            yield _rows(ledger)
    ledger.forget(ledger.rows()[1])
    yield _rows(ledger)
    there = _rows(ledger)
    ledger.close()
    yield there


def _rows(ledger: SlotLedger) -> list[str]:
    return [f"{row.id} {row.state} {row.run_id} {row.note}" for row in ledger.rows()]


def _rows_in(state: Path) -> Any:
    ledger = SlotLedger(state / "slots.db", CLOCK)
    try:
        return _rows(ledger)
    finally:
        ledger.close()


def kept(state: Path) -> Iterator[Any]:
    """Sign-offs, a document in a folder of its own, orders to leave a region, a halt of all drills and its end."""
    StateFolder(state).prepare()
    yield _kept_in(state)
    for number in range(2):
        SignOffs(state, CLOCK).sign("restore-test", by="ops", note=str(number))
        yield _kept_in(state)
        _audited(state, number)
        yield _kept_in(state)
        _order(state, DUE + timedelta(days=number))
        yield _kept_in(state)
        halting.engage(state, CLOCK, by="ops", reason=str(number))
        yield _kept_in(state)
        halting.resume(state, CLOCK, by="ops", reason="over")
        yield _kept_in(state)


def _audited(state: Path, number: int) -> None:
    KeptFile(state / "audits" / "2026" / "last.json", schema=1).change(lambda _: {"number": number})


def _order(state: Path, until_utc: datetime) -> None:
    order = RegionOverride(region="us-east-1", kind="avoid", until_utc=until_utc, reason="drill")
    FileStore(state / "overrides.json").change(lambda found: (*found, order))


def _kept_in(state: Path) -> Any:
    halt = halt_order.read(state)
    return {
        "signed": [one.note for one in SignOffs(state, CLOCK).read().signed],
        "audit": KeptFile(state / "audits" / "2026" / "last.json", schema=1).read(),
        "orders": [str(order.until_utc) for order in FileStore(state / "overrides.json").read()],
        "halt": halt.reason if halt else None,
    }


def _kept_after(state: Path) -> Any:
    """Read, and write once more past whatever draft a dead writer left."""
    there = _kept_in(state)
    StateFolder(state).prepare()
    SignOffs(state, CLOCK).sign("restore-test", by="ops", note="again")
    _order(state, DUE)
    now = _kept_in(state)
    assert (now["signed"], now["orders"]) == ([*there["signed"], "again"], [*there["orders"], str(DUE)])
    return there


def lines(state: Path) -> Iterator[Any]:
    """A drill's journal: lines in between, and lines that somebody waits for."""
    folder = state / "drills" / RUN_ID
    with only_drill(state):
        durable.make_folder(folder)
    with JournalWriter(folder / "journal.ndjson", CLOCK) as writer:
        for number in range(8):
            for each in range(number % 3):
                writer.append("operation", op=each)
            writer.append_now("phase-started", phase=str(number))
            yield 1 + number + sum(each % 3 for each in range(number + 1))


def _lines_in(state: Path) -> Any:
    return len(journal.read(state / "drills" / RUN_ID / "journal.ndjson").records)


def proofs(state: Path) -> Iterator[Any]:
    """The journal of a proof of alarms."""
    with alarm_proofs.no_drill_meanwhile(state):
        found = alarm_proofs.folder(state, RUN_ID)
        alarm_proofs.make_folder(found)
        writer = alarm_proofs.ProofJournal(found, CLOCK)
        for number in range(5):
            writer.write("proof-started", run_id=RUN_ID, number=number)
            yield number + 1
        writer.close()


def _proofs_in(state: Path) -> Any:
    found = alarm_proofs.folder(state, RUN_ID)
    run = alarm_proofs.read_one(found)
    assert not run.broken, run.broken
    return len(journal.read(found.journal).records)


WRITERS = {
    "queue": Writer(steps=queue, read=_waiting_in, survives_power=False),
    "damaged": Writer(
        steps=damaged,
        read=_waiting_in,
        survives_power=False,
        damaged=DAMAGED,
        begins_with={"state": None, "state/cloudwatch.db": DAMAGED, "state/cloudwatch.db-wal": b"a log" * 1000},
    ),
    "history": Writer(steps=history, read=_looks_in, survives_power=False),
    "slots": Writer(steps=slots, read=_rows_in),
    "kept": Writer(steps=kept, read=_kept_after, begins_with={}),
    "journal": Writer(steps=lines, read=_lines_in, grows=True),
    "proofs": Writer(steps=proofs, read=_proofs_in, grows=True),
}


if __name__ == "__main__":
    main(WRITERS, *sys.argv[1:])
