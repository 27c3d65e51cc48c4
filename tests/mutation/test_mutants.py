"""The instrument itself: what it changes, what it leaves alone, and that a change is really in the code it gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _loaded(name: str) -> Any:
    """Load a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutants = _loaded("mutants").mutants


def changes(source: str) -> list[str]:
    return [one.change for one in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("x = a < b", ["a < b → a <= b", "a < b → a >= b"], id="comparison"),
        pytest.param("x = a is b", ["a is b → a is not b"], id="identity"),
        pytest.param("x = a and b", ["a and b → b", "a and b → a"], id="each-part-is-left-out"),
        pytest.param("x = not a", ["not a → a"], id="negation"),
        pytest.param("x = 2.0", ["2.0 → 3.0", "2.0 → 1.0"], id="number"),
        pytest.param("x = True", ["True → False"], id="truth"),
        pytest.param("x = a - b", ["a - b → a + b"], id="arithmetic"),
        pytest.param("x = min(a)", ["min(a) → max(a)"], id="least"),
        pytest.param("x = sorted(a, key=k)", ["sorted(a, key=k) → list(a)"], id="order"),
        pytest.param("f(a)", ["f(a) → pass"], id="call"),
        pytest.param("raise E", ["raise E → pass"], id="raise"),
        pytest.param("x.y = a", ["x.y = a → pass"], id="kept-state"),
        pytest.param("x += a", ["x += a → pass", "x += a → x -= a"], id="sum"),
        pytest.param("x = [a]", ["[a] → []"], id="list"),
        pytest.param("x = 'code', 'text', f'{1 + 1}'", [], id="words-are-left-alone"),
        pytest.param("'''A docstring.'''", [], id="so-are-docstrings"),
        pytest.param("x: Annotated[int, 1]", [], id="so-are-annotations"),
        pytest.param("F = Callable[[A], B]", [], id="so-are-types"),
    ],
)
def test_what_is_changed(source: str, expected: list[str]) -> None:
    """One change a mutant."""
    assert changes(source) == expected


def test_a_condition_is_made_true_and_false() -> None:
    """Both ways through must be noticed; of a filter and of an expression, too."""
    assert changes("if a: b = c") == ["a → False", "a → True"]
    assert changes("x = b if a else c") == ["a → False", "a → True"]
    assert changes("x = {b for b in c if a}") == ["a → False", "a → True"]
    assert changes("while a: b = c") == ["a → False"]  # for ever is only slow


def test_what_is_returned_yielded_and_caught_is_taken_away() -> None:
    """A code path that nobody takes is one that nobody knows."""
    source = "def f():\n  try:\n    yield a\n  except (A, B):\n    return c\n"

    assert changes(source) == ["yield a → yield from ()", "except (A, B) → except (B,)", "except (A, B) → except (A,)",
                               "return c → return None"]  # fmt: skip


def test_each_knows_the_function_that_it_is_in() -> None:
    """The outermost one, which has the others in it; a default is the code's that defines the function."""
    source = "class C:\n  @property\n  def f(self, *, x=1):\n    def g():\n      return 2\n    return g\ny = 3\n"

    where = {one.text: one.function for one in mutants(source)}

    assert where == {
        "def f(self, *, x=1):": None, "return 2": ("C.f", 2), "return g": ("C.f", 2), "y = 3": None,
    }  # fmt: skip


def test_the_code_has_the_change_and_the_next_has_its_own() -> None:
    """Nothing is left of one when the next is made."""
    results = []
    for one in mutants("x = 1 + 1"):
        scope: dict[str, Any] = {}
        exec(one.code("made-up"), scope)  # noqa: S102 - the code is above
        results.append(scope["x"])

    assert results == [0, 3, 1, 3, 1]


def test_every_explanation_is_of_a_module_in_the_plan() -> None:
    """And has a line, a change and a reason."""
    plan = _loaded("plan").PLAN
    rows = [
        line.split(" | ")
        for line in Path(__file__).with_name("survivors.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]

    assert all(len(row) == 4 and row[0].removeprefix("| ").strip("`") in plan for row in rows)
