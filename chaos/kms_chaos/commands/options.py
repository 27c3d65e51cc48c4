"""What the commands share: where the configuration is, exit codes, errors of one line, and a run by name or path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from kms_chaos import heal
from kms_chaos.drill import DrillError
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.route import RouteError
from kms_chaos.guards import RefusedError
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.tenure import SlotTakenError
from kms_core.errors import ConfigurationError
from kms_watchdog import config as configuration
from kms_watchdog import tables
from kms_watchdog.commands.options import chosen_estate, estate_option
from kms_watchdog.config import ConfigError, Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import journal
from kms_watchdog.drills.copies import all_folders
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecordError

F = TypeVar("F", bound=Callable[..., Any])

GOOD, BAD, USAGE, UNCLEAR, REFUSED = 0, 1, 2, 3, 4
_PIPED_COLUMNS = 200
_FILE = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("watchdog.toml"),
    envvar="KMS_WATCHDOG_CONFIG",
    show_default=True,
    help="The watchdog's configuration.",
)


def config_option(function: F) -> F:
    """Add `--config` and `--estate`; the command is given `config`, a path."""
    return estate_option(_FILE(function))


def load(config: Path) -> Settings:
    """Return the configuration in `config`, of the estate that was chosen.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    return configuration.load(config, chosen_estate())


def printer(*, stderr: bool = False) -> Console:
    """Return what tables are printed to: as wide as the terminal, and wide enough for all where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return tables.console(stderr=stderr, width=None if stream.isatty() else _PIPED_COLUMNS)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what can go wrong into one line on stderr and the exit code that it deserves."""
    try:
        yield
    except (ConfigError, ConfigurationError, DrillError, RouteError, ToxiproxyError) as e:
        _stop(USAGE, e)
    except SlotTakenError as e:  # whoever asks twice for one slot, as another machine or a trigger may, asks no harm
        _stop(GOOD if e.done else UNCLEAR, e)
    except (RefusedError, heal.OwnerLivesError, JournalError) as e:
        _stop(REFUSED, e)
    except (UndoRecordError, JournalWriteError, OSError) as e:
        _stop(BAD, e)


def _stop(code: int, error: Exception) -> None:
    click.echo(f"kms-chaos: {' '.join(str(error).split())}", err=True)
    raise SystemExit(code) from error


def journal_of(where: DrillFolder) -> journal.Journal:
    """Return the journal in a run's folder.

    Raises:
        DrillError: there is none.
        JournalError: it is not whole.
    """
    if not where.journal.is_file():
        raise DrillError(f"{where.path}: no journal is there")
    return journal.read(where.journal)


def folder_of(which: str, settings: Callable[[], Settings]) -> DrillFolder:
    """Return the folder of a run: by its path, or by its id, of those that are known on this machine.

    Raises:
        DrillError: there is no such run.
    """
    path = Path(which)
    if path.is_dir():
        return DrillFolder(path.resolve())
    known = {where.run_id: where for where in all_folders(settings().state.dir)}
    return known.get(which) or run_folder(settings(), which)


def run_folder(settings: Settings, run_id: str) -> DrillFolder:
    """Return the folder of `run_id` in the state folder.

    Raises:
        DrillError: there is no such run.
    """
    try:
        where = folders.folder(settings.state.dir, run_id)
    except ValueError as e:
        raise DrillError(str(e)) from e
    if not where.path.is_dir():
        raise DrillError(f"no drill {run_id} in {folders.drills_dir(settings.state.dir)}")
    return where
