"""The command `kms-alarms`: list the table, render it, put it into CloudWatch, prove that it is heard."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.table import Table

from kms_alarms import alarm_tests, bounds, cloudformation, cloudwatch, coverage, prometheus, runbooks
from kms_alarms.apply import ApplyError, RegionPlan, apply, plan, protocol_of, subscribe
from kms_alarms.options import EXIT_BAD_FOUND, EXIT_COULD_NOT_TELL, EXIT_REFUSED, EXIT_USAGE, config_option
from kms_alarms.parts import Alarm, NoneBecause
from kms_alarms.prove_command import prove_
from kms_alarms.table import ALARMS
from kms_watchdog import alarm_definitions, tables
from kms_watchdog.config import ConfigError, Settings
from kms_watchdog.identity import IdentityError, caller, why_refused

FORMATS = ("cloudwatch", "cloudformation", "prometheus", "runbooks")

_EPILOG = """\b
Examples:
  kms-alarms list --config watchdog.toml
  kms-alarms check --runbooks alarms/runbooks
  kms-alarms render --config watchdog.toml --into alarms/cloudwatch
  kms-alarms render --config watchdog.toml --format cloudformation --into alarms/cloudformation
  kms-alarms render --config watchdog.toml --format prometheus --into alarms/prometheus
  kms-alarms test --config watchdog.toml
  kms-alarms plan --config watchdog.toml
  kms-alarms apply --config watchdog.toml --yes
  kms-alarms subscribe oncall@example.com --config watchdog.toml
  kms-alarms prove HighErrorRate --region us-east-1 --config watchdog.toml
"""


class _Commands(click.Group):
    """A group whose commands tell in one line what is wrong with the configuration."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            click.echo(f"kms-alarms: {' '.join(str(e).split())}", err=True)
            sys.exit(EXIT_USAGE)


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The alarms of kms-watchdog: one table, rendered live and drill, and proven by drills.

    Exit codes: 0 good, 1 a difference found, 2 usage or configuration, 3 could not tell, 4 refused.
    """


@cli.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_(settings: Settings, *, as_json: bool) -> None:
    """Show every alarm: how soon each system tells of it, what to do, what proves it."""
    listed = [_listed(settings, row) for row in ALARMS]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("alarm", "severity", "prometheus", "cloudwatch", "runbook", "proven by"):
        table.add_column(heading)
    for one in listed:
        told = (
            f"{one[system]:.0f} s" if one[system] else "-" for system in ("prometheus_seconds", "cloudwatch_seconds")
        )
        table.add_row(one["alarm"], one["severity"], *told, one["runbook"], one["proven_by"])
    tables.console(width=None if sys.stdout.isatty() else 200).print(table)


def _listed(settings: Settings, row: Alarm) -> dict[str, Any]:
    rules = () if isinstance(row.prometheus, NoneBecause) else row.prometheus
    return {
        "alarm": row.name,
        "title": row.title,
        "severity": row.severity,
        "owner": row.owner,
        "prometheus_seconds": min((bounds.prometheus(settings, row, rule) for rule in rules), default=0.0),
        "cloudwatch_seconds": bounds.cloudwatch(settings, row),
        "runbook": row.runbook,
        "proven_by": ", ".join(row.proven_by) or row.proven_on_path,
    }


@cli.command()
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="cloudwatch",
    show_default=True,
    help="What to write: parameters of PutMetricAlarm and PutCompositeAlarm, a CloudFormation template with topics, "
    "rules for Prometheus, or the heads of the runbooks, which are there already.",
)
@click.option("--region", help="The region that CloudWatch's alarms live in.  [default: the first publishing region]")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write files there instead: kms-watchdog.rules.yml, or REGION.json for every publishing region, "
    "for [canaries.alarm_path] definitions.",
)
def render(settings: Settings, form: str, region: str | None, folder: Path | None) -> None:
    """Print the alarms as one of the two systems takes them, or write them into the runbooks' heads.

    An alarm without a runbook is not rendered into them.
    """
    if form == "runbooks":
        pages = folder or Path("alarms/runbooks")
        files = {name: partial(runbooks.render, settings, pages, name) for name in runbooks.pages()}
    elif form == "prometheus":
        files = {"kms-watchdog.rules.yml": partial(prometheus.render, settings)}
    else:
        text = _definitions if form == "cloudwatch" else cloudformation.render
        regions = [region] if region else settings.publish_regions
        files = {f"{one}.json": partial(text, settings, alarm_region=one) for one in regions}
    if folder is None:
        click.echo(next(iter(files.values()))(), nl=False)
        return
    for name, text_of in files.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(), encoding="utf-8")
        except runbooks.RunbookError as e:
            click.echo(f"kms-alarms: {e}", err=True)
            sys.exit(EXIT_BAD_FOUND)
        except OSError as e:
            click.echo(f"kms-alarms: {path}: cannot be written: {e.strerror}", err=True)
            sys.exit(EXIT_USAGE)
        click.echo(path)


def _definitions(settings: Settings, *, alarm_region: str) -> str:
    return alarm_definitions.text_of(cloudwatch.render(settings, alarm_region=alarm_region))


@cli.command("check")
@click.option(
    "--runbooks",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the runbooks are: each alarm must have one there.",
)
@click.option("--all", "everything", is_flag=True, help="Show what is covered too, and by which alarm.")
def check_(folder: Path | None, *, everything: bool) -> None:
    """Look whether everything that can go wrong is told by an alarm, or is said to need none. Exit code 1 if not.

    Every answer of every canary, every event of the core, every state of the watchdog itself.
    """
    found = list(coverage.covered())
    wrong = [one.wrong for one in found if one.wrong]
    if folder is not None:
        wrong += [f"{folder / name}: not there" for name in runbooks.pages() if not (folder / name).is_file()]
    if everything:
        table = Table("what can happen", "told by", box=None, pad_edge=False)
        for one in found:
            table.add_row(one.what, f"none: {one.told.reason}" if isinstance(one.told, NoneBecause) else one.told)
        tables.console(width=None if sys.stdout.isatty() else 200).print(table)
    for line in wrong:
        click.echo(line)
    click.echo(f"{len(found)} things that can happen, {len(ALARMS)} alarms, {len(wrong)} wrong")
    sys.exit(EXIT_BAD_FOUND if wrong else 0)


@cli.command("test")
@config_option
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--region", help="The region the alarms live in.  [default: the first publishing region]")
def test_(settings: Settings, files: tuple[Path, ...], region: str | None) -> None:
    """Play the cases of FILES, or of alarms/cloudwatch/tests/*.toml, to CloudWatch's alarms as they are rendered.

    What is published in each period goes in, the alarm's states come out; nothing is asked of AWS. Exit code 1 if one
    is not as expected.
    """
    try:
        paths = files or tuple(sorted(Path("alarms/cloudwatch/tests").glob("*.toml")))
        cases = [case for path in paths for case in alarm_tests.read(path)]
    except alarm_tests.AlarmTestError as e:
        click.echo(f"kms-alarms: {e}", err=True)
        sys.exit(EXIT_USAGE)
    if not cases:
        click.echo("kms-alarms: no tests in alarms/cloudwatch/tests; name a file", err=True)
        sys.exit(EXIT_USAGE)
    outcomes = list(alarm_tests.run(cases, settings, alarm_region=region or settings.publish_regions[0]))
    bad = [one for one in outcomes if one.wrong]
    for one in bad:
        click.echo("\n    ".join((f"FAILED  {one.case}  ({one.alarm})", *one.wrong)))
    click.echo(f"{len(outcomes) - len(bad)} of {len(outcomes)} cases are as expected")
    sys.exit(EXIT_BAD_FOUND if bad else 0)


@cli.command("plan")
@config_option
def plan_(settings: Settings) -> None:
    """Show which topics and alarms are missing, and which alarms differ, and how; change nothing.

    Exit code 1 if there is anything to do.
    """
    plans = _plan(settings)
    _show(plans)
    sys.exit(0 if all(p.nothing for p in plans) else EXIT_BAD_FOUND)


@cli.command("apply")
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--adopt", is_flag=True, help="Take over alarms of ours by name that nobody's tag is on.")
def apply_(settings: Settings, *, yes: bool, adopt: bool) -> None:
    """Create the topics and put every alarm that is missing or differs, in every publishing region.

    Changed is only what carries the tag managed-by=kms-alarms: of a CloudFormation stack's alarms the stack is the
    owner. Exit code 4 if something was left alone.
    """
    plans = _plan(settings)
    _show(plans)
    if all(p.nothing for p in plans):
        return
    if not yes and not (sys.stdin.isatty() and click.confirm("Put these alarms?")):
        click.echo("kms-alarms: nothing changed; confirm, or say --yes", err=True)
        sys.exit(EXIT_REFUSED)
    try:
        left = apply(settings, plans, adopt=adopt)
    except ApplyError as e:
        _cannot_tell(e)
    if left:
        click.echo("kms-alarms: left alone, for they are somebody else's:\n" + "\n".join(left), err=True)
        sys.exit(EXIT_REFUSED)
    click.echo("done: topics and alarms are as rendered")


@cli.command("subscribe")
@config_option
@click.argument("endpoint")
def subscribe_(settings: Settings, endpoint: str) -> None:
    """Let ENDPOINT be told by the topics for people, in every publishing region.

    ENDPOINT is an address of e-mail, an http or https URL, or the ARN of a Lambda function or an SQS queue. SNS asks
    most of them to confirm first; until they have, nobody is told.
    """
    try:
        protocol_of(endpoint)
        _own_account(settings)
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


cli.add_command(prove_)


def _short(value: object) -> str:
    """Return a parameter as people compare it: one line of JSON."""
    return json.dumps(value, sort_keys=True, default=str)


def _own_account(settings: Settings) -> None:
    """End where the credentials are of another account than the configured one, or nobody can tell."""
    try:
        said = why_refused(settings, caller(settings))
    except IdentityError as e:
        _cannot_tell(e)
    if said:
        click.echo(f"kms-alarms: {said}", err=True)
        sys.exit(EXIT_REFUSED)


def _plan(settings: Settings) -> tuple[RegionPlan, ...]:
    _own_account(settings)
    try:
        return plan(settings)
    except ApplyError as e:
        _cannot_tell(e)


def _cannot_tell(error: ApplyError | IdentityError) -> NoReturn:
    click.echo(f"kms-alarms: {error}", err=True)
    sys.exit(EXIT_COULD_NOT_TELL)


def _show(plans: tuple[RegionPlan, ...]) -> None:
    for region_plan in plans:
        for topic in region_plan.topics:
            click.echo(f"{region_plan.region}  create  topic {topic}")
        for planned in region_plan.changes:
            change = planned.change
            what = f"change {', '.join(change.differs)}" if change.differs else "create"
            whose = f"  (owned by {planned.owner})" if planned.owner else ""
            click.echo(f"{region_plan.region}  {what}  {change.name}{whose}")
            for name in change.differs:
                click.echo(f"    {name}: {_short(change.present.get(name))} -> {_short(change.wanted[name])}")
        if region_plan.nothing:
            click.echo(f"{region_plan.region}  nothing to do")
