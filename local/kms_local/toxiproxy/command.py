"""`kms-local toxiproxy`: the real server's flags, with one dash or two."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kms_local.toxiproxy.api import VERSION
from kms_local.toxiproxy.server import ToxiproxyError, ToxiproxySettings, run

_EXIT_USAGE = 2


@click.command("toxiproxy", epilog="Example: kms-local toxiproxy -port 8474 -config proxies.json")
@click.option("-host", "--host", default="localhost", show_default=True, help="Host for the API to listen on.")
@click.option(
    "-port",
    "--port",
    type=click.IntRange(0, 65535),
    default=8474,
    show_default=True,
    help="Port for the API to listen on; 0 takes a free one.",
)
@click.option("-config", "--config", type=click.Path(path_type=Path), help="JSON file with proxies to make at start.")
@click.option("-seed", "--seed", type=int, help="Seed for every throw of the dice.")
@click.option("-proxy-metrics", "--proxy-metrics", is_flag=True, help="Serve the proxies' byte counters at /metrics.")
@click.option("-runtime-metrics", "--runtime-metrics", is_flag=True, help="Serve the process's figures at /metrics.")
@click.option("-version", "--version", "show_version", is_flag=True, help="Print the version and end.")
@click.option("-leash-fd", "--leash-fd", type=int, hidden=True, help="End when this pipe ends.")
def command(
    *,
    host: str,
    port: int,
    config: Path | None,
    seed: int | None,
    proxy_metrics: bool,
    runtime_metrics: bool,
    show_version: bool,
    leash_fd: int | None,
) -> None:
    """Serve the HTTP API of Toxiproxy 2.12 and its proxies."""
    if show_version:
        click.echo(f"toxiproxy-server version {VERSION}")
        return
    settings = ToxiproxySettings(
        host=host,
        port=port,
        config=config,
        seed=seed,
        proxy_metrics=proxy_metrics,
        runtime_metrics=runtime_metrics,
        leash_fd=leash_fd,
    )
    try:
        run(settings)
    except ToxiproxyError as e:
        click.echo(f"kms-local toxiproxy: {e}", err=True)
        sys.exit(_EXIT_USAGE)
