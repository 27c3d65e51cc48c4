"""CloudWatch in one region, from HTTP request to HTTP response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kms_local.cloudwatch import alarm_requests, readings
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.ingest import put_metric_data
from kms_local.cloudwatch.store import MetricStore
from kms_local.gate import Gate
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_front import JsonProtocol, unknown_operation
from kms_local.wire.params import JsonObject, Params

PROTOCOL = JsonProtocol(
    target_prefix="GraniteServiceVersion20100801.",
    content_type="application/x-amz-json-1.0",
    query_shapes={  # the code of the query protocol, which clients still see, and the shape that carries it
        "InvalidParameterValue": "InvalidParameterValueException",
        "InvalidParameterCombination": "InvalidParameterCombinationException",
        "MissingParameter": "MissingRequiredParameterException",
        "ResourceNotFound": "ResourceNotFound",
        "ValidationError": "ValidationException",
        "LimitExceeded": "LimitExceededFault",
        "InvalidNextToken": "InvalidNextToken",
    },
)
_ON_METRICS: dict[str, Callable[[MetricStore, Params, float], JsonObject]] = {
    "PutMetricData": put_metric_data,
    "GetMetricData": readings.get_metric_data,
    "GetMetricStatistics": readings.get_metric_statistics,
    "ListMetrics": readings.list_metrics,
}
_ON_ALARMS: dict[str, Callable[[AlarmBook, Params, float], JsonObject]] = {
    "PutMetricAlarm": alarm_requests.put_metric_alarm,
    "DescribeAlarms": alarm_requests.describe_alarms,
    "DescribeAlarmHistory": alarm_requests.describe_alarm_history,
    "DeleteAlarms": alarm_requests.delete_alarms,
    "SetAlarmState": alarm_requests.set_alarm_state,
    "EnableAlarmActions": alarm_requests.enable_alarm_actions,
    "DisableAlarmActions": alarm_requests.disable_alarm_actions,
    "ListTagsForResource": alarm_requests.list_tags_for_resource,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchService:
    """Answers the CloudWatch requests of one region."""

    gate: Gate
    store: MetricStore
    book: AlarmBook

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        request_id = self.gate.new_id()
        try:
            return PROTOCOL.answer(await self._answer(request), request_id)
        except ServiceError as error:
            return PROTOCOL.refusal(error, request_id)

    async def _answer(self, request: Request) -> JsonObject:
        operation = PROTOCOL.operation(request)
        self.gate.verify(request, "monitoring")
        params = Params(PROTOCOL.decode(request))
        await self.gate.suffer("cloudwatch", operation)
        now = self.gate.now()
        if operation in _ON_METRICS:
            return _ON_METRICS[operation](self.store, params, now)
        if operation in _ON_ALARMS:
            return _ON_ALARMS[operation](self.book, params, now)
        raise unknown_operation()
