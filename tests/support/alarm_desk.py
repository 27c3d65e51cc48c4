"""A CloudWatch of one region without wire or clock, and what it published."""

from __future__ import annotations

import json
from typing import Any

from kms_local.cloudwatch.alarm import CompositeAlarm
from kms_local.cloudwatch.alarm_descriptions import describe_alarm_history, describe_alarms
from kms_local.cloudwatch.alarm_requests import put_composite_alarm, put_metric_alarm, set_alarm_state
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.ingest import put_metric_data
from kms_local.cloudwatch.store import MetricStore
from kms_local.wire.params import Params

NOON = 1_800_000_000.0  # a multiple of an hour's and a minute's seconds
TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"
REGION = [{"Name": "Region", "Value": "us-east-1"}]


class Desk:
    """Takes requests as members and times by hand."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, dict[str, Any]]] = []
        self.store = MetricStore()
        self.book = AlarmBook(account_id="123456789012", region="us-east-1", store=self.store, publish=self._publish)

    def _publish(self, arn: str, subject: str, message: str) -> bool:
        self.published.append((arn, subject, json.loads(message)))
        return True

    @property
    def told(self) -> list[tuple[str, str]]:
        """Which alarm told which state, in order."""
        return [(message["AlarmName"], message["NewStateValue"]) for _, _, message in self.published]

    def put(self, at: float, *, runs: float, failures: float) -> None:
        data = [
            {"MetricName": name, "Dimensions": REGION, "Value": value, "Timestamp": at, "StorageResolution": 1}
            for name, value in (("Runs", runs), ("Failures", failures))
        ]
        put_metric_data(self.store, Params({"Namespace": "N", "MetricData": data}), at)

    def datum(self, at: float, *, now: float | None = None, **members: Any) -> None:
        """Put one datum of the metric `M`."""
        datum = {"MetricName": "M", "Timestamp": at, **members}
        put_metric_data(self.store, Params({"Namespace": "N", "MetricData": [datum]}), at if now is None else now)

    def metric_alarm(self, name: str, now: float = NOON, **members: Any) -> None:
        """Put an alarm on the sum of `M` a minute: more than 5 is bad."""
        request = {
            "AlarmName": name,
            "Namespace": "N",
            "MetricName": "M",
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 5.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **members,
        }
        given = {key: value for key, value in request.items() if value is not None}
        put_metric_alarm(self.book, Params(given), now)

    def composite(self, name: str, rule: str, now: float = NOON, **members: Any) -> None:
        """Put a composite alarm that tells every state to the topic."""
        actions = {key: [TOPIC] for key in ("OKActions", "AlarmActions", "InsufficientDataActions")}
        put_composite_alarm(self.book, Params({"AlarmName": name, "AlarmRule": rule, **actions, **members}), now)

    def set_state(self, name: str, state: str, now: float) -> None:
        request = {"AlarmName": name, "StateValue": state, "StateReason": "by hand"}
        set_alarm_state(self.book, Params(request), now)

    def state(self, name: str) -> str:
        return str(self.book.alarms[name].state)

    def describe(self, **members: Any) -> dict[str, Any]:
        return describe_alarms(self.book, Params(members), NOON)

    def history(self, now: float, **members: Any) -> list[dict[str, Any]]:
        found = describe_alarm_history(self.book, Params(members), now)["AlarmHistoryItems"]
        return list(found)

    def held_by(self, name: str) -> str | None:
        alarm = self.book.alarms[name]
        assert isinstance(alarm, CompositeAlarm)
        return None if alarm.held is None else str(alarm.held.by)
