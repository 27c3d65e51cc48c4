"""Claims 8 and 9: warm and cold served as declared, and the core reacted as its table of errors demands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kms_chaos.drill_parts import Serves
from kms_chaos.judging.findings import Finding, broke, claim, held, unclear
from kms_chaos.judging.history import NOTED_LATE_SECONDS, History, Operation
from kms_watchdog.drills.verdict import Claim

_LANES = ("warm", "cold")


def warm_and_cold(h: History) -> Claim:
    """Whether both lanes did as declared: green by the cache alone would not be green."""
    return claim("warm-and-cold", "Warm and cold did as declared: it was not the cache alone", _lanes(h))


def _lanes(h: History) -> Iterator[Finding]:
    if h.fault is None:
        yield unclear("no fault was injected")
        return
    began, ended = h.fault
    inside = [o for o in h.during if o.began >= began]
    expected = {"warm": h.drill.expect.warm, "cold": h.drill.expect.cold}
    for lane in _LANES:
        operations = [o for o in inside if o.lane == lane]
        match expected[lane]:
            case Serves.ALWAYS:
                yield _always(h, lane, operations)
            case Serves.NEVER:
                dark = [o for o in operations if o.record.t <= ended]  # else the end of the fault served them
                yield _never(lane, [o for o in dark if not o.ok or o.began >= began + NOTED_LATE_SECONDS])
            case Serves.SOMETIMES:
                yield _sometimes(h, lane, [o for o in operations if o.record.t <= ended])


def _always(h: History, lane: str, operations: list[Operation]) -> Finding:
    failed = [o.record for o in operations if not o.ok]
    if failed:
        return broke(f"{len(failed)} {lane} operations failed during the fault", failed)
    proof, how = _proof(h, lane)
    served = [o.record for o in operations if proof(o)]
    if not served:
        return unclear(f"no {lane} operation was seen {how} during the fault")
    return held(f"{len(served)} {lane} operations {how}", served)


def _proof(h: History, lane: str) -> tuple[Callable[[Operation], bool], str]:
    """Return what an operation must show so that its lane is proven, and the words for it."""
    if lane == "warm":
        return lambda o: o.cache_hit, "answered from the cache"
    if h.drill.expect.failover == "must":
        return lambda o: o.asked > 0 and o.region in h.others, "answered by KMS in another region"
    return lambda o: o.asked > 0, "answered by KMS"


def _never(lane: str, operations: list[Operation]) -> Finding:
    served = [o.record for o in operations if o.ok]
    if served:
        return broke(f"{len(served)} {lane} operations succeeded, which nothing could have served", served)
    if not operations:
        return unclear(f"no {lane} operation was tried during the fault")
    return held(f"none of {len(operations)} {lane} operations succeeded", [o.record for o in operations])


def _sometimes(h: History, lane: str, operations: list[Operation]) -> Finding:
    """Whether one was served at least, and by what the lane is for: a cache that is off would fail them all."""
    if not operations:
        return unclear(f"no {lane} operation was tried during the fault")
    proof, how = _proof(h, lane)
    served = sum(o.ok and proof(o) for o in operations)
    if not served:
        return broke(f"none of {len(operations)} {lane} operations was {how}", [o.record for o in operations])
    return held(f"{served} of {len(operations)} {lane} operations were {how}", [o.record for o in operations])


def reaction(h: History) -> Claim:
    """Whether the core went to another region where it must, nowhere it must not, and failed in clear words only."""
    return claim("reaction", "The core reacted as its table of errors demands", _reaction(h))


def _reaction(h: History) -> Iterator[Finding]:
    if h.fault is None:
        yield unclear("no fault was injected")
        return
    yield _failover(h, h.fault)
    yield _errors(h)


def _failover(h: History, fault: tuple[float, float]) -> Finding:
    hurt = frozenset(h.regions) - frozenset(h.others) or frozenset(h.regions)  # where no KMS is: from nowhere
    went = [r for r in h.of_event("failed-over") if r.fields["from_region"] in hurt and fault[0] <= r.t <= fault[1]]
    wanted = h.drill.expect.failover
    elsewhere = [o.record for o in h.during if o.began >= fault[0] and o.ok and o.asked and o.region in h.others]
    around = elsewhere if h.others != h.regions else []  # where no KMS is hurt, none is asked in another's place
    if wanted == "must_not" and (seen := went or around):
        return broke(f"{len(seen)} operations went on to another region, which they must not", seen)
    if wanted == "must" and not (went or elsewhere):
        return unclear("no operation was seen to go to another region")
    if wanted == "must":
        return held(f"{len(went)} times an operation went on to another region", went or elsewhere)
    return held(f"{len(went)} operations went on to another region" if went else "no operation went elsewhere", went)


def _errors(h: History) -> Finding:
    failed = [o for o in h.during if not o.ok]
    unclear_words = [o.record for o in failed if o.record.fields["error"] not in h.drill.expect.errors]
    if unclear_words:
        seen = ", ".join(sorted({str(r.fields["error"]) for r in unclear_words}))
        return broke(f"{len(unclear_words)} operations failed with {seen}, which is not declared", unclear_words)
    if failed:
        return held(f"{len(failed)} operations failed, all in the words declared", [o.record for o in failed])
    return held("no operation failed")
