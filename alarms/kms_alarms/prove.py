"""Prove that alarms reach a subscriber: set one off with SetAlarmState, await its message, and put it back, always.

What is to be undone is on disk before it is done (`kms_watchdog.alarm_proofs`); signals only set an event that every
wait looks at, so nothing interrupts the way back.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from kms_alarms import cloudwatch
from kms_alarms.apply import Owner
from kms_alarms.composite import AlarmRuleError, parse_rule
from kms_alarms.evaluate import AlarmState
from kms_alarms.parts import NoneBecause
from kms_alarms.proof_plan import Known, Plan, Stroke, following, plan, why_not
from kms_alarms.prove_aws import DoorError, Now
from kms_alarms.receipts import Inbox, Receipt
from kms_alarms.table import ALARMS
from kms_core.clock import Clock
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.alarm_proofs import AlarmProof, Forced
from kms_watchdog.config import Settings
from kms_watchdog.drills.verdict import Verdict

MARK = "PROOF"
"""What every reason that a proof gives begins with."""
MAX_REASON = 1023
RESTORE_SECONDS = 120.0
"""So long it is tried to put alarms back."""
_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 15.0
_AGAIN_AT_MOST = 2
"""CloudWatch looks by itself meanwhile: the children of a composite may have been back before it looked."""

Came = Literal["proven", "not told", "not restored", "missing", "refused", "unclear"]


class Alarms(Protocol):
    """A region's alarms; `prove_aws.Door` in production. Each call may raise `DoorError`."""

    region: str

    def alarms(self) -> tuple[Parameters, ...]:
        """Return every alarm of the region."""

    def owner(self, arn: str) -> Owner:
        """Return whose an alarm is."""

    def states(self, names: Iterable[str]) -> dict[str, Now]:
        """Return how those of `names` stand that are there."""

    def set_state(self, name: str, state: AlarmState, reason: str) -> None:
        """Give an alarm a state."""


class Notes(Protocol):
    """What takes the run's records; `alarm_proofs.ProofJournal`."""

    def write(self, event: str, **fields: Any) -> None:
        """Append one, on disk before this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one alarm."""

    alarm: str
    """The table's row."""
    name: str
    region: str
    came: Came
    fired_at_utc: datetime | None = None
    told_after_seconds: float | None = None
    restored: bool | None = None
    """None: it was not touched."""
    finding: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "alarm": self.alarm,
            "name": self.name,
            "region": self.region,
            "outcome": self.came,
            "fired_at_utc": self.fired_at_utc.isoformat() if self.fired_at_utc else None,
            "told_after_seconds": None if self.told_after_seconds is None else round(self.told_after_seconds, 3),
            "restored": self.restored,
            "finding": self.finding,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What is to be done in one region, and what was seen there."""

    region: str
    known: Mapping[str, Known]
    plan: Plan
    outcomes: tuple[Outcome, ...]
    """Of what is missing or refused: nothing more is done about those."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that would speak, by ARN."""
        found = (self.known[name].topic for stroke in self.plan.strokes for name in stroke.all)
        return tuple(dict.fromkeys(topic for topic in found if topic))


def live_alarms(settings: Settings, region: str) -> dict[str, tuple[str, Parameters]]:
    """Return by name the table's row and the parameters of every live alarm that lives in `region`."""
    rows = sorted((row.name for row in ALARMS if not isinstance(row.cloudwatch, NoneBecause)), key=len, reverse=True)
    twins, prefix = f"{settings.cloudwatch.alarm_prefix}-Drill-", f"{settings.cloudwatch.alarm_prefix}-"
    found = {}
    for one in cloudwatch.render(settings, alarm_region=region):
        name = str(one["AlarmName"])
        if not name.startswith(twins):
            rest = name.removeprefix(prefix)
            row = next((row for row in rows if rest == row or rest.startswith(f"{row}-")), "")
            found[name] = (row, one)
    return found


def chosen(live: Mapping[str, tuple[str, Parameters]], asked: Collection[str]) -> tuple[str, ...]:
    """Return those of `live` that `asked` names, by the table's name or CloudWatch's; all, when it names none."""
    return tuple(name for name, (row, _) in live.items() if not asked or name in asked or row in asked)


def look(settings: Settings, door: Alarms, asked: Collection[str]) -> Looked:
    """Return what is to be done in the door's region. Reads only.

    Raises:
        DoorError: the region's alarms cannot be read.
    """
    live = live_alarms(settings, door.region)
    there = {str(one["AlarmName"]): one for one in door.alarms()}
    known = {name: _known(name, one, live.get(name)) for name, one in there.items()}
    names = chosen(live, asked)
    wanted = [name for name in names if name in known]
    first = plan(wanted, known)
    for name in dict.fromkeys(one for stroke in first.strokes for one in stroke.all):
        owner = door.owner(known[name].arn)
        if owner.name and not owner.stack and not known[name].stranger:
            known[name] = replace(known[name], stranger=owner.name)
    final = plan(wanted, known)
    missing = [
        Outcome(alarm=live[name][0], name=name, region=door.region, came="missing", finding="there is no such alarm")
        for name in names
        if name not in known
    ]
    refused = [
        Outcome(alarm=live[one.name][0], name=one.name, region=door.region, came="refused", finding=one.why)
        for one in final.refused
    ]
    return Looked(region=door.region, known=known, plan=final, outcomes=(*missing, *refused))


def _known(name: str, there: Parameters, ours: tuple[str, Parameters] | None) -> Known:
    arn = str(there["AlarmArn"])
    rule = None
    if "AlarmRule" in there:
        try:
            rule = parse_rule(str(there["AlarmRule"]).replace(arn.removesuffix(name), ""))  # by name, whoever says ARN
        except AlarmRuleError:
            rule = parse_rule("FALSE")  # it cannot be told when it fires: nothing makes it
    return Known(
        name=name,
        arn=arn,
        row=ours[0] if ours else "",
        state=AlarmState(there["StateValue"]),
        reason=str(there.get("StateReason", "")),
        topic=str(ours[1]["AlarmActions"][0]) if ours else "",
        rule=rule,
        stranger="" if ours else "somebody else",
    )


def _now(known: Known, there: Parameters) -> Known:
    """Return an alarm as it stands by now."""
    return replace(known, state=AlarmState(there["StateValue"]), reason=str(there.get("StateReason", "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a run proves."""

    by: str
    """ARN of who does it."""
    run_id: str
    mark: str
    """What the reasons of this run begin with, and no other's."""
    told_within_seconds: float


class Prover:
    """Does the strokes of one run, one after the other."""

    def __init__(self, terms: Terms, inbox: Inbox, notes: Notes, clock: Clock, stop: threading.Event) -> None:
        """`stop`: once it is set, the stroke under way is put back, and no other is begun."""
        self._terms, self._inbox, self._notes = terms, inbox, notes
        self._clock, self._stop, self._never = clock, stop, threading.Event()

    def prove(self, door: Alarms, looked: Looked, silent: Collection[str]) -> Iterator[Outcome]:
        """Do what was planned for a region, and yield what became of each alarm, those that followed too.

        `silent`: topics at which nobody listens but this proof.
        """
        for stroke in looked.plan.strokes:
            if self._stop.is_set():
                yield from self._untouched(stroke, looked, "unclear", "it was interrupted before")
                continue
            yield from self._prove_one(door, stroke, looked, silent)

    def _untouched(self, stroke: Stroke, looked: Looked, came: Came, finding: str) -> Iterator[Outcome]:
        for name in stroke.all:
            row = looked.known[name].row
            yield Outcome(alarm=row, name=name, region=looked.region, came=came, finding=finding)

    def _prove_one(self, door: Alarms, stroke: Stroke, looked: Looked, silent: Collection[str]) -> Iterator[Outcome]:
        """Look once more, for minutes may have gone by: what fires by now would make others fire with it."""
        try:
            there = {str(one["AlarmName"]): one for one in door.alarms()}
        except DoorError as e:
            yield from self._untouched(stroke, looked, "unclear", str(e))
            return
        fresh = replace(
            looked, known={name: _now(known, there[name]) for name, known in looked.known.items() if name in there}
        )
        if gone := [name for name in stroke.all if name not in there]:
            yield from self._untouched(stroke, looked, "missing", f"{gone[0]} is gone")
            return
        again = Stroke(forced=stroke.forced, follow=tuple(following(stroke.forced, fresh.known)))
        if why := why_not(stroke.forced[0], again, fresh.known):
            yield from self._untouched(stroke, looked, "refused", why)
            return
        left = Stroke(forced=(), follow=tuple(name for name in stroke.follow if name not in again.follow))
        yield from self._untouched(left, looked, "refused", "it is in ALARM now")
        yield from self._set_off(door, again, fresh, silent)

    def _set_off(self, door: Alarms, stroke: Stroke, looked: Looked, silent: Collection[str]) -> Iterator[Outcome]:
        before = looked.known
        forced = [
            Forced(
                name=name,
                region=looked.region,
                proof=self._terms.mark,
                state=str(before[name].state),
                reason=before[name].reason,
            )
            for name in stroke.forced
        ]
        for one in forced:
            self._notes.write("alarm-forced", **{name: getattr(one, name) for name in Forced.__slots__})
        mark, fired_at_utc, fired = self._inbox.mark(), self._clock.now_utc(), self._clock.monotonic()
        told: dict[str, Receipt] = {}
        trouble = ""
        try:
            self._force(door, stroke.forced, before)
            told = self._await(door, stroke, looked, mark)
        except DoorError as e:
            trouble = str(e)
        finally:
            back = restore(door, forced, stroke.follow, self._clock)
        for name in stroke.all:
            came, finding = _judged(looked.known[name], told.get(name), back.get(name), silent, trouble)
            if came == "not told" and self._stop.is_set():
                came, finding = "unclear", "it was interrupted"
            receipt, there = told.get(name), back.get(name)
            outcome = Outcome(
                alarm=looked.known[name].row,
                name=name,
                region=looked.region,
                came=came,
                fired_at_utc=fired_at_utc,
                told_after_seconds=receipt.at - fired if receipt else None,
                restored=there is not None,
                finding=finding,
            )
            self._note(outcome, receipt if came != "not told" else None, there)
            yield outcome

    def _force(self, door: Alarms, names: Iterable[str], before: Mapping[str, Known]) -> None:
        for name in names:
            door.set_state(name, AlarmState.ALARM, self._reason(before[name].state))

    def _reason(self, state: AlarmState) -> str:
        text = (
            f"{self._terms.mark} by {self._terms.by}: nothing is wrong. kms-alarms prove has set this alarm off, to "
            f"see that it reaches its subscribers; it was {state}, and is put back."
        )
        return text[:MAX_REASON]

    def _await(self, door: Alarms, stroke: Stroke, looked: Looked, mark: int) -> dict[str, Receipt]:
        """Return by name what arrived in time."""
        told: dict[str, Receipt] = {}
        began = self._clock.monotonic()
        again, tries = began + _AGAIN_SECONDS, 0
        while True:
            for receipt in self._inbox.since(mark):
                for name in stroke.all:
                    if name not in told and self._is_of(receipt, looked.known[name]):
                        told[name] = receipt
            now = self._clock.monotonic()
            if len(told) == len(stroke.all) or now > began + self._terms.told_within_seconds:
                return told
            if now > again and tries < _AGAIN_AT_MOST and any(name not in told for name in stroke.follow):
                again, tries = now + _AGAIN_SECONDS, tries + 1
                states = door.states(stroke.forced)  # one that fires by itself by now is not ours to set
                fell = [name for name, one in states.items() if one.state is not AlarmState.ALARM]
                self._force(door, fell, looked.known)
            if self._clock.wait(self._stop, _LOOK_SECONDS):
                return told

    def _is_of(self, receipt: Receipt, alarm: Known) -> bool:
        """Return whether `receipt` tells of this stroke: a composite's reason is CloudWatch's own."""
        ours = alarm.rule is not None or receipt.reason.startswith(self._terms.mark)
        return ours and (receipt.topic, receipt.alarm, receipt.state) == (alarm.topic, alarm.arn, AlarmState.ALARM)

    def _note(self, outcome: Outcome, receipt: Receipt | None, restored: Back | None) -> None:
        if outcome.fired_at_utc is None or not outcome.alarm:
            return
        proof = AlarmProof(
            alarm=outcome.alarm,
            name=outcome.name,
            region=outcome.region,
            by=self._terms.by,
            run_id=self._terms.run_id,
            fired_at_utc=outcome.fired_at_utc,
            told_at_utc=receipt.at_utc if receipt else None,
            restored_at_utc=restored.at_utc if restored else None,
            finding=outcome.finding,
        )
        if restored:
            self._notes.write("alarm-restored", name=outcome.name, region=outcome.region, state=str(restored.state))
        self._notes.write("alarm-proved", **proof.to_fields())


def _judged(
    alarm: Known, receipt: Receipt | None, back: Back | None, silent: Collection[str], trouble: str
) -> tuple[Came, str]:
    """Return what became of an alarm, and what is wrong, in words."""
    if back is None:
        by_hand = f"aws cloudwatch set-alarm-state --alarm-name {alarm.name} --state-value {alarm.state}"
        return "not restored", f"it is not as it was; by hand: {by_hand} --state-reason proof"
    if receipt is None:
        return ("unclear", trouble) if trouble else ("not told", f"{_name(alarm.topic)} told nobody in time")
    if alarm.topic in silent:
        return "not told", f"nobody listens at {_name(alarm.topic)} but this proof"
    return "proven", back.finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """An alarm that was seen to be as before, or as CloudWatch itself would have it."""

    at_utc: datetime
    state: AlarmState
    finding: str = ""


def restore(door: Alarms, forced: Sequence[Forced], follow: Collection[str], clock: Clock) -> dict[str, Back]:
    """Put `forced` back, see that they are, and that `follow` have followed; return those that are, by name.

    An alarm that told its subscribers of ALARM is OK first, so that they are told of the end too; then it is what it
    was. What CloudWatch has set meanwhile, by looking itself, stands: that is the truth. Signals do not end this.
    """
    back: dict[str, Back] = {}
    never, until = threading.Event(), clock.monotonic() + RESTORE_SECONDS
    while True:
        with suppress(DoorError):  # it is tried again until the time is up; who is not back then is told by name
            _restore_once(door, [one for one in forced if one.name not in back], follow, clock, back)
        if len(back) == len(forced) + len(follow) or clock.monotonic() > until:
            return back
        clock.wait(never, _LOOK_SECONDS)


def _restore_once(
    door: Alarms, forced: Sequence[Forced], follow: Collection[str], clock: Clock, back: dict[str, Back]
) -> None:
    left = [*(one.name for one in forced), *(name for name in follow if name not in back)]
    states = door.states(left)
    for one in forced:
        now = states.get(one.name)
        following = next_state(one, now)
        if following is None:
            state = now.state if now else AlarmState(one.state)
            real = now is not None and state is AlarmState.ALARM
            finding = "it fires by itself now, and was left so" if real else "" if now else "it was deleted meanwhile"
            back[one.name] = Back(at_utc=clock.now_utc(), state=state, finding=finding)
            continue
        reason = f"{one.proof} is over: the alarm is as it was. Before: {one.reason}"
        door.set_state(one.name, following, reason[:MAX_REASON])
    for name in follow:
        now = states.get(name)
        if name not in back and (now is None or now.state is not AlarmState.ALARM):
            back[name] = Back(at_utc=clock.now_utc(), state=now.state if now else AlarmState.OK)


def next_state(one: Forced, now: Now | None) -> AlarmState | None:
    """Return what a forced alarm must be set to next; None: nothing more is to be done. Pure."""
    if now is None or str(now.state) == one.state or not now.reason.startswith(one.proof):
        return None
    return AlarmState.OK if now.state is AlarmState.ALARM else AlarmState(one.state)


def verdict(outcomes: Iterable[Outcome]) -> Verdict:
    """Return what a run comes to: HELD if all were proven, BROKE if one was not told or is not back. Pure."""
    came = {one.came for one in outcomes}
    if came & {"not told", "not restored", "missing"}:
        return Verdict.BROKE
    return Verdict.HELD if came == {"proven"} else Verdict.INCONCLUSIVE


def once_each(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Return one outcome for each alarm: a composite follows each of those it rests on; the worse one. Pure."""
    found: dict[tuple[str, str], Outcome] = {}
    for one in outcomes:
        before = found.setdefault((one.region, one.name), one)
        if before.came == "proven" != one.came:
            found[one.region, one.name] = one
    return tuple(found.values())


def heal(doors: Mapping[str, Alarms], left: Iterable[Forced], clock: Clock) -> tuple[tuple[Forced, ...], bool]:
    """Put back what a run left that was killed; return what still was as that had left it, and whether all is back.

    What lies in a region without a door is not looked at, and is not back.
    """
    found, all_back = [], True
    for one in left:
        door = doors.get(one.region)
        if door is None:
            all_back = False
            continue
        try:
            now = door.states([one.name]).get(one.name)
        except DoorError:
            all_back = False
            continue
        if next_state(one, now) is not None:
            found.append(one)
            all_back &= one.name in restore(door, [one], (), clock)
    return tuple(found), all_back


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
