"""Claims 1 and 2: the steady state held before, and the fault was real and touched one region alone."""

from __future__ import annotations

from collections.abc import Iterator

from kms_chaos.faults.plans import CONNECTION, Bite, Ordered, bite, unlike
from kms_chaos.judging import alarm_states
from kms_chaos.judging.findings import Finding, claim, held, unclear
from kms_chaos.judging.history import NOTED_LATE_SECONDS, History
from kms_core.taxonomy import TABLE
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim
from kms_watchdog.results import Outcome

_UNANSWERED = CONNECTION.union(code for code, row in TABLE.items() if not row.answered)
"""Codes of an attempt that the region gave no answer to: also of one that was never sent, or overtaken by a hedge."""
_SETTLE_SECONDS = 2.0
"""How long a call that was under way when a region was evacuated may still ask it."""


def steady_state_before(h: History) -> Claim:
    """Whether all was well before the fault; if not, nothing that follows can be laid at its door."""
    return claim("steady-state-before", "The steady state held before the fault", _before(h))


def _before(h: History) -> Iterator[Finding]:
    yield from _guards(h)
    if h.injected is None or h.beginning is None:
        why = h.stopped.fields.get("reason", "") if h.stopped else ""
        yield unclear(f"no fault was injected{f': {why}' if why else ''}", [h.stopped] if h.stopped else [])
        return
    yield from _canaries_before(h, h.beginning)
    yield from _workload_before(h, h.beginning)
    yield from _services_before(h, h.beginning)
    yield from _breakers_before(h, h.beginning)
    for rule in h.drill.alarms.must_fire:
        for region in rule.regions(h.targets, h.regions):
            yield alarm_states.was_quiet(h, (rule.alarm, region, rule.mode), h.injected)


def _guards(h: History) -> Iterator[Finding]:
    guards = h.of_event("guard-checked")
    if not guards:
        yield unclear("no guard was asked")
    for record in guards:
        if record.fields["held"] is not True:
            yield unclear(f"guard {record.fields['guard']} did not hold: {record.fields['detail']}", [record])


def _breakers_before(h: History, began: Record) -> Iterator[Finding]:
    last = {r.fields["region"]: r for r in h.of_event("breaker-moved") if r.seq < began.seq}
    for region, move in sorted(last.items()):
        if move.fields["new"] != "closed":
            yield unclear(f"the breaker of {region} was {move.fields['new']} when the fault began", [move])


def _canaries_before(h: History, began: Record) -> Iterator[Finding]:
    last = {look.where: look for look in h.looks if look.record.seq < began.seq}
    absent = [where for where in h.canaries if where not in last]
    bad = [look.record for look in last.values() if look.outcome is not Outcome.OK]
    amiss = list[Finding]()
    if absent:
        amiss.append(unclear(f"canary {absent[0][1]} in {absent[0][0]} was not seen before the fault"))
    if bad:
        amiss.append(unclear(f"{len(bad)} canaries were not OK when the fault began", bad))
    seen = [look.record for look in last.values()]
    yield from amiss or [held(f"all {len(seen)} canaries were OK when the fault began", seen)]


def _workload_before(h: History, began: Record) -> Iterator[Finding]:
    before = [o for o in h.operations if o.record.seq < began.seq]
    lanes = {o.lane for o in before if o.ok}
    failed = [o.record for o in before if not o.ok]
    amiss = list[Finding]()
    if failed:
        amiss.append(unclear(f"{len(failed)} operations failed before the fault", failed))
    if lanes != {"warm", "cold"}:
        amiss.append(unclear("the workload did not run warm and cold before the fault"))
    yield from amiss or [
        held(f"{len(before)} operations before the fault, none failed", [before[0].record, before[-1].record])
    ]


def _services_before(h: History, began: Record) -> Iterator[Finding]:
    """Whether what is hurt beside KMS answered before: else its silence afterwards is no doing of the fault."""
    for order in (order for order in h.orders if order.service != "kms"):
        asked = h.of_event("service-attempt", service=order.service, region=order.region)
        last = next((r for r in reversed(asked) if r.seq < began.seq), None)
        if last is None or last.fields["error_code"]:
            yield unclear(f"{_place(order)} did not answer before the fault", [last] if last else [])
        else:
            yield held(f"{_place(order)} answered before the fault", [last])


def fault_was_real(h: History) -> Claim:
    """Whether requests through the proxy failed at the target, and those to other regions did not."""
    return claim("fault-was-real", "The fault bit the target, and nothing else", _real(h))


def _real(h: History) -> Iterator[Finding]:
    if h.injected is None:
        yield unclear("no fault was injected")
        return
    for order in h.orders:
        yield from _one(h, order)
    yield from _others_of_its_kind(h)
    codes = CONNECTION.union(*(bite(order.plan).codes for order in h.orders))
    for region in h.others:
        yield _untouched(region, [r for r in _inside(h, h.fault) if r.fields["region"] == region], codes)


def _others_of_its_kind(h: History) -> Iterator[Finding]:
    """Whether a service beside KMS that is hurt in some regions went on in the others."""
    for service in sorted({order.service for order in h.orders} - {"kms"}):
        hurt = {order.region for order in h.orders if order.service == service}
        asked = _inside(h, h.fault, service)
        for region in (region for region in h.regions if region not in hurt):
            found = [r for r in asked if r.fields["region"] == region]
            yield _untouched(f"{service} of {region}", found, CONNECTION)


def _one(h: History, order: Ordered) -> Iterator[Finding]:
    injected = h.put_on(order)
    if injected is None:
        yield unclear(f"the {order.kind} of {_place(order)} was not injected")
        return
    if why := unlike(order.plan, order, injected.fields):
        yield unclear(f"the {order.kind} of {_place(order)} was not shown as it was ordered: {why}", [injected])
    else:
        yield held(f"the {order.kind} of {_place(order)} was shown as it was ordered", [injected])
    asked = _inside(h, h.window(order), order.service)
    yield _bit(order, injected, [r for r in asked if r.fields["region"] == order.region])


def _place(order: Ordered) -> str:
    """Return the region, or what of it is hurt beside KMS, in words."""
    return order.region if order.service == "kms" else f"{order.service} of {order.region}"


def _inside(h: History, window: tuple[float, float] | None, service: str = "kms") -> list[Record]:
    """Return the attempts at `service` that began and ended in `window`."""
    if window is None:
        return []
    began, ended = window
    attempts = h.of_event("attempt") if service == "kms" else h.of_event("service-attempt", service=service)
    return [r for r in attempts if r.t - r.fields["seconds"] >= began and r.t <= ended]


def _bit(order: Ordered, injected: Record, attempts: list[Record]) -> Finding:
    what, where, sign = order.kind, _place(order), bite(order.plan)
    if sign.quiet:
        return _left_alone(order, injected, attempts)
    elsewhere = [r for r in attempts if r.fields["proxy"] != injected.fields.get("proxy", r.fields["proxy"])]
    if elsewhere:
        return unclear(f"requests to {where} did not go through the proxy", elsewhere)
    bitten = [r for r in attempts if _shows(sign, r)]
    if not bitten:
        return unclear(f"the {what} did not bite: no request to {where} showed it while it was on")
    concerned = [r for r in attempts if not sign.operations or _asked_for(r) in sign.operations]
    spared = [r for r in concerned if not _shows(sign, r) and r.fields["error_code"] not in _UNANSWERED]
    spared = [r for r in spared if r.t - r.fields["seconds"] >= injected.t + NOTED_LATE_SECONDS]
    if sign.whole and spared:
        return unclear(f"{len(spared)} requests to {where} were answered during the {what}", spared)
    rest = "none was answered" if sign.whole else f"of {len(concerned)}"
    return held(f"{len(bitten)} requests to {where} showed the {what}, {rest}", bitten)


def _left_alone(order: Ordered, injected: Record, attempts: list[Record]) -> Finding:
    """Whether nobody but canaries asked the region, once calls that were under way had had their time."""
    settled = injected.t + _SETTLE_SECONDS
    calls = [r for r in attempts if not r.fields["pinned"] and r.t - r.fields["seconds"] >= settled]
    looks = [r for r in attempts if r.fields["pinned"] and not r.fields["error_code"]]
    if calls:
        return unclear(f"{len(calls)} calls went to {order.region}, which was evacuated", calls)
    if not looks:
        return unclear(f"no canary was answered by {order.region} during the {order.kind}")
    return held(f"no call went to {order.region}, and it answered {len(looks)} requests of canaries", looks)


def _shows(sign: Bite, r: Record) -> bool:
    f = r.fields
    return sign.shown_by(error_code=f["error_code"], seconds=f["seconds"], operation=_asked_for(r))


def _asked_for(r: Record) -> str:
    """Return the operation of KMS, or the service beside it, that an attempt is of."""
    return str(r.fields.get("operation") or r.fields.get("service", ""))


def _untouched(region: str, attempts: list[Record], codes: frozenset[str]) -> Finding:
    hurt = [r for r in attempts if r.fields["error_code"] in codes]
    well = [r for r in attempts if not r.fields["error_code"]]
    if hurt:
        return unclear(f"{len(hurt)} requests to {region} failed too, which the fault must not touch", hurt)
    if not well:
        return unclear(f"nobody asked {region} during the fault")
    return held(f"{len(well)} requests to {region} were answered meanwhile", well)
