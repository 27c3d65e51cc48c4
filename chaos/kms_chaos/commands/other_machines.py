"""What a command that counts drills does first: copy what other machines ran, so that it speaks of the whole estate."""

from __future__ import annotations

from datetime import datetime

import click

from kms_chaos.commands.options import UNCLEAR
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.copies import copy_new
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import StoreError

offline_option = click.option(
    "--offline",
    is_flag=True,
    help="Do not ask the evidence store for drills of other machines: count those that are here, and copies of before.",
)


def copy_from_store(settings: Settings, since_utc: datetime, clock: Clock) -> None:
    """Copy what began since then. A store that cannot be read ends the command: half a score looks like a whole one.

    Raises:
        SystemExit: with 3, and the reason is on stderr.
    """
    try:
        store = open_store(settings, clock)
        if store is not None:
            copy_new(settings, store, since_utc, say=lambda text: click.echo(f"kms-chaos: {text}", err=True))
    except StoreError as e:
        click.echo(f"kms-chaos: {e}; --offline counts without", err=True)
        raise SystemExit(UNCLEAR) from e
