"""Rotation: switched and asked for on the primary alone, shared by all related keys; the old material still opens."""

from __future__ import annotations

from kms_local.kms.call import Call, Operation, refuse_unusable
from kms_local.kms.ciphertext import material_name
from kms_local.kms.keys import Family, Material, RegionalKey, Rotation
from kms_local.kms.paging import page
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_LOWEST_DAYS, _HIGHEST_DAYS, _DEFAULT_DAYS = 90, 2560, 365
_MAX_ON_DEMAND = 25  # a key and its whole life; AWS does not raise it
_TOO_CLOSE_SECONDS = 20 * 60.0  # to an automatic rotation


def enable_key_rotation(call: Call) -> JsonObject:
    """Switch automatic rotation on, or change its period, which then counts from the last rotation or the switch."""
    key = _primary(call)
    given = call.params.integer("RotationPeriodInDays", low=_LOWEST_DAYS, high=_HIGHEST_DAYS)
    current = key.family.rotation
    since = current.next_at - current.period_seconds if current else call.now
    rotation = Rotation(given or (current.period_days if current else _DEFAULT_DAYS), next_at=0.0)
    rotation.next_at = max(since + rotation.period_seconds, call.now)
    key.family.rotation = rotation
    call.estate.expect(rotation.next_at)
    return {}


def disable_key_rotation(call: Call) -> JsonObject:
    """Switch automatic rotation off."""
    _primary(call).family.rotation = None
    return {}


def rotate_key_on_demand(call: Call) -> JsonObject:
    """Make new key material, a little later; the calendar's next rotation stays where it is."""
    key = _primary(call)
    family = key.family
    if family.on_demand_since is None:  # otherwise it is under way, and asking again starts no second one
        _refuse_on_demand(family, call.now)
        family.on_demand_since = call.now
        family.on_demand_ends = call.now + call.estate.creating_seconds
        call.estate.expect(family.on_demand_ends)
    return {"KeyId": family.key_id}


def get_key_rotation_status(call: Call) -> JsonObject:
    """Say whether a key rotates; while it is pending deletion the answer is no."""
    key = call.key()
    family = key.family
    answer: JsonObject = {"KeyId": family.key_id, "KeyRotationEnabled": False}
    if family.rotation is not None and not key.state(call.now).pending_deletion:
        answer["KeyRotationEnabled"] = True
        answer["RotationPeriodInDays"] = family.rotation.period_days
        answer["NextRotationDate"] = family.rotation.next_at
    if family.on_demand_since is not None:
        answer["OnDemandRotationStartDate"] = family.on_demand_since
    return answer


def list_key_rotations(call: Call) -> JsonObject:
    """List the rotations that are done, oldest first; with all key material the first one too, which none made."""
    family = call.key().family
    everything = call.params.optional_text("IncludeKeyMaterial") == "ALL_KEY_MATERIAL"
    items = [_entry(family, material) for material in family.materials if everything or material.rotated_at is not None]
    return page(call.params, "Rotations", items, default=100, high=1000)


def _entry(family: Family, material: Material) -> JsonObject:
    answer: JsonObject = {
        "KeyId": family.key_id,
        "KeyMaterialId": material_name(material),
        "KeyMaterialState": "CURRENT" if material is family.materials[-1] else "NON_CURRENT",
    }
    if material.rotated_at is None:
        return answer
    kind = "ON_DEMAND" if material.on_demand else "AUTOMATIC"
    return {**answer, "RotationDate": material.rotated_at, "RotationType": kind}


def _primary(call: Call) -> RegionalKey:
    key = call.key()
    refuse_unusable(key, call.now)
    if not key.primary:
        # AWS documents the code; the words are not recorded
        raise ServiceError("UnsupportedOperationException", f"{key.arn} is a multi-Region replica key.")
    return key


def _refuse_on_demand(family: Family, now: float) -> None:
    done = sum(material.on_demand for material in family.materials)
    if done >= _MAX_ON_DEMAND:
        usage = f"is {_MAX_ON_DEMAND}, current usage is {done}."
        raise ServiceError("LimitExceededException", f"On-demand rotations quota for this key {usage}")
    if family.rotation is not None and family.rotation.next_at - now <= _TOO_CLOSE_SECONDS:
        raise ServiceError(
            "ConflictException",
            "An automatic rotation of this key is in progress or scheduled to begin within the next 20 minutes.",
        )


OPERATIONS: dict[str, Operation] = {
    "EnableKeyRotation": enable_key_rotation,
    "DisableKeyRotation": disable_key_rotation,
    "RotateKeyOnDemand": rotate_key_on_demand,
    "GetKeyRotationStatus": get_key_rotation_status,
    "ListKeyRotations": list_key_rotations,
}
