"""What pictures of drills and game days share: colours by CSS variables, lanes of states, and the way to an `<svg>`.

Colours are names of CSS variables: matplotlib draws with stand-in colours, which are replaced in its output, so that
one picture fits light, dark and print. Text stays text; nothing in the picture refers to anything outside it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

_VARIABLES = ("ink", "muted", "grid", "bad", "good", "warn", "fault", "region-0", "region-1", "region-2", "region-3")
STAND_IN = {name: f"#0000{number + 16:02x}" for number, name in enumerate(_VARIABLES)}
"""The colour to draw with, by the variable that it becomes."""
_BACK = {colour: f"var(--{name})" for name, colour in STAND_IN.items()}
_STATE_COLOURS = {
    "closed": "good",
    "half_open": "warn",
    "open": "bad",
    "OK": "good",
    "ALARM": "bad",
    "INSUFFICIENT_DATA": "muted",
    "UNREADABLE": "warn",
    "on": "fault",
    "healthy": "good",
    "degraded": "warn",
    "unhealthy": "bad",
    "failed": "bad",
    "firing": "bad",
    "avoid": "warn",
}
_QUIET = frozenset({"closed", "OK", "healthy"})

Span = tuple[float, float, str]
"""From, to, and the state in between."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with two dollars in it is a name, not mathematics that may be wrong
    "font.size": 9,
    "font.family": "sans-serif",
}


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Draw inside the block as all our pictures are drawn; `salt` makes the same picture the same bytes."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield


def lanes(panel: Axes, found: Sequence[tuple[str, list[Span]]]) -> None:
    """Draw a row for each name, with its states as bars; what is well is faint."""
    for row, (_, spans) in enumerate(found):
        for began, ended, state in spans:
            colour = STAND_IN[_STATE_COLOURS.get(state, "muted")]
            quiet = 0.28 if state in _QUIET else 1.0
            panel.broken_barh([(began, ended - began)], (row - 0.3, 0.6), facecolors=colour, alpha=quiet)
    rows(panel, [name for name, _ in found])


def rows(panel: Axes, names: Sequence[str]) -> None:
    """Name the rows of a panel, the first one on top."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(max(1, len(names)) - 0.4, -0.6)


def title(panel: Axes, text: str) -> None:
    """Give a panel its title."""
    panel.set_title(text, loc="left", color=STAND_IN["ink"])


def duration(seconds: float) -> str:
    """Return a latency as an axis shows it."""
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def shade(panel: Axes, began: float, ended: float) -> None:
    """Shade the time of a fault."""
    panel.axvspan(began, ended, color=STAND_IN["fault"], alpha=0.16, linewidth=0, zorder=0)


def dress(panel: Axes) -> None:
    """Take away whatever is not needed, and let the page's own colours through."""
    panel.set_facecolor("none")
    panel.set_axisbelow(True)
    panel.figure.patch.set_alpha(0)
    panel.grid(visible=True, axis="x", color=STAND_IN["grid"], linewidth=0.5)
    panel.tick_params(which="both", colors=STAND_IN["muted"], labelcolor=STAND_IN["ink"], length=0)
    panel.xaxis.label.set_color(STAND_IN["muted"])
    for side in panel.spines.values():
        side.set_visible(False)


def svg(figure: Any) -> str:
    """Return the figure as an `<svg>` element whose caption has the id `timeline-caption`."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)  # the viewBox is enough, CSS sizes it
    text = re.sub(r"#0000[0-9a-f]{2}", lambda found: _BACK.get(found[0], found[0]), text)
    return text.replace("<svg ", '<svg role="img" aria-labelledby="timeline-caption" ', 1)
