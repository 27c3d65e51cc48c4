"""The report: one self-contained HTML file, verdict first. No script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kms_chaos.export.account import Account, account, seconds
from kms_chaos.plots import timeline
from kms_watchdog.drills.journal import Journal
from kms_watchdog.drills.verdict import Judgement

_NOTHING = "n/a"


@dataclass(frozen=True, slots=True)
class Tile:
    """One number to see at once."""

    value: str
    label: str
    note: str = ""


def render(journal: Journal, judgement: Judgement) -> str:
    """Return the report as HTML.

    Raises:
        JournalError: `journal` is not a drill's.
    """
    return page(account(journal, judgement))


def page(a: Account) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=PackageLoader("kms_chaos"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["seconds"] = seconds
    return environment.get_template("report.html.j2").render(
        a=a,
        h=a.history,
        drill=a.history.drill,
        judgement=a.judgement,
        tiles=list(_tiles(a)),
        figures=_figures(a.judgement),
        phases=[(str(r.fields["phase"]), r.t) for r in a.history.of_event("phase-started")],
        timeline=Markup(timeline(a.history)),  # noqa: S704 - matplotlib's own output, which escapes what it is given
        versions=a.started.fields.get("versions", {}),
    )


def _tiles(a: Account) -> Iterator[Tile]:
    f = a.judgement.figures
    yield Tile(_count(f.get("failed_operations")), "failed operations", f"of {_count(f.get('operations'))}")
    yield Tile(
        seconds(f.get("p99_seconds_during")), "p99 during the fault", f"before: {seconds(f.get('p99_seconds_before'))}"
    )
    yield Tile(seconds(f.get("detect_seconds")), "to detect", "fault on → breaker open")
    yield Tile(seconds(f.get("divert_seconds")), "to divert", "fault on → first answer elsewhere")
    yield Tile(seconds(f.get("alarm_fired_seconds")), "to alarm", "fault on → alarm fired")
    yield Tile(seconds(f.get("recover_seconds")), "to recover", "fault off → steady state")
    yield Tile(seconds(f.get("undo_seconds")), "to undo", "decision → read back as gone")
    lost = a.key_loss
    yield Tile(
        _count(len(lost.lost) if lost else None),
        "messages lost",
        f"of {lost.sealed} sealed, {lost.untried} not tried" if lost else "nobody tried them all",
    )


def _count(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.0f}"


def _figures(judgement: Judgement) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _NOTHING if value is None else f"{value:g}")
        for name, value in judgement.figures.items()
    ]
