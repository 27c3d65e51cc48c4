"""`healthcheck` for the group's list; `__main__` routes it past all of this."""

from __future__ import annotations

import sys

import click

from kms_watchdog import healthcheck


@click.command(
    "healthcheck",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Ask a running watchdog whether it lives."""
    sys.exit(healthcheck.main(arguments))
