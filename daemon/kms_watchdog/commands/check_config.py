"""`kms-watchdog check-config`: is the file good, and what does it ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from kms_core import ConfigurationError, SystemClock
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.roster import Ports, own_canaries
from kms_watchdog.commands.options import Stop, chosen_estate, config_option, load_settings
from kms_watchdog.config import ConfigError, Settings, fingerprint
from kms_watchdog.configuring.document import estate_names, read
from kms_watchdog.installed_series import series_of
from kms_watchdog.sinks.series import samples


@click.command(
    "check-config",
    epilog="""\b
Examples:
  kms-watchdog check-config --config watchdog.toml
  kms-watchdog check-config --estate staging""",
)
@config_option
def command(config_path: Path) -> None:
    """Check the configuration.

    Says what it asks for; asks nobody else. Of several estates it checks the chosen one, or all when none is chosen.

    Exit code 0: good; 2: not, with one line that names file, key and what is expected.
    """
    for estate in _estates(config_path):
        settings = load_settings(config_path, estate)
        try:
            lines = list(_told(settings))
        except (ConfigError, ConfigurationError) as e:
            raise Stop(f"{config_path}: {e}") from e
        where = f"{config_path}{f', estate {estate}' if estate else ''}"
        click.echo(f"{where}: good (fingerprint {fingerprint(settings)})")
        for line in lines:
            click.echo(f"  {line}")


def _estates(config_path: Path) -> tuple[str | None, ...]:
    if chosen := chosen_estate():
        return (chosen,)
    try:
        return estate_names(read(config_path)) or (None,)
    except ConfigError as e:
        raise Stop(str(e)) from e


def _told(settings: Settings) -> Iterator[str]:
    estate = settings.estate
    yield f"estate      {estate.name}, account {estate.account_id}"
    yield f"regions     {', '.join(estate.regions)} (primary {estate.primary_region}, home {settings.home_region})"
    yield f"keys        {', '.join(f'{purpose} = {key.alias}' for purpose, key in settings.keys.items())}"
    if settings.replicas.members:
        others = [member for member in settings.replicas.members if member != settings.replicas.place]
        yield f"place       {settings.replicas.place}, beside {', '.join(others) or 'nobody'}"
    canaries = own_canaries(Ports(settings, SystemClock()))
    yield from _canaries(settings, canaries)
    yield f"prometheus  {samples(series_of(settings, canaries)):,} series, at most {settings.prometheus.max_series:,}"
    publishes = ", ".join(settings.publish_regions) if settings.cloudwatch.enabled else "nowhere"
    yield f"cloudwatch  {settings.cloudwatch.namespace} to {publishes}"
    yield from _drills(settings)
    yield f"state       {settings.state.dir}"
    yield f"http        {settings.http.listen}"


def _canaries(settings: Settings, canaries: Iterable[Canary]) -> Iterator[str]:
    counts = Counter(canary.kind for canary in canaries)
    for i, (kind, count) in enumerate(counts.items()):
        timing = settings.canaries.timing(kind)
        when = f"every {timing.interval_seconds:g} s, deadline {timing.deadline_seconds:g} s"
        yield f"{'' if i else 'canaries':10}  {kind:19}{count:3} {when}"


def _drills(settings: Settings) -> Iterator[str]:
    plans = settings.plans
    if not plans:
        yield "drills      none is scheduled"
    for i, plan in enumerate(plans):
        when = f"day {plan.day} of every {plan.every} at {plan.at:%H:%M} UTC, within {plan.window.days} days"
        yield f"{'' if i else 'drills':10}  {plan.name}: {plan.drill}, {when}"
