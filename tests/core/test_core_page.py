"""The page for application developers runs, and names every exception and every variable there is."""

from __future__ import annotations

import doctest
from pathlib import Path

from kms_core import _settings, errors

PAGE = Path(__file__).parents[2] / "docs" / "core.md"


def test_the_page_runs() -> None:
    """Against three regions in memory; what it prints is what it says."""
    parser = doctest.DocTestParser()
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    test = parser.get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)

    runner.run(test)

    assert runner.summarize(verbose=False).failed == 0
    assert len(test.examples) > 15


def test_the_page_says_what_each_exception_asks() -> None:
    """All that `kms_core.errors` defines, but for their common base."""
    named = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.KmsCoreError) and kind is not errors.KmsCoreError
    }

    assert not {name for name in named if f"| `{name}`" not in PAGE.read_text(encoding="utf-8")}


def test_the_page_names_every_variable() -> None:
    """As the table in the code does."""
    text = PAGE.read_text(encoding="utf-8")

    assert not [setting.variable for setting in _settings.SETTINGS if setting.variable not in text]
