"""`kms-watchdog digest`: the weekly review, from the daemon's history and the drills' journals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from kms_core import SystemClock
from kms_watchdog.commands import delivery
from kms_watchdog.commands.history import LOOK_BACK, MOMENT
from kms_watchdog.commands.options import COULD_NOT_TELL, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.drills.follow import Follower
from kms_watchdog.history import markdown
from kms_watchdog.history.digest import Digest, digest
from kms_watchdog.history.incidents import incidents
from kms_watchdog.history.reading import HistoryFile, HistoryUnreadableError
from kms_watchdog.results import Mode
from kms_watchdog.state_folder import StateFolder


@click.command(
    "digest",
    epilog="""\b
Examples:
  kms-watchdog digest --since 7d
  kms-watchdog digest --since 7d --format html --output week.html
  kms-watchdog digest --since 7d --deliver
  kms-watchdog digest --since 2026-01-01 --until 2026-02-01 > january.md""",
)
@config_option
@click.option("--since", type=MOMENT, default="7d", show_default=True, help="From when: 7d, 24h, or a time.")
@click.option("--until", type=MOMENT, help="Up to when; default: now.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "html"]),
    help="Default: by the name of --output, else markdown. HTML has pictures and wants the extra `drills`.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to; default: standard output.")
@click.option("--deliver", is_flag=True, help="Send it, as Markdown, to the topics and the webhook of [drills.notify].")
def command(
    config_path: Path,
    since: datetime,
    until: datetime | None,
    form: Literal["markdown", "html"] | None,
    output: Path | None,
    *,
    deliver: bool,
) -> None:
    """Review a week.

    Availability and latency per region and key, worst hours, reasons, blindness, breakers, drills and an estimate of
    costs. Counted by whole hours, kept for 100 days; no daemon needs to run.

    What was delivered to anybody counts as the regular task `weekly-digest` done (`kms-watchdog tasks`), if it ends
    within the last day.

    Exit code 0: written, or delivered to all, whatever it says; 2: usage or configuration, or it cannot be written; 3:
    there is no history of that time, or somebody did not take it.
    """
    settings = load_settings(config_path)
    if deliver and (output is not None or form == "html"):
        raise Stop("--deliver sends Markdown: neither --output nor --format html goes with it")
    render = renderer(form or ("html" if output and output.suffix in {".html", ".htm"} else "markdown"))
    try:
        found = read(settings, since, until or SystemClock().now_utc())
    except HistoryUnreadableError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    if not found.hours_seen:
        raise Stop("no look in that time", COULD_NOT_TELL)
    text = render(found)
    if deliver:
        delivery.deliver(settings, found, text)
        return
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as e:
        raise Stop(f"{output}: {e.strerror}") from e


def read(settings: Settings, since_utc: datetime, until_utc: datetime) -> Digest:
    """Return the digest of a span.

    Raises:
        HistoryUnreadableError: the history cannot be read.
    """
    file = HistoryFile(StateFolder(settings.state.dir).history)
    looks = file.results(since_utc - LOOK_BACK, until_utc)
    drills = Follower(settings.state.dir)
    drills.restore()
    return digest(
        settings,
        since_utc=since_utc,
        until_utc=until_utc,
        hours=file.hours(since_utc, until_utc),
        counted=file.counted(since_utc, until_utc),
        incidents=[
            each
            for each in incidents(look for look in looks if look.mode is Mode.LIVE)
            if (each.recovered_at_utc or until_utc) >= since_utc
        ],
        drills=reversed(drills.runs()),
    )


def renderer(form: Literal["markdown", "html"]) -> Callable[[Digest], str]:
    """Return what writes the form.

    Raises:
        Stop: pictures need a library that is not installed; exit code 2.
    """
    if form == "markdown":
        return markdown.render
    try:
        from kms_watchdog.history import page  # noqa: PLC0415 - matplotlib, which only this form needs, is an extra
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("kms_"):
            raise
        raise Stop(f"{e.name} is not installed; it comes with: pip install 'kms-watchdog[drills]'") from e
    return page.render
