"""`kms-watchdog status`: what the running daemon says, in the terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kms_core import ConfigurationError, SystemClock
from kms_core.clock import Clock
from kms_watchdog import status_client, tables
from kms_watchdog.commands.evacuate import lines
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.override_store import StoreError, override_store
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.status_client import NoAnswerError, Row, View, view
from kms_watchdog.web.access import token_of

TROUBLES_SHOWN = 30
_COLOURS = {"healthy": "bold green", "degraded": "bold yellow", "unhealthy": "bold red"}


@click.command(
    "status",
    epilog="""\b
Examples:
  kms-watchdog status
  kms-watchdog status --watch
  kms-watchdog status --json | jq .status
  kms-watchdog status --url https://kms-watchdog.example.com""",
)
@config_option
@click.option("--url", help="Where the daemon answers; default: as http.json in the state folder says.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's own document.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--every", "every_seconds", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, help="With --watch."
)
def command(config_path: Path, url: str | None, *, as_json: bool, watch: bool, every_seconds: float) -> None:
    """Show what the running daemon says.

    With [http] token or token_file in the configuration, error codes and details too.

    Exit code 0: healthy; 1: degraded or unhealthy; 2: usage or configuration; 3: no answer. With --watch: of the last
    answer.
    """
    settings = load_settings(config_path)
    try:
        read_token = token_of(settings.http)
    except ConfigurationError as e:
        raise Stop(str(e)) from e
    where = url or status_client.running_url(StateFolder(settings.state.dir).http) or listening(settings)
    if where is None:
        raise Stop(f"no daemon runs with {settings.state.dir}", COULD_NOT_TELL)

    def ask() -> dict[str, Any]:
        return status_client.fetch(where, read_token() if read_token else None)

    console, clock = tables.console(), SystemClock()
    try:
        if watch:
            sys.exit(follow(ask, settings, console, clock, every_seconds))
        document = ask()
    except NoAnswerError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    found = view(document)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show(found, overrides_of(settings, clock), console)
    sys.exit(exit_code(found))


def listening(settings: Settings) -> str | None:
    """Return where a daemon with this configuration answers, on this machine; None: on a port of its own choice."""
    host, port = settings.http.address
    if not port:
        return None
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - replaced, not listened on
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def overrides_of(settings: Settings, clock: Clock) -> list[str]:
    """Return a line for each order in force, as it is written now."""
    store = override_store(settings)
    if store is None:
        return []
    try:
        found = store.read()
    except StoreError as e:
        return [f"orders cannot be read: {e}"]
    return lines(found, clock.now_utc())


def follow(
    ask: Callable[[], dict[str, Any]], settings: Settings, console: Console, clock: Clock, every_seconds: float
) -> int:
    """Show the status until Ctrl-C; return the last one's exit code. Piped, a block a time.

    Raises:
        NoAnswerError: there is no answer to begin with.
    """
    code, never = exit_code(view(ask())), threading.Event()
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                drawn: View | str
                try:
                    drawn = view(ask())
                    code = exit_code(drawn)
                except NoAnswerError as e:
                    code, drawn = COULD_NOT_TELL, str(e)
                orders = overrides_of(settings, clock)
                if console.is_terminal:
                    live.update(whole(drawn, orders), refresh=True)
                else:
                    show(drawn, orders, console)
                clock.wait(never, every_seconds)
    except KeyboardInterrupt:
        return code


def exit_code(found: View) -> int:
    """Return the command's exit code."""
    return GOOD if found.healthy else BAD_FOUND


def show(found: View | str, orders: Sequence[str], console: Console) -> None:
    """Print once: tables on a terminal, a line each with tabs when piped."""
    if console.is_terminal:
        console.print(whole(found, orders))
        return
    if isinstance(found, str):
        click.echo(found)
        return
    click.echo(f"status\t{found.headline}")
    for name, rows in (("region", found.regions), ("key", found.keys), ("canary", found.troubles)):
        for row in rows:
            click.echo("\t".join((name, *row.cells)))
    for name, texts in (("reason", found.reasons), ("order", orders), ("drill", found.drills)):
        for text in texts:
            click.echo(f"{name}\t{text}")


def whole(found: View | str, orders: Sequence[str]) -> RenderableType:
    """Return what a terminal shows."""
    if isinstance(found, str):
        return Text(found, style="bold magenta")
    parts: list[RenderableType] = [Text(found.headline, style=_COLOURS.get(found.status, "bold")), Text()]
    parts += [_table(("region", "", "", "", ""), found.regions), Text()]
    parts += [_table(("key", "alias", ""), found.keys), Text()]
    parts += _troubles(found.troubles)
    parts.append(Text(f"{found.canaries - len(found.troubles)} of {found.canaries} canaries are up", style="dim"))
    parts += [Text(order, style="yellow") for order in orders]
    parts += [Text(f"drill runs: {drill}", style="cyan") for drill in found.drills]
    return Group(*parts)


def _troubles(troubles: Sequence[Row]) -> Iterator[RenderableType]:
    """Yield what is wrong by itself, each with its why below it, and a line for what a region takes with it."""
    own = [row for row in troubles if not row.because]
    for row in own[:TROUBLES_SHOWN]:
        *what, why, detail = row.cells
        yield Text("  ".join(cell for cell in what if cell), style="red")
        if told := "  ".join(cell for cell in (why, detail) if cell):
            yield Padding(Text(told), (0, 0, 0, 4))
    if len(own) > TROUBLES_SHOWN:
        yield Text(f"{len(own) - TROUBLES_SHOWN} more that are not up", style="magenta")
    for region, count in Counter(row.because for row in troubles if row.because).items():
        yield Text(f"{count} more fail, or see nothing, with {region}", style="magenta")
    if troubles:
        yield Text()


def _table(heads: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(*heads, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.cells), style="" if row.good else "red")
    return table
