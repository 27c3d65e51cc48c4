"""The operations on aliases; each region has its own."""

from __future__ import annotations

import re

from kms_local.kms.call import Call, Operation, refuse_pending_deletion
from kms_local.kms.keys import Alias, RegionalKey
from kms_local.kms.paging import page
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_NAME = re.compile(r"alias/[a-zA-Z0-9/_-]+")
_MAX_ALIASES_A_KEY = 50


def create_alias(call: Call) -> JsonObject:
    """Give a key of this region one more name."""
    name = _name(call)
    if name in call.region.aliases:
        raise ServiceError("AlreadyExistsException", f"An alias with the name {call.arn(name)} already exists")
    key = _target(call)
    _refuse_too_many(call, key)
    call.region.aliases[name] = Alias(name, key.family.key_id, call.now, call.now)
    return {}


def update_alias(call: Call) -> JsonObject:
    """Point an existing alias at another key."""
    alias = _existing(call)
    key = _target(call)
    if alias.key_id != key.family.key_id:
        _refuse_too_many(call, key)
    alias.key_id, alias.updated_at = key.family.key_id, call.now
    return {}


def delete_alias(call: Call) -> JsonObject:
    """Take a name away; the key stays."""
    del call.region.aliases[_existing(call).name]
    return {}


def list_aliases(call: Call) -> JsonObject:
    """List this region's aliases, or those of one key."""
    key_id = call.key().family.key_id if call.params.given("KeyId") else None
    items = [
        {
            "AliasName": alias.name,
            "AliasArn": call.arn(alias.name),
            "TargetKeyId": alias.key_id,
            "CreationDate": alias.created_at,
            "LastUpdatedDate": alias.updated_at,
        }
        for alias in sorted(call.region.aliases.values(), key=lambda alias: alias.name)
        if key_id in {None, alias.key_id}
    ]
    return page(call.params, "Aliases", items, default=50, high=100)


def _name(call: Call) -> str:
    name = call.params.text("AliasName")
    if not name.startswith("alias/"):
        raise ServiceError(
            "ValidationException",
            'Alias must start with the prefix "alias/". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        )
    if not _NAME.fullmatch(name):
        raise ServiceError("ValidationException", f"{name} contains invalid characters for an alias")
    if name.startswith("alias/aws/"):
        raise ServiceError("NotAuthorizedException", "")
    return name


def _refuse_too_many(call: Call, key: RegionalKey) -> None:
    usage = sum(alias.key_id == key.family.key_id for alias in call.region.aliases.values())
    if usage >= _MAX_ALIASES_A_KEY:
        quota = f"is {_MAX_ALIASES_A_KEY}, current usage is {usage}."
        raise ServiceError("LimitExceededException", f"Aliases per key quota for this account in this region {quota}")


def _target(call: Call) -> RegionalKey:
    if call.params.text("TargetKeyId").startswith("alias/"):
        raise ServiceError("ValidationException", "Aliases must refer to keys. Not aliases")
    key = call.key("TargetKeyId")
    refuse_pending_deletion(key, call.now)
    return key


def _existing(call: Call) -> Alias:
    name = _name(call)
    if name not in call.region.aliases:
        raise ServiceError("NotFoundException", f"Alias {call.arn(name)} is not found.")
    return call.region.aliases[name]


OPERATIONS: dict[str, Operation] = {
    "CreateAlias": create_alias,
    "UpdateAlias": update_alias,
    "DeleteAlias": delete_alias,
    "ListAliases": list_aliases,
}
