"""`kms-watchdog audit`: the regular review of keys, policies, grants, rotation, trails and access."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from kms_core import SystemClock
from kms_core.clock import Clock
from kms_watchdog.auditing import kept, sheet
from kms_watchdog.auditing.audit import Audit, Kind, compared, findings, to_document
from kms_watchdog.auditing.look import look
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.options import (
    BAD_FOUND,
    COULD_NOT_TELL,
    GOOD,
    USAGE,
    Stop,
    config_option,
    load_settings,
)
from kms_watchdog.config import Settings
from kms_watchdog.state_folder import StateError


@click.command(
    "audit",
    epilog="""\b
Examples:
  kms-watchdog audit --config watchdog.toml
  kms-watchdog audit --quarterly --output 2026-q4.html --config watchdog.toml
  kms-watchdog audit --annual --format json --config watchdog.toml > 2026.json""",
)
@config_option
@click.option("--quarterly", "kind", flag_value=Kind.QUARTERLY, type=Kind, help="The quarterly review of access.")
@click.option("--annual", "kind", flag_value=Kind.ANNUAL, type=Kind, help="The annual security audit.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "html", "json"]),
    help="Default: by the name of --output, else markdown.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to; default: standard output.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Keep it in the state folder, to compare with.")
def command(
    config_path: Path,
    kind: Kind | None,
    form: Literal["markdown", "html", "json"] | None,
    output: Path | None,
    *,
    keep: bool,
) -> None:
    """Review the estate; change nothing in it.

    Keys against the configuration, in every region; roles and policies, as `iam check` explains them; grants; keys of
    ours that are none; trails that leave KMS out; who changed keys in the last 90 days; access that nobody uses, as far
    as AWS tells; and what is new since the last review of the kind.

    Exit code 0: nothing is wrong; 1: something is; 3: something could not be read; 4: the credentials are of another
    account.
    """
    settings, clock = load_settings(config_path), SystemClock()
    by = check_account(settings).arn
    made = _made(settings, clock, kind or Kind.NOW, by)
    text = _text(made, form or _by_name(output))
    if keep:
        try:
            kept.keep(settings.state.dir, made)
        except StateError as e:
            raise Stop(f"{e} (--no-keep does without)", USAGE) from e
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as e:
            raise Stop(f"{output}: cannot be written: {e.strerror}", USAGE) from e
        click.echo(f"{output}: {len(made.bad)} findings, {len(made.seen.not_told)} questions unanswered")
    sys.exit(BAD_FOUND if made.bad else COULD_NOT_TELL if made.seen.not_told else GOOD)


def _made(settings: Settings, clock: Clock, kind: Kind, by: str) -> Audit:
    try:
        last = kept.last(settings.state.dir, kind, settings.estate.name)
    except StateError as e:
        raise Stop(f"the last review: {e}", COULD_NOT_TELL) from e
    seen = look(settings, clock)
    marked, gone = compared(findings(seen), last, whole=not seen.not_told)
    return Audit(
        kind=kind,
        estate=settings.estate.name,
        account_id=settings.estate.account_id,
        by=by,
        made_at_utc=clock.now_utc(),
        last_at_utc=datetime.fromisoformat(last["made_at_utc"]) if last else None,
        findings=marked,
        gone=gone,
        seen=seen,
    )


def _by_name(output: Path | None) -> str:
    suffix = output.suffix if output else ""
    return {".html": "html", ".htm": "html", ".json": "json"}.get(suffix, "markdown")


def _text(made: Audit, form: str) -> str:
    if form == "json":
        return json.dumps(to_document(made), indent=2) + "\n"
    return sheet.html(made) if form == "html" else sheet.markdown(made)
