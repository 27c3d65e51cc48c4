"""The command line: names of subcommands and where they are; each is imported only when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from kms_watchdog.configuring.refusal import ConfigError

SUBCOMMANDS: Final = {
    "run": "kms_watchdog.commands.run",
    "once": "kms_watchdog.commands.once",
    "check-config": "kms_watchdog.commands.check_config",
    "dump-config": "kms_watchdog.commands.dump_config",
    "provision": "kms_watchdog.commands.provision",
    "iam": "kms_watchdog.commands.iam",
    "preflight": "kms_watchdog.commands.preflight",
    "healthcheck": "kms_watchdog.commands.healthcheck",
    "status": "kms_watchdog.commands.status",
    "history": "kms_watchdog.commands.history",
    "digest": "kms_watchdog.commands.digest",
    "tasks": "kms_watchdog.commands.tasks",
    "checklist": "kms_watchdog.commands.checklist",
    "measure": "kms_watchdog.commands.measure",
    "cost": "kms_watchdog.commands.cost",
    "audit": "kms_watchdog.commands.audit",
    "deploy": "kms_watchdog.commands.deploy",
    "doctor": "kms_watchdog.commands.doctor",
    "evacuate": "kms_watchdog.commands.evacuate",
    "return": "kms_watchdog.commands.return_",
    "completion": "kms_watchdog.commands.completion",
}
SECTIONS: Final = {
    "Watch": ("run", "once"),
    "Find what is wrong": ("doctor",),
    "See what it saw": ("status", "history", "digest", "healthcheck"),
    "Be ready, and stay so": ("checklist", "tasks", "audit", "measure", "cost"),
    "Act in an outage": ("evacuate", "return"),
    "Set up": ("check-config", "dump-config", "provision", "iam", "deploy", "preflight"),
    "Shell": ("completion",),
}
"""The top help's headings; a command under none of them comes last."""


class LazyGroup(click.Group):
    """A group whose commands are modules with a `command`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return [name for _, names in sections() for name in names]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, importing its module."""
        if name not in SUBCOMMANDS:
            return None
        found: click.Command = importlib.import_module(SUBCOMMANDS[name]).command
        return found

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what turns out to be wrong with the configuration only while it runs is one line, too."""
        try:
            return super().invoke(ctx)
        except ConfigError as e:
            from kms_watchdog.commands.options import Stop  # noqa: PLC0415 - with pydantic; --help needs none of it

            raise Stop(str(e)) from e

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        for heading, names in sections():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl([(name, each.get_short_help_str(74)) for name, each in commands if each])


def sections() -> list[tuple[str, list[str]]]:
    """Return the headings with the commands that there are."""
    found = [(heading, [name for name in names if name in SUBCOMMANDS]) for heading, names in SECTIONS.items()]
    placed = {name for _, names in found for name in names}
    found.append(("More", [name for name in SUBCOMMANDS if name not in placed]))
    return [(heading, names) for heading, names in found if names]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  kms-watchdog check-config --config watchdog.toml
  kms-watchdog provision plan --config watchdog.toml
  kms-watchdog once --json --config watchdog.toml
  kms-watchdog run --config watchdog.toml
  kms-watchdog status --watch
  kms-watchdog evacuate us-east-1 --for 30m --reason "INC-7: KMS errors"

Exit codes: 0 good; 1 bad found; 2 usage or configuration; 3 could not tell; 4 refused.""",
)
@click.version_option(package_name="kms-watchdog", message="%(prog)s %(version)s")
def command() -> None:
    """Watch multi-Region AWS KMS keys: canaries in every region, health, metrics, drills looked after."""
