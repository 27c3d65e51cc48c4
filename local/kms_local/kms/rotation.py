"""Rotation: switched on the primary alone, shared by all related keys."""

from __future__ import annotations

from kms_local.kms.call import Call, Operation, refuse_unusable
from kms_local.kms.keys import RegionalKey, Rotation
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_LOWEST_DAYS, _HIGHEST_DAYS, _DEFAULT_DAYS = 90, 2560, 365


def enable_key_rotation(call: Call) -> JsonObject:
    """Switch automatic rotation on, or change its period."""
    key = _primary(call)
    given = call.params.integer("RotationPeriodInDays", low=_LOWEST_DAYS, high=_HIGHEST_DAYS)
    current = key.family.rotation
    since = current.since if current else call.now
    days = given or (current.period_days if current else _DEFAULT_DAYS)
    key.family.rotation = Rotation(days, since)
    return {}


def disable_key_rotation(call: Call) -> JsonObject:
    """Switch automatic rotation off."""
    _primary(call).family.rotation = None
    return {}


def get_key_rotation_status(call: Call) -> JsonObject:
    """Say whether a key rotates; while it is pending deletion the answer is no."""
    key = call.key()
    rotation = key.family.rotation
    if rotation is None or key.state(call.now).pending_deletion:
        return {"KeyId": key.arn, "KeyRotationEnabled": False}
    return {
        "KeyId": key.arn,
        "KeyRotationEnabled": True,
        "RotationPeriodInDays": rotation.period_days,
        "NextRotationDate": rotation.next_at(),
    }


def _primary(call: Call) -> RegionalKey:
    key = call.key()
    refuse_unusable(key, call.now)
    if not key.primary:
        raise ServiceError("UnsupportedOperationException", f"{key.arn} is a multi-region replica key.")
    return key


OPERATIONS: dict[str, Operation] = {
    "EnableKeyRotation": enable_key_rotation,
    "DisableKeyRotation": disable_key_rotation,
    "GetKeyRotationStatus": get_key_rotation_status,
}
