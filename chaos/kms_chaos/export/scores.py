"""The score as Markdown and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined

from kms_chaos.alarm_sights import AlarmSight, System
from kms_chaos.export.markdown import table, text
from kms_chaos.score import Cell, Score, Standing, State
from kms_watchdog.results import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One drill or alarm in one region, with its standing under each key."""

    kind: str
    name: str
    faults: str
    region: str
    cells: tuple[Standing | None, ...]
    """In the order of `columns`; None where that was not declared."""


def columns(score: Score) -> tuple[str, ...]:
    """Return the keys that the score speaks of."""
    return tuple(dict.fromkeys(s.cell.purpose for s in score.standings if s.cell.purpose))


def rows(score: Score) -> tuple[Row, ...]:
    """Return the standings as a table: drills and regions down, keys across; alarms have the first column alone."""
    return tuple(_rows(score))


def _rows(score: Score) -> Iterator[Row]:
    found = {s.cell: s for s in score.standings}
    keys = columns(score)
    for kind, name, region in dict.fromkeys((s.cell.kind, s.cell.name, s.cell.region) for s in score.standings):
        wanted = keys if kind == "fault" else ("",)
        yield Row(
            kind=kind,
            name=name,
            faults=", ".join(score.faults.get(name, ())) if kind == "fault" else "",
            region=region,
            cells=tuple(found.get(Cell(kind, name, region, purpose)) for purpose in wanted),
        )


def said(standing: Standing | None) -> str:
    """Return how a cell stands, in two or three words."""
    if standing is None:
        return "not declared"
    if standing.state in {State.PROVEN, State.EXPIRED}:
        return f"{standing.state}, {standing.days:.0f} d"
    return str(standing.state)


def percent(share: float | None) -> str:
    """Return a share as whole per cent, rounded down: 100 % means all."""
    return "n/a" if share is None else f"{int(share * 100)} %"


def heading(score: Score) -> str:
    """Return the score in one sentence."""
    days = score.window / timedelta(days=1)
    return (
        f"{percent(score.share)}: {score.proven} of {len(score.standings)} declared were proven within {days:g} days "
        f"before {score.at_utc:%Y-%m-%d %H:%M} UTC."
    )


def alarm_heading(score: Score) -> str:
    """Return in one sentence how many of the table's alarms were seen to fire."""
    days = score.window / timedelta(days=1)
    return (
        f"{score.alarms_seen} of {len(score.alarms)} alarms, in both systems, live and twins, were seen to fire within "
        f"{days:g} days."
    )


ALARM_COLUMNS: Mapping[tuple[System, Mode], str] = {
    ("prometheus", Mode.LIVE): "Prometheus",
    ("prometheus", Mode.DRILL): "its twin",
    ("cloudwatch", Mode.LIVE): "CloudWatch",
    ("cloudwatch", Mode.DRILL): "its twin",
}
"""What each column of the table's alarms is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRow:
    """One alarm of the table, with how it stands in the order of `ALARM_COLUMNS`."""

    alarm: str
    sights: tuple[AlarmSight | None, ...]
    """None where it does not exist."""


def alarm_rows(score: Score) -> tuple[AlarmRow, ...]:
    """Return the table's alarms, systems and modes across."""
    found = {(sight.alarm, sight.system, sight.mode): sight for sight in score.alarms}
    return tuple(
        AlarmRow(alarm=name, sights=tuple(found.get((name, *column)) for column in ALARM_COLUMNS))
        for name in dict.fromkeys(sight.alarm for sight in score.alarms)
    )


def seen(sight: AlarmSight | None) -> str:
    """Return when an alarm was last seen to fire, and by what, in a few words."""
    if sight is None:
        return "-"
    if sight.last is None:
        return "never"
    what = sight.last.run_id.partition("-")[2] or sight.last.run_id
    return f"{sight.days:.0f} d, {what}{'' if sight.last.cleared_at_utc else ', not cleared'}"


def markdown(score: Score) -> str:
    """Return the score as Markdown."""
    return "\n".join(_lines(score)) + "\n"


def _lines(score: Score) -> Iterator[str]:
    yield from ("# Drill score", "", heading(score))
    faults, alarms = _split(rows(score))
    if faults:
        yield from ("", "## Faults", "")
        yield from table(("Drill", "Faults", "Region", *columns(score)), (_cells(row) for row in faults))
    if alarms:
        yield from ("", "## Alarms", "")
        yield from table(("Alarm", "Region", "State"), ((row.name, row.region, said(row.cells[0])) for row in alarms))
    if score.alarms:
        yield from ("", "## Alarms that were seen to fire", "", alarm_heading(score), "")
        yield from table(
            ("Alarm", *ALARM_COLUMNS.values()), ((row.alarm, *map(seen, row.sights)) for row in alarm_rows(score))
        )
    yield from ("", "## Trend", "")
    yield from table(("Month", "Score"), ((month, percent(share)) for month, share in score.trend))
    if score.doubts:
        yield from ("", "## Not counted", "")
        yield from table(("Run", "Why"), ((f"`{doubt.run_id}`", text(doubt.why)) for doubt in score.doubts))


def _cells(row: Row) -> Sequence[str]:
    return (row.name, row.faults, row.region, *map(said, row.cells))


def _split(found: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    return [row for row in found if row.kind == "fault"], [row for row in found if row.kind == "alarm"]


def html(score: Score) -> str:
    """Return the score as a page that stands alone: no script, nothing loaded from anywhere."""
    environment = Environment(
        loader=PackageLoader("kms_chaos"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    faults, alarms = _split(rows(score))
    return environment.get_template("score.html.j2").render(
        score=score,
        heading=heading(score),
        faults=faults,
        alarms=alarms,
        columns=columns(score),
        said=said,
        percent=percent,
        alarm_heading=alarm_heading(score),
        alarm_columns=ALARM_COLUMNS.values(),
        alarm_rows=alarm_rows(score),
        seen=seen,
    )
