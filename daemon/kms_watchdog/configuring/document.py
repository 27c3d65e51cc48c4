"""The document that a file and its environment amount to, and where each value in it comes from. Pure but for `read`.

The later wins: what the file shares among its estates, the chosen estate's own tables, the setup guide's variables, the
`KMS_WATCHDOG__` variables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kms_watchdog.configuring.refusal import ConfigError, nearest

ESTATES = "estates"
_ESTATE_NAME = re.compile(r"[a-z0-9-]{1,40}")
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")

Where = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from."""

    kind: Literal["file", "environment"]
    name: str
    """The key in the file, or the variable."""
    variables: tuple[str, ...] = ()
    """What a value of the file takes from the environment by `${NAME}`."""

    def __str__(self) -> str:
        """Return it in words, for people."""
        taken = "".join(f" with ${{{name}}}" for name in self.variables)
        return f"{self.kind}: {self.name}{taken}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Nested tables, and the origin of each value that is no table; what is not here has its default."""

    path: Path
    estate: str = ""
    """The name of the estate that was chosen among several; empty when the file holds one without a name."""
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Where, Origin] = field(default_factory=dict)

    def origin(self, where: Where) -> Origin | None:
        """Return the origin of the value at `where`, or of the list that it is in; None: a default."""
        for length in range(len(where), 0, -1):
            if found := self.origins.get(where[:length]):
                return found
        return None

    def put(self, where: Where, value: Any, origin: Origin) -> None:
        """Set a value, or merge a table into the one that is there.

        Raises:
            ConfigError: a value stands where a table belongs.
        """
        if isinstance(value, Mapping):
            self._table(where, origin)
            for name, each in value.items():
                below = f"{origin.name}.{name}" if origin.kind == "file" and origin.name else origin.name
                self.put((*where, name), each, Origin(kind=origin.kind, name=below or name))
            return
        table = self._table(where[:-1], origin)
        if isinstance(table.get(where[-1]), Mapping):  # else nothing is below it, and each of thousands looks at all
            for old in [known for known in self.origins if known[: len(where)] == where]:
                del self.origins[old]
        table[where[-1]] = value
        self.origins[where] = origin

    def _table(self, where: Where, origin: Origin) -> dict[str, Any]:
        table = self.values
        for i, name in enumerate(where):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{self.path}: {origin.name}: {'.'.join(where[: i + 1])} must be a table")
        return table


def read(path: Path) -> dict[str, Any]:
    """Return the file's tables.

    Raises:
        ConfigError: not readable, or not TOML.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:  # bytes that are no text, a number of 5000 digits, tables without end
        raise ConfigError(f"{path}: not valid TOML: {e}") from e
    if _is_deeper(tables, _DEEPEST):
        raise ConfigError(f"{path}: tables are nested deeper than any that it has: {_DEEPEST} levels")
    return tables


_DEEPEST = 32
"""Far more than there are. TOML has no limit, and what goes through tables one in the other here has one."""


def _is_deeper(tables: dict[str, Any], levels: int) -> bool:
    within: list[Any] = [tables]
    for _ in range(levels):
        within = [value for table in within for value in table.values() if isinstance(value, dict)]
    return bool(within)


def estate_names(tables: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the `[estates.NAME]` tables; none: the file holds one estate, without a name."""
    estates = tables.get(ESTATES)
    return tuple(estates) if isinstance(estates, dict) else ()


def choose(path: Path, tables: Mapping[str, Any], estate: str | None) -> Document:
    """Return the document of one estate: what the file shares, and the chosen estate's own tables over it.

    A single estate is chosen by itself, `estate.name` is the table's name unless it says otherwise.

    Raises:
        ConfigError: there is no such estate, or several and none is chosen.
    """
    if ESTATES not in tables:
        if estate and estate != _said_name(tables):
            raise ConfigError(f"{path}: holds no [estates.{estate}]: it is of one estate, without such a table")
        found = Document(path=path)
        found.put((), tables, Origin(kind="file", name=""))
        return found
    names = _checked_names(path, tables[ESTATES])
    name = estate or (names[0] if len(names) == 1 else "")
    if not name:
        raise ConfigError(f"{path}: holds several estates: choose one by --estate, of {', '.join(names)}")
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        raise ConfigError(f"{path}: estates.{name}: no such estate{hint}")
    return _merged(path, tables, name)


def _merged(path: Path, tables: Mapping[str, Any], name: str) -> Document:
    found = Document(path=path, estate=name)
    where = f"{ESTATES}.{name}"
    found.put(("estate", "name"), name, Origin(kind="file", name=where))
    shared = {section: table for section, table in tables.items() if section != ESTATES}
    found.put((), shared, Origin(kind="file", name=""))
    found.put((), tables[ESTATES][name], Origin(kind="file", name=where))
    return found


def _checked_names(path: Path, estates: Any) -> tuple[str, ...]:
    if not isinstance(estates, dict) or not estates:
        raise ConfigError(f"{path}: estates: tables are expected here, [estates.NAME.estate] and so on")
    for name, table in estates.items():
        if not _ESTATE_NAME.fullmatch(name):
            raise ConfigError(f"{path}: estates.{name}: a name is 1 to 40 of a-z, 0-9 and -")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: estates.{name}: a table is expected here")
    return tuple(estates)


def _said_name(tables: Mapping[str, Any]) -> str:
    estate = tables.get("estate")
    return str(estate.get("name", "")) if isinstance(estate, dict) else ""


def expand(document: Document, environ: Mapping[str, str]) -> None:
    """Put the environment's values for `${NAME}` into every text of the file; `$${` stands for `${` itself.

    Raises:
        ConfigError: a variable is not set, or `${` begins nothing.
    """
    for where, origin in list(document.origins.items()):
        if origin.kind != "file":
            continue
        taken: list[str] = []
        value = _expanded(_at(document.values, where), environ, taken, f"{document.path}: {origin.name}")
        _at(document.values, where[:-1])[where[-1]] = value
        if taken:
            document.origins[where] = Origin(kind="file", name=origin.name, variables=tuple(dict.fromkeys(taken)))


def _expanded(value: Any, environ: Mapping[str, str], taken: list[str], where: str) -> Any:
    if isinstance(value, list):
        return [_expanded(each, environ, taken, where) for each in value]
    if isinstance(value, dict):  # a table in a list
        return {name: _expanded(each, environ, taken, where) for name, each in value.items()}
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None:
            raise ConfigError(f"{where}: ${{ begins no ${{NAME}}; $${{ stands for ${{ itself")
        if name not in environ:
            raise ConfigError(f"{where}: the variable {name} is not set")
        taken.append(name)
        return environ[name]

    return _VARIABLE.sub(found, value)


def _at(values: Any, where: Where) -> Any:
    for name in where:
        values = values[name]
    return values


def leaves(values: Mapping[str, Any], where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Return every value that is no table, with its path; an empty table counts as a value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*where, name))
        else:
            yield (*where, name), value
