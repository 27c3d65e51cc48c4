"""Would somebody be woken: are this region's alarms there and on, and do they reach a person?

CloudWatch never checks what an alarm's action leads to (monitoring.md §5.4), and says nothing when it leads nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog import alarm_definitions
from kms_watchdog.alarm_definitions import DefinitionsError, Parameters, changes
from kms_watchdog.alarm_services import AlarmServices
from kms_watchdog.aws import AwsError
from kms_watchdog.canaries.finding import Finding, answer, failed, past
from kms_watchdog.canaries.reading import from_aws_error
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.estate.policy import PolicyError
from kms_watchdog.estate.topic_policy import why_refused
from kms_watchdog.results import CanaryResult, Fact, Kind, Outcome, Reason

GRAVITY = (
    Reason.ALARM_MISSING,
    Reason.ALARM_DIFFERS,
    Reason.TOPIC_MISSING,
    Reason.TOPIC_REFUSES,
    Reason.NO_SUBSCRIBER,
)
"""The gravest first: what is wrong with the alarms leaves nothing for the topics to tell."""
NAMED = 5
"""So many are named for each reason; the rest is counted."""

T = TypeVar("T")
Wrong = tuple[Reason, str]
"""What is wrong, and with what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics that a region's alarms speak to, by ARN."""

    all: tuple[str, ...]
    to_people: tuple[str, ...]
    """Those that need a confirmed subscriber; the drills' topic may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPath:
    """Look at one region's alarms, the topics they speak to, and who listens there.

    Steps: `alarms`, `topics`, `subscribers`.
    Facts: `alarms` (how many there are under the prefix, composite ones too), `definitions_compared` (whether they were
    compared with the rendered ones; if not, that they are there, on and lead somewhere is all that was looked at).
    Not looked at: the policy of a customer's key that a topic is encrypted under; what subscribers do.
    """

    region: str
    services: AlarmServices = field(repr=False, compare=False)
    prefix: str
    """What the names of our alarms begin with."""
    topics: Topics
    watched_keys: frozenset[str] = frozenset()
    """Ids and aliases of the estate's keys: an alarm must not need what it tells about."""
    definitions: Path | None = None
    """The file of rendered alarms, read at every look; None: they are not compared."""
    deadline_seconds: float = 10.0
    purpose: str = field(default="", init=False)

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.ALARM_PATH

    def run(self, core: Core, clock: Clock) -> CanaryResult:  # noqa: ARG002  no key is used here
        """Ask once: what is wrong is FAILED; what could not be seen is BLIND, if nothing else is wrong."""
        steps = Steps(clock)
        seen = self._see(steps)
        judged = self.judge(seen)
        steps.current = ""  # everything is looked at, and what is wrong names its own place
        return answer(self, steps, _finding(judged), _facts(seen))

    def judge(self, seen: Seen) -> Judged:
        """Return what is wrong with what was seen, and what could not be seen. Pure."""
        judged = Judged(unseen=list(seen.unseen))
        if seen.alarms is not None:
            judged.wrong += wrong_with_alarms(seen.alarms, seen.wanted, prefix=self.prefix)
        for arn, attributes in seen.topics.items():
            try:
                judged.wrong += self._wrong_with_topic(arn, attributes, seen.alarms or ())
            except PolicyError as e:
                detail = f"policy of {_name(arn)}: {e}"
                judged.unseen.append(Finding(Outcome.BLIND, Reason.UNREADABLE, detail=detail))
        judged.wrong += [(Reason.NO_SUBSCRIBER, _name(arn)) for arn, count in seen.subscribers.items() if count == 0]
        return judged

    def _wrong_with_topic(
        self, arn: str, attributes: Mapping[str, str] | None, alarms: Iterable[Parameters]
    ) -> Iterator[Wrong]:
        if attributes is None:
            yield Reason.TOPIC_MISSING, _name(arn)
            return
        speaking = [alarm["AlarmArn"] for alarm in alarms if arn in alarm.get("AlarmActions", ())]
        _, partition, _, _, account_id, _ = arn.split(":", 5)
        for alarm_arn in speaking or [f"arn:{partition}:cloudwatch:{self.region}:{account_id}:alarm:{self.prefix}"]:
            why = why_refused(attributes, topic_arn=arn, alarm_arn=alarm_arn, watched_keys=self.watched_keys)
            if why:
                yield Reason.TOPIC_REFUSES, f"{_name(arn)}: {why}"
                return

    def _see(self, steps: Steps) -> Seen:
        unseen: list[Finding] = []
        with steps.step("alarms"):
            alarms = self._ask_each([self.prefix], self.services.alarms, steps, unseen).get(self.prefix)
        with steps.step("topics"):
            topics = self._ask_each(self.topics.all, self.services.topic, steps, unseen)
        with steps.step("subscribers"):
            there = [arn for arn in self.topics.to_people if topics.get(arn) is not None]
            subscribers = self._ask_each(there, self.services.confirmed_subscribers, steps, unseen)
        return Seen(
            alarms=alarms,
            wanted=self._definitions(unseen),
            topics=topics,
            subscribers=subscribers,
            unseen=tuple(unseen),
        )

    def _ask_each(
        self, names: Iterable[str], ask: Callable[[str], T], steps: Steps, unseen: list[Finding]
    ) -> dict[str, T]:
        """Return the answers by name; what gave none, and what there was no time for, is noted in `unseen`."""
        found = {}
        for name in names:
            if steps.elapsed_seconds() > self.deadline_seconds:
                unseen.append(past(self.deadline_seconds, Outcome.BLIND))
                break
            try:
                found[name] = ask(name)
            except AwsError as e:
                meant = from_aws_error(e)
                unseen.append(replace(meant, detail=f"{_name(name)}: {meant.detail}"))
        return found

    def _definitions(self, unseen: list[Finding]) -> tuple[Parameters, ...] | None:
        if self.definitions is None:
            return None
        try:
            return alarm_definitions.read(self.definitions)
        except DefinitionsError as e:
            unseen.append(Finding(Outcome.BLIND, Reason.UNREADABLE, detail=str(e)))
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look has seen."""

    alarms: tuple[Parameters, ...] | None
    """None: could not be seen."""
    wanted: tuple[Parameters, ...] | None
    """As rendered; None: there is nothing to compare with."""
    topics: Mapping[str, Mapping[str, str] | None]
    """Attributes by ARN, of those that could be seen; None: there is no such topic."""
    subscribers: Mapping[str, int]
    """Confirmed ones by ARN of the topic, of those that are there and could be seen."""
    unseen: tuple[Finding, ...] = ()
    """Why the rest was not."""


@dataclass(slots=True, kw_only=True)
class Judged:
    """What one look comes to."""

    wrong: list[Wrong] = field(default_factory=list)
    unseen: list[Finding] = field(default_factory=list)


def wrong_with_alarms(
    present: Sequence[Parameters], wanted: Sequence[Parameters] | None, *, prefix: str
) -> Iterator[Wrong]:
    """Return what is wrong with the alarms that are there. Pure.

    Args:
        present: all that carry the prefix.
        wanted: as rendered; None: every alarm that is there is taken to be as it should, if it acts on somebody.
        prefix: names what is missing when there are none at all.
    """
    if not present and not wanted:
        yield Reason.ALARM_MISSING, f"{prefix}*"
    off = {alarm["AlarmName"] for alarm in present if not alarm.get("ActionsEnabled", False)}
    off -= {alarm["AlarmName"] for alarm in wanted or () if not alarm.get("ActionsEnabled", True)}
    yield from ((Reason.ALARM_DIFFERS, f"{name} (its actions are off)") for name in sorted(off))
    if wanted is None:
        yield from ((Reason.ALARM_DIFFERS, f"{name} (tells nobody)") for name in _silent(present))
        return
    for change in changes(wanted, present):
        if not change.differs:
            yield Reason.ALARM_MISSING, change.name
        elif differs := [name for name in change.differs if name != "ActionsEnabled" or change.name not in off]:
            yield Reason.ALARM_DIFFERS, f"{change.name} ({', '.join(differs)})"


def _silent(present: Sequence[Parameters]) -> Iterator[str]:
    """Return the alarms that act on nobody and are in no composite alarm's rule, which would act for them."""
    rules = [alarm["AlarmRule"] for alarm in present if "AlarmRule" in alarm]
    for alarm in present:
        if not alarm.get("AlarmActions") and not any(_is_in(rule, alarm["AlarmName"]) for rule in rules):
            yield alarm["AlarmName"]


def _is_in(rule: str, name: str) -> bool:
    """Return whether a composite alarm's rule names this alarm, and not one whose name only begins or ends like it."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", rule) is not None


def _finding(judged: Judged) -> Finding:
    if not judged.wrong:
        return judged.unseen[0] if judged.unseen else Finding()
    gravest = min((reason for reason, _ in judged.wrong), key=GRAVITY.index)
    unseen = [f"not seen: {one.detail}" for one in judged.unseen[:1]]
    return failed(gravest, detail="; ".join([*_in_words(judged.wrong), *unseen]))


def _in_words(wrong: Iterable[Wrong]) -> Iterator[str]:
    """Return a phrase for each reason, the gravest first: `alarm_missing: A, B`."""
    by_reason: dict[Reason, list[str]] = {}
    for reason, what in wrong:
        by_reason.setdefault(reason, []).append(what)
    for reason in sorted(by_reason, key=GRAVITY.index):
        named, more = by_reason[reason][:NAMED], len(by_reason[reason]) - NAMED
        yield f"{reason}: {', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def _facts(seen: Seen) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"definitions_compared": seen.alarms is not None and seen.wanted is not None}
    if seen.alarms is not None:
        facts["alarms"] = float(len(seen.alarms))
    return facts


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
