"""The command `kms-dashboards`: write the dashboards, or say whether the written ones are current."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kms_dashboards.rendering import BUILDERS, render

EXIT_BAD_FOUND = 1
_FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("dashboards/grafana"))
_EPILOG = """\b
Examples:
  kms-dashboards list
  kms-dashboards render dashboards/grafana
  kms-dashboards check dashboards/grafana
"""


@click.group(epilog=_EPILOG)
def cli() -> None:
    """Grafana dashboards as code. Exit codes: 0 good, 1 a file differs, 2 usage."""


@cli.command("list")
def list_() -> None:
    """Name the dashboards."""
    for name in sorted(BUILDERS):
        click.echo(name)


@cli.command("render")
@_FOLDER
def render_(folder: Path) -> None:
    """Write every dashboard into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(BUILDERS):
        (folder / name).write_text(render(name), encoding="utf-8")
        click.echo(str(folder / name))


@cli.command()
@_FOLDER
def check(folder: Path) -> None:
    """Say which files in FOLDER are not what the code makes."""
    stale = [name for name in sorted(BUILDERS) if not _is_current(folder / name, render(name))]
    stray = sorted(path.name for path in folder.glob("*.json") if path.name not in BUILDERS)
    for name in (*stale, *stray):
        click.echo(f"{folder / name}: {'stale: run kms-dashboards render' if name in stale else 'no code makes it'}")
    sys.exit(EXIT_BAD_FOUND if stale or stray else 0)


def _is_current(path: Path, wanted: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == wanted
