"""The breakers of all regions: the pure values of `kms_core.breaker` under one lock, which is never held across I/O."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from kms_core import _forced
from kms_core import breaker as pure
from kms_core._forced import Forced, ForcedState
from kms_core._observe import Emit
from kms_core.breaker import Admission, Breaker, BreakerPolicy, Closed, HalfOpen, Outcome
from kms_core.clock import Clock
from kms_core.events import BreakerCause, BreakerMoved, BreakerState

Leave = TypeVar("Leave", Admission, Admission | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerView:
    """What a breaker looks like from outside."""

    state: BreakerState
    since_seconds: float
    forced_reason: str = ""
    """Why somebody has forced it into this state; empty when nobody has."""


class Breakers:
    """One breaker a region. Safe to call from any thread; events are sent after the lock is released."""

    def __init__(
        self, regions: Iterable[str], policy: BreakerPolicy, *, clock: Clock, rng: random.Random, emit: Emit | None
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._lock = threading.Lock()
        now = clock.monotonic()
        self._states: dict[str, Breaker] = {region: Closed() for region in regions}
        self._moved_at = dict.fromkeys(self._states, now)
        self._forced: dict[str, Forced] = {}

    def admit(self, region: str) -> Admission | None:
        """Return leave to call `region`, or None when its breaker refuses."""
        if (over := self._over(region)) is not None:
            return _forced.admission(over)
        return self._decide(region, pure.admit)

    def admit_anyway(self, region: str) -> Admission:
        """Return leave for a call that is never refused, and whose result counts, unless the breaker is forced."""
        if self._over(region) is not None:
            return Admission(generation=_forced.NO_GENERATION)
        return self._decide(region, pure.admit_anyway)

    def admit_last(self, region: str) -> Admission:
        """Return leave to call `region` because every other is refused as well: the last door is never closed."""
        if self._over(region) is not None:
            return Admission(generation=_forced.NO_GENERATION)
        return self._decide(region, pure.admit_last)

    def soonest(self, regions: Iterable[str]) -> str:
        """Return which of `regions` may be asked soonest; the first of equals. There must be one."""
        with self._lock:
            due = {region: _forced.due(state, self._in_force(region)) for region, state in self._states.items()}
        return min(regions, key=due.__getitem__)

    def closed(self, region: str) -> bool:
        """Return whether the breaker of `region` lets every call in."""
        with self._lock:
            return _forced.state_of(self._states[region], self._in_force(region)) == "closed"

    def due(self, region: str) -> bool:
        """Return whether `region`, which is not trusted now, would be let in for a probe; what is over ends here."""
        if self._over(region) is not None or isinstance(self._states[region], Closed):
            return False
        return self.admits(region)

    def admits(self, region: str) -> bool:
        """Return whether a call would be let in now; takes no permit."""
        with self._lock:
            over = self._in_force(region)
            if over is not None:
                return over.state == "closed"
            return pure.admit(self._states[region], self._policy, now=self._clock.monotonic())[0] is not None

    def force(self, region: str, state: ForcedState, seconds: float, reason: str) -> None:
        """Hold the breaker of `region` open or closed for `seconds`; what was forced before is over.

        Raises:
            ConfigurationError: the state, the time or the reason cannot be used.
        """
        over = _forced.forced(state, seconds, reason, now=self._clock.monotonic())
        self._put(region, over, "forced")

    def unforce(self, region: str) -> None:
        """Let the breaker of `region` go its own way again."""
        self._put(region, None, "expired")

    def report(self, region: str, admission: Admission, outcome: Outcome) -> None:
        """Tell the breaker of `region` how the call that `admission` let out has ended."""
        spread = self._rng.uniform(-1, 1)
        with self._lock:
            old = self._states[region]
            new, cause = pure.report(old, self._policy, admission, outcome, now=self._clock.monotonic(), spread=spread)
            self._set(region, new)
        self._tell(region, old, new, cause)

    def trip(self, region: str) -> None:
        """Open a closed breaker at once: the region could not be reached when the core started."""
        spread = self._rng.uniform(-1, 1)
        with self._lock:
            old = self._states[region]
            if not isinstance(old, Closed):
                return
            new = pure.trip(old, self._policy, now=self._clock.monotonic(), spread=spread)
            self._set(region, new)
        self._tell(region, old, new, "failures")

    def view(self) -> Mapping[str, BreakerView]:
        """Return each region's state, and for how long it has been in it."""
        now = self._clock.monotonic()
        over = {region: self._over(region) for region in self._states}
        with self._lock:
            return {
                region: BreakerView(
                    state=_forced.state_of(state, over[region]),
                    since_seconds=now - self._moved_at[region],
                    forced_reason=_reason(over[region]),
                )
                for region, state in self._states.items()
            }

    def _over(self, region: str) -> Forced | None:
        """Return what is forced on `region` now; what is over is taken away."""
        over = self._forced.get(region)
        if over is None or self._clock.monotonic() < over.until:
            return over
        self._put(region, None, "expired", only=over)
        return None

    def _in_force(self, region: str) -> Forced | None:
        """As `_over`, for who holds the lock: what is over stays, for somebody else to take away."""
        over = self._forced.get(region)
        return over if over is not None and self._clock.monotonic() < over.until else None

    def _put(self, region: str, over: Forced | None, cause: BreakerCause, *, only: Forced | None = None) -> None:
        """Replace what is forced on `region`; where `only` is given, nothing else than that."""
        with self._lock:
            if only is not None and self._forced.get(region) is not only:
                return  # somebody has forced it anew
            state, before = self._states[region], self._forced.pop(region, None)
            if over is not None:
                self._forced[region] = over
            old, new = _forced.state_of(state, before), _forced.state_of(state, over)
            if old != new:
                self._moved_at[region] = self._clock.monotonic()
        if self._emit is not None and old != new:
            self._emit(BreakerMoved(region=region, old=old, new=new, cause=cause))

    def _decide(self, region: str, admit: Callable[..., tuple[Leave, Breaker]]) -> Leave:
        with self._lock:
            old = self._states[region]
            admission, new = admit(old, self._policy, now=self._clock.monotonic())
            self._set(region, new)
        self._tell(region, old, new, None)
        return admission

    def _set(self, region: str, new: Breaker) -> None:
        if type(new) is not type(self._states[region]):
            self._moved_at[region] = self._clock.monotonic()
        self._states[region] = new

    def _tell(self, region: str, old: Breaker, new: Breaker, cause: BreakerCause | None) -> None:
        if self._emit is None or type(old) is type(new) or region in self._forced:
            return
        if isinstance(new, HalfOpen):
            cause = "forced" if new.early else "cooldown_over"
        if cause is not None:
            self._emit(BreakerMoved(region=region, old=pure.name_of(old), new=pure.name_of(new), cause=cause))


def _reason(over: Forced | None) -> str:
    return over.reason if over is not None else ""
