"""`kms-chaos report`: a drill's report again, in any of its forms."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from kms_chaos import durable
from kms_chaos.commands.options import config_option, explained, folder_of, journal_of, load
from kms_chaos.export.account import account
from kms_chaos.export.forms import FORMS
from kms_chaos.guards import RefusedError
from kms_chaos.judge import judge
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.json_text import read_json


@click.command("report")
@click.argument("which", metavar="RUN|DIR")
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(FORMS)),
    default="html",
    show_default=True,
    help="html is written beside the journal; the others are printed. ctk: Chaos Toolkit's journal.json.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead.")
def command(which: str, config: Path, form: str, output: Path | None) -> None:
    """Write a drill's report again, and print its path, or print another form of it.

    The journal is judged again. The exit code tells whether the report was made; what the drill proved is in it.

    \b
    Examples:
      kms-chaos report 20261124T031500Z-region-blackhole
      kms-chaos report 20261124T031500Z-region-blackhole --format junit --output drill.xml
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        where = folder_of(which, lambda: load(config))
        found = journal_of(where)
        text = FORMS[form].render(account(found, judge(found)))
        path = output or (where.report if form == "html" else None)
        if path is None:
            click.echo(text, nl=False)
            return
        _write(path, text.encode(), where)
        click.echo(path)


def _write(path: Path, content: bytes, where: DrillFolder) -> None:
    """Write `content`, unless that would change what is sealed: `kms-chaos verify` would call it edited, rightly.

    Raises:
        RefusedError: it would.
    """
    sealed = where.manifest.exists() and path.resolve().parent == where.path.resolve()
    if sealed and not _is_what_was_sealed(path.name, content, where):
        raise RefusedError(f"{where.run_id} is sealed, and this would be another {path.name}: give --output elsewhere")
    durable.write(path, content)


def _is_what_was_sealed(name: str, content: bytes, where: DrillFolder) -> bool:
    try:
        listed = read_json(where.manifest.read_bytes())["files"][name]["sha256"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(listed == hashlib.sha256(content).hexdigest())
