"""Send what waits in the queue to CloudWatch, region by region: late rather than never, and one bad datum alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import structlog

from kms_core.clock import Clock
from kms_watchdog import metrics
from kms_watchdog.aws import AwsError, Trouble, error_code, trouble
from kms_watchdog.sinks.datum import MAX_AGE_SECONDS, MAX_BODY_BYTES, MAX_DATUMS
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.queue import MetricQueue, QueueUnavailableError, Waiting

log = structlog.get_logger("cloudwatch")

MAX_REQUESTS = 20  # of one turn: a long backlog goes out over several turns, fresh data are not far behind
MAX_BACKOFF_SECONDS = 60.0

SendResult = Literal["success"] | Trouble


class Publisher:
    """Empties the queue of one region; called from one thread at a time."""

    def __init__(self, region: str, client: Any, queue: MetricQueue, exposition: Exposition, clock: Clock) -> None:
        self._region, self._client, self._queue = region, client, queue
        self._exposition, self._clock = exposition, clock
        self._failures = 0
        self._not_before = 0.0
        self._last_result: SendResult = "success"

    def send(self, *, at_once: bool = False) -> None:
        """Send what waits; after a failure, wait longer each time, up to a minute, unless told to try `at_once`.

        Does nothing while another publisher of the region is at it.
        """
        if not at_once and self._clock.monotonic() < self._not_before:
            return
        with self._queue.turn(self._region) as mine:
            if mine:
                self._send_or_tell()

    def _send_or_tell(self) -> None:
        try:
            self._send()
            self._exposition.put(metrics.CLOUDWATCH_QUEUE, self._region, value=self._queue.length(self._region))
        except QueueUnavailableError as e:
            self._exposition.add(metrics.STATE_WRITE_FAILURES, "cloudwatch")
            log.error("cloudwatch.queue_unavailable", region=self._region, error=str(e))  # noqa: TRY400 - its text says it all

    def _send(self) -> None:
        for _ in range(MAX_REQUESTS):
            batch = self._fresh(self._queue.oldest(self._region, MAX_DATUMS))
            if not batch or not self._deliver_all(batch):
                break

    def _deliver_all(self, batch: Sequence[Waiting]) -> bool:
        """Send the whole batch, one request after another; stop at the first that should be tried later."""
        return all(self._deliver(part) for part in requests(batch))

    def _fresh(self, batch: Sequence[Waiting]) -> tuple[Waiting, ...]:
        oldest = self._clock.now_utc().timestamp() - MAX_AGE_SECONDS
        self._drop([w for w in batch if w.datum.period_start < oldest], "too_old")
        return tuple(w for w in batch if w.datum.period_start >= oldest)

    def _deliver(self, part: Sequence[Waiting]) -> bool:
        """Send one request's worth; when it is refused, send its halves, until the bad one is alone and dropped."""
        result = self._put(part)
        if result != "refused":
            return result == "success"
        if len(part) == 1:
            self._drop(part, "refused")
            return True
        middle = len(part) // 2
        return self._deliver(part[:middle]) and self._deliver(part[middle:])

    def _put(self, part: Sequence[Waiting]) -> SendResult:
        result: SendResult = "success"
        code = ""
        try:
            self._client.put_metric_data(
                Namespace=part[0].datum.namespace, MetricData=[waiting.datum.to_api() for waiting in part]
            )
        except AwsError as e:
            result, code = trouble(e), error_code(e)
        self._note(result, code, part)
        return result

    def _note(self, result: SendResult, code: str, part: Sequence[Waiting]) -> None:
        self._exposition.add(metrics.CLOUDWATCH_PUBLISH, self._region, result)
        if result == "success":
            self._exposition.add(metrics.CLOUDWATCH_DATUMS, self._region, by=len(part))
            now = self._clock.now_utc().timestamp()
            self._exposition.put(metrics.CLOUDWATCH_LAST_SUCCESS, self._region, value=now)
            self._queue.remove(waiting.id for waiting in part)
        if result in ("success", "refused"):
            self._failures, self._not_before = 0, 0.0
        else:
            self._failures += 1
            wait_seconds = min(2.0 ** min(self._failures, 10), MAX_BACKOFF_SECONDS)
            self._not_before = self._clock.monotonic() + wait_seconds
        self._log_change(result, code)

    def _drop(self, batch: Sequence[Waiting], reason: str) -> None:
        if not batch:
            return
        self._exposition.add(metrics.CLOUDWATCH_DROPPED, self._region, reason, by=len(batch))
        log.warning("cloudwatch.dropped", region=self._region, reason=reason, datums=len(batch))
        self._queue.remove(waiting.id for waiting in batch)

    def _log_change(self, result: SendResult, code: str) -> None:
        before, self._last_result = self._last_result, result
        if before == result:
            return
        if result == "success":
            log.info("cloudwatch.recovered", region=self._region)
        else:
            log.warning("cloudwatch.failed", region=self._region, result=result, error_code=code)


def requests(batch: Sequence[Waiting]) -> Iterator[tuple[Waiting, ...]]:
    """Yield `batch` in requests of one namespace each, within CloudWatch's limits of count and size."""
    by_namespace: Mapping[str, list[Waiting]] = {w.datum.namespace: [] for w in batch}
    for waiting in batch:
        by_namespace[waiting.datum.namespace].append(waiting)
    for group in by_namespace.values():
        yield from _chunks(group)


def _chunks(group: Sequence[Waiting]) -> Iterator[tuple[Waiting, ...]]:
    chunk: list[Waiting] = []
    size = 0
    for waiting in group:
        if chunk and (len(chunk) == MAX_DATUMS or size + waiting.size > MAX_BODY_BYTES):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(waiting)
        size += waiting.size
    if chunk:
        yield tuple(chunk)
