"""`kms-watchdog history`: what failed when, from the daemon's file; no daemon needs to run."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kms_core import SystemClock
from kms_watchdog import durations, tables
from kms_watchdog.commands.completing import CanaryName, KeyName, RegionName
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.configuring.refusal import nearest
from kms_watchdog.health import Subject
from kms_watchdog.history.incidents import Incident, incidents
from kms_watchdog.history.reading import HistoryFile, HistoryUnreadableError
from kms_watchdog.results import PAIR, CanaryResult, Kind, Mode, Outcome
from kms_watchdog.state_folder import StateFolder

Form = Literal["table", "json", "csv"]
LOOK_BACK = timedelta(days=1)
"""Looks before the span are read too, so that an incident which began there shows its beginning."""
_WHY_CELLS = 3
"""Reason, request id and detail: the last cells of a row."""
_COLOURS = {Outcome.OK: "green", Outcome.FAILED: "bold red", Outcome.BLIND: "magenta"}


class Moment(click.ParamType[datetime]):
    """A time, or how long ago."""

    name = "time"

    def __init__(self, now_utc: Callable[[], datetime]) -> None:
        self._now_utc = now_utc

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC; one without a zone is UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return self._now_utc() - durations.parse(value)
        except ValueError:
            pass
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"24h or 7d ago, or a time such as 2026-01-31T12:00Z, not {value!r}", param, ctx)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which looks are asked for; empty: all."""

    canary: str = ""
    """A kind, or an id such as `round_trip:us-east-1:pii`."""
    region: str = ""
    key: str = ""
    mode: str = ""

    def takes(self, result: CanaryResult) -> bool:
        """Return whether `result` is one of them."""
        names = {result.canary, ":".join(part for part in (result.canary, result.region, result.key) if part)}
        return (
            (not self.canary or self.canary in names)
            and (not self.region or self.region in {result.region, *result.regions})
            and (not self.key or self.key == result.key)
            and (not self.mode or self.mode == result.mode)
        )


MOMENT = Moment(SystemClock().now_utc)


@click.command(
    "history",
    epilog="""\b
Examples:
  kms-watchdog history --since 24h
  kms-watchdog history --since 7d --region eu-west-1 --key pii
  kms-watchdog history --since 1h --all --format csv > looks.csv
  kms-watchdog history --since 2026-01-31T08:00Z --until 2026-01-31T10:00Z --mode drill --format json""",
)
@config_option
@click.option("--since", type=MOMENT, default="24h", show_default=True, help="From when: 24h, 7d, or a time.")
@click.option("--until", type=MOMENT, help="Up to when; default: now.")
@click.option("--canary", type=CanaryName(), default="", help="A kind of canary, or a canary's id.")
@click.option("--region", type=RegionName(), default="", help="A region.")
@click.option("--key", type=KeyName(), default="", help="A key's purpose.")
@click.option("--mode", type=click.Choice([str(mode) for mode in Mode]), default="live", show_default=True)
@click.option("--all", "every_look", is_flag=True, help="Every look that is kept, not incidents.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def command(
    config_path: Path,
    since: datetime,
    until: datetime | None,
    canary: str,
    region: str,
    key: str,
    mode: str,
    form: Form,
    *,
    every_look: bool,
) -> None:
    """Show what failed when.

    Failures that follow each other are one incident: from the first look that was not OK to the first that was again.
    Looks that were not OK are kept for 14 days; of those that were, the last 60 of each canary.

    Exit code 0: nothing failed in that time; 1: something did; 2: usage or configuration; 3: nothing failed, but some
    looks were BLIND, or there is no history.
    """
    settings = load_settings(config_path)
    now_utc = SystemClock().now_utc()
    until = until or now_utc
    asked = Filter(canary=canary, region=region, key=key, mode=mode)
    try:
        file = HistoryFile(StateFolder(settings.state.dir).history)
        read = file.every_look if every_look else file.results
        looks = read(since - LOOK_BACK, until)
        refuse_unknown(asked, settings, [*file.subjects(), *dict.fromkeys(map(_subject, looks))])
        looks = [look for look in looks if asked.takes(look)]
    except HistoryUnreadableError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    if every_look:
        looks = [look for look in looks if look.started_at_utc >= since]
        show_looks(looks, form, tables.console())
        sys.exit(exit_code([look.outcome for look in looks]))
    found = [each for each in incidents(looks) if (each.recovered_at_utc or until) >= since]
    show_incidents(found, form, tables.console(), now_utc)
    sys.exit(exit_code([each.outcome for each in found]))


def refuse_unknown(asked: Filter, settings: Settings, looked: Iterable[Subject]) -> None:
    """Refuse a name that neither the configuration nor the history has: of it nothing can have failed.

    Raises:
        Stop: there is one; the nearest name is told.
    """
    subjects = tuple(looked)
    regions = dict.fromkeys(settings.estate.regions)
    regions |= dict.fromkeys(part for s in subjects for part in (*s.region.split(PAIR), s.region) if part)
    keys = dict.fromkeys([*settings.keys, *(s.key for s in subjects if s.key)])
    kinds = [str(kind) for kind in Kind]
    ids = [*kinds, *(s.id for s in subjects)]
    _refuse("region", asked.region, regions, settings.estate.regions)
    _refuse("key", asked.key, keys, settings.keys)
    _refuse("canary", asked.canary, ids, kinds)


def _refuse(what: str, name: str, known: Iterable[str], told: Iterable[str]) -> None:
    """Refuse `name` if it is not `known`; where none is near, those `told` are said."""
    names = list(known)
    if name and name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(told)}"
        raise Stop(f"no {what} {name!r} in configuration or history{hint}")


def _subject(look: CanaryResult) -> Subject:
    return Subject(look.canary, look.region, look.key)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the command's exit code (DESIGN §5)."""
    if Outcome.FAILED in outcomes:
        return BAD_FOUND
    return COULD_NOT_TELL if Outcome.BLIND in outcomes else GOOD


def show_incidents(found: Sequence[Incident], form: Form, console: Console, now_utc: datetime) -> None:
    """Print incidents, oldest first."""
    if form != "table":
        lasted = [{"lasted_seconds": round(each.lasted(now_utc).total_seconds(), 3)} for each in found]
        _print_data("incidents", [each.to_json() | more for each, more in zip(found, lasted, strict=True)], form)
        return
    rows = [
        (
            each.outcome,
            _time(each.began_at_utc),
            durations.spoken(each.lasted(now_utc)) + ("" if each.recovered_at_utc else " and on"),
            each.subject.canary,
            each.subject.region,
            each.subject.key,
            f"{each.looks} looks" if console.is_terminal else str(each.looks),
            " ".join((*each.reasons, *each.error_codes)),
            each.request_id,
            each.detail,
        )
        for each in found
    ]
    _print_rows(rows, console, "nothing failed in that time")


def show_looks(looks: Sequence[CanaryResult], form: Form, console: Console) -> None:
    """Print looks, oldest first."""
    if form != "table":
        _print_data("results", [look.to_json() for look in looks], form)
        return
    rows = [
        (
            look.outcome,
            _time(look.started_at_utc),
            f"{look.duration_seconds * 1000:.1f}ms",
            look.canary,
            look.region,
            look.key,
            " ".join(part for part in (look.reason or "", look.error_code) if part),
            look.request_id,
            look.detail,
        )
        for look in looks
    ]
    _print_rows(rows, console, "no look is kept of that time")


def _print_rows(rows: Sequence[Sequence[str]], console: Console, nothing: str) -> None:
    """Print each as a line with tabs when piped; on a terminal, with its last cells below the others."""
    if not rows:
        click.echo(nothing, err=True)
    elif not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
    else:
        for outcome, *what in rows:
            told = "  ".join(cell for cell in what[:-_WHY_CELLS] if cell)
            console.print(Text.assemble((outcome, _COLOURS[Outcome(outcome)]), f"  {told}"))
            if why := "  ".join(cell for cell in what[-_WHY_CELLS:] if cell):
                console.print(Padding(Text(why), (0, 0, 0, 4)))


def _print_data(name: str, found: Sequence[dict[str, Any]], form: Form) -> None:
    if form == "json":
        click.echo(json.dumps({"schema": 1, name: list(found)}, indent=2))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if found:
        writer.writerow(found[0])
    for each in found:
        writer.writerow(_cell(value) for value in each.values())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _time(at_utc: datetime) -> str:
    return f"{at_utc:%Y-%m-%dT%H:%M:%SZ}"
