"""The claim about a watchdog of the drill's own: it started, watched, told the truth, and lost nothing.

Judged by what it said of itself at each look, by when it was started and killed, and by the connections that it opened
on the drill's ways. Nothing of it is held by silence: a watchdog that did not answer has not gone on watching.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from kms_chaos.drill_parts import WatchdogPlan
from kms_chaos.judging.findings import Finding, broke, claim, held, missing, unclear
from kms_chaos.judging.history import History
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim

_CODES = {"healthy": 200, "degraded": 503, "unhealthy": 500}
"""What `/health` answers (setup guide)."""
_SILENT_SECONDS = 10.0
_KILLED = -9
"""The exit code of who was ended by SIGKILL."""


def own_watchdog(h: History) -> Claim:
    """Whether a watchdog that ran in the outage went on watching and told what was so."""
    title = "A watchdog in the outage started, went on and told the truth"
    return claim("watchdog-goes-on", title, _all(h) if h.drill.watchdog else ())


def _all(h: History) -> Iterator[Finding]:
    plan, fault = h.drill.watchdog, h.fault
    if plan is None or fault is None or h.removed is None:
        yield missing(h, "the fault was not on and off again, so no watchdog was seen in it")
        return
    started = h.of_event("watchdog-started")
    if len(started) != plan.starts:
        yield missing(h, f"{len(started)} starts of the watchdog were seen, not {plan.starts}", started)
        return
    for number, record in enumerate(started):
        yield from _started(h, record, in_fault=number > 0 or plan.starts_after_seconds is not None)
    if plan.killed_after_seconds is not None:
        yield from _killed(h, started)
    yield from _on_our_ways(h, started[-1])
    yield from _truthful(h, started[-1])
    yield _healthy_again(h, h.removed, started[-1])
    if plan.publishes:
        yield from _published(h, h.removed, started[-1])
    yield from _ended(h, started[-1])


def _looks(h: History, started: Record) -> list[Record]:
    """Return what the process that was `started` then said, at each look that began after it."""
    return [r for r in h.of_event("watchdog-looked", pid=started.fields["pid"]) if r.seq > started.seq]


def _ready(h: History, started: Record) -> Record | None:
    return next((r for r in _looks(h, started) if r.fields["ready"]), None)


def _in_fault(h: History, records: Iterable[Record]) -> list[Record]:
    """Return the looks that began and ended while the fault was on."""
    began, ended = h.fault or (0.0, 0.0)
    return [r for r in records if r.t - r.fields["seconds"] >= began and r.t <= ended]


def _started(h: History, started: Record, *, in_fault: bool) -> Iterator[Finding]:
    ready, most = _ready(h, started), _plan(h).ready_within_seconds
    if ready is None:
        yield missing(h, "a watchdog that was started was never ready", [started])
        return
    took = ready.t - started.t
    where = "in the fault" if in_fault else "before the fault"
    began, ended = h.fault or (0.0, 0.0)
    if took > most:
        yield broke(f"a watchdog that was started {where} was ready after {took:.1f} s, not {most:g} s", [ready])
    elif in_fault and not began <= started.t <= ready.t <= ended:
        yield unclear("a watchdog's start was not within the fault", [started, ready])
    else:
        yield held(f"a watchdog that was started {where} was ready after {took:.1f} s", [started, ready])


def _plan(h: History) -> WatchdogPlan:
    return h.drill.watchdog or WatchdogPlan()


def _killed(h: History, started: tuple[Record, ...]) -> Iterator[Finding]:
    killed = h.of_event("watchdog-killed")
    began, ended = h.fault or (0.0, 0.0)
    if len(killed) != 1 or killed[0].fields["pid"] != started[0].fields["pid"]:
        yield missing(h, "nobody saw the watchdog being killed", killed)
        return
    if killed[0].fields["code"] != _KILLED or not began <= killed[0].t <= ended:
        yield unclear("the watchdog was not killed by SIGKILL in the fault", killed)
    ready = _ready(h, started[1])
    if ready is None:
        return  # told by its start
    oldest = ready.fields["history_since_utc"]
    if not oldest or datetime.fromisoformat(oldest) >= killed[0].at_utc:
        yield broke("the watchdog that took over knew nothing of what the killed one had seen", [killed[0], ready])
    else:
        yield held(f"the watchdog that took over had kept what was seen since {oldest}", [killed[0], ready])


def _on_our_ways(h: History, started: Record) -> Iterator[Finding]:
    """Whether it asked what is hurt, through the drill's own proxies: else no outage reached it."""
    looks = _looks(h, started)
    seen = looks[-1].fields["looked_up"] if looks else {}
    publishers = set(looks[-1].fields["accepted"]) if looks else set()
    for order in h.orders:
        name = f"{order.service} {order.region}"
        if order.service == "cloudwatch" and order.region not in publishers:
            continue  # nothing is sent there
        if not seen.get(name):
            yield unclear(f"the watchdog opened no connection to {name} on the drill's ways", looks[-1:])
        else:
            yield held(f"the watchdog opened connections to {name} on the drill's ways", looks[-1:])


def _truthful(h: History, started: Record) -> Iterator[Finding]:
    """Whether it answered all along once it was ready, and said in the end of the fault what was so."""
    ready = _ready(h, started)
    looks = _in_fault(h, (r for r in _looks(h, started) if ready and r.seq >= ready.seq))
    if not looks:
        yield unclear("no watchdog that was ready was looked at in the fault", [started])
        return
    yield from _silences(looks)
    last = next((r for r in reversed(looks) if r.fields["answers"]), looks[-1])
    yield from _says(h, last)
    if last.fields["health_code"] != _CODES.get(last.fields["status"]):
        yield broke(f"/health answered {last.fields['health_code']} for {last.fields['status'] or 'nothing'}", [last])


def _silences(looks: list[Record]) -> Iterator[Finding]:
    """Whether it answered again and again; a look that a busy machine did not answer in time is no silence yet."""
    answered = looks[0]
    for r in looks:
        if r.fields["answers"]:
            answered = r
        elif r.t - answered.t > _SILENT_SECONDS:
            yield broke(f"the watchdog was silent for {r.t - answered.t:.0f} s in the fault", [answered, r])


def _says(h: History, look: Record) -> Iterator[Finding]:
    f = look.fields
    right = {region: region in h.others for region in h.regions}
    status = "healthy" if all(right.values()) else "degraded"
    if f["regions"] != right or f["status"] != status:
        told = ", ".join(f"{region} {'well' if well else 'down'}" for region, well in f["regions"].items())
        yield broke(f"in the fault the watchdog said {f['status'] or 'nothing'}: {told or 'of no region'}", [look])
    elif not f["keys_usable"] or not f["failover_up"]:
        yield broke("in the fault the watchdog took failover, or a key, for lost", [look])
    else:
        yield held(f"in the fault the watchdog said {status}, and of each region what was so", [look])


def _healthy_again(h: History, removed: Record, started: Record) -> Finding:
    rto = h.drill.objectives.rto_seconds
    after = [r for r in _looks(h, started) if r.t - r.fields["seconds"] >= removed.t]
    well = next((r for r in after if r.fields["status"] == "healthy"), None)
    if well is None:
        return missing(h, "the watchdog did not get well after the fault", after[-1:])
    took = well.t - removed.t
    if took > rto:
        return broke(f"the watchdog was healthy {took:.1f} s after the fault; the RTO is {rto:g} s", [removed, well])
    return held(f"the watchdog was healthy {took:.1f} s after the fault", [removed, well])


def _published(h: History, removed: Record, started: Record) -> Iterator[Finding]:
    """Whether what CloudWatch did not take in the fault waited, and all of it arrived after it."""
    looks = _looks(h, started)
    during = _in_fault(h, (r for r in looks if r.fields["answers"]))
    after = [r for r in looks if r.t - r.fields["seconds"] >= removed.t and r.fields["answers"]]
    hurt = [order.region for order in h.orders if order.service == "cloudwatch"]
    if not during or not after:
        yield missing(h, "the watchdog was not seen to publish in the fault and after it", looks[-1:])
        return
    last, end = during[-1], after[-1]
    publishing = [region for region in last.fields["queued"] if region in hurt]
    if not publishing:
        yield unclear("the watchdog sent nothing to a CloudWatch that was hurt", [last])
    for region in publishing:
        waited = last.fields["queued"][region]
        if not waited:
            yield unclear(f"nothing waited for CloudWatch of {region} in the fault", [last])
            continue
        emptied = next((r for r in after if r.fields["queued"].get(region) == 0), None)
        took = end.fields["accepted"].get(region, 0) - last.fields["accepted"].get(region, 0)
        if emptied is None:
            yield missing(h, f"what waited for CloudWatch of {region} was not all sent", [end])
        elif took < waited:
            yield broke(f"CloudWatch of {region} took {took} of the {waited} datums that waited", [last, end])
        else:
            yield held(f"all {waited} datums that waited for CloudWatch of {region} were taken", [last, emptied])
    dropped = [r for r in looks if r.fields["dropped"]]
    if dropped:
        yield broke(f"the watchdog gave up {dropped[-1].fields['dropped']} datums", dropped)


def _ended(h: History, started: Record) -> Iterator[Finding]:
    """Whether the drill's own watchdog is gone: one that lives on would be a fault of the drill."""
    if not h.of_event("watchdog-ended", pid=started.fields["pid"]):
        yield missing(h, "nobody saw the drill's own watchdog end", [started])
