"""One look of a canary that reads the estate: timed calls, a deadline between them, and what cannot be read is BLIND.

The deadline is looked at before each call: what is left of it bounds no call that is out, those have timeouts of their
own. What a look has found stands, however long it took: drift that was seen late is drift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from kms_core.clock import Clock
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.finding import CREDENTIAL_CODES, Finding, result_of
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.estate.kms_admin import EstateError, Grant, KeyInRegion
from kms_watchdog.estate.observed import KeyReader
from kms_watchdog.results import CanaryResult, Fact, Outcome, Reason

MAX_DETAILS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a look found."""

    finding: Finding = field(default_factory=Finding)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    detail: str = ""


class OutOfTimeError(Exception):
    """The look's time was spent before everything had been asked."""


class Budget:
    """The time of one look."""

    def __init__(self, clock: Clock, deadline_seconds: float) -> None:
        self.steps = Steps(clock)
        self._deadline_seconds = deadline_seconds

    @property
    def left_seconds(self) -> float:
        """What is left of it; may be below 0."""
        return self._deadline_seconds - self.steps.elapsed_seconds()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside as `name`.

        Raises:
            OutOfTimeError: there is no time left to begin.
        """
        if self.left_seconds <= 0:
            raise OutOfTimeError
        with self.steps.step(name):
            yield


@dataclass(frozen=True, slots=True)
class TimedReader:
    """A `KeyReader` whose calls are steps of a look: all of its methods raise `OutOfTimeError` too."""

    reader: KeyReader
    budget: Budget

    def describe(self, region: str, key: str) -> KeyInRegion | None:
        """Return the key with this id or alias."""
        with self.budget.step("describe"):
            return self.reader.describe(region, key)

    def alias_target(self, region: str, alias: str) -> str | None:
        """Return the id of the key that `alias` leads to."""
        with self.budget.step("aliases"):
            return self.reader.alias_target(region, alias)

    def policy(self, region: str, key_id: str) -> Mapping[str, Any]:
        """Return the key's policy."""
        with self.budget.step("policy"):
            return self.reader.policy(region, key_id)

    def tags(self, region: str, key_id: str) -> Mapping[str, str]:
        """Return the key's tags."""
        with self.budget.step("tags"):
            return self.reader.tags(region, key_id)

    def rotates(self, region: str, key_id: str) -> bool:
        """Return whether the key's rotation is on."""
        with self.budget.step("rotation"):
            return self.reader.rotates(region, key_id)

    def grants(self, region: str, key_id: str) -> tuple[Grant, ...]:
        """Return the grants on the key."""
        with self.budget.step("grants"):
            return self.reader.grants(region, key_id)

    def aliases(self, region: str, key_id: str) -> tuple[str, ...]:
        """Return all aliases of the key."""
        with self.budget.step("aliases"):
            return self.reader.aliases(region, key_id)


def look(canary: Canary, clock: Clock, ask: Callable[[Budget], Answer]) -> CanaryResult:
    """Let `ask` look once, and return what it means as the live result of `canary`."""
    budget = Budget(clock, canary.deadline_seconds)
    try:
        answer = ask(budget)
    except EstateError as e:
        answer = unreadable(e)
    except OutOfTimeError:
        answer = Answer(finding=Finding(Outcome.BLIND, Reason.OWN_DEADLINE), detail="there was no time to read it all")
    return result_of(canary, budget.steps, replace(answer.finding, detail=answer.detail), answer.facts)


def unreadable(error: EstateError) -> Answer:
    """Return BLIND, for what AWS did not tell; without credentials nobody even asked."""
    reason = Reason.NO_CREDENTIALS if error.code in CREDENTIAL_CODES else Reason.UNREADABLE
    return Answer(finding=Finding(Outcome.BLIND, reason, error.code, error.request_id), detail=str(error))


def one_line(details: tuple[str, ...]) -> str:
    """Join what is wrong into a line that a page can hold."""
    more = f"; and {len(details) - MAX_DETAILS} more" if len(details) > MAX_DETAILS else ""
    return "; ".join(details[:MAX_DETAILS]) + more
