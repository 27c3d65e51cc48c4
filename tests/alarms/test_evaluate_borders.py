"""The evaluator at its borders: M of N with data missing, how old is old enough, and the words of a reason."""

from __future__ import annotations

import pytest

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

OK, ALARM = AlarmState.OK, AlarmState.ALARM
NOON = 1_800_000_000.0
STAT = MetricStat(namespace="N", name="M", dimensions=frozenset(), statistic="Sum")


def alarm(
    datapoints: int,
    periods: int,
    missing: Missing = Missing.MISSING,
    *,
    period_seconds: int = 60,
    queries: dict[str, MetricStat | Expression] | None = None,
) -> AlarmDefinition:
    found = queries or {"m1": STAT}
    return AlarmDefinition(
        name="a",
        queries=found,
        result=next(iter(found)),
        period_seconds=period_seconds,
        evaluation_periods=periods,
        datapoints_to_alarm=datapoints,
        comparison="GreaterThanThreshold",
        threshold=5.0,
        missing=missing,
    )


def look(definition: AlarmDefinition, pattern: str, previous: AlarmState = OK) -> Evaluation:
    """Evaluate a pattern of the guide: `0` is fine, `X` breaching, `-` missing; the newest stands right."""
    times = evaluation_window(definition, NOON).times
    marks = pattern.split()
    values = {at: float(9 + n if mark == "X" else 0) for n, (at, mark) in enumerate(zip(times, marks, strict=True))}
    series = {at: value for (at, value), mark in zip(values.items(), marks, strict=True) if mark != "-"}
    return evaluate(definition, {"m1": series}, now=NOON, previous=previous)


@pytest.mark.parametrize("missing", list(Missing))
def test_enough_bad_points_are_enough_though_the_rest_is_missing(missing: Missing) -> None:
    """Two of three, however the third is taken: it can change nothing."""
    assert look(alarm(2, 3, missing), "- - - X X").state is ALARM


@pytest.mark.parametrize(
    ("pattern", "state"),
    [
        pytest.param("- - - X -", OK, id="a-period-too-young"),
        pytest.param("- - X - -", ALARM, id="just-old-enough"),
        pytest.param("- - X - X", ALARM, id="the-oldest-decides-not-the-youngest"),
    ],
)
def test_the_oldest_bad_point_is_as_old_as_the_points_to_alarm(pattern: str, state: AlarmState) -> None:
    """The guide's early alarm, which keeps a metric that comes and goes from never reaching it."""
    assert look(alarm(3, 3), pattern).state is state


def test_a_second_is_a_period() -> None:
    """The least there is."""
    assert look(alarm(1, 1, period_seconds=1), "0 0 X").state is ALARM


def test_an_expression_that_reads_itself_goes_round_in_a_circle() -> None:
    """It reads no unknown id: what is wrong is told when it is reckoned."""
    definition = alarm(1, 1, queries={"e1": parse("e1 + 1")})

    with pytest.raises(MetricMathError, match="wait for each other"):
        evaluate(definition, {}, now=NOON, previous=OK)


def test_a_reason_lists_the_newest_ten_the_newest_first() -> None:
    """And counts all."""
    reason = look(alarm(12, 12), " ".join("X" * 14)).reason

    listed = reason.partition("[")[2].partition("]")[0].split(", ")
    assert reason.startswith("Threshold Crossed: 12 datapoints [")
    assert [float(one.split()[0]) for one in listed] == [float(9 + n) for n in range(13, 3, -1)]


@pytest.mark.parametrize(
    ("periods", "says"),
    [
        pytest.param(1, "no datapoints were received for 1 period and 1 missing datapoint was treated", id="one"),
        pytest.param(2, "no datapoints were received for 2 periods and 2 missing datapoints were treated", id="two"),
        pytest.param(3, "no datapoints were received for 3 periods and 3 missing datapoints were treated", id="three"),
    ],
)
def test_a_reason_counts_as_people_do(periods: int, says: str) -> None:
    """In CloudWatch's own words, which somebody may look for."""
    assert says in look(alarm(periods, periods, Missing.NOT_BREACHING), " ".join("-" * (periods + 2))).reason
