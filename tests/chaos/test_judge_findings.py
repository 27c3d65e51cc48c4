"""What the judge says of made-up drills, word for word: claims with their findings and lines, figures and times.

Each case is the drill that held with one thing changed; golden/findings.txt tells what is then said otherwise. After
a change that is meant, `KMS_WRITE_GOLDEN=1 pytest tests/chaos/test_judge_findings.py` writes it anew: read it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from judged_stories import (
    BASE,
    SECOND,
    THIRD,
    between,
    both,
    canary,
    declared,
    journal_of,
    judged,
    looks,
    moved,
    of_fault,
    report,
    two_regions,
)

from kms_chaos.faults.plans import CONNECTION
from kms_chaos.judging.reaction import NOTED_LATE_SECONDS
from kms_chaos.judging.workload_and_breaker import quantile
from kms_chaos.testing import END, FAULT_OFF, FAULT_ON, RESTORE_AT, TARGET, Line, Story, canary_result, of
from kms_core.taxonomy import TABLE
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.verdict import Verdict

GOLDEN = Path(__file__).with_name("golden") / "findings.txt"
WRITE = "KMS_WRITE_GOLDEN"

ALARM = {"alarm": "HighErrorRate", "reason": "", "last": False, "since_utc": ""}
EARLY = "2026-11-24T03:15:10+00:00"
GONE = both(of("alarm-state", region=TARGET, mode="drill"), between(FAULT_OFF, END + 1))
LAST = of("alarm-state", region=TARGET, mode="drill", last=True)
FIRING = of("alarm-state", state="ALARM")
DURING = both(of("operation"), between(FAULT_ON, RESTORE_AT))
INJECT_AT = next(one.t for one in BASE.lines if of("phase-started", phase="inject")(one))
DENIED = {"cold": "never", "failover": "must_not", "errors": ["AccessDeniedException"]}
WENT = {"from_region": TARGET, "to_region": SECOND, "operation": "Decrypt", "purpose": "payment"}


def lane(name: str) -> Any:
    return both(DURING, of("operation", lane=name))


def fails(story: Story, which: Any, error: str = "AccessDeniedException") -> Story:
    count = sum(one.event == "operation" and (which(one) or not one.fields["ok"]) for one in story.lines)
    return story.changed(which, ok=False, error=error, region="").changed(of("workload-ended"), failed=count)


def at_home(story: Story) -> Story:
    """The target was asked all along, and nobody went elsewhere."""
    return story.without(of("failed-over")).changed(of("operation"), region=TARGET)


def denied() -> Story:
    """The cold lane was refused by the target, and nobody was asked instead."""
    return fails(BASE.without(of("failed-over")), lane("cold"))


def cold_start(t: float = 20.0, **fields: Any) -> Story:
    started = declared(BASE, actions=[{"kind": "cold_start", "after_seconds": 2.0, "within_seconds": 4.0}])
    told = {"what": "core", "ok": True, "error": "", "purposes": ["general", "payment"], "seconds": 2.0}
    return started.add(t, "cold-start", **{**told, "within_seconds": 4.0, **fields})


def revoked(until: float = 20.0, *, cache: float | None = 15.0) -> Story:
    """The key was revoked as the fault began, and operations succeeded until then."""
    errors = ["DisabledException"]
    expect = {"revoked": True, "warm": "sometimes", "cold": "sometimes", "failover": "may", "errors": errors}
    story = declared(BASE, mode="recovery", expect=expect, timing={"hold_past_cache": True})
    story = story.changed(of("run-started"), cache_seconds=cache)
    return fails(story, both(of("operation"), between(until, RESTORE_AT + 0.1)), "DisabledException")


THROTTLED = {
    "what": "refused", "code": "ThrottlingException", "status": 400, "operations": ["GenerateDataKey"], "purposes": [],
    "share": 0.5,
}  # fmt: skip


def slow_operation(**attempt: Any) -> Story:
    """One operation of the target was held back, `attempt` is another one."""
    late = {"what": "late", "operation": "GenerateDataKey", "seconds": 0.5}
    fault = {"kind": "slow_operation", "operation": "GenerateDataKey", "delay_ms": 500}
    slow = both(of("attempt", region=TARGET, error_code="ReadTimeout"))
    story = of_fault(BASE.changed(slow, error_code="", seconds=0.5), fault, line={"answers": [late]})
    return story.add(20.5, "attempt", **{**ATTEMPT, **attempt})


def service_down(service: str = "sts", **other: Any) -> Story:
    """STS of the target was dark, KMS was not; `other` is what an attempt at STS elsewhere showed."""
    fault = {"kind": "blackhole", "service": service}
    story = of_fault(declared(at_home(BASE).without(of("breaker-moved")), watchdog={}), fault)
    story = story.changed(of("attempt", region=TARGET), error_code="", seconds=0.01)
    attempt = {"service": service, "seconds": 0.25, "proxy": story_proxy(story)}
    story = story.add(20.0, "service-attempt", **attempt, region=TARGET, error_code="ReadTimeout")
    for region in (SECOND, THIRD):
        told = {**attempt, "region": region, "error_code": "", **(other if region == SECOND else {})}
        story = story.add(21.0, "service-attempt", **told)
    return declared(story, mode="recovery", expect={"failover": "may"}, breaker={"moves": []})


def story_proxy(story: Story) -> str:
    return next(str(one.fields["proxy"]) for one in story.lines if one.event == "fault-injected")


PROXY = story_proxy(BASE)
ATTEMPT = {
    "region": TARGET, "operation": "GenerateDataKey", "purpose": "general", "seconds": 0.5, "error_code": "",
    "request_id": "made-up", "pinned": True, "proxy": PROXY,
}  # fmt: skip
STS = {"service": "sts", "region": TARGET, "seconds": 0.25, "proxy": PROXY, "error_code": ""}
UNANSWERED = next(code for code, row in sorted(TABLE.items()) if not row.answered and code not in CONNECTION)
OPERATION = next(one.fields for one in BASE.lines if one.event == "operation" and one.fields["lane"] == "cold")


def stripped(story: Story, name: str) -> Story:
    """The story without a field, which its lines once did not have."""
    lines = (replace(one, fields={k: v for k, v in one.fields.items() if k != name}) for one in story.lines)
    return Story(tuple(lines))


def two_in_a_row() -> Story:
    """The black hole, and a second one in the same region from 5 s later on, off a second before the first."""
    second = {**BASE.lines[0].fields["drill_file"]["faults"][0], "after_seconds": 5.0}
    story = of_services(BASE, second)
    which = {"fault_id": f"1-blackhole-{TARGET}", "fault": "blackhole", "region": TARGET, "proxy": PROXY}
    story = story.add(FAULT_ON + 5, "fault-injected", **which, enabled=True, bite={}, toxics=[])
    return story.add(RESTORE_AT - 1, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])


def of_services(story: Story, *more: dict[str, Any]) -> Story:
    """The drill with more faults, of which one may be of a service beside KMS."""
    faults = story.lines[0].fields["drill_file"]["faults"]
    return declared(story, faults=[*faults, *more], watchdog={} if any("service" in one for one in more) else None)


def exact(story: Story = BASE) -> Story:
    """The fault is on from 8 to 47.5 seconds for certain, and was seen to be gone at 48: floats without a rest."""
    return moved(moved(story, of("phase-started", phase="restore"), 47.5), of("fault-removed"), 48.0)


def well_at_52() -> Story:
    """The steady state is back four seconds after the fault was seen to be gone."""
    half_open = both(of("breaker-moved", new="half_open"), between(FAULT_OFF, END))
    return moved(moved(exact(), half_open, 51.0), of("breaker-moved", cause="probe_succeeded"), 52.0)


def one_more(story: Story, t: float, **fields: Any) -> Story:
    """One more operation, which asked KMS in the second region for half a second."""
    told = {**OPERATION, "op": 999, "seconds": 0.5, "region": SECOND, **fields}
    counted = next(one.fields for one in story.lines if one.event == "workload-ended")
    more = {"offered": counted["offered"] + 1, "operations": counted["operations"] + 1}
    more["failed"] = counted["failed"] + (not told["ok"])
    return story.add(t, "operation", **told).changed(of("workload-ended"), **more)


def of_objectives(story: Story, **objectives: float) -> Story:
    return declared(story, objectives=objectives)


def evacuated() -> Story:
    quiet = both(of("attempt", region=TARGET), between(FAULT_ON, RESTORE_AT + 1))
    story = of_fault(BASE, {"kind": "evacuation"}, avoided=[TARGET])
    return story.changed(quiet, error_code="", seconds=0.01)


SLOW = BASE.changed(both(of("operation"), between(20, 23)), seconds=3.5)

CASES: dict[str, Story] = {
    "all held": BASE,
    # ------------------------------------------------------------------------------------------ before the fault
    "no guard was asked": BASE.without(of("guard-checked")),
    "a guard did not hold": BASE.changed(of("guard-checked", guard="daemon-watches"), held=False),
    "a guard did not say": BASE.changed(of("guard-checked", guard="daemon-watches"), held=None),
    "no fault, and no reason": BASE.without(of("fault-injected")),
    "no fault, and a reason": BASE.without(lambda one: one.t > FAULT_ON - 1).add(
        FAULT_ON, "interrupted", reason="the steady state was not there"
    ),
    "no fault, cut short without a reason": BASE.without(of("fault-injected")).add(60.0, "healed", by="daemon"),
    "a canary failed before": BASE.add(7.8, "canary-result", result=canary_result(SECOND, "general", 6.8, hurt=True)),
    "a canary failed before, and was well again": BASE.add(
        5.8, "canary-result", result=canary_result(SECOND, "general", 4.8, hurt=True)
    ),
    "two canaries were never seen before": BASE.without(both(canary(SECOND), between(0, FAULT_ON))),
    "operations failed before": BASE.changed(of("operation", op=6), ok=False, error="ReadTimeout"),
    "only the cold lane ran before": BASE.without(both(of("operation", lane="warm"), between(0, FAULT_ON))),
    "the twin was silent before": BASE.changed(
        both(of("alarm-state", region=TARGET, mode="drill"), between(0, FAULT_ON)), state="INSUFFICIENT_DATA"
    ),
    "the twin was not read before": BASE.without(
        both(of("alarm-state", region=TARGET, mode="drill"), between(0, FAULT_ON))
    ),
    "operations failed before, of one lane": BASE.changed(
        both(of("operation", lane="warm"), between(0, FAULT_ON)), ok=False, error="ReadTimeout"
    ),
    "a canary failed before, and another was never seen": BASE.without(
        both(canary(SECOND), between(0, FAULT_ON))
    ).add(7.8, "canary-result", result=canary_result(THIRD, "general", 6.8, hurt=True)),
    "the twin was read twice before": BASE.add(5.0, "alarm-state", **ALARM, region=TARGET, mode="drill", state="OK"),
    # ------------------------------------------------------------------------------------------------- the fault
    "one request was answered, the others were given up": BASE.changed(
        both(of("attempt", region=TARGET), between(10, 40)), error_code="ConnectionReset"
    ).changed(both(of("attempt", region=TARGET), between(20, 21)), error_code="AccessDeniedException"),
    "a slow operation": slow_operation(),
    "a slow operation, and another one": slow_operation(operation="Decrypt", seconds=0.1),
    "a slow operation that was not": slow_operation(seconds=0.25),
    "a slow operation that was given up": slow_operation(seconds=0.25, error_code="ConnectionReset"),
    "some answers are errors": of_fault(
        BASE.changed(of("attempt", error_code="ReadTimeout"), error_code="", seconds=0.01)
        .changed(both(of("attempt", region=TARGET), between(20, 22)), error_code="ThrottlingException"),
        {"kind": "throttling", "share": 0.5, "operations": ["GenerateDataKey"]},
        line={"answers": [THROTTLED]},
    ),
    "a service beside KMS": service_down(),
    "a service beside KMS that answered before": service_down().add(5.0, "service-attempt", **STS).add(
        4.0, "service-attempt", **{**STS, "error_code": "ReadTimeout"}
    ),
    "a service beside KMS that did not answer before": service_down().add(4.0, "service-attempt", **STS).add(
        5.0, "service-attempt", **{**STS, "error_code": "ReadTimeout"}
    ),
    "a service beside KMS that failed elsewhere too": service_down(error_code="ReadTimeout"),
    "a service beside KMS that nobody asked elsewhere": service_down(service="sts", region=TARGET),
    "a service beside KMS that did not fail": service_down().changed(
        of("service-attempt", region=TARGET), error_code=""
    ),
    "no toxic was read back": BASE.changed(of("fault-injected"), toxics=[]),
    "the fault did not bite": BASE.changed(of("attempt", region=TARGET), error_code=""),
    "a request was answered during the fault": BASE.changed(
        both(of("attempt", region=TARGET), between(20, 21)), error_code=""
    ),
    "a request was given up during the fault": BASE.changed(
        both(of("attempt", region=TARGET), between(20, 21)), error_code="ConnectTimeout"
    ),
    "requests passed the proxy by": BASE.changed(both(of("attempt", region=TARGET), between(20, 22)), proxy="direct"),
    "an old journal does not name the proxy": Story(
        tuple(
            Line(t=one.t, event=one.event, fields={k: v for k, v in one.fields.items() if k != "proxy"})
            if one.event == "fault-injected"
            else one
            for one in BASE.lines
        )
    ),
    "another region failed during the fault": BASE.changed(
        both(of("attempt", region=SECOND), between(20, 22)), error_code="ReadTimeout"
    ),
    "another region was refused during the fault": BASE.changed(
        both(of("attempt", region=SECOND), between(20, 22)), error_code="AccessDeniedException"
    ),
    "nobody asked another region": BASE.without(both(of("attempt", region=SECOND), between(FAULT_ON, RESTORE_AT))),
    "another region failed before and after the fault alone": BASE.changed(
        both(of("attempt", region=SECOND), lambda one: not FAULT_ON < one.t < FAULT_OFF), error_code="ReadTimeout"
    ),
    "an attempt began before the fault": BASE.add(
        9.0, "attempt", region=TARGET, operation="Decrypt", purpose="general", seconds=1.5, error_code="",
        request_id="", pinned=False, proxy="kmswd.made-up",
    ),
    "an attempt ended after the fault": BASE.add(
        FAULT_OFF + 0.5, "attempt", region=TARGET, operation="Decrypt", purpose="general", seconds=5.0, error_code="",
        request_id="", pinned=False, proxy="kmswd.made-up",
    ),
    "two regions": two_regions(),
    "the second region's fault was not put on": two_regions().without(of("fault-injected", region=SECOND)),
    "the second region's fault never was": two_regions().without(
        lambda one: one.event.startswith("fault-") and one.fields["region"] == SECOND
    ),
    "the second region's fault was not taken off": two_regions().without(of("fault-removed", region=SECOND)),
    # -------------------------------------------------------------------------------------------------- evacuation
    "an evacuated region": evacuated(),
    "an evacuated region was called": evacuated().changed(
        both(of("attempt", region=TARGET), between(20, 23)), pinned=False
    ),
    "an evacuated region was called at once": evacuated().changed(
        both(of("attempt", region=TARGET), between(FAULT_ON, FAULT_ON + 2)), pinned=False
    ),
    "an evacuated region answered no canary": evacuated().changed(
        both(of("attempt", region=TARGET), between(FAULT_ON, RESTORE_AT)), error_code="ReadTimeout"
    ),
    # --------------------------------------------------------------------------------------------------- workload
    "one operation failed": fails(BASE, of("operation", op=40)),
    "one operation failed, which may": declared(
        fails(BASE, of("operation", op=40)), objectives={"failed_operations": 1}
    ),
    "one operation failed after the fault": fails(BASE, of("operation", op=150)),
    "operations were slow": SLOW,
    "operations were slow, and one just so": SLOW.changed(of("operation", op=60), seconds=3.0),
    "the machine stood still, and so did operations": SLOW.add(21.0, "machine-stalled", seconds=3.0),
    "the machine stood still for a moment, and more was slow": SLOW.add(21.0, "machine-stalled", seconds=0.3),
    "the machine stood still while nothing was slow": BASE.add(21.0, "machine-stalled", seconds=3.0),
    "the machine stood still for long": SLOW.add(21.0, "machine-stalled", seconds=3.0).add(
        45.0, "machine-stalled", seconds=9.0
    ),
    "the machine stood still just long enough": SLOW.add(20.0, "machine-stalled", seconds=0.5),
    "operations were lost from the journal": BASE.without(of("operation", op=40)),
    "a failure was not counted": BASE.changed(of("workload-ended"), failed=1),
    "operations never ended": BASE.changed(of("workload-ended"), offered=160),
    "the workload did not say how it ended": BASE.without(of("workload-ended")),
    "few operations": BASE.without(both(of("operation"), between(12, RESTORE_AT))),
    "a recovery": declared(BASE, mode="recovery"),
    "a recovery with failures in the fault": declared(fails(BASE, lane("cold")), mode="recovery"),
    "a recovery with a failure after its time": declared(
        fails(BASE, of("operation", op=150)), mode="recovery", objectives={"rto_seconds": 10.0}
    ),
    "a recovery that was late": declared(
        BASE.without(of("breaker-moved", new="closed")), mode="recovery", objectives={"rto_seconds": 10.0}
    ),
    "a recovery whose fault was not removed": declared(BASE.without(of("fault-removed")), mode="recovery"),
    # ------------------------------------------------------------------------------------- the target's breaker
    "the breaker never moved": BASE.without(of("breaker-moved")),
    "the breaker never probed": BASE.without(of("breaker-moved", new="half_open")),
    "the breaker stayed open": BASE.without(both(of("breaker-moved"), between(FAULT_OFF, END))),
    "the breaker stayed open in a run cut short": BASE.without(
        both(of("breaker-moved"), between(FAULT_OFF, END))
    ).add(70.0, "interrupted", reason="SIGTERM"),
    "another breaker opened and closed": BASE.add(
        30.0, "breaker-moved", region=SECOND, old="closed", new="open", cause="failures"
    ).add(60.0, "breaker-moved", region=SECOND, old="open", new="closed", cause="probe_succeeded"),
    "another breaker probed": BASE.add(60.0, "breaker-moved", region=SECOND, old="open", new="half_open", cause="x"),
    "the breaker moved before the fault alone": BASE.without(of("breaker-moved")).add(
        3.0, "breaker-moved", region=TARGET, old="closed", new="half_open", cause="x"
    ),
    "two breakers were open when the fault began": BASE.add(
        2.0, "breaker-moved", region=SECOND, old="closed", new="open", cause="slow"
    ).add(2.1, "breaker-moved", region=THIRD, old="closed", new="open", cause="slow"),
    "a breaker had been open before the fault, and closed": BASE.add(
        2.0, "breaker-moved", region=SECOND, old="closed", new="open", cause="slow"
    ).add(4.0, "breaker-moved", region=SECOND, old="half_open", new="closed", cause="probe_succeeded"),
    "no moves are declared": declared(BASE, breaker={"moves": []}),
    "no moves are declared, and another breaker opened": declared(BASE, breaker={"moves": []}).add(
        30.0, "breaker-moved", region=SECOND, old="closed", new="open", cause="failures"
    ),
    "no moves are declared, and the breaker stayed open": declared(
        BASE.without(both(of("breaker-moved"), between(FAULT_OFF, END))), breaker={"moves": []}
    ),
    "the breaker opened as the fault was lifted": BASE.without(of("breaker-moved"))
    .add(50.0, "breaker-moved", region=TARGET, old="closed", new="open", cause="failures")
    .add(51.0, "breaker-moved", region=TARGET, old="open", new="half_open", cause="cooldown_over")
    .add(52.0, "breaker-moved", region=TARGET, old="half_open", new="closed", cause="probe_succeeded"),
    "it must stay closed and moved": declared(BASE, breaker={"moves": [], "stays_closed": True}),
    "it must stay closed and did": declared(
        BASE.without(of("breaker-moved")), breaker={"moves": [], "stays_closed": True}
    ),
    "two regions, one breaker stayed open": two_regions(
        BASE.add(30.0, "breaker-moved", region=SECOND, old="closed", new="open", cause="failures")
    ),
    # ---------------------------------------------------------------------------------------------------- alarms
    "the alarm did not fire": BASE.without(FIRING),
    "the alarm fired too late": moved(BASE, FIRING, FAULT_ON + 71),
    "the alarm could not be read": BASE.changed(FIRING, state="UNREADABLE"),
    "the alarm was never read": BASE.without(of("alarm-state", region=TARGET, mode="drill")),
    "the alarm fired before the fault alone": moved(BASE, FIRING, FAULT_ON - 1),
    "the alarm fired twice": BASE.add(60.0, "alarm-state", **ALARM, region=TARGET, mode="drill", state="ALARM"),
    "the alarm did not clear": BASE.without(both(of("alarm-state", state="OK"), GONE)),
    "the alarm did not clear in a run cut short": BASE.without(both(of("alarm-state", state="OK"), GONE)).add(
        70.0, "interrupted", reason="SIGTERM"
    ),
    "the alarm was not readable any more": BASE.changed(LAST, state="UNREADABLE"),
    "the alarm cleared while the fault was on": BASE.add(
        FAULT_ON + 35, "alarm-state", **ALARM, region=TARGET, mode="drill", state="OK"
    ),
    "the alarm cleared too late": declared(
        BASE, alarms={"must_clear": [{"alarm": "HighErrorRate", "region": "target", "within_seconds": 20.0}]}
    ),
    "the alarm had nothing to clear, and no removal": BASE.without(of("fault-removed")),
    "another region's twin fired": BASE.add(40.0, "alarm-state", **ALARM, region=SECOND, mode="drill", state="ALARM"),
    "live alarms were not read to the end": BASE.without(
        both(of("alarm-state", mode="live"), between(END - 2, END))
    ),
    "a live alarm was read twice, and not to the end": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="OK"
    ).without(of("alarm-state", region=SECOND, mode="live", last=True)),
    "a live alarm was read twice, and had no data in the end": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="OK"
    ).changed(of("alarm-state", region=SECOND, mode="live", last=True), state="INSUFFICIENT_DATA"),
    "a live alarm does not say since when it has been OK": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="OK"
    ),
    "a live alarm was never read": BASE.without(of("alarm-state", region=SECOND, mode="live")),
    "live alarms had no data in the end": BASE.changed(
        of("alarm-state", mode="live", last=True), state="INSUFFICIENT_DATA"
    ),
    "a live alarm could not be read for a while": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE"
    ).changed(of("alarm-state", region=SECOND, mode="live", last=True), since_utc="2026-11-24T03:15:45+00:00"),
    "a live alarm could not be read, and vouches for itself": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE"
    ),
    "a live alarm could not be read, and does not say since when": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE"
    ).changed(of("alarm-state", region=SECOND, mode="live", last=True), since_utc=""),
    "a live alarm could not be read twice": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE"
    )
    .add(32.0, "alarm-state", **{**ALARM, "since_utc": EARLY}, region=SECOND, mode="live", state="OK")
    .add(34.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE")
    .changed(of("alarm-state", region=SECOND, mode="live", last=True), since_utc="2026-11-24T03:15:45+00:00"),
    # -------------------------------------------------------------------------------------------------- restored
    "nothing was made, so nothing is left": BASE.without(
        lambda one: one.event in {"undo-recorded", "restore-verified"}
    ),
    "nobody verified": BASE.without(of("restore-verified")),
    "two proxies were left": BASE.changed(of("restore-verified"), proxies_left=["kmswd.x", "kmswd.y"]),
    "what was left was gone when it was looked at again": BASE.add(
        60.0, "restore-verified", proxies_left=["kmswd.x"], by="drill", finding=""
    ).add(62.0, "restore-verified", proxies_left=["kmswd.x"], by="drill", finding=""),
    "the undo record came after the fault": moved(BASE, of("undo-recorded"), FAULT_ON + 1),
    "an undo record came after the fault too": BASE.add(50.0, "undo-recorded", undo={}),
    "the removal was not recorded": BASE.without(of("fault-removed")),
    "the removal was not recorded in a run cut short": BASE.without(of("fault-removed")).add(
        70.0, "interrupted", reason="SIGTERM"
    ),
    "one of two toxics of its own was left, and looked at once more": BASE.changed(
        of("fault-removed"), toxics_left=["kmswd_blackhole_0_upstream", "somebodys"]
    ).add(49.0, "fault-removed", fault_id="9-x", region=TARGET, toxics_left=[]),
    "somebody's toxic was left, and gone at a later look": BASE.changed(
        of("fault-removed"), toxics_left=["somebodys"]
    ).add(49.0, "fault-removed", fault_id="9-x", region=TARGET, toxics_left=[]),
    "somebody's toxic was left, and gone at an earlier look": BASE.changed(
        of("fault-removed"), toxics_left=["somebodys"]
    ).add(47.0, "fault-removed", fault_id="9-x", region=TARGET, toxics_left=[]),
    "its own toxic was left": BASE.changed(of("fault-removed"), toxics_left=["kmswd_blackhole_0_upstream"]),
    "somebody's toxic was left": BASE.changed(of("fault-removed"), toxics_left=["somebodys"]),
    "the canaries did not come back": BASE.without(both(canary(TARGET), between(FAULT_OFF, END))),
    "a canary came back last": looks(
        BASE, both(canary(TARGET, "general"), between(FAULT_OFF, 61)), outcome="FAILED", error_code="ReadTimeout"
    ),
    "a canary failed again": BASE.add(61.0, "canary-result", result=canary_result(SECOND, "payment", 60.0, hurt=True)),
    "the canaries never failed": looks(
        BASE.without(of("breaker-moved")), canary(TARGET), outcome="OK", reason=None, duration_seconds=0.02
    ),
    "the steady state was back at once": moved(
        looks(BASE.without(of("breaker-moved")), canary(TARGET), outcome="OK", reason=None, duration_seconds=0.02),
        of("fault-removed"), 49.5,
    ),
    "the steady state came back too late": declared(BASE, objectives={"rto_seconds": 3.0}),
    # ---------------------------------------------------------------------------------------------- nothing lost
    "messages were lost": BASE.changed(
        of("messages-checked", when="hold", region=SECOND), opened=21, refused=3, wrong=[40, 3, 17]
    ),
    "a message was lost in two regions": BASE.changed(
        both(of("messages-checked", when="check"), lambda one: one.fields["region"] != TARGET), opened=79, wrong=[17]
    ),
    "nobody opened messages at the end": BASE.without(of("messages-checked", when="check")),
    "not all messages were tried": BASE.changed(of("messages-checked", when="check", region=TARGET), opened=12),
    "one region was not asked to open messages": BASE.without(
        of("messages-checked", when="check", region=TARGET)
    ),
    "nothing was sealed": BASE.changed(of("messages-checked", when="check", region=TARGET), sealed=0, opened=0),
    "no wrong context was offered": BASE.without(of("context-refused", when="hold", region=SECOND)),
    "a wrong context was accepted": BASE.changed(
        of("context-refused", when="hold", region=SECOND, purpose="payment"), error_code="accepted"
    ),
    "a wrong context was not heard": BASE.changed(
        of("context-refused", when="check", region=TARGET), error_code="ReadTimeout"
    ),
    "a wrong context was refused by the core": BASE.changed(
        of("context-refused", when="check", region=TARGET), error_code="MessageError"
    ),
    # -------------------------------------------------------------------------------------------------- reaction
    "the cold lane never asked": BASE.changed(of("operation", lane="cold"), asked=0),
    "the warm lane never hit the cache": BASE.changed(of("operation", lane="warm"), cache_hit=False),
    "everybody stayed at home": at_home(BASE),
    "everybody stayed at home, and may": declared(at_home(BASE), mode="recovery", expect={"failover": "may"}),
    "it may go elsewhere, and did": declared(BASE, expect={"failover": "may"}),
    "it must go elsewhere, seen by operations alone": BASE.without(of("failed-over")),
    "it must go elsewhere, seen by the core's word alone": BASE.changed(of("operation"), region=TARGET),
    "denied": declared(denied(), mode="recovery", expect=DENIED),
    "denied, and went elsewhere": declared(
        denied().add(30.0, "failed-over", **WENT), mode="recovery", expect=DENIED
    ),
    "denied, and went elsewhere before and after": declared(
        denied()
        .add(FAULT_ON - 1, "failed-over", **WENT)
        .add(FAULT_OFF + 1, "failed-over", **WENT),
        mode="recovery", expect=DENIED,
    ),
    "denied, and another region went elsewhere": declared(
        denied().add(
            30.0, "failed-over", **{**WENT, "from_region": SECOND, "to_region": THIRD}
        ),
        mode="recovery", expect=DENIED,
    ),
    "denied, and served": declared(BASE, mode="recovery", expect=DENIED),
    "denied in other words": declared(
        fails(fails(BASE.without(of("failed-over")), lane("cold"), "Nonsense"), of("operation", op=41), "Other"),
        mode="recovery", expect=DENIED,
    ),
    "denied, and not tried": declared(BASE.without(lane("cold")), mode="recovery", expect=DENIED),
    "sometimes served": declared(
        fails(BASE, both(lane("cold"), between(20, 30)), "ReadTimeout"), mode="recovery",
        expect={"cold": "sometimes", "failover": "may", "errors": ["ReadTimeout"]},
    ),
    "sometimes served, and never was": declared(
        fails(BASE, lane("cold"), "ReadTimeout"), mode="recovery",
        expect={"cold": "sometimes", "failover": "may", "errors": ["ReadTimeout"]},
    ),
    "sometimes served, and not tried": declared(
        BASE.without(lane("cold")), mode="recovery",
        expect={"cold": "sometimes", "failover": "may", "errors": ["ReadTimeout"]},
    ),
    "denied, and one failed that had asked another region": declared(
        one_more(denied(), 20.25, ok=False, error="AccessDeniedException"), mode="recovery", expect=DENIED
    ),
    "denied from the first moment on": declared(
        one_more(denied(), FAULT_ON + 0.75, ok=False, error="AccessDeniedException"), mode="recovery", expect=DENIED
    ),
    "denied, and served as the fault began": declared(
        one_more(denied(), FAULT_ON + 0.75, region=TARGET), mode="recovery", expect=DENIED
    ),
    "denied, and served when the fault was known": declared(
        one_more(denied(), FAULT_ON + NOTED_LATE_SECONDS + 0.5, region=TARGET), mode="recovery", expect=DENIED
    ),
    "the cold lane never asked, and may stay at home": declared(
        BASE.changed(of("operation", lane="cold"), asked=0), mode="recovery", expect={"failover": "may"}
    ),
    "sometimes served, and never from the cache": declared(
        BASE.changed(of("operation", lane="warm"), cache_hit=False), mode="recovery",
        expect={"warm": "sometimes", "errors": ["ReadTimeout"]},
    ),
    "a service beside KMS, and KMS was left for another region": service_down().add(20.0, "failed-over", **WENT),
    "a service beside KMS, and KMS must not be left": declared(
        service_down(), expect={"failover": "must_not"}
    ),
    "one failed that must always serve": fails(BASE, of("operation", op=41)),
    # ----------------------------------------------------------------------------------------------- in the dark
    "a cold start": cold_start(),
    "a cold start that failed": cold_start(ok=False, error="NoRegionError", purposes=["general"]),
    "a cold start without one key": cold_start(purposes=["general"]),
    "a cold start that served every key and failed": cold_start(ok=False, error="KmsUnavailableError"),
    "a cold start that took no time": cold_start(seconds=0.0),
    "a cold start that was slow": cold_start(seconds=4.5),
    "a cold start before the fault": cold_start(FAULT_ON + 1),
    "a cold start after the fault": cold_start(FAULT_OFF + 1),
    "a cold start without a fault": cold_start().without(of("fault-injected")),
    "no cold start": declared(BASE, actions=[{"kind": "cold_start"}]),
    "no cold start in a run cut short": declared(BASE, actions=[{"kind": "cold_start"}]).add(
        70.0, "interrupted", reason="SIGTERM"
    ),
    "a key that was revoked": revoked(),
    "a key that was revoked and stopped at once": revoked(FAULT_ON - 0.1),
    "a key that was revoked while an operation was under way": revoked(FAULT_ON),
    "a key that was revoked as an operation began": one_more(revoked(FAULT_ON), 8.5),
    "a key that was revoked and went on": revoked(30.0),
    "a key that was revoked, not tried for long enough": revoked(30.0, cache=60.0),
    "a key that was revoked, without a limit": revoked(cache=None),
    "a key that was revoked, without a fault": revoked().without(of("fault-injected")),
    # -------------------------------------------------------------------------------------------------- to the dot
    "to the dot": exact(),
    "a request was answered from the fault's first instant on": exact(BASE.add(8.5, "attempt", **ATTEMPT)),
    "a request showed the fault from its first instant on": exact(
        BASE.add(8.5, "attempt", **{**ATTEMPT, "error_code": "ReadTimeout"})
    ),
    "a request was answered when the fault was known": exact(
        BASE.add(8.5 + NOTED_LATE_SECONDS, "attempt", **ATTEMPT)
    ),
    "a request was never sent": exact(BASE.add(20.5, "attempt", **{**ATTEMPT, "error_code": UNANSWERED})),
    "an evacuated region was called just before calls had had their time": evacuated().add(
        10.25, "attempt", **{**ATTEMPT, "pinned": False}
    ).add(9.75, "attempt", **{**ATTEMPT, "pinned": False, "seconds": 0.25}),
    "a request was answered to the fault's last instant": exact(BASE.add(47.5, "attempt", **ATTEMPT)),
    "a request was answered after the fault's last instant": exact(BASE.add(47.75, "attempt", **ATTEMPT)),
    "an evacuated region was called when calls had had their time": evacuated().add(
        10.5, "attempt", **{**ATTEMPT, "pinned": False}
    ),
    "an operation began as the fault ended": one_more(exact(), 48.0),
    "an operation ended as the fault began": exact(BASE.without(of("operation", op=16))),
    "slow operations, just so": exact(BASE.changed(both(of("operation"), between(20, 23)), seconds=3.0)),
    "the breaker opened in the fault's last instant": exact(
        moved(BASE.without(of("breaker-moved", cause="probe_failed")), of("breaker-moved", cause="failures"), 47.5)
    ).without(both(of("breaker-moved"), between(10, 20))),
    "just enough operations": BASE.without(both(of("operation"), between(17.6, RESTORE_AT + 1))),
    "one operation less": BASE.without(both(of("operation"), between(17.4, RESTORE_AT + 1))),
    "the steady state returned just in time": of_objectives(
        well_at_52(), rto_seconds=4.0
    ),
    "the alarm fired just in time": exact(moved(BASE, FIRING, 78.0)),
    "the alarm cleared just in time": declared(
        moved(exact(), both(of("alarm-state", region=TARGET, mode="drill"), between(78, 79)), 78.0),
        alarms={"must_clear": [{"alarm": "HighErrorRate", "region": "target", "within_seconds": 30.0}]},
    ),
    "a live alarm vouches for just so long": BASE.add(
        30.0, "alarm-state", **ALARM, region=SECOND, mode="live", state="UNREADABLE"
    ).changed(of("alarm-state", region=SECOND, mode="live", last=True), since_utc="2026-11-24T03:15:30+00:00"),
    "a canary looked as the fault was seen to be gone": looks(
        moved(exact(BASE.without(of("breaker-moved"))), both(canary(TARGET), between(48, 51)), 48.5),
        both(canary(TARGET), between(48, 51)), outcome="OK", reason=None, duration_seconds=0.5,
    ),
    "a recovery, just so": one_more(
        declared(well_at_52(), mode="recovery"), 52.5
    ),
    "a recovery in which the target served at once": one_more(
        declared(exact(), mode="recovery"), 48.5, region=TARGET
    ),
    "served elsewhere from the first instant": one_more(
        exact(BASE.without(of("failed-over")).changed(of("operation"), region=TARGET)), 8.5
    ),
    "denied, and went elsewhere in the first instant": declared(
        exact(denied()).add(8.0, "failed-over", **WENT),
        mode="recovery", expect=DENIED,
    ),
    "denied, and went elsewhere in the last instant": declared(
        exact(denied()).add(47.5, "failed-over", **WENT),
        mode="recovery", expect=DENIED,
    ),
    "denied, and served to the last instant": declared(
        one_more(exact(denied()), 47.5), mode="recovery", expect=DENIED
    ),
    "denied, and served after it": declared(
        one_more(exact(denied()), 47.75), mode="recovery", expect=DENIED
    ),
    "always served, and one failed in the first instant": one_more(exact(), 8.5, ok=False, error="x"),
    "always served, and one failed that began before it": one_more(exact(), 8.25, ok=False, error="x"),
    "a cold start in the first instant": exact(cold_start(10.0)),
    "a cold start to the last instant": exact(cold_start(47.5)),
    "a cold start that was just in time": cold_start(seconds=4.0),
    "a revoked key served for just so long": one_more(revoked(), 23.5),
    "a revoked key tried for just so long": one_more(
        exact(revoked(8.0, cache=39.0)).without(both(of("operation", lane="cold"), between(40, RESTORE_AT))),
        47.5, ok=False, error="DisabledException",
    ),
    "a revoked key tried for long enough after the fault alone": one_more(
        exact(revoked(8.0, cache=39.0)).without(both(of("operation", lane="cold"), between(40, RESTORE_AT))),
        47.75, ok=False, error="DisabledException",
    ),
    "a service beside KMS that answered again": service_down().add(50.0, "service-attempt", **STS).add(
        51.0, "service-attempt", **STS
    ),
    "a service beside KMS that answered as the fault ended": exact(service_down()).add(
        48.25, "service-attempt", **STS
    ),
    "a service beside KMS that answered too early": exact(service_down()).add(48.0, "service-attempt", **STS),
    "a service beside KMS that did not answer again": service_down().add(
        50.0, "service-attempt", **{**STS, "error_code": "ReadTimeout"}
    ),
    # ------------------------------------------------------------------------------------------------- the times
    "operations before the fault took several times": BASE.changed(both(of("operation"), between(4, 8)), seconds=0.05),
    "one operation in the fault": BASE.without(both(of("operation"), between(8.2, RESTORE_AT + 0.1))),
    "no alarm is spoken of": declared(BASE, alarms={"must_fire": [], "must_clear": [], "must_not_fire": []}),
    "two regions, and the alarms of both": two_regions()
    .add(FAULT_ON + 34, "alarm-state", **ALARM, region=SECOND, mode="drill", state="ALARM")
    .add(FAULT_OFF + 31, "alarm-state", **ALARM, region=SECOND, mode="drill", state="OK"),
    "two faults in a row": two_in_a_row(),
    "two faults in a row, the second left on": two_in_a_row().without(
        of("fault-removed", fault_id=f"1-blackhole-{TARGET}")
    ),
    "two faults in a row, the second never on": two_in_a_row().without(
        lambda one: one.fields.get("fault_id") == f"1-blackhole-{TARGET}"
    ),
    "the breaker opened before the fault too": BASE.add(
        3.0, "breaker-moved", region=TARGET, old="closed", new="open", cause="x"
    ).add(4.0, "breaker-moved", region=TARGET, old="open", new="closed", cause="x"),
    "the fault was gone as it was decided": moved(exact(), of("fault-removed"), 47.5),
    "the first that came home failed": one_more(BASE, 49.0, ok=False, error="x", region=TARGET),
    "an alarm was read before it changed, by its own word": BASE.changed(
        FIRING, since_utc="2026-11-24T03:15:41+00:00"
    ),
    "an alarm was read at an odd time": moved(BASE, FIRING, FAULT_ON + 32.0006),
    "a service of another region, and KMS of the target": of_services(
        BASE, {"kind": "blackhole", "service": "sts", "region": SECOND}
    ).add(20.0, "service-attempt", **{**STS, "error_code": "ReadTimeout"}),
    # ----------------------------------------------------------------------------------------------- older journals
    "an old journal does not number its faults": stripped(BASE, "fault_id"),
    "an old journal does not say whom an operation asked": stripped(BASE, "asked"),
    "an old journal does not say what came from the cache": stripped(BASE, "cache_hit"),
    "an old journal names one region": stripped(BASE.changed(of("run-started"), targets=[]), "targets"),
    "an old journal has no phase": BASE.without(of("phase-started", phase="inject")),
    "the phase came after the fault": moved(BASE, of("phase-started", phase="inject"), FAULT_ON + 1.0),
    "a canary failed in the phase, before the fault": moved(
        BASE, of("phase-started", phase="inject"), 7.0
    ).add(7.8, "canary-result", result=canary_result(SECOND, "general", 6.8, hurt=True)),
    "it was healed before the fault": BASE.add(5.0, "healed", by="daemon"),
    # --------------------------------------------------------------------------------------------------- the run
    "cut short": BASE.add(END + 1, "interrupted", reason="SIGTERM"),
    "healed by another": BASE.add(END + 1, "healed", by="daemon"),
    "cut short during the fault": moved(BASE, both(of("phase-started", phase="restore")), 60.0).add(
        40.0, "interrupted", reason="SIGTERM"
    ),
    "without a restore phase": BASE.without(of("phase-started", phase="restore")),
    "without a restore phase or a removal": BASE.without(
        lambda one: one.event == "fault-removed" or one.fields.get("phase") == "restore"
    ),
}  # fmt: skip


def told() -> dict[str, str]:
    """What is said of each case otherwise than of the drill in which all held."""
    return {name: report(story) for name, story in CASES.items()}


@cache
def kept() -> dict[str, str]:
    parts = GOLDEN.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def test_the_golden_file_is_of_these_cases() -> None:
    """None is forgotten, none is left over."""
    if os.environ.get(WRITE):
        text = "\n\n".join(f"## {name}\n{said}" for name, said in told().items())
        GOLDEN.write_text(f"What the judge says otherwise when one thing is changed.\n\n{text}\n", encoding="utf-8")

    assert list(kept()) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name: str) -> None:
    """Verdict, claims with the lines that show them, figures, times, and keys."""
    assert report(CASES[name]) == kept()[name]


def test_a_quantile_is_one_of_the_samples() -> None:
    """The nearest rank: the least at 0, the greatest at 1, none of none."""
    samples = [0.3, 0.1, 0.2]

    assert [quantile(samples, q) for q in (0.0, 0.3, 0.4, 0.67, 1.0)] == [0.1, 0.1, 0.2, 0.3, 0.3]
    assert quantile([], 0.99) is None


def claimed(story: Story, name: str) -> tuple[Verdict, str]:
    return next((one.verdict, one.finding) for one in judged(story).claims if one.name == name)


def test_a_fault_that_the_drill_does_not_order_proves_nothing() -> None:
    """What was put on is none of its own: nobody knows when its own was on, and its breaker had nothing to open for."""
    story = BASE.changed(lambda one: one.event.startswith("fault-"), fault_id=f"9-latency-{TARGET}")

    assert judged(story).verdict is Verdict.INCONCLUSIVE
    assert claimed(story, "breaker-moves") == (Verdict.INCONCLUSIVE, "no fault was injected")
    verdict, finding = claimed(story, "fault-was-real")
    assert verdict is Verdict.INCONCLUSIVE
    assert finding.split("; ") == [
        f"the blackhole of {TARGET} was not injected",
        f"nobody asked {SECOND} during the fault",
        f"nobody asked {THIRD} during the fault",
    ]


@pytest.mark.parametrize(
    ("failed_at", "verdict"),
    [
        pytest.param(INJECT_AT - 0.05, Verdict.INCONCLUSIVE, id="before-the-fault"),
        pytest.param(INJECT_AT + 0.05, Verdict.HELD, id="while-it-is-put-on"),
        pytest.param(FAULT_ON + 0.05, Verdict.HELD, id="while-it-is-on"),
    ],
)
def test_a_service_that_fails_while_its_fault_is_put_on_fails_by_the_fault(failed_at: float, verdict: Verdict) -> None:
    """A fault bites before it is read back: that is no unsteady state before it."""
    story = service_down().add(5.0, "service-attempt", **STS)

    story = story.add(failed_at, "service-attempt", **{**STS, "error_code": "ReadTimeout"})

    assert claimed(story, "steady-state-before")[0] is verdict


def test_the_times_before_the_fault_are_of_operations_that_ended_before_it_was_put_on() -> None:
    """One that the fault held back before it was read back says nothing of how fast it was without it."""
    held_back, slow = (one_more(BASE, INJECT_AT + off, seconds=5.0) for off in (0.05, -0.05))

    assert [judged(one).figures["p99_seconds_before"] for one in (held_back, slow)] == [0.012, 5.0]


def test_a_verdict_is_reached_from_what_came_before_it() -> None:
    """Its lines do not count, nor what follows; the last line that does is named."""
    verdict = BASE.add(END + 1, "verdict", verdict="BROKE", claims={})

    for story in (verdict, verdict.add(END + 2, "interrupted", reason="x"), BASE.add(END + 1, "closed", by="drill")):
        assert judged(story).to_json() == judged(BASE).to_json()
    assert judged(BASE).journal_head == journal_of(BASE).records[-1].hash


@pytest.mark.parametrize(
    ("story", "says"),
    [
        pytest.param(Story(), "does not begin with run-started", id="empty"),
        pytest.param(BASE.without(of("run-started")), "does not begin with run-started", id="no-beginning"),
        pytest.param(stripped(BASE, "drill_file"), "not what this version reads: 'drill_file'", id="no-drill"),
        pytest.param(BASE.changed(of("run-started"), purposes=None), "not what this version reads", id="no-purposes"),
        pytest.param(BASE.changed(of("run-started"), drill_file={}), "not what this version reads", id="no-such-drill"),
    ],
)
def test_what_is_no_journal_of_a_drill_is_refused(story: Story, says: str) -> None:
    """The judge does not guess."""
    with pytest.raises(JournalError, match=says):
        judged(story)
