"""Which key is meant: by purpose, alias, id or ARN. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kms_core.arn import parse_key_arn
from kms_watchdog.config import Key

_ALIAS_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:(?P<account>\d{12}):(?P<alias>alias/[\w/-]+)")
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoSuchKeyError(ValueError):
    """What was given names no key; the text says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One key that is looked at."""

    purpose: str
    """Of the configuration; of a key that it does not know, the name that was given."""
    alias: str = ""
    key_id: str = ""
    """Where it is known beforehand."""
    configured: bool = True
    account_id: str = ""
    """Of the ARN by which it was asked for, if it was one."""


def all_keys(keys: Mapping[str, Key]) -> tuple[Wanted, ...]:
    """Return every key of the configuration."""
    return tuple(_configured(purpose, key) for purpose, key in keys.items())


def key_named(asked: str, keys: Mapping[str, Key], known_ids: Mapping[str, str]) -> Wanted:
    """Return the key that `asked` means.

    Args:
        asked: purpose, alias, id or ARN.
        keys: those of the configuration, by purpose.
        known_ids: by purpose the key ids that are known without asking.

    Raises:
        NoSuchKeyError: it is none of these.
    """
    if asked in keys:
        return _configured(asked, keys[asked])
    named = _parsed(asked, keys)
    for purpose, key in keys.items():
        ids = {key.key_id, known_ids.get(purpose)} - {None}
        if (named.alias and named.alias == key.alias) or (named.key_id and named.key_id in ids):
            return replace(_configured(purpose, key), account_id=named.account_id)
    return named


def purpose_of(wanted: Wanted, key_ids: Mapping[str, str]) -> str:
    """Return the purpose whose key `wanted` turned out to be, once it was seen where aliases lead; else its own."""
    found = (purpose for purpose, key_id in key_ids.items() if key_id == wanted.key_id and purpose != wanted.purpose)
    return wanted.purpose if wanted.configured else next(found, wanted.purpose)


def _configured(purpose: str, key: Key) -> Wanted:
    return Wanted(purpose=purpose, alias=key.alias, key_id=key.key_id or "")


def _parsed(asked: str, keys: Mapping[str, Key]) -> Wanted:
    if (arn := parse_key_arn(asked)) is not None:
        return Wanted(purpose=asked, key_id=arn.key_id, configured=False, account_id=arn.account)
    if found := _ALIAS_ARN.fullmatch(asked):
        return Wanted(purpose=asked, alias=found["alias"], configured=False, account_id=found["account"])
    if asked.startswith("alias/") or any(key.alias == f"alias/{asked}" for key in keys.values()):
        return Wanted(purpose=asked, alias=f"alias/{asked.removeprefix('alias/')}", configured=False)
    if _KEY_ID.fullmatch(asked):
        return Wanted(purpose=asked, key_id=asked, configured=False)
    near = difflib.get_close_matches(asked, [*keys, *(key.alias for key in keys.values())], n=1)
    meant = f"; did you mean {near[0]}?" if near else f": a purpose ({', '.join(keys)}), alias/NAME, a key's id or ARN"
    raise NoSuchKeyError(f"{asked!r} names no key{meant}")
