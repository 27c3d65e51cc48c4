"""`kms-watchdog return`: take back every order to avoid a region."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import structlog

from kms_core import SystemClock
from kms_watchdog import evacuation, logs
from kms_watchdog.commands.completing import RegionName
from kms_watchdog.commands.evacuate import found_in, lines, stop, store_of
from kms_watchdog.commands.options import COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.override_store import StoreError

log = structlog.get_logger("evacuation")


@click.command("return", epilog="Example:  kms-watchdog return us-east-1 --config watchdog.toml")
@config_option
@click.argument("region", type=RegionName())
def command(config_path: Path, region: str) -> None:
    """Have REGION asked in its turn again.

    Removes every order to avoid it, whoever gave it; orders to prefer a region stay.

    Exit code 0: no such order is left, or there was none; 1: they could not be removed; 2: usage or configuration; 3:
    nobody answered, or a region's SSM did not, where an order may be left until its time is over.
    """
    settings = load_settings(config_path)
    clock = SystemClock()
    logs.configure(settings.log, clock)
    if region not in settings.estate.regions:
        raise Stop(f"{region} is not one of {', '.join(settings.estate.regions)}")
    store = store_of(settings, config_path)
    now_utc = clock.now_utc()
    removed = [o for o in evacuation.in_force(found_in(store), now_utc) if (o.region, o.kind) == (region, "avoid")]
    try:
        written = store.change(lambda found: evacuation.without(found, region, now_utc))
    except StoreError as e:
        raise stop(e) from e
    log.info(
        "region.returned",
        region=region,
        removed=[order.reason for order in removed],
        written_to=list(written.places),
        failed=list(written.failed) or None,
    )
    for line in lines(removed, now_utc):
        click.echo(f"removed: {line}")
    if not removed:
        click.echo(f"{region} was not evacuated")
    for failure in written.failed:
        click.echo(f"not removed in {failure}; an order there holds until its time is over", err=True)
    sys.exit(COULD_NOT_TELL if written.failed else GOOD)
