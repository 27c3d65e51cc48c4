"""`kms-chaos halt` and `resume`: the one switch that stops what runs and keeps everything from starting."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import click

from kms_chaos import halting
from kms_chaos.commands.options import config_option, explained, load
from kms_core.clock import SystemClock

_reason = click.option("--reason", required=True, help="Why, for whoever finds it.")


def operator() -> str:
    """Return who sits here, without asking AWS: a halt must work when nothing else does."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"  # a container without a passwd entry
    return f"{name}@{socket.gethostname()}"


@click.command("halt")
@config_option
@_reason
def halt_command(config: Path, reason: str) -> None:
    """Halt all drills: nothing starts, what runs restores and ends, also after a reboot, until `resume`."""
    with explained():
        state = load(config).state.dir
        order = halting.engage(state, SystemClock(), by=operator(), reason=_said(reason))
        click.echo(order)


@click.command("resume")
@config_option
@_reason
def resume_command(config: Path, reason: str) -> None:
    """Let drills start again."""
    with explained():
        state = load(config).state.dir
        if halting.resume(state, SystemClock(), by=operator(), reason=_said(reason)):
            click.echo("drills may start again")
        else:
            click.echo("no halt was engaged")


def _said(reason: str) -> str:
    words = " ".join(reason.split())
    if not words:
        raise click.BadParameter("say why", param_hint="--reason")
    return words
