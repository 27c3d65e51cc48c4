"""The core's settings as they stand outside the program: in the environment, and in the product's one TOML file.

One table (`SETTINGS`) says which name means which field. The setup guide's own names are `AWS_ACCOUNT_ID`,
`AWS_REGION`, `NODE_ENV` and `AWS_ROLE_ARN` in the environment, and `dataKeyTTL` (milliseconds!),
`maxEncryptionsPerKey`, `circuitBreakerThreshold` and `maxRetries` in its configuration object.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms_core.errors import ConfigurationError

PURPOSES = ("general", "pii", "payment")
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
ALIAS = "alias/parker-flight-{purpose}-{environment}"
TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 - a variable's name, not a secret
_ENVIRONMENTS = ("NODE_ENV", "ENVIRONMENT")


@dataclass(slots=True)
class Fields:
    """What was read: fields of `CoreConfig`, and for each purpose those of its `KeyConfig`."""

    core: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)


def whole(text: str) -> int:
    """Return the whole number that `text` says."""
    return int(text)


def seconds(text: str) -> float:
    """Return the seconds that `text` says."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a number of seconds")
    return value


def milliseconds(text: str) -> float:
    """Return the seconds that `text`, milliseconds, says."""
    return seconds(text) / 1000


def names(text: str) -> tuple[str, ...]:
    """Return the names that `text` lists, with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def switch(text: str) -> bool:
    """Return whether `text` says yes."""
    return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is called outside, how it is read there, and which field of `CoreConfig` it is."""

    field: str
    variable: str
    parse: Callable[[str], Any]
    expected: str
    guide: str = ""
    """The setup guide's name in its configuration object, taken under `[core]` too; empty: it has none."""
    guide_scale: float = 1.0
    """What the guide's number is multiplied by to give the field's."""


SETTINGS: tuple[Setting, ...] = (
    Setting("account_id", "AWS_ACCOUNT_ID", str, "12 digits"),
    Setting("home_region", "AWS_REGION", str, "an AWS region: where this process runs, whichever is the keys' primary"),
    Setting("role_arn", "AWS_ROLE_ARN", str, "a role's ARN"),
    Setting("regions", "KMS_REGIONS", names, "AWS regions with commas between them", "regions"),
    Setting("region_preference", "KMS_REGION_PREFERENCE", names, "AWS regions with commas between them"),
    Setting("data_key_ttl_seconds", "KMS_DATA_KEY_TTL_MS", milliseconds, "milliseconds", "dataKeyTTL", 0.001),
    Setting("max_encryptions_per_key", "KMS_MAX_ENCRYPTIONS_PER_KEY", whole, "a whole number", "maxEncryptionsPerKey"),
    Setting(
        "circuit_breaker_threshold", "KMS_CIRCUIT_BREAKER_THRESHOLD", whole, "a whole number", "circuitBreakerThreshold"
    ),
    Setting("max_retries", "KMS_MAX_RETRIES", whole, "a whole number", "maxRetries"),
    Setting("deadline_seconds", "KMS_DEADLINE_SECONDS", seconds, "seconds"),
    Setting("connect_timeout_seconds", "KMS_CONNECT_TIMEOUT_SECONDS", seconds, "seconds"),
    Setting("read_timeout_seconds", "KMS_READ_TIMEOUT_SECONDS", seconds, "seconds"),
    Setting("attempt_timeout_seconds", "KMS_ATTEMPT_TIMEOUT_SECONDS", seconds, "seconds"),
    Setting("breaker_open_seconds", "KMS_BREAKER_OPEN_SECONDS", seconds, "seconds"),
    Setting("slow_call_seconds", "KMS_SLOW_CALL_SECONDS", seconds, "seconds"),
    Setting("verify_account", "KMS_VERIFY_ACCOUNT", switch, "true or false"),
    Setting("ca_bundle", "KMS_CA_BUNDLE", str, "a file with PEM certificates"),
)
"""Every setting that the environment can give, besides those of a purpose (`KMS_KEY_ALIAS_*`, `KMS_KEY_ID_*`)."""

_NOT_IN_CORE_TABLE = frozenset({"account_id", "home_region", "role_arn", "regions", "verify_account", "ca_bundle"})


def from_environ(environ: Mapping[str, str]) -> Fields:
    """Return the settings that `environ` gives.

    Keys: `KMS_KEY_ALIAS_<PURPOSE>` and `KMS_KEY_ID_<PURPOSE>`; a purpose without an alias of its own has
    `alias/parker-flight-<purpose>-<environment>`, where the environment is `NODE_ENV`, `ENVIRONMENT` or `production`.

    Raises:
        ConfigurationError: a variable is missing or cannot be read; its name is in the text.
    """
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    if "AWS_REGION" not in given and "AWS_DEFAULT_REGION" in given:
        given["AWS_REGION"] = given["AWS_DEFAULT_REGION"]
    found = Fields(core={"verify_account": True, "regions": REGIONS})
    for setting in SETTINGS:
        if setting.variable in given:
            found.core[setting.field] = _parsed(setting, given[setting.variable])
    for setting in SETTINGS[:2]:
        if setting.field not in found.core:
            raise ConfigurationError(f"{setting.variable} is not set: {setting.expected}")
    if TOKEN_FILE in given:
        found.core.pop("role_arn", None)  # boto3 itself takes role and token (IRSA): nothing is left to assume
    found.keys = _keys_of(given)
    return found


def from_toml(path: Path, *, others: Mapping[str, Any]) -> Fields:
    """Return the settings of the product's TOML file: `[estate] [keys.*] [endpoints.*] [core]`; the rest is not ours.

    Args:
        path: of the file.
        others: fields of `CoreConfig` that `SETTINGS` does not have, with their defaults: `[core]` may set them too.

    Raises:
        ConfigurationError: not readable, not TOML, something missing, or an unknown key under `[core]`.
    """
    document = _document(path)
    estate = _table(path, document, "estate")
    found = Fields()
    found.core |= {
        "account_id": _required(path, estate, "account_id"),
        "regions": tuple(_required(path, estate, "regions")),
        "ca_bundle": _anchored(path, estate.get("ca_bundle")),
    }
    if "primary_region" in estate:
        found.core["primary_region"] = estate["primary_region"]
    found.core["home_region"] = estate.get("home_region") or next(iter(found.core["regions"]), "")
    endpoints = document.get("endpoints", {})
    found.core["endpoints"] = {region: named["kms"] for region, named in endpoints.items() if "kms" in named}
    found.core["sts_endpoints"] = {region: named["sts"] for region, named in endpoints.items() if "sts" in named}
    found.core |= _core_table(path, document.get("core", {}), others)
    for purpose, key in _table(path, document, "keys").items():
        found.keys[purpose] = {name: key[name] for name in ("alias", "key_id", "strict_key_state") if name in key}
    return found


def _parsed(setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except (ValueError, KeyError) as e:
        raise ConfigurationError(f"{setting.variable} must be {setting.expected}, not {text!r}") from e


def _keys_of(given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    environment = next((given[name] for name in _ENVIRONMENTS if name in given), "production")
    keys: dict[str, dict[str, Any]] = {
        purpose: {"alias": ALIAS.format(purpose=purpose, environment=environment)} for purpose in PURPOSES
    }
    for prefix, name in (("KMS_KEY_ALIAS_", "alias"), ("KMS_KEY_ID_", "key_id")):
        for variable in sorted(given):
            if variable.startswith(prefix):
                keys.setdefault(variable.removeprefix(prefix).lower(), {})[name] = given[variable]
    if nameless := [purpose for purpose, key in keys.items() if "alias" not in key]:
        raise ConfigurationError(f"KMS_KEY_ALIAS_{nameless[0].upper()} is not set")
    return keys


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError(f"{path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigurationError(f"{path}: not valid TOML: {e}") from e


def _table(path: Path, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name)
    if not isinstance(table, dict) or not table:
        raise ConfigurationError(f"{path}: [{name}] is missing")
    return table


def _required(path: Path, estate: Mapping[str, Any], name: str) -> Any:
    if not estate.get(name):
        raise ConfigurationError(f"{path}: estate.{name} is missing")
    return estate[name]


def _anchored(path: Path, file: str | None) -> str | None:
    """Return `file` as it counts from the folder of `path`."""
    return None if file is None else str(path.resolve().parent / Path(file).expanduser())


def _core_table(path: Path, table: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    by_name = {name: (name, 1.0) for name in others if name not in _NOT_IN_CORE_TABLE}
    by_name |= {s.field: (s.field, 1.0) for s in SETTINGS if s.field not in _NOT_IN_CORE_TABLE}
    by_name |= {s.guide: (s.field, s.guide_scale) for s in SETTINGS if s.guide and s.field not in _NOT_IN_CORE_TABLE}
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            raise ConfigurationError(
                f"{path}: core.{name}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
            )
        target, scale = by_name[name]
        if target in found:
            raise ConfigurationError(f"{path}: core.{name}: {target} is given twice")
        found[target] = _toml_value(path, name, value, scale, others.get(target, 0.0))
    return found


def _toml_value(path: Path, name: str, value: Any, scale: float, default: Any) -> Any:
    if isinstance(value, list) and isinstance(default, tuple):
        return tuple(value)
    if type(value) is type(default) or (type(value) is int and isinstance(default, float)):
        return value * scale if scale != 1.0 else value
    raise ConfigurationError(f"{path}: core.{name} must be as {default!r} is, not {value!r}")
