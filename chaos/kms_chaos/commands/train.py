"""`kms-chaos train`: a fault the trainee does not know, to be found with page and runbook, and how long it took."""

from __future__ import annotations

import json
import queue
import secrets
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from kms_alarms.prometheus import runbook_url
from kms_alarms.table import by_region
from kms_chaos import durable, engine, training
from kms_chaos.commands.options import BAD, UNCLEAR, config_option, explained, load
from kms_chaos.drill import DrillError
from kms_chaos.guards import RefusedError
from kms_chaos.halt import on_signals
from kms_chaos.judge import judge
from kms_chaos.run import Run, plan
from kms_chaos.training import ALIAS, MOST_MINUTES, Training
from kms_core.clock import SystemClock
from kms_watchdog import status_client
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.drills.verdict import Judgement, Verdict
from kms_watchdog.sinks import push
from kms_watchdog.web.words import KINDS

_MINUTES = 10.0
_SEEDS = 2**32


@click.command("train")
@config_option
@click.option("--among", multiple=True, help="A drill to choose from, again for several; every fit one when not given.")
@click.option("--region", help="The region to hurt; one by chance when not given.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="What an earlier training told as its seed: the same once more."
)
@click.option(
    "--minutes",
    type=click.FloatRange(1.0, MOST_MINUTES),
    help=f"How long the fault may stay on; {_MINUTES:g}, or as long as the drill holds it anyway.",
)
@click.option("--arm", "armed", is_flag=True, help="Train in production: the drill as it is, with leave as any drill.")
@click.option("--reason", default="", help="As for `kms-chaos run`.")
@click.option("--approval", default="", help="As for `kms-chaos run`.")
def command(
    config: Path,
    among: tuple[str, ...],
    region: str | None,
    seed: int | None,
    minutes: float | None,
    reason: str,
    approval: str,
    *,
    armed: bool,
) -> None:
    """Train: something is broken in one region; find out where, and what, with the status page and the runbooks.

    A drill is chosen by chance and run like any other: guards, lease, undo record, journal, verdict. What it is, nobody
    is told until it is over. Answers are lines on stdin; wrong ones are counted. Ctrl-C ends it, and restores first.

    \b
    Examples:
      kms-chaos train
      kms-chaos train --among region-blackhole --among gray-latency --minutes 20

    \b
    Exit codes: 0 diagnosed; 1 the drill BROKE; 2 usage; 3 not diagnosed; 4 refused.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        settings = load(config)
        settings.core_config()
        seed = secrets.randbelow(_SEEDS) if seed is None else seed
        run, own_hold_seconds = _chosen(settings, among, region, seed, minutes, armed=armed)
        run = replace(run, armed=armed, reason=" ".join(reason.split()), approval=approval, say=click.echo)
        judgement, told = _conducted(run, own_hold_seconds, among, seed)
        _tell(run, judgement, told, seed)
        push.leave_drill(run.folder, settings)
    raise SystemExit(BAD if judgement.verdict is Verdict.BROKE else 0 if told.result.diagnosed else UNCLEAR)


def _chosen(
    settings: Settings, among: tuple[str, ...], region: str | None, seed: int, minutes: float | None, *, armed: bool
) -> tuple[Run, float]:
    """Return the run that chance chose, and how long its drill would hold its fault by itself at the most.

    Raises:
        RefusedError: the estate is in production, and nobody has armed the training.
        DrillError: there is nothing to choose from, or an option does not fit.
    """
    production, clock = settings.drills_in_production, SystemClock()
    if production and not armed:
        raise RefusedError(
            f"{settings.estate.name} is in production: train elsewhere, or with --arm, --reason and --approval"
        )
    if production and minutes is not None:
        raise DrillError("in production a drill holds its fault as long as was approved: no --minutes")
    found = training.candidates(settings, among)
    regions = (region,) if region else training.regions_of(settings)
    chosen, where = training.choose(found, regions, seed)
    run = plan(settings, chosen, region=where, clock=clock, run_id=f"{clock.now_utc():%Y%m%dT%H%M%SZ}-{ALIAS}")
    held = run.drill if production else training.held_for(run.drill, _MINUTES if minutes is None else minutes)
    return replace(run, drill=held, alias=ALIAS), run.drill.longest_fault_seconds


def _conducted(run: Run, own_hold_seconds: float, among: tuple[str, ...], seed: int) -> tuple[Judgement, Training]:
    kinds = training.kinds_of(training.candidates(run.settings, among))
    typed: queue.Queue[str | None] = queue.Queue()
    asked = training.questions(run, kinds)
    told = Training(asked, typed, click.echo, run.clock, about={"seed": seed, "among": list(among)})
    found: list[Judgement] = []

    def judged(run: Run) -> Judgement:
        found.append(_judged(run))
        return found[-1]

    for line in _beginning(run):
        click.echo(line)
    threading.Thread(target=_read, args=(typed,), name="stdin", daemon=True).start()
    with on_signals(run.halt):
        engine.conduct(
            run,
            judged,
            lambda _: click.echo("The guards have held. The steady state is looked at; then the fault begins.\n"),
            training.conductor(told, own_hold_seconds),
        )
    return found[-1], told


def _judged(run: Run) -> Judgement:
    from kms_chaos.report import render  # noqa: PLC0415 - matplotlib takes a second to import, at the end alone

    found = journal.read(run.folder.journal)
    judgement = judge(found)
    text = json.dumps(judgement.to_json(), indent=2, ensure_ascii=False) + "\n"
    durable.write(run.folder.verdict, text.encode())
    durable.write(run.folder.report, render(found, judgement).encode())
    return judgement


def _beginning(run: Run) -> Iterator[str]:
    page = status_client.running_url(run.settings.state.dir / "http.json")
    minutes = run.drill.longest_fault_seconds / 60
    yield f"A training in the estate {run.settings.estate.name}: one region will be hurt, {minutes:.3g} min at most."
    yield f"Status page: {page or 'no daemon runs'}"
    yield f"Runbooks: {', '.join(runbook_url(run.settings, name) for name in _runbooks())}"
    yield "Real keys, policies and other clients are not touched. Ctrl-C ends it, and restores first.\n"


def _runbooks() -> tuple[str, ...]:
    named = (*(row.runbook for row in by_region()), *(words.runbook for words in KINDS.values()))
    return tuple(sorted(dict.fromkeys(filter(None, named))))


def _read(typed: queue.Queue[str | None]) -> None:
    """Hand over the trainee's lines, and None at their end."""
    for line in sys.stdin:
        typed.put(line)
    typed.put(None)


def _tell(run: Run, judgement: Judgement, told: Training, seed: int) -> None:
    faults = ", ".join(str(getattr(fault, "kind", "")) for fault in run.drill.faults)
    click.echo(f"\nIt was {run.drill.name}: {faults} in {run.target}. {run.drill.title}.")
    click.echo(f"Training: {told.result}.")
    click.echo(f"Runbook: {runbook_url(run.settings, training.runbook_of(run.drill))}")
    click.echo(f"The drill: {judgement.verdict}, {judgement.run_id}. A training counts for nothing in the score.")
    click.echo(f"Report: {run.folder.report}")
    click.echo(f"The same once more: --seed {seed}, and the same --among and --region")
