"""The services of one region, put together: KMS behind one listener, everything else behind another."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.service import CloudWatchService
from kms_local.cloudwatch.store import MetricStore
from kms_local.gate import Gate
from kms_local.other_services import OtherServices
from kms_local.sns.topics import Topics

OTHER_SERVICE_NAMES = ("monitoring", "sns", "sts")
"""How the end points of CloudWatch, SNS and STS begin."""
_log = logging.getLogger(__name__)


def open_other_services(stack: AsyncExitStack, gate: Gate, *, evaluate_seconds: float) -> OtherServices:
    """Return CloudWatch, SNS and STS of a region; alarms are evaluated until `stack` closes."""
    topics = Topics(gate)
    stack.push_async_callback(topics.close)
    store = MetricStore()
    book = AlarmBook(account_id=gate.account_id, region=gate.region, store=store, publish=topics.publish_for_alarm)
    evaluating = asyncio.create_task(_evaluate_for_ever(book, gate, evaluate_seconds))
    stack.push_async_callback(_end, evaluating)
    cloudwatch = CloudWatchService(gate=gate, store=store, book=book)
    return OtherServices(gate=gate, cloudwatch=cloudwatch, topics=topics)


async def _evaluate_for_ever(book: AlarmBook, gate: Gate, evaluate_seconds: float) -> None:
    while True:
        await asyncio.sleep(evaluate_seconds)
        try:
            book.evaluate_all(gate.now())
        except Exception:  # noqa: BLE001  the outermost border: alarms that stand still would look like good news
            _log.exception("alarms.evaluation_failed", extra={"region": gate.region})


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
