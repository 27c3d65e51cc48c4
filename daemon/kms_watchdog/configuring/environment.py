"""What the environment says of the configuration: the setup guide's variables, and `KMS_WATCHDOG__SECTION__KEY`. Pure.

A variable that nearly is one of ours is refused, or a misspelling would be taken for the default (scale.md §5.5).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from kms_core.config import SETTINGS
from kms_watchdog.configuring.document import Document, Origin, Where
from kms_watchdog.configuring.refusal import ConfigError, nearest
from kms_watchdog.configuring.shape import Shape

ROOT = "KMS_WATCHDOG"
ESTATE_VARIABLE = "KMS_WATCHDOG_ESTATE"
ACCOUNT, REGION = "AWS_ACCOUNT_ID", ("AWS_REGION", "AWS_DEFAULT_REGION")
_NEAR_ROOT = 0.8
_KEY_VARIABLES = {"KMS_KEY_ALIAS_": "alias", "KMS_KEY_ID_": "key_id"}


def apply(document: Document, environ: Mapping[str, str], shape: Shape) -> None:
    """Put what the environment says over what the file says: the guide's variables first, then our own.

    Raises:
        ConfigError: a variable cannot be read, or is unknown.
    """
    for variable, where, value in _guides(environ, shape):
        document.put(where, value, Origin(kind="environment", name=variable))
    for variable, text in sorted(environ.items()):
        named = _our_path(variable, shape)
        if named:
            document.put(named, _value(text, shape.at(named)), Origin(kind="environment", name=variable))


def settle(document: Document, environ: Mapping[str, str]) -> None:
    """Take the account and the region from the environment, which boto3 and platforms set for purposes of their own.

    An account never changes by such a variable: it is taken where the file names none. The region is where this process
    runs; one that the estate does not have says nothing about it.

    Raises:
        ConfigError: the file's account is another one.
    """
    estate = document.values.get("estate")
    if not isinstance(estate, dict):
        return
    if account := environ.get(ACCOUNT, "").strip():
        if "account_id" not in estate:
            document.put(("estate", "account_id"), account, Origin(kind="environment", name=ACCOUNT))
        origin = document.origins.get(("estate", "account_id"))
        if estate["account_id"] != account and origin is not None and origin.kind == "file":
            raise ConfigError(
                f"{document.path}: {origin.name} is {estate['account_id']!r}, but {ACCOUNT} is {account!r}; "
                f"{ROOT}__ESTATE__ACCOUNT_ID decides where that is meant"
            )
    _take_region(document, estate, environ)


def _take_region(document: Document, estate: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    variable = next((name for name in REGION if environ.get(name, "").strip()), "")
    origin = document.origins.get(("estate", "home_region"))
    said_by_us = origin is not None and origin.kind == "environment"
    regions = estate.get("regions")
    if variable and not said_by_us and isinstance(regions, list | tuple) and environ[variable].strip() in regions:
        document.put(("estate", "home_region"), environ[variable].strip(), Origin(kind="environment", name=variable))


def _guides(environ: Mapping[str, str], shape: Shape) -> Iterator[tuple[str, Where, Any]]:
    """Return what the setup guide's variables say, as the core reads them; empty ones say nothing."""
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    if "AWS_ROLE_ARN" not in given:
        given.pop("AWS_WEB_IDENTITY_TOKEN_FILE", None)  # boto3 too heeds it together with a role alone
    estate = shape.at(("estate",))
    for setting in SETTINGS:
        if setting.variable not in given or setting.variable in {ACCOUNT, *REGION}:
            continue
        try:
            value = setting.parse(given[setting.variable])
        except (ValueError, KeyError) as e:
            text = given[setting.variable]
            raise ConfigError(f"{setting.variable} must be {setting.expected}, not {text!r}") from e
        section = "estate" if estate is not None and setting.field in estate.names else "core"
        yield setting.variable, (section, setting.field), value
    for prefix, field in _KEY_VARIABLES.items():
        for variable in sorted(name for name in given if name.startswith(prefix)):
            yield variable, ("keys", variable.removeprefix(prefix).lower(), field), given[variable]


def _our_path(variable: str, shape: Shape) -> Where | None:
    """Return the path that a variable of ours names; None: it is none of ours."""
    root, separator, rest = variable.partition("__")
    if not separator:
        return None
    if root != ROOT:
        if root.startswith(ROOT) or difflib.SequenceMatcher(None, root, ROOT).ratio() > _NEAR_ROOT:
            section = root.removeprefix(ROOT).strip("_") if root.startswith(ROOT) else ""
            meant = "__".join(part for part in (ROOT, section, rest) if part)
            raise ConfigError(f"{variable}: unknown variable; did you mean {meant}?")
        return None
    where: list[str] = []
    for part in rest.lower().split("__"):
        here = shape.at(where)
        if here is None or not here.is_table:
            raise ConfigError(f"{variable}: unknown key: {'.'.join(where)} has none below it")
        name = part.replace("_", "-") if here.takes_any_name else part  # regions and the like have no underscore
        if here.below(name) is None:
            known = [f"{ROOT}__{'__'.join((*where, each)).upper()}" for each in here.names]
            raise ConfigError(f"{variable}: unknown key{nearest('__'.join((ROOT, *where, part)).upper(), known)}")
        where.append(name)
    return tuple(where)


def _value(text: str, shape: Shape | None) -> Any:
    """Return what a variable's text says: a TOML value where one belongs, else the text itself."""
    types = shape.types if shape else frozenset()
    if "string" in types and not text.strip().startswith(('"', "'")):
        return text  # an account of 12 digits is no number, and who writes a name does not think of quotes
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text  # what is wrong with it is said in the words of the key
