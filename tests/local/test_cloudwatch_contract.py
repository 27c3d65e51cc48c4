"""One contract for CloudWatch: what code may rely on, held against every CloudWatch there is.

The local server, in each of its protocols; moto, as a second opinion; and the real service, when
`CLOUDWATCH_CONTRACT_REAL=1` and credentials are there: it writes into the namespace `ParkerFlight/KMS/Contract` alone,
and makes alarms (whose names begin with `kms-contract-`, and deletes them) only with `CLOUDWATCH_CONTRACT_REAL=create`.

Each claim is something to observe and what has to come of it. Where moto is wrong, the claim says what moto does
instead: the day it is repaired, that claim fails, and its line about moto can go.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import cloudwatch_protocols
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto import mock_aws

from kms_local.clock import SystemClock

NAMESPACE = "ParkerFlight/KMS/Contract"
MINUTE, HOUR = 60, 3600
LOCAL = {"local-json": "json", "local-query": "query", "local-cbor": "smithy-rpc-v2-cbor"}
REAL = os.environ.get("CLOUDWATCH_CONTRACT_REAL", "")
CONFIG = Config(retries={"total_max_attempts": 1}, read_timeout=20, connect_timeout=10, parameter_validation=False)
SERIAL = iter(range(1_000_000))


@dataclass
class Backend:
    """One CloudWatch, and where a test may write."""

    kind: str
    client: Any
    patience_seconds: float  # how long what was put may take to be seen
    alarms: list[str] = field(default_factory=list)
    composites: list[str] = field(default_factory=list)
    metric: str = field(default_factory=lambda: f"M{os.getpid()}-{next(SERIAL)}-{int(SystemClock().now())}")
    minute: float = field(default_factory=lambda: (SystemClock().now() // MINUTE - 2) * MINUTE)

    def put(self, *data: dict[str, Any], namespace: str = NAMESPACE) -> str:
        """Put data of the test's own metric, at its own minute unless told otherwise."""
        whole = [{"MetricName": self.metric, "Timestamp": at(self.minute), **datum} for datum in data]
        whole = [{name: value for name, value in one.items() if value is not None} for one in whole]
        return outcome(lambda: self.client.put_metric_data(Namespace=namespace, MetricData=whole))

    def query(self, stat: str = "Sum", **more: Any) -> dict[str, Any]:
        metric = {"Namespace": NAMESPACE, "MetricName": self.metric, "Dimensions": more.pop("dimensions", [])}
        period = more.pop("period", MINUTE)
        return {"Id": "q", "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}

    def results(self, *queries: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        asked = {"StartTime": at(self.minute), "EndTime": at(self.minute + MINUTE), **more}
        found = self.client.get_metric_data(MetricDataQueries=list(queries), **asked)["MetricDataResults"]
        return list(found)

    def values(self, stat: str = "Sum", **more: Any) -> list[float]:
        """Return one statistic of the metric, waiting for data to be seen where that takes time."""
        return self.settled(lambda: list(self.results(self.query(stat, **more))[0]["Values"]), bool)

    def statistics(self, **more: Any) -> list[dict[str, Any]]:
        asked = {
            "Namespace": NAMESPACE,
            "MetricName": self.metric,
            "StartTime": at(self.minute),
            "EndTime": at(self.minute + MINUTE),
            "Period": MINUTE,
            "Statistics": ["Sum"],
            **more,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return list(self.client.get_metric_statistics(**given)["Datapoints"])

    def settled(self, look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
        """Return what is there once it is enough, or when patience is at an end."""
        clock, never = SystemClock(), threading.Event()
        deadline = clock.monotonic() + self.patience_seconds
        while not enough(found := look()) and clock.monotonic() < deadline:
            never.wait(0.05 if self.kind in LOCAL else 2)
        return found

    def alarm(self, suffix: str = "", **members: Any) -> str:
        """Put an alarm of the test's own, and return its name."""
        name = f"kms-contract-{self.metric}{suffix}"
        request = {
            "AlarmName": name,
            "Namespace": NAMESPACE,
            "MetricName": self.metric,
            "Statistic": "Sum",
            "Period": MINUTE,
            "EvaluationPeriods": 1,
            "Threshold": 5.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **members,
        }
        self.alarms.append(name)
        self.client.put_metric_alarm(**{key: value for key, value in request.items() if value is not None})
        return name

    def composite(self, rule: str, suffix: str = "-c") -> str:
        """Put a composite alarm of the test's own, and return its name."""
        name = f"kms-contract-{self.metric}{suffix}"
        self.composites.append(name)
        self.client.put_composite_alarm(AlarmName=name, AlarmRule=rule)
        return name

    def described(self, name: str) -> dict[str, Any]:
        found = self.client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        return dict([*found["MetricAlarms"], *found.get("CompositeAlarms", [])][0])

    def state(self, name: str, *expected: str) -> str:
        """Return an alarm's state, once it is one of those expected or patience is at an end."""
        found = self.settled(lambda: self.described(name)["StateValue"], lambda state: state in expected)
        return str(found)

    def clean_up(self) -> None:
        for name in [*reversed(self.composites), *self.alarms]:
            with contextlib.suppress(ClientError, NotImplementedError):
                self.client.delete_alarms(AlarmNames=[name])


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


def outcome(call: Callable[[], object]) -> str:
    """Return `ok`, the code of the refusal, or the name of what else went wrong."""
    try:
        call()
    except ClientError as e:
        return str(e.response["Error"]["Code"])
    except (BotoCoreError, ValueError, TypeError, KeyError, AttributeError) as e:  # moto runs in this very process
        return type(e).__name__
    return "ok"


def _local(request: pytest.FixtureRequest) -> Iterator[Backend]:
    kind = str(request.param)
    aws = request.getfixturevalue("local_aws")
    document = aws.endpoints
    client = cloudwatch_protocols.session(LOCAL[kind]).client(
        "cloudwatch",
        region_name="us-east-1",
        endpoint_url=document["regions"]["us-east-1"]["cloudwatch"],
        verify=document["ca_bundle"],
        config=CONFIG,
        **document["credentials"],
    )
    yield Backend(kind, client, patience_seconds=10)
    client.close()


def _moto() -> Iterator[Backend]:
    with mock_aws():
        client = boto3.session.Session().client(
            "cloudwatch",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=CONFIG,
        )
        yield Backend("moto", client, patience_seconds=0)
        client.close()


def _real() -> Iterator[Backend]:
    if not REAL:
        pytest.skip("the real CloudWatch: CLOUDWATCH_CONTRACT_REAL is not set")
    session = boto3.session.Session()
    if session.get_credentials() is None:
        pytest.skip("the real CloudWatch: there are no credentials")
    client = session.client("cloudwatch", config=CONFIG)
    yield Backend("aws", client, patience_seconds=90)
    client.close()


FAST, *SLOW = *LOCAL, "moto", "aws"


@pytest.fixture(params=[FAST, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each claim is held against each of them."""
    makers = {"moto": _moto, "aws": _real}
    made = makers[request.param]() if request.param in makers else _local(request)
    for one in made:
        yield one
        one.clean_up()


# -- What is observed ---------------------------------------------------------------------------------------------


def values_and_counts(backend: Backend) -> object:
    backend.put({"Values": [1.0, 51.0], "Counts": [9, 1]})
    return [backend.values(stat) for stat in ("Sum", "SampleCount", "Average", "Minimum", "Maximum")]


def percentiles(backend: Backend) -> object:
    backend.put({"Values": [1.0, 51.0], "Counts": [90, 10]})
    return outcome(lambda: backend.results(backend.query("p99"))) == "ok" and [
        backend.values(stat) for stat in ("p50", "p99")
    ]


def statistic_sets(backend: Backend) -> object:
    backend.put({"StatisticValues": {"SampleCount": 4, "Sum": 10.0, "Minimum": 1.0, "Maximum": 4.0}})
    return [backend.values(stat) for stat in ("Average", "Minimum", "Maximum", "SampleCount")]


REGION, SUCCESS = {"Name": "Region", "Value": "us-east-1"}, {"Name": "Success", "Value": "false"}


def fewer_dimensions(backend: Backend) -> object:
    backend.put({"Value": 1.0, "Dimensions": [REGION, SUCCESS]})
    exact = backend.values(dimensions=[SUCCESS, REGION])
    return [exact, *(backend.results(backend.query(dimensions=some))[0]["Values"] for some in ([REGION], []))]


def fewer_dimensions_in_statistics(backend: Backend) -> object:
    backend.put({"Value": 1.0, "Dimensions": [REGION, SUCCESS]})
    backend.values(dimensions=[REGION, SUCCESS])
    return [len(backend.statistics(Dimensions=some)) for some in ([REGION, SUCCESS], [REGION], [])]


def another_namespace(backend: Backend) -> object:
    backend.put({"Value": 1.0})
    backend.values()
    elsewhere = backend.query()
    elsewhere["MetricStat"]["Metric"]["Namespace"] = f"{NAMESPACE}/Other"
    return [backend.results(elsewhere)[0]["Values"], len(backend.statistics(Namespace=f"{NAMESPACE}/Other"))]


def metric_math(backend: Backend) -> object:
    runs, failures = ({"Name": "Of", "Value": name} for name in ("runs", "failures"))
    backend.put({"Value": 8.0, "Dimensions": [runs]}, {"Value": 2.0, "Dimensions": [failures]})
    backend.values(dimensions=[failures])
    inputs = [{**backend.query(dimensions=[one]), "Id": one["Value"], "ReturnData": False} for one in (runs, failures)]
    rate = {"Id": "rate", "Expression": "IF(runs > 0, 100*failures/runs, 0)"}
    return [(one["Id"], one["Values"]) for one in backend.results(*inputs, rate)]


def scan_order(backend: Backend) -> object:
    minutes = [backend.minute - MINUTE, backend.minute]
    for number, minute in enumerate(minutes):
        backend.put({"Value": float(number), "Timestamp": at(minute)})
    backend.values()
    asked = {"StartTime": at(minutes[0]), "EndTime": at(minutes[1] + MINUTE)}
    orders = [{}, {"ScanBy": "TimestampAscending"}, {"ScanBy": "TimestampDescending"}]
    return [backend.results(backend.query(), **asked, **order)[0]["Values"] for order in orders]


def range_ends(backend: Backend) -> object:
    backend.put({"Value": 1.0})
    backend.values()
    after = {"StartTime": at(backend.minute - MINUTE), "EndTime": at(backend.minute)}
    within = {"StartTime": at(backend.minute + 59), "EndTime": at(backend.minute + MINUTE)}
    return [backend.results(backend.query(), **asked)[0]["Values"] for asked in (after, within)]


def pages(backend: Backend) -> object:
    for back in range(5):
        backend.put({"Value": float(back), "Timestamp": at(backend.minute - back * MINUTE)})
    asked = {"StartTime": at(backend.minute - 4 * MINUTE), "EndTime": at(backend.minute + MINUTE)}
    backend.settled(lambda: backend.results(backend.query(), **asked)[0]["Values"], lambda found: len(found) == 5)
    found, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        page = backend.client.get_metric_data(MetricDataQueries=[backend.query()], MaxDatapoints=2, **asked, **more)
        found.append([(one["StatusCode"], one["Values"]) for one in page["MetricDataResults"]])
        token = page.get("NextToken")
        if token is None:
            return found


def counted_from_the_start(backend: Backend) -> object:
    start = backend.minute // HOUR * HOUR - 3 * HOUR + 18 * MINUTE
    backend.put(
        {"Value": 1.0, "Timestamp": at(start + 5 * MINUTE)}, {"Value": 2.0, "Timestamp": at(start + 50 * MINUTE)}
    )
    asked = {"StartTime": at(start + 30), "EndTime": at(start + HOUR), "Period": HOUR}
    found = backend.settled(lambda: backend.statistics(**asked), bool)
    return [((one["Timestamp"].timestamp() - start) / MINUTE, one["Sum"]) for one in found]


def units_apart(backend: Backend) -> object:
    backend.put({"Value": 1.0, "Unit": "Seconds"}, {"Value": 2.0, "Unit": "Count"})
    backend.values()
    everything = sorted((one["Unit"], one["Sum"]) for one in backend.statistics())
    return [everything, [one["Sum"] for one in backend.statistics(Unit="Count")]]


def bad_data_refuse_all(backend: Backend) -> object:
    code = backend.put({"Value": 1.0}, {"Value": 1.0, "Unit": "Furlongs"})
    return [code, backend.results(backend.query())[0]["Values"]]


def refused(**datum: Any) -> Callable[[Backend], str]:
    """Observe what becomes of one datum."""
    return lambda backend: backend.put(datum)


def refused_old(days: float) -> Callable[[Backend], str]:
    return lambda backend: backend.put({"Value": 1.0, "Timestamp": at(backend.minute + days * 86_400)})


def many(count: int) -> Callable[[Backend], str]:
    return lambda backend: backend.put(*({"Value": 1.0},) * count)


def into(namespace: str) -> Callable[[Backend], str]:
    return lambda backend: backend.put({"Value": 1.0}, namespace=namespace)


def asked(query: dict[str, Any] | None = None, **more: Any) -> Callable[[Backend], str]:
    """Observe what becomes of one GetMetricData."""
    return lambda backend: outcome(lambda: backend.results(backend.query() if query is None else query, **more))


def asked_metric(**stat: Any) -> Callable[[Backend], str]:
    return lambda backend: outcome(lambda: backend.results(backend.query(**stat)))


def asked_statistics(**more: Any) -> Callable[[Backend], str]:
    return lambda backend: outcome(lambda: backend.statistics(**more))


def too_many_points(backend: Backend) -> str:
    start = backend.minute - 1440 * MINUTE
    return outcome(lambda: backend.statistics(StartTime=at(start), EndTime=at(backend.minute + MINUTE)))


def new_alarm(backend: Backend) -> object:
    shown = backend.described(backend.alarm())
    return [shown["StateValue"], shown["ActionsEnabled"], shown["Threshold"], shown["AlarmArn"].split(":")[5]]


def update_keeps_the_state(backend: Backend) -> object:
    name = backend.alarm(TreatMissingData="ignore")
    backend.client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="contract")
    backend.alarm(TreatMissingData="ignore", Threshold=7.0)
    shown = backend.described(name)
    return [shown["StateValue"], shown["Threshold"]]


def evaluated(backend: Backend) -> object:
    name = backend.alarm(Period=10)
    now = SystemClock().now()
    backend.put({"Value": 9.0, "Timestamp": at(now - 12), "StorageResolution": 1})
    return backend.state(name, "ALARM")


def refused_alarm(**members: Any) -> Callable[[Backend], str]:
    return lambda backend: outcome(lambda: backend.alarm(**members))


def two_series(backend: Backend) -> str:
    whole = {"Id": "e", "Expression": "[q, q]", "ReturnData": True}
    members = dict.fromkeys(("Namespace", "MetricName", "Statistic", "Period"))
    return outcome(lambda: backend.alarm(Metrics=[{**backend.query(), "ReturnData": False}, whole], **members))


def alarms_of_a_metric(backend: Backend) -> object:
    with_dimension, without = backend.alarm("-1", Dimensions=[REGION]), backend.alarm("-2")
    names = {with_dimension: "with", without: "without"}

    def found(**more: Any) -> list[str]:
        asked_for = {"Namespace": NAMESPACE, "MetricName": backend.metric, **more}
        return sorted(
            names[one["AlarmName"]] for one in backend.client.describe_alarms_for_metric(**asked_for)["MetricAlarms"]
        )

    return [found(Dimensions=[REGION]), found(), found(Dimensions=[SUCCESS]), found(Statistic="Average")]


def composite_follows(backend: Backend) -> object:
    child = backend.alarm(TreatMissingData="ignore")
    parent = backend.composite(f'ALARM("{child}")')
    first = backend.state(parent, "OK")
    backend.client.set_alarm_state(AlarmName=child, StateValue="ALARM", StateReason="contract")
    return [first, backend.state(parent, "ALARM")]


def kinds_of_alarms(backend: Backend) -> object:
    child = backend.alarm()
    parent = backend.composite(f'ALARM("{child}")')
    names = [child, parent]
    found = [
        backend.client.describe_alarms(AlarmNames=names, **more)
        for more in ({}, {"AlarmTypes": ["CompositeAlarm"]}, {"AlarmTypes": ["MetricAlarm", "CompositeAlarm"]})
    ]
    return [(len(one["MetricAlarms"]), len(one["CompositeAlarms"])) for one in found]


def kin(backend: Backend) -> object:
    child = backend.alarm()
    parent = backend.composite(f'ALARM("{child}")')
    below = backend.client.describe_alarms(ChildrenOfAlarmName=parent)
    above = backend.client.describe_alarms(ParentsOfAlarmName=child)
    return [
        [one["AlarmName"] == child for one in below["MetricAlarms"]],
        [one["AlarmName"] == parent for one in above["CompositeAlarms"]],
    ]


def children_in_use(backend: Backend) -> object:
    child = backend.alarm()
    parent = backend.composite(f'ALARM("{child}")')
    deletions = [lambda name=name: backend.client.delete_alarms(AlarmNames=[name]) for name in (child, parent, child)]
    return [outcome(delete) for delete in deletions]


def refused_rule(rule: str) -> Callable[[Backend], str]:
    return lambda backend: outcome(lambda: backend.composite(rule))


def two_composites_at_once(backend: Backend) -> str:
    names = [backend.composite("FALSE", suffix) for suffix in ("-c1", "-c2")]
    return outcome(lambda: backend.client.delete_alarms(AlarmNames=names))


def tags(backend: Backend) -> object:
    arn = backend.described(backend.alarm(Tags=[{"Key": "a", "Value": "1"}]))["AlarmArn"]
    backend.client.tag_resource(ResourceARN=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}])
    both = {one["Key"]: one["Value"] for one in backend.client.list_tags_for_resource(ResourceARN=arn)["Tags"]}
    backend.client.untag_resource(ResourceARN=arn, TagKeys=["a"])
    return [both, [one["Key"] for one in backend.client.list_tags_for_resource(ResourceARN=arn)["Tags"]]]


def tags_of_nothing(backend: Backend) -> str:
    arn = backend.described(backend.alarm())["AlarmArn"] + "-nobody"
    return outcome(lambda: backend.client.list_tags_for_resource(ResourceARN=arn))


def history(backend: Backend) -> object:
    name = backend.alarm(TreatMissingData="ignore")
    backend.client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="contract")
    items = backend.client.describe_alarm_history(AlarmName=name)["AlarmHistoryItems"]
    return [one["HistoryItemType"] for one in items]


def nobody(operation: str, **members: Any) -> Callable[[Backend], str]:
    """Observe what an operation says of an alarm that does not exist."""
    return lambda backend: outcome(lambda: getattr(backend.client, operation)(**members))


# -- What has to come of it ---------------------------------------------------------------------------------------

_SAME = object()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What has to come of an observation, and what moto makes of it where that is something else."""

    observe: Callable[[Backend], Any]
    expected: Any
    moto: Any = _SAME
    makes_alarms: bool = False


VALUE, COMBINATION, MISSING, VALIDATION = (
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "MissingParameter",
    "ValidationError",
)
NOBODY = "kms-contract-nobody"
ABSENT = "not implemented"
DIMENSIONS_31 = [{"Name": f"D{number}", "Value": "x"} for number in range(31)]
CLAIMS = {
    "values-and-counts": Claim(observe=values_and_counts, expected=[[60.0], [10.0], [6.0], [1.0], [51.0]]),
    "percentiles": Claim(observe=percentiles, expected=[[1.0], [51.0]], moto=False),
    "statistic-sets": Claim(observe=statistic_sets, expected=[[2.5], [1.0], [4.0], [4.0]]),
    "dimensions-are-exact": Claim(observe=fewer_dimensions, expected=[[1.0], [], []], moto=[[], [], [1.0]]),
    "dimensions-are-exact-in-statistics": Claim(
        observe=fewer_dimensions_in_statistics, expected=[1, 0, 0], moto=[1, 1, 1]
    ),
    "namespaces-are-apart": Claim(observe=another_namespace, expected=[[], 0]),
    "metric-math": Claim(observe=metric_math, expected=[("rate", [25.0])], moto=[("rate", [])]),
    "newest-first": Claim(observe=scan_order, expected=[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    "start-is-rounded-and-end-is-exclusive": Claim(observe=range_ends, expected=[[], [1.0]], moto=[[], []]),
    "pages": Claim(
        observe=pages,
        expected=[[("PartialData", [0.0, 1.0])], [("PartialData", [2.0, 3.0])], [("Complete", [4.0])]],
        moto=[[("Complete", [0.0, 1.0, 2.0, 3.0, 4.0])]],
    ),
    "periods-count-from-the-start": Claim(observe=counted_from_the_start, expected=[(0.0, 3.0)], moto=[(5.0, 3.0)]),
    "units-are-apart": Claim(
        observe=units_apart, expected=[[("Count", 2.0), ("Seconds", 1.0)], [2.0]], moto=[[("Count", 3.0)], [2.0]]
    ),
    "all-or-nothing": Claim(observe=bad_data_refuse_all, expected=[VALUE, []], moto=["ok", [2.0]]),
    "150-values": Claim(observe=refused(Values=[float(n) for n in range(150)]), expected="ok"),
    "151-values": Claim(observe=refused(Values=[float(n) for n in range(151)]), expected=VALUE, moto="ok"),
    "counts-of-another-length": Claim(observe=refused(Values=[1.0], Counts=[1, 2]), expected=VALUE),
    "nan": Claim(observe=refused(Value=float("nan")), expected=VALUE),
    "infinity": Claim(observe=refused(Value=float("inf")), expected=VALUE, moto="ok"),
    "2-to-the-360": Claim(observe=refused(Value=-(2.0**360)), expected="ok"),
    "2-to-the-361": Claim(observe=refused(Value=2.0**361), expected=VALUE, moto="ok"),
    "unit": Claim(observe=refused(Value=1.0, Unit="Furlongs"), expected=VALUE, moto="ok"),
    "storage-resolution": Claim(observe=refused(Value=1.0, StorageResolution=5), expected=VALUE, moto="ok"),
    "30-dimensions": Claim(observe=refused(Value=1.0, Dimensions=DIMENSIONS_31[1:]), expected="ok"),
    "31-dimensions": Claim(observe=refused(Value=1.0, Dimensions=DIMENSIONS_31), expected=VALUE, moto="ok"),
    "dimension-with-a-colon": Claim(
        observe=refused(Value=1.0, Dimensions=[{"Name": ":x", "Value": "x"}]), expected=VALUE, moto="ok"
    ),
    "two-forms-of-a-value": Claim(observe=refused(Value=1.0, Values=[1.0]), expected=COMBINATION, moto=VALUE),
    "no-name": Claim(observe=refused(MetricName=None, Value=1.0), expected=MISSING, moto="KeyError"),
    "13-days-ago": Claim(observe=refused_old(-13), expected="ok"),
    "15-days-ago": Claim(observe=refused_old(-15), expected=VALUE, moto="ok"),
    "3-hours-ahead": Claim(observe=refused_old(3 / 24), expected=VALUE, moto="ok"),
    "1000-data": Claim(observe=many(1000), expected="ok"),
    "1001-data": Claim(observe=many(1001), expected=VALUE, moto="ok"),
    "namespace-of-aws": Claim(observe=into("AWS/KMS"), expected=VALUE, moto="ok"),
    "namespace-with-a-colon": Claim(observe=into(":x"), expected=VALUE, moto="ok"),
    "id-in-upper-case": Claim(observe=asked({"Id": "Q", "Expression": "q"}), expected=VALIDATION, moto="ok"),
    "half-an-expression": Claim(
        observe=asked({"Id": "q", "Expression": "1 +", "Period": 60}), expected=VALIDATION, moto="ok"
    ),
    "start-after-end": Claim(
        observe=asked(StartTime=at(1000000000.0), EndTime=at(1000000000.0 - 1)), expected=VALIDATION
    ),
    "period-of-7-seconds": Claim(observe=asked_metric(period=7), expected=VALIDATION, moto="ok"),
    "unknown-statistic": Claim(observe=asked_metric(stat="Mode"), expected=VALIDATION, moto="ok"),
    "wrong-token": Claim(observe=asked(NextToken="nonsense"), expected="InvalidNextToken", moto="ok"),
    "1441-points": Claim(observe=too_many_points, expected=COMBINATION, moto="ok"),
    "no-statistics": Claim(observe=asked_statistics(Statistics=None), expected=COMBINATION),
    "two-kinds-of-statistics": Claim(
        observe=asked_statistics(ExtendedStatistics=["p90"]), expected=COMBINATION, moto="ok"
    ),
    "statistics-of-7-seconds": Claim(observe=asked_statistics(Period=7), expected=VALUE, moto="ok"),
    "new-alarm": Claim(
        observe=new_alarm,
        expected=["INSUFFICIENT_DATA", True, 5.0, "alarm"],
        moto=["OK", True, 5.0, "alarm"],
        makes_alarms=True,
    ),
    "update-keeps-the-state": Claim(
        observe=update_keeps_the_state, expected=["ALARM", 7.0], moto=["OK", 7.0], makes_alarms=True
    ),
    "alarms-are-evaluated": Claim(observe=evaluated, expected="ALARM", moto="OK", makes_alarms=True),
    "alarm-period": Claim(observe=refused_alarm(Period=45), expected=VALUE, moto="ok", makes_alarms=True),
    "alarm-span": Claim(observe=refused_alarm(EvaluationPeriods=1441), expected=VALUE, moto="ok", makes_alarms=True),
    "alarm-m-above-n": Claim(observe=refused_alarm(DatapointsToAlarm=2), expected=VALUE, moto="ok", makes_alarms=True),
    "alarm-missing-data": Claim(
        observe=refused_alarm(TreatMissingData="fine"), expected=VALIDATION, moto="ok", makes_alarms=True
    ),
    "alarm-comparison": Claim(
        observe=refused_alarm(ComparisonOperator="Equal"), expected=VALIDATION, moto="ok", makes_alarms=True
    ),
    "alarm-of-two-series": Claim(observe=two_series, expected=VALIDATION, moto="ok", makes_alarms=True),
    "alarms-of-a-metric": Claim(
        observe=alarms_of_a_metric,
        expected=[["with"], ["without"], [], []],
        moto=[["with", "without"]] * 4,
        makes_alarms=True,
    ),
    "composite-follows": Claim(observe=composite_follows, expected=["OK", "ALARM"], moto=ABSENT, makes_alarms=True),
    "kinds-of-alarms": Claim(
        observe=kinds_of_alarms, expected=[(1, 0), (0, 1), (1, 1)], moto=ABSENT, makes_alarms=True
    ),
    "kin": Claim(observe=kin, expected=[[True], [True]], moto=ABSENT, makes_alarms=True),
    "children-in-use": Claim(
        observe=children_in_use, expected=[VALIDATION, "ok", "ok"], moto=ABSENT, makes_alarms=True
    ),
    "two-composites-at-once": Claim(
        observe=two_composites_at_once, expected=VALIDATION, moto=ABSENT, makes_alarms=True
    ),
    "rule-with-an-unknown-alarm": Claim(
        observe=refused_rule(f"ALARM({NOBODY})"), expected=VALIDATION, moto=ABSENT, makes_alarms=True
    ),
    "rule-that-is-none": Claim(observe=refused_rule("()"), expected=VALIDATION, moto=ABSENT, makes_alarms=True),
    "tags": Claim(observe=tags, expected=[{"a": "3", "b": "2"}, ["b"]], makes_alarms=True),
    "tags-of-nothing": Claim(
        observe=tags_of_nothing, expected="ResourceNotFoundException", moto="ok", makes_alarms=True
    ),
    "history": Claim(observe=history, expected=["StateUpdate", "ConfigurationUpdate"], moto=ABSENT, makes_alarms=True),
    "state-of-nobody": Claim(
        observe=nobody("set_alarm_state", AlarmName=NOBODY, StateValue="OK", StateReason="x"),
        expected="ResourceNotFound",
    ),
    "deleting-nobody": Claim(
        observe=nobody("delete_alarms", AlarmNames=[NOBODY]), expected="ResourceNotFound", moto="ok"
    ),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CLAIMS)
def test_contract(backend: Backend, name: str) -> None:
    """Every claim holds everywhere, except where it says what moto does instead."""
    claim = CLAIMS[name]
    if claim.makes_alarms and backend.kind == "aws" and REAL != "create":
        pytest.skip("the real CloudWatch: alarms are made only with CLOUDWATCH_CONTRACT_REAL=create")

    try:
        found = claim.observe(backend)
    except NotImplementedError:  # what moto says of operations that it does not have
        found = ABSENT

    if backend.kind == "moto" and claim.moto is not _SAME:
        assert found == claim.moto, "moto has changed: does it keep the contract now?"
    else:
        assert found == claim.expected
