"""The report: one self-contained HTML file, verdict first. No script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kms_chaos.judging.history import History
from kms_chaos.plots import timeline
from kms_watchdog.drills.journal import Journal
from kms_watchdog.drills.verdict import Judgement, Verdict

_SAYS = {
    Verdict.HELD: "Everything the drill had to prove was seen to hold.",
    Verdict.BROKE: "Something that had to hold did not. What broke is named below.",
    Verdict.INCONCLUSIVE: "Nobody could see whether everything held, so this drill proves nothing yet.",
}


_NOTHING = "n/a"


@dataclass(frozen=True, slots=True)
class Tile:
    """One number to see at once."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done to a system."""

    at: str
    what: str
    detail: str
    seq: int


def render(journal: Journal, judgement: Judgement) -> str:
    """Return the report as HTML."""
    history = History.of(journal)
    environment = Environment(
        loader=PackageLoader("kms_chaos"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        h=history,
        drill=history.drill,
        judgement=judgement,
        says=_SAYS[judgement.verdict],
        cut_short=_cut_short(history),
        tiles=list(_tiles(judgement)),
        figures=_figures(judgement),
        steps=list(_steps(history)),
        timeline=Markup(timeline(history)),  # noqa: S704 - matplotlib's own output, which escapes what it is given
        started=history.records[0],
        records=len(journal.records),
        versions=history.records[0].fields.get("versions", {}),
    )


def _cut_short(h: History) -> str:
    if h.stopped is None:
        return ""
    if h.stopped.event == "healed":
        return f"The drill died; its faults were undone by the {h.stopped.fields['by']}."
    return f"The drill was cut short: {h.stopped.fields['reason']}."


def _tiles(judgement: Judgement) -> Iterator[Tile]:
    f = judgement.figures
    operations, failed = f["operations"] or 0, f["failed_operations"] or 0
    yield Tile(f"{failed:.0f}", "failed operations", f"of {operations:.0f}")
    yield Tile(
        _seconds(f["p99_seconds_during"]), "p99 during the fault", f"before: {_seconds(f['p99_seconds_before'])}"
    )
    yield Tile(_seconds(f["detect_seconds"]), "to detect", "fault on → breaker open")
    yield Tile(_seconds(f["divert_seconds"]), "to divert", "fault on → first answer elsewhere")
    yield Tile(_seconds(f["alarm_fired_seconds"]), "to alarm", "fault on → alarm fired")
    yield Tile(_seconds(f["undo_seconds"]), "to undo", "decision → read back as gone")
    yield Tile(_seconds(f["recover_seconds"]), "to recover", "fault off → steady state")
    yield Tile(_seconds(f["alarm_cleared_seconds"]), "to clear", "fault off → alarm cleared")


def _seconds(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _figures(judgement: Judgement) -> list[tuple[str, str]]:
    shown = []
    for name, value in judgement.figures.items():
        text = _NOTHING if value is None else f"{value:g}"
        shown.append((name.replace("_", " "), text))
    return shown


def _steps(h: History) -> Iterator[Step]:
    for record in h.records:
        tell = _TELLERS.get(record.event)
        if tell:
            what, detail = tell(record.fields)
            yield Step(f"{record.t:.2f} s", what, detail, record.seq)


def _undo_recorded(f: Mapping[str, Any]) -> tuple[str, str]:
    names = ", ".join(proxy["name"] for proxy in f["undo"]["proxies"])
    return "Undo record on disk", f"until {f['undo']['expires_at_utc']}: {names}"


def _injected(f: Mapping[str, Any]) -> tuple[str, str]:
    toxics = ", ".join(f"{t['type']} {t['attributes']} on {t['stream']}" for t in f["toxics"])
    return f"Fault on: {f['fault']}", f"{f['region']} through {f['proxy']}: {toxics}"


def _removed(f: Mapping[str, Any]) -> tuple[str, str]:
    return "Fault off, read back", f"{f['region']} through {f['proxy']}, by the {f['by']}"


def _verified(f: Mapping[str, Any]) -> tuple[str, str]:
    left = ", ".join(f["proxies_left"])
    return (
        "Restore verified" if not left else "Restore failed",
        f"{left or 'nothing'} left on the server, by the {f['by']}",
    )


def _interrupted(f: Mapping[str, Any]) -> tuple[str, str]:
    return "Cut short", str(f["reason"])


def _healed(f: Mapping[str, Any]) -> tuple[str, str]:
    return "Healed", f"{f['reason']}: {', '.join(f['proxies']) or 'nothing was left'}"


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "undo-recorded": _undo_recorded,
    "fault-injected": _injected,
    "fault-removed": _removed,
    "restore-verified": _verified,
    "interrupted": _interrupted,
    "healed": _healed,
}
