"""`kms-watchdog completion`: the script that makes a shell complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "kms-watchdog"
VARIABLE = "_KMS_WATCHDOG_COMPLETE"
"""As click derives it from the program's name."""


@click.command(
    "completion",
    epilog="""\b
Examples:
  source <(kms-watchdog completion bash)
  kms-watchdog completion zsh > ~/.zfunc/_kms-watchdog
  kms-watchdog completion fish > ~/.config/fish/completions/kms-watchdog.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script for a shell.

    It completes commands, options, and the configuration's estates, regions, keys and canaries.

    Exit code 0: printed; 2: no such shell is known.
    """
    group = context.find_root().command
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not known")
    click.echo(found(group, {}, PROGRAM, VARIABLE).source())
