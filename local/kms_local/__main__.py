"""The command `kms-local`: a local AWS, a local Toxiproxy, the demo and the game day."""

from __future__ import annotations

import sys
from importlib import import_module

try:
    import click
except ModuleNotFoundError:  # the base install is the crypto core alone
    sys.stderr.write("kms-local needs the extra 'local': pip install 'kms-watchdog[local]'\n")
    sys.exit(2)

_EXIT_USAGE = 2
_COMMANDS = {  # name: (module, the extras it needs, what the list says)
    "configuration": ("kms_local.configuration_command", "local", "Print a watchdog.toml for a running server."),
    "demo": (
        "kms_local.demo.command",
        "drills,local",
        "Run the watchdog over three local regions, through a drill, to a verdict.",
    ),
    "game-day": (
        "kms_local.game_day.command",
        "drills,local",
        "Lose a region under the example application's load; time each step.",
    ),
    "fault": ("kms_local.fault_command", "local", "Switch faults of a running server's API on and off."),
    "pager": ("kms_local.pager_command", "local", "Print what SNS delivers: a subscriber for the local alarms."),
    "roles": ("kms_local.roles_command", "local", "Let a running server have the roles of a file."),
    "serve": ("kms_local.serve_command", "local", "Serve KMS, CloudWatch, SNS, STS and IAM of several regions."),
    "toxiproxy": ("kms_local.toxiproxy.command", "local", "Serve the API of Toxiproxy 2.12 and its proxies."),
}
_EPILOG = """\b
Examples:
  kms-local serve --dir /tmp/aws
  kms-local toxiproxy -port 8474
  kms-local demo --once
"""


class _Commands(click.Group):
    """Imports a command's module when it is asked for: the Toxiproxy server must not pay for what the demo imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None for a name that is none."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, extra, _ = _COMMANDS[cmd_name]
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as e:
            if (e.name or "").startswith("kms_"):
                raise
            click.echo(f"kms-local {cmd_name} needs {e.name}: pip install 'kms-watchdog[{extra}]'", err=True)
            sys.exit(_EXIT_USAGE)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


@click.group(cls=_Commands, epilog=_EPILOG)
def group() -> None:
    """A local AWS and a local Toxiproxy, for tests, drills and the demo; everything listens on 127.0.0.1."""


def main() -> None:
    """Run `kms-local`."""
    group(prog_name="kms-local")


if __name__ == "__main__":
    main()
