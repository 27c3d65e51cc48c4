"""Which keys a request is about, for faults that are meant for one key, and keys that only seem to be in a state."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kms_local.faults import Fate
from kms_local.kms.call import Call
from kms_local.kms.ciphertext import parse
from kms_local.kms.keys import Estate, KeyState, Region, RegionalKey
from kms_local.wire.errors import ServiceError

_MEMBERS = ("KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "AliasName")


def key_names(estate: Estate, region: Region, members: Mapping[str, Any]) -> Collection[str]:
    """Return every name of every key that a request uses: id, ARN, aliases and their ARNs.

    A Decrypt that names no key uses the one that its ciphertext names. What names no key of the region counts as it
    was given, so that a fault may be meant for a key that does not exist.
    """
    found: set[str] = set()
    for given in _given(members):
        found.add(given)
        key = _resolve(region, given)
        if key is not None:
            found.update(_names(estate, region, key))
    return found


def seen_through(fate: Fate, call: Call) -> Call:
    """Return the call as it looks under the faults in force: with copies of the keys that seem to be different."""
    seen = dict(call.region.keys)
    for meant, state in fate.key_states:
        for key_id, key in seen.items():
            if meant == "*" or meant in _names(call.estate, call.region, key):
                seen[key_id] = replace(key, stored_state=state, ready_at=math.inf, **_dates(state, key, call.now))
    return replace(call, region=replace(call.region, keys=seen))


def _given(members: Mapping[str, Any]) -> Iterator[str]:
    for name in _MEMBERS:
        value = members.get(name)
        if isinstance(value, str):
            yield value
    blob = members.get("CiphertextBlob")
    if isinstance(blob, str):
        try:
            yield parse(base64.b64decode(blob)).key_id
        except (ServiceError, binascii.Error, ValueError):  # the operation itself says what is wrong with it
            return


def _resolve(region: Region, given: str) -> RegionalKey | None:
    resource = given.split(":", 5)[-1] if given.startswith("arn:") else given
    alias = region.aliases.get(resource)
    return region.keys.get(resource.removeprefix("key/") if alias is None else alias.key_id)


def _names(estate: Estate, region: Region, key: RegionalKey) -> Iterator[str]:
    yield key.family.key_id
    yield key.arn
    for alias in region.aliases.values():
        if alias.key_id == key.family.key_id:
            yield alias.name
            yield estate.arn(region.name, alias.name)


def _dates(state: KeyState, key: RegionalKey, now: float) -> dict[str, Any]:
    """Return the dates that belong to a state, which DescribeKey shows."""
    if state is KeyState.PENDING_DELETION:
        return {"deletion_at": key.deletion_at or now + 30 * 86_400.0}
    if state is KeyState.PENDING_REPLICA_DELETION:
        return {"deletion_at": None, "window_days": key.window_days or 30}
    return {"deletion_at": None}
