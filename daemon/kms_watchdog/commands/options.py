"""What the subcommands share: where the configuration is, and errors of one line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from kms_core import ConfigurationError
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.configuring.environment import ESTATE_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])

_ESTATE = "kms_watchdog.estate"
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
    """Add `--config` and `--estate`."""
    return estate_option(_file_option(function))


def estate_option(function: F) -> F:
    """Add `--estate`; the commands are not given it: `chosen_estate` tells who loads the file."""

    def keep(context: click.Context, _parameter: click.Parameter, estate: str | None) -> None:
        context.meta[_ESTATE] = estate

    return click.option(
        "--estate",
        envvar=ESTATE_VARIABLE,
        show_envvar=True,
        expose_value=False,
        callback=keep,
        is_eager=True,  # before a callback that loads the file
        help="Which of the configuration's [estates.NAME].  [default: the only one]",
        shell_complete=_complete_estate,
    )(function)


def chosen_estate() -> str | None:
    """Return what the command that runs was given as `--estate`."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_ESTATE) if context else None


def given_config_path(context: click.Context) -> Path | None:
    """Return the configuration that a half-typed command would read."""
    if typed := context.params.get("config_path"):
        return Path(typed)
    option = next((param for param in context.command.params if param.name == "config_path"), None)
    found = option and (option.value_from_envvar(context) or option.get_default(context))
    return Path(str(found)) if found else None


def _complete_estate(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    path = given_config_path(context)
    try:
        estates = tomllib.loads(path.read_text(encoding="utf-8")).get("estates", {}) if path else {}
    except (OSError, ValueError, RecursionError):
        return []
    return [name for name in estates if name.startswith(incomplete)]


def _file_option(function: F) -> F:
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


def load_settings(config_path: Path, estate: str | None = None) -> Settings:
    """Return the settings, the core's own checks passed too; of `estate` instead of the one that was chosen.

    Raises:
        Stop: they cannot be used; exit code 2.
    """
    try:
        settings = load(config_path, estate or chosen_estate())
        settings.core_config()
    except ConfigError as e:
        raise Stop(str(e)) from e
    except ConfigurationError as e:
        raise Stop(f"{config_path}: core: {e}") from e
    return settings
