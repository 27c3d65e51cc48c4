"""The setup guide's production checklist: its eleven items, and what an answer to one is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kms_watchdog.readiness.sign_offs import SignOff


class State(StrEnum):
    """How an item stands; what nobody could see is not good."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to be sure of before production, and from then on."""

    id: str
    words: str
    """The setup guide's."""
    check: str
    """What is looked at, or what is asked."""
    lasts: timedelta
    """How long an answer counts."""
    asked: bool = False
    """Whether people are asked: no program can tell."""


ROLES, KEYS, ROTATION, HEALTH, ALERTING = "roles", "keys", "rotation", "health", "alerting"
BREAKERS, FAILOVER, PERFORMANCE = "breakers", "failover", "performance"
_DAY, _MONTH, _QUARTER, _YEAR = timedelta(days=1), timedelta(days=35), timedelta(days=92), timedelta(days=366)

ITEMS: tuple[Item, ...] = (
    Item(
        id=ROLES,
        words="All IAM roles and policies are created",
        check="each role, its trust, its policy and every key policy are there and as rendered",
        lasts=_DAY,
    ),
    Item(
        id=KEYS,
        words="Multi-Region Keys are created and replicated",
        check="each key is enabled in every region, primary and replicas, behind its alias",
        lasts=_DAY,
    ),
    Item(
        id=ROTATION, words="Key rotation is enabled", check="each key rotates, as KMS says in every region", lasts=_DAY
    ),
    Item(
        id=HEALTH,
        words="Health checks are implemented",
        check="the running watchdog answers /livez and /readyz with 200, and /health at all",
        lasts=_DAY,
    ),
    Item(
        id=ALERTING,
        words="Monitoring and alerting are configured",
        check="every alarm is in CloudWatch as rendered, and was seen to reach a subscriber within 35 days",
        lasts=_MONTH,
    ),
    Item(
        id=BREAKERS,
        words="Circuit breakers are tested",
        check="a drill within 35 days HELD in which a breaker opened and closed",
        lasts=_MONTH,
    ),
    Item(
        id=FAILOVER,
        words="Failover scenarios are tested",
        check="a drill within 35 days HELD in which calls failed over",
        lasts=_MONTH,
    ),
    Item(
        id=PERFORMANCE,
        words="Performance testing is completed",
        check="kms-watchdog measure within 92 days, in every region, with enough samples; no time-out is below what it "
        "measured",
        lasts=_QUARTER,
    ),
    Item(
        id="security-review",
        words="Security review is completed",
        check="who reviewed it, when, and what came of it",
        lasts=_YEAR,
        asked=True,
    ),
    Item(
        id="documentation",
        words="Documentation is updated",
        check="who brought it up to date, when, and where it is",
        lasts=2 * _QUARTER,
        asked=True,
    ),
    Item(
        id="training",
        words="Team training is completed",
        check="who was trained, when, and in what",
        lasts=_YEAR,
        asked=True,
    ),
)
BY_ID: Mapping[str, Item] = {item.id: item for item in ITEMS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was looked at, what was seen, and when it was so."""

    what: str
    seen: str
    at_utc: datetime
    state: State = State.GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How an item stands, and why."""

    item: Item
    state: State
    evidence: tuple[Evidence, ...]
    expires_utc: datetime | None
    """When a good answer counts no more; None: it is not good."""

    @property
    def finding(self) -> str:
        """What is not good, in a line; of a good one what was seen."""
        telling = [one for one in self.evidence if one.state is self.state] or list(self.evidence)
        more = f"; and {len(telling) - _TOLD} more" if len(telling) > _TOLD else ""
        return "; ".join(f"{one.what}: {one.seen}" for one in telling[:_TOLD]) + more

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.item.id,
            "item": self.item.words,
            "check": self.item.check,
            "state": str(self.state),
            "finding": self.finding,
            "evidence": [
                {"what": e.what, "seen": e.seen, "at_utc": e.at_utc.isoformat(), "state": str(e.state)}
                for e in self.evidence
            ],
            "expires_utc": self.expires_utc.isoformat() if self.expires_utc else None,
        }


_TOLD = 3


def answer(item: Item, evidence: Iterable[Evidence], now_utc: datetime) -> Answer:
    """Return the answer that the evidence makes: as bad as the worst of it, and as old as the oldest.

    What is older than an answer lasts is bad, whatever it was; no evidence at all is that nobody can tell.
    """
    found = tuple(_aged(item, one, now_utc) for one in evidence)
    if not found:
        found = (Evidence(what="evidence", seen="there is none", at_utc=now_utc, state=State.UNKNOWN),)
    states = {one.state for one in found}
    worst = next(state for state in (State.BAD, State.UNKNOWN, State.GOOD) if state in states)
    expires = min(one.at_utc for one in found) + item.lasts
    return Answer(item=item, state=worst, evidence=found, expires_utc=expires if worst is State.GOOD else None)


def _aged(item: Item, one: Evidence, now_utc: datetime) -> Evidence:
    if one.state is not State.GOOD or now_utc < one.at_utc + item.lasts:
        return one
    seen = f"{one.seen}, at {one.at_utc:%Y-%m-%d}: longer ago than {item.lasts.days} days"
    return Evidence(what=one.what, seen=seen, at_utc=one.at_utc, state=State.BAD)


def asked(item: Item, last: SignOff | None, now_utc: datetime) -> Answer:
    """Return how an item stands of which people tell."""
    if last is None:
        seen = f'nobody has said so: kms-watchdog checklist ack {item.id} --by NAME --note "..."'
        return answer(item, [Evidence(what="sign-off", seen=seen, at_utc=now_utc, state=State.BAD)], now_utc)
    return answer(item, [Evidence(what=f"signed by {last.by}", seen=last.note, at_utc=last.at_utc)], now_utc)


def worst_of(answers: Iterable[Answer]) -> State:
    """Return BAD if an item is bad, else UNKNOWN if one is; GOOD only if all are."""
    states = {one.state for one in answers} or {State.UNKNOWN}
    return next(state for state in (State.BAD, State.UNKNOWN, State.GOOD) if state in states)
