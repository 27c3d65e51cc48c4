"""One table of several runs of the same benchmark: medians, and how far apart the runs were. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.table import Cell, Table, aligned, cell_text

Spread = dict[tuple[int, int], tuple[float, float]]
"""Row and column to the least and the most of the runs, where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A table of medians."""

    table: Table
    """Of the medians; what is missed is what any run has missed."""
    spread: Spread

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, figures with no more digits than they deserve."""
        return {
            **self.table.as_json(),
            "rows": [[_short(cell) for cell in row] for row in self.table.rows],
            "spread": [[*at, *map(_short, ends)] for at, ends in sorted(self.spread.items())],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the summary that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        table = Table(
            title=values["title"],
            columns=tuple(values["columns"]),
            rows=tuple(tuple(row) for row in values["rows"]),
            notes=tuple(values["notes"]),
            missed=tuple(values["missed"]),
        )
        return cls(table=table, spread={(r, c): (least, most) for r, c, least, most in values["spread"]})

    def as_text(self) -> str:
        """Return it as Markdown: the median, and behind it the least and the most of the runs."""
        columns = [_escaped(column) for column in self.table.columns]
        rows = [
            [_escaped(self._text(at, column, cell)) for column, cell in enumerate(row)]
            for at, row in enumerate(self.table.rows)
        ]
        return "\n".join(aligned([columns, *rows]))

    def _text(self, row: int, column: int, cell: Cell) -> str:
        ends = self.spread.get((row, column))
        return cell_text(cell) + (f" ({cell_text(ends[0])} to {cell_text(ends[1])})" if ends else "")


def summarise(runs: Sequence[Sequence[Table]]) -> tuple[Summary, ...]:
    """Return the summary of each table of the runs, which all have the same tables.

    Raises:
        ValueError: they do not.
    """
    return tuple(_merged(tables) for tables in zip(*runs, strict=True))


def _merged(tables: Sequence[Table]) -> Summary:
    first = tables[0]
    if any((t.title, t.columns, len(t.rows)) != (first.title, first.columns, len(first.rows)) for t in tables):
        raise ValueError(f"runs of {first.title!r} differ in more than their figures")
    rows: list[tuple[Cell, ...]] = []
    spread: Spread = {}
    for number, same in enumerate(zip(*(table.rows for table in tables), strict=True)):
        cells = [tuple(cells) for cells in zip(*same, strict=True)]
        rows.append(tuple(_middle(each) for each in cells))
        for column, each in enumerate(cells):
            numbers = _numbers(each)
            if numbers and min(numbers) != max(numbers):
                spread[number, column] = (min(numbers), max(numbers))
    missed = dict.fromkeys(goal for table in tables for goal in table.missed)
    merged = Table(
        title=first.title, columns=first.columns, rows=tuple(rows), notes=tables[-1].notes, missed=tuple(missed)
    )
    return Summary(table=merged, spread=spread)


def _middle(cells: tuple[Cell, ...]) -> Cell:
    """Return the median of numbers; of words what most runs say."""
    numbers = _numbers(cells)
    if not numbers:
        return statistics.mode(cells)
    middle = statistics.median(numbers)
    return int(middle) if all(isinstance(cell, int) for cell in cells) and middle == int(middle) else middle


def _numbers(cells: tuple[Cell, ...]) -> list[float]:
    """Return the runs' numbers; none where a run has something else there."""
    numbers = [cell for cell in cells if isinstance(cell, int | float)]
    return list(numbers) if len(numbers) == len(cells) else []


def _short(cell: Cell) -> Cell:
    return float(f"{cell:.4g}") if isinstance(cell, float) else cell


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
