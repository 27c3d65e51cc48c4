"""`kms-watchdog evacuate`: leave a region for a time, by an order that application and daemon read."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import click
import structlog

from kms_core import SystemClock
from kms_core.overrides import RegionOverride
from kms_watchdog import durations, evacuation, logs
from kms_watchdog.commands.completing import RegionName
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, REFUSED, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.override_store import OverrideStore, StoreError, override_store

log = structlog.get_logger("evacuation")


class Span(click.ParamType[timedelta]):
    """A time such as 30m."""

    name = "time"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span."""
        if isinstance(value, timedelta):
            return value
        try:
            return durations.parse(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


@click.command(
    "evacuate",
    epilog="""\b
Examples:
  kms-watchdog evacuate us-east-1 --for 30m --reason "INC-7: KMS errors"
  kms-watchdog evacuate us-east-1 --for 2h --reason INC-7 --yes
  kms-watchdog evacuate --list""",
)
@config_option
@click.argument("region", type=RegionName(), required=False)
@click.option("--for", "lasts", type=Span(), help="How long: 30m, 2h, 1h30m; at most 24h.")
@click.option("--reason", help="Why; whoever reads the order sees it.")
@click.option("--by", help="Who says so; default: the user who runs this.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "only_list", is_flag=True, help="Show the orders that are in force; change nothing.")
def command(
    config_path: Path,
    region: str | None,
    lasts: timedelta | None,
    reason: str | None,
    by: str | None,
    *,
    yes: bool,
    only_list: bool,
) -> None:
    """Have REGION asked last, for a time.

    Writes an order where the application and the daemon read theirs (`[overrides]`); they follow it at their next
    reading, some 15 seconds, and forget it when its time is over. Orders of others stay. Asked last is not closed: when
    no other region answers, this one is asked still.

    Exit code 0: written, in one region's SSM at least; 1: it could not be written; 2: usage or configuration; 3: nobody
    answered; 4: refused, since no other region would be left, or it was not confirmed.
    """
    settings = load_settings(config_path)
    clock = SystemClock()
    logs.configure(settings.log, clock)
    store = store_of(settings, config_path)
    now_utc = clock.now_utc()
    if only_list:
        click.echo("\n".join(lines(found_in(store), now_utc)) or "no order is in force")
        return
    if region is None or lasts is None or reason is None:
        raise click.UsageError("a REGION, --for and --reason are needed, or --list")
    try:
        new = evacuation.order(region, lasts=lasts, reason=reason, by=by or user(), now_utc=now_utc)
    except ValueError as e:
        raise Stop(str(e)) from e
    evacuate(settings, store, new, now_utc, yes=yes)


def evacuate(settings: Settings, store: OverrideStore, new: RegionOverride, now_utc: datetime, *, yes: bool) -> None:
    """Write the order `new`, once nothing speaks against it.

    Raises:
        Stop: it is refused, or could be written nowhere.
    """
    regions = settings.estate.regions
    if new.region not in regions:
        raise Stop(f"{new.region} is not one of {', '.join(regions)}")

    def change(found: Sequence[RegionOverride]) -> Sequence[RegionOverride]:
        evacuation.refuse_last(found, new.region, regions, now_utc)
        return evacuation.with_order(found, new, now_utc)

    try:
        evacuation.refuse_last(store.read(), new.region, regions, now_utc)
        if not yes:
            confirm(new.region)
        written = store.change(change)
    except evacuation.LastRegionError as e:
        raise Stop(f"refused: {e}", REFUSED) from e
    except StoreError as e:
        raise stop(e) from e
    log.warning(
        "region.evacuated",
        region=new.region,
        until_utc=new.until_utc.isoformat(),
        reason=new.reason,
        written_to=list(written.places),
        failed=list(written.failed) or None,
    )
    click.echo(f"{new.region} is asked last until {new.until_utc:%Y-%m-%dT%H:%M:%SZ}: {new.reason}")
    for failure in written.failed:
        click.echo(f"not written to {failure}; one region that has the order is enough", err=True)


def store_of(settings: Settings, config_path: Path) -> OverrideStore:
    """Return where orders are written.

    Raises:
        Stop: nobody has said where; exit code 2.
    """
    store = override_store(settings)
    if store is None:
        raise Stop(f"{config_path}: overrides.file or overrides.ssm_parameter is needed, the one the application reads")
    return store


def found_in(store: OverrideStore) -> Sequence[RegionOverride]:
    """Return what is written.

    Raises:
        Stop: it cannot be read.
    """
    try:
        return store.read()
    except StoreError as e:
        raise stop(e) from e


def lines(found: Sequence[RegionOverride], now_utc: datetime) -> list[str]:
    """Return a line for each order in force."""
    return [
        f"{o.kind} {o.region} until {o.until_utc:%Y-%m-%dT%H:%M:%SZ} "
        f"({durations.spoken(o.until_utc - now_utc)} left): {o.reason}"
        for o in evacuation.in_force(found, now_utc)
    ]


def user() -> str:
    """Return who runs this; a container may know no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def confirm(region: str) -> None:
    """Ask for the region's name.

    Raises:
        Stop: nobody can be asked, or it was not given; exit code 4.
    """
    if not sys.stdin.isatty():
        raise Stop("refused: not a terminal, so nobody can confirm; --yes goes without asking", REFUSED)
    if click.prompt(f"Type the name of the region ({region}) to have it asked last", default="") != region:
        raise Stop("refused: not confirmed; nothing was changed", REFUSED)


def stop(error: StoreError) -> Stop:
    """Return how the command ends."""
    return Stop(str(error), COULD_NOT_TELL if error.unreachable else BAD_FOUND)
