"""`kms-local configuration`: an ordinary `watchdog.toml` that leads to a running server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from kms_local.demo.configuration import local_configuration
from kms_local.endpoints import FILE_NAME

_EXIT_USAGE = 2


@click.command(
    "configuration",
    epilog="""\b
Example:
  kms-local configuration --dir aws > watchdog.toml
""",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The directory of the running server.",
)
def command(directory: Path) -> None:
    """Print a `watchdog.toml` for a running server.

    Three keys, canaries every 5 s, status page on 127.0.0.1:9464; state and alarms in folders beside the file.
    """
    try:
        endpoints = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        click.echo(f"kms-local configuration: no server runs in {directory}: there is no {FILE_NAME}", err=True)
        sys.exit(_EXIT_USAGE)
    click.echo(local_configuration(endpoints, state="state", alarms="alarms", listen="127.0.0.1:9464"), nl=False)
