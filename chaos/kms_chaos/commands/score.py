"""`kms-chaos score`: what was proven lately, of all that could be."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_chaos import drill, proofs
from kms_chaos.alarm_sights import AlarmSight
from kms_chaos.commands.options import BAD, UNCLEAR, config_option, explained, load, printer
from kms_chaos.commands.other_machines import copy_from_store, offline_option
from kms_chaos.export import scores
from kms_chaos.score import TREND, Score, Standing, State, declared, score
from kms_core.clock import SystemClock

_TONES = {State.PROVEN: "green", State.BROKE: "red", State.EXPIRED: "yellow", State.INCONCLUSIVE: "yellow"}


class _Days(click.ParamType[timedelta]):
    """A time such as `35d`."""

    name = "days"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time that was typed."""
        if isinstance(value, timedelta):
            return value
        if not re.fullmatch(r"[1-9]\d{0,3}d", str(value)):
            self.fail(f"a number of days such as 35d, not {value!r}", param, ctx)
        return timedelta(days=int(str(value)[:-1]))


@click.command("score")
@config_option
@click.option("--window", type=_Days(), default="35d", show_default=True, help="How long a proof is good for.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "markdown", "html"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@offline_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(config: Path, window: timedelta, form: str, *, offline: bool, as_json: bool) -> None:
    """Show which fault, region, key and alarm was proven within how many days.

    Drills of other machines are counted too, where all keep their evidence in one store ([drills.evidence] store).
    Journals are judged again; a run whose verdict.json says something else is named, not counted. Never run, expired
    and inconclusive all count nothing. Below stands, for every alarm of the table in both systems, when a drill or
    kms-alarms prove last saw it fire; that does not change the exit code.

    \b
    Exit code 0: all that was declared is proven; 1: something broke, or a run cannot be believed;
    3: something is not proven, or the store cannot be read; 2: usage or configuration.

    \b
    Example:
      kms-chaos score --window 35d --format html > score.html
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        settings, clock = load(config), SystemClock()
        now_utc = clock.now_utc()
        copy_from_store(settings, now_utc - TREND - window, clock, offline=offline)
        counts, doubts = proofs.found(settings.state.dir)
        of_alarms, more_doubts = proofs.found_of_alarms(settings.state.dir)
        wanted = declared(
            drill.every(settings.drills.folder), regions=settings.estate.regions, purposes=tuple(settings.keys)
        )
        found = score(wanted, counts, (*doubts, *more_doubts), at_utc=now_utc, window=window, alarm_proofs=of_alarms)
        _print(found, "json" if as_json else form)
        raise SystemExit(_exit_code(found))


def _exit_code(found: Score) -> int:
    if any(s.state is State.BROKE for s in found.standings) or any(not doubt.open for doubt in found.doubts):
        return BAD
    return 0 if found.share == 1.0 else UNCLEAR


def _print(found: Score, form: str) -> None:
    match form:
        case "json":
            click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        case "markdown":
            click.echo(scores.markdown(found), nl=False)
        case "html":
            click.echo(scores.html(found), nl=False)
        case _:
            _show(found, printer())


def _show(found: Score, console: Console) -> None:
    console.print(Text(scores.heading(found), "bold"))
    keys = scores.columns(found)
    table = Table("drill or alarm", "region", *keys, box=None, pad_edge=False, header_style="bold")
    for row in scores.rows(found):
        table.add_row(row.name, row.region, *(_cell(cell) for cell in row.cells))
    console.print(table)
    _show_alarms(found, console)
    for doubt in found.doubts:
        console.print(Text(f"not counted: {doubt.run_id}: {doubt.why}", "yellow" if doubt.open else "red"))


def _show_alarms(found: Score, console: Console) -> None:
    console.print(Text(scores.alarm_heading(found), "bold"))
    table = Table("alarm", *scores.ALARM_COLUMNS.values(), box=None, pad_edge=False, header_style="bold")
    for row in scores.alarm_rows(found):
        table.add_row(row.alarm, *(_sight(sight) for sight in row.sights))
    console.print(table)


def _sight(sight: AlarmSight | None) -> Text:
    tone = "dim" if sight is None or sight.last is None else "green" if sight.lately else "yellow"
    return Text(scores.seen(sight), tone)


def _cell(standing: Standing | None) -> Text:
    return Text(scores.said(standing), _TONES.get(standing.state, "dim") if standing else "dim")
