"""`kms-watchdog deploy`: what a platform is given so that it runs the watchdog, from the configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from kms_watchdog.commands.options import GOOD, USAGE, Stop, chosen_estate, config_option
from kms_watchdog.config import SHAPE, ConfigError, Settings, load
from kms_watchdog.configuring.document import Document, Where, choose, expand, read
from kms_watchdog.configuring.environment import ESTATE_VARIABLE
from kms_watchdog.deploying import ecs, kubernetes, systemd
from kms_watchdog.deploying.handed import Handed, handed, known_here


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A configuration, as a platform's renderer wants it."""

    settings: Settings
    document: Document
    """What the file says, with a stand-in for each secret."""

    def handed(self, *without: Where) -> Handed:
        """Return it as variables."""
        return handed(self.document, SHAPE, without=without)


def _ecs(asked: Asked) -> Mapping[str, str]:
    given, regions = asked.handed(ecs.HOME_REGION), asked.settings.estate.regions
    return {f"{region}.json": ecs.render(asked.settings, given, region=region) for region in regions}


def _systemd(asked: Asked) -> Mapping[str, str]:
    return {"kms-watchdog.service": systemd.render(asked.settings, asked.document)}


def _kubernetes(asked: Asked) -> Mapping[str, str]:
    return kubernetes.render(asked.settings, asked.handed())


FORMATS: Mapping[str, Callable[[Asked], Mapping[str, str]]] = {
    "ecs": _ecs,
    "systemd": _systemd,
    "kubernetes": _kubernetes,
}


@click.group(
    "deploy",
    epilog="""\b
Examples:
  kms-watchdog deploy render --format ecs --into deploy/ecs --config watchdog.toml""",
)
def command() -> None:
    """Render what a platform needs to run the watchdog."""


@command.command(
    "render",
    epilog="""\b
Examples:
  kms-watchdog deploy render --format ecs --into deploy/ecs --config watchdog.toml
  kms-watchdog deploy render --format systemd > /etc/systemd/system/kms-watchdog.service
  kms-watchdog deploy render --format kubernetes --into deploy/kubernetes""",
)
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    required=True,
    help="ecs: a CloudFormation template a region, for Fargate; systemd: a unit; kubernetes: manifests.",
)
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the files there, instead of printing the first of them.",
)
def render_command(config_path: Path, form: str, folder: Path | None) -> None:
    """Print what FORMAT needs, or write it into files.

    Only the file counts: of this shell's variables those alone that it names as ${NAME}. A secret that it takes so is
    not read here but becomes one of the platform's. One that stands in the file itself is refused, and so is a path
    that leads nowhere in a container.

    Exit code 0: rendered; 2: the configuration is not good, or the platform cannot run it.
    """
    try:
        files = FORMATS[form](_asked(config_path))
    except ConfigError as e:
        raise Stop(str(e)) from e
    if folder is None:
        click.echo(next(iter(files.values())), nl=False)
    for name, text in files.items() if folder else ():
        path = (folder or Path()) / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as e:
            raise Stop(f"{path}: cannot be written: {e.strerror}", USAGE) from e
        click.echo(path)
    sys.exit(GOOD)


def _asked(config_path: Path) -> Asked:
    """Return what the file says, and the settings that it makes; of this shell only what its `${NAME}` ask for."""
    estate = chosen_estate() or os.environ.get(ESTATE_VARIABLE) or None
    document = choose(config_path, read(config_path), estate)
    known = known_here(document, SHAPE, os.environ)
    expand(document, known)
    settings = load(config_path, estate, environ=known)
    settings.core_config()
    return Asked(settings=settings, document=document)
