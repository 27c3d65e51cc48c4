"""The command `kms-alarms`: list the table, render it, put it into CloudWatch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Table

from kms_alarms import cloudwatch
from kms_alarms.apply import ApplyError, RegionPlan, apply, plan, subscribe
from kms_alarms.table import ALARMS
from kms_watchdog import alarm_definitions
from kms_watchdog.commands.options import chosen_estate, estate_option
from kms_watchdog.config import ConfigError, Settings, load

F = TypeVar("F", bound=Callable[..., Any])

EXIT_BAD_FOUND = 1
EXIT_USAGE = 2
EXIT_COULD_NOT_TELL = 3
EXIT_REFUSED = 4

_EPILOG = """\b
Examples:
  kms-alarms list
  kms-alarms render --config watchdog.toml --into alarms/cloudwatch
  kms-alarms plan --config watchdog.toml
  kms-alarms apply --config watchdog.toml --yes
  kms-alarms subscribe oncall@example.com --config watchdog.toml
"""


def _settings(_context: click.Context, _parameter: click.Parameter, path: Path) -> Settings:
    return load(path, chosen_estate())


class _Commands(click.Group):
    """A group whose commands tell in one line what is wrong with the configuration."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            click.echo(f"kms-alarms: {' '.join(str(e).split())}", err=True)
            sys.exit(EXIT_USAGE)


_file = click.option(
    "--config",
    "settings",
    type=click.Path(path_type=Path),
    default=Path("watchdog.toml"),
    envvar="KMS_WATCHDOG_CONFIG",
    show_default=True,
    callback=_settings,
    help="The configuration, shared by all five commands.",
)


def _config(function: F) -> F:
    return estate_option(_file(function))


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write REGION.json there for every publishing region, for [canaries.alarm_path] definitions.",
)
def render(settings: Settings, region: str | None, folder: Path | None) -> None:
    """Print the alarms as parameters of PutMetricAlarm, in JSON."""
    if folder is None:
        alarms = cloudwatch.render(settings, alarm_region=region or settings.publish_regions[0])
        click.echo(alarm_definitions.text_of(alarms), nl=False)
        return
    for each in [region] if region else settings.publish_regions:
        path = alarm_definitions.path_of(folder, each)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(alarm_definitions.text_of(cloudwatch.render(settings, alarm_region=each)), encoding="utf-8")
        except OSError as e:
            click.echo(f"kms-alarms: {path}: cannot be written: {e.strerror}", err=True)
            sys.exit(EXIT_USAGE)
        click.echo(path)


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
    click.echo("done: topics and alarms are as rendered")


@cli.command("subscribe")
@_config
@click.argument("endpoint")
def subscribe_(settings: Settings, endpoint: str) -> None:
    """Let ENDPOINT be told by the topics for people, in every publishing region.

    ENDPOINT is an address of e-mail, an http or https URL, or the ARN of a Lambda function or an SQS queue. SNS asks
    most of them to confirm first; until they have, nobody is told.
    """
    try:
        waiting = subscribe(settings, endpoint)
    except ValueError as e:
        click.echo(f"kms-alarms: {e}", err=True)
        sys.exit(EXIT_USAGE)
    except ApplyError as e:
        _cannot_tell(e)
    for topic in waiting:
        click.echo(f"{topic}: waits for the endpoint to confirm")
    if not waiting:
        click.echo(f"{endpoint} is told of alarms in {', '.join(settings.publish_regions)}")


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
