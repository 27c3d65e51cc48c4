"""The way to CloudWatch put together: count, queue, send; each step in a job of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import structlog

from kms_core.clock import Clock
from kms_watchdog import aws, metrics
from kms_watchdog.config import Settings
from kms_watchdog.health import Subject
from kms_watchdog.results import Mode
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.cloudwatch import CloudWatchSink, Publishing
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.publisher import Publisher
from kms_watchdog.sinks.queue import MetricQueue, QueueUnavailableError

log = structlog.get_logger("cloudwatch")

CLOSE_KIND, SEND_KIND = "cloudwatch.close", "cloudwatch.send"
CLOSE_AFTER_SECONDS = 0.5  # a drill's numbers come through its journal, some tenths of a second late
SEND_AFTER_SECONDS = 0.9
RETRY_SECONDS = 10.0
MAX_UNSAVED = 20_000  # an hour or more of the Parker Flight estate's, some 20 MB
AT_LEAST_REGIONS = 2  # one that fails with the metrics in it tells nobody


class CloudWatchPath:
    """Counting sink, durable queue, and a publisher a region."""

    def __init__(
        self,
        settings: Settings,
        subjects: Iterable[Subject],
        queue: MetricQueue,
        exposition: Exposition,
        clock: Clock,
        *,
        faults: Callable[[], int] = lambda: 0,
        connect: Callable[[Settings, str, str], Any] = aws.client,
        max_unsaved: int = MAX_UNSAVED,
    ) -> None:
        """Make the clients, by `connect`; call in the main thread. The queue outlives this: it is its owner's to close.

        `faults` returns how many faults nobody has undone yet; `max_unsaved` datums wait in memory for a full disk.
        """
        self._clock, self._exposition = clock, exposition
        self._regions = settings.publish_regions
        self._period_seconds = settings.cloudwatch.period_seconds
        publishing = Publishing(
            namespaces={Mode.LIVE: settings.cloudwatch.namespace, Mode.DRILL: settings.cloudwatch.drill_namespace},
            period_seconds=self._period_seconds,
            regions=settings.estate.regions,
            monitor=settings.monitor,
        )
        self.sink = CloudWatchSink(publishing, subjects=subjects, now=clock.now_utc().timestamp(), faults=faults)
        self._max_unsaved = max_unsaved
        self._putting = threading.Lock()
        self._unsaved: tuple[Datum, ...] = ()
        """What the queue's file could not take yet."""
        if len(self._regions) < AT_LEAST_REGIONS <= len(settings.estate.regions):
            log.warning("cloudwatch.one_region", region=self._regions[0], why="its outage would tell nobody")
        self._queue = queue
        self._publishers = {
            region: Publisher(region, connect(settings, "cloudwatch", region), self._queue, exposition, clock)
            for region in self._regions
        }

    def jobs(self, pool: str) -> Iterator[Job]:
        """Return what is to be done again and again."""
        yield Job(
            id=CLOSE_KIND,
            kind=CLOSE_KIND,
            action=self.close_periods,
            interval_seconds=self._period_seconds,
            offset_seconds=CLOSE_AFTER_SECONDS,
            first_within_seconds=None,
            pool=pool,
        )
        for region, publisher in self._publishers.items():
            yield Job(
                id=f"{SEND_KIND}:{region}",
                kind=SEND_KIND,
                action=publisher.send,
                interval_seconds=min(RETRY_SECONDS, self._period_seconds),
                offset_seconds=SEND_AFTER_SECONDS,
                first_within_seconds=None,
                pool=pool,
            )

    def close_periods(self) -> None:
        """Put what was counted in finished periods into the queue."""
        self._put(self.sink.close(self._clock.now_utc().timestamp()))

    def put_unfinished(self) -> None:
        """Queue what was counted in the running period too."""
        self._put(self.sink.close(self._clock.now_utc().timestamp(), unfinished_too=True))

    def flush(self, deadline_seconds: float) -> None:
        """Queue the running period too and try to send all, at most this long; what is left waits on disk.

        In threads of their own: neither a disk nor a region that stands still holds up the exit.
        """
        until = self._clock.monotonic() + deadline_seconds
        sending = tuple(partial(publisher.send, at_once=True) for publisher in self._publishers.values())
        for step in ((self.put_unfinished,), sending):
            threads = [
                threading.Thread(target=_quietly, args=(act,), name="cloudwatch-flush", daemon=True) for act in step
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(max(0.0, until - self._clock.monotonic()))

    def take_over(self, before: CloudWatchPath) -> None:
        """Go on from another, as after a reload: with the drills that run, and with what could not be queued yet."""
        self.sink.take_over(before.sink)
        with before._putting:
            self._unsaved, before._unsaved = before._unsaved, ()

    def _put(self, datums: Iterable[Datum]) -> None:
        """Queue `datums`, and first what could not be queued before; in memory too they wait, while there is room."""
        with self._putting:
            dropped = self._put_or_keep(datums)
        for region, count in dropped.items():
            if count:
                self._exposition.add(metrics.CLOUDWATCH_DROPPED, region, "queue_full", by=count)
                log.warning("cloudwatch.dropped", region=region, reason="queue_full", datums=count)

    def _put_or_keep(self, datums: Iterable[Datum]) -> dict[str, int]:
        """Return how many were dropped by region."""
        waiting = (*self._unsaved, *datums)
        try:
            dropped = self._queue.put(waiting, self._regions)
        except QueueUnavailableError as e:
            self._exposition.add(metrics.STATE_WRITE_FAILURES, "cloudwatch")
            log.error("cloudwatch.queue_unavailable", error=str(e), datums=len(waiting))  # noqa: TRY400 - its text says it all
            self._unsaved = waiting[-self._max_unsaved :]
            return dict.fromkeys(self._regions, len(waiting) - len(self._unsaved))
        self._unsaved = ()
        return dropped


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception:  # the thread's outermost border, at exit: the data are safe in the queue
        log.exception("cloudwatch.flush_failed")
