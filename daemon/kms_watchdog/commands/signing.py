"""What `tasks` and `checklist` share: people's names and notes, and a state folder that may not be readable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from kms_core import SystemClock
from kms_watchdog.commands.options import COULD_NOT_TELL, Stop
from kms_watchdog.config import Settings
from kms_watchdog.readiness.sign_offs import SignOff, SignOffs
from kms_watchdog.state_folder import StateError

MOST_CHARACTERS: Final = 500
"""Of a name or a note: they go into a file that is read every few minutes."""


class Words(click.ParamType[str]):
    """One line of text that says something."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it on one line."""
        line = " ".join(value.split())
        if not line or len(line) > MOST_CHARACTERS or not line.isprintable():
            self.fail(f"1 to {MOST_CHARACTERS} printable characters are expected", param, ctx)
        return line


by_option = click.option("--by", required=True, type=Words(), metavar="NAME", help="Who did it, or answers for it.")
note_option = click.option("--note", required=True, type=Words(), metavar="TEXT", help="What was done, and what came.")


def sign(settings: Settings, subject: str, *, by: str, note: str) -> SignOff:
    """Write down that `subject` was done now, on disk before this returns.

    Raises:
        Stop: it cannot be written down; exit code 3.
    """
    with state_of(settings):
        return SignOffs(settings.state.dir, SystemClock()).sign(subject, by=by, note=note)


@contextmanager
def state_of(settings: Settings) -> Iterator[None]:
    """Read or write the state folder inside; when that cannot be done, nobody can tell.

    Raises:
        Stop: it cannot; exit code 3.
    """
    try:
        yield
    except StateError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    except OSError as e:
        raise Stop(f"{settings.state.dir}: {e.strerror or e}", COULD_NOT_TELL) from e
