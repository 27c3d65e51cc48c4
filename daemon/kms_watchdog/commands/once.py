"""`kms-watchdog once`: one round of all canaries, for a shell, a pipeline or a cron job."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_core import ConfigurationError, Core, SystemClock
from kms_core.clock import Clock
from kms_watchdog import logs, runner, tables
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.commands.completing import CanaryName
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.health import Subject
from kms_watchdog.override_store import override_source
from kms_watchdog.results import CanaryResult, Outcome, Reason
from kms_watchdog.sinks import push
from kms_watchdog.sinks.prometheus import PrometheusSink
from kms_watchdog.sinks.sink import LiveEvents, Sink, write_to_all
from kms_watchdog.state_folder import StateError

THREADS = 4
"""For each kind in each region: what hangs on one region, or in one slow service, holds up nothing else."""


@click.command(
    "once",
    epilog="""\b
Examples:
  kms-watchdog once --json --config watchdog.toml
  kms-watchdog once --canary round_trip:us-east-1:pii --canary key_state""",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--canary",
    "ids",
    multiple=True,
    type=CanaryName(),
    metavar="ID|KIND",
    help="Only this one, such as round_trip:us-east-1:pii, or this kind; may be given several times.",
)
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds for the whole round; a canary that has no answer by then is BLIND.",
)
def command(config_path: Path, *, as_json: bool, ids: tuple[str, ...], deadline_seconds: float) -> None:
    """Ask every canary once.

    With [prometheus] push_url or textfile, a whole round's metrics are left there; whether that works changes nothing.

    Exit code 0: all OK; 1: one FAILED; 3: none failed, but one could not ask (BLIND).
    """
    settings = load_settings(config_path)
    clock = SystemClock()
    logs.configure(settings.log, clock)
    try:
        found = ask(settings, ids, clock, deadline_seconds)
    except (ConfigurationError, StateError) as e:
        raise Stop(str(e)) from e
    if as_json:
        results = [result.to_json() for result in found.results]
        click.echo(json.dumps({"schema": 1, "outcome": str(worst(found.results)), "results": results}, indent=2))
    else:
        show(found.results, tables.console())
    _end(exit_code(found.results), at_once=found.hanging)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has found."""

    results: tuple[CanaryResult, ...]
    """In the order of the configuration."""
    hanging: bool = False
    """Whether a canary is still at it."""


def ask(settings: Settings, ids: Sequence[str], clock: Clock, deadline_seconds: float) -> Round:
    """Ask the canaries called `ids`, or all, and leave a whole round's metrics where the configuration says.

    Raises:
        Stop: there is no such canary.
        StateError: a file of the state folder cannot be read.
        kms_core.errors.ConfigurationError: the core refuses the configuration.
    """
    ports = Ports(settings, clock)
    canaries = live_canaries(ports)
    asked = chosen(canaries, ids)
    # A part of a round in the place of the whole would make the others vanish.
    sinks = (round_sink(settings, canaries),) if not ids and push.is_wanted(settings) else ()
    observer = LiveEvents((ports.estate.traffic, *sinks), clock)
    try:
        with Core(settings.core_config(), observer=observer, clock=clock, overrides=override_source(settings)) as core:
            found = ask_all(asked, core, clock, deadline_seconds, sinks=sinks)
    finally:
        ports.close()
    for sink in sinks:
        push.leave_round(sink, settings)
    return found


def round_sink(settings: Settings, canaries: Iterable[Canary]) -> PrometheusSink:
    """Return what counts the round."""
    return push.round_sink(settings, [Subject(c.kind, c.region, c.purpose) for c in canaries])


def chosen(canaries: Sequence[Canary], ids: Sequence[str]) -> tuple[Canary, ...]:
    """Return the canaries called `ids`, or of a kind called so, in the order of the configuration; all for no ids.

    Raises:
        Stop: there is no such canary; the nearest name is told.
    """
    names = {name for canary in canaries for name in (canary.kind, canary_id(canary))}
    for name in ids:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1)
            raise Stop(f"no canary {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return tuple(canary for canary in canaries if not ids or {canary.kind, canary_id(canary)} & set(ids))


def ask_all(
    canaries: Sequence[Canary], core: Core, clock: Clock, deadline_seconds: float, *, sinks: Sequence[Sink] = ()
) -> Round:
    """Return the results of `canaries`, each region and kind in threads of its own.

    What has no answer after `deadline_seconds` is BLIND, and left behind.
    """
    pools: dict[tuple[str, str], ThreadPoolExecutor] = {}
    futures: list[Future[CanaryResult]] = []
    for canary in canaries:
        pool = pools.setdefault((canary.region, canary.kind), ThreadPoolExecutor(THREADS))
        futures.append(pool.submit(runner.run, canary, core, clock, sinks=sinks))
    done, late = wait(futures, deadline_seconds)
    for pool in pools.values():
        pool.shutdown(wait=False, cancel_futures=True)
    results: list[CanaryResult] = []
    for canary, future in zip(canaries, futures, strict=True):
        if future in done:
            results.append(future.result())
        else:
            results.append(runner.could_not_ask(canary, clock, Reason.OWN_DEADLINE))
            write_to_all(sinks, results[-1])
    return Round(tuple(results), hanging=bool(late))


def _end(code: int, *, at_once: bool) -> None:
    """Exit; `at_once` when threads still hang on a dead region, for which the interpreter would wait."""
    if not at_once:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def worst(results: Sequence[CanaryResult]) -> Outcome:
    """Return FAILED if anything failed, else BLIND if anything was blind."""
    found = {result.outcome for result in results}
    return next((outcome for outcome in (Outcome.FAILED, Outcome.BLIND) if outcome in found), Outcome.OK)


def exit_code(results: Sequence[CanaryResult]) -> int:
    """Return the command's exit code (DESIGN §5)."""
    return {Outcome.OK: GOOD, Outcome.FAILED: BAD_FOUND, Outcome.BLIND: COULD_NOT_TELL}[worst(results)]


def show(results: Sequence[CanaryResult], console: Console) -> None:
    """Print the results: a table on a terminal, a line each when piped."""
    if not console.is_terminal:
        for r in results:
            said = " ".join(part for part in (r.reason or "", r.error_code) if part)
            click.echo(f"{r.outcome} {r.canary} {r.region} {r.key} {r.duration_seconds * 1000:.1f}ms {said}".rstrip())
        return
    colours = {Outcome.OK: "green", Outcome.FAILED: "bold red", Outcome.BLIND: "magenta"}
    table = Table("answer", "canary", "region", "key", "time", "why")
    for r in results:
        why = " ".join(part for part in (r.reason or "", r.error_code) if part)
        answer = Text(str(r.outcome), colours[r.outcome])
        table.add_row(answer, r.canary, r.region, r.key, f"{r.duration_seconds * 1000:.1f} ms", why)
    console.print(table)
