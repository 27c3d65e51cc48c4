"""A benchmark's figures as SVG: a bar a row with the runs' spread on it, and its way through the history.

Drawn as the drills' reports are (ADR 0002): matplotlib, text as text, stand-in colours that become CSS variables. The
picture stands in a page of its own, so it brings the variables along, for light and for dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.benchmark import Bars
from benchmarks.history import Entry
from benchmarks.table import cell_text

_COLOURS = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "ours": ("#0969da", "#4493f8"),
    "line-0": ("#0969da", "#4493f8"),
    "line-1": ("#bc4c00", "#db6d28"),
    "line-2": ("#1a7f37", "#3fb950"),
    "line-3": ("#8250df", "#ab7df8"),
}
"""By name: in light, in dark."""
_STAND_IN = {name: f"#0000{number + 16:02x}" for number, name in enumerate(_COLOURS)}
_BACK = {colour: f"var(--{name})" for name, colour in _STAND_IN.items()}
_WIDTH, _ROW, _HEAD = 9.2, 0.26, 0.62
_MOST_LINES = 4
Row = tuple[str, float, tuple[float, float] | None]
"""What it is of, the median, and the least and the most of the runs where they differ."""


def drawn(entry: Entry, before: Sequence[Entry], bars: Sequence[Bars]) -> str:
    """Return the picture of `entry`, with the way to it through those `before`, as a whole SVG file."""
    heights = [_HEAD + _ROW * max(1, len(rows_of(entry, each))) for each in bars]
    columns = 2 if before else 1
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": entry.benchmark,
        "font.size": 8.5,
        "font.family": "DejaVu Sans",  # matplotlib brings it along: the same measures everywhere
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(len(bars), columns, squeeze=False, height_ratios=heights, width_ratios=[3, 1][:columns])
        for panels, each in zip(grid, bars, strict=True):
            _bars(panels[0], rows_of(entry, each), each, with_lines=bool(before))
            if before:
                _lines(panels[1], [*before, entry], each)
        return _svg(figure, f"{entry.benchmark}: {'; '.join(each.title for each in bars)}")


def rows_of(entry: Entry, bars: Bars) -> list[Row]:
    """Return what is drawn of `entry`: the rows that have a number there; none where the table is another one."""
    if bars.table >= len(entry.tables):
        return []
    summary = entry.tables[bars.table]
    found: list[Row] = []
    for number, row in enumerate(summary.table.rows):
        value = row[bars.value] if bars.value < len(row) else None
        if isinstance(value, int | float):
            label = ", ".join(cell_text(row[column]) for column in bars.labels)
            found.append((label, float(value), summary.spread.get((number, bars.value))))
    return found


def _bars(panel: Axes, rows: Sequence[Row], bars: Bars, *, with_lines: bool) -> None:
    """Draw a bar a row; the names of those that the lines beside it draw have the lines' colours."""
    places = range(len(rows))
    colours = [_STAND_IN["ours" if bars.ours in label else "muted"] for label, _, _ in rows]
    panel.barh(places, [value for _, value, _ in rows], height=0.62, color=colours, alpha=0.75)
    for place, (_, value, ends) in zip(places, rows, strict=True):
        if ends:
            panel.plot(ends, [place, place], color=_STAND_IN["ink"], linewidth=1.4, solid_capstyle="butt")
        edge = max(value, ends[1]) if ends else value
        text: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        panel.annotate(cell_text(value), (edge, place), color=_STAND_IN["ink"], **text)
    if bars.log:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.12)
    panel.set_yticks(places, [label for label, _, _ in rows])
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_title(bars.title, loc="left", color=_STAND_IN["ink"], fontsize=8.5)
    _dress(panel)
    if with_lines:
        for number, label in enumerate(panel.get_yticklabels()[:_MOST_LINES]):
            label.set_color(_STAND_IN[f"line-{number}"])


def _lines(panel: Axes, entries: Sequence[Entry], bars: Bars) -> None:
    """Draw the first rows over the measurements, the oldest at the left."""
    labels = [label for label, _, _ in rows_of(entries[-1], bars)][:_MOST_LINES]
    for number, label in enumerate(labels):
        points = [
            (at, value) for at, entry in enumerate(entries) for of, value, _ in rows_of(entry, bars) if of == label
        ]
        colour = _STAND_IN[f"line-{number}"]
        panel.plot(*zip(*points, strict=True), color=colour, marker=".", linewidth=1.1, label=label)
    if bars.log:
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    panel.set_title(f"the last {len(entries)}", loc="left", color=_STAND_IN["muted"], fontsize=8)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xticks([])
    _dress(panel)


def _dress(panel: Axes) -> None:
    panel.set_facecolor("none")
    panel.set_axisbelow(True)
    panel.grid(visible=True, axis="x", color=_STAND_IN["grid"], linewidth=0.5)
    panel.tick_params(which="both", colors=_STAND_IN["muted"], labelcolor=_STAND_IN["ink"], length=0)
    for side in panel.spines.values():
        side.set_visible(False)


def _svg(figure: Figure, title: str) -> str:
    drawn_to = io.StringIO()
    figure.patch.set_alpha(0)
    figure.savefig(drawn_to, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = drawn_to.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"#0000[0-9a-f]{2}", lambda found: _BACK.get(found[0], found[0]), text)
    text = re.sub(r"(\d+\.\d{2})\d+", r"\1", text)  # a hundredth of a point is nothing that is seen
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    head, _, rest = text.partition(">")
    return f"{head}>\n <title>{title}</title>\n <style>{_style()}</style>{rest}"


def _style() -> str:
    def variables(of: int) -> Iterable[str]:
        return (f"--{name}:{colours[of]}" for name, colours in _COLOURS.items())

    light, dark = ";".join(variables(0)), ";".join(variables(1))
    return f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
