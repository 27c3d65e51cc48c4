"""`kms-watchdog checklist`: the setup guide's production checklist, each item with its evidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_core import SystemClock
from kms_watchdog import identity, tables
from kms_watchdog.commands.account import refuse_another
from kms_watchdog.commands.options import (
    BAD_FOUND,
    COULD_NOT_TELL,
    GOOD,
    REFUSED,
    Stop,
    config_option,
    load_settings,
)
from kms_watchdog.commands.signing import by_option, note_option, sign, state_of
from kms_watchdog.config import Settings
from kms_watchdog.readiness.checklist import Checklist
from kms_watchdog.readiness.items import BY_ID, ITEMS, Answer, State, worst_of
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.status_client import running_url

_EXIT: Final = {State.GOOD: GOOD, State.BAD: BAD_FOUND, State.UNKNOWN: COULD_NOT_TELL}
_COLOURS: Final = {State.GOOD: "green", State.BAD: "bold red", State.UNKNOWN: "magenta"}
_ASKED: Final = [item.id for item in ITEMS if item.asked]


@click.group(
    "checklist",
    invoke_without_command=True,
    epilog=f"""\b
Examples:
  kms-watchdog checklist --config watchdog.toml
  kms-watchdog checklist --format markdown > checklist.md
  kms-watchdog checklist --json --config watchdog.toml
  kms-watchdog checklist ack {_ASKED[0]} --by "Ada L." --note "no open finding, SEC-12"

Exit code 0: every item is good; 1: one is not; 2: usage or configuration; 3: nobody could tell of one; 4: the
credentials are of another account.""",
)
@config_option
@click.option("--url", help="Where the watchdog answers; default: the one that runs on this state folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="Text is a table on a terminal, and a line an item elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_context
def command(context: click.Context, config_path: Path, *, url: str | None, form: str, as_json: bool) -> None:
    """Go through the production checklist.

    What a program can see is looked at, in AWS and in the state folder; the rest is what people have signed with
    `checklist ack`. Nothing is changed. No item is good for lack of evidence, and no evidence lasts for ever.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(config_path)
    found = _answers(settings, url)
    if as_json or form == "json":
        click.echo(json.dumps(document(settings, found), indent=2))
    elif form == "markdown":
        click.echo("\n".join(markdown(settings, found)))
    else:
        show(found, tables.console())
    sys.exit(_EXIT[worst_of(found)])


@command.command("ack")
@config_option
@click.argument("item", type=click.Choice(list(BY_ID)), metavar="ITEM")
@by_option
@note_option
def ack_command(config_path: Path, item: str, by: str, note: str) -> None:
    """Sign that ITEM has been seen to, now.

    Items that people are asked about: security-review, documentation, training. The others are looked at, whatever
    people say.

    Exit code 0: it is on disk; 2: usage or configuration; 3: it could not be written; 4: nobody is asked about this
    item.
    """
    if not BY_ID[item].asked:
        raise Stop(f"refused: {item} is looked at, and signed by nobody: {BY_ID[item].check}", REFUSED)
    settings = load_settings(config_path)
    signed = sign(settings, item, by=by, note=note)
    until = signed.at_utc + BY_ID[item].lasts
    click.echo(f"{item}: signed {signed.at_utc:%Y-%m-%dT%H:%M:%SZ} by {by}, until {until:%Y-%m-%d}")


def document(settings: Settings, found: Sequence[Answer]) -> dict[str, Any]:
    """Return the checklist as JSON values."""
    return {
        "schema": 1,
        "estate": settings.estate.name,
        "state": str(worst_of(found)),
        "items": [each.to_json() for each in found],
    }


def markdown(settings: Settings, found: Sequence[Answer]) -> Iterator[str]:
    """Yield the lines of the checklist as the setup guide has it, with the evidence below each item."""
    yield f"# Production checklist of {settings.estate.name}"
    yield ""
    for each in found:
        mark = "x" if each.state is State.GOOD else " "
        until = f"until {each.expires_utc:%Y-%m-%d}" if each.expires_utc else f"**{each.state}**"
        yield f"- [{mark}] {each.item.words} (`{each.item.id}`, {until})"
        for one in each.evidence:
            said = "" if one.state is State.GOOD else f" **{one.state}**"
            yield f"  - {_plain(one.what)}: {_plain(one.seen)} ({one.at_utc:%Y-%m-%d %H:%M} UTC){said}"


def show(found: Sequence[Answer], console: Console) -> None:
    """Print the checklist: a table on a terminal, a line an item when piped."""
    if not console.is_terminal:
        for each in found:
            click.echo("\t".join((each.state, each.item.id, each.item.words, _until(each), each.finding)))
        return
    table = Table("", "item", "until", "what was seen")
    for each in found:
        told = map(Text, (each.item.words, _until(each), each.finding))  # not markup: findings may have brackets
        table.add_row(Text(each.state, style=_COLOURS[each.state]), *told)
    console.print(table)


def _until(each: Answer) -> str:
    return f"{each.expires_utc:%Y-%m-%d}" if each.expires_utc else "-"


def _plain(text: str) -> str:
    """Return `text` so that Markdown shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_<>[]|" else c for c in text)


def _answers(settings: Settings, url: str | None) -> tuple[Answer, ...]:
    not_asked = ""
    try:
        refuse_another(settings, identity.caller(settings))
    except identity.IdentityError as e:
        not_asked = str(e)
    where = url or running_url(StateFolder(settings.state.dir).http)
    with state_of(settings):
        return Checklist(settings, SystemClock(), url=where, not_asked=not_asked).answers()
