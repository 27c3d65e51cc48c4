"""Metric math: what alarms use of it, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_alarms.metric_math import MetricMathError, Scope, one_series, parse

TIMES = [0.0, 10.0, 20.0]
SERIES = {"a": {0.0: 1.0, 10.0: 2.0, 20.0: 4.0}, "b": {0.0: 2.0, 20.0: 0.0}, "none": {}}


def value_of(text: str) -> Any:
    found = parse(text).evaluate(Scope(SERIES, tuple(SERIES), TIMES, 10))
    return dict(found) if hasattr(found, "items") else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1 + 2 * 3 ^ 2", 19.0, id="precedence"),
        pytest.param("(1 + 2) * 3", 9.0, id="parentheses"),
        pytest.param("10 - 4 - 3", 3.0, id="left-to-right"),
        pytest.param("-a + 1", {0.0: 0.0, 10.0: -1.0, 20.0: -3.0}, id="negation"),
        pytest.param("a + b", {0.0: 3.0, 20.0: 4.0}, id="only-where-both-are"),
        pytest.param("a / b", {0.0: 0.5}, id="division-by-zero-gives-nothing"),
        pytest.param("a > 1", {0.0: 0.0, 10.0: 1.0, 20.0: 1.0}, id="comparison"),
        pytest.param("a > 1 AND a < 4", {0.0: 0.0, 10.0: 1.0, 20.0: 0.0}, id="and"),
        pytest.param("a == 1 || a == 4", {0.0: 1.0, 10.0: 0.0, 20.0: 1.0}, id="or"),
        pytest.param("IF(b > 0, 100*a/b, 0)", {0.0: 50.0, 20.0: 0.0}, id="ratio-without-division-by-zero"),
        pytest.param("IF(a > 1, a)", {10.0: 2.0, 20.0: 4.0}, id="if-without-else"),
        pytest.param("IF(1, 2, 3)", 2.0, id="if-of-a-number"),
        pytest.param("FILL(b, 0)", {0.0: 2.0, 10.0: 0.0, 20.0: 0.0}, id="fill-with-a-number"),
        pytest.param("FILL(none, 7)", {0.0: 7.0, 10.0: 7.0, 20.0: 7.0}, id="fill-nothing"),
        pytest.param("FILL(b, REPEAT)", {0.0: 2.0, 10.0: 2.0, 20.0: 0.0}, id="fill-with-the-last"),
        pytest.param("FILL(b, LINEAR)", {0.0: 2.0, 10.0: 1.0, 20.0: 0.0}, id="fill-with-a-line"),
        pytest.param("MAX(a)", 4.0, id="maximum-of-a-series"),
        pytest.param("MIN([a, b])", {0.0: 1.0, 10.0: 2.0, 20.0: 0.0}, id="minimum-of-several"),
        pytest.param("SUM(METRICS())", {0.0: 3.0, 10.0: 2.0, 20.0: 4.0}, id="sum-of-all"),
        pytest.param("AVG(none)", {}, id="average-of-nothing"),
        pytest.param("ABS(0 - a)", {0.0: 1.0, 10.0: 2.0, 20.0: 4.0}, id="absolute"),
        pytest.param("CEIL(a / 3) + FLOOR(a / 3)", {0.0: 1.0, 10.0: 1.0, 20.0: 3.0}, id="rounding"),
        pytest.param("a / PERIOD(a)", {0.0: 0.1, 10.0: 0.2, 20.0: 0.4}, id="period"),
        pytest.param("1.5e1 + .5", 15.5, id="numbers"),
    ],
)
def test_expressions(text: str, expected: object) -> None:
    """Each expression has the value that the User Guide gives it."""
    assert value_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a +", id="half"),
        pytest.param("a b", id="two"),
        pytest.param("(a", id="open"),
        pytest.param("SEARCH('x')", id="search"),
        pytest.param("RATE(a)", id="unknown-function"),
        pytest.param("IF(a)", id="too-few-arguments"),
        pytest.param("ABS(a, b)", id="too-many-arguments"),
        pytest.param("A + 1", id="upper-case-id"),
        pytest.param("__import__", id="python"),
        pytest.param("a.b", id="attribute"),
        pytest.param("(" * 200 + "a" + ")" * 200, id="too-deep"),
        pytest.param("a+" * 1500 + "a", id="too-long"),
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    """The parser knows its grammar and nothing else."""
    with pytest.raises(MetricMathError):
        parse(text)


@pytest.mark.parametrize("text", [pytest.param("[a, b]", id="list"), pytest.param("METRICS() + 1", id="sum-of-lists")])
def test_an_alarm_needs_one_series(text: str) -> None:
    """A list of series is not what an alarm can compare."""
    with pytest.raises(MetricMathError):
        one_series(value_of(text), TIMES)


def test_an_expression_knows_what_it_reads() -> None:
    """The ids are found while parsing, once each."""
    assert parse("IF(runs > 0, 100*failures/runs, 0)").ids == {"runs", "failures"}


@given(st.text(alphabet="ab01+-*/^()<>=,[] IFMAX", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Whatever is written, the parser ends, with an expression or with its own error."""
    try:
        expression = parse(text)
    except MetricMathError:
        return
    assert all(name[0] in "ab" for name in expression.ids)


def test_a_long_sum_is_no_deep_one() -> None:
    """An expression of the largest size is evaluated without going deeper into Python's stack."""
    assert value_of("a" + "+a" * 1000) == {at: 1001 * value for at, value in SERIES["a"].items()}
    assert value_of("1" + "-1" * 1000) == -999.0
