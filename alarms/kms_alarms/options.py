"""What the commands share: where the configuration is, and what their exit codes mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kms_watchdog.commands.options import chosen_estate, estate_option
from kms_watchdog.config import Settings, load

F = TypeVar("F", bound=Callable[..., Any])

EXIT_BAD_FOUND = 1
EXIT_USAGE = 2
EXIT_COULD_NOT_TELL = 3
EXIT_REFUSED = 4


def config_option(function: F) -> F:
    """Add `--config` and `--estate`; the command is given `settings`."""
    return estate_option(_file(function))


def _settings(_context: click.Context, _parameter: click.Parameter, path: Path) -> Settings:
    return load(path, chosen_estate())


_file = click.option(
    "--config",
    "settings",
    type=click.Path(path_type=Path),
    default=Path("watchdog.toml"),
    envvar="KMS_WATCHDOG_CONFIG",
    show_default=True,
    callback=_settings,
    help="The configuration, shared by all five commands.",
)
