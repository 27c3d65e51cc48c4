"""The timeline of a drill as SVG, drawn from the judged history: latency, who served, canaries, breakers, alarms.

Colours are names of CSS variables: matplotlib draws with stand-in colours, which are replaced in its output, so that
one picture fits light, dark and print. Text stays text; nothing in the picture refers to anything outside it.
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
from matplotlib.ticker import FuncFormatter

from kms_chaos.export.steps import shades
from kms_chaos.judging import alarm_states
from kms_chaos.judging.history import History, Operation
from kms_watchdog.results import Outcome

_VARIABLES = ("ink", "muted", "grid", "bad", "good", "warn", "fault", "region-0", "region-1", "region-2", "region-3")
_STAND_IN = {name: f"#0000{number + 16:02x}" for number, name in enumerate(_VARIABLES)}
_BACK = {colour: f"var(--{name})" for name, colour in _STAND_IN.items()}
_MARKERS = ("o", "s", "D", "^")
_STATE_COLOURS = {
    "closed": "good",
    "half_open": "warn",
    "open": "bad",
    "OK": "good",
    "ALARM": "bad",
    "INSUFFICIENT_DATA": "muted",
    "UNREADABLE": "warn",
    "on": "fault",
}
_SECOND = 1.0

Span = tuple[float, float, str]
"""From, to, and the state in between."""


def timeline(h: History) -> str:
    """Return the picture as an `<svg>` element."""
    lanes = _fault_lanes(h) + _breaker_lanes(h) + _alarm_lanes(h)
    heights = [3.2, 1.6, 0.34 * len(h.canaries) + 0.3, 0.34 * max(1, len(lanes)) + 0.3]
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": h.run_id, "font.size": 9, "font.family": "sans-serif"}
    ):
        figure = Figure(figsize=(10.4, sum(heights) + 1.2), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(4, 1, sharex=True, height_ratios=heights)
        _latency(panels[0], h)
        _served(panels[1], h)
        _canaries(panels[2], h)
        _states(panels[3], lanes)
        for panel in panels:
            _dress(panel, h)
        panels[0].set_xlim(0, max(1.0, h.records[-1].t))
        panels[3].set_xlabel("seconds since the drill began")
        return _svg(figure)


def _colour(h: History, region: str) -> str:
    return _STAND_IN[f"region-{h.regions.index(region) % 4}"] if region in h.regions else _STAND_IN["muted"]


def _latency(panel: Axes, h: History) -> None:
    operations = h.operations
    for number, region in enumerate(h.regions):
        found = [o for o in operations if o.ok and o.region == region and o.asked]
        _dots(panel, found, _colour(h, region), _MARKERS[number % 4], f"answered by {region}")
    _dots(panel, [o for o in operations if o.ok and not o.asked], _STAND_IN["muted"], ".", "from the cache")
    _dots(panel, [o for o in operations if not o.ok], _STAND_IN["bad"], "X", "failed", size=42)
    panel.axhline(h.drill.objectives.p99_seconds, color=_STAND_IN["warn"], linewidth=1, linestyle=(0, (4, 3)))
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _duration(value)))
    _title(panel, "Latency of every operation (dashed: objective for p99)")
    if operations:
        panel.legend(loc="upper left", ncols=6, frameon=False, labelcolor=_STAND_IN["ink"], handletextpad=0.2)
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * 4)  # room for the legend


def _dots(panel: Axes, found: Sequence[Operation], colour: str, marker: str, label: str, *, size: float = 9) -> None:
    if found:
        times, seconds = [o.record.t for o in found], [max(o.seconds, 1e-5) for o in found]
        panel.scatter(times, seconds, s=size, c=colour, marker=marker, linewidths=0, label=label)


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _served(panel: Axes, h: History) -> None:
    """Stack operations per second by the region that KMS answered from; failures on top."""
    end = int(h.records[-1].t) + 1
    base = [0.0] * end
    rows: list[tuple[str, str, list[Operation]]] = [
        (region, _colour(h, region), [o for o in h.operations if o.ok and o.asked and o.region == region])
        for region in h.regions
    ]
    rows.append(("cache", _STAND_IN["muted"], [o for o in h.operations if o.ok and not o.asked]))
    rows.append(("failed", _STAND_IN["bad"], [o for o in h.operations if not o.ok]))
    for label, colour, found in rows:
        counts = [0.0] * end
        for operation in found:
            counts[min(end - 1, int(operation.record.t))] += 1
        if any(counts):
            panel.bar(range(end), counts, width=_SECOND, align="edge", bottom=base, color=colour, label=label, aa=False)
            base = [a + b for a, b in zip(base, counts, strict=True)]
    _title(panel, "Who answered, operations per second")


def _canaries(panel: Axes, h: History) -> None:
    names = []
    for row, where in enumerate(h.canaries):
        looks = [look for look in h.looks if look.where == where]
        for outcome, name in ((Outcome.OK, "good"), (Outcome.FAILED, "bad"), (Outcome.BLIND, "warn")):
            times = [look.record.t for look in looks if look.outcome is outcome]
            marker = "x" if outcome is Outcome.FAILED else "|"
            panel.scatter(times, [row] * len(times), s=34, c=_STAND_IN[name], marker=marker, linewidths=1.6)
        names.append(f"{where[0]}  {where[1]}")
    _title(panel, "Canaries by region and key (bar: OK, cross: failed)")
    _rows(panel, names)


def _fault_lanes(h: History) -> list[tuple[str, list[Span]]]:
    return [
        (f"{shade.fault} {shade.region}{'' if shade.lifted else ', not removed'}", [(shade.began, shade.ended, "on")])
        for shade in shades(h)
    ]


def _breaker_lanes(h: History) -> list[tuple[str, list[Span]]]:
    end = h.records[-1].t
    return [
        (f"breaker {region}", _spans(((r.t, str(r.fields["new"])) for r in moves), end, "closed"))
        for region in h.regions
        for moves in [h.of_event("breaker-moved", region=region)]
    ]


def _alarm_lanes(h: History) -> list[tuple[str, list[Span]]]:
    end, plan = h.records[-1].t, h.drill.alarms
    keys = dict.fromkeys(
        (rule.alarm, region, rule.mode)
        for rule in (*plan.must_fire, *plan.must_clear, *plan.must_not_fire)
        for region in rule.regions(h.targets, h.regions)
    )
    return [
        (
            f"{alarm} {region} ({mode})",
            _spans(((r.t, str(r.fields["state"])) for r in alarm_states.readings(h, (alarm, region, mode))), end, None),
        )
        for alarm, region, mode in keys
    ]


def _spans(changes: Iterable[tuple[float, str]], end: float, first: str | None) -> list[Span]:
    points = ([(0.0, first)] if first else []) + list(changes)
    following = [t for t, _ in points[1:]] + [end]
    return [(t, until, state) for (t, state), until in zip(points, following, strict=True)]


def _states(panel: Axes, lanes: Sequence[tuple[str, list[Span]]]) -> None:
    for row, (_, spans) in enumerate(lanes):
        for began, ended, state in spans:
            colour = _STAND_IN[_STATE_COLOURS.get(state, "muted")]
            quiet = 0.28 if state in {"closed", "OK"} else 1.0
            panel.broken_barh([(began, ended - began)], (row - 0.3, 0.6), facecolors=colour, alpha=quiet)
    _title(panel, "Faults, breakers and alarms (red: on, open, ALARM; amber: half open)")
    _rows(panel, [name for name, _ in lanes])


def _rows(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(max(1, len(names)) - 0.4, -0.6)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", color=_STAND_IN["ink"])


def _dress(panel: Axes, h: History) -> None:
    """Shade the fault; one that nobody removed runs to the edge, and is seen."""
    panel.set_facecolor("none")
    panel.set_axisbelow(True)
    panel.figure.patch.set_alpha(0)
    for shade in shades(h):
        panel.axvspan(shade.began, shade.ended, color=_STAND_IN["fault"], alpha=0.16, linewidth=0, zorder=0)
    for record in h.of_event("phase-started"):
        panel.axvline(record.t, color=_STAND_IN["grid"], linewidth=0.8, zorder=0.5)
    panel.grid(visible=True, axis="x", color=_STAND_IN["grid"], linewidth=0.5)
    panel.tick_params(which="both", colors=_STAND_IN["muted"], labelcolor=_STAND_IN["ink"], length=0)
    panel.xaxis.label.set_color(_STAND_IN["muted"])
    for side in panel.spines.values():
        side.set_visible(False)


def _svg(figure: Any) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)  # the viewBox is enough, CSS sizes it
    text = re.sub(r"#0000[0-9a-f]{2}", lambda found: _BACK.get(found[0], found[0]), text)
    return text.replace("<svg ", '<svg role="img" aria-labelledby="timeline-caption" ', 1)
