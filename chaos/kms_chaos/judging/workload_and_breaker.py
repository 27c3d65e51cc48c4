"""Claims 3 and 4: the workload met its objective, and the breaker moved as declared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from kms_chaos.judging.after import steady_again
from kms_chaos.judging.findings import Finding, broke, claim, held, missing, unclear
from kms_chaos.judging.history import History, Operation
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim

LEAST_OPERATIONS = 20
"""Fewer operations during the fault say nothing about a 99th percentile."""
MOST_STALLED = 0.25
"""Where the drill's own machine stood still for more of the time than this, nothing is said of how long things took."""


def quantile(seconds: Iterable[float], q: float) -> float | None:
    """Return the nearest-rank quantile of `seconds`, or None when there are none."""
    ordered = sorted(seconds)
    return _at_rank(ordered, q) if ordered else None


def _at_rank(ordered: Sequence[float], q: float) -> float:
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def workload_objective(h: History) -> Claim:
    """Whether callers noticed."""
    return claim("workload-objective", "The workload met its objective during the fault", _workload(h))


def _workload(h: History) -> Iterator[Finding]:
    if h.injected is None:
        yield unclear("no fault was injected")
        return
    yield from _all_accounted_for(h)
    judged = _judged(h)
    if len(judged) < LEAST_OPERATIONS:
        yield unclear(f"only {len(judged)} operations to judge by; {LEAST_OPERATIONS} are the least")
        return
    ends = [judged[0].record, judged[-1].record]
    yield _failures(h, judged, ends)
    yield _p99(h, judged, ends)


def _judged(h: History) -> tuple[Operation, ...]:
    """Return the operations that count: `sustained` means during the fault too, `recovery` from when all was well.

    That is when the steady state was back, or, where it was not in time, when it should have been.
    """
    if h.drill.mode == "sustained":
        return h.during
    if h.removed is None:
        return ()
    latest, back = h.removed.t + h.drill.objectives.rto_seconds, steady_again(h)
    since = min(latest, back.t) if back else latest
    return tuple(o for o in h.operations if o.began >= since)


def _all_accounted_for(h: History) -> Iterator[Finding]:
    ended = h.first("workload-ended")
    if ended is None:
        yield unclear("the workload did not say how it ended")
        return
    recorded, failed = len(h.operations), sum(not o.ok for o in h.operations)
    if (recorded, failed) != (ended.fields["operations"], ended.fields["failed"]):
        yield unclear(f"{ended.fields['operations']} operations were counted, {recorded} are in the journal", [ended])
    if ended.fields["offered"] > ended.fields["operations"]:
        lost = ended.fields["offered"] - ended.fields["operations"]
        yield broke(f"{lost} operations never ended", [ended])


def _failures(h: History, judged: tuple[Operation, ...], ends: list[Record]) -> Finding:
    counted = judged if h.drill.mode == "recovery" else h.operations
    failed = [o.record for o in counted if not o.ok]
    most = h.drill.objectives.failed_operations
    if len(failed) > most:
        return broke(f"{len(failed)} of {len(counted)} operations failed; {most} may", failed)
    return held(f"{len(failed)} of {len(judged)} operations failed", ends)


def _p99(h: History, judged: tuple[Operation, ...], ends: list[Record]) -> Finding:
    p99, most = _at_rank(sorted(o.seconds for o in judged), 0.99), h.drill.objectives.p99_seconds
    if p99 <= most:
        return held(f"p99 was {p99:.3f} s (objective {most:g} s)", ends)
    slow = [o.record for o in judged if o.seconds > most]
    began, ended = min(o.began for o in judged), max(o.record.t for o in judged)
    stalled = h.stalled(began, ended)
    moving = _at_rank(sorted(o.seconds - h.stalled(o.began, o.record.t) for o in judged), 0.99)
    if moving > most:
        return broke(f"p99 was {p99:.3f} s; {most:g} s is the objective", slow)
    if stalled > MOST_STALLED * (ended - began):
        return unclear(f"p99 was {p99:.3f} s; the drill's own machine stood still for {stalled:.1f} s meanwhile", slow)
    still = f"{moving:.3f} s but for {stalled:.1f} s for which the drill's own machine stood still"
    return held(f"p99 was {p99:.3f} s, and {still} (objective {most:g} s)", slow)


def breaker_moves(h: History) -> Claim:
    """Whether the target's breaker opened, probed and closed as declared, and no other opened."""
    return claim("breaker-moves", "The breaker opened, probed and closed as declared", _breaker(h))


def _breaker(h: History) -> Iterator[Finding]:
    if h.beginning is None or h.fault is None:
        yield unclear("no fault was injected")
        return
    for region in h.targets:
        moves = [r for r in h.of_event("breaker-moved", region=region) if r.seq > h.beginning.seq]
        yield from _moved(h, region, moves, h.fault[1])
    since = (r for r in h.of_event("breaker-moved", new="open") if r.seq > h.beginning.seq)
    opened = [r for r in since if r.fields["region"] in h.others]
    if opened:
        yield broke(f"the breaker of {opened[0].fields['region']} opened, which was well", opened)
    elif not h.drill.breaker.moves:
        yield held("no other breaker opened")


def _moved(h: History, region: str, moves: list[Record], ended: float) -> Iterator[Finding]:
    by_fault = (r for r in moves if r.fields["new"] != "open" or r.t <= ended)  # to lift one cuts connections
    found, wanted = _in_order(by_fault, h.drill.breaker.moves)
    if wanted:
        yield missing(h, f"the breaker of {region} never moved {wanted[0].replace('>', ' to ')}", moves)
    elif found:
        yield held(" → ".join([found[0].fields["old"], *(r.fields["new"] for r in found)]), found)
    if moves and h.drill.breaker.stays_closed:
        yield broke(f"the breaker of {region} moved, for a fault that is not the region's", moves)
    if moves and moves[-1].fields["new"] != "closed":
        yield missing(h, f"the breaker of {region} was {moves[-1].fields['new']} in the end", moves[-1:])


def _in_order(moves: Iterable[Record], wanted: Iterable[str]) -> tuple[list[Record], list[str]]:
    """Return the moves that are the wanted ones, in order, and those that were never seen."""
    left, found = list(wanted), []
    for record in moves:
        if left and f"{record.fields['old']}>{record.fields['new']}" == left[0]:
            found.append(record)
            left.pop(0)
    return found, left
