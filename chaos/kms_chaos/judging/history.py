"""A journal as the judge sees it: who was hurt, when the fault began and ended, and what happened in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from kms_chaos.drill import Drill
from kms_chaos.faults.plans import Ordered, ordered
from kms_watchdog.drills.journal import Journal, JournalError, Record
from kms_watchdog.results import Outcome

WRONG_CONTEXT_REFUSED = "InvalidCiphertextException"
"""What KMS answers to a context that is not the one the data key was wrapped under."""
NOTED_LATE_SECONDS = 0.5
"""By how much a busy machine may write down late what has ended. Its beginning, which is reckoned back from that, then
seems to be as much later: what began shortly after a fault may have begun before it."""
NOT_REFUSED = "accepted"
"""What the journal says when KMS opened a data key under a wrong context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the workload."""

    record: Record
    began: float
    seconds: float
    ok: bool
    lane: str
    region: str
    asked: int
    cache_hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look of one canary."""

    record: Record
    began: float
    where: tuple[str, str]
    """Region and purpose."""
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)  # no slots: what is derived is kept
class History:
    """All records before the verdict."""

    records: tuple[Record, ...]
    head: str
    """Hash of the last of them: what the verdict was reached from."""
    drill: Drill
    run_id: str
    targets: tuple[str, ...]
    """The regions that the drill names; the first is the one that the run is named by."""
    regions: tuple[str, ...]
    purposes: tuple[str, ...]

    @classmethod
    def of(cls, journal: Journal) -> History:
        """Return the history in `journal`, up to a verdict if it holds one: so that it can be judged again, and alike.

        Raises:
            JournalError: it does not begin with a `run-started` that this version understands.
        """
        records = tuple(_before_verdict(journal.records))
        if not records or records[0].event != "run-started":
            raise JournalError("the journal does not begin with run-started")
        started = records[0].fields
        try:
            return cls(
                records=records,
                head=records[-1].hash,
                drill=Drill.model_validate(started["drill_file"]),
                run_id=str(started["run_id"]),
                targets=tuple(started.get("targets") or (started["region"],)),
                regions=tuple(started["regions"]),
                purposes=tuple(started["purposes"]),
            )
        except (KeyError, TypeError, ValidationError) as e:
            raise JournalError(f"run-started is not what this version reads: {e}") from e

    def of_event(self, event: str, **fields: Any) -> tuple[Record, ...]:
        """Return the records of `event` whose fields have the values given."""
        found = self._by_event.get(event, ())
        return tuple(r for r in found if all(r.fields.get(k) == v for k, v in fields.items()))

    @cached_property
    def _by_event(self) -> Mapping[str, tuple[Record, ...]]:
        events: dict[str, list[Record]] = {}
        for record in self.records:
            events.setdefault(record.event, []).append(record)
        return {event: tuple(found) for event, found in events.items()}

    def first(self, event: str, **fields: Any) -> Record | None:
        """Return the first of `of_event`, or None."""
        return next(iter(self.of_event(event, **fields)), None)

    @property
    def target(self) -> str:
        """The first of the targets."""
        return self.targets[0]

    @cached_property
    def orders(self) -> tuple[Ordered, ...]:
        """Every fault in every region that it was to hit."""
        return ordered(self.drill.faults, self.targets, self.regions)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """The regions whose KMS no fault may touch."""
        hurt = {order.region for order in self.orders if order.service == "kms"}
        return tuple(region for region in self.regions if region not in hurt)

    def put_on(self, order: Ordered) -> Record | None:
        """Return when one fault was on, and read back."""
        return next((r for r in self.of_event("fault-injected") if fault_id(r) == order.id), None)

    def taken_off(self, order: Ordered) -> Record | None:
        """Return when one fault was off, and read back."""
        return next((r for r in self.of_event("fault-removed") if fault_id(r) == order.id), None)

    def window(self, order: Ordered) -> tuple[float, float] | None:
        """Return when one fault was on for certain: from its reading back to the first step of its removal."""
        began = self.put_on(order)
        if began is None:
            return None
        off = self.taken_off(order)
        ends = [r.t for r in self.records if r.seq > began.seq and (r is off or _ends_all_faults(r))]
        return began.t, min(ends, default=self.records[-1].t)

    @cached_property
    def injected(self) -> Record | None:
        """When the first fault was on, and read back."""
        return self.first("fault-injected")

    @cached_property
    def beginning(self) -> Record | None:
        """When the drill began to put the first fault on, which bites before it is read back."""
        began = self.first("phase-started", phase="inject")
        return began if began and self.injected and began.seq < self.injected.seq else self.injected

    @cached_property
    def removed(self) -> Record | None:
        """When the last fault was off, and read back; None while one that was put on was not taken off."""
        off = [self.taken_off(order) for order in self.orders if self.put_on(order)]
        return max(filter(None, off), key=lambda r: r.seq, default=None) if all(off) else None

    @cached_property
    def fault(self) -> tuple[float, float] | None:
        """When there was a fault for certain: from the first one's reading back to the last one's removal."""
        windows = [window for order in self.orders if (window := self.window(order))]
        return (min(w[0] for w in windows), max(w[1] for w in windows)) if windows else None

    @cached_property
    def stopped(self) -> Record | None:
        """What cut the run short: a halt, a phase that was not met, or the death of the drill; None when whole."""
        return self.first("interrupted") or self.first("healed")

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The workload, in the order in which it ended."""
        return tuple(_operation(r) for r in self.of_event("operation"))

    @cached_property
    def during(self) -> tuple[Operation, ...]:
        """The operations that the fault could hurt: under way at some instant while it was on."""
        if self.fault is None:
            return ()
        began, ended = self.fault
        return tuple(o for o in self.operations if o.record.t >= began and o.began < ended)

    @cached_property
    def stalls(self) -> tuple[tuple[float, float], ...]:
        """When the drill's own machine stood still, and everything on it."""
        return tuple((r.t - r.fields["seconds"], r.t) for r in self.of_event("machine-stalled"))

    def stalled(self, began: float, ended: float) -> float:
        """Return for how many seconds of that time it stood still."""
        return sum(max(0.0, min(ended, until) - max(began, since)) for since, until in self.stalls)

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """The canaries, in the order in which they ended."""
        return tuple(_look(r) for r in self.of_event("canary-result"))

    @cached_property
    def canaries(self) -> tuple[tuple[str, str], ...]:
        """Every canary that must be there, by region and purpose."""
        return tuple((region, purpose) for region in self.regions for purpose in self.purposes)


def _before_verdict(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        if record.event in {"verdict", "closed"}:
            return
        yield record


def _ends_all_faults(record: Record) -> bool:
    restoring = record.event == "phase-started" and record.fields["phase"] == "restore"
    return restoring or record.event in {"interrupted", "healed"}


def fault_id(record: Record) -> str:
    """Return which fault `fault-injected` or `fault-removed` is of; version 0.1 had one, and no number."""
    told = record.fields.get("fault_id")
    return str(told) if told else f"0-{record.fields.get('fault', 'blackhole')}-{record.fields['region']}"


def _operation(record: Record) -> Operation:
    f = record.fields
    return Operation(
        record=record,
        began=record.t - f["seconds"],
        seconds=f["seconds"],
        ok=f["ok"],
        lane=f["lane"],
        region=f["region"],
        asked=f.get("asked", 0),
        cache_hit=f.get("cache_hit", False),
    )


def _look(record: Record) -> Look:
    result = record.fields["result"]
    return Look(
        record=record,
        began=record.t - result["duration_seconds"],
        where=(result["region"], result["key"]),
        outcome=Outcome(result["outcome"]),
    )
