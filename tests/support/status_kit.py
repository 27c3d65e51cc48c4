"""A watchdog to serve without a daemon: every kind of canary of three regions and three keys, in any state."""

from __future__ import annotations

import functools
import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import permutations, product
from pathlib import Path

from daemon_kit import PURPOSES, REGIONS, START

from kms_core import RegionHealth
from kms_core.overrides import RegionOverride
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Board, Health, Subject, assess, board
from kms_watchdog.looks import CanaryBusyError, TooManyLooksError, UnknownCanaryError
from kms_watchdog.results import CanaryResult, Kind, Mode, Outcome, Reason, pair
from kms_watchdog.sinks.health import Standing
from kms_watchdog.web.access import Access
from kms_watchdog.web.app import application
from kms_watchdog.web.connection import Bounds
from kms_watchdog.web.documents import Status
from kms_watchdog.web.page import Page
from kms_watchdog.web.server import DEFAULT_BOUNDS, WebServer, bind

TOKEN = "a-token-that-nobody-guesses"
RUN = "20260101T000000Z-region-blackhole"
STALE_AFTER = dict.fromkeys(Kind, 90.0)
OF_A_REGION = (Kind.COLD_CONNECTION, Kind.CLOCK_OFFSET, Kind.HEADROOM)
OF_HOME = (Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE)


def all_subjects() -> Iterator[Subject]:
    """Every canary of the default installation, in the order of `Kind`."""
    pairs = [pair(sealed, opened) for sealed, opened in permutations(REGIONS, 2)]
    for kind in Kind:
        if kind is Kind.CROSS_REGION:
            yield from (Subject(kind, region, key) for region, key in product(pairs, PURPOSES))
        elif kind is Kind.ALARM_PATH:
            yield from (Subject(kind, region, "") for region in REGIONS[:2])
        elif kind in OF_A_REGION:
            yield from (Subject(kind, region, "") for region in REGIONS)
        else:
            regions = REGIONS[:1] if kind in OF_HOME else REGIONS
            yield from (Subject(kind, region, key) for region, key in product(regions, PURPOSES))


def look(subject: Subject, outcome: Outcome = Outcome.OK, *, at: float = 0.0, **more: object) -> CanaryResult:
    """One look of `subject`, that began `at` seconds after the start of 2026."""
    usual = {Outcome.OK: None, Outcome.FAILED: Reason.TIMEOUT, Outcome.BLIND: Reason.NO_CREDENTIALS}
    values: dict[str, object] = {"reason": usual[outcome], "duration_seconds": 0.02, "mode": Mode.LIVE, **more}
    started_at_utc = START + timedelta(seconds=at)
    return CanaryResult(
        canary=subject.canary,
        region=subject.region,
        key=subject.key,
        outcome=outcome,
        started_at_utc=started_at_utc,
        **values,  # type: ignore[arg-type] # each is of its field's type
    )


Bad = Callable[[Subject], CanaryResult | None]
"""What a canary says when it is not OK; None: it is."""


@dataclass
class ServedWatchdog:
    """What is served, with everything at hand to set."""

    settings: Settings
    clock: ManualClock = field(default_factory=ManualClock)
    token: str | None = None
    subjects: Sequence[Subject] = field(default_factory=lambda: tuple(all_subjects()))
    board: Board = field(init=False)
    ticks: dict[Subject, list[CanaryResult]] = field(default_factory=dict)
    failures: tuple[CanaryResult, ...] = ()
    breakers: dict[str, str] = field(default_factory=lambda: dict.fromkeys(REGIONS, "closed"))
    forced: dict[str, str] = field(default_factory=dict)
    orders: tuple[RegionOverride, ...] = ()
    runs: tuple[RunView, ...] = (
        RunView(
            run_id=RUN,
            drill="region-blackhole",
            region="us-east-1",
            started_at_utc=START,
            closed=True,
            verdict=Verdict.HELD,
        ),
    )
    next_runs: tuple[tuple[str, float], ...] = (("heartbeat", 0.0),)
    is_alive: bool = True
    missing: tuple[str, ...] = ()
    crash: bool = False
    ran: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    before_metrics: Callable[[], object] = lambda: None
    metrics_body: bytes = b"up 1\n"
    report_file: Path | None = None

    def __post_init__(self) -> None:
        given = None if self.token is None else lambda: self.token
        self.access = Access(given, self.clock, entropy=lambda size: bytes(range(size)))
        self.board = board(self.subjects)
        self.look(3)

    def look(self, times: int = 1, bad: Bad | Mapping[Subject, CanaryResult] = lambda _: None) -> None:
        """Let every canary look so many times, thirty seconds apart."""
        of = bad if callable(bad) else bad.get
        for _ in range(times):
            at = self.clock.monotonic()
            for i, subject in enumerate(self.subjects):
                seen = replace(of(subject) or look(subject), started_at_utc=START + timedelta(seconds=at))
                if seen.outcome is Outcome.OK:
                    seen = replace(seen, duration_seconds=0.018 + 0.001 * ((i * 7 + int(at)) % 11))
                self.write(seen)
            self.clock.advance(30)

    def write(self, result: CanaryResult) -> None:
        """Take one result, as the sinks do."""
        subject = Subject(result.canary, result.region, result.key)
        self.board = self.board.fold(result, now=self.clock.monotonic())
        self.ticks[subject] = [*self.ticks.get(subject, []), result][-60:]
        if result.outcome is not Outcome.OK:
            self.failures = (result, *self.failures)[:50]

    def alive(self) -> bool:
        return self.is_alive

    def waiting_for(self) -> tuple[str, ...]:
        return self.missing

    def health_now(self) -> Health:
        if self.crash:
            raise RuntimeError("a secret detail")
        return assess(self.board, self.breakers, now=self.clock.monotonic(), stale_after_seconds=STALE_AFTER)

    def status(self) -> Status:
        now_utc = START + timedelta(seconds=self.clock.monotonic())
        return Status(
            settings=self.settings,
            version="1.2.3",
            now_utc=now_utc,
            started_at_utc=START,
            standing=Standing(self.health_now(), START),
            board=self.board,
            regions={
                region: RegionHealth(
                    region=region,
                    breaker=breaker,  # type: ignore[arg-type] # one of the three
                    since_seconds=61.0,
                    joined=True,
                    forced_reason=self.forced.get(region, ""),
                )
                for region, breaker in self.breakers.items()
            },
            orders=self.orders,
            ticks=self.ticks,
            failures=self.failures,
            runs=self.runs,
            reports=frozenset({RUN}),
            next_runs=[(name, now_utc + timedelta(seconds=seconds)) for name, seconds in self.next_runs],
        )

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        self.before_metrics()
        return self.metrics_body, "text/plain; version=0.0.4; charset=utf-8"

    def report(self, run_id: str) -> Path | None:
        return self.report_file if run_id == RUN else None

    def run_canary(self, name: str) -> CanaryResult:
        if self.refuses:
            raise self.refuses
        known = {subject.id: subject for subject in self.subjects}
        if name not in known:
            raise UnknownCanaryError(name, known)
        self.ran.append(name)
        seen = look(known[name], Outcome.FAILED, at=self.clock.monotonic(), error_code="ReadTimeout", detail="slow")
        self.write(seen)
        return seen


BUSY, TOO_MANY = CanaryBusyError("it"), TooManyLooksError()


def one_region_down(region: str = "us-east-1") -> Bad:
    """Everything that needs `region` fails, as it does when its network is gone."""

    def bad(subject: Subject) -> CanaryResult | None:
        if region not in subject.region.split(":") or subject.canary in {Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE}:
            return None
        if subject.canary in {Kind.KEY_STATE, Kind.REPLICA_DRIFT, Kind.APPLICATION_ACCESS, Kind.CLOCK_OFFSET}:
            return look(subject, Outcome.BLIND, reason=Reason.UNREADABLE, error_code="ConnectTimeout")
        reason = Reason.CONNECT if subject.canary == Kind.COLD_CONNECTION else Reason.TIMEOUT
        return look(
            subject,
            Outcome.FAILED,
            reason=reason,
            error_code="ConnectTimeout",
            duration_seconds=2.5,
            detail=f"{subject.region}: no connection within 1 s",
        )

    return bad


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    code: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Site:
    """A served watchdog's address."""

    port: int

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@functools.cache
def page() -> Page:
    """Return the page, its templates read once for all tests."""
    return Page()


@contextmanager
def served(watchdog: ServedWatchdog, bounds: Bounds = DEFAULT_BOUNDS) -> Iterator[Site]:
    """Serve a watchdog on a free port."""
    listener = bind("127.0.0.1", 0)
    server = WebServer(application(watchdog, page(), with_metrics=True), listener, bounds)
    server.start()
    try:
        yield Site(listener.getsockname()[1])
    finally:
        server.stop()
