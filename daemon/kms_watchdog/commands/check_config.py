"""`kms-watchdog check-config`: is the file good, and what does it ask for."""

from __future__ import annotations

from pathlib import Path

import click

from kms_watchdog.commands.options import config_option, load_settings
from kms_watchdog.config import fingerprint


@click.command("check-config", epilog="Example:  kms-watchdog check-config --config watchdog.toml")
@config_option
def command(config_path: Path) -> None:
    """Check the configuration.

    Says what it asks for; asks nobody else.

    Exit code 0: good; 2: not, with one line that names file, key and what is expected.
    """
    settings = load_settings(config_path)
    estate = settings.estate
    click.echo(f"{config_path}: good (fingerprint {fingerprint(config_path)})")
    click.echo(f"  estate      {estate.name}, account {estate.account_id}")
    click.echo(
        f"  regions     {', '.join(estate.regions)} (primary {estate.primary_region}, home {settings.home_region})"
    )
    click.echo(f"  keys        {', '.join(f'{purpose} = {key.alias}' for purpose, key in settings.keys.items())}")
    click.echo(
        f"  canaries    {len(settings.keys) * len(estate.regions)} round trips every "
        f"{settings.canaries.interval_seconds:g} s, deadline {settings.canaries.deadline_seconds:g} s"
    )
    publishes = ", ".join(settings.publish_regions) if settings.cloudwatch.enabled else "nowhere"
    click.echo(f"  cloudwatch  {settings.cloudwatch.namespace} to {publishes}")
    click.echo(f"  state       {settings.state.dir}")
    click.echo(f"  http        {settings.http.listen}")
