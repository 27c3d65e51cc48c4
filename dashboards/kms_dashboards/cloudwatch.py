"""The CloudWatch dashboard: one for each region that gets the metrics, over its own copy of them. Pure.

A dashboard of one region shows nothing of another's metrics, so that the loss of a region leaves the others' dashboards
whole. Metrics and their exact dimensions come from `metrics.py`, alarms from the table.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kms_alarms import cloudwatch as alarms
from kms_dashboards.cloudwatch_values import alarm_arn, values_of
from kms_watchdog import metrics
from kms_watchdog.config import Settings
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import Mode

Widget = dict[str, Any]
Line = list[Any]
"""A metric as CloudWatch writes one: namespace, name, dimension names and values in turn, and how to draw it."""
WIDTH = 24
_SLOW_SECONDS, _BAD_PERCENT = 1000, 5  # as the alarms HighLatency and HighErrorRate have them


def render(settings: Settings, *, region: str) -> str:
    """Return the body of PutDashboard for the metrics in `region`."""
    return json.dumps(body(settings, region=region), indent=2, sort_keys=True) + "\n"


def body(settings: Settings, *, region: str) -> dict[str, Any]:
    """Return the dashboard as a document."""
    made = _Widgets(settings, region)
    lines = (
        (made.heading(),),
        made.alarm_lists(),
        (made.error_rate(), made.latency(), made.breakers()),
        (made.counts(), made.kinds(), made.never()),
        (made.keys(), made.drift(), made.attempts()),
        (made.heartbeat(), made.drills(), made.drill_traffic()),
    )
    return {"start": "-PT6H", "periodOverride": "inherit", "widgets": list(_placed(lines))}


def _placed(lines: Sequence[Sequence[Widget]]) -> Iterable[Widget]:
    """Return the widgets with their places: each line as high as its highest, shared out evenly."""
    top = 0
    for line in lines:
        width, height = WIDTH // len(line), max(widget["height"] for widget in line)
        for column, widget in enumerate(line):
            yield widget | {"x": column * width, "y": top, "width": width, "height": height}
        top += height


class _Widgets:
    """Each panel of one region's dashboard."""

    def __init__(self, settings: Settings, region: str) -> None:
        self._settings, self._region = settings, region
        self._regions = settings.estate.regions
        self._period = settings.cloudwatch.period_seconds

    def heading(self) -> Widget:
        """Say what this is, and where there is more."""
        text = (
            f"# KMS watchdog: {self._settings.estate.name}, as {self._region} sees it\n"
            f"Every number is published to {' and '.join(self._settings.publish_regions)} alike: if this dashboard is "
            "silent, look at the other one. Runbooks are named in each alarm's description. Rendered by "
            "kms-dashboards; edits are lost."
        )
        return {"type": "text", "height": 3, "properties": {"markdown": text}}

    def alarm_lists(self) -> tuple[Widget, ...]:
        """Show every alarm of this region, by whom it tells."""
        cloudwatch = self._settings.cloudwatch
        found: dict[str, list[str]] = {}
        for alarm in alarms.render(self._settings, alarm_region=self._region):
            topic = alarm["AlarmActions"][0].rpartition(":")[2]
            found.setdefault(topic, []).append(alarm_arn(self._settings, alarm["AlarmName"], self._region))
        titles = {
            cloudwatch.critical_topic: "Alarms that wake somebody",
            cloudwatch.alerts_topic: "Alarms for working hours",
            cloudwatch.drills_topic: "Drill twins, which wake nobody",
        }
        return tuple(
            {"type": "alarm", "height": 8, "properties": {"title": title, "alarms": found[topic]}}
            for topic, title in titles.items()
        )

    def error_rate(self) -> Widget:
        """Show the share of round trips that failed."""
        lines: list[Line] = []
        for index, region in enumerate(self._regions):
            lines += [
                self._line(metrics.CW_CANARY_RUNS, {"Region": region}, "Sum", id=f"r{index}", visible=False),
                self._line(metrics.CW_CANARY_FAILURES, {"Region": region}, "Sum", id=f"f{index}", visible=False),
                _math(f"e{index}", f"IF(r{index} > 0, 100 * f{index} / r{index}, 0)", region),
            ]
        return self._graph("Round trips that failed (%)", lines, lowest=0, marks={f"{_BAD_PERCENT} %": _BAD_PERCENT})

    def latency(self) -> Widget:
        """Show how long round trips take."""
        lines = [
            self._line(metrics.CW_CANARY_DURATION, {"Region": region}, stat, label=f"{region} {stat}")
            for region, stat in itertools.product(self._regions, ("p50", "p99"))
        ]
        return self._graph("Round trip (ms)", lines, lowest=0, marks={"1 s": _SLOW_SECONDS})

    def breakers(self) -> Widget:
        """Show each region's breaker, by the worst of a period."""
        lines = [
            self._line(metrics.CW_BREAKER_STATE, {"Region": region}, "Maximum", label=region)
            for region in self._regions
        ]
        marks = {name.replace("_", "-"): value for name, value in metrics.BREAKER_VALUES.items()}
        return self._graph("Circuit breakers (0 closed, 1 half-open, 2 open)", lines, lowest=0, highest=3, marks=marks)

    def counts(self) -> Widget:
        """Show that canaries look, and how often they fail or are blind."""
        by_region = ((metrics.CW_CANARY_FAILURES, "failed"), (metrics.CW_CANARY_BLIND, "blind"))
        lines = [
            self._line(metric, {"Region": region}, "Sum", label=f"{region} {said}")
            for (metric, said), region in itertools.product(by_region, self._regions)
        ]
        totals = [
            self._line(metrics.CW_ALL_RUNS, {}, "Sum", label="runs in all", yAxis="right"),
            self._line(metrics.CW_ALL_FAILURES, {}, "Sum", label="failed in all"),
        ]
        return self._graph("Round trips (count; runs at the right)", [*lines, *totals], lowest=0)

    def kinds(self) -> Widget:
        """Show which kinds of canary fail, or cannot ask."""
        said = {metrics.CW_KIND_FAILURES: "failed", metrics.CW_KIND_BLIND: "blind"}
        lines = [
            self._line(metric, {"Canary": kind}, "Sum", label=f"{kind} {how}")
            for metric, how in said.items()
            for kind in self._values("Canary")
        ]
        return self._graph("Looks that failed or were blind, by question (count)", lines, lowest=0, stacked=True)

    def never(self) -> Widget:
        """Show what must never happen."""
        lines = [
            self._line(metrics.CW_INTEGRITY_FAILURES, {"Region": region}, "Sum", label=region)
            for region in self._regions
        ]
        return self._graph("Other bytes, or a refusal that was none (count; must be 0)", lines, lowest=0)

    def keys(self) -> Widget:
        """Show which keys can be used."""
        lines = [
            self._line(metrics.CW_KEY_USABLE, {"Region": region, "Key": key}, "Minimum", label=f"{region} {key}")
            for region, key in itertools.product(self._regions, self._settings.keys)
        ]
        return self._graph("Keys (1 usable, 0 not)", lines, lowest=0, highest=1.1)

    def drift(self) -> Widget:
        """Show which keys differ from the configuration."""
        lines = [
            self._line(metrics.CW_REPLICA_DRIFT, {"Key": key}, "Maximum", label=key) for key in self._settings.keys
        ]
        return self._graph("Regions in which a key differs from the configuration (count)", lines, lowest=0)

    def attempts(self) -> Widget:
        """Show failed attempts at KMS, and how long good ones take."""
        lines = [
            self._line(
                metrics.CW_OPERATION_DURATION,
                {"Region": region, "Operation": operation, "Success": success},
                stat,
                label=f"{region} {operation} {said}",
                yAxis=axis,
            )
            for region, operation in itertools.product(self._regions, self._values("Operation"))
            for success, stat, said, axis in (
                ("true", "p99", "p99", "left"),
                ("false", "SampleCount", "failed", "right"),
            )
        ]
        return self._graph("Attempts at KMS (p99 in ms; failed ones at the right)", lines, lowest=0)

    def heartbeat(self) -> Widget:
        """Show that a watchdog is there: its silence is the alarm."""
        monitors = self._settings.monitors
        lines = [
            self._line(metrics.CW_HEARTBEAT, {"Monitor": each}, "Sum", label=each if len(monitors) > 1 else "rounds")
            for each in monitors
        ]
        return self._graph("Whole rounds of canaries (count; a gap: nobody looks)", lines, lowest=0)

    def drills(self) -> Widget:
        """Show when drills ran, what they left, and which broke."""
        lines = [
            self._line(metrics.CW_DRILL_ACTIVE, {}, "Maximum", label="a drill runs", color="#8f3bb8"),
            self._line(metrics.CW_FAULTS_ACTIVE, {}, "Maximum", label="faults not undone"),
            *(
                self._line(metrics.CW_DRILL_FAILED, {"Drill": drill}, "Sum", label=f"{drill} broke")
                for drill in self._values("Drill")
            ),
        ]
        return self._graph("Drills and their faults (count)", lines, lowest=0)

    def drill_traffic(self) -> Widget:
        """Show a drill's own round trips and breakers: there are none outside a drill."""
        lines = [
            self._line(metric, {"Region": region}, stat, mode=Mode.DRILL, label=f"{region} {said}", yAxis=axis)
            for region in self._regions
            for metric, stat, said, axis in (
                (metrics.CW_CANARY_FAILURES, "Sum", "failed", "left"),
                (metrics.CW_BREAKER_STATE, "Maximum", "breaker", "right"),
            )
        ]
        return self._graph("A drill's own round trips (failed; breaker at the right)", lines, lowest=0)

    def _values(self, dimension: str) -> tuple[str, ...]:
        return values_of(self._settings)[dimension]

    def _line(
        self,
        metric: CloudWatchMetric,
        dimensions: Mapping[str, str],
        stat: str,
        *,
        mode: Mode = Mode.LIVE,
        **options: Any,
    ) -> Line:
        """Return one metric, with exactly its dimensions."""
        cloudwatch = self._settings.cloudwatch
        namespace = cloudwatch.drill_namespace if mode is Mode.DRILL else cloudwatch.namespace
        pairs = itertools.chain.from_iterable((name, dimensions[name]) for name in metric.dimensions)
        return [namespace, metric.name, *pairs, {"stat": stat, **options}]

    def _graph(
        self,
        title: str,
        lines: Sequence[Line],
        *,
        lowest: float | None = None,
        highest: float | None = None,
        marks: Mapping[str, float] | None = None,
        stacked: bool = False,
    ) -> Widget:
        axis = {name: value for name, value in (("min", lowest), ("max", highest)) if value is not None}
        properties: dict[str, Any] = {
            "title": title,
            "view": "timeSeries",
            "stacked": stacked,
            "region": self._region,
            "period": self._period,
            "metrics": list(lines),
            "yAxis": {"left": {**axis, "showUnits": False}, "right": {"min": 0, "showUnits": False}},
        }
        if marks:
            horizontal = [{"label": label, "value": value} for label, value in marks.items()]
            properties["annotations"] = {"horizontal": horizontal}
        return {"type": "metric", "height": 7, "properties": properties}


def _math(name: str, expression: str, label: str) -> Line:
    return [{"id": name, "expression": expression, "label": label}]
