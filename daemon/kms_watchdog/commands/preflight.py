"""`kms-watchdog preflight`: what nobody could verify without an account, asked of a real one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_core import SystemClock
from kms_core.clock import Clock
from kms_watchdog import tables
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, REFUSED, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.costs import prices
from kms_watchdog.costs.prices import Priced
from kms_watchdog.preflight import record
from kms_watchdog.preflight.answers import Answer, Result, Seen
from kms_watchdog.preflight.asker import Asker
from kms_watchdog.preflight.questions import NOT_ASKED, QUESTIONS, question
from kms_watchdog.preflight.record import ResultFile
from kms_watchdog.preflight.run import Planned, Run, TornDown, left_over, tear_down, worst
from kms_watchdog.preflight.throwaway import ALIAS_PREFIX, TAG, WINDOW_DAYS, Swept, Throwaway, sweep
from kms_watchdog.state_folder import StateError

_HOURS_A_MONTH = 730
_CODES = {Result.CONFIRMED: GOOD, Result.REFUTED: BAD_FOUND, Result.COULD_NOT_TELL: COULD_NOT_TELL}


@click.command(
    "preflight",
    epilog="""\b
Examples:
  kms-watchdog preflight --config watchdog.toml
  kms-watchdog preflight --real --config watchdog.toml
  kms-watchdog preflight --real --yes --json --config watchdog.toml
  kms-watchdog preflight --teardown --config watchdog.toml""",
)
@config_option
@click.option("--real", is_flag=True, help="Ask AWS, with throw-away keys of its own.")
@click.option("--teardown", is_flag=True, help="Schedule the deletion of whatever keys a broken-off run left.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(config_path: Path, *, real: bool, teardown: bool, yes: bool, as_json: bool) -> None:
    """Ask a real account what nobody could verify without one.

    Without an option: prints the questions, the requests and the cost, and asks nobody. With --real: makes one
    multi-Region key and a replica of its own, asks, and schedules their deletion again, whatever happens in between.
    Keys of the estate are never touched. The result, with every request's id, is in STATE/preflight/.

    Exit code 0: all is confirmed, and torn down; 1: something is refuted; 2: usage or configuration; 3: something could
    not be told or torn down; 4: refused, or another account's credentials.
    """
    if real and teardown:
        raise Stop("--real and --teardown exclude each other: --real tears down what it makes")
    settings = load_settings(config_path)
    if not (real or teardown):
        _show_questions(settings, as_json=as_json)
        return
    with _alone(settings):
        sys.exit(_really(settings, yes=yes, as_json=as_json) if real else _tidy(settings, yes=yes, as_json=as_json))


# -- asking -------------------------------------------------------------------------------------------------------


def _really(settings: Settings, *, yes: bool, as_json: bool) -> int:
    clock = SystemClock()
    who = check_account(settings)
    click.echo(_announcement(settings), err=True)
    if not yes:
        confirm(settings, "make these keys and ask")
    asker = Asker(settings, clock)
    regions = settings.estate.regions
    before = sweep(asker, regions)
    _tidy_before(settings, asker, before, clock)
    run_id = record.run_id(clock.now_utc(), os.urandom(3))
    file = ResultFile(settings.state.dir, run_id)
    run = Run(
        settings=settings,
        asker=asker,
        file=file,
        clock=clock,
        run_id=run_id,
        regions=tuple(region for region in regions if region not in before.blind),
        tell=_progress,
    )
    file.begin(
        run_id=run_id,
        estate=settings.estate.name,
        account_id=who.account_id,
        by=who.arn,
        regions=regions,
        started_at_utc=clock.now_utc().isoformat(),
    )
    broken_off = False
    try:
        run.ask_all()
    except KeyboardInterrupt:
        broken_off = True
        click.echo("interrupted: tearing down; once more leaves it to `preflight --teardown`", err=True)
    finally:  # also when the disk is full: keys are worth more than their record
        torn_down = _down(run, sweep(asker, run.regions, run.made), before)
    file.end(clock.now_utc(), left=torn_down.left, requests=asker.requests)
    _show_result(run.answers, torn_down, file, as_json=as_json)
    if broken_off:
        raise Stop(f"interrupted; torn down: {'yes' if not torn_down.left else 'no'}; see {file.path}", COULD_NOT_TELL)
    found = _CODES[worst(run.answers)]
    return found if found == BAD_FOUND or not torn_down.left else COULD_NOT_TELL


def _down(run: Run, swept: Swept, before: Swept) -> TornDown:
    """Tear this run's keys down; other runs', and those that were there `before`, are not ours to judge here."""
    there = {(one.region, one.key_id) for one in before.kept}
    mine = Swept(
        keys=[key for key in swept.keys if key.run_id == run.run_id],
        kept=[
            one
            for one in swept.kept
            if one.run_id == run.run_id or (not one.run_id and (one.region, one.key_id) not in there)
        ],
        blind=swept.blind,
    )

    def changed(_: Throwaway, seen: Seen) -> None:
        try:
            run.file.changed(seen)
        except StateError as e:
            click.echo(f"not written: {e}", err=True)

    return tear_down(run.asker, mine, changed)


def _tidy_before(settings: Settings, asker: Asker, swept: Swept, clock: Clock) -> None:
    """Tear down what earlier runs left, before new keys are made."""
    known = record.unfinished(settings.state.dir)
    old = [key for key in swept.keys if left_over(key, tuple(known), clock.now_utc())]
    found = Swept(keys=old, kept=swept.kept, blind=swept.blind)
    for line in _close(settings, asker, found, known, clock).left:
        click.echo(f"of earlier runs: {line}", err=True)


def _tidy(settings: Settings, *, yes: bool, as_json: bool) -> int:
    check_account(settings)
    asker, clock = Asker(settings, SystemClock()), SystemClock()
    swept = sweep(asker, settings.estate.regions)
    for key in swept.live:
        click.echo(f"to be torn down: {key}", err=True)
    if swept.live and not yes:
        confirm(settings, f"schedule their deletion in {WINDOW_DAYS} days")
    torn_down = _close(settings, asker, swept, record.unfinished(settings.state.dir), clock)
    if as_json:
        gone = [{"region": key.region, "key_id": key.key_id, "run_id": key.run_id} for key in torn_down.gone]
        click.echo(json.dumps({"schema": 1, "torn_down": gone, "left": list(torn_down.left)}, indent=2))
    else:
        _say_torn_down(torn_down)
        if not torn_down.gone and not torn_down.left:
            click.echo("nothing to tear down")
    return COULD_NOT_TELL if torn_down.left else GOOD


def _close(settings: Settings, asker: Asker, swept: Swept, known: Mapping[str, ResultFile], clock: Clock) -> TornDown:
    """Tear down, and write so in the files of the runs that were broken off; nobody looked where others were made."""
    torn_down = tear_down(
        asker, swept, lambda key, seen: known[key.run_id].changed(seen) if key.run_id in known else None
    )
    elsewhere = []
    for run_id, file in known.items():
        if file.within(settings.estate.account_id, settings.estate.regions):
            file.end(clock.now_utc(), left=torn_down.left, requests=asker.requests)
        else:
            elsewhere.append(f"run {run_id} of another account, or of other regions, is not looked after: {file.path}")
    return replace(torn_down, left=(*torn_down.left, *elsewhere))


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    try:
        with record.only_one(settings.state.dir):
            yield
    except BlockingIOError as e:
        raise Stop("refused: another preflight runs with this state folder", REFUSED) from e
    except StateError as e:
        raise Stop(f"{e}; if keys were made: kms-watchdog preflight --teardown", COULD_NOT_TELL) from e


def confirm(settings: Settings, what: str) -> None:
    """Ask for the account's number; end with exit code 4 without it."""
    if not sys.stdin.isatty():
        raise Stop("refused: not a terminal, so nobody can confirm; --yes goes without asking", REFUSED)
    number = settings.estate.account_id
    if click.prompt(f"Type the account's number ({number}) to {what}", default="", err=True) != number:
        raise Stop("refused: not confirmed; nothing was made", REFUSED)


# -- showing ------------------------------------------------------------------------------------------------------


def cost_usd(planned: Planned) -> tuple[float, float]:
    """Return what a run costs by list price, and what its keys cost a month if nobody tears them down."""
    table = prices.read()
    month = table.of(Priced.KMS_KEY, planned.keys)
    return table.of(Priced.KMS_REQUEST, planned.kms_requests) + month / _HOURS_A_MONTH, month


def _announcement(settings: Settings) -> str:
    planned = Planned.of(settings)
    usd, month = cost_usd(planned)
    estate = settings.estate
    return (
        f"account {estate.account_id}, regions {', '.join(estate.regions)}\n"
        f"about {planned.kms_requests} requests to KMS, without retries, and in each region two for each multi-Region "
        f"key there is; {planned.other_requests} to services that charge nothing\n"
        f"{planned.keys} keys, {ALIAS_PREFIX}RUN, tagged {TAG}=RUN, deleted {WINDOW_DAYS} days later\n"
        f"about ${usd:.4f} by list price; keys that are left cost ${month:.2f} a month"
    )


def _show_questions(settings: Settings, *, as_json: bool) -> None:
    planned = Planned.of(settings)
    usd, month = cost_usd(planned)
    if as_json:
        found = {
            "schema": 1,
            "questions": [{name: getattr(one, name) for name in type(one).__slots__} for one in QUESTIONS],
            "not_asked": [{name: getattr(one, name) for name in type(one).__slots__} for one in NOT_ASKED],
            "kms_requests": planned.kms_requests,
            "other_requests": planned.other_requests,
            "keys": planned.keys,
            "usd": round(usd, 6),
            "usd_a_month_if_left": month,
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in QUESTIONS:
        click.echo(f"{one.id}: {one.claim}? [{one.source}]\n    asks: {one.request}")
        click.echo(f"    confirmed: {one.if_confirmed}\n    refuted: {one.if_refuted}")
    click.echo("\nNot asked:")
    for other in NOT_ASKED:
        click.echo(f"{other.id}: {other.claim} [{other.source}]\n    because {other.why}")
    click.echo(f"\nWith --real:\n{_announcement(settings)}")


def _progress(answer: Answer) -> None:
    click.echo(f"{answer.id}: {answer.result}", err=True)


def _show_result(answers: Sequence[Answer], torn_down: TornDown, file: ResultFile, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"schema": record.SCHEMA, **file.document}, indent=2, ensure_ascii=False))
        return
    _show_table(answers, tables.console())
    _say_torn_down(torn_down)
    click.echo(f"result: {file.path}")


def _show_table(answers: Sequence[Answer], console: Console) -> None:
    rows = [(one.id, str(one.result), one.says, _meaning(one)) for one in answers]
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table("question", "result", "seen", "so")
    for row in rows:
        table.add_row(*map(Text, row))  # not markup: AWS's words may have brackets
    console.print(table)


def _meaning(answer: Answer) -> str:
    """Return what the answer means for the product; empty where it could not be told."""
    asked = question(answer.id)
    return {Result.CONFIRMED: asked.if_confirmed, Result.REFUTED: asked.if_refuted}.get(answer.result, "")


def _say_torn_down(torn_down: TornDown) -> None:
    for key in torn_down.gone:
        click.echo(f"torn down: {key}")
    for line in torn_down.left:
        click.echo(f"left: {line}", err=True)
