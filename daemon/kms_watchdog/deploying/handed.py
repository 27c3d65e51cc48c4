"""A configuration file as variables of a container: what it says, and which of it is secret. Pure.

`KMS_WATCHDOG__SECTION__KEY` says everything that the file can (docs/configuration.md), so no file has to get into the
container, and a platform's own secrets become single values of it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kms_core.config import GUIDE_NAMES
from kms_watchdog.configuring.document import Document, Where, leaves
from kms_watchdog.configuring.effective import toml_value
from kms_watchdog.configuring.environment import ROOT
from kms_watchdog.configuring.refusal import ConfigError
from kms_watchdog.configuring.shape import Shape
from kms_watchdog.deploying.container import STATE_FOLDER

_NAMED = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STATE = ("state", "dir")
STAND_IN = "https://stand-in.invalid/"
"""Passes for every secret: whoever renders need not know any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Variables by name."""

    values: Mapping[str, str]
    """What the file says."""
    secrets: Mapping[str, str]
    """What must not be shown, and so is taken from elsewhere; the values are the keys in the file."""


def known_here(document: Document, shape: Shape, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables that the file's `${NAME}` are to be read with: of secrets alone, only `STAND_IN`.

    Nothing else of `environ` counts: two people who render the same file get the same.
    """
    secret, plain = set[str](), set[str]()
    for where, value in leaves(document.values):
        (secret if _is_secret(shape, where) else plain).update(_NAMED.findall(toml_value(value)))
    given = {name: environ[name] for name in plain if name in environ}
    return {**dict.fromkeys(secret - plain, STAND_IN), **given}


def handed(document: Document, shape: Shape, *, without: Container[Where] = ()) -> Handed:
    """Return what a container is to be given so that it reads the same as `document`.

    Args:
        document: one estate's, its texts expanded with `known_here`.
        shape: of the configuration.
        without: what the platform says in other ways.

    Raises:
        ConfigError: a secret stands in the file itself, or a path leads to a file of this machine.
    """
    values, secrets = {_variable(_STATE): STATE_FOLDER}, {}
    for where, value in _said(document):
        key = ".".join(where)
        if where == _STATE or where in without:
            continue
        if _is_secret(shape, where):
            _check_is_elsewhere(document, where)
            secrets[_variable(where)] = key
            continue
        here = shape.at(where)
        if here is not None and here.is_path:
            _check_is_there_too(document, key, value)
        values[_variable(where)] = _text(value, here)
    return Handed(values=values, secrets=secrets)


def _said(document: Document) -> Iterator[tuple[Where, Any]]:
    """Return every value by its own name; the setup guide's names mean others, some in other units."""
    for where, value in leaves(document.values):
        if where[0] == "core" and where[-1] in GUIDE_NAMES:
            field, scale = GUIDE_NAMES[where[-1]]
            scaled = value * scale if scale != 1.0 and isinstance(value, int | float) else value
            yield ("core", field), scaled
        elif value != {}:
            yield where, value


def _is_secret(shape: Shape, where: Where) -> bool:
    here = shape.at(where)
    return here is not None and here.secret


def _variable(where: Where) -> str:
    return "__".join((ROOT, *(part.replace("-", "_").upper() for part in where)))


def _check_is_elsewhere(document: Document, where: Where) -> None:
    origin = document.origin(where)
    if origin is None or not origin.variables:
        key = ".".join(where)
        raise ConfigError(f'{document.path}: {key}: a secret must not stand in the file here: say "${{NAME}}"')


def _check_is_there_too(document: Document, key: str, value: Any) -> None:
    if isinstance(value, str) and not Path(value).is_absolute():
        raise ConfigError(
            f"{document.path}: {key}: {value!r} counts from the file's folder, which is not in the container; "
            "put it into the image, and name it from / on"
        )


def _text(value: Any, here: Shape | None) -> str:
    """Return what `environment` reads as `value`."""
    is_text = isinstance(value, str) and here is not None and "string" in here.types
    return value if is_text and not value.strip().startswith(('"', "'")) else toml_value(value)
