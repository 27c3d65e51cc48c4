"""The pure evaluator: the tables of the CloudWatch User Guide, and an alarm's life on made-up times."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_alarms.evaluate import (
    AlarmDefinition,
    AlarmState,
    Evaluation,
    Expression,
    MetricMathError,
    MetricStat,
    Missing,
    evaluate,
    evaluation_window,
    parse,
)

OK, ALARM, INSUFFICIENT_DATA = AlarmState.OK, AlarmState.ALARM, AlarmState.INSUFFICIENT_DATA
KEEP = None  # the state before is kept
NOON = 1_800_000_000.0  # a multiple of 60
PERIOD = 60
STAT = MetricStat(namespace="N", name="M", dimensions=frozenset(), statistic="Sum")


def alarm(
    *,
    datapoints: int = 3,
    periods: int = 3,
    missing: Missing = Missing.MISSING,
    comparison: str = "GreaterThanThreshold",
    period_seconds: int = PERIOD,
    queries: Mapping[str, MetricStat | Expression] | None = None,
    result: str = "m1",
) -> AlarmDefinition:
    return AlarmDefinition(
        name="a",
        queries=queries or {"m1": STAT},
        result=result,
        period_seconds=period_seconds,
        evaluation_periods=periods,
        datapoints_to_alarm=datapoints,
        comparison=comparison,
        threshold=5.0,
        missing=missing,
    )


def look(definition: AlarmDefinition, pattern: str, previous: AlarmState = OK) -> Evaluation:
    """Evaluate on a pattern of the guide: `0` is fine, `X` breaching, `-` missing; the newest stands right."""
    times = evaluation_window(definition, NOON).times
    values = {"0": 0.0, "X": 9.0}
    series = {at: values[mark] for at, mark in zip(times, pattern.split(), strict=True) if mark != "-"}
    return evaluate(definition, {"m1": series}, now=NOON, previous=previous)


@pytest.mark.parametrize(
    ("pattern", "by_treatment"),
    [
        pytest.param("0 - X - X", (OK, OK, OK, OK), id="enough-real-points"),
        pytest.param("0 - - - -", (OK, OK, OK, OK), id="one-good-point"),
        pytest.param("- - - - -", (INSUFFICIENT_DATA, KEEP, ALARM, OK), id="nothing"),
        pytest.param("0 X X - X", (ALARM, ALARM, ALARM, ALARM), id="newest-three-breach"),
        pytest.param("- - X - -", (ALARM, KEEP, ALARM, OK), id="one-old-breach"),
        pytest.param("- - - - X", (KEEP, KEEP, ALARM, OK), id="one-young-breach"),
    ],
)
def test_three_of_three(pattern: str, by_treatment: tuple[AlarmState | None, ...]) -> None:
    """The guide's table for 3 out of 3, treatments in its order: missing, ignore, breaching, notBreaching."""
    treatments = (Missing.MISSING, Missing.IGNORE, Missing.BREACHING, Missing.NOT_BREACHING)

    for missing, expected in zip(treatments, by_treatment, strict=True):
        for previous in AlarmState:
            found = look(alarm(missing=missing), pattern, previous)
            assert found.state is (previous if expected is KEEP else expected), missing


@pytest.mark.parametrize(
    ("pattern", "by_treatment"),
    [
        pytest.param("0 - X - X", (ALARM, ALARM, ALARM, ALARM), id="two-of-three-real"),
        pytest.param("0 0 X 0 X", (ALARM, ALARM, ALARM, ALARM), id="all-there"),
        pytest.param("0 - X - -", (OK, OK, ALARM, OK), id="one-breach-one-good"),
        pytest.param("- - - - 0", (OK, OK, ALARM, OK), id="one-good-point"),
        pytest.param("- - - X -", (ALARM, KEEP, ALARM, OK), id="one-breach"),
    ],
)
def test_two_of_three(pattern: str, by_treatment: tuple[AlarmState | None, ...]) -> None:
    """The guide's table for 2 out of 3."""
    treatments = (Missing.MISSING, Missing.IGNORE, Missing.BREACHING, Missing.NOT_BREACHING)

    for missing, expected in zip(treatments, by_treatment, strict=True):
        found = look(alarm(datapoints=2, missing=missing), pattern, OK)
        assert found.state is (OK if expected is KEEP else expected), missing


def test_a_period_counts_only_when_it_is_over() -> None:
    """Data of the running period change nothing until the clock has passed its end."""
    one = alarm(datapoints=1, periods=1, period_seconds=10, missing=Missing.NOT_BREACHING)
    statistics = {"m1": {NOON: 9.0}}

    assert evaluate(one, statistics, now=NOON + 9.9, previous=OK).state is OK
    assert evaluate(one, statistics, now=NOON + 10.0, previous=OK).state is ALARM


def test_late_data_are_seen_at_the_next_look() -> None:
    """A point that arrives after its period's first evaluation still counts."""
    one = alarm(datapoints=1, periods=1, period_seconds=10, missing=Missing.NOT_BREACHING)
    now = NOON + 25

    assert evaluate(one, {"m1": {NOON: 0.0}}, now=now, previous=OK).state is OK
    assert evaluate(one, {"m1": {NOON: 0.0, NOON + 10: 9.0}}, now=now, previous=OK).state is ALARM


def test_an_error_ratio_goes_to_alarm_and_back() -> None:
    """The alarm that we ship, on made-up times: OK while all is well, ALARM at 3 of 5, OK again, never a wait."""
    counts = {
        name: MetricStat(namespace="N", name=name, dimensions=frozenset({("Region", "us-east-1")}), statistic="Sum")
        for name in ("runs", "failures")
    }
    rate = parse("IF(runs > 0, 100*failures/runs, 0)")
    one = alarm(
        datapoints=3,
        periods=5,
        period_seconds=10,
        missing=Missing.NOT_BREACHING,
        queries={**counts, "rate": rate},
        result="rate",
    )
    runs = {NOON + 10 * number: 6.0 for number in range(40)}
    failures = {at: 6.0 if NOON + 100 <= at < NOON + 200 else 0.0 for at in runs}

    states, state = {}, INSUFFICIENT_DATA
    for number in range(1, 40):
        now = NOON + 10 * number + 1
        state = evaluate(one, {"runs": runs, "failures": failures}, now=now, previous=state).state
        states[now - NOON] = state

    assert states[11] is OK
    assert {at for at, found in states.items() if found is ALARM} == {float(at) for at in range(131, 231, 10)}


def test_an_alarm_without_data_is_insufficient() -> None:
    """A new alarm whose metric does not exist stays INSUFFICIENT_DATA, and says why."""
    found = look(alarm(), "- - - - -", INSUFFICIENT_DATA)

    assert found.state is INSUFFICIENT_DATA
    assert found.reason == "Insufficient Data: 3 datapoints were unknown."


def test_the_reason_names_points_and_threshold() -> None:
    """The reason is in CloudWatch's words, which are others for M out of N."""
    found = look(alarm(datapoints=1, periods=1), "0 0 X")
    several = look(alarm(datapoints=1, periods=2), "0 0 0 X")
    good = look(alarm(datapoints=1, periods=2), "0 0 0 0")

    shown = "9.0 (15/01/27 07:59:00)"
    assert found.reason == f"Threshold Crossed: 1 datapoint [{shown}] was greater than the threshold (5.0)."
    assert several.reason == (
        f"Threshold Crossed: 1 out of the last 2 datapoints [{shown}] was greater than the threshold (5.0) "
        "(minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert good.reason.endswith(
        "were not greater than the threshold (5.0) (minimum 2 datapoints for ALARM -> OK transition)."
    )
    treated = look(alarm(missing=Missing.BREACHING), "- - - - -")
    assert treated.reason == (
        "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as "
        "[Breaching]."
    )


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    [
        pytest.param("GreaterThanThreshold", {6.0}, id="greater"),
        pytest.param("GreaterThanOrEqualToThreshold", {5.0, 6.0}, id="greater-or-equal"),
        pytest.param("LessThanThreshold", {4.0}, id="less"),
        pytest.param("LessThanOrEqualToThreshold", {4.0, 5.0}, id="less-or-equal"),
    ],
)
def test_comparisons(comparison: str, breaching: set[float]) -> None:
    """Each comparison has its own idea of the threshold itself."""
    one = alarm(comparison=comparison)

    assert {value for value in (4.0, 5.0, 6.0) if one.breaches(value)} == breaching


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"datapoints": 4}, id="more-points-than-periods"),
        pytest.param({"datapoints": 0}, id="no-points"),
        pytest.param({"comparison": "Equal"}, id="unknown-comparison"),
        pytest.param({"period_seconds": 0}, id="no-period"),
        pytest.param({"result": "m2"}, id="unknown-result"),
        pytest.param({"queries": {"m1": parse("m7 + 1")}}, id="unknown-id"),
    ],
)
def test_a_wrong_definition_is_refused_at_birth(wrong: dict[str, object]) -> None:
    """No alarm exists that could not be evaluated."""
    with pytest.raises(ValueError, match=r"."):
        alarm(**wrong)  # type: ignore[arg-type]


def test_expressions_that_wait_for_each_other_are_an_error() -> None:
    """A circle of expressions is named, not followed."""
    one = alarm(queries={"a": parse("b + 1"), "b": parse("a + 1")}, result="a")

    with pytest.raises(MetricMathError, match="wait for each other"):
        evaluate(one, {}, now=NOON, previous=OK)


@given(
    pattern=st.lists(st.sampled_from("0X-"), min_size=5, max_size=5),
    datapoints=st.integers(1, 3),
    previous=st.sampled_from(AlarmState),
)
def test_treatments_are_ordered(pattern: list[str], datapoints: int, previous: AlarmState) -> None:
    """Whatever the data: what alarms with missing data as good alarms with missing data as bad, too."""
    marks = " ".join(pattern)

    lenient = look(alarm(datapoints=datapoints, missing=Missing.NOT_BREACHING), marks, previous).state
    strict = look(alarm(datapoints=datapoints, missing=Missing.BREACHING), marks, previous).state

    assert (lenient, strict) != (ALARM, OK)
    assert {lenient, strict} <= {OK, ALARM}


@pytest.mark.parametrize(
    ("statistic", "needed"),
    [
        pytest.param("p99", 1000, id="p99"),
        pytest.param("p50", 20, id="p50"),
        pytest.param("p99.9", 10_000, id="p99.9"),
        pytest.param("p10", 100, id="p10"),
        pytest.param("p100", 0, id="maximum"),
        pytest.param("p0", 0, id="minimum"),
        pytest.param("Average", 0, id="no-percentile"),
    ],
)
def test_a_percentile_of_few_samples_decides_nothing(statistic: str, needed: int) -> None:
    """The guide's numbers: 10/(1-p) from the median up, 10/p below; with one sample fewer the state stays."""
    stat = MetricStat(namespace="N", name="M", dimensions=frozenset(), statistic=statistic)
    base = alarm(datapoints=1, periods=1, queries={"m1": stat})
    picky = dataclasses.replace(base, ignores_low_samples=True)
    series = {"m1": {NOON - PERIOD: 9.0}}

    def state(definition: AlarmDefinition, samples: float, previous: AlarmState) -> AlarmState:
        return evaluate(definition, series, now=NOON, previous=previous, samples=samples).state

    assert picky.samples_needed == pytest.approx(needed)
    assert state(picky, needed, OK) is ALARM
    assert state(base, 1, OK) is ALARM
    if needed:
        assert {state(picky, needed - 1, previous) for previous in AlarmState} == set(AlarmState)


def test_no_samples_at_all_are_missing_data() -> None:
    """Without any data the treatment of missing data decides, whatever is said of few samples."""
    stat = MetricStat(namespace="N", name="M", dimensions=frozenset(), statistic="p99")
    picky = dataclasses.replace(alarm(queries={"m1": stat}, missing=Missing.NOT_BREACHING), ignores_low_samples=True)

    assert evaluate(picky, {"m1": {}}, now=NOON, previous=ALARM, samples=0).state is OK


@pytest.mark.parametrize("period_seconds", [10, 20, 30, 60, 3600])
def test_period_boundaries(period_seconds: int) -> None:
    """At the very end of a period it counts, an instant before it does not; what lies before the range is not seen."""
    one = alarm(datapoints=1, periods=1, period_seconds=period_seconds, missing=Missing.NOT_BREACHING)
    bad = {"m1": {NOON: 9.0}}

    assert evaluate(one, bad, now=math.nextafter(NOON + period_seconds, 0), previous=OK).state is OK
    assert evaluate(one, bad, now=NOON + period_seconds, previous=OK).state is ALARM
    gone = NOON + 4 * period_seconds  # one evaluation period and two more: the range has moved past it
    assert evaluate(one, bad, now=gone, previous=ALARM).state is OK


def test_late_data_can_take_an_alarm_back() -> None:
    """A period that seemed missing and turns out good clears an alarm that missing data had raised."""
    one = alarm(datapoints=2, periods=2, missing=Missing.BREACHING)
    bad = {NOON - 60: 9.0}

    assert evaluate(one, {"m1": bad}, now=NOON, previous=OK).state is ALARM
    assert evaluate(one, {"m1": {**bad, NOON - 120: 0.0}}, now=NOON, previous=ALARM).state is OK


def test_a_reason_fits() -> None:
    """However many points an alarm looks at, its reason stays within CloudWatch's 1023 characters."""
    many = alarm(datapoints=1439, periods=1440)
    series = dict.fromkeys(evaluation_window(many, NOON).times, 123456.789)

    found = evaluate(many, {"m1": series}, now=NOON, previous=OK)

    assert found.reason.startswith("Threshold Crossed: 1440 out of the last 1440 datapoints [")
    assert len(found.reason) <= 1023


@given(
    pattern=st.lists(st.sampled_from("0X-"), min_size=5, max_size=5),
    datapoints=st.integers(1, 3),
    missing=st.sampled_from(Missing),
    previous=st.sampled_from(AlarmState),
)
def test_a_second_look_changes_nothing(
    pattern: list[str], datapoints: int, missing: Missing, previous: AlarmState
) -> None:
    """The same data seen again leave the state that they led to: an evaluation need not be repeated."""
    definition, marks = alarm(datapoints=datapoints, missing=missing), " ".join(pattern)

    once = look(definition, marks, previous).state

    assert look(definition, marks, once).state is once
