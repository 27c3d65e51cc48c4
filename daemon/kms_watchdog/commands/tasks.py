"""`kms-watchdog tasks`: the regular tasks, when each was last done, by whom, and when it is due."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_core import SystemClock
from kms_watchdog import alarm_proofs, tables
from kms_watchdog.commands.options import BAD_FOUND, GOOD, REFUSED, Stop, config_option, load_settings
from kms_watchdog.commands.signing import by_option, note_option, sign, state_of
from kms_watchdog.config import Settings
from kms_watchdog.drills.follow import Follower
from kms_watchdog.readiness.sign_offs import SignOffs
from kms_watchdog.readiness.task_evidence import shown
from kms_watchdog.readiness.tasks import BY_ID, Standing, TaskState, standings

_COLOURS: Final = {TaskState.DONE: "green", TaskState.DUE: "yellow", TaskState.OVERDUE: "bold red"}


@click.group(
    "tasks",
    epilog="""\b
Examples:
  kms-watchdog tasks list --config watchdog.toml
  kms-watchdog tasks list --json --config watchdog.toml
  kms-watchdog tasks ack quarterly-iam-review --by "Ada L." --note "no change since March, CHG-1234\"""",
)
def command() -> None:
    """Look after the regular tasks: weekly, monthly, quarterly, annual."""


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(config_path: Path, *, as_json: bool) -> None:
    """Show when each task was last done, by whom, and when it is due.

    A drill that held and a proof of the alarms show themselves, by their journals in the state folder; a digest that
    was delivered is written down by itself; the others are by `tasks ack`.

    Exit code 0: nothing is overdue; 1: something is, or was never done; 2: usage or configuration; 3: the state folder
    cannot be read.
    """
    settings = load_settings(config_path)
    found = read(settings)
    if as_json:
        click.echo(json.dumps({"schema": 1, "tasks": [each.to_json() for each in found]}, indent=2))
    else:
        show(found, tables.console())
    sys.exit(BAD_FOUND if any(each.state is TaskState.OVERDUE for each in found) else GOOD)


@command.command("ack")
@config_option
@click.argument("task", type=click.Choice(list(BY_ID)), metavar="TASK")
@by_option
@note_option
def ack_command(config_path: Path, task: str, by: str, note: str) -> None:
    """Write down that somebody has done TASK now.

    Tasks: weekly-digest, quarterly-iam-review, annual-audit. A drill and a proof of the alarms are done when their
    journals say so, whatever people say.

    Exit code 0: it is on disk; 2: usage or configuration; 3: it could not be written; 4: nobody's word is taken for
    this task.
    """
    if BY_ID[task].proven:
        raise Stop(f"refused: {task} is done by {BY_ID[task].how}", REFUSED)
    settings = load_settings(config_path)
    signed = sign(settings, task, by=by, note=note)
    click.echo(f"{task}: done {signed.at_utc:%Y-%m-%dT%H:%M:%SZ} by {by}")


def read(settings: Settings) -> tuple[Standing, ...]:
    """Return how each task stands.

    Raises:
        Stop: the state folder cannot be read; exit code 3.
    """
    clock = SystemClock()
    drills = Follower(settings.state.dir)
    with state_of(settings):
        book = SignOffs(settings.state.dir, clock).read()
        drills.restore()
        done = (*book.signed, *shown(settings, drills.runs(), alarm_proofs.all_proofs(settings.state.dir)))
    return standings(done, book.since_utc, clock.now_utc())


def show(found: Sequence[Standing], console: Console) -> None:
    """Print the tasks: a table on a terminal, a line each when piped."""
    rows = [(each, _cells(each)) for each in found]
    if not console.is_terminal:
        for each, cells in rows:
            click.echo("\t".join((each.state, *cells)))
        return
    table = Table("", "task", "last done", "due", "by", "note")
    for each, cells in rows:
        table.add_row(Text(each.state, style=_COLOURS[each.state]), *map(Text, cells))  # notes may have brackets
    console.print(table)
    for each in found:
        if each.state is not TaskState.DONE:
            console.print(Text(f"{each.task.id}: {each.task.how}"))


def _cells(each: Standing) -> tuple[str, ...]:
    last = each.last
    done = f"{last.at_utc:%Y-%m-%d}" if last else "never"
    due = f"{each.due_utc:%Y-%m-%d}" if each.due_utc else "now"
    return (each.task.id, done, due, last.by if last else "", last.note if last else "")
