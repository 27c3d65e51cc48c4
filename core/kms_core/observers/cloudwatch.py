"""Events as the setup guide's CloudWatch metrics, tallied in memory and sent by a thread of each publishing region.

`KMSOperationDuration` (Milliseconds; Region, Operation, Success) and `CircuitBreakerState` (None; Region: 0 closed, 1
half open, 2 open). CloudWatch never sums custom metrics over dimensions, so every series has exactly these; the
breaker's is sent in every period, also when nothing moved.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from kms_core import _forks
from kms_core.clock import Clock, SystemClock
from kms_core.events import Attempt, BreakerMoved, Event
from kms_core.observers import BREAKER_VALUES
from kms_core.observers._put_metric_data import MAX_VALUES, Datum, Dimensions, datums, in_requests, refused_for_good

__all__ = ["DETAILED_VALUES", "MAX_VALUES", "MAX_WAITING", "NAMESPACE", "CloudWatchObserver", "Datum"]

NAMESPACE = "ParkerFlight/KMS"
DETAILED_VALUES = 1500
"""Distinct values, to 0.1 ms, that one series may have in one period. Further ones are rounded to two significant
digits, at most 5 % off: 90 values for a power of ten, so that memory is bounded and every value counts."""
MAX_WAITING = 120
"""Periods that wait for a region that cannot be reached: two hours of minutes. Then the oldest are given up. Each keeps
some 75 kB of a series that has `DETAILED_VALUES`, once for all regions."""
_CLOSE_SECONDS = 5.0

_log = logging.getLogger("kms_core.observers")


class CloudWatchObserver:
    """Never waits for the network in a call and never fails one: what cannot be sent waits, and then is given up.

    Every attempt counts; what is rounded says `DETAILED_VALUES`. A region that is slow, throttles, fails or cannot be
    reached is asked again in the next period, and keeps nothing from the others. A request that a region refuses for
    good (any other status 4xx: a missing permission, a bad namespace) is given up, and the logger `kms_core.observers`
    warns of it once for each region and reason. A request whose answer was lost is sent again, so CloudWatch may count
    it twice.

    Its threads do not survive `fork`: make one in the child. In a child, one that the parent made takes no event,
    warns once, and closes at once.

    Args:
        clients: a boto3 CloudWatch client for each region to publish in; two at least outlive a region. Give them
            short timeouts. They are the caller's to close.
        regions: the core's: their breakers are published from the start, closed.
        period_seconds: how often is sent; at or above 60, the metrics are of standard resolution.
    """

    def __init__(
        self,
        clients: Mapping[str, Any],
        regions: Iterable[str],
        *,
        namespace: str = NAMESPACE,
        period_seconds: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._namespace = namespace
        self._period_seconds = period_seconds
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._tallies: dict[Dimensions, Counter[float]] = {}
        self._breakers = dict.fromkeys(regions, BREAKER_VALUES["closed"])
        self._worst = dict(self._breakers)
        self._ending = threading.Event()
        self._last = threading.Event()
        self._forked = False
        self._told: set[tuple[str, ...]] = set()
        self.dropped = 0
        """Periods that waited too long or still at the end, and requests that were refused for good, of each region by
        itself; grows only."""
        self._backlogs = {region: _Backlog() for region in clients}
        self._turned = {region: threading.Event() for region in clients}
        self._ended: list[threading.Event] = []
        _forks.remember(self)
        self._start("clock", self._turn_until_end)
        for region, client in clients.items():
            self._start(region, self._send_until_end, region, client)

    def on_event(self, event: Event) -> None:
        """Count `event`."""
        if self._forked:
            self._tell_once(("forked",), "cloudwatch.forked: nobody sends events in this process: make one in it")
            return
        match event:
            case Attempt():
                success = "false" if event.error_code else "true"
                series = (("Region", event.region), ("Operation", event.operation), ("Success", success))
                self._count(series, round(event.seconds * 1000, 1))
            case BreakerMoved():
                with self._lock:
                    state = self._breakers[event.region] = BREAKER_VALUES[event.new]
                    self._worst[event.region] = max(state, self._worst.get(event.region, 0))
            case _:
                pass

    def close(self) -> None:
        """Send what is there, wait at most 5 seconds for it in all, and end the threads.

        A thread whose client still hangs then is left behind; it ends with its request, or with the process.
        """
        if self._forked:
            return
        until = self._clock.monotonic() + _CLOSE_SECONDS
        self._ending.set()
        for ended in self._ended:
            self._clock.wait(ended, until - self._clock.monotonic())

    def forked(self) -> None:
        """Take note, without touching a lock, that this is a child process: a lock may be held for ever here."""
        self._forked = True
        self._tallies = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, name: str, work: Callable[..., None], *args: Any) -> None:
        ended = threading.Event()

        def run() -> None:
            try:
                work(*args)
            finally:
                ended.set()

        self._ended.append(ended)
        threading.Thread(target=run, name=f"kms-core-cloudwatch-{name}", daemon=True).start()

    def _count(self, series: Dimensions, value: float) -> None:
        with self._lock:
            tally = self._tallies.setdefault(series, Counter())
            if value not in tally and len(tally) >= DETAILED_VALUES:
                value = float(f"{value:.2g}")
            tally[value] += 1

    def _turn_until_end(self) -> None:
        ended = False
        while not ended:
            ended = self._clock.wait(self._ending, self._period_seconds)
            self._turn(last=ended)

    def _turn(self, *, last: bool) -> None:
        """End the period: its requests go to every region's backlog."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
            breakers, self._worst = self._worst, dict(self._breakers)
        requests = list(in_requests(self._period(tallies, breakers)))
        for backlog in self._backlogs.values():
            self._give_up(backlog.add(requests))
        if last:
            self._last.set()
        for turned in self._turned.values():
            turned.set()

    def _period(self, tallies: Mapping[Dimensions, Counter[float]], breakers: Mapping[str, int]) -> Iterator[Datum]:
        at_utc = self._clock.now_utc()
        resolution: Literal[1, 60] = 60 if self._period_seconds >= 60 else 1  # noqa: PLR2004 - CloudWatch's own border
        for series, tally in tallies.items():
            yield from datums(
                "KMSOperationDuration", "Milliseconds", series, tally, at_utc=at_utc, resolution_seconds=resolution
            )
        for region, state in breakers.items():
            series, tally = (("Region", region),), Counter({float(state): 1})
            yield from datums(
                "CircuitBreakerState", "None", series, tally, at_utc=at_utc, resolution_seconds=resolution
            )

    def _send_until_end(self, region: str, client: Any) -> None:
        turned, backlog, ended = self._turned[region], self._backlogs[region], False
        while not ended:
            self._clock.wait(turned, self._period_seconds)
            turned.clear()
            ended = self._last.is_set()
            self._send(region, client, backlog)
        self._give_up(len(backlog))

    def _send(self, region: str, client: Any, backlog: _Backlog) -> None:
        """Send what waits, the oldest first, until there is nothing or something must wait longer."""
        while (request := backlog.oldest()) is not None:
            try:
                client.put_metric_data(Namespace=self._namespace, MetricData=request)
            except Exception as e:  # noqa: BLE001 - a thread's outermost border
                if (reason := refused_for_good(e)) is None:
                    return
                self._give_up(1)
                self._tell_once((region, reason), "cloudwatch.refused region=%s reason=%s: %s", region, reason, e)
            backlog.remove(request)

    def _give_up(self, count: int) -> None:
        with self._lock:
            self.dropped += count

    def _tell_once(self, what: tuple[str, ...], message: str, *args: object) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.warning(message, *args)


class _Backlog:
    """What waits for one region, the oldest first: periods, and of each the requests that are not yet done.

    One thread adds, which may push the oldest out, while another sends it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._periods: collections.deque[collections.deque[list[Datum]]] = collections.deque(maxlen=MAX_WAITING)

    def __len__(self) -> int:
        return len(self._periods)

    def add(self, requests: Iterable[list[Datum]]) -> int:
        """Add a period; return how many were given up for it."""
        period = collections.deque(requests)
        if not period:
            return 0
        with self._lock:
            full = len(self._periods) == MAX_WAITING
            self._periods.append(period)
        return int(full)

    def oldest(self) -> list[Datum] | None:
        """Return the request that is next; it stays here until it is removed."""
        with self._lock:
            return self._periods[0][0] if self._periods else None

    def remove(self, request: list[Datum]) -> None:
        """Remove the oldest request, if it is this one: it may have been given up meanwhile."""
        with self._lock:
            if not self._periods or self._periods[0][0] is not request:
                return
            self._periods[0].popleft()
            if not self._periods[0]:
                self._periods.popleft()
