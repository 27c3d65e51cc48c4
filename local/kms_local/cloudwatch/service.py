"""CloudWatch in one region, from HTTP request to HTTP response, in each of its three protocols: JSON, query, CBOR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kms_local.cloudwatch import alarm_descriptions, alarm_requests, readings
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.ingest import entity_complaint, put_metric_data
from kms_local.cloudwatch.shapes import INPUTS, WITHOUT_RESULT, cbor_of, xml_of
from kms_local.cloudwatch.store import MetricStore
from kms_local.gate import Gate
from kms_local.identities import Identity
from kms_local.wire.body import inflated
from kms_local.wire.cbor import decode, encode
from kms_local.wire.errors import ServiceError, serialization_error
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_front import JsonProtocol, unknown_operation
from kms_local.wire.params import JsonObject, Params
from kms_local.wire.query_front import Form, Shape, members_of, xml_answer, xml_refusal

CBOR_PATH = "/service/GraniteServiceVersion20100801/operation/"
"""How the path of a request of Smithy's RPC v2 protocol begins."""
VERSION = "2010-08-01"
"""What the query protocol's `Version` is for CloudWatch."""
NAMESPACE = "http://monitoring.amazonaws.com/doc/2010-08-01/"
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
        "InvalidFormat": "InvalidFormatFault",
        "InternalServiceError": "InternalServiceFault",
    },
)
_MAX_BYTES = {"PutMetricData": 1024 * 1024, "PutMetricAlarm": 120 * 1024}  # of a request, decompressed
_ON_METRICS: dict[str, Callable[[MetricStore, Params, float], JsonObject]] = {
    "PutMetricData": put_metric_data,
    "GetMetricData": readings.get_metric_data,
    "GetMetricStatistics": readings.get_metric_statistics,
    "ListMetrics": readings.list_metrics,
}
_ON_ALARMS: dict[str, Callable[[AlarmBook, Params, float], JsonObject]] = {
    "PutMetricAlarm": alarm_requests.put_metric_alarm,
    "PutCompositeAlarm": alarm_requests.put_composite_alarm,
    "DescribeAlarms": alarm_descriptions.describe_alarms,
    "DescribeAlarmsForMetric": alarm_descriptions.describe_alarms_for_metric,
    "DescribeAlarmHistory": alarm_descriptions.describe_alarm_history,
    "DeleteAlarms": alarm_requests.delete_alarms,
    "SetAlarmState": alarm_requests.set_alarm_state,
    "EnableAlarmActions": alarm_requests.enable_alarm_actions,
    "DisableAlarmActions": alarm_requests.disable_alarm_actions,
    "ListTagsForResource": alarm_requests.list_tags_for_resource,
    "TagResource": alarm_requests.tag_resource,
    "UntagResource": alarm_requests.untag_resource,
}
_BY_NAME = frozenset(  # what a policy can allow for one alarm; the rest is allowed for `*` or not at all
    {"PutMetricAlarm", "SetAlarmState", "DeleteAlarms", "EnableAlarmActions", "DisableAlarmActions"}
)
_READING = ("Describe", "List")  # how operations on alarms begin that change nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchService:
    """Answers the CloudWatch requests of one region."""

    gate: Gate
    store: MetricStore
    book: AlarmBook

    async def __call__(self, request: Request) -> Response:
        """Answer one request of the JSON protocol."""
        request_id = self.gate.new_id()
        try:
            operation = PROTOCOL.operation(request)
            caller = self.gate.verify(request, "monitoring")
            params = Params(PROTOCOL.decode(request))
            members = await self._answer(caller, operation, params, len(inflated(request)))
            return PROTOCOL.answer(members, request_id, *_complaint(operation, params))
        except ServiceError as error:
            return PROTOCOL.refusal(_in_query_terms(error), request_id)

    async def cbor(self, request: Request) -> Response:
        """Answer one request of Smithy's RPC v2 protocol, whose path names the operation."""
        request_id = self.gate.new_id()
        try:
            operation = request.path.removeprefix(CBOR_PATH)
            caller = self.gate.verify(request, "monitoring")
            body = inflated(request)
            params = Params(_decoded(body))
            members = await self._answer(caller, operation, params, len(body))
            return _cbor_response(200, cbor_of(members), request_id, *_complaint(operation, params))
        except ServiceError as error:
            return _cbor_refusal(_in_query_terms(error), request_id)

    async def query(self, request: Request, form: Form) -> Response:
        """Answer one request of the query protocol, whose fields are `form`."""
        request_id = self.gate.new_id()
        operation = form.action
        try:
            shape = _input(operation)
            caller = self.gate.verify(request, "monitoring")
            params = Params(members_of(form, shape))
            members = await self._answer(caller, operation, params, len(inflated(request)))
            result = None if operation in WITHOUT_RESULT else xml_of(members)
            return xml_answer(operation, NAMESPACE, result, request_id, *_complaint(operation, params))
        except ServiceError as error:
            return xml_refusal(error, NAMESPACE, request_id)

    async def _answer(self, caller: Identity, operation: str, params: Params, size: int) -> JsonObject:
        if operation not in INPUTS:
            raise unknown_operation()
        if size > _MAX_BYTES.get(operation, size):
            raise ServiceError("RequestEntityTooLarge", "The request is too large.", status=413)
        self._authorize(caller, operation, params)
        await self.gate.suffer("cloudwatch", operation)
        now = self.gate.now()
        if operation in _ON_METRICS:
            return _ON_METRICS[operation](self.store, params, now)
        answer = _ON_ALARMS[operation](self.book, params, now)
        if not operation.startswith(_READING):
            self.gate.changed()
        return answer

    def _authorize(self, caller: Identity, operation: str, params: Params) -> None:
        """Let the caller's policies decide.

        Raises:
            ServiceError: AccessDenied.
        """
        namespace = params.optional_text("Namespace")
        context = {"cloudwatch:namespace": namespace} if operation == "PutMetricData" and namespace else {}
        names = params.texts("AlarmNames") if params.given("AlarmNames") else [params.optional_text("AlarmName") or ""]
        arn = params.optional_text("ResourceARN")
        resources = [self.book.arn(name) for name in names] if operation in _BY_NAME else [arn or "*"]
        for resource in resources:
            self.gate.authorize(caller, f"cloudwatch:{operation}", resource, context)


def _decoded(body: bytes) -> JsonObject:
    try:
        members = decode(body) if body else {}
    except ValueError as e:
        raise serialization_error() from e
    if not isinstance(members, dict):
        raise serialization_error()
    return members


def _cbor_refusal(error: ServiceError, request_id: str) -> Response:
    members = {"__type": PROTOCOL.query_shapes.get(error.code, error.code)}
    if error.message is not None:
        members["message"] = error.message
    return _cbor_response(error.status, members, request_id, ("x-amzn-query-error", f"{error.code};Sender"))


def _cbor_response(status: int, members: object, request_id: str, *more: tuple[str, str]) -> Response:
    headers = (("x-amzn-RequestId", request_id), ("smithy-protocol", "rpc-v2-cbor"), *more)
    return Response(status=status, body=encode(members), content_type="application/cbor", headers=headers)


def _input(operation: str) -> Mapping[str, Shape]:
    if operation not in INPUTS:
        raise ServiceError("InvalidAction", f"The action {operation} is not valid for this web service.")
    return INPUTS[operation]


def _complaint(operation: str, params: Params) -> list[tuple[str, str]]:
    """Return the header that says what was wrong with the entities of accepted data."""
    found = entity_complaint(params) if operation == "PutMetricData" else None
    return [] if found is None else [("X-Amzn-Failure-Message", found)]


def _in_query_terms(error: ServiceError) -> ServiceError:
    """Return an error under the code that clients of both protocols see."""
    if error.code != "ValidationException":
        return error
    return ServiceError("ValidationError", error.message, status=error.status)
