"""A made-up drill, line by line, for tests: of the judge, of reports, and of whoever reads journals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kms_chaos.drill import Drill, find
from kms_chaos.faults.plans import bite, ordered
from kms_chaos.undo_record import proxy_name
from kms_watchdog.drills.journal import GENESIS, Journal, line, parse_all
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
PURPOSES = ("general", "payment")
TARGET = REGIONS[0]
RUN_ID = "20261124T031500Z-region-blackhole"
STARTED = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
FAULT_ON, RESTORE_AT, FAULT_OFF, WELL_AT, END = 8.0, 48.0, 48.1, 55.0, 85.0
"""Seconds of the made-up drill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that is yet to be chained."""

    t: float
    event: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """Lines in any order; a journal has them in order of time."""

    lines: tuple[Line, ...] = ()

    def add(self, t: float, event: str, **fields: Any) -> Story:
        """Return the story with one line more."""
        return Story((*self.lines, Line(t=t, event=event, fields=fields)))

    def without(self, which: Callable[[Line], bool]) -> Story:
        """Return the story without the lines that `which` names."""
        return Story(tuple(one for one in self.lines if not which(one)))

    def changed(self, which: Callable[[Line], bool], **fields: Any) -> Story:
        """Return the story with fields of the lines that `which` names changed."""
        return Story(tuple(replace(one, fields={**one.fields, **fields}) if which(one) else one for one in self.lines))

    def raw(self) -> bytes:
        """Return the journal's bytes."""
        chained, prev = [], GENESIS
        for seq, one in enumerate(sorted(self.lines, key=lambda one: one.t)):
            at = STARTED + timedelta(seconds=one.t)
            text, prev = line(seq=seq, at_utc=at, t=one.t, event=one.event, fields=one.fields, prev=prev)
            chained.append(text)
        return b"".join(chained)

    def journal(self) -> Journal:
        """Return the journal."""
        return parse_all(self.raw())


def of(event: str, **fields: Any) -> Callable[[Line], bool]:
    """Return what names the lines of `event` with these fields."""
    return lambda one: one.event == event and all(one.fields.get(k) == v for k, v in fields.items())


def drill() -> Drill:
    """Return the drill that the story is of."""
    return find("region-blackhole")


def held_story() -> Story:
    """Return a drill in which everything was seen to hold, up to the judging."""
    story = Story().add(
        0.0,
        "run-started",
        drill="region-blackhole",
        target="primary",
        region=TARGET,
        regions=list(REGIONS),
        purposes=list(PURPOSES),
        drill_file=drill().model_dump(mode="json"),
        run_id=RUN_ID,
        versions={"kms-watchdog": "0.1.0"},
    )
    for number, guard in enumerate(("nothing-left-over", "route-verified", "daemon-watches", "alarms-quiet")):
        story = story.add(0.1 + number / 100, "guard-checked", guard=guard, held=True, detail="seen")
    for part in (_fault, _phases, _attempts, _operations, _canaries, _breakers, _alarms, _messages):
        story = part(story)
    return story


def _phases(story: Story) -> Story:
    phases = {"baseline": 0.5, "inject": 7.9, "hold": 10.1, "restore": RESTORE_AT, "recover": 48.2, "check": 82.0}
    for phase, t in phases.items():
        story = story.add(t, "phase-started", phase=phase)
    return story


def _fault(story: Story) -> Story:
    name = proxy_name(RUN_ID, TARGET)
    order = ordered(drill().faults, (TARGET,), REGIONS)[0]
    toxics = [toxic.to_json() for toxic in order.toxics]
    which = {"fault_id": order.id, "fault": order.kind, "region": TARGET, "proxy": name}
    proxies = [{"name": proxy_name(RUN_ID, region)} for region in REGIONS]
    undo = {"expires_at_utc": (STARTED + timedelta(seconds=150)).isoformat(), "proxies": proxies}
    return (
        story.add(0.3, "undo-recorded", undo=undo)
        .add(FAULT_ON, "fault-injected", **which, toxics=toxics, enabled=True, bite=bite(order.plan).to_json())
        .add(FAULT_OFF, "fault-removed", **which, by="drill", enabled=True, toxics_left=[])
        .add(END, "restore-verified", proxies_left=[], by="drill", finding="read back from the server")
    )


def _attempts(story: Story) -> Story:
    for second in range(1, int(END) - 3):
        for region in REGIONS:
            hurt = region == TARGET and FAULT_ON < second <= RESTORE_AT + 1
            story = story.add(
                second + 0.001,
                "attempt",
                region=region,
                operation="GenerateDataKey",
                purpose="general",
                seconds=0.9 if hurt else 0.01,
                error_code="ReadTimeout" if hurt else "",
                request_id="" if hurt else "made-up",
                pinned=True,
                proxy=proxy_name(RUN_ID, region),
            )
    return story


def _operations(story: Story) -> Story:
    operations = 0
    for number in range(4, 160):
        t = number / 2
        lane = ("warm", "cold")[number % 2]
        slow = FAULT_ON < t < FAULT_ON + 1.5
        home = t < FAULT_ON or t > WELL_AT
        story = story.add(
            t,
            "operation",
            op=number,
            lane=lane,
            operation=("encrypt", "decrypt")[number // 2 % 2],
            purpose=PURPOSES[number % 2],
            ok=True,
            seconds=2.1 if slow and lane == "cold" else 0.012 if lane == "cold" else 0.001,
            region=TARGET if home else REGIONS[1],
            asked=1 if lane == "cold" else 0,
            cache_hit=lane == "warm",
            error="",
            message=number,
        )
        operations += 1
    story = story.add(82.1, "workload-ended", offered=operations, operations=operations, failed=0)
    over = {"from_region": TARGET, "to_region": REGIONS[1], "operation": "GenerateDataKey", "purpose": "general"}
    return story.add(FAULT_ON + 2.2, "failed-over", **over)


def _canaries(story: Story) -> Story:
    for second in range(2, int(END) - 3, 2):
        for region in REGIONS:
            for purpose in PURPOSES:
                hurt = region == TARGET and FAULT_ON < second < RESTORE_AT + 2
                story = story.add(
                    second + 0.02, "canary-result", result=canary_result(region, purpose, second, hurt=hurt)
                )
    return story


def canary_result(region: str, purpose: str, second: float, *, hurt: bool) -> dict[str, Any]:
    """Return a canary's result as journals hold it."""
    return CanaryResult(
        canary="round_trip",
        region=region,
        key=purpose,
        mode=Mode.DRILL,
        outcome=Outcome.FAILED if hurt else Outcome.OK,
        reason=Reason.TIMEOUT if hurt else None,
        error_code="ReadTimeout" if hurt else "",
        started_at_utc=STARTED + timedelta(seconds=second),
        duration_seconds=1.0 if hurt else 0.02,
        run_id=RUN_ID,
    ).to_json()


def _breakers(story: Story) -> Story:
    moves = (
        (FAULT_ON + 3, "closed", "open", "failures"),
        (FAULT_ON + 9, "open", "half_open", "cooldown_over"),
        (FAULT_ON + 11, "half_open", "open", "probe_failed"),
        (FAULT_OFF + 4, "open", "half_open", "cooldown_over"),
        (FAULT_OFF + 4.1, "half_open", "closed", "probe_succeeded"),
    )
    for t, old, new, cause in moves:
        story = story.add(t, "breaker-moved", region=TARGET, old=old, new=new, cause=cause)
    return story


def _alarms(story: Story) -> Story:
    for mode, region in _alarm_names():
        story = _alarm(story, 0.4, region, mode, "OK")
        if (mode, region) == ("drill", TARGET):
            story = _alarm(story, FAULT_ON + 32, region, mode, "ALARM", since=FAULT_ON + 31)
            story = _alarm(story, FAULT_OFF + 30, region, mode, "OK", since=FAULT_OFF + 29)
        story = _alarm(story, END - 1, region, mode, "OK", last=True)
    return story


def _alarm_names() -> Iterable[tuple[str, str]]:
    return ((mode, region) for mode in ("drill", "live") for region in REGIONS)


def _alarm(
    story: Story, t: float, region: str, mode: str, state: str, *, since: float = -60.0, last: bool = False
) -> Story:
    return story.add(
        t,
        "alarm-state",
        alarm="HighErrorRate",
        region=region,
        mode=mode,
        state=state,
        since_utc=(STARTED + timedelta(seconds=since)).isoformat(),
        reason="made up",
        last=last,
    )


def _messages(story: Story) -> Story:
    for when, t, regions, sealed in (
        ("baseline", 7.5, REGIONS, 8),
        ("hold", 20.0, REGIONS[1:], 24),
        ("check", 83.0, REGIONS, 80),
    ):
        for region in regions:
            story = story.add(
                t, "messages-checked", when=when, region=region, sealed=sealed, opened=sealed, refused=0, wrong=[]
            )
            for purpose in PURPOSES:
                story = story.add(
                    t + 0.1,
                    "context-refused",
                    when=when,
                    region=region,
                    purpose=purpose,
                    error_code="InvalidCiphertextException",
                    request_id="made-up",
                )
    return story
