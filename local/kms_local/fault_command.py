"""`kms-local fault`: switches faults of a running server on and off; a thin client of its admin API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from kms_local.admin_client import AdminError, ask

_EXIT_USAGE = 2
_EPILOG = """\b
Examples:
  kms-local fault add --dir /tmp/aws --region us-east-1 --operation Decrypt --error-code ThrottlingException
  kms-local fault add --dir /tmp/aws --service kms --per-second 20 --seconds 60
  kms-local fault add --dir /tmp/aws --region eu-west-1 --key-id alias/general --key-state Disabled
  kms-local fault add --dir /tmp/aws --operation GenerateDataKey --truncate-at 40 --times 1
  kms-local fault list --dir /tmp/aws
  kms-local fault clear --dir /tmp/aws
"""

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The directory of the running server.",
)


@click.group("fault", epilog=_EPILOG)
def command() -> None:
    """Switch faults of a running server's API on and off."""


@command.command("add")
@_directory
@click.option("--service", help="kms, cloudwatch, sns or sts.  [default: any]")
@click.option("--region", help="Where.  [default: anywhere]")
@click.option("--operation", help="Such as Decrypt.  [default: any]")
@click.option("--key-id", help="A key's id or ARN, or an alias.  [default: any]")
@click.option("--rate", type=float, help="The share of requests that is hit, 0 to 1.")
@click.option("--per-second", type=float, help="Hit only what exceeds so many requests a second.")
@click.option("--times", type=int, help="End after so many hits.")
@click.option("--seconds", type=float, help="End after so long.")
@click.option("--error-code", help="The error to answer with.")
@click.option("--status", type=int, help="Its HTTP status.  [default: the code's own]")
@click.option("--latency-ms", type=int, help="Answer so much later.")
@click.option("--jitter-ms", type=int, help="Earlier or later than that by so much at most.")
@click.option("--truncate-at", type=int, help="Cut the answer after so many bytes of its body.")
@click.option("--truncate-head", is_flag=True, default=None, help="Count them from the status line on, no body.")
@click.option("--truncate-with", type=click.Choice(["fin", "rst"]), help="How the connection ends.  [default: fin]")
@click.option("--key-state", help="The state that keys seem to be in, such as Disabled.")
def add(directory: Path, **members: Any) -> None:
    """Switch a fault on, and print its number."""
    given = {name: value for name, value in members.items() if value is not None}
    click.echo(_told(directory, "POST", "/faults", given)["id"])


@command.command("list")
@_directory
def list_faults(directory: Path) -> None:
    """Print the faults that are on, a line of JSON each."""
    for fault in _told(directory, "GET", "/faults")["faults"]:
        click.echo(json.dumps(fault))


@command.command("clear")
@_directory
@click.argument("numbers", type=int, nargs=-1)
def clear(directory: Path, numbers: tuple[int, ...]) -> None:
    """Switch off the faults with these NUMBERS, all if none are given."""
    for path in [f"/faults/{number}" for number in numbers] or ["/faults"]:
        _told(directory, "DELETE", path)


def _told(directory: Path, method: str, path: str, body: object = None) -> Any:
    try:
        return ask(directory, method, path, body)
    except AdminError as e:
        click.echo(f"kms-local fault: {e}", err=True)
        sys.exit(_EXIT_USAGE)
