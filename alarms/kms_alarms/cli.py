"""The command `kms-alarms`: list the table, render it, put it into CloudWatch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from kms_alarms import cloudwatch
from kms_alarms.apply import ApplyError, RegionPlan, apply, plan
from kms_alarms.table import ALARMS
from kms_watchdog.config import ConfigError, Settings, load

EXIT_BAD_FOUND = 1
EXIT_USAGE = 2
EXIT_COULD_NOT_TELL = 3
EXIT_REFUSED = 4

_EPILOG = """\b
Examples:
  kms-alarms list
  kms-alarms render --config watchdog.toml --region us-east-1
  kms-alarms plan --config watchdog.toml
  kms-alarms apply --config watchdog.toml --yes
"""


def _settings(_context: click.Context, _parameter: click.Parameter, path: Path) -> Settings:
    try:
        return load(path)
    except ConfigError as e:
        click.echo(f"kms-alarms: {e}", err=True)
        sys.exit(EXIT_USAGE)


_config = click.option(
    "--config",
    "settings",
    type=click.Path(path_type=Path),
    default=Path("watchdog.toml"),
    envvar="KMS_WATCHDOG_CONFIG",
    show_default=True,
    callback=_settings,
    help="The configuration, shared by all five commands.",
)


@click.group(epilog=_EPILOG)
def cli() -> None:
    """The alarms of kms-watchdog: one table, rendered live and drill, and proven by drills.

    Exit codes: 0 good, 1 a difference found, 2 usage or configuration, 3 could not tell, 4 refused.
    """


@cli.command("list")
def list_() -> None:
    """Show every alarm: when it fires, whom it tells, which drill proves it."""
    table = Table(box=None, pad_edge=False)
    for heading in ("alarm", "fires when", "severity", "runbook", "proven by"):
        table.add_column(heading)
    for row in ALARMS:
        when = f"{row.expression} {'>' if row.comparison.startswith('Greater') else '<'} {row.threshold:g}, "
        when += f"{row.datapoints_to_alarm} of {row.evaluation_periods} periods"
        table.add_row(row.name, when, row.severity, row.runbook, row.proven_by)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@cli.command()
@_config
@click.option("--region", help="The region the alarms live in.  [default: the first publishing region]")
def render(settings: Settings, region: str | None) -> None:
    """Print the alarms as parameters of PutMetricAlarm, in JSON."""
    alarms = cloudwatch.render(settings, alarm_region=region or settings.publish_regions[0])
    click.echo(json.dumps(alarms, indent=2, sort_keys=True))


@cli.command("plan")
@_config
def plan_(settings: Settings) -> None:
    """Show which alarms are missing or differ; change nothing. Exit code 1 if any does."""
    plans = _plan(settings)
    _show(plans)
    sys.exit(EXIT_BAD_FOUND if any(p.changes for p in plans) else 0)


@cli.command("apply")
@_config
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply_(settings: Settings, *, yes: bool) -> None:
    """Create the topics and put every alarm that is missing or differs, in every publishing region."""
    plans = _plan(settings)
    _show(plans)
    if not any(p.changes for p in plans):
        return
    if not yes and not (sys.stdin.isatty() and click.confirm("Put these alarms?")):
        click.echo("kms-alarms: nothing changed; confirm, or say --yes", err=True)
        sys.exit(EXIT_REFUSED)
    try:
        apply(settings, plans)
    except ApplyError as e:
        _cannot_tell(e)


def _plan(settings: Settings) -> tuple[RegionPlan, ...]:
    try:
        return plan(settings)
    except ApplyError as e:
        _cannot_tell(e)


def _cannot_tell(error: ApplyError) -> NoReturn:
    click.echo(f"kms-alarms: {error}", err=True)
    sys.exit(EXIT_COULD_NOT_TELL)


def _show(plans: tuple[RegionPlan, ...]) -> None:
    for region_plan in plans:
        for change in region_plan.changes:
            what = f"change {', '.join(change.differs)}" if change.differs else "create"
            click.echo(f"{region_plan.region}  {what}  {change.name}")
        if not region_plan.changes:
            click.echo(f"{region_plan.region}  nothing to do")
