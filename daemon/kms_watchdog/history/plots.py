"""The digest's pictures as SVG: availability and latency by hour and region. No I/O.

Colours are names of CSS variables: matplotlib draws with stand-in colours, which are replaced in its output, so that
one picture fits light, dark and print. Text stays text; nothing in the picture refers to anything outside it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from kms_watchdog.history.digest import Digest
from kms_watchdog.history.tally import Tally

_VARIABLES = ("ink", "muted", "grid", "good", "warn", "bad", "blind", "region-0", "region-1", "region-2", "region-3")
_STAND_IN = {name: f"#0000{number + 16:02x}" for number, name in enumerate(_VARIABLES)}
_BACK = {colour: f"var(--{name})" for name, colour in _STAND_IN.items()}
_HOUR = timedelta(hours=1)
_SHARES = ((0.5, "-"), (0.9, (0, (5, 2))), (0.99, (0, (1, 2))))
WARN_BELOW, BAD_BELOW = 0.999, 0.99
_ROW = 0.34
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "digest",
    "text.parse_math": False,  # a name with two dollars in it is a name, not mathematics that may be wrong
    "font.size": 9,
    "font.family": "sans-serif",
}

ByHour = Mapping[datetime, Tally]


@mpl.rc_context(_STYLE)
def availability(digest: Digest) -> str:
    """Return a picture with a row a region, a cell an hour: all OK, some failed, most failed, blind, silent."""
    regions = list(digest.by_hour)
    figure = _figure(0.5 + _ROW * max(1, len(regions)))
    panel = figure.subplots()
    for row, region in enumerate(regions):
        for name, hours in _by_colour(digest.by_hour[region]).items():
            spans = [(_days(at), float(1 / 24)) for at in hours]
            panel.broken_barh(spans, (row - 0.36, 0.72), facecolors=_STAND_IN[name], linewidth=0)
    panel.set_yticks(range(len(regions)), regions)
    panel.set_ylim(max(1, len(regions)) - 0.4, -0.6)
    _dress(panel, digest)
    return _svg(figure, "availability")


@mpl.rc_context(_STYLE)
def latency(digest: Digest) -> str:
    """Return a picture with a panel a region: p50, p90 and p99 of each hour's OK round trips, on one scale."""
    regions = list(digest.by_hour)
    figure = _figure(0.4 + 1.5 * max(1, len(regions)))
    panels = figure.subplots(max(1, len(regions)), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for number, (region, panel) in enumerate(zip(regions, panels, strict=False)):
        _lines(panel, digest.by_hour[region], _STAND_IN[f"region-{number % 4}"])
        panel.set_title(region, loc="left", color=_STAND_IN["ink"], fontsize=9)
    for panel in panels:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
        panel.yaxis.set_minor_locator(NullLocator())
        _dress(panel, digest)
    if regions:
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        panels[0].legend(**above, ncols=3, frameon=False, labelcolor=_STAND_IN["ink"], fontsize=8)
    return _svg(figure, "latency")


def duration(seconds: float) -> str:
    """Return `seconds` for people."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def colour_of(tally: Tally) -> str:
    """Return the name of the colour of an hour in which there was a look."""
    share = tally.availability
    if share is None:
        return "blind"
    if share < BAD_BELOW:
        return "bad"
    return "warn" if share < WARN_BELOW or tally.blind else "good"


def _days(at: datetime) -> float:
    """Return matplotlib's number for a time: days since 1970."""
    return at.timestamp() / 86_400


def _by_colour(hours: ByHour) -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = {}
    for at, tally in hours.items():
        found.setdefault(colour_of(tally), []).append(at)
    return found


def _lines(panel: Axes, hours: ByHour, colour: str) -> None:
    times: list[datetime] = []
    points: dict[float, list[float]] = {share: [] for share, _ in _SHARES}
    for at, tally in hours.items():
        if times and at - times[-1] > _HOUR:  # silence is a gap, not a line across it
            times.append(times[-1] + _HOUR)
            for values in points.values():
                values.append(float("nan"))
        times.append(at)
        for share, values in points.items():
            found = tally.percentile(share)
            values.append(float("nan") if found is None else found)
    middles = [_days(at + _HOUR / 2) for at in times]
    for share, style in _SHARES:
        panel.plot(
            middles,
            points[share],
            color=colour,
            linestyle=style,
            linewidth=1.3,
            marker=".",
            markersize=2.5,
            label=f"p{share * 100:g}",
        )


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(10.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _dress(panel: Axes, digest: Digest) -> None:
    panel.set_facecolor("none")
    panel.set_axisbelow(True)
    panel.set_xlim(_days(digest.since_utc), _days(digest.until_utc))
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call] # matplotlib.dates has no types
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call] # as above
    panel.grid(visible=True, axis="x", color=_STAND_IN["grid"], linewidth=0.5)
    panel.tick_params(which="both", colors=_STAND_IN["muted"], labelcolor=_STAND_IN["ink"], length=0, labelsize=8)
    panel.xaxis.get_offset_text().set_color(_STAND_IN["muted"])
    for side in panel.spines.values():
        side.set_visible(False)


def _svg(figure: Figure, name: str) -> str:
    drawn = io.StringIO()
    figure.patch.set_alpha(0)
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)  # the viewBox is enough, CSS sizes it
    text = re.sub(r"#0000[0-9a-f]{2}", lambda found: _BACK.get(found[0], found[0]), text)
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)  # two pictures share one page
    return text.replace("<svg ", f'<svg role="img" aria-labelledby="{name}-caption" ', 1)
