"""The table as CloudWatch alarms: parameters of PutMetricAlarm and PutCompositeAlarm, live and drill."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kms_alarms import bounds
from kms_alarms.parts import DIMENSIONS, Alarm, Composite, MetricAlarm, NoneBecause, Scope
from kms_alarms.table import ALARMS, alarm, by_region
from kms_watchdog.alarm_definitions import Parameters, topic_arn
from kms_watchdog.config import Settings
from kms_watchdog.drills.slots import label_of
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import Mode
from kms_watchdog.sinks.series import DRILL_KINDS

Member = tuple[str, ...]
"""The values of an alarm's dimensions, as they end its name: a region, a region and a key, nothing."""
ROLLUPS: Mapping[str, str] = {"HighErrorRate": "alerts", "CircuitBreakerOpen": "critical"}
"""The setup guide's two alarms, by its exact names and to its topics: one over the alarms of all regions each."""
ESTATE = "estate"
"""In the place of a region: the alarm that there is once for all of them."""


def render(settings: Settings, *, alarm_region: str) -> tuple[Parameters, ...]:
    """Return every alarm that lives in `alarm_region`, those of metrics first: composites name them."""
    found = [
        (isinstance(row.cloudwatch, Composite), parameters)
        for row in ALARMS
        for parameters in _of_row(settings, row, alarm_region)
    ]
    rollups = [_rollup(settings, name, mode, alarm_region) for name in ROLLUPS for mode in Mode]
    metric_alarms = [parameters for composite, parameters in found if not composite]
    return (*metric_alarms, *(parameters for composite, parameters in found if composite), *rollups)


def names_about(settings: Settings, region: str, mode: Mode) -> tuple[str, ...]:
    """Return what CloudWatch calls its alarms about one region of the estate."""
    return tuple(
        _name(settings, row, member, mode)
        for row in ALARMS
        if isinstance(row.cloudwatch, MetricAlarm) and mode in row.modes
        for member in members(settings, row.cloudwatch)
        if row.cloudwatch.scope in {"region", "region_key"} and member[0] == region
    )


def alarm_name(settings: Settings, name: str, region: str, mode: Mode) -> str:
    """Return what CloudWatch calls the alarm `name` for `region` or `ESTATE`: the live one, or its drill twin.

    Raises:
        KeyError: no row that is rendered so has that name.
    """
    return _name(settings, _row(name, region), () if region == ESTATE else (region,), mode)


def _row(name: str, region: str) -> Alarm:
    row = alarm(name)
    if row not in (by_region() if region != ESTATE else _of_estate()):
        raise KeyError(name)
    return row


def _of_estate() -> tuple[Alarm, ...]:
    return tuple(row for row in ALARMS if isinstance(row.cloudwatch, Composite))


def _name(settings: Settings, row: Alarm, member: Member, mode: Mode) -> str:
    return "-".join((settings.cloudwatch.alarm_prefix, *(["Drill"] if mode is Mode.DRILL else []), row.name, *member))


def members(settings: Settings, watch: MetricAlarm) -> tuple[Member, ...]:
    """Return for what `watch` is rendered once each."""
    regions, keys = settings.estate.regions, tuple(settings.keys)
    of_scope: Mapping[Scope, Iterable[Member]] = {
        "region": ((region,) for region in regions),
        "region_key": itertools.product(regions, keys),
        "key": ((key,) for key in keys),
        "kind": ((kind,) for kind in watch.kinds if kind in settings.canaries.kinds),
        "drill": ((drill,) for drill in sorted({label_of(slot.drill) for slot in settings.drills.slots.values()})),
        "monitor": ((monitor,) for monitor in settings.monitors),
        "estate": ((),),
    }
    return tuple(of_scope[watch.scope])


def slowest_seconds(name: str, region: str, period_seconds: int) -> int:
    """Return the longest the alarm `name` of `region` or `ESTATE` may take to fire once metrics show the trouble.

    Raises:
        KeyError: no row that is rendered so has that name.
    """
    match _row(name, region).cloudwatch:
        case Composite(of=of):
            return slowest_seconds(of, "", period_seconds)
        case MetricAlarm() as watch:
            return bounds.slowest_seconds(watch, period_seconds)
        case _:
            raise KeyError(name)


def _of_row(settings: Settings, row: Alarm, alarm_region: str) -> Iterator[Parameters]:
    match row.cloudwatch:
        case NoneBecause():
            return
        case Composite() as over:
            for mode in row.modes:
                yield _composite(settings, row, over, mode, alarm_region)
        case MetricAlarm() as watch:
            for member, mode in itertools.product(members(settings, watch), row.modes):
                if mode is Mode.DRILL and watch.scope == "kind" and member[0] not in DRILL_KINDS:
                    continue  # drills run no such canary: nobody would publish what its twin reads
                yield _metric_alarm(settings, row, watch, member, mode, alarm_region)


def _metric_alarm(
    settings: Settings, row: Alarm, watch: MetricAlarm, member: Member, mode: Mode, alarm_region: str
) -> Parameters:
    label = " ".join((row.name, *member, *([f"({watch.unit})"] if watch.unit else [])))
    result = {"Id": "result", "Expression": watch.expression, "Label": label, "ReturnData": True}
    return {
        "AlarmName": _name(settings, row, member, mode),
        "AlarmDescription": _description(settings, row, member),
        **_actions(topic_arn(settings, _topic(settings, row, mode), alarm_region)),
        "Metrics": [
            *(_input(settings, watch, name, member, mode, returned=not watch.expression) for name in watch.inputs),
            *([result] if watch.expression else []),
        ],
        "ComparisonOperator": watch.comparison,
        "Threshold": watch.threshold,
        "EvaluationPeriods": watch.evaluation_periods,
        "DatapointsToAlarm": watch.datapoints_to_alarm,
        "TreatMissingData": watch.missing,
    }


def _input(
    settings: Settings, watch: MetricAlarm, name: str, member: Member, mode: Mode, *, returned: bool
) -> dict[str, Any]:
    cloudwatch, (metric, statistic) = settings.cloudwatch, watch.inputs[name]
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": cloudwatch.drill_namespace if mode is Mode.DRILL else cloudwatch.namespace,
                "MetricName": metric.name,
                "Dimensions": _dimensions(metric, watch, member),
            },
            "Period": bounds.period_of(settings, watch),
            "Stat": statistic,
        },
        "ReturnData": returned,
    }


def _dimensions(metric: CloudWatchMetric, watch: MetricAlarm, member: Member) -> list[dict[str, str]]:
    values = dict(zip(DIMENSIONS[watch.scope], member, strict=True))
    return [{"Name": name, "Value": values[name]} for name in metric.dimensions]


def _composite(settings: Settings, row: Alarm, over: Composite, mode: Mode, alarm_region: str) -> Parameters:
    children = [alarm_name(settings, over.of, region, mode) for region in settings.estate.regions]
    together = itertools.combinations(children, over.at_least)
    rule = " OR ".join("(" + " AND ".join(f'ALARM("{child}")' for child in some) + ")" for some in together)
    return {
        "AlarmName": _name(settings, row, (), mode),
        "AlarmDescription": _description(settings, row, ()),
        **_actions(topic_arn(settings, _topic(settings, row, mode), alarm_region)),
        "AlarmRule": rule,
    }


def _rollup(settings: Settings, name: str, mode: Mode, alarm_region: str) -> Parameters:
    row, cloudwatch = alarm(name), settings.cloudwatch
    topics = {"alerts": cloudwatch.alerts_topic, "critical": cloudwatch.critical_topic}
    topic = cloudwatch.drills_topic if mode is Mode.DRILL else topics[ROLLUPS[name]]
    children = (alarm_name(settings, name, region, mode) for region in settings.estate.regions)
    return {
        "AlarmName": _name(settings, row, (), mode),
        "AlarmDescription": f"{row.title}, or in others; each region's own alarm says so. Runbook {row.runbook}.",
        **_actions(topic_arn(settings, topic, alarm_region)),
        "AlarmRule": " OR ".join(f'ALARM("{child}")' for child in children),
    }


def _actions(topic: str) -> dict[str, Any]:
    return {"ActionsEnabled": True, "AlarmActions": [topic], "OKActions": [topic], "InsufficientDataActions": []}


def _description(settings: Settings, row: Alarm, member: Member) -> str:
    within = bounds.cloudwatch(settings, row)
    title = ": ".join((row.title, *([" ".join(member)] if member else [])))
    return (
        f"{title}. {row.severity}, owner {row.owner}, runbook {row.runbook}. Told within {within:.0f} s of the trouble."
    )


def _topic(settings: Settings, row: Alarm, mode: Mode) -> str:
    """Return whom the alarm tells; a drill's twin never speaks to a pager (DESIGN §6)."""
    if mode is Mode.DRILL:
        return settings.cloudwatch.drills_topic
    return settings.cloudwatch.critical_topic if row.severity == "critical" else settings.cloudwatch.alerts_topic
