"""`kms-chaos evidence`: what becomes of a drill's files once it is over."""

from __future__ import annotations

from pathlib import Path

import click

from kms_chaos import drill
from kms_chaos.archive import NothingThereError, Period, build
from kms_chaos.commands.options import BAD, UNCLEAR, config_option, explained, load
from kms_chaos.commands.other_machines import copy_from_store, offline_option
from kms_chaos.score import TREND, WINDOW, declared
from kms_core.clock import SystemClock


class _Period(click.ParamType[Period]):
    """A year, a quarter or a month."""

    name = "period"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Period:
        """Return the period that was typed."""
        if isinstance(value, Period):
            return value
        try:
            return Period.parse(str(value))
        except ValueError as e:
            self.fail(str(e), param, ctx)


_OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The archive.  [default: kms-evidence-PERIOD.zip]",
)
_PERIOD_HELP = "Which runs, by when they began (UTC): 2026, 2026-Q1 or 2026-03."


@click.group("evidence", invoke_without_command=True)
@config_option
@click.option("--period", type=_Period(), help=f"Short for `archive --period`. {_PERIOD_HELP}")
@_OUTPUT
@offline_option
@click.pass_context
def command(context: click.Context, config: Path, period: Period | None, output: Path | None, *, offline: bool) -> None:
    """Keep, sign and hand over the evidence of drills.

    \b
    Examples:
      kms-chaos evidence --period 2026
      kms-chaos evidence archive --period 2026-Q1 --output quarter.zip
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    if context.invoked_subcommand is not None:
        if period is not None or output is not None or offline:
            raise click.UsageError(f"--period, --output and --offline belong behind {context.invoked_subcommand!r}")
        return
    if period is None:
        raise click.UsageError("which period? `kms-chaos evidence --period 2026`, or a command: see --help")
    _archive(config, period, output, offline=offline)


@command.command("archive")
@config_option
@click.option("--period", type=_Period(), required=True, help=_PERIOD_HELP)
@_OUTPUT
@offline_option
def archive_command(config: Path, period: Period, output: Path | None, *, offline: bool) -> None:
    """Write one archive for auditors: journals, verdicts, reports, score, controls, and the hash of every file.

    Drills of other machines are in it too, where all keep their evidence in one store ([drills.evidence] store).
    Every journal is judged again. A run that cannot be believed is put in as it was found, and marked.

    \b
    Exit code 0: made; 1: made, and a run in it cannot be believed; 3: no drill began in that period, or the store
    cannot be read, so none was made; 2: usage or configuration.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    _archive(config, period, output, offline=offline)


def _archive(config: Path, period: Period, output: Path | None, *, offline: bool) -> None:
    into = output or Path(f"kms-evidence-{period.name}.zip")
    with explained():
        settings, clock = load(config), SystemClock()
        now_utc = clock.now_utc()
        since_utc = min(period.since, period.as_of(now_utc) - TREND - WINDOW)
        copy_from_store(settings, since_utc, clock, offline=offline)
        wanted = declared(
            drill.every(settings.drills.folder), regions=settings.estate.regions, purposes=tuple(settings.keys)
        )
        try:
            made = build(into, settings.state.dir, period, wanted, now_utc=now_utc)
        except NothingThereError as e:
            click.echo(f"kms-chaos: {e}", err=True)
            raise SystemExit(UNCLEAR) from e
    for entry in made.doubtful:
        click.echo(f"kms-chaos: {entry.run_id}: {entry.doubt}", err=True)
    click.echo(f"{into}: {len(made.entries)} runs, SHA-256 {made.sha256}")
    raise SystemExit(BAD if made.doubtful else 0)
