"""Is our clock right: does the `Date` of an answer from this region's KMS agree with this machine's time?

The question is asked unsigned, over a connection of its own: a clock that is wrong enough to matter has its signatures
refused, and makes good certificates look expired or not yet valid. No credentials are needed, and any answer will do,
since a refusal has a `Date` too (RFC 9110, section 6.6.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.cold_connection import what_it_means
from kms_watchdog.canaries.finding import Finding, answer, failed
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.new_connection import ANSWER, Budget, ConnectionFault, Connector, ask_head
from kms_watchdog.results import CanaryResult, Fact, Kind, Outcome, Reason

DATE_RESOLUTION_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Offset:
    """How far our clock is ahead of another (negative: behind), in seconds."""

    seconds: float
    """The best guess: the middle of what is possible."""
    uncertainty_seconds: float
    """How far off that guess may be, either way."""

    @property
    def at_least_seconds(self) -> float:
        """The smallest error that explains what was seen, 0 when none is needed."""
        return max(0.0, abs(self.seconds) - self.uncertainty_seconds)


def offset(*, sent_utc: datetime, round_trip_seconds: float, date_utc: datetime) -> Offset:
    """Return our clock's offset from one that wrote `date_utc` into its answer. Pure.

    The answer was written some time between our sending and our receiving; its `Date` is cut to the second, so it was
    then anything from `date_utc` to a second later. Both middles are as far from the truth as half their span at most
    (Cristian, "Probabilistic clock synchronization", 1989).

    Args:
        sent_utc: our time when the question went out.
        round_trip_seconds: from then to the answer, by a clock that does not jump.
        date_utc: what the answer's `Date` says.
    """
    ours = sent_utc + timedelta(seconds=round_trip_seconds / 2)
    theirs = date_utc + timedelta(seconds=DATE_RESOLUTION_SECONDS / 2)
    return Offset((ours - theirs).total_seconds(), (round_trip_seconds + DATE_RESOLUTION_SECONDS) / 2)


def date_of(headers: HTTPMessage) -> datetime | None:
    """Return an answer's `Date`, in UTC; None: it has none that can be read."""
    try:
        said = parsedate_to_datetime(headers["Date"])
    except (TypeError, ValueError):
        return None
    return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Compare this machine's clock with one region's KMS.

    Steps: `dns`, `tcp`, `tls`, `answer`.
    Facts: `offset_seconds` (our clock minus KMS's, positive when ours is ahead; the middle of what is possible),
    `round_trip_seconds` (from question to answer; half of it, and half a second, is how far off that may be).
    """

    region: str
    connector: Connector = field(repr=False, compare=False)
    timeless: Connector = field(repr=False, compare=False)
    """The same, but for the validity of certificates (`new_connection.without_times`)."""
    max_seconds: float
    """More than this is a failure."""
    deadline_seconds: float = 10.0
    purpose: str = field(default="", init=False)

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.CLOCK_OFFSET

    def run(self, core: Core, clock: Clock) -> CanaryResult:  # noqa: ARG002  nothing is sealed, opened or signed
        """Ask once; without an answer it is blind, for it knows nothing of the clock."""
        steps = Steps(clock)
        facts: dict[str, Fact] = {}
        try:
            finding = self._look(clock, steps, facts)
        except ConnectionFault as e:
            meant = what_it_means(e)
            finding = Finding(Outcome.BLIND, meant.reason, meant.error_code, detail=meant.detail)
        return answer(self, steps, finding, facts)

    def _look(self, clock: Clock, steps: Steps, facts: dict[str, Fact]) -> Finding:
        try:
            found = self._ask(self.connector, clock, steps, facts)
        except ConnectionFault as e:
            if not e.outside_validity:
                raise
            found = self._ask(self.timeless, clock, steps, facts)
            return self._judge(found, trusted=False)
        return self._judge(found, trusted=True)

    def _ask(self, connector: Connector, clock: Clock, steps: Steps, facts: dict[str, Fact]) -> Offset | None:
        budget = Budget(steps, self.deadline_seconds)
        with connector.open(budget) as opened, steps.step(ANSWER):
            sent_utc, sent = clock.now_utc(), clock.monotonic()
            headers = ask_head(opened, connector.server, budget)
            round_trip_seconds = clock.monotonic() - sent
        date_utc = date_of(headers)
        if date_utc is None:
            return None
        found = offset(sent_utc=sent_utc, round_trip_seconds=round_trip_seconds, date_utc=date_utc)
        facts |= {"offset_seconds": found.seconds, "round_trip_seconds": round_trip_seconds}
        return found

    def _judge(self, found: Offset | None, *, trusted: bool) -> Finding:
        """Judge what was seen: that the clock is wrong may be said on a hint, that it is right on good papers alone."""
        if found is None:
            return Finding(Outcome.BLIND, Reason.UNREADABLE, detail="the answer has no Date")
        if found.at_least_seconds > self.max_seconds:
            side = "ahead of" if found.seconds > 0 else "behind"
            seconds, within = abs(found.seconds), found.uncertainty_seconds
            return failed(Reason.CLOCK_OFF, detail=f"{seconds:.1f} s {side} KMS, within {within:.1f} s")
        if not trusted:
            detail = "the certificate has expired or is not yet valid, though the clock agrees with the answer's Date"
            return Finding(Outcome.BLIND, Reason.UNREADABLE, detail=detail)
        return Finding()
