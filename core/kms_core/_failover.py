"""One call over the regions: an attempt here, the next one there, within one deadline, to an answer or an error."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from kms_core import _route
from kms_core._breakers import Breakers
from kms_core._deadline import Deadline
from kms_core._observe import Emit
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
from kms_core.taxonomy import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How patiently."""

    attempt_seconds: float
    max_attempts: int


class Failover:
    """Asks region after region. Safe to call from any thread."""

    def __init__(
        self,
        regions: Regions,
        breakers: Breakers,
        quarantine: Quarantine,
        settings: Settings,
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
        plan = Plan(order=order, max_attempts=self._settings.max_attempts, strict=strict, pinned=pinned)
        failures: list[AttemptFailure] = []
        failed: list[Failed] = []
        cause: AttemptFailedError | None = None
        while (move := _route.next_move(plan, failed)) is not None:
            self._pause(move, deadline)
            if not deadline.left():
                break
            region, admission = self._choose(move, plan, request)
            self._tell(region, failed, plan, request)
            try:
                return self._attempt(request, region, admission, deadline, pinned=pinned)
            except AttemptFailedError as e:
                cause = e
                failures.append(e.failure)
                failed.append(Failed(region=region, error=e.error, retry_after_seconds=e.retry_after_seconds))
                if e.error.quarantines_key and not strict and request.operation != DESCRIBE_KEY:
                    self._quarantine.add(region, request.purpose, e.failure.error_code)
        raise _ended(request, failed, failures) from cause

    def _attempt(
        self, request: Request[A], region: str, admission: Admission, deadline: Deadline, *, pinned: bool
    ) -> A:
        seconds = min(self._settings.attempt_seconds, deadline.left())
        return self._regions.begin(request, region, admission, pinned=pinned).finish(seconds)

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
