"""What is wrong with a CloudWatch dashboard's body. Pure: PutDashboard takes nearly everything, and shows it empty.

A metric that nobody publishes with exactly these dimensions, an alarm that is not there, a period finer than what is
published: CloudWatch says of none of them that it is wrong, and draws an empty graph for ever.

Source: Amazon CloudWatch API Reference, "Dashboard Body Structure and Syntax".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kms_dashboards.cloudwatch_values import alarm_arns, values_of
from kms_watchdog import metrics
from kms_watchdog.config import Settings

WIDTH = 24
MOST_WIDGETS, MOST_METRICS, MOST_METRICS_IN_ALL, MOST_ALARMS = 500, 500, 2500, 100
TWINS = (
    metrics.CW_CANARY_RUNS,
    metrics.CW_CANARY_FAILURES,
    metrics.CW_CANARY_BLIND,
    metrics.CW_ALL_RUNS,
    metrics.CW_ALL_FAILURES,
    metrics.CW_KIND_FAILURES,
    metrics.CW_KIND_BLIND,
    metrics.CW_INTEGRITY_FAILURES,
    metrics.CW_CANARY_DURATION,
    metrics.CW_BREAKER_STATE,
)
"""What a drill's namespace has: what is about keys, drills and the watchdog itself is live alone."""
_SHORT_PERIODS, _MINUTE = (1, 5, 10, 20, 30), 60
_STATISTIC = re.compile(r"SampleCount|Average|Sum|Minimum|Maximum|p(\d{1,2}(\.\d{1,10})?|100)")
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_FUNCTIONS = re.compile(r"\b[A-Z][A-Z_0-9]*\b")


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to draw."""

    metrics: frozenset[tuple[str, str, tuple[str, ...]]]
    """(namespace, name, exact dimensions)"""
    values: Mapping[str, tuple[str, ...]]
    """Values of each dimension."""
    alarms: frozenset[str]
    """ARNs."""
    region: str
    period_seconds: int

    @classmethod
    def of(cls, settings: Settings, region: str) -> Known:
        """Return what an installation publishes to `region`, and its alarms there."""
        live, drill = settings.cloudwatch.namespace, settings.cloudwatch.drill_namespace
        found = {(live, metric.name, metric.dimensions) for metric in metrics.CLOUDWATCH}
        found |= {(drill, metric.name, metric.dimensions) for metric in TWINS}
        return cls(
            frozenset(found),
            values_of(settings),
            alarm_arns(settings, region),
            region,
            settings.cloudwatch.period_seconds,
        )


def findings(body: Mapping[str, Any], known: Known) -> tuple[str, ...]:
    """Return what is wrong with a dashboard's body, a line each; nothing: it shows what it says."""
    widgets = body.get("widgets", [])
    return (
        *_of_sizes(widgets),
        *_of_grid(widgets),
        *(f"{_name(number, w)}: {wrong}" for number, w in enumerate(widgets) for wrong in _of_widget(w, known)),
    )


def _name(number: int, widget: Mapping[str, Any]) -> str:
    return str(widget.get("properties", {}).get("title") or f"widget {number}")


def _lines(widget: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    found: Sequence[Sequence[Any]] = widget.get("properties", {}).get("metrics", [])
    return found


def _of_sizes(widgets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not 1 <= len(widgets) <= MOST_WIDGETS:
        yield f"{len(widgets)} widgets, not 1 to {MOST_WIDGETS}"
    if (total := sum(len(_lines(widget)) for widget in widgets)) > MOST_METRICS_IN_ALL:
        yield f"{total} metrics in all, not at most {MOST_METRICS_IN_ALL}"


def _of_grid(widgets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for number, widget in enumerate(widgets):
        name = _name(number, widget)
        at = [widget.get(side) for side in ("x", "y", "width", "height")]
        if not all(isinstance(side, int) for side in at):
            yield f"{name}: has no place"
            continue
        x, y, width, height = (int(side or 0) for side in at)
        if x < 0 or y < 0 or width < 1 or height < 1 or x + width > WIDTH:
            yield f"{name}: reaches out of the grid of {WIDTH} columns"
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        if over := next((taken[cell] for cell in sorted(cells) if cell in taken), None):
            yield f"{name}: lies over {over}"
        taken |= dict.fromkeys(cells, name)


def _of_widget(widget: Mapping[str, Any], known: Known) -> Iterator[str]:
    properties = widget.get("properties", {})
    match widget.get("type"):
        case "text":
            if not properties.get("markdown"):
                yield "says nothing"
        case "alarm":
            yield from _of_alarms(properties, known)
        case "metric":
            yield from _of_graph(properties, known)
        case other:
            yield f"is of type {other}, which this does not know"


def _of_alarms(properties: Mapping[str, Any], known: Known) -> Iterator[str]:
    named = properties.get("alarms", [])
    if not properties.get("title"):
        yield "has no title"
    if not 1 <= len(named) <= MOST_ALARMS:
        yield f"{len(named)} alarms, not 1 to {MOST_ALARMS}"
    yield from (f"no alarm {arn} is rendered" for arn in named if arn not in known.alarms)


def _of_graph(properties: Mapping[str, Any], known: Known) -> Iterator[str]:
    lines = properties.get("metrics", [])
    if not properties.get("title"):
        yield "has no title"
    if properties.get("region") != known.region:
        yield f"region is {properties.get('region')}, not {known.region}, whose dashboard it is"
    if not 1 <= len(lines) <= MOST_METRICS:
        yield f"{len(lines)} metrics, not 1 to {MOST_METRICS}"
    yield from _of_period(properties.get("period"), known)
    ids = [options["id"] for line in lines if "id" in (options := _options(line))]
    yield from (f"id {one} is there twice" for one in sorted({one for one in ids if ids.count(one) > 1}))
    yield from (f"id {one} must begin with a small letter" for one in ids if not _ID.fullmatch(one))
    for line in lines:
        yield from _of_line(line, set(ids), known)


def _of_period(period: object, known: Known) -> Iterator[str]:
    allowed = isinstance(period, int) and (period in _SHORT_PERIODS or (period > 0 and period % _MINUTE == 0))
    if not isinstance(period, int) or not allowed:
        yield f"period is {period}, not 1, 5, 10, 20, 30 or a multiple of 60"
    elif period % known.period_seconds:
        yield f"period is {period} s, not a multiple of the {known.period_seconds} s of what is published"


def _of_line(line: Sequence[Any], ids: set[str], known: Known) -> Iterator[str]:
    options = _options(line)
    named = [part for part in line if not isinstance(part, dict)]
    if not named:
        names = set(re.findall(r"\b[a-zA-Z]\w*\b", _FUNCTIONS.sub("", options.get("expression", ""))))
        if not names:
            yield "a line without a metric and without an expression of any"
        yield from (f"expression of {name}, which is no id" for name in sorted(names - ids))
        return
    text = " ".join(str(part) for part in named)
    if len(named) % 2 or not all(isinstance(part, str) and part.strip(".") for part in named):
        yield f"{text}: namespace, name, and names and values of dimensions in turn, written out"
        return
    namespace, metric, *pairs = named
    dimensions = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if (namespace, metric, tuple(dimensions)) not in known.metrics:
        yield f"{text}: nobody publishes {metric} with exactly the dimensions {', '.join(dimensions) or 'none'}"
    yield from (
        f"{text}: {name} is never {value}"
        for name, value in dimensions.items()
        if value not in known.values.get(name, ())
    )
    if not _STATISTIC.fullmatch(str(options.get("stat", ""))):
        yield f"{text}: {options.get('stat')} is no statistic"


def _options(line: Sequence[Any]) -> Mapping[str, Any]:
    return line[-1] if line and isinstance(line[-1], dict) else {}
