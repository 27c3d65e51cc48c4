"""The commands of `kms-chaos`. Long because it is a CLI."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import click
import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_chaos import drill, durable, engine, heal, notify, screen, tenure
from kms_chaos.commands import approve, catalogue, evidence, evidence_store, report, score, train, verify
from kms_chaos.commands.drills import check_command, list_command, plan_command
from kms_chaos.commands.halt import halt_command, resume_command
from kms_chaos.commands.options import BAD, config_option, explained, folder_of, journal_of, load, printer, run_folder
from kms_chaos.drill import DrillError
from kms_chaos.evidence import late
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.halt import on_signals
from kms_chaos.judge import judge as judge_journal
from kms_chaos.lease import LeaseUnreachableError
from kms_chaos.lease_choice import lease_of
from kms_chaos.run import Run, plan
from kms_core.clock import SystemClock
from kms_watchdog.config import Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecordError
from kms_watchdog.drills.verdict import Judgement, Verdict
from kms_watchdog.sinks import push

_TONES = {Verdict.HELD: "green", Verdict.BROKE: "red", Verdict.INCONCLUSIVE: "yellow"}


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
@config_option
@click.option("--region", help="The region to hurt; the drill's own target when not given.")
@click.option(
    "--slot", default="", help="The scheduled slot that this run fills, or NAME@TIME: the turn of NAME due then."
)
@click.option(
    "--purpose", "purposes", multiple=True, help="A key to use, again for several; the drill's own when not given."
)
@click.option("--arm", "armed", is_flag=True, help="Allow a drill that hurts two regions or more.")
@click.option("--reason", default="", help="Why now; a drill in production needs one.")
@click.option("--approval", default="", help="Somebody else's leave (`kms-chaos approve`): a file, or latest.")
@click.option("--run-id", help="The run's name; its start time and the drill's name when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON on stdout; progress goes to stderr.")
def run_command(
    name: str,
    config: Path,
    region: str | None,
    slot: str,
    purposes: tuple[str, ...],
    reason: str,
    approval: str,
    run_id: str | None,
    *,
    armed: bool,
    as_json: bool,
) -> None:
    """Run DRILL, a shipped one by name or a file ending in .toml, to its verdict."""
    with explained():
        settings, clock = load(config), SystemClock()
        settings.core_config()
        if run_id and not folders.RUN_ID.fullmatch(run_id):
            raise DrillError(f"--run-id is 1 to 80 of letters, digits, '_', '.', '-', not {run_id!r}")
        wanted = drill.find(name, settings.drills.folder)
        run = plan(settings, wanted, region=region, clock=clock, run_id=run_id, slot=slot, purposes=purposes)
        console = printer(stderr=as_json)
        run = replace(
            run, armed=armed, reason=" ".join(reason.split()), approval=approval,
            say=lambda line: console.print(line, style="dim", highlight=False),
        )  # fmt: skip
        found: list[Judgement] = []

        def judged(run: Run) -> Judgement:
            found.append(_judge_and_report(run.folder))
            return found[-1]

        with on_signals(run.halt), screen.shown(run, console, clock) as shown:
            engine.conduct(run, judged, shown.on_air)
        _show(found[-1], run.folder, console, as_json=as_json)
        push.leave_drill(run.folder, settings)
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


@cli.command("judge")
@click.argument("which", metavar="RUN|DIR")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def judge_command(which: str, config: Path, *, as_json: bool) -> None:
    """Judge a drill again, by its journal alone."""
    with explained():
        where = folder_of(which, lambda: load(config))
        judgement = judge_journal(journal_of(where))
        _show(judgement, where, printer(), as_json=as_json)
        raise SystemExit(judgement.verdict.exit_code)


@cli.command("heal")
@click.option("--run", "run_id", help="Only this run; every open one when not given.")
@config_option
def heal_command(run_id: str | None, config: Path) -> None:
    """Undo what a dead drill left behind, finish its journal, seal and send it. Harmless when there is nothing to do.

    \b
    Exit codes: 0 all is undone; 1 something is not, try again; 2 usage; 4 the drill lives.
    Evidence that could not be signed or sent is told, and changes no exit code.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        settings = load(config)
        found = [run_folder(settings, run_id)] if run_id else list(heal.open_runs(settings.state.dir))
        if not found:
            click.echo("nothing to heal")
        failed = [where.run_id for where in found if not _healed(settings, where) or not _settled(settings, where)]
        _keep_evidence(settings, run_id)
        raise SystemExit(BAD if failed else 0)


def _healed(settings: Settings, where: DrillFolder) -> bool:
    try:
        done = heal.heal(where, SystemClock(), toxiproxy_url=settings.drills.toxiproxy_url)
    except (ToxiproxyError, JournalError, UndoRecordError) as e:
        click.echo(f"kms-chaos: {where.run_id}: {' '.join(str(e).split())}", err=True)
        return False
    torn = "; a torn line was ended" if done.torn_line else ""
    click.echo(f"{done.run_id}: {done.reason}: {done.finding}{torn}")
    if done.reason == "owner_dead":
        notify.tell_healed(settings, where, SystemClock())
    return True


def _settled(settings: Settings, where: DrillFolder) -> bool:
    """Tell the drill lease that the run is undone, so that the next drill need not wait; return whether it knows."""
    try:
        tenure.settle_dead(lease_of(settings, SystemClock(), run_id=where.run_id), where)
    except LeaseUnreachableError as e:
        click.echo(f"kms-chaos: {where.run_id}: undone, but the drill lease does not know: {e}", err=True)
        return False
    return True


def _keep_evidence(settings: Settings, run_id: str | None) -> None:
    """Seal and send the evidence of runs that were killed; the fault is gone whether that works or not."""
    for kept in late.keep(settings, SystemClock(), run_id):
        if kept.error:
            click.echo(f"kms-chaos: {kept.run_id}: evidence {' '.join(kept.error.split())}; heal again later", err=True)
        else:
            click.echo(f"{kept.run_id}: evidence sealed{f', all of it in {kept.place}' if kept.place else ''}")


cli.add_command(report.command)
cli.add_command(score.command)
cli.add_command(verify.command)
cli.add_command(evidence.command)
for each in evidence_store.COMMANDS:
    evidence.command.add_command(each)

for one in (list_command, check_command, plan_command, catalogue.command, train.command):
    cli.add_command(one)
for one in (approve.command, halt_command, resume_command):
    cli.add_command(one)
