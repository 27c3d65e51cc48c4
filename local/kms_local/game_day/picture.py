"""The day as one picture: every request's time, and below it breakers, canaries, health, alarms, pages and commands."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kms_chaos.drawing import STAND_IN, Span, dress, duration, lanes, rows, shade, style, svg, title
from kms_local.game_day.judging import Record
from kms_local.game_day.moments import Moment
from kms_local.game_day.promises import Plan, Timed

_BEFORE_SECONDS = 12.0
"""So much of the calm is shown."""
_FIRST_STATES = {"breaker": "closed", "health": "healthy", "canary": "recovered", "alarm": "OK"}
_AS_DRAWN = {"recovered": "OK", "over": "OK", "blind": "half_open"}


def picture(record: Record, plan: Plan) -> str:
    """Return the day as an `<svg>` element; seconds count from when the region was lost."""
    times = [*(one.at_utc for one in record.moments), *(one.at_utc for one in record.requests)]
    lost = record.began.get("lost") or min(times)
    end = _t(max(times), lost)
    back = _t(record.began["back"], lost) if "back" in record.began else end
    states, events = _states(record, plan, lost, end), _events(record, lost)
    heights = [2.6, 0.3 * max(1, len(states)) + 0.3, 0.3 * max(1, len(events)) + 0.3]
    with style(plan.region):
        figure = Figure(figsize=(10.4, sum(heights) + 1.0), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _requests(panels[0], record, plan, lost)
        lanes(panels[1], states)
        title(
            panels[1],
            "What each part knew (red: lost, open, failed, ALARM; amber: between)",
        )
        _points(panels[2], events)
        for panel in panels:
            dress(panel)
            shade(panel, 0, back)
        panels[0].set_xlim(-_BEFORE_SECONDS, max(1.0, end))
        panels[2].set_xlabel("seconds since the region was lost")
        return svg(figure)


def _t(at_utc: datetime, lost: datetime) -> float:
    return (at_utc - lost).total_seconds()


def _requests(panel: Axes, record: Record, plan: Plan, lost: datetime) -> None:
    for good, colour, marker, label in ((True, "region-0", "o", "answered"), (False, "bad", "X", "failed")):
        found = [one for one in record.requests if (one.outcome == "200") is good]
        if found:
            times, seconds = [_t(one.at_utc, lost) for one in found], [one.milliseconds / 1000 for one in found]
            size = 7 if good else 42
            panel.scatter(times, seconds, s=size, c=STAND_IN[colour], marker=marker, linewidths=0, label=label)
    panel.axhline(plan.limits.p99_seconds, color=STAND_IN["warn"], linewidth=1, linestyle=(0, (4, 3)))
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    title(panel, "Every request of the application, each with three KMS calls (dashed: objective for p99)")


def _states(record: Record, plan: Plan, lost: datetime, end: float) -> list[tuple[str, list[Span]]]:
    region = plan.region
    back = _t(record.began["back"], lost) if "back" in record.began else end
    found: list[tuple[str, list[Span]]] = [(f"{region} is lost", [(0.0, back, "on")])]
    found += [
        (f"{who}: breaker {region}", _spans(record, "breaker", who, region, lost, end))
        for who in ("application", "watchdog")
    ]
    canaries = sorted({one.name for one in record.moments if one.what == "canary" and one.name.startswith(region)})
    found += [(f"canary {name}", _spans(record, "canary", "watchdog", name, lost, end)) for name in canaries]
    found.append(("the watchdog's /health", _spans(record, "health", "watchdog", "", lost, end)))
    alarms = [one for one in plan.timed if one.sight.what == "alarm" and one.since == "lost"]
    return found + [(_name(one), _spans(record, "alarm", one.sight.who, one.sight.name, lost, end)) for one in alarms]


def _name(timed: Timed) -> str:
    return f"{timed.sight.who}: {timed.sight.name.removeprefix('ParkerFlight-KMS-')}"


def _spans(record: Record, what: str, who: str, name: str, lost: datetime, end: float) -> list[Span]:
    moves = [one for one in record.moments if (one.what, one.who, one.name) == (what, who, name)]
    points = [(-_BEFORE_SECONDS, _FIRST_STATES[what]), *((_t(one.at_utc, lost), one.state) for one in moves)]
    following = [t for t, _ in points[1:]] + [end]
    return [
        (max(t, -_BEFORE_SECONDS), until, _AS_DRAWN.get(state, state))
        for (t, state), until in zip(points, following, strict=True)
        if until > -_BEFORE_SECONDS
    ]


def _events(record: Record, lost: datetime) -> list[tuple[str, list[tuple[float, bool]]]]:
    """Return what has no length: the pages that came, by who brought them, and the runbook's commands."""
    brought = (("SNS", "pages by SNS"), ("pager", "pages by Alertmanager"), ("tickets", "tickets by Alertmanager"))
    found = [(label, _told(record.moments, who, lost)) for who, label in brought]
    found.append(("the runbook's commands", [(_t(one.at_utc, lost), not one.good) for one in record.commands]))
    return [(label, points) for label, points in found if points]


def _told(moments: Iterable[Moment], who: str, lost: datetime) -> list[tuple[float, bool]]:
    return [
        (_t(one.at_utc, lost), one.state == "ALARM")
        for one in moments
        if one.what == "page" and one.who == who and _t(one.at_utc, lost) >= -_BEFORE_SECONDS
    ]


def _points(panel: Axes, events: list[tuple[str, list[tuple[float, bool]]]]) -> None:
    for row, (_, points) in enumerate(events):
        for bad, colour in ((True, "bad"), (False, "good")):
            times = [t for t, is_bad in points if is_bad is bad]
            panel.scatter(times, [row] * len(times), s=34, c=STAND_IN[colour], marker="|", linewidths=2)
    rows(panel, [label for label, _ in events])
    title(panel, "Who was told, and what was done (red: ALARM, or a command that failed)")
