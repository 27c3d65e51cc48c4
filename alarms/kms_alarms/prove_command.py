"""`kms-alarms prove`: set alarms off one after the other, and see that a subscriber is told of each."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import click
from rich.table import Table

from kms_alarms.drill_lease import LeaseHeldError, no_drill_in_the_estate
from kms_alarms.options import EXIT_BAD_FOUND, EXIT_COULD_NOT_TELL, EXIT_REFUSED, EXIT_USAGE, config_option
from kms_alarms.prove import MARK, Looked, Outcome, Prover, Terms, chosen, heal, live_alarms, look, once_each, verdict
from kms_alarms.prove_aws import Door, DoorError
from kms_alarms.receipts import listening
from kms_core.clock import Clock, SystemClock
from kms_watchdog import alarm_proofs, tables
from kms_watchdog.alarm_proofs import ProofJournal, ProofRun
from kms_watchdog.config import Settings
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError
from kms_watchdog.drills.slots import ALARM_PROOF
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.identity import IdentityError, caller
from kms_watchdog.signals import told_by_signals
from kms_watchdog.state_folder import StateError, StateFolder

_CONFIRM_SECONDS = 60.0
_LAST_PORT = 65_535
_EXIT_BY_VERDICT = {Verdict.HELD: 0, Verdict.BROKE: EXIT_BAD_FOUND, Verdict.INCONCLUSIVE: EXIT_COULD_NOT_TELL}
_EPILOG = """\b
Examples:
  kms-alarms prove
  kms-alarms prove HighErrorRate KeyUnusable --region us-east-1 --yes
  kms-alarms prove --listen 127.0.0.1:8088 --url https://proofs.example.com/sns --json
"""


class _Stop(Exception):  # noqa: N818 - it ends the command, which is no error of the program's
    """Say a line, and end with an exit code."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was typed."""

    names: tuple[str, ...]
    region: str | None
    listen: str
    url: str | None
    within: float
    yes: bool
    slot: str
    run_id: str | None


@click.command("prove", epilog=_EPILOG)
@config_option
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--region", help="Only the alarms that live there.  [default: every publishing region]")
@click.option("--listen", help="HOST:PORT to listen on meanwhile.  [default: cloudwatch.proof.listen]")
@click.option("--url", help="At which SNS reaches that.  [default: cloudwatch.proof.url, else as it listens]")
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    help="Seconds in which each must have been told.  [default: cloudwatch.proof.told_within_seconds]",
)
@click.option("--yes", is_flag=True, help="Do not ask: whoever is on call will be told.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
@click.option("--slot", default="", hidden=True)
@click.option("--run-id", hidden=True)
def prove_(
    settings: Settings,
    names: tuple[str, ...],
    region: str | None,
    listen: str | None,
    url: str | None,
    within: float | None,
    slot: str,
    run_id: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Set live alarms off with SetAlarmState, await each at a subscriber of our own, and put it back. IT PAGES.

    NAME is an alarm of the table, or CloudWatch's own name for one; without any, every live alarm is proven. Whoever
    is on call is told of ALARM and of OK for each; the reason begins with PROOF. A composite alarm is proven through
    the alarms that it rests on. An alarm that is in ALARM now, or somebody else's, is left alone; while a drill runs
    nothing is done. Whatever ends it, each alarm is put back first.

    \b
    Exit code 0: all were told and put back; 1: one was not, or is missing; 3: could not tell; 4: refused.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    proof = settings.cloudwatch.proof
    asked = _Asked(
        names=names,
        region=region,
        listen=listen or proof.listen,
        url=url or proof.url,
        within=within or proof.told_within_seconds,
        yes=yes,
        slot=slot,
        run_id=run_id,
    )
    try:
        outcomes = _run(settings, asked, SystemClock(), quiet=as_json)
    except _Stop as e:
        click.echo(f"kms-alarms: {' '.join(str(e).split())}", err=True)
        sys.exit(e.exit_code)
    _show(outcomes, as_json=as_json)
    sys.exit(_exit_code(outcomes))


def _run(settings: Settings, asked: _Asked, clock: Clock, *, quiet: bool) -> tuple[Outcome, ...]:
    regions = _regions(settings, asked)
    address = _address(settings, asked, regions)
    try:
        with ExitStack() as stack:
            StateFolder(settings.state.dir).prepare()
            stack.enter_context(alarm_proofs.no_drill_meanwhile(settings.state.dir))
            no_drill_in_the_estate(settings, clock)
            doors = {region: Door(settings, region, clock) for region in regions}
            by = caller(settings).arn
            _heal(settings, doors, clock)
            looked = [look(settings, doors[region], asked.names) for region in regions]
            if any(one.plan.strokes for one in looked):
                _ask(asked, looked, quiet=quiet)
                return _prove(settings, asked, address, clock, doors, looked, by)
            return tuple(outcome for one in looked for outcome in one.outcomes)
    except (FolderBusyError, LeaseHeldError) as e:
        raise _Stop(f"a drill or another proof runs: {e}", EXIT_REFUSED) from e
    except (DoorError, IdentityError, OSError, StateError) as e:
        raise _Stop(str(e), EXIT_COULD_NOT_TELL) from e


def _regions(settings: Settings, asked: _Asked) -> tuple[str, ...]:
    if asked.region and asked.region not in settings.publish_regions:
        raise _Stop(f"{asked.region} has no alarms; {', '.join(settings.publish_regions)} have", EXIT_USAGE)
    regions = (asked.region,) if asked.region else settings.publish_regions
    known = [live_alarms(settings, region) for region in regions]
    for name in asked.names:
        if not any(chosen(live, [name]) for live in known):
            raise _Stop(f"there is no live alarm {name} in CloudWatch; kms-alarms list shows them", EXIT_USAGE)
    return regions


def _address(settings: Settings, asked: _Asked, regions: Iterable[str]) -> tuple[str, int]:
    host, _, port = asked.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise _Stop(f"--listen is HOST:PORT, not {asked.listen!r}", EXIT_USAGE)
    if asked.url is None:
        for region in regions:
            endpoint = settings.endpoints.get(region)
            if endpoint is None or endpoint.sns is None:
                raise _Stop(
                    f"SNS in {region} cannot reach {asked.listen}: name the URL at which it reaches it, --url or "
                    "cloudwatch.proof.url",
                    EXIT_USAGE,
                )
    elif not asked.url.startswith(("http://", "https://")):
        raise _Stop(f"--url is http:// or https:// and an address, not {asked.url!r}", EXIT_USAGE)
    return host.strip("[]"), int(port)


def _heal(settings: Settings, doors: Mapping[str, Door], clock: Clock) -> None:
    """Put back what a proof left that was killed; nobody else owns it, for the lock is ours."""
    for found in alarm_proofs.folders(settings.state.dir):
        healed = found.path / "restored"
        if healed.exists():
            continue
        run: ProofRun = alarm_proofs.read_one(found)
        if not run.left:
            continue
        still, all_back = heal(doors, run.left, clock)
        for one in still:
            click.echo(f"kms-alarms: {one.region} {one.name}: put back, as {run.run_id} had not", err=True)
        if all_back:
            healed.touch()


def _ask(asked: _Asked, looked: Sequence[Looked], *, quiet: bool) -> None:
    for one in looked:
        strokes = one.plan.strokes
        alarms = [name for stroke in strokes for name in stroke.all]
        if not quiet:
            click.echo(f"{one.region}: {len(alarms)} alarms, to {', '.join(t.rpartition(':')[2] for t in one.topics)}")
    line = "Whoever listens there is told of ALARM and of OK for each of them"
    if asked.yes:
        return
    if not (sys.stdin.isatty() and click.confirm(f"{line}. Are those on call told?")):
        raise _Stop(f"nothing was set off. {line}: confirm, or say --yes", EXIT_REFUSED)


def _prove(
    settings: Settings,
    asked: _Asked,
    address: tuple[str, int],
    clock: Clock,
    doors: Mapping[str, Door],
    looked: Sequence[Looked],
    by: str,
) -> tuple[Outcome, ...]:
    run_id = asked.run_id or f"{clock.now_utc():%Y%m%dT%H%M%SZ}-{ALARM_PROOF}-{os.urandom(2).hex()}"
    terms = Terms(by=by, run_id=run_id, mark=f"{MARK} {os.urandom(4).hex()}", told_within_seconds=asked.within)
    outcomes, stop = [outcome for one in looked for outcome in one.outcomes], threading.Event()
    with ExitStack() as stack:
        stack.enter_context(told_by_signals(lambda _name: stop.set()))
        endpoint = stack.enter_context(listening(*address, asked.url, clock, entropy=os.urandom))
        listeners = {one.region: {topic: doors[one.region].listeners(topic) for topic in one.topics} for one in looked}
        for region, known in listeners.items():  # first: a subscriber that SNS does not reach would hear nothing
            there = [topic for topic, count in known.items() if count is not None]
            stack.enter_context(doors[region].subscribed(there, endpoint, stop, within_seconds=_CONFIRM_SECONDS))
        notes = stack.enter_context(_journal(settings, terms, asked, clock, looked))
        prover = Prover(terms, endpoint.inbox, notes, clock, stop)
        try:
            for one in looked:
                silent = [topic for topic, count in listeners[one.region].items() if not count]
                outcomes += prover.prove(doors[one.region], one, silent)
        finally:
            _close(notes, outcomes, interrupted=stop.is_set())
    for line in (line for door in doors.values() for line in door.left):
        click.echo(f"kms-alarms: {line}", err=True)
    wanted = {(one.region, name) for one in looked for name in chosen(live_alarms(settings, one.region), asked.names)}
    return tuple(one for one in once_each(outcomes) if (one.region, one.name) in wanted or one.came != "proven")


@contextmanager
def _journal(
    settings: Settings, terms: Terms, asked: _Asked, clock: Clock, looked: Sequence[Looked]
) -> Iterator[ProofJournal]:
    """Make the run's folder and own it, so that the schedule sees it live."""
    found: DrillFolder = alarm_proofs.folder(settings.state.dir, terms.run_id)
    alarm_proofs.make_folder(found)
    with found.owned():
        notes = ProofJournal(found, clock)
        try:
            regions = [one.region for one in looked]
            notes.write("proof-started", run_id=terms.run_id, by=terms.by, slot=asked.slot, regions=regions)
            yield notes
        finally:
            notes.close()


def _close(notes: ProofJournal, outcomes: Iterable[Outcome], *, interrupted: bool) -> None:
    came = verdict(outcomes)
    if interrupted:
        notes.write("interrupted", reason="a signal")
    notes.write("verdict", verdict=str(came))
    notes.write("closed", by="prove", verdict=str(came))


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    came = verdict(outcomes)
    refused = any(one.came == "refused" for one in outcomes) and not any(one.came == "unclear" for one in outcomes)
    return EXIT_REFUSED if refused and came is Verdict.INCONCLUSIVE else _EXIT_BY_VERDICT[came]


def _show(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([one.to_json() for one in outcomes], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("alarm", "region", "outcome", "told after", "put back", "finding"):
        table.add_column(heading)
    for one in outcomes:
        told = "-" if one.told_after_seconds is None else f"{one.told_after_seconds:.1f} s"
        back = {None: "-", True: "yes", False: "NO"}[one.restored]
        table.add_row(one.name, one.region, one.came, told, back, one.finding)
    tables.console(width=None if sys.stdout.isatty() else 200).print(table)
    proven = sum(one.came == "proven" for one in outcomes)
    click.echo(f"{proven} of {len(outcomes)} were told to a subscriber, and put back")
