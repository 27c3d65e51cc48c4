"""`kms-chaos approve`: give leave for a drill that somebody else starts."""

from __future__ import annotations

from pathlib import Path

import click

from kms_chaos import approving, drill
from kms_chaos.commands.options import config_option, explained, load
from kms_chaos.guards import RefusedError
from kms_chaos.run import plan
from kms_core.clock import SystemClock
from kms_watchdog.drills import approval as approvals
from kms_watchdog.identity import IdentityError, caller


@click.command("approve")
@click.argument("name", metavar="DRILL|FILE")
@config_option
@click.option("--region", help="The region to hurt; the drill's own target when not given.")
@click.option("--reason", required=True, help="Why it may run.")
@click.option("--hours", type=click.FloatRange(0.25, 7 * 24), default=24.0, show_default=True, help="For how long.")
@click.option(
    "--purpose", "purposes", multiple=True, help="A key to use, again for several; the drill's own when not given."
)
def command(name: str, config: Path, region: str | None, reason: str, hours: float, purposes: tuple[str, ...]) -> None:
    """Approve DRILL as it is written now, on these regions, for some hours, as whom AWS takes you for.

    \b
    Examples:
      kms-chaos approve region-blackhole --region us-east-1 --reason "monthly drill, CHG-1234"
      kms-chaos run region-blackhole --region us-east-1 --reason "CHG-1234" --approval latest
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    words = " ".join(reason.split())
    if not words:
        raise click.BadParameter("say why", param_hint="--reason")
    with explained():
        settings = load(config)
        found = drill.find(name, settings.drills.folder)
        run = plan(settings, found, region=region, clock=SystemClock(), purposes=purposes)
        try:
            who = caller(settings)
        except IdentityError as e:
            raise RefusedError(str(e)) from e
        path = approving.approve(run, who, reason=words, for_hours=hours)
        granted = approvals.read(path)
        click.echo(
            f"{granted.approved_by} approves {granted.drill} on {', '.join(granted.regions)} "
            f"until {granted.until_utc:%Y-%m-%d %H:%M} UTC\n{path}"
        )
