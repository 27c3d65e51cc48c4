"""`kms-watchdog cost`: what keys, canaries, metrics, alarms and dashboards cost a month."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_core import SystemClock
from kms_watchdog import tables
from kms_watchdog.alarm_definitions import DefinitionsError
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.options import COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.costs import account, prices
from kms_watchdog.costs.estimate import Account, Line, estimate, total
from kms_watchdog.costs.prices import Prices, PricesError


@click.command(
    "cost",
    epilog="""\b
Examples:
  kms-watchdog cost --config watchdog.toml
  kms-watchdog cost --offline --json --config watchdog.toml
  kms-watchdog cost --prices our-prices.toml --config watchdog.toml""",
)
@config_option
@click.option("--offline", is_flag=True, help="Ask AWS nothing: count from the configuration alone.")
@click.option(
    "--prices",
    "prices_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another table of prices, in the form of the shipped costs/prices.toml.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(config_path: Path, *, offline: bool, prices_path: Path | None, as_json: bool) -> None:
    """Estimate what a month costs.

    Keys, canaries and puts are counted from the configuration; rotated versions, custom metrics, alarms and dashboards
    in the account. List prices without free tiers, each with its source, and whether anybody verified it.

    Exit code 0: all was counted; 2: usage, configuration or prices; 3: something could not be counted; 4: the
    credentials are of another account.
    """
    settings = load_settings(config_path)
    try:
        table = prices.read(prices_path or prices.SHIPPED)
        defined = account.defined_alarms(settings)
    except (PricesError, DefinitionsError) as e:
        raise Stop(str(e)) from e
    lines = estimate(settings, table, None if offline else _found(settings), defined)
    if as_json:
        click.echo(json.dumps(document(settings, table, lines, offline=offline), indent=2))
    else:
        show(lines, table, tables.console())
    sys.exit(COULD_NOT_TELL if any(line.usd is None for line in lines) else GOOD)


def document(settings: Settings, table: Prices, lines: Sequence[Line], *, offline: bool) -> dict[str, Any]:
    """Return the estimate as JSON values."""
    return {
        "schema": 1,
        "estate": settings.estate.name,
        "offline": offline,
        "prices": {"dated": table.dated.isoformat(), "region": table.region},
        "usd_per_month": round(total(lines), 4),
        "complete": all(line.usd is not None for line in lines),
        "lines": [_line(line, table) for line in lines],
    }


def _line(line: Line, table: Prices) -> dict[str, Any]:
    price = table.by_name[line.priced]
    return {
        "what": line.what,
        "counted_from": line.basis,
        "count": None if line.count is None else round(line.count, 3),
        "usd_per_month": None if line.usd is None else round(line.usd, 4),
        "price": {
            "name": str(line.priced),
            "usd": price.usd,
            "per": price.per,
            "unit": price.unit,
            "source": price.source,
            "verified": price.verified,
        },
        "note": line.note,
    }


def show(lines: Sequence[Line], table: Prices, console: Console) -> None:
    """Print the estimate: a table on a terminal, a line each when piped."""
    unverified = sorted({line.priced for line in lines if not table.by_name[line.priced].verified})
    if console.is_terminal:
        drawn = Table("what", "count", "$ a month", "note")
        for line in lines:
            drawn.add_row(*map(Text, _cells(line)))  # not markup: notes may have brackets
        console.print(drawn)
    else:
        for line in lines:
            click.echo("\t".join(_cells(line)).rstrip("\t"))
    known = "" if all(line.usd is not None for line in lines) else " and what could not be counted"
    click.echo(f"in all\t{total(lines):.2f}{known}")
    click.echo(f"prices of {table.dated}, {table.region or 'no region named'}, without free tiers", err=True)
    if unverified:
        click.echo(f"not verified: {', '.join(unverified)}", err=True)


def _cells(line: Line) -> tuple[str, ...]:
    return (line.what, _count(line), _usd(line), line.note)


def _count(line: Line) -> str:
    return "?" if line.count is None else f"{line.count:,.0f}"


def _usd(line: Line) -> str:
    return "could not tell" if line.usd is None else f"{line.usd:.2f}"


def _found(settings: Settings) -> Account:
    check_account(settings)
    return account.look(settings, SystemClock())
