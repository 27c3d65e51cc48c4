"""`kms-watchdog measure`: how fast KMS is from here, and which time-outs that asks for."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kms_core import ConfigurationError, SystemClock
from kms_core.errors import KmsCoreError
from kms_watchdog import tables
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.completing import KeyName
from kms_watchdog.commands.options import COULD_NOT_TELL, REFUSED, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.costs import prices
from kms_watchdog.costs.prices import Priced
from kms_watchdog.readiness.measurement import Measurement, MeasurementFile
from kms_watchdog.readiness.measuring import Measured, Plan, measure
from kms_watchdog.readiness.timeouts import RULE, Timeouts, propose, too_short
from kms_watchdog.state_folder import StateError

_SAMPLES = click.IntRange(1, 10_000)


@click.command(
    "measure",
    epilog="""\b
Examples:
  kms-watchdog measure --config watchdog.toml
  kms-watchdog measure --yes --json --config watchdog.toml
  kms-watchdog measure --key payment --warm 500 --cold 100 --config watchdog.toml""",
)
@config_option
@click.option("--key", "purpose", type=KeyName(), help="Whose key is used; default: the first of the configuration.")
@click.option("--warm", type=_SAMPLES, default=100, show_default=True, help="Round trips over an open connection.")
@click.option("--cold", type=_SAMPLES, default=20, show_default=True, help="Round trips over new connections.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(config_path: Path, *, purpose: str | None, warm: int, cold: int, yes: bool, as_json: bool) -> None:
    """Measure KMS in every region, and propose time-outs.

    GenerateDataKey and Decrypt with the canaries' context, p50 and p99, over an open connection and over new ones. Says
    first how many requests that takes and what they cost. Run it where the application runs: from elsewhere the figures
    are others. The result is kept in the state folder, for `kms-watchdog checklist`.

    Exit code 0: measured and kept; 2: usage or configuration; 3: a region failed a request, so nothing is kept, or it
    cannot be kept; 4: refused, or another account's credentials.
    """
    settings = load_settings(config_path)
    plan = Plan(regions=settings.estate.regions, purpose=_purpose(settings, purpose), warm=warm, cold=cold)
    usd = prices.read().of(Priced.KMS_REQUEST, plan.requests)
    where = f"{len(plan.regions)} regions"
    click.echo(f"at most {plan.requests} requests to KMS in {where}, about ${usd:.4f} by list price", err=True)
    if not yes:
        confirm()
    check_account(settings)
    found = _measured(settings, plan)
    if not found.complete:
        _tell(settings, found, None, as_json=as_json)
        raise Stop(f"nothing is kept: {_failures(found)}", COULD_NOT_TELL)
    kept = Measurement(
        estate=settings.estate.name,
        account_id=settings.estate.account_id,
        measured_at_utc=SystemClock().now_utc(),
        host=socket.gethostname(),
        purpose=plan.purpose,
        requests=plan.requests,
        usd=usd,
        figures=found.figures,
        proposed=propose(found.figures),
    )
    try:
        MeasurementFile(settings.state.dir).keep(kept)
    except StateError as e:
        raise Stop(f"measured, but not kept: {e}", COULD_NOT_TELL) from e
    _tell(settings, found, kept, as_json=as_json)


def confirm() -> None:
    """Ask whether to go on; end with exit code 4 without a yes."""
    if not sys.stdin.isatty():
        raise Stop("refused: not a terminal, so nobody can confirm; --yes goes without asking", REFUSED)
    if not click.confirm("Measure?", err=True):
        raise Stop("refused: not confirmed; nothing was asked", REFUSED)


def document(settings: Settings, found: Measured, kept: Measurement | None) -> dict[str, Any]:
    """Return what was measured as JSON values; without `kept` it is not whole."""
    configured = Timeouts.configured(settings.core)
    failures: Mapping[str, Mapping[str, int]] = found.failures
    if kept is None:
        return {"schema": 1, "complete": False, "failures": failures}
    short = list(too_short(configured, kept.figures))
    more = {"configured": configured.to_json(), "too_short": short}
    return {"schema": 1, "complete": True, "failures": failures, **kept.to_json(), **more}


def _purpose(settings: Settings, purpose: str | None) -> str:
    if purpose is not None and purpose not in settings.keys:
        raise Stop(f"no key {purpose!r}; there are {', '.join(settings.keys)}")
    return purpose or next(iter(settings.keys))


def _measured(settings: Settings, plan: Plan) -> Measured:
    try:
        return measure(settings, plan, SystemClock())
    except ConfigurationError as e:
        raise Stop(str(e)) from e
    except KmsCoreError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e


def _failures(found: Measured) -> str:
    return "; ".join(
        f"{region}: {', '.join(f'{code} {count} times' for code, count in codes.items())}"
        for region, codes in found.failures.items()
    )


def _tell(settings: Settings, found: Measured, kept: Measurement | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document(settings, found, kept), indent=2))
        return
    _show_figures(found, tables.console())
    if kept is None:
        return
    configured, proposed = Timeouts.configured(settings.core), kept.proposed
    for name, seconds in proposed.to_json().items():
        click.echo(f"core.{name}\tproposed {seconds:g} s\tconfigured {getattr(configured, name):g} s")
    for line in too_short(configured, kept.figures):
        click.echo(f"too short: {line}")
    click.echo(f"by this rule: {RULE}", err=True)


def _show_figures(found: Measured, console: Console) -> None:
    rows = [
        (f.region, f.operation, f.connection, f"{f.p50_seconds * 1000:.1f} ms", f"{f.p99_seconds * 1000:.1f} ms")
        for f in found.figures
    ]
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table("region", "operation", "connection", "p50", "p99")
    for row in rows:
        table.add_row(*row)
    console.print(table)
