"""The core's settings as they stand outside the program: in the environment, and in the product's one TOML file.

One table (`SETTINGS`) says which name means which field. The setup guide's own names are `AWS_ACCOUNT_ID`,
`AWS_REGION`, `NODE_ENV` and `AWS_ROLE_ARN` in the environment, and `dataKeyTTL` (milliseconds!),
`maxEncryptionsPerKey`, `circuitBreakerThreshold` and `maxRetries` in its configuration object.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms_core.errors import ConfigurationError

PURPOSES = ("general", "pii", "payment")
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
ALIAS = "alias/parker-flight-{purpose}-{environment}"
_ENVIRONMENTS = ("NODE_ENV", "ENVIRONMENT")
_INSTEAD = {"AWS_REGION": "AWS_DEFAULT_REGION"}
"""A variable to the one that boto3 takes when it is not set."""


@dataclass(slots=True)
class Fields:
    """What was read: fields of `CoreConfig`, and for each purpose those of its `KeyConfig`."""

    core: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """A field, such as `max_retries` or `keys.pii.alias`, to what an error calls it."""
    source: str = ""
    """What every error begins with."""

    def named(self, refusal: str) -> str:
        """Return `refusal`, which begins with a field, with the name that the field has outside."""
        name = next((one for one in self.names if refusal.startswith(f"{one} ")), "")
        return f"{self.source}{self.names.get(name, '')}{refusal.removeprefix(name)}"


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
    Setting("web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE", str, "a file with a token, as on EKS"),
    Setting("regions", "KMS_REGIONS", names, "AWS regions with commas between them", "regions"),
    Setting("region_preference", "KMS_REGION_PREFERENCE", names, "AWS regions with commas between them"),
    Setting("primary_region", "KMS_PRIMARY_REGION", str, "an AWS region: where the keys' primaries are"),
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
    Setting("hedging", "KMS_HEDGING", switch, "true or false"),
    Setting("stale_if_unavailable", "KMS_STALE_IF_UNAVAILABLE", switch, "true or false"),
    Setting("failover_on_access_denied", "KMS_FAILOVER_ON_ACCESS_DENIED", switch, "true or false"),
    Setting("edk_arn", "KMS_EDK_ARN", str, "response or primary"),
    Setting("verify_account", "KMS_VERIFY_ACCOUNT", switch, "true or false"),
    Setting("ca_bundle", "KMS_CA_BUNDLE", str, "a file with PEM certificates"),
)
"""Every setting that the environment can give, besides the purposes (`KMS_PURPOSES`) and those of each one
(`KMS_KEY_ALIAS_*`, `KMS_KEY_ID_*`)."""

_ESTATE = ("account_id", "regions", "home_region", "primary_region", "ca_bundle")
_SERVICES = {"kms": "endpoints", "sts": "sts_endpoints"}
_NOT_IN_CORE_TABLE = frozenset({*_ESTATE, *_SERVICES.values(), "keys"})
_FILES = ("ca_bundle", "web_identity_token_file")
_NEAR = 0.7  # `keyId` is near `key_id`; of two services, `sns` is not near `sts`


def from_environ(environ: Mapping[str, str]) -> Fields:
    """Return the settings that `environ` gives.

    Purposes: those of `KMS_PURPOSES`, with commas; else `general`, `pii`, `payment` and those that have a key below.
    Keys: `KMS_KEY_ALIAS_<PURPOSE>` and `KMS_KEY_ID_<PURPOSE>`; a purpose without an alias of its own has
    `alias/parker-flight-<purpose>-<environment>`, where the environment is `NODE_ENV`, `ENVIRONMENT` or `production`.

    Raises:
        ConfigurationError: a variable is missing or cannot be read; its name is in the text.
    """
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    found = Fields(core={"verify_account": True, "regions": REGIONS})
    for setting in SETTINGS:
        variable = setting.variable if setting.variable in given else _INSTEAD.get(setting.variable, "")
        if variable in given:
            found.core[setting.field] = _parsed(setting, variable, given[variable])
            found.names[setting.field] = f"{variable}: {setting.field}"
    for setting in SETTINGS[:2]:
        if setting.field not in found.core:
            raise ConfigurationError(f"{setting.variable} is not set: {setting.expected}")
    if "role_arn" not in found.core:
        found.core.pop("web_identity_token_file", None)  # boto3 too heeds it together with a role alone
    _take_purposes(given, found)
    _take_keys(given, found)
    return found


def from_toml(path: Path, *, core: Collection[str], key: Collection[str]) -> Fields:
    """Return the settings of the product's TOML file: `[estate] [keys.*] [endpoints.*] [core]`; the rest is not ours.

    `[core]` is ours alone. In the others' tables, what is nearly a key of ours is refused, and what is not is left to
    the commands that share the file.

    Args:
        path: of the file.
        core: the fields of `CoreConfig`; `[core]` may set all that stand nowhere else.
        key: the fields of `KeyConfig`.

    Raises:
        ConfigurationError: not readable, not TOML, no table where one belongs, something missing, or a key that is
            unknown.
    """
    document = _document(path)
    found = Fields(source=f"{path}: ")
    in_core = _in_core_table(core)
    _read_estate(path, document, in_core, found)
    _read_core(path, document, in_core, found)
    _read_endpoints(path, document, found)
    _read_keys(path, document, key, found)
    for name in _FILES:
        found.core[name] = _anchored(path, found.core.get(name))
    asks = asks_account(found.core.get("endpoints", {}), found.core.get("sts_endpoints", {}))
    found.core.setdefault("verify_account", asks)
    return found


def asks_account(endpoints: Mapping[str, str], sts_endpoints: Mapping[str, str]) -> bool:
    """Return whether STS is asked for the account unless somebody says otherwise: not where it may be the wrong one.

    Who gives KMS an address of its own, and STS none, would have AWS's asked about credentials that are not for it.
    """
    return bool(sts_endpoints) or not endpoints


def _parsed(setting: Setting, variable: str, text: str) -> Any:
    try:
        return setting.parse(text)
    except (ValueError, KeyError) as e:
        raise ConfigurationError(f"{variable} must be {setting.expected}, not {text!r}") from e


def _take_purposes(given: Mapping[str, str], found: Fields) -> None:
    """Give every purpose the alias that follows from its name."""
    purposes = names(given["KMS_PURPOSES"]) if "KMS_PURPOSES" in given else PURPOSES
    environment = next((name for name in _ENVIRONMENTS if name in given), "")
    said_by = " and ".join(name for name in ("KMS_PURPOSES", environment) if name in given)
    for purpose in purposes:
        found.keys[purpose] = {"alias": ALIAS.format(purpose=purpose, environment=given.get(environment, "production"))}
        if said_by:
            found.names[f"keys.{purpose}.alias"] = f"{said_by}: keys.{purpose}.alias"
    if "KMS_PURPOSES" in given:
        found.names |= {name: f"KMS_PURPOSES: {name}" for name in ("keys", *(f"keys.{one}" for one in purposes))}


def _take_keys(given: Mapping[str, str], found: Fields) -> None:
    """Give the purposes the keys that are said to be theirs."""
    for prefix, name in (("KMS_KEY_ALIAS_", "alias"), ("KMS_KEY_ID_", "key_id")):
        for variable in sorted(one for one in given if one.startswith(prefix)):
            purpose = variable.removeprefix(prefix).lower()
            if "KMS_PURPOSES" in given and purpose not in found.keys:
                raise ConfigurationError(f"{variable} is set, but KMS_PURPOSES does not list {purpose}")
            found.keys.setdefault(purpose, {})[name] = given[variable]
            found.names |= {one: f"{variable}: {one}" for one in (f"keys.{purpose}", f"keys.{purpose}.{name}")}
    if nameless := [purpose for purpose, key in found.keys.items() if "alias" not in key]:
        raise ConfigurationError(f"KMS_KEY_ALIAS_{nameless[0].upper()} is not set")


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError(f"{path}: cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:  # bytes that are no text, a number of 5000 digits, tables without end
        raise ConfigurationError(f"{path}: not valid TOML: {e}") from e


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    """Return `value`, which the file has under `name`, when it is a table; None: it has nothing there."""
    if value is None:
        raise ConfigurationError(f"{path}: [{name}] is missing")
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path}: {name} must be a table, not {value!r}")
    return value


def _in_core_table(fields: Collection[str]) -> dict[str, tuple[str, float]]:
    """Return what may stand under `[core]`: a name to the field, and to what its number is multiplied by."""
    found = {name: (name, 1.0) for name in fields}
    found |= {setting.guide: (setting.field, setting.guide_scale) for setting in SETTINGS if setting.guide}
    return {name: target for name, target in found.items() if target[0] not in _NOT_IN_CORE_TABLE}


def _of_both(in_core: Collection[str]) -> dict[str, str]:
    """Return the names under `[core]` and `[estate]`, to where they stand: who mistakes the table is told."""
    return {name: f"core.{name}" for name in in_core} | {name: f"estate.{name}" for name in _ESTATE}


def _refuse_unknown(path: Path, where: str, table: Collection[str], ours: Mapping[str, str], *, near: bool) -> None:
    """Refuse a key of `table` that is not among `ours`, its name to its place; `near`: only one that is nearly."""
    for name in table:
        if ours.get(name) == f"{where}.{name}":
            continue
        found = difflib.get_close_matches(name, ours, n=1, cutoff=_NEAR)
        if found or not near:
            hint = f"; did you mean {ours[found[0]]}?" if found else ""
            raise ConfigurationError(f"{path}: {where}.{name}: unknown key{hint}")


def _read_estate(path: Path, document: Mapping[str, Any], in_core: Collection[str], found: Fields) -> None:
    table = _table(path, "estate", document.get("estate"))
    _refuse_unknown(path, "estate", table, _of_both(in_core), near=True)
    for name in ("account_id", "regions"):
        if name not in table:
            raise ConfigurationError(f"{path}: estate.{name} is missing")
    regions = table["regions"]
    found.core["home_region"] = regions[0] if isinstance(regions, list) and regions else ""
    for name in _ESTATE:
        if name in table:
            found.core[name] = table[name]
            found.names[name] = f"estate.{name}"


def _read_core(
    path: Path, document: Mapping[str, Any], in_core: Mapping[str, tuple[str, float]], found: Fields
) -> None:
    table = _table(path, "core", document.get("core", {}))
    _refuse_unknown(path, "core", table, _of_both(in_core), near=False)
    for name, value in table.items():
        target, scale = in_core[name]
        if target in found.names:
            raise ConfigurationError(f"{path}: core.{name}: {target} is given twice")
        is_scaled = scale != 1.0 and type(value) in {int, float}  # anything else is refused as the field it is
        found.core[target] = value * scale if is_scaled else value
        found.names[target] = f"core.{name}" if name == target else f"core.{name}: {target}"


def _read_endpoints(path: Path, document: Mapping[str, Any], found: Fields) -> None:
    for region, named in _table(path, "endpoints", document.get("endpoints", {})).items():
        where = f"endpoints.{region}"
        table = _table(path, where, named)
        _refuse_unknown(path, where, table, {service: f"{where}.{service}" for service in _SERVICES}, near=True)
        for service, target in _SERVICES.items():
            if service in table:
                found.core.setdefault(target, {})[region] = table[service]
                found.names[f"{target}.{region}"] = f"{where}.{service}"


def _read_keys(path: Path, document: Mapping[str, Any], fields: Collection[str], found: Fields) -> None:
    for purpose, given in _table(path, "keys", document.get("keys")).items():
        where = f"keys.{purpose}"
        table = _table(path, where, given)
        _refuse_unknown(path, where, table, {name: f"{where}.{name}" for name in fields}, near=True)
        if "alias" not in table:
            raise ConfigurationError(f"{path}: {where}.alias is missing")
        found.keys[purpose] = {name: table[name] for name in fields if name in table}


def _anchored(path: Path, file: Any) -> Any:
    """Return `file` as it counts from the folder of `path`; what names no file is left as it is."""
    if not isinstance(file, str) or not file:
        return file
    try:
        return str(path.resolve().parent / Path(file).expanduser())
    except RuntimeError as e:  # nobody here has that name
        raise ConfigurationError(f"{path}: {file!r} names no folder: {e}") from e
