"""One call over the regions: an attempt here, the next one there, within one deadline, to an answer or an error."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kms_core import _route
from kms_core._breakers import Breakers
from kms_core._budget import Budgets
from kms_core._deadline import Deadline
from kms_core._hedge import Hedging, Won
from kms_core._observe import Emit
from kms_core._order import Order
from kms_core._quarantine import Quarantine
from kms_core._regions import A, AttemptFailedError, Regions, Request
from kms_core._route import Failed, Move, Plan
from kms_core.breaker import Admission
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
        plan = Plan(order=order, max_attempts=self._settings.max_attempts, strict=strict, pinned=pinned)
        failures: list[AttemptFailure] = []
        failed: list[Failed] = []
        cause: AttemptFailedError | None = None
        while (move := self._next(plan, failed)) is not None:
            self._pause(move, deadline)
            if not deadline.left():
                break
            region, admission = self._choose(move, plan, request)
            self._tell(region, failed, plan, request)
            try:
                won = self._attempt(request, region, admission, deadline, plan, alone=bool(failed))
            except AttemptFailedError as e:
                cause = e
                for one in (*e.before, e):
                    failures.append(one.failure)
                    failed.append(self._failed(one))
                    self._quarantine_if_asked(one, plan, request)
            else:
                self._budgets.succeeded(won.region)
                return won.answer
        raise _ended(request, failed, failures) from cause

    def _next(self, plan: Plan, failed: Sequence[Failed]) -> Move | None:
        """Return where to go next, paid for: a region asked again costs a retry, a throttled call's hop a spill."""
        if not failed:
            self._budgets.called(plan.order[0])
            return _route.next_move(plan, failed)
        for _ in range(len(plan.order) + 2):  # each turn pays, or takes away what cannot be paid
            move = _route.next_move(plan, failed)
            if move is None or (unpaid := self._unpaid(plan, move, failed)) is None:
                return move
            plan = unpaid
        return None

    def _unpaid(self, plan: Plan, move: Move, failed: Sequence[Failed]) -> Plan | None:
        """Pay for `move`, and return None; when that is not possible, the plan without what cannot be paid."""
        last, region = failed[-1], move.regions[0]
        throttled = last.error.fails_over is FailOver.ONCE
        if any(attempt.region == region for attempt in failed):
            paid = self._budgets.retry(region, throttled=throttled)
            return None if paid else replace(plan, spent=plan.spent | {region})
        if _route.spills(failed, region) and not self._budgets.spill(last.region):
            return replace(plan, spills=False)
        return None

    def _judged(self, error: AttemptFailedError) -> ErrorClass:
        if self._settings.failover_on_access_denied and error.failure.error_code == "AccessDeniedException":
            return replace(error.error, fails_over=FailOver.YES)
        return error.error

    def _attempt(
        self, request: Request[A], region: str, admission: Admission, deadline: Deadline, plan: Plan, *, alone: bool
    ) -> Won[A]:
        """Make one attempt; with a hedge beside it, when those are on, unless it shall be `alone`."""
        seconds = min(self._settings.attempt_seconds, deadline.left())
        flight = self._regions.begin(request, region, admission, pinned=plan.pinned)
        if self._hedging is None or plan.pinned or alone or plan.max_attempts == 1:
            return Won(flight.finish(seconds), region)
        self._hedging.called()
        others = [other for other in plan.order if other != region]
        well = self._quarantine.without(others, request.purpose)
        return self._hedging.finish(request, flight, region, well, seconds)

    def _failed(self, error: AttemptFailedError) -> Failed:
        region, wait = error.failure.region, error.retry_after_seconds
        return Failed(region=region, error=self._judged(error), retry_after_seconds=wait)

    def _quarantine_if_asked(self, error: AttemptFailedError, plan: Plan, request: Request[A]) -> None:
        if error.error.quarantines_key and not plan.strict and request.operation != DESCRIBE_KEY:
            self._quarantine.add(error.failure.region, request.purpose, error.failure.error_code)

    def _pause(self, move: Move, deadline: Deadline) -> None:
        if move.pause_seconds > 0:
            chosen = move.pause_seconds if move.exact_pause else self._rng.uniform(0, move.pause_seconds)
            self._clock.wait(self._closing, min(chosen, deadline.left()))
        if self._closing.is_set():
            raise ClosedError("the core was closed")

    def _choose(self, move: Move, plan: Plan, request: Request[A]) -> tuple[str, Admission]:
        """Return the region to ask and the leave to ask it: the first that is let in, else the last door."""
        if plan.pinned or move.in_place:
            region = move.regions[0]
            return region, self._breakers.admit_anyway(region)
        well = self._quarantine.without(move.regions, request.purpose) if not plan.strict else move.regions
        for region in well or move.regions:
            if (admission := self._breakers.admit(region)) is not None:
                return region, admission
        region = self._breakers.soonest(well or move.regions)
        return region, self._breakers.admit_last(region)

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
            return KmsDeniedError(text, attempts=failures)
        case Family.UNAVAILABLE:
            return KmsUnavailableError(text, attempts=failures)
