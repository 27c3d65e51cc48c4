"""Which alarms are set off together to be proven, and which must not be set off now. Pure.

A composite alarm is not set off itself, for it may not come back by itself from that: its children are, and it must
follow. So that nobody is told of something else than the proof, nothing is set off that would make a composite fire
for more reasons than the proof, or one that is somebody else's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kms_alarms.composite import Rule
from kms_alarms.evaluate import AlarmState

MOST_CHILDREN = 3
"""So many alarms are set off together at the most to make a composite one follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One alarm as it stands in CloudWatch."""

    name: str
    arn: str
    row: str = ""
    """The table's row; empty: the table has no such alarm."""
    state: AlarmState
    reason: str = ""
    topic: str = ""
    """ARN of the topic that it is rendered to speak to."""
    rule: Rule | None = None
    """Of a composite alarm; it names alarms by name."""
    stranger: str = ""
    """Whose it is, if it is not ours; empty: ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """Alarms that are set off together, and the composites that follow."""

    forced: tuple[str, ...]
    follow: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that tells of it."""
        return (*self.forced, *self.follow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One alarm that is not proven now, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done in one region."""

    strokes: tuple[Stroke, ...]
    refused: tuple[Refused, ...]


def plan(wanted: Collection[str], known: Mapping[str, Known]) -> Plan:
    """Return how `wanted` are proven, composites first, as these prove their children too.

    Args:
        wanted: names of alarms, all of them in `known`.
        known: every alarm that is ours, and every composite that rests on one of them, by name.
    """
    strokes: list[Stroke] = []
    refused = []
    covered: set[str] = set()
    composites = [(name, children_of(known[name])) for name in wanted if known[name].rule is not None]
    composites.sort(key=lambda one: -len(one[1]))
    for name, children in (*composites, *((name, (name,)) for name in wanted if known[name].rule is None)):
        if name in covered:
            continue
        stroke = Stroke(forced=children, follow=tuple(following(children, known)))
        if why := why_not(name, stroke, known):
            refused.append(Refused(name=name, why=why))
            continue
        strokes.append(stroke)
        covered.update(stroke.all)
    return Plan(strokes=tuple(strokes), refused=tuple(refused))


def children_of(composite: Known) -> tuple[str, ...]:
    """Return the fewest alarms that make `composite` fire; none: more than `MOST_CHILDREN`, or not by firing."""
    rule = composite.rule
    if rule is None or rule.holds(_states(())):
        return ()
    for number in range(1, MOST_CHILDREN + 1):
        for some in itertools.combinations(dict.fromkeys(rule.alarms), number):
            if rule.holds(_states(some)):
                return some
    return ()


def following(forced: Collection[str], known: Mapping[str, Known]) -> Iterator[str]:
    """Yield the composites that go into ALARM when `forced` do and all else stays as it is."""
    firing = {one.name for one in known.values() if one.state is AlarmState.ALARM} | set(forced)
    for _ in known:  # composites may rest on composites: round and round until nothing more fires
        more = [one.name for one in _composites(known) if one.name not in firing and _holds(one, firing)]
        if not more:
            return
        firing |= set(more)
        yield from more


def why_not(name: str, stroke: Stroke, known: Mapping[str, Known]) -> str:
    """Return why `stroke` must not be done to prove `name` now; empty: it may be."""
    if not stroke.forced:
        return f"it cannot be made to fire by {MOST_CHILDREN} of the alarms that it rests on"
    whys = (
        *(_why_not_now(name, one, known.get(one)) for one in dict.fromkeys((name, *stroke.forced))),
        *(_why_not_follow(name, known[one], stroke) for one in stroke.follow),
    )
    return next((why for why in whys if why), "")


def _why_not_now(name: str, one: str, found: Known | None) -> str:
    it = "it" if one == name else one
    if found is None:
        return f"{it} is not there"
    if found.stranger:
        return f"{it} belongs to {found.stranger}"
    return f"{it} is in ALARM now" if found.state is AlarmState.ALARM else ""


def _why_not_follow(name: str, follower: Known, stroke: Stroke) -> str:
    if follower.stranger:
        return f"{follower.name} would fire with it, and belongs to {follower.stranger}"
    if follower.name != name and not _holds(follower, {*stroke.all} - {follower.name}):
        return f"{follower.name} would fire with it, for another alarm is in ALARM now"
    return ""


def _composites(known: Mapping[str, Known]) -> Iterable[Known]:
    return [one for one in known.values() if one.rule is not None]


def _holds(composite: Known, firing: Collection[str]) -> bool:
    return composite.rule is not None and composite.rule.holds(_states(firing))


def _states(firing: Collection[str]) -> Callable[[str], AlarmState]:
    return lambda name: AlarmState.ALARM if name in firing else AlarmState.OK
