"""Events as the setup guide's CloudWatch metrics, tallied in memory and sent by a thread of each publishing region.

`KMSOperationDuration` (Milliseconds; Region, Operation, Success) and `CircuitBreakerState` (None; Region: 0 closed, 1
half open, 2 open). CloudWatch never sums custom metrics over dimensions, so every series has exactly these; the
breaker's is sent in every period, also when nothing moved.
"""

from __future__ import annotations

import collections
import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from kms_core.clock import Clock, SystemClock
from kms_core.events import Attempt, BreakerMoved, Event
from kms_core.observers import BREAKER_VALUES

NAMESPACE = "ParkerFlight/KMS"
MAX_VALUES = 150
"""Distinct values that one datum may hold; more of one series in one period are counted as dropped."""
MAX_WAITING = 120
"""Periods that wait for a region that cannot be reached: two hours of minutes. Then the oldest are dropped."""
_MAX_DATUMS = 1000
_CLOSE_SECONDS = 5.0

Datum = dict[str, Any]
_Dimensions = tuple[tuple[str, str], ...]


class CloudWatchObserver:
    """Never blocks a call and never fails one: what cannot be sent waits, and then is dropped and counted.

    Args:
        clients: a boto3 CloudWatch client for each region to publish in; two at least outlive a region. Give them
            short timeouts. They are the caller's to close.
        regions: the core's: their breakers are published from the start.
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
        self._tallies: dict[_Dimensions, Counter[float]] = {}
        self._breakers = dict.fromkeys(regions, BREAKER_VALUES["closed"])
        self._worst = dict(self._breakers)
        self._ending = threading.Event()
        self._last = threading.Event()
        self.dropped = 0
        """Values and periods that were given up; grows only."""
        self._queues = {region: collections.deque[list[Datum]](maxlen=MAX_WAITING) for region in clients}
        self._turned = {region: threading.Event() for region in clients}
        threads = [("clock", self._turn_until_end, ())] + [
            (region, self._send_until_end, (region, client)) for region, client in clients.items()
        ]
        self._threads = [
            threading.Thread(target=target, args=args, name=f"kms-core-cloudwatch-{name}", daemon=True)
            for name, target, args in threads
        ]
        for thread in self._threads:
            thread.start()

    def on_event(self, event: Event) -> None:
        """Count `event`."""
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
        """Send what is there, wait at most 5 seconds for it, and end the threads."""
        self._ending.set()
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, series: _Dimensions, value: float) -> None:
        with self._lock:
            tally = self._tallies.setdefault(series, Counter())
            if value not in tally and len(tally) >= MAX_VALUES:
                self.dropped += 1
                return
            tally[value] += 1

    def _turn_until_end(self) -> None:
        ended = False
        while not ended:
            ended = self._clock.wait(self._ending, self._period_seconds)
            self._turn(last=ended)

    def _turn(self, *, last: bool) -> None:
        """End the period: its datums go to every region's queue."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
            breakers, self._worst = self._worst, dict(self._breakers)
        at = self._clock.now_utc()
        datums = [self._datum("KMSOperationDuration", series, tally, at) for series, tally in tallies.items()]
        for region, state in breakers.items():
            datums.append(self._datum("CircuitBreakerState", (("Region", region),), Counter({float(state): 1}), at))
        for queue in self._queues.values():
            self.dropped += len(queue) == MAX_WAITING
            queue.append(datums)
        if last:
            self._last.set()
        for turned in self._turned.values():
            turned.set()

    def _datum(self, name: str, series: _Dimensions, tally: Counter[float], at: dt.datetime) -> Datum:
        return {
            "MetricName": name,
            "Dimensions": [{"Name": dimension, "Value": value} for dimension, value in series],
            "Timestamp": at,
            "Values": list(tally),
            "Counts": [float(count) for count in tally.values()],
            "Unit": "Milliseconds" if name == "KMSOperationDuration" else "None",
            "StorageResolution": 60 if self._period_seconds >= 60 else 1,  # noqa: PLR2004 - CloudWatch's own border
        }

    def _send_until_end(self, region: str, client: Any) -> None:
        turned, ended = self._turned[region], False
        while not ended:
            self._clock.wait(turned, self._period_seconds)
            turned.clear()
            ended = self._last.is_set()
            self._send(self._queues[region], client)

    def _send(self, queue: collections.deque[list[Datum]], client: Any) -> None:
        while queue:
            datums = queue[0]
            for start in range(0, len(datums), _MAX_DATUMS):
                try:
                    client.put_metric_data(Namespace=self._namespace, MetricData=datums[start : start + _MAX_DATUMS])
                except Exception:  # noqa: BLE001 - a thread's outermost border: kept, and sent with the next period
                    return
            if queue and queue[0] is datums:
                queue.popleft()
