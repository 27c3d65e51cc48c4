"""The command `kms-dashboards`: write the dashboards, or say whether the written ones are current."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from kms_dashboards import cloudwatch
from kms_dashboards.cloudwatch_check import Known, findings
from kms_watchdog.commands.options import chosen_estate, estate_option
from kms_watchdog.config import ConfigError, Settings, load

FORMATS = ("grafana", "cloudwatch")
EXIT_BAD_FOUND, EXIT_USAGE = 1, 2
F = TypeVar("F", bound=Callable[..., Any])
_EPILOG = """\b
Examples:
  kms-dashboards list
  kms-dashboards render dashboards/grafana
  kms-dashboards check dashboards/grafana
  kms-dashboards render --format cloudwatch --config watchdog.toml dashboards/cloudwatch
  kms-dashboards check --format cloudwatch --config watchdog.toml dashboards/cloudwatch
"""


class _Commands(click.Group):
    """A group whose commands tell in one line what is wrong with the configuration."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            click.echo(f"kms-dashboards: {' '.join(str(e).split())}", err=True)
            sys.exit(EXIT_USAGE)


def _options(function: F) -> F:
    folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
    form = click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="grafana",
        show_default=True,
        help="Grafana's dashboards, the same for everybody; or bodies of PutDashboard, one for each region that gets "
        "metrics, named after it.",
    )
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        default=Path("watchdog.toml"),
        envvar="KMS_WATCHDOG_CONFIG",
        show_default=True,
        help="The configuration, for CloudWatch's alone.",
    )
    return folder(form(estate_option(config(function))))


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Dashboards as code, for Grafana and for CloudWatch.

    Exit codes: 0 good, 1 a file differs or shows nothing, 2 usage or configuration.
    """


@cli.command("list")
def list_() -> None:
    """Name Grafana's dashboards."""
    for name in _of_grafana():
        click.echo(name)


@cli.command("render")
@_options
def render_(folder: Path | None, form: str, config: Path) -> None:
    """Write every dashboard into FOLDER: dashboards/grafana or dashboards/cloudwatch, unless another is named."""
    folder = folder or Path("dashboards") / form
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _rendered(form, config).items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(str(folder / name))


@cli.command()
@_options
def check(folder: Path | None, form: str, config: Path) -> None:
    """Say which files in FOLDER are not what the code makes, and what of CloudWatch's would show nothing."""
    folder = folder or Path("dashboards") / form
    rendered = _rendered(form, config)
    stale = [name for name, text in rendered.items() if not _is_current(folder / name, text)]
    stray = sorted(path.name for path in folder.glob("*.json") if path.name not in rendered)
    for name in (*stale, *stray):
        click.echo(f"{folder / name}: {'stale: run kms-dashboards render' if name in stale else 'no code makes it'}")
    wrong = _findings(load(config, chosen_estate()), folder) if form == "cloudwatch" else []
    for line in wrong:
        click.echo(line)
    sys.exit(EXIT_BAD_FOUND if stale or stray or wrong else 0)


def _rendered(form: str, config: Path) -> Mapping[str, str]:
    if form == "grafana":
        return _of_grafana()
    settings = load(config, chosen_estate())
    return {f"{region}.json": cloudwatch.render(settings, region=region) for region in sorted(settings.publish_regions)}


def _of_grafana() -> Mapping[str, str]:
    # Grafana's SDK is for development; CloudWatch's dashboards need the configuration alone.
    from kms_dashboards.rendering import BUILDERS, render  # noqa: PLC0415 - as said above

    return {name: render(name) for name in sorted(BUILDERS)}


def _findings(settings: Settings, folder: Path) -> list[str]:
    """Return what is wrong with the bodies that are there, whoever wrote them."""
    found = []
    for region in sorted(settings.publish_regions):
        path = folder / f"{region}.json"
        if path.is_file():
            try:
                body = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as e:
                found.append(f"{path}: {e}")
                continue
            found += [f"{path}: {line}" for line in findings(body, Known.of(settings, region))]
    return found


def _is_current(path: Path, wanted: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == wanted
