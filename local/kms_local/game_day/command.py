"""The command: its flags, its steps in order, its exit code, and the promise that nothing is left running."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from kms_core.clock import SystemClock
from kms_local.demo.canaries import wait_until_green
from kms_local.demo.command import EXIT_INTERRUPTED, EXIT_USAGE, Stopped, signals
from kms_local.demo.configuration import DemoFolder
from kms_local.demo.parent import end_with_parent
from kms_local.demo.stage import StageError
from kms_local.game_day.day import Day, Way
from kms_local.game_day.judging import AFTER, Step, Verdict, verdict
from kms_local.game_day.report import broken, write
from kms_local.game_day.stage import GameStage

SCALE = 1 / 6
"""CloudWatch publishes each 10 s here, in production each 60 s; the other system's times are shortened alike."""
_NEEDED = ("examples/parker_flight_api", "alarms/runbooks", "alarms/prometheus/alertmanager.example.yml")
_MARKS = {Verdict.HELD: "[green]✓[/]", Verdict.LATE: "[red]✗ late[/]", Verdict.NOT_RUN: "[dim]-[/]"}
_EPILOG = """\b
Example:
  kms-local game-day --region eu-west-1
"""


@click.command("game-day", epilog=_EPILOG)
@click.option("--region", default="us-east-1", show_default=True, help="Which region is lost.")
@click.option(
    "--rate",
    type=click.FloatRange(1, 100),
    default=10.0,
    show_default=True,
    help="Requests a second to the application; each asks KMS three times.",
)
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".state/game-day"),
    show_default=True,
    help="Where each run gets a folder of its own; reports and logs stay there.",
)
@click.option(
    "--source",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="this directory",
    help="A checkout of kms-watchdog: the example application and the runbooks are in it.",
)
@click.option("--stop-with-parent", is_flag=True, help="End when the process that started this one ends.")
def command(*, region: str, rate: float, parent: Path, source: Path, stop_with_parent: bool) -> None:
    """Lose a region under the example application's load, follow the runbook, and hold each step to its promise.

    Exit code 0: every step held; 1: one was late, missing or bad; 2: usage, or something does not start; 3:
    interrupted, and the region given back.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    with signals():
        if stop_with_parent:
            end_with_parent()
        try:
            sys.exit(_run(console, parent, source.resolve(), region=region, rate=rate))
        except Stopped:
            console.print("Interrupted: the region is given back, and everything is stopped.")
            sys.exit(EXIT_INTERRUPTED)
        except StageError as e:
            click.echo(f"kms-local game-day: {e}", err=True)
            sys.exit(EXIT_USAGE)


def _run(console: Console, parent: Path, source: Path, *, region: str, rate: float) -> int:
    if missing := [name for name in _NEEDED if not (source / name).exists()]:
        raise StageError(f"{source} is no checkout of kms-watchdog: it has no {missing[0]} (see --source)")
    clock = SystemClock()
    folder = DemoFolder.create(parent, clock.now_utc())
    with GameStage(folder, clock, source=source, region=region) as stage:
        pager_url, daemon_url = _start(console, stage, folder)
        wait_until_green(console, daemon_url, clock, stage.daemon_is_alive)
        day = Day(
            stage,
            folder,
            clock,
            Way(rate=rate, scale=SCALE),
            lambda text: _say(console, text),
            lambda s: _tell(console, s),
        )
        day.play(daemon_url, pager_url)
        steps = day.steps()
        reports = write(folder.path, day.record(), steps, day.plan())
    for step in steps:
        if not step.since:
            _tell(console, step)
    answer = verdict(steps)
    bad = [step for step in steps if not step.good]
    console.print(f"\n[bold {'green' if answer is Verdict.HELD else 'red'}]{answer}[/]: {escape(_says(steps, bad))}")
    console.print(f"report: {reports.html}\n        {reports.markdown}\n        {reports.json}")
    return 0 if answer is Verdict.HELD else 1


def _start(console: Console, stage: GameStage, folder: DemoFolder) -> tuple[str, str]:
    """Start what is watched and who watches; return where the pager and the daemon listen."""
    _say(console, f"a local AWS in three regions; the way to {stage.region} goes through Toxiproxy")
    stage.start_aws()
    _say(console, "keys, replicas, aliases, roles; alarms, and who listens to them")
    stage.command("kms_watchdog", "provision", "apply", "--yes", "--steps", "keys,aliases,rotation")
    stage.hand_over_roles()
    stage.command("kms_alarms", "apply", "--yes")
    pager_url = stage.start_pager()
    stage.command("kms_alarms", "subscribe", pager_url)
    stage.command("kms_alarms", "render", "--into", str(folder.alarms))
    _say(console, "the watchdog")
    return pager_url, stage.start_daemon()


def _say(console: Console, text: str) -> None:
    console.print(text if text.startswith(" ") else f"[bold cyan]»[/] {text}", markup=not text.startswith(" "))


def _tell(console: Console, step: Step) -> None:
    mark = _MARKS.get(step.verdict, f"[red]✗ {step.verdict.lower()}[/]")
    after = f" {AFTER[step.since]}" if step.since else ""
    console.print(f"  {mark} {step.measured:>8}{after}  {escape(step.title)}  [dim]{step.promised}[/]")


def _says(steps: tuple[Step, ...], bad: list[Step]) -> str:
    if not bad:
        left_out = sum(step.verdict is Verdict.NOT_RUN for step in steps)
        return f"all {len(steps) - left_out} steps held{f'; {left_out} could not be run' if left_out else ''}"
    return f"{len(bad)} of {len(steps)} steps did not hold: {'; '.join(broken(steps))}"
