"""The operations that make, describe, switch and delete keys."""

from __future__ import annotations

import uuid

from kms_local.kms.call import (
    Call,
    Operation,
    refuse_in_transit,
    refuse_pending_deletion,
    refuse_unusable,
    refuse_updating,
)
from kms_local.kms.ciphertext import material_name
from kms_local.kms.keys import Estate, Family, KeyState, RegionalKey, new_material
from kms_local.kms.paging import page
from kms_local.kms.policies import default_policy, given_policy
from kms_local.kms.tags import given_tags, tag_list
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_SECONDS_A_DAY = 86_400
_MAX_KEYS_A_REGION = 100_000


def create_key(call: Call) -> JsonObject:
    """Make a symmetric encryption key, multi-Region or not; a second call makes a second key."""
    _refuse_other_kinds(call)
    policy = given_policy(call) or default_policy(call.estate.account_id)
    multi_region = call.params.flag("MultiRegion")
    raw = uuid.UUID(bytes=call.entropy(16), version=4)
    family = Family(
        key_id=f"mrk-{raw.hex}" if multi_region else str(raw),
        multi_region=multi_region,
        primary_region=call.region.name,
        materials=[new_material(call.entropy)],
    )
    key = _add(call, family, call.region.name, policy, KeyState.ENABLED)
    return {"KeyMetadata": metadata(call.estate, key, call.now)}


def replicate_key(call: Call) -> JsonObject:
    """Make a replica in another region; asked in the primary's region, and Creating for a while."""
    key = call.usable_key()
    refuse_updating(key, call.now)
    _refuse_all_but_primaries(key)
    region = _served_region(call, "ReplicaRegion")
    if region in key.family.regions:
        raise ServiceError(
            "AlreadyExistsException", "You can create only one replica of each primary key in each AWS Region."
        )
    policy = given_policy(call) or default_policy(call.estate.account_id)
    replica = _add(call, key.family, region, policy, KeyState.CREATING)
    answer: JsonObject = {
        "ReplicaKeyMetadata": metadata(call.estate, replica, call.now),
        "ReplicaPolicy": replica.policy,
    }
    return {**answer, "ReplicaTags": tag_list(replica.tags)} if replica.tags else answer


def describe_key(call: Call) -> JsonObject:
    """Describe a key by id, ARN, alias or alias ARN."""
    return {"KeyMetadata": metadata(call.estate, call.key(aliases=True), call.now)}


def list_keys(call: Call) -> JsonObject:
    """List the keys of this region, oldest first."""
    items = [{"KeyId": key.family.key_id, "KeyArn": key.arn} for key in call.region.keys.values()]
    return page(call.params, "Keys", items, default=100, high=1000)


def update_key_description(call: Call) -> JsonObject:
    """Change a key's description in this region."""
    key = call.key()
    refuse_pending_deletion(key, call.now)
    key.description = call.params.text("Description")
    return {}


def update_primary_region(call: Call) -> JsonObject:
    """Make a replica the primary, and the primary a replica; both are Updating for a while."""
    key = call.usable_key()
    refuse_updating(key, call.now)
    _refuse_all_but_primaries(key)
    region = call.params.text("PrimaryRegion")
    if region == call.region.name:
        raise ServiceError("UnsupportedOperationException", f"{key.arn} is already the primary key.")
    region = _served_region(call, "PrimaryRegion")
    if region not in key.family.regions:
        arn = call.estate.arn(region, f"key/{key.family.key_id}")
        raise ServiceError("NotFoundException", f"Key '{arn}' does not exist")
    replica = call.estate.regions[region].keys[key.family.key_id]
    refuse_unusable(replica, call.now)
    key.family.regions.remove(region)
    key.family.regions.insert(0, region)
    key.family.primary_region = region
    key.updating_until = replica.updating_until = call.now + call.estate.creating_seconds
    return {}


def enable_key(call: Call) -> JsonObject:
    """Enable a key in this region; a rotation that fell due while a primary was disabled happens at once."""
    key = _switch(call, KeyState.ENABLED)
    rotation = key.family.rotation
    if key.primary and rotation is not None:
        if rotation.next_at <= call.now:
            key.family.materials.append(new_material(call.entropy, rotated_at=call.now))
            rotation.next_at = call.now + rotation.period_seconds
        call.estate.expect(rotation.next_at)
    return {}


def disable_key(call: Call) -> JsonObject:
    """Disable a key in this region; its relatives elsewhere are not touched."""
    _switch(call, KeyState.DISABLED)
    return {}


def schedule_key_deletion(call: Call) -> JsonObject:
    """Schedule a key's deletion; a primary waits, unusable, until its last replica is gone."""
    key = call.key()
    days = call.params.integer("PendingWindowInDays", low=7, high=30, default=30) or 30
    refuse_in_transit(key, call.now)
    refuse_updating(key, call.now)
    key.window_days = days
    answer: JsonObject = {"KeyId": key.arn, "PendingWindowInDays": days}
    if key.primary and len(key.family.regions) > 1:
        key.stored_state = KeyState.PENDING_REPLICA_DELETION
    else:
        key.stored_state = KeyState.PENDING_DELETION
        key.deletion_at = call.now + days * _SECONDS_A_DAY
        answer["DeletionDate"] = key.deletion_at
        call.estate.expect(key.deletion_at)
    answer["KeyState"] = key.stored_state.value
    return answer


def cancel_key_deletion(call: Call) -> JsonObject:
    """Take a key back from pending deletion; it is Disabled then."""
    key = call.key()
    if not key.state(call.now).pending_deletion:
        raise ServiceError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
    key.stored_state, key.deletion_at, key.window_days = KeyState.DISABLED, None, None
    return {"KeyId": key.arn}


def metadata(estate: Estate, key: RegionalKey, now: float) -> JsonObject:
    """Return KeyMetadata as DescribeKey gives it."""
    state = key.state(now)
    answer: JsonObject = {
        "AWSAccountId": estate.account_id,
        "KeyId": key.family.key_id,
        "Arn": key.arn,
        "CreationDate": key.created_at,
        "Enabled": state is KeyState.ENABLED,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": state.value,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": key.family.multi_region,
        "CurrentKeyMaterialId": material_name(key.family.materials[-1]),
    }
    if state is KeyState.PENDING_REPLICA_DELETION:
        answer["PendingDeletionWindowInDays"] = key.window_days
    if key.deletion_at is not None:
        answer["DeletionDate"] = key.deletion_at
    if key.family.multi_region:
        moving = state is KeyState.UPDATING
        answer["MultiRegionConfiguration"] = _multi_region_configuration(estate, key, moving=moving)
    return answer


def _multi_region_configuration(estate: Estate, key: RegionalKey, *, moving: bool) -> JsonObject:
    keys = [{"Arn": related.arn, "Region": related.region} for related in estate.related(key.family)]
    return {
        # while the primary is being moved, AWS may show the old one and the new one as replicas
        "MultiRegionKeyType": "PRIMARY" if key.primary and not moving else "REPLICA",
        "PrimaryKey": keys[0],
        "ReplicaKeys": keys[1:],
    }


def _add(call: Call, family: Family, region: str, policy: str, state: KeyState) -> RegionalKey:
    held = call.estate.regions[region].keys
    if len(held) >= _MAX_KEYS_A_REGION:
        raise ServiceError("LimitExceededException", f"KMS keys quota is {_MAX_KEYS_A_REGION}.")
    key = RegionalKey(
        family=family,
        region=region,
        arn=call.estate.arn(region, f"key/{family.key_id}"),
        description=call.params.optional_text("Description") or "",
        policy=policy,
        created_at=round(call.now, 3),
        stored_state=state,
        tags=given_tags(call.params),
        ready_at=call.now + call.estate.creating_seconds,
    )
    family.regions.append(region)
    held[family.key_id] = key
    return key


def _switch(call: Call, state: KeyState) -> RegionalKey:
    key = call.key()
    refuse_in_transit(key, call.now)
    refuse_updating(key, call.now)
    key.stored_state = state
    return key


def _refuse_all_but_primaries(key: RegionalKey) -> None:
    if not (key.family.multi_region and key.primary):
        raise ServiceError("UnsupportedOperationException", f"{key.arn} is not a multi-Region primary key.")


def _served_region(call: Call, name: str) -> str:
    region = call.params.text(name)
    if region not in call.estate.regions:
        raise ServiceError("ValidationException", f"Invalid region {region}")
    return region


def _refuse_other_kinds(call: Call) -> None:
    """Refuse a key that is not symmetric, or whose material is not KMS's own: AWS has them, and this program has not.

    Raises:
        ServiceError: AWS's own error for a combination that AWS has not either.
    """
    params = call.params
    if params.given("KeySpec") and params.given("CustomerMasterKeySpec"):
        raise ServiceError(
            "ValidationException",
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "
            "CustomerMasterKeySpec is deprecated.",
        )
    spec = params.optional_text("KeySpec") or params.optional_text("CustomerMasterKeySpec") or "SYMMETRIC_DEFAULT"
    usage = params.optional_text("KeyUsage")
    if spec != "SYMMETRIC_DEFAULT" and usage is None:
        raise ServiceError(
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        )
    if spec != "SYMMETRIC_DEFAULT":
        raise ServiceError("UnsupportedOperationException", f"KeySpec {spec} is not supported here")
    if usage not in {None, "ENCRYPT_DECRYPT"}:
        raise ServiceError("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    origin = params.optional_text("Origin") or "AWS_KMS"
    if origin != "AWS_KMS":
        raise ServiceError("UnsupportedOperationException", f"Origin {origin} is not supported here")
    if params.given("CustomKeyStoreId") or params.given("XksKeyId"):
        raise ServiceError("UnsupportedOperationException", "Custom key stores are not supported here")


OPERATIONS: dict[str, Operation] = {
    "CreateKey": create_key,
    "ReplicateKey": replicate_key,
    "DescribeKey": describe_key,
    "ListKeys": list_keys,
    "UpdateKeyDescription": update_key_description,
    "UpdatePrimaryRegion": update_primary_region,
    "EnableKey": enable_key,
    "DisableKey": disable_key,
    "ScheduleKeyDeletion": schedule_key_deletion,
    "CancelKeyDeletion": cancel_key_deletion,
}
