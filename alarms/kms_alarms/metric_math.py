"""CloudWatch metric math, as far as alarms use it: parsed once, evaluated over series of periods; never `eval`.

A series maps the start of a period (POSIX seconds) to a value; a period without data is simply not in it. An operator
over two series gives a value only where both have one; a division by zero gives none.

Grammar, loosest first: `||`/OR, `&&`/AND, comparisons, `+ -`, `* /`, `^`, unary `-`, and as atoms numbers, ids,
`[a, b]`, calls and parentheses. Functions: IF, FILL, ABS, CEIL, FLOOR, MIN, MAX, SUM, AVG, METRICS, PERIOD.

Source: Amazon CloudWatch User Guide, "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Series = Mapping[float, float]
Value = float | Series | Sequence["float | Series"]

MAX_EXPRESSION_LENGTH = 2048  # PutMetricAlarm's limit
_MAX_DEPTH = 64  # a parser that calls itself must stop before Python does

_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z_][A-Za-z0-9_]*)|(<=|>=|==|!=|&&|\|\||[-+*/^<>()\[\],]))"
)
_LEVELS: tuple[dict[str, Callable[[float, float], float]], ...] = (
    {"||": lambda a, b: float(bool(a) or bool(b)), "OR": lambda a, b: float(bool(a) or bool(b))},
    {"&&": lambda a, b: float(bool(a) and bool(b)), "AND": lambda a, b: float(bool(a) and bool(b))},
    {
        "<": lambda a, b: float(a < b),
        "<=": lambda a, b: float(a <= b),
        ">": lambda a, b: float(a > b),
        ">=": lambda a, b: float(a >= b),
        "==": lambda a, b: float(a == b),
        "!=": lambda a, b: float(a != b),
    },
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv},
    {"^": operator.pow},
)
_ONE_ARGUMENT: dict[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": lambda x: float(math.ceil(x)),
    "FLOOR": lambda x: float(math.floor(x)),
}
_REDUCERS: dict[str, Callable[[Sequence[float]], float]] = {
    "MIN": min,
    "MAX": max,
    "SUM": math.fsum,
    "AVG": lambda values: math.fsum(values) / len(values),
}
_ARGUMENTS = {"IF": (2, 3), "FILL": (2, 2), "METRICS": (0, 0), "PERIOD": (1, 1)}


class MetricMathError(ValueError):
    """The expression cannot be parsed, or does not give what is asked of it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may look at."""

    series: Mapping[str, Value]  # by id: metrics, and the expressions computed before
    metrics: Sequence[str]  # the ids that are metrics
    times: Sequence[float]  # every period of the window, ascending
    period_seconds: int


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression; `ids` are the queries it reads."""

    text: str
    ids: frozenset[str]
    _evaluate: Callable[[Scope], Value]

    def evaluate(self, scope: Scope) -> Value:
        """Return a number, a series, or a list of them.

        Raises:
            MetricMathError: a function was given what it cannot take.
        """
        return self._evaluate(scope)


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises:
        MetricMathError: it is none, or too long or too deep.
    """
    if len(text) > MAX_EXPRESSION_LENGTH:
        raise MetricMathError(f"an expression may have {MAX_EXPRESSION_LENGTH} characters, not {len(text)}")
    parser = _Parser(_tokens(text))
    evaluate = parser.whole()
    return Expression(text, frozenset(parser.ids), evaluate)


_Node = Callable[[Scope], Value]


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise MetricMathError(f"cannot read {text[position:].strip()[:20]!r}")
        tokens.append(match[0].strip())
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent; each method returns a function of a scope."""

    def __init__(self, tokens: list[str]) -> None:
        self.ids: set[str] = set()
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._level(0)
        if self._next < len(self._tokens):
            raise MetricMathError(f"unexpected {self._tokens[self._next]!r}")
        return node

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise MetricMathError(f"expected {expected or 'a value'!s}, found {token or 'the end'}")
        self._next += 1
        return token

    def _level(self, level: int) -> _Node:
        """Parse operators of one precedence, left to right."""
        if level == len(_LEVELS):
            return self._unary()
        first = self._level(level + 1)
        rest: list[tuple[Callable[[float, float], float], _Node]] = []
        while self._peek() in _LEVELS[level]:
            rest.append((_LEVELS[level][self._take()], self._level(level + 1)))
        return _chain(first, rest) if rest else first

    def _unary(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise MetricMathError("the expression is nested too deeply")
        try:
            if self._peek() == "-":
                self._take()
                return _chain(lambda _: 0.0, [(operator.sub, self._unary())])
            return self._atom()
        finally:
            self._depth -= 1

    def _atom(self) -> _Node:
        token = self._take()
        if token == "(":  # noqa: S105  a parenthesis
            node = self._level(0)
            self._take(")")
            return node
        if token == "[":  # noqa: S105  a bracket
            items = self._arguments("]")
            return lambda scope: [item for node in items for item in _as_list(node(scope))]
        if token[0].isdigit() or token[0] == ".":
            number = float(token)
            return lambda _: number
        if self._peek() == "(":
            self._take()
            return _call(token, self._arguments(")"))
        return self._id(token)

    def _id(self, token: str) -> _Node:
        if not token[0].islower():
            raise MetricMathError(f"{token!r} is not the id of a query: ids begin with a lower-case letter")
        self.ids.add(token)
        return lambda scope: scope.series[token]

    def _arguments(self, end: str) -> list[_Node | _Word]:
        found: list[_Node | _Word] = []
        while self._peek() != end:
            if found:
                self._take(",")
            found.append(_Word(self._take()) if self._peek() in {"REPEAT", "LINEAR"} else self._level(0))
        self._take(end)
        return found


class _Word(str):
    """A bare word that stands for a way of filling."""

    __slots__ = ()

    def __call__(self, scope: Scope) -> Value:
        del scope
        raise MetricMathError(f"{self} may stand in FILL only")


def _call(name: str, arguments: list[_Node | _Word]) -> _Node:
    low, high = _ARGUMENTS.get(name, (1, 1) if name in _ONE_ARGUMENT or name in _REDUCERS else (-1, -1))
    if low < 0:
        raise MetricMathError(f"{name} is not a function that alarms can use here")
    if not low <= len(arguments) <= high:
        raise MetricMathError(f"{name} does not take {len(arguments)} arguments")
    if name in _ONE_ARGUMENT:
        function, argument = _ONE_ARGUMENT[name], arguments[0]
        return lambda scope: _each(lambda x: _elementwise(function, [x]), argument(scope))
    if name in _REDUCERS:
        reducer, argument = _REDUCERS[name], arguments[0]
        return lambda scope: _reduce(reducer, argument(scope))
    special: dict[str, Callable[..., _Node]] = {"IF": _if, "FILL": _fill, "METRICS": _metrics, "PERIOD": _period}
    return special[name](*arguments)


def _chain(first: _Node, rest: Sequence[tuple[Callable[[float, float], float], _Node]]) -> _Node:
    """Apply operators of one precedence from left to right; in a loop, as a long sum is deeper than Python's stack."""

    def evaluate(scope: Scope) -> Value:
        result = first(scope)
        for function, node in rest:
            result = _binary(function, result, node(scope))
        return result

    return evaluate


def _binary(function: Callable[[float, float], float], a: Value, b: Value) -> Value:
    if _is_list(a):
        return [_elementwise(function, [x, _single(b)]) for x in _as_list(a)]
    if _is_list(b):
        return [_elementwise(function, [_single(a), x]) for x in _as_list(b)]
    return _elementwise(function, [_single(a), _single(b)])


def _if(condition: _Node, then: _Node, otherwise: _Node | None = None) -> _Node:
    def evaluate(scope: Scope) -> Value:
        chooses, yes = _single(condition(scope)), _single(then(scope))
        no: float | Series = {} if otherwise is None else _single(otherwise(scope))
        if isinstance(chooses, float):
            return yes if chooses else no
        chosen = {at: _at(yes if value else no, at) for at, value in chooses.items()}
        return {at: value for at, value in chosen.items() if value is not None}

    return evaluate


def _fill(argument: _Node, filler: _Node | _Word) -> _Node:
    def evaluate(scope: Scope) -> Value:
        return _each(lambda series: _filled(series, filler, scope), argument(scope))

    return evaluate


def _filled(series: float | Series, filler: _Node | _Word, scope: Scope) -> dict[float, float]:
    known = one_series(series, scope.times)
    if filler == "REPEAT":
        return _repeated(known, scope.times)
    if filler == "LINEAR":
        return _interpolated(known, scope.times)
    value = _single(filler(scope))
    filled = {at: known.get(at, _at(value, at)) for at in scope.times}
    return {at: number for at, number in filled.items() if number is not None}


def _repeated(known: Series, times: Sequence[float]) -> dict[float, float]:
    filled: dict[float, float] = {}
    last: float | None = None
    for at in times:
        last = known.get(at, last)
        if last is not None:
            filled[at] = last
    return filled


def _interpolated(known: Series, times: Sequence[float]) -> dict[float, float]:
    filled = dict(known)
    anchors = sorted(known)
    for before, after in pairwise(anchors):
        slope = (known[after] - known[before]) / (after - before)
        filled |= {at: known[before] + slope * (at - before) for at in times if before < at < after}
    return filled


def _metrics() -> _Node:
    return lambda scope: [item for name in scope.metrics for item in _as_list(scope.series[name])]


def _period(argument: _Node) -> _Node:
    del argument  # every query of one evaluation has the same period
    return lambda scope: float(scope.period_seconds)


def _reduce(reducer: Callable[[Sequence[float]], float], value: Value) -> Value:
    """Reduce one series to a number, or several to one series, period by period, over those that have data."""
    if not _is_list(value):
        single = _single(value)
        numbers = [single] if isinstance(single, float) else list(single.values())
        return reducer(numbers) if numbers else {}
    items = [item for item in _as_list(value) if not isinstance(item, float)]
    times = sorted({at for item in items for at in item})
    return {at: reducer([item[at] for item in items if at in item]) for at in times}


def _elementwise(function: Callable[..., float], arguments: Sequence[float | Series]) -> float | Series:
    series = [argument for argument in arguments if not isinstance(argument, float)]
    if not series:
        result = _defined(function, [argument for argument in arguments if isinstance(argument, float)])
        return {} if result is None else result
    results: dict[float, float] = {}
    for at in sorted(set.intersection(*(set(one) for one in series))):
        numbers = [argument if isinstance(argument, float) else argument[at] for argument in arguments]
        result = _defined(function, numbers)
        if result is not None:
            results[at] = result
    return results


def _defined(function: Callable[..., float], numbers: Sequence[float]) -> float | None:
    """Return the result, or None where there is none: a division by zero, an overflow, a root of a negative number."""
    try:
        result = function(*numbers)
    except (ArithmeticError, ValueError):
        return None
    return result if isinstance(result, float) and math.isfinite(result) else None


def _each(function: Callable[[float | Series], float | Series], value: Value) -> Value:
    return [function(item) for item in _as_list(value)] if _is_list(value) else function(_single(value))


def _at(value: float | Series, at: float) -> float | None:
    return value if isinstance(value, float) else value.get(at)


def _is_list(value: Value) -> bool:
    return not isinstance(value, float | Mapping)


def _as_list(value: Value) -> Sequence[float | Series]:
    return [value] if isinstance(value, float | Mapping) else value


def _single(value: Value) -> float | Series:
    if not isinstance(value, float | Mapping):
        raise MetricMathError("a list of series stands where one series is needed")
    return value


def one_series(value: Value, times: Sequence[float]) -> dict[float, float]:
    """Return `value` as the one series that an alarm needs; a number stands for itself in every period of `times`.

    Raises:
        MetricMathError: it is a list of series.
    """
    single = _single(value)
    return dict.fromkeys(times, single) if isinstance(single, float) else dict(single)
