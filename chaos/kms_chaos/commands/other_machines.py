"""What a command that counts drills does first: copy what other machines ran, so that it speaks of the whole estate."""

from __future__ import annotations

from datetime import datetime

import click

from kms_chaos.commands.options import UNCLEAR
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.copies import copy_configured
from kms_watchdog.evidence.store import StoreError

offline_option = click.option(
    "--offline",
    is_flag=True,
    help="Do not ask the evidence store for drills of other machines: count those that are here, and copies of before.",
)


def copy_from_store(settings: Settings, since_utc: datetime, clock: Clock, *, offline: bool) -> None:
    """Copy what began since then, unless `offline`, which is said where there is a store.

    A store that cannot be read ends the command: half a score looks like a whole one.

    Raises:
        SystemExit: with 3, and the reason is on stderr.
    """
    if offline:
        if place := settings.drills.evidence.store:
            _say(f"{place} was not asked: drills of other machines are counted as far as they were copied before")
        return
    try:
        copy_configured(settings, clock, since_utc, _say)
    except StoreError as e:
        _say(f"{e}; --offline counts without")
        raise SystemExit(UNCLEAR) from e


def _say(text: str) -> None:
    click.echo(f"kms-chaos: {text}", err=True)
