"""Claims that only some drills make: a core that starts in the outage, and a key that is revoked."""

from __future__ import annotations

from collections.abc import Iterator

from kms_chaos.judging.findings import Finding, broke, claim, held, missing, unclear
from kms_chaos.judging.history import History, Operation
from kms_watchdog.drills.verdict import Claim


def cold_start(h: History) -> Claim:
    """Whether a core that was started while the fault was on served every key in time."""
    return claim("cold-start", "A core that started in the outage served every key in time", _cold_start(h))


def _cold_start(h: History) -> Iterator[Finding]:
    seen = h.of_event("cold-start")
    if len(seen) < len(h.drill.actions):
        yield missing(h, f"{len(seen)} of {len(h.drill.actions)} cold starts were seen", seen)
    for record in seen:
        f = record.fields
        if h.fault is None or not h.fault[0] <= record.t - f["seconds"] <= record.t <= h.fault[1]:
            yield unclear("a cold start was not within the fault", [record])
        elif not f["ok"] or set(f["purposes"]) != set(h.purposes):
            yield broke(f"a core that started in the dark served {len(f['purposes'])} keys: {f['error']}", [record])
        elif f["seconds"] > f["within_seconds"]:
            yield broke(f"a cold start took {f['seconds']:.1f} s, not {f['within_seconds']:g} s at most", [record])
        else:
            yield held(f"a core that started in the dark served every key after {f['seconds']:.1f} s", [record])


def revocation(h: History) -> Claim:
    """Whether a key that was revoked everywhere stopped within the cache's time, stale use included.

    Source of the limit: DESIGN §4, "Revocation is bounded".
    """
    return claim("revocation-bounded", "A revoked key stopped within the cache's time", _revoked(h))


def _revoked(h: History) -> Iterator[Finding]:
    limit = h.records[0].fields.get("cache_seconds")
    if h.fault is None or limit is None:
        yield unclear("no fault was injected, or nobody wrote down how long a key may live in the cache")
        return
    began, ended = h.fault  # it ends where restoring begins: then one region after another serves again
    for lane in ("warm", "cold"):
        operations = [o for o in h.during if o.lane == lane and o.began >= began and o.record.t <= ended]
        yield _stopped(lane, operations, began, limit)
        if not any(o.began >= began + limit for o in operations):
            yield unclear(f"no {lane} operation was tried after the {limit:g} s that a key may live")


def _stopped(lane: str, operations: list[Operation], began: float, limit: float) -> Finding:
    served = [o for o in operations if o.ok]
    late = [o.record for o in served if o.began > began + limit]
    if late:
        return broke(f"{len(late)} {lane} operations succeeded more than {limit:g} s after the revocation", late)
    if not served:
        return held(f"no {lane} operation succeeded after the revocation", [o.record for o in operations[-1:]])
    last = max(served, key=lambda o: o.record.t)
    return held(f"the last {lane} operation that succeeded came {last.record.t - began:.1f} s after it", [last.record])
