"""Measured numbers, by name with the unit in it; None where nothing was there to measure."""

from __future__ import annotations

from itertools import pairwise

from kms_chaos.judging import alarm_states
from kms_chaos.judging.after import steady_again
from kms_chaos.judging.history import History, Operation
from kms_chaos.judging.workload_and_breaker import quantile


def figures(h: History) -> dict[str, float | None]:
    """Return what was measured.

    Seconds of detect, divert and alarm_fired count from the fault's injection, those of recover, traffic_home and
    alarm_cleared from its removal.
    """
    during = h.during
    before = [o for o in h.operations if h.beginning and o.record.seq < h.beginning.seq]
    return {
        "fault_seconds": _rounded(h.fault[1] - h.fault[0] if h.fault else None),
        "detect_seconds": _since_injected(h, _opened(h)),
        "divert_seconds": _since_injected(h, _diverted(h)),
        "undo_seconds": _undo(h),
        "recover_seconds": _recovered(h),
        "traffic_home_seconds": _home(h),
        "alarm_fired_seconds": _alarm_fired(h),
        "alarm_cleared_seconds": _alarm_cleared(h),
        "operations": float(len(h.operations)),
        "failed_operations": float(sum(not o.ok for o in h.operations)),
        "operations_during_fault": float(len(during)),
        "p50_seconds_before": _rounded(quantile((o.seconds for o in before), 0.5)),
        "p99_seconds_before": _rounded(quantile((o.seconds for o in before), 0.99)),
        "p50_seconds_during": _rounded(quantile((o.seconds for o in during), 0.5)),
        "p99_seconds_during": _rounded(quantile((o.seconds for o in during), 0.99)),
        "max_seconds_during": _rounded(quantile((o.seconds for o in during), 1.0)),
        "failovers": float(len(h.of_event("failed-over"))),
        "messages_sealed": _sealed(h),
        "measurement_error_seconds": _spacing(during),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _since_injected(h: History, t: float | None) -> float | None:
    return _rounded(t - h.injected.t) if h.injected and t is not None else None


def _opened(h: History) -> float | None:
    moves = h.of_event("breaker-moved", region=h.target, new="open")
    return next((r.t for r in moves if h.injected and r.seq > h.injected.seq), None)


def _diverted(h: History) -> float | None:
    """Return when the first operation ended well that began in the fault and that KMS elsewhere answered."""
    if h.others == h.regions:
        return None  # nothing had to go elsewhere
    served = (o for o in h.during if h.fault and o.began >= h.fault[0] and o.ok and o.asked and o.region in h.others)
    return next((o.record.t for o in served), None)


def _undo(h: History) -> float | None:
    started = h.first("phase-started", phase="restore")
    return _rounded(h.removed.t - started.t) if started and h.removed else None


def _recovered(h: History) -> float | None:
    back = steady_again(h)
    return _rounded(back.t - h.removed.t) if back and h.removed else None


def _home(h: History) -> float | None:
    """Return when the target served an operation of the workload again."""
    if h.removed is None:
        return None
    since = h.removed.t
    served = (o for o in h.operations if o.began >= since and o.ok and o.asked and o.region == h.target)
    return next((_rounded(o.record.t - since) for o in served), None)


def _alarm_fired(h: History) -> float | None:
    """Return when the last of the alarms that must fire had fired."""
    found = [alarm_states.fired(h, key) for key in _keys(h)]
    times = [r.t for r in found if r is not None]
    return _since_injected(h, max(times)) if times and len(times) == len(found) else None


def _alarm_cleared(h: History) -> float | None:
    found = [alarm_states.cleared(h, key) for key in _keys(h)]
    times = [r.t for r in found if r is not None]
    return _rounded(max(times) - h.removed.t) if h.removed and times and len(times) == len(found) else None


def _keys(h: History) -> list[alarm_states.Key]:
    rules = h.drill.alarms.must_fire
    return [(rule.alarm, region, rule.mode) for rule in rules for region in rule.regions(h.targets, h.regions)]


def _sealed(h: History) -> float | None:
    checked = h.of_event("messages-checked", when="check")
    return float(max(r.fields["sealed"] for r in checked)) if checked else None


def _spacing(during: tuple[Operation, ...]) -> float | None:
    """Return the longest time between two operations during the fault: nothing was measured finer than that."""
    times = sorted(o.began for o in during)
    return _rounded(max((b - a for a, b in pairwise(times)), default=0.0)) if times else None
