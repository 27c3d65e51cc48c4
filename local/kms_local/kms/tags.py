"""Tags of a key in one region."""

from __future__ import annotations

from collections.abc import Mapping

from kms_local.kms.call import Call, Operation, refuse_pending_deletion
from kms_local.kms.paging import page
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_MAX_TAGS = 50


def tag_resource(call: Call) -> JsonObject:
    """Add tags to a key, or change their values."""
    key = call.key()
    refuse_pending_deletion(key, call.now)
    tags = {**key.tags, **given_tags(call.params)}
    if len(tags) > _MAX_TAGS:
        raise _too_many()
    key.tags = tags
    return {}


def untag_resource(call: Call) -> JsonObject:
    """Take tags from a key; one that it has not is no error."""
    key = call.key()
    refuse_pending_deletion(key, call.now)
    gone = set(call.params.texts("TagKeys"))
    key.tags = {name: value for name, value in key.tags.items() if name not in gone}
    return {}


def list_resource_tags(call: Call) -> JsonObject:
    """List a key's tags."""
    return page(call.params, "Tags", tag_list(call.key().tags), default=50, high=50)


def given_tags(params: Params) -> dict[str, str]:
    """Return the request's tags.

    Raises:
        ServiceError: TagException: a key twice, too many, or a reserved one.
    """
    given = params.objects("Tags")
    tags = {tag.text("TagKey"): tag.text("TagValue") for tag in given}
    if len(tags) < len(given):
        raise ServiceError("TagException", "Duplicate tag keys")
    if len(tags) > _MAX_TAGS:
        raise _too_many()
    if any(name.lower().startswith("aws:") for name in tags):
        raise ServiceError("TagException", "Tags beginning with aws: are reserved")
    return tags


def _too_many() -> ServiceError:
    return ServiceError("TagException", "Too many tags")


def tag_list(tags: Mapping[str, str]) -> list[JsonObject]:
    """Return tags in the form of the wire."""
    return [{"TagKey": name, "TagValue": value} for name, value in tags.items()]


OPERATIONS: dict[str, Operation] = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListResourceTags": list_resource_tags,
}
