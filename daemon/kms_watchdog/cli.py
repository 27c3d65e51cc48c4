"""The command line: names of subcommands and where they are; each is imported only when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

SUBCOMMANDS: Final = {
    "run": "kms_watchdog.commands.run",
    "once": "kms_watchdog.commands.once",
    "check-config": "kms_watchdog.commands.check_config",
    "provision": "kms_watchdog.commands.provision",
    "healthcheck": "kms_watchdog.commands.healthcheck",
}


class LazyGroup(click.Group):
    """A group whose commands are modules with a `command`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names, in the order in which one needs them."""
        return list(SUBCOMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, importing its module."""
        if name not in SUBCOMMANDS:
            return None
        found: click.Command = importlib.import_module(SUBCOMMANDS[name]).command
        return found


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  kms-watchdog check-config --config watchdog.toml
  kms-watchdog provision plan --config watchdog.toml
  kms-watchdog once --json --config watchdog.toml
  kms-watchdog run --config watchdog.toml

Exit codes: 0 good; 1 bad found; 2 usage or configuration; 3 could not tell; 4 refused.""",
)
@click.version_option(package_name="kms-watchdog", message="%(prog)s %(version)s")
def command() -> None:
    """Watch multi-Region AWS KMS keys: canaries in every region, health, metrics, drills looked after."""
