"""What a benchmark returns: a table of figures with its notes, and the goals that it did not reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures side by side.

    Raises:
        ValueError: a row has not as many cells as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    """Each with its unit."""
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """How it was measured, and what it does not say."""
    missed: tuple[str, ...] = ()
    """Goals of this table that were not reached, each in a sentence with both figures."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"every row of {self.title!r} needs {len(self.columns)} cells")

    def as_json(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the table as Markdown that reads well in a terminal too."""
        lines = [f"## {self.title}", "", *aligned([self.columns, *(tuple(map(cell_text, row)) for row in self.rows)])]
        lines += ["", *(f"* {note}" for note in self.notes)] if self.notes else []
        lines += ["", *(f"* MISSED: {goal}" for goal in self.missed)] if self.missed else []
        return "\n".join(lines) + "\n"


def cell_text(cell: Cell) -> str:
    """Return a cell for people: three digits are enough to compare by."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= _WHOLE else f"{cell:,.2f}" if abs(cell) >= 1 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


_WHOLE = 100


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Yield the lines of a Markdown table, the first of which is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
