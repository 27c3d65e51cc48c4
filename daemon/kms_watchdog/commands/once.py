"""`kms-watchdog once`: one round of all canaries, for a shell, a pipeline or a cron job."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import structlog
from rich.console import Console
from rich.table import Table

from kms_core import ConfigurationError, Core, SystemClock
from kms_watchdog import logs, runner
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.daemon import live_canaries
from kms_watchdog.results import CanaryResult, Outcome

log = structlog.get_logger("once")


@click.command("once", epilog="Example:  kms-watchdog once --json --config watchdog.toml")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(config_path: Path, *, as_json: bool) -> None:
    """Ask every canary once.

    Exit code 0: all OK; 1: one FAILED; 3: none failed, but one could not ask (BLIND).
    """
    settings = load_settings(config_path)
    clock = SystemClock()
    logs.configure(settings.log, clock)
    try:
        with Core(settings.core_config(), clock=clock) as core:
            results = ask_all(settings, core)
    except ConfigurationError as e:
        raise Stop(str(e)) from e
    if as_json:
        document = {"schema": 1, "outcome": str(worst(results)), "results": [result.to_json() for result in results]}
        click.echo(json.dumps(document, indent=2))
    else:
        show(results, Console())
    sys.exit(exit_code(results))


def ask_all(settings: Settings, core: Core) -> list[CanaryResult]:
    """Return the results of one round, each region in threads of its own, in the order of the configuration."""
    canaries = live_canaries(settings)
    clock = SystemClock()

    def ask(canary: Canary) -> CanaryResult:
        return runner.run(canary, core, clock)

    with ThreadPoolExecutor(max_workers=min(32, len(canaries))) as pool:
        return list(pool.map(ask, canaries))


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
        answer = f"[{colours[r.outcome]}]{r.outcome}[/]"
        table.add_row(answer, r.canary, r.region, r.key, f"{r.duration_seconds * 1000:.1f} ms", why)
    console.print(table)
