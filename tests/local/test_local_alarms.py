"""Alarms: on made-up times through the pure parts, and over the wire to a subscriber."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from alarm_desk import NOON, REGION, TOPIC, Desk
from botocore.exceptions import ClientError

from kms_alarms.evaluate import AlarmState, parse
from kms_local.clock import SystemClock
from kms_local.cloudwatch.alarm import MetricAlarm
from kms_local.cloudwatch.alarm_descriptions import describe_alarm_history
from kms_local.cloudwatch.alarm_requests import put_metric_alarm, set_alarm_state
from kms_local.wire.params import Params


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
        states.append(desk.state("rate"))

    assert states == ["OK"] * 4 + ["ALARM"] * 3 + ["OK"] * 5
    moves = [message for _, _, message in desk.published]
    assert [(one["OldStateValue"], one["NewStateValue"]) for one in moves] == [
        ("INSUFFICIENT_DATA", "OK"),
        ("OK", "ALARM"),
        ("ALARM", "OK"),
    ]
    assert desk.published[1][1] == 'ALARM: "rate" in US East (N. Virginia)'


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
    assert desk.state("rate") == "ALARM"

    put_metric_alarm(desk.book, Params(error_rate(Threshold=50.0)), NOON + 21)

    assert desk.state("rate") == "ALARM"
    alarm = desk.book.alarms["rate"]
    assert isinstance(alarm, MetricAlarm)
    assert alarm.definition.threshold == 50.0


def test_set_alarm_state_runs_actions_and_does_not_last(desk: Desk) -> None:
    """A state set by hand is told to the topic, and the next evaluation takes it back."""
    put_metric_alarm(desk.book, Params(error_rate()), NOON)
    desk.put(NOON, runs=1, failures=0)
    desk.book.evaluate_all(NOON + 10)

    request = {"AlarmName": "rate", "StateValue": "ALARM", "StateReason": "to see whether somebody wakes up"}
    set_alarm_state(desk.book, Params(request), NOON + 11)
    assert desk.published[-1][2]["NewStateReason"] == "to see whether somebody wakes up"
    desk.book.evaluate_all(NOON + 12)

    assert desk.state("rate") == "OK"


def test_disabled_actions_are_not_run(desk: Desk) -> None:
    """ActionsEnabled=False keeps an alarm quiet, not blind."""
    put_metric_alarm(desk.book, Params(error_rate(ActionsEnabled=False)), NOON)
    desk.put(NOON, runs=1, failures=0)
    desk.book.evaluate_all(NOON + 10)

    assert desk.book.alarms["rate"].state is AlarmState.OK
    assert desk.published == []


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
        pytest.param({"ComparisonOperator": "Equal"}, "ValidationError", id="comparison"),
        pytest.param({"TreatMissingData": "fine"}, "ValidationError", id="missing-data"),
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


def test_a_standing_alarm_is_told_once(desk: Desk) -> None:
    """However long it is bad, and however often it is looked at: one notification, until it changes."""
    desk.metric_alarm("a", AlarmActions=[TOPIC])
    for number in range(30):
        desk.datum(NOON + 60 * number, Value=9.0)
        for offset in (60, 75, 90):
            desk.book.evaluate_all(NOON + 60 * number + offset)

    assert desk.told == [("a", "ALARM")]


def test_the_same_state_by_hand_is_told_to_nobody(desk: Desk) -> None:
    """SetAlarmState to the state that is there runs no action; to another one does, and so does the way back."""
    desk.metric_alarm("a", AlarmActions=[TOPIC], OKActions=[TOPIC])
    desk.datum(NOON, Value=9.0)
    desk.book.evaluate_all(NOON + 60)
    desk.set_state("a", "ALARM", NOON + 61)
    desk.book.evaluate_all(NOON + 62)
    assert desk.told == [("a", "ALARM")]

    desk.set_state("a", "OK", NOON + 63)
    desk.book.evaluate_all(NOON + 64)
    assert desk.told == [("a", "ALARM"), ("a", "OK"), ("a", "ALARM")]


def test_late_data_are_looked_at(desk: Desk) -> None:
    """Data for a period that has been evaluated make the alarm look again, without a new period."""
    desk.metric_alarm("a", TreatMissingData="notBreaching")
    desk.book.evaluate_all(NOON + 61)
    assert desk.state("a") == "OK"

    desk.datum(NOON, now=NOON + 65, Value=9.0)
    desk.book.evaluate_all(NOON + 66)

    assert desk.state("a") == "ALARM"


def test_high_resolution_alarms_read_seconds_alone(desk: Desk) -> None:
    """At 10 s a datum of ordinary resolution is not seen; at 60 s both are."""
    desk.metric_alarm("fast", Period=10, TreatMissingData="notBreaching")
    desk.metric_alarm("slow", TreatMissingData="notBreaching")
    desk.datum(NOON, Value=9.0)
    desk.book.evaluate_all(NOON + 10)
    assert desk.state("fast") == "OK"

    desk.datum(NOON + 10, Value=9.0, StorageResolution=1)
    desk.book.evaluate_all(NOON + 20)
    assert desk.state("fast") == "ALARM"
    desk.book.evaluate_all(NOON + 60)
    assert (desk.state("fast"), desk.state("slow")) == ("OK", "ALARM")


def test_a_percentile_of_few_samples_is_ignored_where_asked(desk: Desk) -> None:
    """EvaluateLowSampleCountPercentile=ignore: 19 samples decide nothing for a median, 20 do."""
    percentile = {"Statistic": None, "ExtendedStatistic": "p50"}
    desk.metric_alarm("picky", **percentile, EvaluateLowSampleCountPercentile="ignore")
    desk.metric_alarm("plain", **percentile)
    desk.datum(NOON, Values=[9.0], Counts=[19])
    desk.book.evaluate_all(NOON + 60)
    assert (desk.state("picky"), desk.state("plain")) == ("INSUFFICIENT_DATA", "ALARM")

    desk.datum(NOON, now=NOON + 61, Value=9.0)
    desk.book.evaluate_all(NOON + 62)
    assert desk.state("picky") == "ALARM"


def test_an_expression_that_fails_is_an_evaluation_error(desk: Desk) -> None:
    """EvaluationState says so, and goes when the alarm is put right."""
    metric = {"Namespace": "N", "MetricName": "M"}
    stat = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False}
    request = {"AlarmName": "a", "EvaluationPeriods": 1, "Threshold": 1.0}
    request |= {"ComparisonOperator": "GreaterThanThreshold", "Metrics": [stat, {"Id": "e", "Expression": "m + 1"}]}
    put_metric_alarm(desk.book, Params(request), NOON)
    alarm = desk.book.alarms["a"]
    assert isinstance(alarm, MetricAlarm)
    queries = {**alarm.definition.queries, "e": parse("[m, m]")}
    alarm.definition = dataclasses.replace(alarm.definition, queries=queries)  # what Put would have refused

    desk.datum(NOON, Value=9.0)
    desk.book.evaluate_all(NOON + 60)
    shown = desk.describe()["MetricAlarms"][0]
    assert (shown["EvaluationState"], shown["StateValue"]) == ("EVALUATION_ERROR", "INSUFFICIENT_DATA")
    assert (shown["StateUpdatedTimestamp"], shown["StateTransitionedTimestamp"]) == (NOON + 60, NOON)

    put_metric_alarm(desk.book, Params(request), NOON + 61)
    desk.book.evaluate_all(NOON + 62)
    shown = desk.describe()["MetricAlarms"][0]
    assert "EvaluationState" not in shown
    assert shown["StateValue"] == "ALARM"


def test_what_an_alarm_says(desk: Desk) -> None:
    """The notification's trigger, the reason's data and the history are spelt as CloudWatch spells them."""
    desk.metric_alarm("a", AlarmActions=[TOPIC], Dimensions=REGION, Unit="Count")
    desk.datum(NOON, Value=9.0, Dimensions=REGION, Unit="Count")
    desk.book.evaluate_all(NOON + 60)

    _, subject, message = desk.published[0]
    assert subject == 'ALARM: "a" in US East (N. Virginia)'
    assert message["Trigger"] == {
        "MetricName": "M",
        "Namespace": "N",
        "StatisticType": "Statistic",
        "Statistic": "SUM",
        "Unit": "Count",
        "Dimensions": [{"name": "Region", "value": "us-east-1"}],
        "Period": 60,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 5.0,
        "TreatMissingData": "missing",
        "EvaluateLowSampleCountPercentile": "",
    }
    shown = desk.describe()["MetricAlarms"][0]
    assert {"TreatMissingData", "DatapointsToAlarm"}.isdisjoint(shown), "only what was given is shown"
    assert json.loads(shown["StateReasonData"]) == {
        "version": "1.0",
        "queryDate": "2027-01-15T08:01:00.000+0000",
        "unit": "Count",
        "statistic": "Sum",
        "period": 60,
        "threshold": 5.0,
        "recentDatapoints": [9.0],
        "evaluatedDatapoints": [{"timestamp": "2027-01-15T08:00:00.000+0000", "value": 9.0}],
    }
    change = json.loads(desk.history(NOON + 60, HistoryItemType="StateUpdate")[0]["HistoryData"])
    assert change["oldState"] == {
        "stateValue": "INSUFFICIENT_DATA",
        "stateReason": "Unchecked: Initial alarm creation",
    }


def test_reason_data_fit(desk: Desk) -> None:
    """However long an alarm looks back, what it says of it is JSON of 4000 characters at most."""
    desk.metric_alarm("a", EvaluationPeriods=1440)
    for number in range(1440):
        desk.datum(NOON + 60 * number, Value=1.0 / 3.0 + number)
    desk.book.evaluate_all(NOON + 60 * 1440)

    text = desk.describe()["MetricAlarms"][0]["StateReasonData"]
    assert len(text) <= 4000
    assert len(json.loads(text)["evaluatedDatapoints"]) > 20


@pytest.mark.parametrize(
    ("members", "code"),
    [
        pytest.param({"StateValue": "BAD"}, "ValidationError", id="state"),
        pytest.param({"StateReasonData": "{"}, "InvalidFormat", id="reason-data"),
        pytest.param({"StateReason": None}, "MissingParameter", id="no-reason"),
    ],
)
def test_states_that_cannot_be_are_refused(local_aws: Any, members: dict[str, Any], code: str) -> None:
    """SetAlarmState checks its members."""
    client = local_aws.client("cloudwatch")
    client.put_metric_alarm(**error_rate(AlarmName="set"))
    request = {"AlarmName": "set", "StateValue": "OK", "StateReason": "x", **members}

    with pytest.raises(ClientError) as caught:
        client.set_alarm_state(**{name: value for name, value in request.items() if value is not None})

    assert caught.value.response["Error"]["Code"] == code
