"""One call over the regions: an attempt here, the next one there, within one deadline, to an answer or an error."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kms_core import _route
from kms_core._breakers import Breakers
from kms_core._budget import Budgets
from kms_core._bulkhead import Lane
from kms_core._deadline import Deadline
from kms_core._hedge import Hedging, Won
from kms_core._observe import Emit
from kms_core._order import Order
from kms_core._quarantine import Quarantine
from kms_core._regions import A, AttemptFailedError, Regions, Request
from kms_core._route import Failed, Move, Plan
from kms_core.breaker import Admission, Outcome
from kms_core.clock import Clock
from kms_core.errors import (
    AttemptFailure,
    ClosedError,
    KmsCoreError,
    KmsDeniedError,
    KmsUnavailableError,
    MessageError,
    Step,
)
from kms_core.events import FailedOver
from kms_core.kms import DESCRIBE_KEY
from kms_core.taxonomy import ErrorClass, FailOver, Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How patiently."""

    attempt_seconds: float
    max_attempts: int
    failover_on_access_denied: bool = False
    """Whether a region that denies access is taken for one with a wrong key policy, and the next one asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One attempt that is about to be made."""

    region: str
    admission: Admission
    pause_seconds: float
    exact_pause: bool


def _step(move: Move, region: str, admission: Admission) -> _Step:
    return _Step(region=region, admission=admission, pause_seconds=move.pause_seconds, exact_pause=move.exact_pause)


class Failover:
    """Asks region after region. Safe to call from any thread."""

    def __init__(
        self,
        regions: Regions,
        breakers: Breakers,
        quarantine: Quarantine,
        settings: Settings,
        order: Order,
        budgets: Budgets,
        hedging: Hedging | None,
        background: Lane,
        *,
        clock: Clock,
        rng: random.Random,
        emit: Emit | None,
        closing: threading.Event,
    ) -> None:
        self._regions = regions
        self._breakers = breakers
        self._quarantine = quarantine
        self._settings = settings
        self._order = order
        self._budgets = budgets
        self._hedging = hedging
        self._background = background
        self._probing: set[str] = set()
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._closing = closing

    def call(
        self,
        request: Request[A],
        order: tuple[str, ...],
        deadline: Deadline,
        *,
        strict: bool = False,
        pinned: bool = False,
    ) -> A:
        """Return the first answer that some region of `order` gives.

        Raises:
            KmsUnavailableError, KmsDeniedError, MessageError: by what the attempts came to; they are listed in it.
            ClosedError: the core was closed meanwhile.
        """
        order = self._order.of(order)
        counted = deadline if request.operation != DESCRIBE_KEY else None
        limit = self._settings.max_attempts
        if counted is not None and counted.attempts is not None:
            limit = min(limit, counted.attempts)
        plan = Plan(order=order, max_attempts=limit, strict=strict, pinned=pinned)
        failures: list[AttemptFailure] = []
        failed: list[Failed] = []
        cause: AttemptFailedError | None = None
        try:
            while (step := self._next(plan, failed, request)) is not None:
                if not self._in_time(step, deadline):
                    break
                self._tell(step.region, failed, plan, request)
                try:
                    won = self._attempt(request, step.region, step.admission, deadline, plan, again=bool(failed))
                except AttemptFailedError as e:
                    cause = e
                    self._note((*e.before, e), plan, request, failures, failed, counted)
                else:
                    self._budgets.succeeded(won.region)
                    self._note(won.beside, plan, request, [], [], None)
                    self._look_after_others(plan, request, won.region)
                    return won.answer
            if self._closing.is_set():
                raise ClosedError("the core was closed") from cause
            raise _ended(request, failed, failures) from cause
        finally:
            cause = None  # else it holds this frame, and this frame it, with plaintext and data key, in a cycle

    def _note(
        self,
        errors: Sequence[AttemptFailedError],
        plan: Plan,
        request: Request[Any],
        failures: list[AttemptFailure],
        failed: list[Failed],
        counted: Deadline | None,
    ) -> None:
        """Write down what failed, and leave out the key where its state is to blame."""
        for error in errors:
            failures.append(error.failure)
            failed.append(self._failed(error))
            self._quarantine_if_asked(error, plan, request)
            if counted is not None and counted.attempts is not None:
                counted.attempts -= 1

    def _look_after_others(self, plan: Plan, request: Request[Any], region: str) -> None:
        """Have regions whose time out is over probed in the background, with what this call has asked.

        Nobody would ever call them while `region` is well, and their breakers would say open for good.
        """
        for other in plan.order if not plan.pinned else ():
            if other != region and other not in self._probing and self._breakers.due(other):
                self._probing.add(other)
                with contextlib.suppress(ClosedError):
                    probe = self._background.submit(functools.partial(self._probe, request, other))
                    probe.then(functools.partial(self._probing.discard, other))  # also when no thread was to be had

    def _probe(self, request: Request[Any], region: str) -> None:
        if (admission := self._breakers.admit(region)) is None:
            return
        with contextlib.suppress(AttemptFailedError, ClosedError):
            answer = self._regions.begin(request, region, admission).finish(self._settings.attempt_seconds)
            if request.surplus is not None:
                request.surplus(answer)

    def _next(self, plan: Plan, failed: Sequence[Failed], request: Request[Any]) -> _Step | None:
        """Return where to go next, let in and paid for; None when the call has failed."""
        while (move := _route.next_move(plan, failed)) is not None:
            step = self._let_in(move, plan, failed, request)
            if step is None or (unpaid := self._unpaid(plan, step.region, failed)) is None:
                return step
            self._give_back(step)
            plan = unpaid  # without what cannot be paid for, so this ends
        return None

    def _unpaid(self, plan: Plan, region: str, failed: Sequence[Failed]) -> Plan | None:
        """Pay for asking `region` next, and return None; when that is not possible, the plan without it.

        A region that is asked again costs a retry, a throttled call's hop a spill; the first hop elsewhere is free.
        """
        if not failed:
            self._budgets.called(region)
            return None
        if any(attempt.region == region for attempt in failed):
            paid = self._budgets.retry(region, throttled=_route.throttled(failed))
            return None if paid else replace(plan, spent=plan.spent | {region})
        if _route.throttled(failed) and not self._budgets.spill(failed[-1].region):
            return replace(plan, spills=False)
        return None

    def _let_in(self, move: Move, plan: Plan, failed: Sequence[Failed], request: Request[Any]) -> _Step | None:
        """Return the first region of `move` whose breaker lets the call in; else a way back, else the last door.

        A door is the last one when every breaker is open: a region that was tried and is still closed comes before it.
        A throttled call goes through no last door: where it cannot spill it ends.
        """
        if plan.pinned or move.in_place:
            return _step(move, move.regions[0], self._breakers.admit_anyway(move.regions[0]))
        well = move.regions if plan.strict else self._quarantine.without(move.regions, request.purpose)
        regions = well or move.regions
        if (found := self._first_admitted(move, regions)) is not None or _route.throttled(failed):
            return found
        if failed and (back := _route.come_back(plan, failed)) is not None:
            closed = [region for region in back.regions if self._breakers.closed(region)]
            if (found := self._first_admitted(back, closed)) is not None:
                return found
        region = self._breakers.soonest(regions)
        return _step(move, region, self._breakers.admit_last(region))

    def _first_admitted(self, move: Move, regions: Sequence[str]) -> _Step | None:
        for region in regions:
            if (admission := self._breakers.admit(region)) is not None:
                return _step(move, region, admission)
        return None

    def _give_back(self, step: _Step) -> None:
        """Let go of a leave that is not used: it may be a probe's."""
        self._breakers.report(step.region, step.admission, Outcome.UNKNOWN)

    def _judged(self, error: AttemptFailedError) -> ErrorClass:
        if self._settings.failover_on_access_denied and error.failure.error_code == "AccessDeniedException":
            return replace(error.error, fails_over=FailOver.YES)
        return error.error

    def _attempt(
        self, request: Request[A], region: str, admission: Admission, deadline: Deadline, plan: Plan, *, again: bool
    ) -> Won[A]:
        """Make one attempt; with a hedge beside it, when those are on, unless one has failed before (`again`).

        A strict key is never hedged: what one region says of its state is final, also when another is faster.
        """
        seconds = min(self._settings.attempt_seconds, deadline.left())
        flight = self._regions.begin(request, region, admission, pinned=plan.pinned, retry=again)
        if self._hedging is None or plan.pinned or plan.strict or again or plan.max_attempts == 1:
            return Won(flight.finish(seconds), region)
        self._hedging.called()
        others = [other for other in plan.order if other != region]
        well = self._quarantine.without(others, request.purpose)
        return self._hedging.finish(request, flight, region, well, seconds, final=self._is_final)

    def _is_final(self, error: AttemptFailedError) -> bool:
        """Return whether no other region may be asked after `error`."""
        return self._judged(error).fails_over is FailOver.NO

    def _failed(self, error: AttemptFailedError) -> Failed:
        region, wait = error.failure.region, error.retry_after_seconds
        return Failed(region=region, error=self._judged(error), retry_after_seconds=wait)

    def _quarantine_if_asked(self, error: AttemptFailedError, plan: Plan, request: Request[A]) -> None:
        if error.error.quarantines_key and not plan.strict and request.operation != DESCRIBE_KEY:
            self._quarantine.add(error.failure.region, request.purpose, error.failure.error_code)

    def _in_time(self, step: _Step, deadline: Deadline) -> bool:
        """Pause as `step` says, and return whether there is time left for it.

        Raises:
            ClosedError: the core was closed meanwhile.
        """
        if step.pause_seconds > 0:
            chosen = step.pause_seconds if step.exact_pause else self._rng.uniform(0, step.pause_seconds)
            self._clock.wait(self._closing, min(chosen, deadline.left()))
        if self._closing.is_set():
            raise ClosedError("the core was closed")
        if deadline.left():
            return True
        self._give_back(step)
        return False

    def _tell(self, region: str, failed: Sequence[Failed], plan: Plan, request: Request[A]) -> None:
        before = failed[-1].region if failed else plan.order[0]
        if self._emit is not None and region != before:
            self._emit(
                FailedOver(from_region=before, to_region=region, operation=request.operation, purpose=request.purpose)
            )


def _ended(request: Request[A], failed: Sequence[Failed], failures: Sequence[AttemptFailure]) -> KmsCoreError:
    """Return the error that a call without an answer ends with."""
    if not failed:
        return KmsUnavailableError(f"{request.operation} for {request.purpose}: no time was left to ask")
    text = f"{request.operation} for {request.purpose} failed: " + "; ".join(str(failure) for failure in failures)
    match _route.ends_as(failed):
        case Family.MESSAGE:
            return MessageError(step=Step.UNWRAP, attempts=failures)
        case Family.DENIED:
            denied = [f for f, one in zip(failures, failed, strict=True) if one.error.family is Family.DENIED]
            return KmsDeniedError(text, attempts=failures, decisive=denied[-1])
        case Family.UNAVAILABLE:
            return KmsUnavailableError(text, attempts=failures)
