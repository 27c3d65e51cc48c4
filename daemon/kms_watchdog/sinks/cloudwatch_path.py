"""The way to CloudWatch put together: count, queue, send; each step in a job of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

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
from kms_watchdog.sinks.queue import MetricQueue

log = structlog.get_logger("cloudwatch")

CLOSE_KIND, SEND_KIND = "cloudwatch.close", "cloudwatch.send"
CLOSE_AFTER_SECONDS = 0.5  # a drill's numbers come through its journal, some tenths of a second late
SEND_AFTER_SECONDS = 0.9
RETRY_SECONDS = 10.0


class CloudWatchPath:
    """Counting sink, durable queue, and a publisher a region."""

    def __init__(
        self, settings: Settings, subjects: Iterable[Subject], queue_file: Path, exposition: Exposition, clock: Clock
    ) -> None:
        """Open the queue and make the clients; call in the main thread.

        Raises:
            StateError: the queue's file cannot be used.
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
        self.sink = CloudWatchSink(publishing, subjects=subjects, now=clock.now_utc().timestamp())
        self._queue = MetricQueue(queue_file, clock)
        self._publishers = {
            region: Publisher(region, aws.client(settings, "cloudwatch", region), self._queue, exposition, clock)
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

    def flush(self, deadline_seconds: float) -> None:
        """Queue the running period too and try to send all, at most this long; what is left waits on disk."""
        self._put(self.sink.close(self._clock.now_utc().timestamp(), unfinished_too=True))
        senders = [
            threading.Thread(target=_quietly, args=(publisher,), name="cloudwatch-flush", daemon=True)
            for publisher in self._publishers.values()
        ]
        for sender in senders:
            sender.start()
        until = self._clock.monotonic() + deadline_seconds
        for sender in senders:
            sender.join(max(0.0, until - self._clock.monotonic()))

    def close(self) -> None:
        """Close the queue."""
        self._queue.close()

    def _put(self, datums: Iterable[Datum]) -> None:
        for region, dropped in self._queue.put(datums, self._regions).items():
            if dropped:
                self._exposition.add(metrics.CLOUDWATCH_DROPPED, region, "queue_full", by=dropped)
                log.warning("cloudwatch.dropped", region=region, reason="queue_full", datums=dropped)


def _quietly(publisher: Publisher) -> None:
    try:
        publisher.send(at_once=True)
    except Exception:  # the thread's outermost border, at exit: the data are safe in the queue
        log.exception("cloudwatch.flush_failed")
