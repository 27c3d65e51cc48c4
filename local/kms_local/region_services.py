"""The services of one region, put together: KMS behind one listener, everything else behind another."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from functools import partial

from kms_local.cloudwatch import snapshot as cloudwatch_snapshot
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.service import CloudWatchService
from kms_local.cloudwatch.store import MetricStore
from kms_local.gate import Gate
from kms_local.kept_state import KeptState
from kms_local.other_services import OtherServices
from kms_local.sns import snapshot as sns_snapshot
from kms_local.sns.topics import Topics

_log = logging.getLogger(__name__)


def open_other_services(
    stack: AsyncExitStack, gate: Gate, kept: KeptState, *, evaluate_seconds: float
) -> OtherServices:
    """Return CloudWatch, SNS, STS and IAM of a region, as an earlier run left them; alarms are evaluated until the end.

    Raises:
        KeptStateError: what was kept of them cannot be read.
    """
    topics = Topics(gate)
    stack.push_async_callback(topics.close)
    store = MetricStore()
    book = AlarmBook(account_id=gate.account_id, region=gate.region, store=store, publish=topics.publish_for_alarm)
    kept.read(f"topics {gate.region}", partial(sns_snapshot.restore, topics))
    kept.read(f"alarms {gate.region}", partial(cloudwatch_snapshot.restore, book))
    kept.keep(f"topics {gate.region}", partial(sns_snapshot.to_document, topics))
    kept.keep(f"alarms {gate.region}", partial(cloudwatch_snapshot.to_document, book))
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
