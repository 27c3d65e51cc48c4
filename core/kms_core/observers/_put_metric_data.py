"""What CloudWatch's PutMetricData takes in one request, and which of its refusals are for good. Pure.

Source: PutMetricData and MetricDatum in the CloudWatch API Reference.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Literal

Datum = dict[str, Any]
Dimensions = tuple[tuple[str, str], ...]
Unit = Literal["Milliseconds", "None"]

MAX_VALUES = 150
"""Distinct values that one datum may hold; a series with more is sent as several datums."""
_MAX_DATUMS = 1000
_MAX_REQUEST_BYTES = 900_000
"""By the estimate below; the limit is 1 MB."""
_DATUM_BYTES = 750
"""Of a datum without its values, in the longest form that boto3 may send, the query protocol's. It sends others, and
compressed, but does not say so here."""
_VALUE_BYTES = 100
"""Of a value and its count, likewise."""
_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Throttling and time-outs, which AWS may send with status 400. Source: botocore.retries.standard."""
_PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def datums(
    name: str,
    unit: Unit,
    dimensions: Dimensions,
    tally: Mapping[float, int],
    *,
    at_utc: dt.datetime,
    resolution_seconds: Literal[1, 60],
) -> Iterator[Datum]:
    """Yield one series of one period, `tally` being how often each value came, as datums that are not too long."""
    common = {
        "MetricName": name,
        "Dimensions": [{"Name": dimension, "Value": value} for dimension, value in dimensions],
        "Timestamp": at_utc,
        "Unit": unit,
        "StorageResolution": resolution_seconds,
    }
    pairs = list(tally.items())
    for start in range(0, len(pairs), MAX_VALUES):
        part = pairs[start : start + MAX_VALUES]
        yield common | {"Values": [value for value, _ in part], "Counts": [count for _, count in part]}


def in_requests(whole: Iterable[Datum]) -> Iterator[list[Datum]]:
    """Yield the datums in lists, each of which one request can take."""
    request: list[Datum] = []
    size = 0
    for datum in whole:
        more = _DATUM_BYTES + _VALUE_BYTES * len(datum["Values"])
        if request and (len(request) == _MAX_DATUMS or size + more > _MAX_REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(datum)
        size += more
    if request:
        yield request


def refused_for_good(error: Exception) -> str | None:
    """Return CloudWatch's code when `error` says that the same request is refused for ever; None: it may pass later.

    For good is an answer with status 4xx that is neither throttling nor a time-out. Judged by the `response` of
    botocore's `ClientError`, since botocore has its doors elsewhere; what has none came from the way, not the service.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(response.get("Error", {}).get("Code", "")) or f"Http{status}"
    client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return code if client_error and status not in _PASSING_STATUSES and code not in _PASSING_CODES else None
