"""An estate as plain JSON and back, so that it can outlive the process.

The document holds key material: whoever writes it to a file keeps that file to its owner.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from typing import Any

from kms_local.kms.keys import (
    Alias,
    Estate,
    Family,
    Grant,
    KeyState,
    Material,
    RegionalKey,
    Rotation,
    make_estate,
)
from kms_local.wire.params import JsonObject

VERSION = 1


def to_document(estate: Estate) -> JsonObject:
    """Return everything the estate holds, in values that JSON has."""
    families = {key.family.key_id: key.family for region in estate.regions.values() for key in region.keys.values()}
    return {
        "version": VERSION,
        "account_id": estate.account_id,
        "families": [_family_document(family) for family in families.values()],
        "regions": {
            region.name: {
                "keys": [_key_document(key) for key in region.keys.values()],
                "aliases": [_alias_document(alias) for alias in region.aliases.values()],
            }
            for region in estate.regions.values()
        },
    }


def from_document(
    document: Mapping[str, Any],
    *,
    regions: tuple[str, ...],
    creating_seconds: float,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Estate:
    """Return the estate that a document describes.

    Args:
        document: what `to_document` returned, perhaps after a way through a file.
        regions: the regions to serve; one that the document does not know is empty.
        creating_seconds: as for `make_estate`: a setting, not a part of the estate.
        entropy: as for `make_estate`.

    Raises:
        ValueError: the document is of another version, is none of ours, contradicts itself, or has keys in a region
            that is not to be served.
    """
    if document.get("version") != VERSION:
        msg = f"the state is of version {document.get('version')!r}, and only version {VERSION} can be read"
        raise ValueError(msg)
    try:
        estate = make_estate(document["account_id"], regions, creating_seconds=creating_seconds, entropy=entropy)
        _fill(estate, document)
    except (KeyError, TypeError, AttributeError) as e:
        msg = f"the state is not a document of this program: {e!r}"
        raise ValueError(msg) from e
    return estate


def _fill(estate: Estate, document: Mapping[str, Any]) -> None:
    families = {one["key_id"]: _family(one) for one in document["families"]}
    for name, held in document["regions"].items():
        if name not in estate.regions and (held["keys"] or held["aliases"]):
            msg = f"the state has keys in {name}, which is not served"
            raise ValueError(msg)
        for one in held["keys"]:
            key = _key(estate, families[one["key_id"]], name, one)
            estate.regions[name].keys[key.family.key_id] = key
        for one in held["aliases"]:
            estate.regions[name].aliases[one["name"]] = Alias(**one)
    _check(estate, families)


def _check(estate: Estate, families: Mapping[str, Family]) -> None:
    """Refuse a document whose parts do not fit together: it was written by somebody else, or cut."""
    for family in families.values():
        found = {region.name for region in estate.regions.values() if family.key_id in region.keys}
        if found != set(family.regions) or family.regions[:1] != [family.primary_region] or not family.materials:
            msg = f"the state contradicts itself about {family.key_id}"
            raise ValueError(msg)
    for region in estate.regions.values():
        if any(alias.key_id not in region.keys for alias in region.aliases.values()):
            msg = f"the state has an alias without a key in {region.name}"
            raise ValueError(msg)


# -- what related keys share ----------------------------------------------------------------------------------------


def _family_document(family: Family) -> JsonObject:
    rotation = family.rotation
    return {
        "key_id": family.key_id,
        "multi_region": family.multi_region,
        "primary_region": family.primary_region,
        "regions": list(family.regions),
        "materials": [_material_document(material) for material in family.materials],
        "rotation": rotation and {"period_days": rotation.period_days, "next_at": rotation.next_at},
        "on_demand_since": family.on_demand_since,
        "on_demand_ends": family.on_demand_ends,
    }


def _family(document: Mapping[str, Any]) -> Family:
    rotation = document["rotation"]
    return Family(
        key_id=document["key_id"],
        multi_region=document["multi_region"],
        primary_region=document["primary_region"],
        materials=[_material(one) for one in document["materials"]],
        rotation=rotation and Rotation(**rotation),
        regions=list(document["regions"]),
        on_demand_since=document["on_demand_since"],
        on_demand_ends=document["on_demand_ends"],
    )


def _material_document(material: Material) -> JsonObject:
    return {
        "material_id": base64.b64encode(material.material_id).decode(),
        "secret": base64.b64encode(material.secret).decode(),
        "rotated_at": material.rotated_at,
        "on_demand": material.on_demand,
    }


def _material(document: Mapping[str, Any]) -> Material:
    return Material(
        base64.b64decode(document["material_id"], validate=True),
        base64.b64decode(document["secret"], validate=True),
        document["rotated_at"],
        document["on_demand"],
    )


# -- what each region has of its own --------------------------------------------------------------------------------


def _key_document(key: RegionalKey) -> JsonObject:
    return {
        "key_id": key.family.key_id,
        "description": key.description,
        "policy": key.policy,
        "created_at": key.created_at,
        "state": key.stored_state.value,
        "tags": dict(key.tags),
        "ready_at": key.ready_at,
        "deletion_at": key.deletion_at,
        "window_days": key.window_days,
        "updating_until": key.updating_until,
        "grants": [_grant_document(grant) for grant in key.grants.values()],
    }


def _key(estate: Estate, family: Family, region: str, document: Mapping[str, Any]) -> RegionalKey:
    return RegionalKey(
        family=family,
        region=region,
        arn=estate.arn(region, f"key/{family.key_id}"),
        description=document["description"],
        policy=document["policy"],
        created_at=document["created_at"],
        stored_state=KeyState(document["state"]),
        tags=dict(document["tags"]),
        ready_at=document["ready_at"],
        deletion_at=document["deletion_at"],
        window_days=document["window_days"],
        updating_until=document["updating_until"],
        grants={one["grant_id"]: _grant(one) for one in document["grants"]},
    )


def _grant_document(grant: Grant) -> JsonObject:
    return {
        "grant_id": grant.grant_id,
        "grantee": grant.grantee,
        "operations": list(grant.operations),
        "created_at": grant.created_at,
        "name": grant.name,
        "retiring_principal": grant.retiring_principal,
        "context_equals": None if grant.context_equals is None else dict(grant.context_equals),
        "context_subset": None if grant.context_subset is None else dict(grant.context_subset),
    }


def _grant(document: Mapping[str, Any]) -> Grant:
    return Grant(**{**document, "operations": tuple(document["operations"])})


def _alias_document(alias: Alias) -> JsonObject:
    return {
        "name": alias.name,
        "key_id": alias.key_id,
        "created_at": alias.created_at,
        "updated_at": alias.updated_at,
    }
