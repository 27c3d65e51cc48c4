"""Unit tests of CloudWatch alarms, in the manner of `promtool test rules`: data of each period in, states out. Pure.

A file is TOML. Each `[[case]]` names one alarm as it is rendered, or brings a `definition` of its own (parameters of
PutMetricAlarm); `[[case.data]]` tells what is published, and `expect` the state after so many periods. Values are those
of one period each: `6` is one datum of 6, `400+2000` are two, `_` is none, and `6*10` is ten periods of it.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kms_alarms import cloudwatch
from kms_alarms.composite import parse_rule
from kms_alarms.evaluate import AlarmDefinition, AlarmState, MetricMathError, MetricStat, Missing, evaluate, parse
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.config import Settings

_TOKEN = re.compile(r"(?P<samples>_|-?[\d.]+(?:\+-?[\d.]+)*)(?:\*(?P<count>\d+))?")
Series = Mapping[int, Sequence[float]]
"""Samples by number of the period, from 0."""


class AlarmTestError(ValueError):
    """A file of tests that cannot be read; the message is one line that names it and the case."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Strict):
    """What is published of one metric with these exact dimensions, by periods of the alarm that is looked at."""

    metric: str
    dimensions: dict[str, str] = {}
    namespace: str = "ParkerFlight/KMS"
    values: Annotated[str, Field(pattern=r"^[\d.+*_ -]+$")]

    def series(self) -> Series:
        """Return the samples of each period.

        Raises:
            ValueError: `values` is not written as it should be.
        """
        periods: list[Sequence[float]] = []
        for token in self.values.split():
            found = _TOKEN.fullmatch(token)
            if found is None:
                raise ValueError(
                    f"values: {token!r} is no number, no numbers joined by +, and not _ (*COUNT may follow)"
                )
            samples = () if found["samples"] == "_" else tuple(float(one) for one in found["samples"].split("+"))
            periods += [samples] * int(found["count"] or 1)
        return {number: samples for number, samples in enumerate(periods) if samples}


class Expect(_Strict):
    """The state once so many periods are over."""

    after: int = Field(ge=0)
    state: Literal["OK", "ALARM", "INSUFFICIENT_DATA"]


class Case(_Strict):
    """One alarm, what it sees, and what it makes of it."""

    name: str
    alarm: str = ""
    definition: dict[str, Any] | None = None
    data: tuple[Data, ...] = ()
    expect: Annotated[tuple[Expect, ...], Field(min_length=1)]
    never: Literal["OK", "ALARM", "INSUFFICIENT_DATA"] | None = None
    """A state that it must not be in at any time."""

    @model_validator(mode="after")
    def _names_one_alarm(self) -> Self:
        if bool(self.alarm) is bool(self.definition):
            raise ValueError(f"{self.name}: either `alarm` or `definition`")
        return self


class _File(_Strict):
    case: Annotated[tuple[Case, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one case came to."""

    case: str
    alarm: str
    wrong: tuple[str, ...]
    """What was not as expected; empty: all was."""


def read(path: Path) -> tuple[Case, ...]:
    """Return the cases of one file.

    Raises:
        AlarmTestError: it cannot be read, or is not written as it should be.
    """
    try:
        cases = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).case
        for case in cases:
            for data in case.data:
                data.series()
    except OSError as e:
        raise AlarmTestError(f"{path}: cannot be read: {e.strerror}") from e
    except ValidationError as e:
        first = e.errors()[0]
        raise AlarmTestError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from e
    except (ValueError, RecursionError) as e:  # of TOML, or of `values`
        raise AlarmTestError(f"{path}: {e}") from e
    return cases


def run(cases: Iterable[Case], settings: Settings, *, alarm_region: str) -> Iterator[Outcome]:
    """Play each case to its last expectation, one look at the end of each period."""
    rendered = {alarm["AlarmName"]: alarm for alarm in cloudwatch.render(settings, alarm_region=alarm_region)}
    for case in cases:
        own = case.definition
        known = rendered if own is None else {own.get("AlarmName", "definition"): own}
        name = case.alarm or next(iter(known))
        wrong = tuple(_play(case, name, known)) if name in known else (f"there is no alarm {name}",)
        yield Outcome(case=case.name, alarm=name, wrong=wrong)


def _play(case: Case, name: str, known: Mapping[str, Parameters]) -> Iterator[str]:
    try:
        states = history(name, known, case.data, periods=max(one.after for one in case.expect))
    except (ValueError, MetricMathError) as e:
        yield str(e)
        return
    for one in case.expect:
        if states[one.after] != one.state:
            yield f"after {one.after} periods: {states[one.after]}, not {one.state}"
    if case.never in states[1:]:
        yield f"{case.never} after {states.index(AlarmState(case.never), 1)} periods, which must never be"


def history(name: str, known: Mapping[str, Parameters], data: Iterable[Data], *, periods: int) -> list[AlarmState]:
    """Return the states of the alarm `name`, from before the first period on, one look at the end of each.

    Raises:
        ValueError: its definition is none, or a composite names an alarm that is not there.
        MetricMathError: its expression does not give one series.
    """
    wanted = known[name]
    if rule := wanted.get("AlarmRule"):
        parsed = parse_rule(rule)
        if missing := [child for child in parsed.alarms if child not in known]:
            raise ValueError(f"there is no alarm {missing[0]}")
        children = {child: history(child, known, data, periods=periods) for child in parsed.alarms}
        looks = ({child: states[number] for child, states in children.items()} for number in range(periods + 1))
        return [AlarmState.ALARM if parsed.holds(states.__getitem__) else AlarmState.OK for states in looks]
    definition = definition_of(wanted)
    stats = {query: stat for query, stat in definition.queries.items() if isinstance(stat, MetricStat)}
    samples = {query: _samples(stat, data) for query, stat in stats.items()}
    states = [AlarmState.INSUFFICIENT_DATA]
    for number in range(1, periods + 1):
        statistics = {
            query: {
                float(start * definition.period_seconds): _statistic(stats[query].statistic, values)
                for start, values in of.items()
                if start < number
            }
            for query, of in samples.items()
        }
        looked_at = range(number - definition.evaluation_periods, number)
        count = sum(len(samples.get(definition.result, {}).get(start, ())) for start in looked_at)
        now = float(number * definition.period_seconds)
        states.append(evaluate(definition, statistics, now=now, previous=states[-1], samples=count).state)
    return states


def definition_of(parameters: Parameters) -> AlarmDefinition:
    """Return the alarm that PutMetricAlarm makes of `parameters`.

    Raises:
        ValueError: something that an alarm needs is not there, or is wrong.
    """
    try:
        queries, result, period = _queries(parameters)
        return AlarmDefinition(
            name=parameters.get("AlarmName", "definition"),
            queries=queries,
            result=result,
            period_seconds=period,
            evaluation_periods=parameters["EvaluationPeriods"],
            datapoints_to_alarm=parameters.get("DatapointsToAlarm", parameters["EvaluationPeriods"]),
            comparison=parameters["ComparisonOperator"],
            threshold=float(parameters["Threshold"]),
            missing=Missing(parameters.get("TreatMissingData", "missing")),
            ignores_low_samples=parameters.get("EvaluateLowSampleCountPercentile") == "ignore",
        )
    except KeyError as e:
        raise ValueError(f"the definition has no {e.args[0]}") from e


def _queries(parameters: Parameters) -> tuple[dict[str, Any], str, int]:
    if "Metrics" not in parameters:
        stat = MetricStat(
            namespace=parameters["Namespace"],
            name=parameters["MetricName"],
            dimensions=_pairs(parameters.get("Dimensions", ())),
            statistic=parameters.get("Statistic") or parameters["ExtendedStatistic"],
        )
        return {"metric": stat}, "metric", parameters["Period"]
    queries: dict[str, Any] = {}
    for query in parameters["Metrics"]:
        if "Expression" in query:
            queries[query["Id"]] = parse(query["Expression"])
            continue
        metric = query["MetricStat"]["Metric"]
        queries[query["Id"]] = MetricStat(
            namespace=metric["Namespace"],
            name=metric["MetricName"],
            dimensions=_pairs(metric.get("Dimensions", ())),
            statistic=query["MetricStat"]["Stat"],
        )
    [result] = [query["Id"] for query in parameters["Metrics"] if query.get("ReturnData", True)]
    period = next(query["MetricStat"]["Period"] for query in parameters["Metrics"] if "MetricStat" in query)
    return queries, result, period


def _pairs(dimensions: Iterable[Mapping[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((one["Name"], one["Value"]) for one in dimensions)


def _samples(stat: MetricStat, data: Iterable[Data]) -> dict[int, list[float]]:
    """Return the samples of each period, of what was published under exactly these dimensions."""
    samples: dict[int, list[float]] = {}
    for one in data:
        published = (one.namespace, one.metric, frozenset(one.dimensions.items()))
        if published == (stat.namespace, stat.name, stat.dimensions):
            for number, values in one.series().items():
                samples.setdefault(number, []).extend(values)
    return samples


def _statistic(name: str, values: Sequence[float]) -> float:
    match name:
        case "Sum":
            return sum(values)
        case "Average":
            return sum(values) / len(values)
        case "Minimum":
            return min(values)
        case "Maximum":
            return max(values)
        case "SampleCount":
            return float(len(values))
        case _ if re.fullmatch(r"p\d{1,3}(\.\d+)?", name):
            rank = math.ceil(float(name[1:]) / 100 * len(values))  # the nearest, which CloudWatch is close to
            return sorted(values)[max(rank, 1) - 1]
        case _:
            raise ValueError(f"the statistic {name} is not known here")
