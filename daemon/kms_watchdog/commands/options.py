"""What the subcommands share: where the configuration is, and errors of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from kms_core import ConfigurationError
from kms_watchdog.config import ConfigError, Settings, load

F = TypeVar("F", bound=Callable[..., Any])

GOOD, BAD_FOUND, USAGE, COULD_NOT_TELL, REFUSED = 0, 1, 2, 3, 4


class Stop(click.ClickException):
    """End the command with one line on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(" ".join(message.split()))  # whatever was in it, it stays one line
        self.exit_code = exit_code  # type: ignore[misc] # click reads it from the instance too

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"kms-watchdog: {self.message}", file=file, err=file is None)


def config_option(function: F) -> F:
    """Add `--config`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("watchdog.toml"),
        show_default=True,
        envvar="KMS_WATCHDOG_CONFIG",
        show_envvar=True,
        help="The configuration.",
    )(function)


def load_settings(config_path: Path) -> Settings:
    """Return the settings, the core's own checks passed too.

    Raises:
        Stop: they cannot be used; exit code 2.
    """
    try:
        settings = load(config_path)
        settings.core_config()
    except ConfigError as e:
        raise Stop(str(e)) from e
    except ConfigurationError as e:
        raise Stop(f"{config_path}: core: {e}") from e
    return settings
