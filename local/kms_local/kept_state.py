"""`state.json`: what a server that was told to keep its state takes up again; written anew after each change.

It holds key material and credentials in the clear, all of them made up here, and is readable by its owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kms_local.endpoints import write_atomically

FILE_NAME = "state.json"
_SCHEMA = 1
T = TypeVar("T")


class KeptStateError(Exception):
    """The file cannot be read or is none of ours; the text is one line that says why."""


class KeptState:
    """The parts of the state and the file they are in; without a file nothing is kept.

    Raises:
        KeptStateError: the file cannot be read, or is none of ours.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._parts: dict[str, Callable[[], Any]] = {}
        self._found = _read(path) if path is not None else {}

    def read(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """Return what `parse` makes of what the last run kept of a part, None if it kept nothing.

        Raises:
            KeptStateError: what was kept is not of the form that `parse` reads.
        """
        if name not in self._found:
            return None
        try:
            return parse(self._found[name])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
            raise KeptStateError(f"{self._path}: {name} cannot be read: {e!r}") from e

    def keep(self, name: str, part: Callable[[], Any]) -> None:
        """Keep from now on what `part` returns, under `name`."""
        self._parts[name] = part

    def save(self) -> None:
        """Write every part; a crash leaves the file as it was before or as it is after.

        Raises:
            OSError: the directory cannot be written any more.
        """
        if self._path is not None:
            document = {"schema": _SCHEMA, "parts": {name: part() for name, part in self._parts.items()}}
            write_atomically(self._path, json.dumps(document).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise KeptStateError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise KeptStateError(f"{path} is not JSON: {e}") from e
    if (
        not isinstance(document, dict)
        or document.get("schema") != _SCHEMA
        or not isinstance(document.get("parts"), dict)
    ):
        raise KeptStateError(f"{path} is not of schema {_SCHEMA}: another version wrote it, or something else did")
    return dict(document["parts"])
