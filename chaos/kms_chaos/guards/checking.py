"""How guards answer: what was seen, or that what must be true is not; one that cannot be checked does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


class RefusedError(RuntimeError):
    """The drill may not start; the message says why. Nothing was touched."""


class NotHeldError(Exception):
    """A guard looked, and what must be true is not."""


class CannotTellError(NotHeldError):
    """A guard could not look: before a drill that is as bad as not held, during one it is looked again first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """What one guard found."""

    guard: str
    held: bool
    detail: str


Guard = Callable[[], str]
"""Returns what it saw; raises `NotHeldError`, or anything else, which has not held either."""


def check(guards: Mapping[str, Guard]) -> tuple[GuardResult, ...]:
    """Ask every guard; each returns what it saw, or raises."""
    return tuple(_ask(name, guard) for name, guard in guards.items())


def _ask(name: str, guard: Guard) -> GuardResult:
    try:
        return GuardResult(guard=name, held=True, detail=guard())
    except NotHeldError as e:
        return GuardResult(guard=name, held=False, detail=str(e))
    except Exception as e:  # noqa: BLE001 - a guard that crashed has not held: guards fail closed
        return GuardResult(guard=name, held=False, detail=crashed(e))


def crashed(error: Exception) -> str:
    """Return what is said of a guard that ended in `error`."""
    return f"could not be checked: {type(error).__name__}: {error}"
