"""Alarms: on made-up times through the pure parts, and over the wire to a subscriber."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kms_alarms.evaluate import AlarmState
from kms_local.clock import SystemClock
from kms_local.cloudwatch.alarm_requests import describe_alarm_history, put_metric_alarm, set_alarm_state
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.ingest import put_metric_data
from kms_local.cloudwatch.store import MetricKey, MetricStore
from kms_local.wire.params import Params

NOON = 1_800_000_000.0
TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"
REGION = [{"Name": "Region", "Value": "us-east-1"}]


def query(name: str, period: int = 10) -> dict[str, Any]:
    metric = {"Namespace": "N", "MetricName": name.capitalize(), "Dimensions": REGION}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": period, "Stat": "Sum"}, "ReturnData": False}


def error_rate(**more: Any) -> dict[str, Any]:
    """The request for the alarm that we ship, at 10 s."""
    expression = {"Id": "rate", "Expression": "IF(runs > 0, 100*failures/runs, 0)", "ReturnData": True}
    return {
        "AlarmName": "rate",
        "Metrics": [query("runs"), query("failures"), expression],
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 5.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [TOPIC],
        "OKActions": [TOPIC],
        **more,
    }


class Desk:
    """A CloudWatch of one region without wire or clock, and what it published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, dict[str, Any]]] = []
        self.store = MetricStore()
        self.book = AlarmBook(account_id="123456789012", region="us-east-1", store=self.store, publish=self.publish)

    def publish(self, arn: str, subject: str, message: str) -> bool:
        self.published.append((arn, subject, json.loads(message)))
        return True

    def put(self, at: float, *, runs: float, failures: float) -> None:
        data = [
            {"MetricName": name, "Dimensions": REGION, "Value": value, "Timestamp": at, "StorageResolution": 1}
            for name, value in (("Runs", runs), ("Failures", failures))
        ]
        put_metric_data(self.store, Params({"Namespace": "N", "MetricData": data}), at)

    @property
    def state(self) -> str:
        return str(self.book.alarms["rate"].state)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_alarm_goes_from_ok_to_alarm_to_ok(desk: Desk) -> None:
    """PutMetricData at 10 s periods moves the alarm on made-up times, and each move is told once."""
    put_metric_alarm(desk.book, Params(error_rate()), NOON)
    states = []
    for number in range(12):
        at = NOON + 10 * number
        desk.put(at, runs=6, failures=6 if 3 <= number < 7 else 0)
        for offset in (11, 15, 19):  # several looks a period change nothing more
            desk.book.evaluate_all(at + offset)
        states.append(desk.state)

    assert states == ["OK"] * 4 + ["ALARM"] * 3 + ["OK"] * 5
    moves = [message for _, _, message in desk.published]
    assert [(one["OldStateValue"], one["NewStateValue"]) for one in moves] == [
        ("INSUFFICIENT_DATA", "OK"),
        ("OK", "ALARM"),
        ("ALARM", "OK"),
    ]
    assert desk.published[1][1] == 'ALARM: "rate" in us-east-1'


def test_history_tells_every_change(desk: Desk) -> None:
    """Creation, changes of state and actions are in the history, newest first."""
    put_metric_alarm(desk.book, Params(error_rate()), NOON)
    desk.put(NOON, runs=1, failures=0)
    desk.book.evaluate_all(NOON + 10)

    found = describe_alarm_history(desk.book, Params({"AlarmName": "rate"}), NOON)["AlarmHistoryItems"]

    assert [item["HistoryItemType"] for item in found] == ["Action", "StateUpdate", "ConfigurationUpdate"]
    assert found[1]["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to OK"


def test_an_update_keeps_the_state(desk: Desk) -> None:
    """PutMetricAlarm on an existing alarm replaces everything but its state."""
    put_metric_alarm(desk.book, Params(error_rate()), NOON)
    desk.put(NOON, runs=1, failures=1)
    desk.put(NOON + 10, runs=1, failures=1)
    desk.book.evaluate_all(NOON + 20)
    assert desk.state == "ALARM"

    put_metric_alarm(desk.book, Params(error_rate(Threshold=50.0)), NOON + 21)

    assert desk.state == "ALARM"
    assert desk.book.alarms["rate"].definition.threshold == 50.0


def test_set_alarm_state_runs_actions_and_does_not_last(desk: Desk) -> None:
    """A state set by hand is told to the topic, and the next evaluation takes it back."""
    put_metric_alarm(desk.book, Params(error_rate()), NOON)
    desk.put(NOON, runs=1, failures=0)
    desk.book.evaluate_all(NOON + 10)

    request = {"AlarmName": "rate", "StateValue": "ALARM", "StateReason": "to see whether somebody wakes up"}
    set_alarm_state(desk.book, Params(request), NOON + 11)
    assert desk.published[-1][2]["NewStateReason"] == "to see whether somebody wakes up"
    desk.book.evaluate_all(NOON + 12)

    assert desk.state == "OK"


def test_disabled_actions_are_not_run(desk: Desk) -> None:
    """ActionsEnabled=False keeps an alarm quiet, not blind."""
    put_metric_alarm(desk.book, Params(error_rate(ActionsEnabled=False)), NOON)
    desk.put(NOON, runs=1, failures=0)
    desk.book.evaluate_all(NOON + 10)

    assert desk.book.alarms["rate"].state is AlarmState.OK
    assert desk.published == []


def test_memory_is_bounded(desk: Desk) -> None:
    """A day of data a second leaves three hours of seconds and a day of minutes."""
    key = MetricKey("N", "Runs", frozenset({("Region", "us-east-1")}))
    for number in range(0, 2 * 86_400, 30):
        desk.put(NOON + number, runs=1, failures=0)
    end = NOON + 2 * 86_400

    seconds = desk.store.merged(key, unit=None, start=NOON, end=end, period_seconds=10)
    minutes = desk.store.merged(key, unit=None, start=NOON, end=end, period_seconds=60)

    assert len(seconds) == 3 * 3600 / 30 + 1
    assert len(minutes) == 26 * 60 + 1


@pytest.fixture
def subscriber() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP endpoint, and what it has received."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_an_alarm_is_told_to_a_subscriber(
    local_aws: Any, subscriber: tuple[str, list[dict[str, Any]]], eventually: Callable[..., None]
) -> None:
    """Over the wire: PutMetricData, evaluation, SNS, an HTTP notification."""
    cloudwatch, sns = local_aws.client("cloudwatch"), local_aws.client("sns")
    url, received = subscriber
    topic = sns.create_topic(Name="wire-alarm")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=url)
    single = {"Namespace": "Wire", "MetricName": "Failures", "Period": 10, "Statistic": "Sum"}
    request = error_rate(AlarmName="wire", AlarmActions=[topic], OKActions=[], EvaluationPeriods=1, DatapointsToAlarm=1)
    cloudwatch.put_metric_alarm(**{key: value for key, value in request.items() if key != "Metrics"}, **single)

    at = SystemClock().now() - 15
    failures = {"MetricName": "Failures", "Value": 9.0, "Timestamp": at, "StorageResolution": 1}
    cloudwatch.put_metric_data(Namespace="Wire", MetricData=[failures])
    eventually(lambda: bool(received))

    shown = cloudwatch.describe_alarms(AlarmNames=["wire"])["MetricAlarms"][0]
    assert (shown["StateValue"], shown["MetricName"], shown["Threshold"]) == ("ALARM", "Failures", 5.0)
    assert received[0]["TopicArn"] == topic
    assert json.loads(received[0]["Message"])["NewStateValue"] == "ALARM"
    cloudwatch.delete_alarms(AlarmNames=["wire"])
    assert cloudwatch.describe_alarms(AlarmNames=["wire"])["MetricAlarms"] == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"Period": 60}, "InvalidParameterCombination", id="period-beside-metrics"),
        pytest.param({"Metrics": [query("runs", 15)]}, "InvalidParameterValue", id="period-of-15"),
        pytest.param({"Metrics": [query("runs")]}, "InvalidParameterValue", id="nothing-returned"),
        pytest.param({"Metrics": [query("runs"), query("failures", 60)]}, "InvalidParameterValue", id="two-periods"),
        pytest.param(
            {"Metrics": [query("runs"), {"Id": "e", "Expression": "[runs, runs]"}]}, "ValidationError", id="two-series"
        ),
        pytest.param({"DatapointsToAlarm": 3}, "InvalidParameterValue", id="m-above-n"),
        pytest.param({"EvaluationPeriods": 9000}, "InvalidParameterValue", id="more-than-a-day"),
        pytest.param({"ComparisonOperator": "Equal"}, "InvalidParameterValue", id="comparison"),
        pytest.param({"TreatMissingData": "fine"}, "InvalidParameterValue", id="missing-data"),
        pytest.param({"Threshold": None}, "MissingParameter", id="no-threshold"),
        pytest.param({"AlarmActions": [TOPIC] * 6}, "InvalidParameterValue", id="six-actions"),
    ],
)
def test_alarms_that_cannot_be_are_refused(local_aws: Any, more: dict[str, Any], code: str) -> None:
    """PutMetricAlarm checks what AWS checks."""
    request = {name: value for name, value in error_rate(**more).items() if value is not None}
    client = local_aws.client("cloudwatch")

    with pytest.raises(ClientError) as caught:
        client.put_metric_alarm(**request)

    assert caught.value.response["Error"]["Code"] == code


def test_an_unknown_alarm_is_named(local_aws: Any) -> None:
    """SetAlarmState and DeleteAlarms say ResourceNotFound."""
    client = local_aws.client("cloudwatch")

    with pytest.raises(client.exceptions.ResourceNotFound):
        client.set_alarm_state(AlarmName="nobody", StateValue="OK", StateReason="x")
    with pytest.raises(client.exceptions.ResourceNotFound):
        client.delete_alarms(AlarmNames=["nobody"])
