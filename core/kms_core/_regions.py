"""The regions as this process reaches them: a client, a lane and a breaker each, and one attempt at a time."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kms_core._breakers import Breakers
from kms_core._bulkhead import CLOSE_SECONDS, GivenUpError, Lane, Pending
from kms_core._deadline import Deadline
from kms_core._observe import Emit
from kms_core._timing import Timings
from kms_core.breaker import Admission, Outcome
from kms_core.clock import Clock
from kms_core.errors import AttemptFailure
from kms_core.events import Attempt
from kms_core.kms import Kms, KmsFailure, waits_for_credentials
from kms_core.taxonomy import DEADLINE, HEDGE_LOST, NO_CREDENTIALS_IN_TIME, SATURATED, ErrorClass, classify


class Answer(Protocol):
    """What every answer of KMS has."""

    @property
    def request_id(self) -> str:
        """As KMS gave it."""
        ...


A = TypeVar("A", bound=Answer)
_NEARLY = 0.9
"""Of the time that a good answer may take, an attempt that had so much had all of it: a worker starts a little late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[A]):
    """What is asked of whichever region is reached."""

    operation: str
    purpose: str
    ask: Callable[[Kms], A]
    """Makes the one request and checks the answer; raises `KmsFailure` only."""
    surplus: Callable[[A], None] | None = None
    """Takes an answer that came too late to be the call's own; None: it is dropped."""
    refusal_wanted: bool = False
    """Whether who asks wants KMS to refuse; only the observer is told."""


class AttemptFailedError(Exception):
    """One attempt failed; it never leaves the core, which turns the whole call's attempts into one error."""

    def __init__(
        self, failure: AttemptFailure, error: ErrorClass, retry_after_seconds: float | None, *, blames: bool
    ) -> None:
        super().__init__(str(failure))
        self.blames = blames
        """Whether it counted against the region."""
        self.failure = failure
        self.error = error
        self.retry_after_seconds = retry_after_seconds
        self.before: tuple[AttemptFailedError, ...] = ()
        """What failed beside it: a hedge, or what was hedged."""


class Regions:
    """Makes attempts, and tells breakers and observer what came of each. Safe to call from any thread."""

    def __init__(
        self,
        kms: Mapping[str, Kms],
        lanes: Mapping[str, Lane],
        breakers: Breakers,
        *,
        timings: Timings,
        home: str,
        clock: Clock,
        emit: Emit | None,
    ) -> None:
        self._kms = kms
        self._lanes = lanes
        self._breakers = breakers
        self._timings = timings
        self._home = home
        self._clock = clock
        self._emit = emit
        self._joined: set[str] = set()
        self._lock = threading.Lock()
        self._requests = dict.fromkeys(kms, 0)
        self._thread = threading.local()

    def begin(
        self, request: Request[A], region: str, admission: Admission, *, pinned: bool = False, retry: bool = False
    ) -> Flight[A]:
        """Start one attempt; it ends with the `finish` of what is returned, which must be called.

        Raises:
            ClosedError: the core was closed.
        """
        started_at = self._clock.monotonic()
        with self._lock:
            self._requests[region] += 1
        if (begun := getattr(self._thread, "begun", None)) is not None:
            begun.append(request.operation)
        try:
            pending = self._lanes[region].submit(functools.partial(request.ask, self._kms[region]))
        except BaseException:
            self._breakers.report(region, admission, Outcome.UNKNOWN)  # gives a probe's permit back
            raise
        note = _Note(
            request.operation, request.purpose, region, admission, started_at, pinned, request.refusal_wanted, retry
        )
        return Flight(self, pending, note, request.surplus)

    def joined(self, region: str) -> bool:
        """Return whether `region` has answered this process yet."""
        return region in self._joined

    def requests(self) -> Mapping[str, int]:
        """Return how many requests this process has sent to each region."""
        with self._lock:
            return dict(self._requests)

    @contextlib.contextmanager
    def requests_made(self) -> Iterator[list[str]]:
        """Give a list that gets the operation of each request which the present thread begins meanwhile."""
        before, begun = getattr(self._thread, "begun", None), list[str]()
        self._thread.begun = begun
        try:
            yield begun
        finally:
            self._thread.begun = before
            if before is not None:
                before += begun

    def close(self) -> None:
        """Refuse all that has not begun, end the threads, then the connections."""
        for lane in self._lanes.values():
            lane.close()
        deadline = Deadline(self._clock, CLOSE_SECONDS)
        for lane in self._lanes.values():
            lane.join(deadline.left())
        for kms in self._kms.values():
            kms.close()

    def succeeded(self, note: _Note, request_id: str, seconds: float, run_seconds: float) -> None:
        """Take note of an answer that took `seconds`, of which the region had `run_seconds`."""
        self._joined.add(note.region)
        outcome = Outcome.SLOW if self._timings.answered(note.region, run_seconds) else Outcome.GOOD
        self._breakers.report(note.region, note.admission, outcome)
        self._tell(note, seconds, "", request_id)

    def failed(self, note: _Note, failure: KmsFailure, seconds: float | None, run_seconds: float) -> AttemptFailedError:
        """Take note of a failure that took `seconds`, of which the region had `run_seconds`; return what to raise.

        `seconds` is None for one that was given up now.
        """
        if seconds is None:
            seconds = self._clock.monotonic() - note.started_at
        error = classify(failure, note.operation)
        if error.answered:
            self._joined.add(note.region)
        outcome = _outcome(failure.code, error, run_seconds, self._timings.slow_after(note.region))
        self._breakers.report(note.region, note.admission, outcome)
        self._tell(note, seconds, failure.code, failure.request_id)
        attempt = AttemptFailure(
            region=note.region,
            operation=note.operation,
            error_code=failure.code,
            request_id=failure.request_id,
            seconds=seconds,
        )
        return AttemptFailedError(attempt, error, failure.retry_after_seconds, blames=outcome is Outcome.FAILURE)

    def given_up(self, note: _Note, error: GivenUpError) -> str:
        """Return the code of an attempt that took too long: whether that was the region's time, or ours."""
        if not error.started:
            return SATURATED
        waits = error.thread is not None and waits_for_credentials(self._kms[note.region], error.thread)
        return NO_CREDENTIALS_IN_TIME if waits else DEADLINE

    def abandoned(self, note: _Note) -> None:
        """Take note of an attempt that says nothing of its region: the core is closing, or we have a defect."""
        self._breakers.report(note.region, note.admission, Outcome.UNKNOWN)

    def not_sent(self, note: _Note) -> None:
        """Take note of an attempt that was called off before it was sent."""
        self._breakers.report(note.region, note.admission, Outcome.NOT_SENT)
        self._tell(note, self._clock.monotonic() - note.started_at, SATURATED, "")

    def lost(self, note: _Note) -> None:
        """Take note of an attempt that was overtaken by its hedge: its region is slow."""
        self._breakers.report(note.region, note.admission, Outcome.SLOW)
        self._tell(note, self._clock.monotonic() - note.started_at, HEDGE_LOST, "")

    def _tell(self, note: _Note, seconds: float, error_code: str, request_id: str) -> None:
        if self._emit is not None:
            self._emit(
                Attempt(
                    region=note.region,
                    operation=note.operation,
                    purpose=note.purpose,
                    seconds=seconds,
                    error_code=error_code,
                    request_id=request_id,
                    pinned=note.pinned,
                    cross_region=note.region != self._home,
                    refusal_wanted=note.refusal_wanted,
                    retry=note.retry,
                )
            )


@dataclass(frozen=True, slots=True)
class _Note:
    """What is written down when an attempt begins."""

    operation: str
    purpose: str
    region: str
    admission: Admission
    started_at: float
    pinned: bool
    refusal_wanted: bool
    retry: bool


class Flight(Generic[A]):
    """An attempt that is on its way."""

    def __init__(self, regions: Regions, pending: Pending[A], note: _Note, surplus: Callable[[A], None] | None) -> None:
        self._regions = regions
        self._pending = pending
        self._note = note
        self._surplus = surplus

    def ready(self, seconds: float) -> bool:
        """Return whether it has ended, waiting for that at most `seconds`."""
        return self._pending.ready(seconds)

    def then(self, call: Callable[[], None]) -> None:
        """Have `call`, which must not raise, made when it has ended."""
        self._pending.then(call)

    def leave(self) -> None:
        """Let it end by itself, in place of `finish`: it counts when it does, and its answer is the surplus.

        What has not been sent yet never is.
        """
        if self._pending.cancel():
            self._regions.not_sent(self._note)
            return

        def end() -> None:
            with contextlib.suppress(Exception):  # nobody waits any more; what it says of its region is noted
                self._keep(self.finish(0.0))

        self._pending.then(end)

    def lose(self) -> None:
        """Count it as slow now, in place of `finish`: a hedge was faster; its answer is the surplus.

        What has not been sent yet never is, and counts as nothing.
        """
        if self._pending.cancel():
            self._regions.not_sent(self._note)
            return
        self._regions.lost(self._note)

        def end() -> None:
            with contextlib.suppress(Exception):  # as above
                self._keep(self._pending.result(0.0))

        self._pending.then(end)

    def _keep(self, answer: A) -> None:
        if self._surplus is not None:
            self._surplus(answer)

    def finish(self, seconds: float) -> A:
        """Return the answer, waiting for it at most `seconds` from now.

        Raises:
            AttemptFailedError: it failed, or took longer.
        """
        try:
            answer = self._pending.result(seconds)
        except GivenUpError as e:
            failure = KmsFailure(self._regions.given_up(self._note, e))
            raise self._regions.failed(self._note, failure, None, e.run_seconds) from e
        except KmsFailure as e:
            raise self._regions.failed(self._note, e, self._pending.seconds, self._pending.run_seconds) from e
        except BaseException:
            self._regions.abandoned(self._note)
            raise
        self._regions.succeeded(self._note, answer.request_id, self._pending.seconds, self._pending.run_seconds)
        return answer


def _outcome(code: str, error: ErrorClass, run_seconds: float, slow_seconds: float) -> Outcome:
    """Return what a failure says of the region: nothing, when it had less time than a good answer may take."""
    if code == SATURATED:
        return Outcome.NOT_SENT
    if code == DEADLINE and run_seconds < _NEARLY * slow_seconds:
        return Outcome.UNKNOWN
    if error.counts:
        return Outcome.FAILURE
    return Outcome.GOOD if error.answered else Outcome.UNKNOWN
