"""Claims 6 and 7: the fault is gone and all is well again in time, and no message was lost or wrongly opened."""

from __future__ import annotations

from collections.abc import Iterator

from kms_chaos.faults.plans import CONNECTION
from kms_chaos.judging.findings import Finding, broke, claim, gather, held, missing, unclear
from kms_chaos.judging.history import NOT_REFUSED, WRONG_CONTEXT_REFUSED, History
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim
from kms_watchdog.results import Outcome


def restore_failed(h: History) -> str:
    """Return why the fault, or something of the drill, may still be there; empty when it was seen to be gone."""
    if not h.of_event("undo-recorded"):
        return ""  # nothing was created
    verified = h.of_event("restore-verified")
    if not verified:
        return "nobody has verified that the drill's proxies are gone"
    if left := verified[-1].fields["proxies_left"]:
        return f"left on the server: {', '.join(left)}"
    return ""


def restored(h: History) -> Claim:
    """Whether the fault was removed, seen to be gone, and the steady state back within the RTO."""
    return claim("restored", "The fault was removed, verified, and the steady state returned in time", _restored(h))


def _restored(h: History) -> Iterator[Finding]:
    if why := restore_failed(h):
        yield broke(why, h.of_event("restore-verified"))
    if h.injected is None:
        yield unclear("no fault was injected")
        return
    if not any(r.seq < h.injected.seq for r in h.of_event("undo-recorded")):
        yield broke("the fault was injected before an undo record was on disk", [h.injected])
    if h.removed is None:
        yield missing(h, "the fault's removal was not recorded")
        return
    if left := list(_not_gone(h)):
        yield broke("the fault's toxics were still there when it was removed", left)
    else:
        yield held("the fault was removed and read back", [h.removed, *h.of_event("restore-verified")[-1:]])
    yield _steady_again(h, h.removed)
    yield from _services_again(h, h.removed)


def _services_again(h: History, removed: Record) -> Iterator[Finding]:
    """Whether what was hurt beside KMS answered again."""
    for order in (order for order in h.orders if order.service != "kms"):
        asked = h.of_event("service-attempt", service=order.service, region=order.region)
        well = [r for r in asked if r.t - r.fields["seconds"] >= removed.t and not r.fields["error_code"]]
        if well:
            yield held(f"{order.service} of {order.region} answered again", well[:1])
        else:
            yield missing(h, f"{order.service} of {order.region} did not answer after the fault", asked[-1:])


def _not_gone(h: History) -> Iterator[Record]:
    """Yield the removals after which toxics of their fault, or at the end any, were still on the proxy."""
    for order in h.orders:
        record = h.taken_off(order)
        if record is None:
            continue
        later = [r for r in h.of_event("fault-removed", region=order.region) if r.seq > record.seq]
        left = set(record.fields.get("toxics_left", ()))
        if left & {toxic.name for toxic in order.toxics} or (left and not later):
            yield record


def steady_again(h: History) -> Record | None:
    """Return the record with which the steady state was back for good after the fault: canaries OK, breaker closed."""
    if h.removed is None:
        return None
    back = [_well_for_good(h, h.removed, where) for where in h.canaries]
    last = {r.fields["region"]: r for r in h.of_event("breaker-moved") if h.injected and r.seq > h.injected.seq}
    moves = [record for region, record in last.items() if region not in h.others]
    if any(record is None for record in back) or any(move.fields["new"] != "closed" for move in moves):
        return None
    return max(filter(None, [*back, *moves]), key=lambda record: record.t, default=None)


def _well_for_good(h: History, removed: Record, where: tuple[str, str]) -> Record | None:
    """Return the look from which on this canary was OK to the end."""
    found = None
    for look in h.looks:
        if look.where == where and look.began >= removed.t:
            found = (found or look.record) if look.outcome is Outcome.OK else None
    return found


def _steady_again(h: History, removed: Record) -> Finding:
    back, rto = steady_again(h), h.drill.objectives.rto_seconds
    if back is None:
        return missing(h, "the steady state did not return")
    took = back.t - removed.t
    if took > rto:
        return broke(f"the steady state returned after {took:.1f} s; the RTO is {rto:g} s", [removed, back])
    return held(f"the steady state returned after {took:.1f} s (RTO {rto:g} s)", [removed, back])


def nothing_lost(h: History) -> Claim:
    """Whether every message opens in every region, and KMS itself refuses a wrong context in each, mid-failover too."""
    return claim("nothing-lost", "No message was lost, and KMS refused wrong contexts everywhere", _nothing_lost(h))


def _nothing_lost(h: History) -> Iterator[Finding]:
    for when, regions in (("baseline", h.regions), ("hold", h.others), ("check", h.regions)):
        yield from gather((region, _opened(h, when, region)) for region in regions)
        yield from gather((region, _refused(h, when, region, purpose)) for region in regions for purpose in h.purposes)


def _opened(h: History, when: str, region: str) -> Finding:
    record = h.first("messages-checked", when=when, region=region)
    if record is None:
        return unclear(f"at {when}, nobody opened the messages in {{}}")
    sealed, opened, wrong = (record.fields[name] for name in ("sealed", "opened", "wrong"))
    if wrong:
        return broke(f"at {when}, {sealed - opened} of {sealed} messages did not open in {{}}", [record])
    if not sealed or opened != sealed:
        return unclear(f"at {when}, only {opened} of {sealed} messages were tried in {{}}", [record])
    return held(f"at {when}, all {sealed} messages opened in {{}}", [record])


def _refused(h: History, when: str, region: str, purpose: str) -> Finding:
    record = h.first("context-refused", when=when, region=region, purpose=purpose)
    if record is None:
        return unclear(f"at {when}, KMS was offered no wrong context in {{}}")
    code = record.fields["error_code"]
    if code == NOT_REFUSED:
        return broke(f"at {when}, KMS accepted a wrong context for {purpose} in {{}}", [record])
    if code != WRONG_CONTEXT_REFUSED:
        heard = "was not heard" if code in CONNECTION else "answered something else"
        return unclear(f"at {when}, KMS {heard} about a wrong context for {purpose} in {{}}: {code}", [record])
    return held("KMS itself refused each wrong context, every time in every region asked", [record])
