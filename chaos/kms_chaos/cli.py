"""The commands of `kms-chaos`. Long because it is a CLI."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_chaos import drill, durable, engine, heal, screen
from kms_chaos.drill import DrillError
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.route import RouteError
from kms_chaos.guards import RefusedError
from kms_chaos.halt import on_signals
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.judge import judge as judge_journal
from kms_chaos.run import Run, plan
from kms_core.clock import SystemClock
from kms_core.errors import ConfigurationError
from kms_watchdog import config as configuration
from kms_watchdog.config import ConfigError, Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecordError
from kms_watchdog.drills.verdict import Judgement, Verdict

BAD, USAGE, UNCLEAR, REFUSED = 1, 2, 3, 4
_TONES = {Verdict.HELD: "green", Verdict.BROKE: "red", Verdict.INCONCLUSIVE: "yellow"}
_CONFIG = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("watchdog.toml"),
    envvar="KMS_WATCHDOG_CONFIG",
    show_default=True,
    help="The watchdog's configuration.",
)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong into one line on stderr and the exit code that it deserves."""
    try:
        yield
    except (ConfigError, ConfigurationError, DrillError, RouteError, ToxiproxyError) as e:
        _stop(USAGE, e)
    except (RefusedError, heal.OwnerLivesError, JournalError) as e:
        _stop(REFUSED, e)
    except (UndoRecordError, JournalWriteError, OSError) as e:
        _stop(BAD, e)


def _stop(code: int, error: Exception) -> None:
    click.echo(f"kms-chaos: {' '.join(str(error).split())}", err=True)
    raise SystemExit(code) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kms-watchdog")
def cli() -> None:
    """Run failover drills that are evidence.

    \b
    Examples:
      kms-chaos list
      kms-chaos run region-blackhole --config watchdog.toml
      kms-chaos judge 20261124T031500Z-region-blackhole
      kms-chaos heal

    \b
    Exit codes: 0 HELD or done; 1 BROKE; 2 usage or configuration;
    3 INCONCLUSIVE or interrupted, and restored; 4 refused.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@cli.command("run")
@click.argument("name", metavar="DRILL")
@_CONFIG
@click.option("--region", help="The region to hurt; the drill's own target when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON on stdout; progress goes to stderr.")
def run_command(name: str, config: Path, region: str | None, *, as_json: bool) -> None:
    """Run DRILL, a shipped one by name or a file ending in .toml, to its verdict."""
    with _explained():
        settings, clock = configuration.load(config), SystemClock()
        settings.core_config()
        run = plan(settings, drill.find(name), region=region, clock=clock)
        console = Console(stderr=as_json)
        found: list[Judgement] = []

        def judged(run: Run) -> Judgement:
            found.append(_judge_and_report(run.folder))
            return found[-1]

        with on_signals(run.halt), screen.shown(run, console, clock) as shown:
            engine.conduct(run, judged, shown.on_air)
        _show(found[-1], run.folder, console, as_json=as_json)
        raise SystemExit(found[-1].verdict.exit_code)


def _judge_and_report(where: DrillFolder) -> Judgement:
    judgement = judge_journal(journal.read(where.journal))
    durable.write(where.verdict, _as_json(judgement).encode())
    _write_report(where, judgement)
    return judgement


def _write_report(where: DrillFolder, judgement: Judgement) -> None:
    from kms_chaos.report import render  # noqa: PLC0415 - matplotlib takes a second to import; only reports need it

    durable.write(where.report, render(journal.read(where.journal), judgement).encode())


def _as_json(judgement: Judgement) -> str:
    return json.dumps(judgement.to_json(), indent=2, ensure_ascii=False) + "\n"


def _show(judgement: Judgement, where: DrillFolder, console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(_as_json(judgement), nl=False)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for claim in judgement.claims:
        table.add_row(Text(str(claim.verdict), style=_TONES[claim.verdict]), claim.title, Text(claim.finding, "dim"))
    console.print(table)
    console.print(Text(f"\n{judgement.verdict}", style=f"bold {_TONES[judgement.verdict]}"), Text(judgement.run_id))
    if where.report.exists():
        console.print(f"report: {where.report}", soft_wrap=True, highlight=False)


@cli.command("list")
def list_command() -> None:
    """List the drills that can be run."""
    with _explained():
        for name in drill.shipped_names():
            found = drill.find(name)
            click.echo(f"{name:20} {found.mode:10} {found.title}")


@cli.command("judge")
@click.argument("which", metavar="RUN|DIR")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def judge_command(which: str, config: Path, *, as_json: bool) -> None:
    """Judge a drill again, by its journal alone."""
    with _explained():
        where = _folder(which, lambda: configuration.load(config))
        judgement = judge_journal(_journal(where))
        _show(judgement, where, Console(), as_json=as_json)
        raise SystemExit(judgement.verdict.exit_code)


@cli.command("report")
@click.argument("which", metavar="RUN|DIR")
@_CONFIG
def report_command(which: str, config: Path) -> None:
    """Write a drill's report again, and print its path."""
    with _explained():
        where = _folder(which, lambda: configuration.load(config))
        _write_report(where, judge_journal(_journal(where)))
        click.echo(where.report)


@cli.command("heal")
@click.option("--run", "run_id", help="Only this run; every open one when not given.")
@_CONFIG
def heal_command(run_id: str | None, config: Path) -> None:
    """Undo what a dead drill left behind, and finish its journal. Harmless when there is nothing to do."""
    with _explained():
        settings = configuration.load(config)
        found = [_run_folder(settings, run_id)] if run_id else list(heal.open_runs(settings.state.dir))
        if not found:
            click.echo("nothing to heal")
        failed = [where.run_id for where in found if not _healed(where)]
        raise SystemExit(BAD if failed else 0)


def _healed(where: DrillFolder) -> bool:
    try:
        done = heal.heal(where, SystemClock())
    except (ToxiproxyError, JournalError, UndoRecordError) as e:
        click.echo(f"kms-chaos: {where.run_id}: {' '.join(str(e).split())}", err=True)
        return False
    torn = "; a torn line was ended" if done.torn_line else ""
    click.echo(f"{done.run_id}: {done.reason}: {done.finding}{torn}")
    return True


def _journal(where: DrillFolder) -> journal.Journal:
    if not where.journal.is_file():
        raise DrillError(f"{where.path}: no journal is there")
    return journal.read(where.journal)


def _folder(which: str, settings: Callable[[], Settings]) -> DrillFolder:
    """Return the folder of a run: by its path, or by its id in the configured state folder."""
    path = Path(which)
    if path.is_dir():
        return DrillFolder(path.resolve())
    return _run_folder(settings(), which)


def _run_folder(settings: Settings, run_id: str) -> DrillFolder:
    try:
        where = folders.folder(settings.state.dir, run_id)
    except ValueError as e:
        raise DrillError(str(e)) from e
    if not where.path.is_dir():
        raise DrillError(f"no drill {run_id} in {folders.drills_dir(settings.state.dir)}")
    return where
