"""The one line that says why a configuration cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """The configuration cannot be used; the message is one line naming file (or variable), key and what is expected."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for the known name next to `name`, or nothing when none is near."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
