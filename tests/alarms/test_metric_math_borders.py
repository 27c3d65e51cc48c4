"""Metric math at its borders: each operator where it turns, what fills a gap and what does not, and the limits."""

from __future__ import annotations

from typing import Any

import pytest

from kms_alarms.metric_math import MAX_EXPRESSION_LENGTH, MetricMathError, Scope, one_series, parse

TIMES = [0.0, 10.0, 20.0, 30.0]
SERIES = {"a": {30.0: 8.0, 0.0: 2.0, 10.0: 0.0}, "b": {10.0: 3.0}, "zero": {0.0: 0.0, 10.0: 0.0}}
DEEPEST = 64


def value_of(text: str, *, times: list[float] = TIMES) -> Any:
    found: Any = parse(text).evaluate(Scope(SERIES, ("a", "b"), times, 10))
    return dict(found) if hasattr(found, "items") else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((f"{a} {operator} {b}", float(a or b)) for operator in ("||", "OR") for a in (0, 1) for b in (0, 1)),
        *((f"{a} {operator} {b}", float(a and b)) for operator in ("&&", "AND") for a in (0, 1) for b in (0, 1)),
        *((f"{a} < {b}", float(a < b)) for a, b in ((1, 2), (2, 2), (3, 2))),
        *((f"{a} <= {b}", float(a <= b)) for a, b in ((1, 2), (2, 2), (3, 2))),
        *((f"{a} > {b}", float(a > b)) for a, b in ((1, 2), (2, 2), (3, 2))),
        *((f"{a} >= {b}", float(a >= b)) for a, b in ((1, 2), (2, 2), (3, 2))),
        *((f"{a} == {b}", float(a == b)) for a, b in ((1, 2), (2, 2))),
        *((f"{a} != {b}", float(a != b)) for a, b in ((1, 2), (2, 2))),
        ("2 OR 0", 1.0),
        ("0.5 AND 7", 1.0),
        ("IF(0, 2, 3)", 3.0),
        ("IF(0, 2)", {}),
        ("-2 ^ 2", 4.0),
        ("PERIOD(b) + 1", 11.0),
        ("(0 || 3)", 1.0),
        ("ABS(0 || 3)", 1.0),
    ],
)
def test_operators_turn_where_they_should(text: str, expected: object) -> None:
    """Whatever is not zero is true, and a result is 1 or 0."""
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[a, b] - 1", [{0.0: 1.0, 10.0: -1.0, 30.0: 7.0}, {10.0: 2.0}], id="list-and-number"),
        pytest.param("10 - [a, b]", [{0.0: 8.0, 10.0: 10.0, 30.0: 2.0}, {10.0: 7.0}], id="number-and-list"),
        pytest.param("[a, 1] / b", [{10.0: 0.0}, {10.0: 1 / 3}], id="list-and-series"),
        pytest.param("ABS([b, -2])", [{10.0: 3.0}, 2.0], id="one-argument-of-a-list"),
        pytest.param(
            "FILL([b, 2], 0)", [{0.0: 0.0, 10.0: 3.0, 20.0: 0.0, 30.0: 0.0}, dict.fromkeys(TIMES, 2.0)], id="f"
        ),
        pytest.param("[(1 + 2), [a]]", [3.0, SERIES["a"]], id="lists-are-flat"),
        pytest.param("METRICS()", [SERIES["a"], SERIES["b"]], id="metrics-and-no-expressions"),
    ],
)
def test_lists_are_taken_item_by_item(text: str, expected: object) -> None:
    """In the order in which the expression has them."""
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("MAX(5)", 5.0, id="of-a-number"),
        pytest.param("SUM(a)", 10.0, id="of-a-series"),
        pytest.param("AVG(a)", 10 / 3, id="average"),
        pytest.param("AVG([a, b])", {0.0: 2.0, 10.0: 1.5, 30.0: 8.0}, id="of-several"),
        pytest.param("MAX([a, 100])", {0.0: 2.0, 10.0: 0.0, 30.0: 8.0}, id="a-number-among-series-has-no-period"),
        pytest.param("SUM([1, 2])", {}, id="of-numbers-alone"),
    ],
)
def test_reducers_take_what_has_data(text: str, expected: object) -> None:
    """One series becomes a number, several become one series."""
    assert value_of(text) == expected


@pytest.mark.parametrize("text", ["a + 0", "a * zero", "SUM([a, b])", "FILL(a, 0)", "IF(FILL(a, 0) >= 0, a)"])
def test_a_result_is_in_order_of_time(text: str) -> None:
    """Whatever the order in which points came."""
    late = [3.0, 16.0]  # a set of these two has the later one first
    scope = Scope({"a": dict.fromkeys(reversed(late), 1.0), "b": {}, "zero": dict.fromkeys(late, 0.0)}, (), late, 10)
    found = parse(text).evaluate(scope)

    assert list(found) == late  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("FILL(b, REPEAT)", {10.0: 3.0, 20.0: 3.0, 30.0: 3.0}, id="nothing-before-the-first"),
        pytest.param("FILL(a, LINEAR)", {0.0: 2.0, 10.0: 0.0, 20.0: 4.0, 30.0: 8.0}, id="a-line-between-two"),
        pytest.param("FILL(b, LINEAR)", {10.0: 3.0}, id="no-line-from-one"),
        pytest.param("FILL(b, a)", {0.0: 2.0, 10.0: 3.0, 30.0: 8.0}, id="with-a-series-where-it-has-data"),
        pytest.param("FILL(a, REPEAT)", {0.0: 2.0, 10.0: 0.0, 20.0: 0.0, 30.0: 8.0}, id="zero-is-a-value"),
    ],
)
def test_gaps_are_filled_with_what_is_known(text: str, expected: object) -> None:
    """And stay gaps where nothing is."""
    assert value_of(text) == expected


def test_a_line_goes_by_time_and_touches_no_point() -> None:
    """A point outside the window holds the line, and is not moved by it."""
    found = parse("FILL(a, LINEAR)").evaluate(Scope({"a": {-30.0: 9.0, 10.0: 5.0}}, (), [-10.0, 0.0, 10.0], 10))

    assert found == {-30.0: 9.0, -10.0: 7.0, 0.0: 6.0, 10.0: 5.0}


@pytest.mark.parametrize(
    "text", ["1 / 0", "(0 - 8) ^ 0.5", "10 ^ 400", "0 ^ -1", "1e308 * 10", "1e308 * 10 - 1e308 * 10"]
)
def test_what_has_no_result_is_no_data(text: str) -> None:
    """Neither an error, nor infinity, nor a number that is none, nor a complex one."""
    assert value_of(text) == {}


def test_a_point_that_is_no_number_has_no_whole_one() -> None:
    """Whoever sent it."""
    scope = Scope({"a": {0.0: float("nan"), 10.0: 1.5}}, ("a",), TIMES, 10)

    assert parse("CEIL(a)").evaluate(scope) == {10.0: 2.0}


@pytest.mark.parametrize("number", ["1.", "1.5", ".5", "1e2", "1.5E+2", "25e-1"])
def test_numbers_are_read_as_they_are_written(number: str) -> None:
    """With and without a fraction or an exponent."""
    assert value_of(f" {number} ") == float(number)


def test_as_long_and_as_deep_as_may_be() -> None:
    """One more is refused."""
    longest = "a" + " " * (MAX_EXPRESSION_LENGTH - 2) + "\n"
    deepest = "(" * (DEEPEST - 1) + "7" + ")" * (DEEPEST - 1)

    assert MAX_EXPRESSION_LENGTH == 2048  # of a metric data query, in the API's reference
    assert parse(longest).ids == {"a"}
    assert value_of(deepest) == 7.0
    assert value_of("+".join(["(1)"] * 200)) == 200.0
    with pytest.raises(MetricMathError, match="2048 characters, not 2049"):
        parse(longest + " ")
    for text in (f"({deepest})", "+".join(["(1)"] * 200) + f"+({deepest})"):
        with pytest.raises(MetricMathError, match="too deeply"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("RATE(a)", "RATE is not a function"),
        ("RATE()", "RATE is not a function"),
        ("RATE(a, b)", "RATE is not a function"),
        ("IF(a)", "IF does not take 1 arguments"),
        ("IF(a, a, a, a)", "IF does not take 4 arguments"),
        ("FILL(a)", "FILL does not take 1 arguments"),
        ("FILL(a, 1, 2)", "FILL does not take 3 arguments"),
        ("METRICS(a)", "METRICS does not take 1 arguments"),
        ("PERIOD()", "PERIOD does not take 0 arguments"),
        ("PERIOD(a, b)", "PERIOD does not take 2 arguments"),
        ("ABS()", "ABS does not take 0 arguments"),
        ("MAX(a, b)", "MAX does not take 2 arguments"),
        ("(a]", "expected ), found ]"),
        ("a +", "expected a value, found the end"),
        ("a b", "unexpected 'b'"),
        ("a $ b", "cannot read '$ b'"),
        ("A", "'A' is not the id of a query"),
        ("[a b]", "expected ,, found b"),
    ],
)
def test_the_reason_is_named(text: str, why: str) -> None:
    """As whoever wrote the expression needs it."""
    with pytest.raises(MetricMathError) as refused:
        parse(text)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize("text", ["REPEAT", "ABS(LINEAR)", "IF(REPEAT, 1, 2)"])
def test_a_way_of_filling_is_no_value(text: str) -> None:
    """It stands in FILL, and nowhere else."""
    with pytest.raises(MetricMathError):
        value_of(text)


def test_a_number_stands_for_itself_in_every_period() -> None:
    """So that an alarm can compare it; a series is as it is."""
    assert one_series(2.0, TIMES) == dict.fromkeys(TIMES, 2.0)
    assert one_series(SERIES["b"], TIMES) == SERIES["b"]
