"""Which faults of one drill cannot be on at once: where one switches the proxy off, another has nothing to be on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import combinations

from kms_chaos.faults.network_plans import Flapping, Refused
from kms_chaos.faults.ordering import FaultPlan, toxics


def at_odds(plans: Sequence[FaultPlan], where: Callable[[FaultPlan], Collection[str]]) -> str:
    """Return which two of `plans` cannot both show, in one line; empty when all can.

    `where` gives the regions that a plan hits, or what stands for them: two plans that share one meet there.
    """
    for one, other in combinations(plans, 2):
        if _need_one_proxy(one, other) and _at_once(one, other) and not set(where(one)).isdisjoint(where(other)):
            off, hidden = (one, other) if _switches_off(one) else (other, one)
            return (
                f"{_named(off)} switches the proxy off that {_named(hidden)} needs in the same region at the same time"
            )
    return ""


def _need_one_proxy(one: FaultPlan, other: FaultPlan) -> bool:
    if _service(one) != _service(other) or not (_switches_off(one) or _switches_off(other)):
        return False
    return all(_switches_off(plan) or toxics(plan, "") for plan in (one, other))


def _switches_off(plan: FaultPlan) -> bool:
    return isinstance(plan, Refused) or (isinstance(plan, Flapping) and plan.inner == "refused")


def _service(plan: FaultPlan) -> str:
    return str(getattr(plan, "service", "kms"))  # each service of a region has a proxy of its own


def _at_once(one: FaultPlan, other: FaultPlan) -> bool:
    return one.after_seconds < _end(other) and other.after_seconds < _end(one)


def _end(plan: FaultPlan) -> float:
    return float("inf") if plan.for_seconds is None else plan.after_seconds + plan.for_seconds


def _named(plan: FaultPlan) -> str:
    return f"the fault {getattr(plan, 'kind', '')}"
