"""What the shell completes: names from the configuration. Silent where there is none that can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from kms_watchdog.commands.options import Stop, given_config_path, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.history.reading import HistoryFile, HistoryUnreadableError
from kms_watchdog.results import Kind
from kms_watchdog.state_folder import StateFolder


class _Name(click.ParamType[str]):
    """A word, checked by the command itself; only completed here."""

    def __init__(self, names: Callable[[Settings], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        del param
        path = given_config_path(ctx)
        if path is None:
            return []
        try:
            with ctx.scope(cleanup=False):
                names = self._names(load_settings(path))
        except Stop:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class RegionName(_Name):
    """A region of the estate."""

    name = "region"

    def __init__(self) -> None:
        super().__init__(lambda settings: settings.estate.regions)


class KeyName(_Name):
    """A key's purpose."""

    name = "key"

    def __init__(self) -> None:
        super().__init__(lambda settings: settings.keys)


class CanaryName(_Name):
    """A canary's id, or a kind of canary."""

    name = "canary"

    def __init__(self) -> None:
        super().__init__(canary_names)


def canary_names(settings: Settings) -> list[str]:
    """Return the kinds, and the ids of the canaries that have looked, from the history: it takes no client to know."""
    try:
        ids = HistoryFile(StateFolder(settings.state.dir).history).canaries()
    except HistoryUnreadableError:
        ids = [f"{Kind.ROUND_TRIP}:{region}:{key}" for region in settings.estate.regions for key in settings.keys]
    return [*map(str, Kind), *ids]
