"""`kms-local roles`: hands a running server the roles of a file; a thin client of its admin API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO

import click

from kms_local.admin_client import AdminError, ask

_EXIT_BAD_FOUND = 1
_EXIT_USAGE = 2


@click.command(
    "roles",
    epilog="""\b
Examples:
  kms-watchdog provision policies | kms-local roles --dir aws
  kms-local roles --dir aws roles.json
""",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The directory of the running server.",
)
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
def command(directory: Path, file: IO[str]) -> None:
    """Let a running server have the roles of FILE, or of standard input, instead of those it had.

    They are in the form of `aws iam get-account-authorization-details`, which `kms-watchdog provision policies` prints.
    """
    try:
        document = json.load(file)
    except ValueError as e:
        click.echo(f"kms-local roles: {file.name}: not JSON: {e}", err=True)
        sys.exit(_EXIT_USAGE)
    try:
        answer = ask(directory, "PUT", "/iam", document)
    except AdminError as e:
        click.echo(f"kms-local roles: {e}", err=True)
        sys.exit(_EXIT_BAD_FOUND if e.status else _EXIT_USAGE)
    for name in answer["roles"]:
        click.echo(name)
