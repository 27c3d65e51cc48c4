"""Claims 1 and 2: the steady state held before, and the fault was real and touched one region alone."""

from __future__ import annotations

from collections.abc import Iterator

from kms_chaos.judging import alarm_states
from kms_chaos.judging.findings import Finding, claim, held, unclear
from kms_chaos.judging.history import CONNECTION, NO_ANSWER, History
from kms_chaos.undo_record import toxic_names
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim
from kms_watchdog.results import Outcome


def steady_state_before(h: History) -> Claim:
    """Whether all was well before the fault; if not, nothing that follows can be laid at its door."""
    return claim("steady-state-before", "The steady state held before the fault", _before(h))


def _before(h: History) -> Iterator[Finding]:
    yield from _guards(h)
    if h.injected is None:
        why = h.stopped.fields.get("reason", "") if h.stopped else ""
        yield unclear(f"no fault was injected{f': {why}' if why else ''}", [h.stopped] if h.stopped else [])
        return
    yield from _canaries_before(h, h.injected)
    yield from _workload_before(h, h.injected)
    for rule in h.drill.alarms.must_fire:
        for region in rule.regions(h.target, h.regions):
            yield alarm_states.was_quiet(h, (rule.alarm, region, rule.mode), h.injected)


def _guards(h: History) -> Iterator[Finding]:
    guards = h.of_event("guard-checked")
    if not guards:
        yield unclear("no guard was asked")
    for record in guards:
        if record.fields["held"] is not True:
            yield unclear(f"guard {record.fields['guard']} did not hold: {record.fields['detail']}", [record])


def _canaries_before(h: History, injected: Record) -> Iterator[Finding]:
    last = {look.where: look for look in h.looks if look.record.seq < injected.seq}
    absent = [where for where in h.canaries if where not in last]
    if absent:
        yield unclear(f"canary {absent[0][1]} in {absent[0][0]} was not seen before the fault")
    bad = [look.record for look in last.values() if look.outcome is not Outcome.OK]
    if bad:
        yield unclear(f"{len(bad)} canaries were not OK when the fault began", bad)
    if not absent and not bad:
        yield held(f"all {len(last)} canaries were OK when the fault began", [look.record for look in last.values()])


def _workload_before(h: History, injected: Record) -> Iterator[Finding]:
    before = [o for o in h.operations if o.record.seq < injected.seq]
    lanes = {o.lane for o in before if o.ok}
    failed = [o.record for o in before if not o.ok]
    if failed:
        yield unclear(f"{len(failed)} operations failed before the fault", failed)
    if lanes != {"warm", "cold"}:
        yield unclear("the workload did not run warm and cold before the fault")
    if lanes == {"warm", "cold"} and not failed:
        yield held(f"{len(before)} operations before the fault, none failed", [before[0].record, before[-1].record])


def fault_was_real(h: History) -> Claim:
    """Whether requests through the proxy failed at the target, and those to other regions did not."""
    return claim("fault-was-real", "The fault bit the target, and nothing else", _real(h))


def _real(h: History) -> Iterator[Finding]:
    if h.injected is None or h.fault is None:
        yield unclear("no fault was injected")
        return
    yield _read_back(h, h.injected)
    began, ended = h.fault
    inside = [r for r in h.of_event("attempt") if r.t - r.fields["seconds"] >= began and r.t <= ended]
    yield _bit(h, h.injected, [r for r in inside if r.fields["region"] == h.target])
    for region in h.others:
        yield _untouched(region, [r for r in inside if r.fields["region"] == region])


def _read_back(h: History, injected: Record) -> Finding:
    names = {toxic["name"] for toxic in injected.fields["toxics"]}
    if injected.fields["enabled"] is not True or not set(toxic_names(h.drill.fault.kind)) <= names:
        return unclear("the server did not show the fault as it was ordered", [injected])
    return held(f"the server showed the fault on {injected.fields['proxy']}", [injected])


def _bit(h: History, injected: Record, attempts: list[Record]) -> Finding:
    through = [r for r in attempts if r.fields["proxy"] == injected.fields["proxy"]]
    if len(through) != len(attempts):
        return unclear(f"requests to {h.target} did not go through the proxy", attempts)
    answered = [r for r in through if r.fields["error_code"] not in CONNECTION]
    unanswered = [r for r in through if r.fields["error_code"] in NO_ANSWER]
    if answered:
        return unclear(f"{len(answered)} requests to {h.target} were answered during the fault", answered)
    if not unanswered:
        return unclear(f"the fault did not bite: no request to {h.target} timed out while it was on")
    return held(f"{len(unanswered)} requests to {h.target} through the proxy timed out, none was answered", unanswered)


def _untouched(region: str, attempts: list[Record]) -> Finding:
    hurt = [r for r in attempts if r.fields["error_code"] in CONNECTION]
    well = [r for r in attempts if not r.fields["error_code"]]
    if hurt:
        return unclear(f"{len(hurt)} requests to {region} failed too, which the fault must not touch", hurt)
    if not well:
        return unclear(f"nobody asked {region} during the fault")
    return held(f"{len(well)} requests to {region} were answered meanwhile", well)
