"""Composite alarms: the rule over other alarms' states, and what holds their actions back. Standard library only.

A rule is `ALARM(x)`, `OK(x)`, `INSUFFICIENT_DATA(x)`, `TRUE`, `FALSE` or `AT_LEAST(M, STATE, (x, y, ...))`, or several
of them combined with `NOT`, `AND`, `OR` (binding in that order, tightest first) and parentheses. An alarm is named by
name or ARN, in double quotes if there is a space, a parenthesis or a comma in it; M is a number or a percentage; STATE
may begin with `NOT`.

Source: Amazon CloudWatch API Reference, PutCompositeAlarm, and User Guide, "Composite alarms" and "Alarm suppression".
The guide does not say how AND and OR bind to each other: the usual order is assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kms_alarms.evaluate import AlarmState

__all__ = [
    "MAX_CHILDREN",
    "MAX_ELEMENTS",
    "MAX_RULE_LENGTH",
    "AlarmRuleError",
    "Held",
    "Rule",
    "SuppressedBy",
    "Suppressor",
    "evaluation_order",
    "hold_back",
    "parse_rule",
]

MAX_RULE_LENGTH = 10_240
MAX_CHILDREN = 100
MAX_ELEMENTS = 500
"""Alarms, TRUE, FALSE and parentheses in one rule."""
_MAX_DEPTH = 64  # a parser that calls itself must stop before Python does

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[(),]|[^\s(),"]+)')
_STATES = frozenset(AlarmState)
_BEGINNINGS = "'(', 'NOT', AT_LEAST, TRUE or FALSE, ALARM, OK, or INSUFFICIENT_DATA"

StateOf = Callable[[str], AlarmState]
_Node = Callable[[StateOf], bool]


class AlarmRuleError(ValueError):
    """The rule cannot be parsed, or has more in it than a rule may have."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule; `alarms` are those it names, as it names them, in order of appearance."""

    text: str
    alarms: tuple[str, ...]
    _holds: _Node

    def holds(self, state_of: StateOf) -> bool:
        """Say whether the rule is true, that is: whether the composite alarm is in ALARM rather than OK.

        Args:
            state_of: returns the state of an alarm, by the name or ARN in the rule.
        """
        return self._holds(state_of)


def parse_rule(text: str) -> Rule:
    """Parse an alarm rule.

    Raises:
        AlarmRuleError: it is none; the text is CloudWatch's, with the place.
    """
    if len(text) > MAX_RULE_LENGTH:
        raise AlarmRuleError(f"a rule may have {MAX_RULE_LENGTH} characters, not {len(text)}")
    parser = _Parser(_tokens(text))
    holds = parser.whole()
    if len(parser.alarms) > MAX_CHILDREN:
        raise AlarmRuleError(f"a rule may name {MAX_CHILDREN} alarms, not {len(parser.alarms)}")
    if parser.elements > MAX_ELEMENTS:
        raise AlarmRuleError(f"a rule may have {MAX_ELEMENTS} elements, not {parser.elements}")
    return Rule(text, tuple(parser.alarms), holds)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int

    @property
    def name(self) -> str:
        """The name of an alarm: without the quotes and backslashes around and in it."""
        return re.sub(r"\\(.)", r"\1", self.text[1:-1]) if self.text.startswith('"') else self.text


def _tokens(text: str) -> list[_Token]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise AlarmRuleError(f"Unsupported token '{text[start]}' at char {start}")
        tokens.append(_Token(match[1], match.start(1)))
        position = match.end()
    return [*tokens, _Token("", end)]


class _Parser:
    """Recursive descent; each method returns a function of the alarms' states."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.alarms: dict[str, None] = {}  # an ordered set
        self.elements = 0
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._either()
        if self._token.text:
            raise self._unsupported("'AND' or 'OR'")
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _unsupported(self, expected: str) -> AlarmRuleError:
        shown = f"token '{self._token.text}'" if self._token.text else "end"
        return AlarmRuleError(f"Unsupported {shown} at char {self._token.at}, must be: {expected}")

    def _take(self, expected: str = "") -> _Token:
        token = self._token
        if not token.text or (expected and token.text != expected):
            raise self._unsupported(f"'{expected}'" if expected else "the name of an alarm")
        self._next += 1
        self.elements += token.text in {"(", ")"}
        return token

    def _either(self) -> _Node:
        nodes = [self._both()]
        while self._token.text == "OR":
            self._take()
            nodes.append(self._both())
        return nodes[0] if len(nodes) == 1 else lambda state_of: any(node(state_of) for node in nodes)

    def _both(self) -> _Node:
        nodes = [self._condition()]
        while self._token.text == "AND":
            self._take()
            nodes.append(self._condition())
        return nodes[0] if len(nodes) == 1 else lambda state_of: all(node(state_of) for node in nodes)

    def _condition(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise AlarmRuleError("the rule is nested too deeply")
        try:
            return self._deeper()
        finally:
            self._depth -= 1

    def _deeper(self) -> _Node:
        word = self._token.text
        if word == "NOT":
            self._take()
            negated = self._condition()
            return lambda state_of: not negated(state_of)
        if word == "(":
            self._take()
            inner = self._either()
            self._take(")")
            return inner
        if word.upper() in {"TRUE", "FALSE"}:
            self._take()
            self.elements += 1
            return lambda _: word.upper() == "TRUE"
        if word == "AT_LEAST":
            self._take()
            return self._at_least()
        return self._in_state()

    def _in_state(self) -> _Node:
        if self._token.text not in _STATES:
            raise self._unsupported(_BEGINNINGS)
        state = AlarmState(self._take().text)
        self._take("(")
        alarm = self._alarm()
        self._take(")")
        return lambda state_of: state_of(alarm) is state

    def _at_least(self) -> _Node:
        self._take("(")
        share = self._token
        self._take()
        self._take(",")
        is_met = self._state_condition()
        self._take(",")
        self._take("(")
        alarms = [self._alarm()]
        while self._token.text == ",":
            self._take()
            alarms.append(self._alarm())
        self._take(")")
        self._take(")")
        wanted = _wanted(share, len(alarms))
        return lambda state_of: sum(is_met(state_of(alarm)) for alarm in alarms) >= wanted

    def _state_condition(self) -> Callable[[AlarmState], bool]:
        negated = self._token.text == "NOT"
        if negated:
            self._take()
        if self._token.text not in _STATES:
            raise self._unsupported("ALARM, OK, INSUFFICIENT_DATA, or one of them after NOT")
        wanted = AlarmState(self._take().text)
        return lambda state: (state is wanted) is not negated

    def _alarm(self) -> str:
        if self._token.text in {"(", ")", ","}:
            raise self._unsupported("the name of an alarm")
        name = self._take().name
        self.alarms[name] = None
        self.elements += 1
        return name


def _wanted(share: _Token, of: int) -> int:
    """Return how many alarms AT_LEAST asks for: `2`, or `50%` of them (rounded up), perhaps in quotes."""
    match = re.fullmatch(r"(\d{1,4})(%?)", share.name)
    number = int(match[1]) if match else 0
    if match is None or number < 1 or number > (100 if match[2] else of):
        raise AlarmRuleError(
            f"Unsupported token '{share.text}' at char {share.at}, must be: a number from 1 to {of}, or 1% to 100%"
        )
    return math.ceil(number * of / 100) if match[2] else number


def evaluation_order(children: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the composite alarms in an order in which each comes after those it rests on.

    Alarms that lead into a circle are left out: CloudWatch stops evaluating them.

    Args:
        children: for the name of each composite alarm those it rests on; other names are metric alarms.
    """
    order: dict[str, None] = {}
    waiting = {name: {child for child in below if child in children} for name, below in children.items()}
    while ready := [name for name, below in waiting.items() if below <= order.keys()]:
        order |= dict.fromkeys(ready)
        for name in ready:
            del waiting[name]
    return tuple(order)


class SuppressedBy(StrEnum):
    """What holds a composite alarm's actions back."""

    ALARM = "Alarm"
    WAIT_PERIOD = "WaitPeriod"
    EXTENSION_PERIOD = "ExtensionPeriod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressor:
    """The alarm that holds actions back while it is in ALARM."""

    alarm: str  # name or ARN
    wait_seconds: int
    """How long the composite alarm waits, after its own change, for the suppressor to go into ALARM."""
    extension_seconds: int
    """How long actions are still held back once the suppressor has left ALARM."""


@dataclass(frozen=True, slots=True)
class Held:
    """Actions that wait: because of what, and until when (POSIX seconds; none: while the suppressor is in ALARM)."""

    by: SuppressedBy
    until: float | None = None


def hold_back(policy: Suppressor, held: Held | None, *, changed: bool, suppressing: bool, now: float) -> Held | None:
    """Return what holds actions back from `now` on; None where `changed` or `held`: the actions are due now.

    A change of the composite alarm's state discards a running wait or extension and begins a new wait. When a period
    ends, the actions of the state that the alarm is in by then are due, whatever it was when they were held back.

    Args:
        policy: the suppressor and its periods.
        held: what held actions back until now, if anything.
        changed: the composite alarm's state has just changed.
        suppressing: the suppressor alarm is in ALARM.
        now: POSIX seconds.
    """
    if held is None and not changed:
        return None
    if suppressing:
        return Held(SuppressedBy.ALARM)
    if changed:
        return _running(Held(SuppressedBy.WAIT_PERIOD, now + policy.wait_seconds), now)
    if held is not None and held.by is SuppressedBy.ALARM:
        return _running(Held(SuppressedBy.EXTENSION_PERIOD, now + policy.extension_seconds), now)
    return held and _running(held, now)


def _running(held: Held, now: float) -> Held | None:
    return held if held.until is None or now < held.until else None
