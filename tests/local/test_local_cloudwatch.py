"""CloudWatch over the wire with stock boto3: metrics in, statistics out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kms_local.clock import SystemClock

MINUTE = 60


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


@pytest.fixture
def cloudwatch(local_aws: Any) -> Any:
    return local_aws.client("cloudwatch")


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    return f"Test/{request.node.name}"[:200]


@pytest.fixture
def minute() -> float:
    """The start of the last minute that is over."""
    return (SystemClock().now() // MINUTE - 1) * MINUTE


def datum(name: str = "M", **more: Any) -> dict[str, Any]:
    return {"MetricName": name, **({"Value": 1.0} if not {"Values", "StatisticValues"} & more.keys() else {}), **more}


def stat(cloudwatch: Any, namespace: str, minute: float, name: str, **more: Any) -> list[float]:
    """Return one statistic of metric M over the minute, through GetMetricData."""
    metric = {"Namespace": namespace, "MetricName": "M", "Dimensions": more.get("dimensions", [])}
    query = {"Id": "q", "MetricStat": {"Metric": metric, "Period": more.get("period", MINUTE), "Stat": name}}
    found = cloudwatch.get_metric_data(
        MetricDataQueries=[query], StartTime=at(minute), EndTime=at(minute + MINUTE), ScanBy="TimestampAscending"
    )
    return list(found["MetricDataResults"][0]["Values"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("Sum", 60.0, id="sum"),
        pytest.param("SampleCount", 10.0, id="count"),
        pytest.param("Average", 6.0, id="average"),
        pytest.param("Minimum", 1.0, id="minimum"),
        pytest.param("Maximum", 51.0, id="maximum"),
        pytest.param("p50", 1.0, id="median"),
        pytest.param("p99.9", 51.0, id="percentile"),
    ],
)
def test_statistics_of_values_and_counts(
    cloudwatch: Any, namespace: str, minute: float, name: str, expected: float
) -> None:
    """Values with Counts are as many samples as the counts say."""
    cloudwatch.put_metric_data(
        Namespace=namespace, MetricData=[datum(Values=[1.0, 51.0], Counts=[9, 1], Timestamp=at(minute))]
    )

    assert stat(cloudwatch, namespace, minute, name) == [pytest.approx(expected)]


def test_other_dimensions_are_another_metric(cloudwatch: Any, namespace: str, minute: float) -> None:
    """What is published with a dimension cannot be read without it, nor with one more."""
    region, success = {"Name": "Region", "Value": "us-east-1"}, {"Name": "Success", "Value": "false"}
    cloudwatch.put_metric_data(
        Namespace=namespace, MetricData=[datum(Dimensions=[region, success], Timestamp=at(minute))]
    )

    assert stat(cloudwatch, namespace, minute, "Sum", dimensions=[success, region]) == [1.0]
    assert stat(cloudwatch, namespace, minute, "Sum", dimensions=[success]) == []
    assert stat(cloudwatch, namespace, minute, "Sum") == []


def test_seconds_exist_only_at_high_resolution(cloudwatch: Any, namespace: str, minute: float) -> None:
    """A period of 10 s reads what was stored at resolution 1 and nothing else; a minute reads both."""
    data = [datum(Timestamp=at(minute + 25)), datum(Timestamp=at(minute + 25), StorageResolution=1)]
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)

    assert stat(cloudwatch, namespace, minute, "Sum", period=10) == [1.0]
    assert stat(cloudwatch, namespace, minute, "Sum") == [2.0]


def test_statistic_sets_have_no_percentiles(cloudwatch: Any, namespace: str, minute: float) -> None:
    """A set adds to sum and extremes; what lies between is unknown."""
    whole = {"SampleCount": 4, "Sum": 10.0, "Minimum": 1.0, "Maximum": 4.0}
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=[datum(StatisticValues=whole, Timestamp=at(minute))])

    assert stat(cloudwatch, namespace, minute, "Average") == [2.5]
    assert stat(cloudwatch, namespace, minute, "p50") == []


def test_metric_math_of_our_alarms(cloudwatch: Any, namespace: str, minute: float) -> None:
    """The error ratio is computed from runs and failures, and says 0 where nothing ran."""
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            datum("Runs", Value=8.0, Timestamp=at(minute)),
            datum("Failures", Value=2.0, Timestamp=at(minute)),
            datum("Runs", Value=0.0, Timestamp=at(minute - MINUTE)),
            datum("Failures", Value=0.0, Timestamp=at(minute - MINUTE)),
        ],
    )
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {"Metric": {"Namespace": namespace, "MetricName": name}, "Period": MINUTE, "Stat": "Sum"},
            "ReturnData": False,
        }
        for name in ("Runs", "Failures")
    ]
    rate = {"Id": "rate", "Expression": "IF(runs > 0, 100*failures/runs, 0)", "Label": "errors in per cent"}

    found = cloudwatch.get_metric_data(
        MetricDataQueries=[*queries, rate], StartTime=at(minute - MINUTE), EndTime=at(minute + MINUTE)
    )["MetricDataResults"]

    assert [(one["Id"], one["Label"], one["Values"]) for one in found] == [("rate", "errors in per cent", [25.0, 0.0])]
    assert found[0]["Timestamps"] == [at(minute), at(minute - MINUTE)]


def test_get_metric_statistics(cloudwatch: Any, namespace: str, minute: float) -> None:
    """The older operation gives the same numbers, by period and unit; percentiles in a request of their own."""
    data = [datum(Values=[2.0, 4.0], Unit="Milliseconds", Timestamp=at(minute + offset)) for offset in (0, 30)]
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)
    asked = {
        "Namespace": namespace,
        "MetricName": "M",
        "StartTime": at(minute),
        "EndTime": at(minute + MINUTE),
        "Period": MINUTE,
    }

    simple = cloudwatch.get_metric_statistics(**asked, Statistics=["Sum", "Average"])["Datapoints"]
    extended = cloudwatch.get_metric_statistics(**asked, ExtendedStatistics=["p90"])["Datapoints"]

    assert simple == [{"Timestamp": at(minute), "Unit": "Milliseconds", "Sum": 12.0, "Average": 3.0}]
    assert extended == [{"Timestamp": at(minute), "Unit": "Milliseconds", "ExtendedStatistics": {"p90": 4.0}}]
    both = {**asked, "Statistics": ["Sum"], "ExtendedStatistics": ["p90"]}
    assert refusal(cloudwatch.get_metric_statistics, **both) == "InvalidParameterCombination"


def test_list_metrics_filters(cloudwatch: Any, namespace: str) -> None:
    """Dimensions are a filter in a listing, and nowhere else."""
    dimensions = [{"Name": "Region", "Value": "us-east-1"}]
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=[datum("A", Dimensions=dimensions), datum("B")])

    assert len(cloudwatch.list_metrics(Namespace=namespace)["Metrics"]) == 2
    found = cloudwatch.list_metrics(Namespace=namespace, Dimensions=[{"Name": "Region"}])["Metrics"]
    assert found == [{"Namespace": namespace, "MetricName": "A", "Dimensions": dimensions}]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param(datum(Values=[1.0] * 151), "InvalidParameterValue", id="151-values"),
        pytest.param(datum(Values=[1.0], Counts=[1, 2]), "InvalidParameterValue", id="counts-of-another-length"),
        pytest.param(datum(Value=float("nan")), "InvalidParameterValue", id="nan"),
        pytest.param(datum(Value=float("inf")), "InvalidParameterValue", id="infinity"),
        pytest.param(datum(Value=2.0**361), "InvalidParameterValue", id="too-large"),
        pytest.param(datum(Unit="Furlongs"), "InvalidParameterValue", id="unit"),
        pytest.param(datum(StorageResolution=5), "InvalidParameterValue", id="resolution"),
        pytest.param(
            datum(Dimensions=[{"Name": f"D{n}", "Value": "x"} for n in range(31)]),
            "InvalidParameterValue",
            id="31-dimensions",
        ),
        pytest.param(datum(Dimensions=[{"Name": ":x", "Value": "x"}]), "InvalidParameterValue", id="colon"),
        pytest.param(datum(Dimensions=[{"Name": "x", "Value": "é"}]), "InvalidParameterValue", id="not-ascii"),
        pytest.param(datum(Timestamp=at(1_700_000_000)), "InvalidParameterValue", id="old"),
        pytest.param(datum(Timestamp=at(4_000_000_000)), "InvalidParameterValue", id="future"),
        pytest.param(datum(Value=1.0, Values=[1.0]), "InvalidParameterCombination", id="two-forms"),
        pytest.param({"MetricName": "M"}, "InvalidParameterCombination", id="no-form"),
        pytest.param({"Value": 1.0}, "MissingParameter", id="no-name"),
    ],
)
def test_one_bad_datum_refuses_the_request(cloudwatch: Any, namespace: str, bad: dict[str, Any], code: str) -> None:
    """The documented limits hold, and nothing of a refused request is kept."""
    data = [datum("Good"), bad]

    assert refusal(cloudwatch.put_metric_data, Namespace=namespace, MetricData=data) == code
    assert cloudwatch.list_metrics(Namespace=namespace)["Metrics"] == []


def test_requests_have_limits(cloudwatch: Any, namespace: str) -> None:
    """1000 datums go in, gzipped by botocore; 1001 do not, and the namespaces of AWS are AWS's."""
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=[datum(f"M{number}") for number in range(1000)])

    many = [datum()] * 1001
    assert refusal(cloudwatch.put_metric_data, Namespace=namespace, MetricData=many) == "InvalidParameterValue"
    assert refusal(cloudwatch.put_metric_data, Namespace="AWS/KMS", MetricData=[datum()]) == "InvalidParameterValue"
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(Namespace=namespace))
    assert [len(page["Metrics"]) for page in pages] == [500, 500]


def test_regions_keep_their_own_metrics(local_aws: Any, namespace: str) -> None:
    """What is published in one region is not seen in another."""
    local_aws.client("cloudwatch", "us-east-1").put_metric_data(Namespace=namespace, MetricData=[datum()])

    assert local_aws.client("cloudwatch", "eu-west-1").list_metrics(Namespace=namespace)["Metrics"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        pytest.param({"Id": "Q", "Expression": "1"}, "ValidationError", id="upper-case-id"),
        pytest.param({"Id": "q", "Expression": "1 +"}, "ValidationError", id="no-expression"),
        pytest.param({"Id": "q", "Expression": "m9"}, "ValidationError", id="unknown-id"),
        pytest.param({"Id": "q"}, "ValidationError", id="nothing"),
        pytest.param({"Id": "q", "Expression": "1"}, "ValidationError", id="no-period"),
        pytest.param(
            {"Id": "q", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "M"}, "Period": 7, "Stat": "Sum"}},
            "ValidationError",
            id="period",
        ),
        pytest.param(
            {"Id": "q", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "M"}, "Period": 60, "Stat": "tm99"}},
            "ValidationError",
            id="statistic",
        ),
    ],
)
def test_bad_queries_are_refused(cloudwatch: Any, minute: float, query: dict[str, Any], code: str) -> None:
    """GetMetricData says what is wrong with a query."""
    arguments = {"MetricDataQueries": [query], "StartTime": at(minute), "EndTime": at(minute + MINUTE)}

    assert refusal(cloudwatch.get_metric_data, **arguments) == code
