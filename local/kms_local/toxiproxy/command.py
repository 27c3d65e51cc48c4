"""`kms-local toxiproxy`: the real server's flags, with one dash or two."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kms_local.toxiproxy import flags
from kms_local.toxiproxy.api import VERSION
from kms_local.toxiproxy.server import ToxiproxyError, ToxiproxySettings, run

_EXIT_USAGE = 2
TOKEN_VARIABLE = "TOXIPROXY_API_TOKEN"  # noqa: S105  the name of a variable; a flag shows in the list of processes


@click.command("toxiproxy", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(*, arguments: tuple[str, ...]) -> None:
    """Serve the HTTP API of Toxiproxy 2.12 and its proxies; `-h` lists the flags."""
    try:
        given = flags.parse(arguments)
    except flags.FlagError as e:
        if str(e):
            click.echo(str(e), err=True)
        click.echo(flags.usage("kms-local toxiproxy"), err=True, nl=False)
        sys.exit(0 if e.asked_for_help else _EXIT_USAGE)
    if flags.is_true(given, "version"):
        click.echo(f"toxiproxy-server version {VERSION}")
        return
    try:
        run(_settings(given))
    except ToxiproxyError as e:
        click.echo(f"kms-local toxiproxy: {e}", err=True)
        sys.exit(_EXIT_USAGE)


def _settings(given: dict[str, str]) -> ToxiproxySettings:
    return ToxiproxySettings(
        host=given.get("host", "localhost"),
        port=given.get("port", "8474"),
        config=Path(given["config"]) if given.get("config") else None,
        seed=flags.integer(given, "seed"),
        proxy_metrics=flags.is_true(given, "proxy-metrics"),
        runtime_metrics=flags.is_true(given, "runtime-metrics"),
        api_token=given.get("api-token") or os.environ.get(TOKEN_VARIABLE) or None,
        log_level=os.environ.get("LOG_LEVEL"),
        leash_fd=flags.integer(given, "leash-fd"),
    )
