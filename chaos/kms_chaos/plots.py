"""The timeline of a drill as SVG, drawn from the judged history: latency, who served, canaries, breakers, alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kms_chaos.drawing import STAND_IN, Span, dress, duration, lanes, rows, shade, style, svg, title
from kms_chaos.export.steps import shades
from kms_chaos.judging import alarm_states
from kms_chaos.judging.history import History, Operation
from kms_watchdog.results import Outcome

_MARKERS = ("o", "s", "D", "^")
_SECOND = 1.0


def timeline(h: History) -> str:
    """Return the picture as an `<svg>` element."""
    states = _fault_lanes(h) + _breaker_lanes(h) + _alarm_lanes(h)
    heights = [3.2, 1.6, 0.34 * len(h.canaries) + 0.3, 0.34 * max(1, len(states)) + 0.3]
    with style(h.run_id):
        figure = Figure(figsize=(10.4, sum(heights) + 1.2), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(4, 1, sharex=True, height_ratios=heights)
        _latency(panels[0], h)
        _served(panels[1], h)
        _canaries(panels[2], h)
        lanes(panels[3], states)
        title(panels[3], "Faults, breakers and alarms (red: on, open, ALARM; amber: half open)")
        for panel in panels:
            _dress(panel, h)
        panels[0].set_xlim(0, max(1.0, h.records[-1].t))
        panels[3].set_xlabel("seconds since the drill began")
        return svg(figure)


def _colour(h: History, region: str) -> str:
    return STAND_IN[f"region-{h.regions.index(region) % 4}"] if region in h.regions else STAND_IN["muted"]


def _latency(panel: Axes, h: History) -> None:
    operations = h.operations
    for number, region in enumerate(h.regions):
        found = [o for o in operations if o.ok and o.region == region and o.asked]
        _dots(panel, found, _colour(h, region), _MARKERS[number % 4], f"answered by {region}")
    _dots(panel, [o for o in operations if o.ok and not o.asked], STAND_IN["muted"], ".", "from the cache")
    _dots(panel, [o for o in operations if not o.ok], STAND_IN["bad"], "X", "failed", size=42)
    panel.axhline(h.drill.objectives.p99_seconds, color=STAND_IN["warn"], linewidth=1, linestyle=(0, (4, 3)))
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    title(panel, "Latency of every operation (dashed: objective for p99)")
    if operations:
        panel.legend(loc="upper left", ncols=6, frameon=False, labelcolor=STAND_IN["ink"], handletextpad=0.2)
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * 4)  # room for the legend


def _dots(panel: Axes, found: Sequence[Operation], colour: str, marker: str, label: str, *, size: float = 9) -> None:
    if found:
        times, seconds = [o.record.t for o in found], [max(o.seconds, 1e-5) for o in found]
        panel.scatter(times, seconds, s=size, c=colour, marker=marker, linewidths=0, label=label)


def _served(panel: Axes, h: History) -> None:
    """Stack operations per second by the region that KMS answered from; failures on top."""
    end = int(h.records[-1].t) + 1
    base = [0.0] * end
    stacks: list[tuple[str, str, list[Operation]]] = [
        (region, _colour(h, region), [o for o in h.operations if o.ok and o.asked and o.region == region])
        for region in h.regions
    ]
    stacks.append(("cache", STAND_IN["muted"], [o for o in h.operations if o.ok and not o.asked]))
    stacks.append(("failed", STAND_IN["bad"], [o for o in h.operations if not o.ok]))
    for label, colour, found in stacks:
        counts = [0.0] * end
        for operation in found:
            counts[min(end - 1, int(operation.record.t))] += 1
        if any(counts):
            panel.bar(range(end), counts, width=_SECOND, align="edge", bottom=base, color=colour, label=label, aa=False)
            base = [a + b for a, b in zip(base, counts, strict=True)]
    title(panel, "Who answered, operations per second")


def _canaries(panel: Axes, h: History) -> None:
    names = []
    for row, where in enumerate(h.canaries):
        looks = [look for look in h.looks if look.where == where]
        for outcome, name in ((Outcome.OK, "good"), (Outcome.FAILED, "bad"), (Outcome.BLIND, "warn")):
            times = [look.record.t for look in looks if look.outcome is outcome]
            marker = "x" if outcome is Outcome.FAILED else "|"
            panel.scatter(times, [row] * len(times), s=34, c=STAND_IN[name], marker=marker, linewidths=1.6)
        names.append(f"{where[0]}  {where[1]}")
    title(panel, "Canaries by region and key (bar: OK, cross: failed)")
    rows(panel, names)


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
    following = [t for t, _ in points[1:]] + [end] * bool(points)
    return [(t, until, state) for (t, state), until in zip(points, following, strict=True)]


def _dress(panel: Axes, h: History) -> None:
    """Shade the fault; one that nobody removed runs to the edge, and is seen."""
    dress(panel)
    for one in shades(h):
        shade(panel, one.began, one.ended)
    for record in h.of_event("phase-started"):
        panel.axvline(record.t, color=STAND_IN["grid"], linewidth=0.8, zorder=0.5)
