"""KMS's management calls, region by region: errors translated, refusals for load waited out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import DesiredKey

T = TypeVar("T")

MAX_TRIES = 6
FIRST_PAUSE_SECONDS = 0.2
NOT_FOUND, DENIED = "NotFoundException", "AccessDeniedException"
TRUNCATED = "Truncated"
"""The code of an answer that is not whole: botocore reports one as a success without members (aws.md, trap G)."""
# A principal that was made a moment ago is not visible yet; IAM is still busy with what was changed a moment ago.
_NOT_VISIBLE_YET = frozenset({NOT_FOUND})
"""What was made a moment ago is not known everywhere at once."""
_WAIT_FOR_ROLES = frozenset({"MalformedPolicyDocumentException", "ConcurrentModification"})


class EstateError(RuntimeError):
    """A management call failed.

    Args:
        region: which was asked.
        operation: AWS's name of it.
        code: AWS's own, or the class name of a fault of the connection.
        unreachable: nobody answered, so nothing is known.
        throttled: AWS asks to come again later.
        request_id: of the answer, where there was one.
    """

    def __init__(
        self,
        region: str,
        operation: str,
        code: str,
        *,
        unreachable: bool,
        throttled: bool = False,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{region}: {operation}: {code}")
        self.region, self.operation, self.code = region, operation, code
        self.unreachable, self.throttled, self.request_id = unreachable, throttled, request_id

    @classmethod
    def of(cls, error: Exception, region: str, operation: str) -> EstateError:
        """Return what `error`, one of `aws.AwsError`, means."""
        trouble = aws.trouble(error)
        response = getattr(error, "response", None) or {}
        return cls(
            region,
            operation,
            aws.error_code(error),
            unreachable=trouble == "unreachable",
            throttled=trouble == "throttled",
            request_id=str(response.get("ResponseMetadata", {}).get("RequestId", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInRegion:
    """One key resource as KMS describes it."""

    region: str
    arn: str
    key_id: str
    state: str
    multi_region_type: str
    """PRIMARY or REPLICA; empty for a key of one region."""
    primary_region: str
    description: str
    spec: str
    usage: str
    deletion_at_utc: datetime | None
    """When it will be gone; None without a date (a primary that waits for its replicas to go has none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One grant on a key in one region."""

    grantee: str
    operations: tuple[str, ...]


OnCall = Callable[[str, str], None]
"""Told of every request: the region, and the error's code, empty for success."""


def nobody(_region: str, _code: str) -> None:
    """Take note of nothing."""


class KmsAdmin:
    """One client a region; any thread may call any method.

    A call is repeated only when KMS itself refused it (load, roles not yet visible), never when its answer got lost: a
    second CreateKey would make a second key.
    """

    def __init__(self, settings: Settings, clock: Clock, *, tries: int = MAX_TRIES, on_call: OnCall = nobody) -> None:
        """Make the clients; call in the main thread.

        Args:
            settings: whose regions and endpoints.
            clock: waits between tries.
            tries: how often a call that is refused for load is made; a canary, which tells of it, makes it once.
            on_call: told of every request, from any thread.
        """
        self._clock, self._tries, self._on_call = clock, tries, on_call
        self._clients = {region: aws.client(settings, "kms", region) for region in settings.estate.regions}
        self._never = threading.Event()

    def describe(self, region: str, key: str) -> KeyInRegion | None:
        """Return the key with this id or alias in `region`, None if there is none."""

        def ask(kms: Any) -> KeyInRegion:
            return _key(region, kms.describe_key(KeyId=key)["KeyMetadata"])

        try:
            return self._call(region, "DescribeKey", ask)
        except EstateError as e:
            if e.code == NOT_FOUND:
                return None
            raise

    def alias_target(self, region: str, alias: str) -> str | None:
        """Return the id of the key that `alias` leads to, None if there is no such alias; reads all aliases there."""
        found = self._pages(region, "ListAliases", "Aliases")
        return next((one.get("TargetKeyId") for one in found if one["AliasName"] == alias), None)

    def policy(self, region: str, key_id: str) -> Mapping[str, Any]:
        """Return the key's policy."""

        def ask(kms: Any) -> Mapping[str, Any]:
            document: Mapping[str, Any] = json.loads(kms.get_key_policy(KeyId=key_id, PolicyName="default")["Policy"])
            return document

        return self._call(region, "GetKeyPolicy", ask)

    def tags(self, region: str, key_id: str) -> Mapping[str, str]:
        """Return the key's tags."""
        tags = self._pages(region, "ListResourceTags", "Tags", KeyId=key_id)
        return {tag["TagKey"]: tag["TagValue"] for tag in tags}

    def rotates(self, region: str, key_id: str) -> bool:
        """Return whether the key's rotation is on."""

        def ask(kms: Any) -> bool:
            return bool(kms.get_key_rotation_status(KeyId=key_id)["KeyRotationEnabled"])

        return self._call(region, "GetKeyRotationStatus", ask)

    def grants(self, region: str, key_id: str) -> tuple[Grant, ...]:
        """Return the grants on the key."""
        return tuple(
            Grant(grantee=one.get("GranteePrincipal", ""), operations=tuple(one.get("Operations", ())))
            for one in self._pages(region, "ListGrants", "Grants", KeyId=key_id)
        )

    def aliases(self, region: str, key_id: str) -> tuple[str, ...]:
        """Return all aliases of the key."""
        return tuple(one["AliasName"] for one in self._pages(region, "ListAliases", "Aliases", KeyId=key_id))

    def tagged(self, region: str, tags: Mapping[str, str]) -> tuple[KeyInRegion, ...]:
        """Return the multi-Region keys in `region` that carry all of `tags`.

        It asks about each key there; that is needed only where no alias leads to the key yet.
        """
        ids = [entry["KeyId"] for entry in self._pages(region, "ListKeys", "Keys")]
        ours = [i for i in ids if i.startswith("mrk-") and tags.items() <= self._tags_if_there(region, i).items()]
        return tuple(key for key_id in ours if (key := self.describe(region, key_id)))

    def _tags_if_there(self, region: str, key_id: str) -> Mapping[str, str]:
        """Return the tags of somebody's key, none if it is gone meanwhile; who keeps us out is named."""
        try:
            return self.tags(region, key_id)
        except EstateError as e:
            if e.code == NOT_FOUND:
                return {}
            if e.code == DENIED:  # it might be ours: to pass over it would be to make a second one
                operation = f"ListResourceTags of {key_id}"
                raise EstateError(region, operation, e.code, unreachable=False, request_id=e.request_id) from e
            raise

    def create(self, wanted: DesiredKey) -> str:
        """Make the primary key; return its id."""

        def ask(kms: Any) -> str:
            answer = kms.create_key(
                MultiRegion=True,
                KeyUsage=wanted.usage,
                KeySpec=wanted.spec,
                Policy=wanted.policy_text,
                Description=wanted.description_in(wanted.primary_region),
                Tags=_tag_list(wanted.tags),
            )
            return str(answer["KeyMetadata"]["KeyId"])

        return self._call(wanted.primary_region, "CreateKey", ask)

    def replicate(self, wanted: DesiredKey, key_id: str, region: str) -> None:
        """Make the replica in `region`; it is asked for in the primary's region.

        Policy, tags and description go along, since KMS copies none of them.
        """
        self._call(
            wanted.primary_region,
            "ReplicateKey",
            lambda kms: kms.replicate_key(
                KeyId=key_id,
                ReplicaRegion=region,
                Policy=wanted.policy_text,
                Description=wanted.description_in(region),
                Tags=_tag_list(wanted.tags),
            ),
            also=_NOT_VISIBLE_YET,
        )

    def create_alias(self, region: str, alias: str, key_id: str) -> None:
        """Let `alias` point to the key."""
        self._call(
            region,
            "CreateAlias",
            lambda kms: kms.create_alias(AliasName=alias, TargetKeyId=key_id),
            also=_NOT_VISIBLE_YET,
        )

    def put_policy(self, region: str, key_id: str, policy: str) -> None:
        """Put the key's policy in the place of the one there is."""
        self._call(
            region,
            "PutKeyPolicy",
            lambda kms: kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=policy),
        )

    def tag(self, region: str, key_id: str, tags: Mapping[str, str]) -> None:
        """Give the key these tags, besides those it has."""
        self._call(region, "TagResource", lambda kms: kms.tag_resource(KeyId=key_id, Tags=_tag_list(tags)))

    def untag(self, region: str, key_id: str, names: Sequence[str]) -> None:
        """Take these tags from the key."""
        self._call(region, "UntagResource", lambda kms: kms.untag_resource(KeyId=key_id, TagKeys=list(names)))

    def describe_as(self, region: str, key_id: str, description: str) -> None:
        """Give the key another description."""
        self._call(
            region,
            "UpdateKeyDescription",
            lambda kms: kms.update_key_description(KeyId=key_id, Description=description),
        )

    def enable_rotation(self, region: str, key_id: str) -> None:
        """Let the primary key rotate, and with it all its replicas."""
        self._call(
            region,
            "EnableKeyRotation",
            lambda kms: kms.enable_key_rotation(KeyId=key_id),
            also=_NOT_VISIBLE_YET,
        )

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._clock.wait(self._never, seconds)

    def _pages(self, region: str, operation: str, member: str, **arguments: Any) -> list[Any]:
        def ask(kms: Any) -> list[Any]:
            pages = kms.get_paginator(_METHODS[operation]).paginate(**arguments)
            return [item for page in pages for item in page[member]]

        return self._call(region, operation, ask)

    def _call(self, region: str, operation: str, ask: Callable[[Any], T], *, also: frozenset[str] = frozenset()) -> T:
        return insist(
            lambda: ask(self._clients[region]),
            region,
            operation,
            pause=self.pause,
            tries=self._tries,
            also=also,
            on_call=lambda code: self._on_call(region, code),
        )


def insist(
    ask: Callable[[], T],
    region: str,
    operation: str,
    *,
    pause: Callable[[float], None],
    tries: int = MAX_TRIES,
    on_call: Callable[[str], None] = lambda _code: None,
    also: frozenset[str] = frozenset(),
) -> T:
    """Ask until there is an answer, again only where AWS refused for load or does not know a role yet.

    Args:
        ask: makes the request.
        region: named in errors.
        operation: AWS's name of it.
        pause: waits so many seconds.
        tries: how often at most.
        on_call: told the error's code of every request, empty for success.
        also: the codes after which it is asked again, too.

    Raises:
        EstateError: AWS did not answer, or refused.
    """
    for attempt in range(tries):
        try:
            answer = ask()
        except aws.AwsError as e:
            code = aws.error_code(e)
            on_call(code)
            again = aws.trouble(e) == "throttled" or code in _WAIT_FOR_ROLES | also
            if attempt + 1 == tries or not again:
                raise EstateError.of(e, region, operation) from e
            pause(FIRST_PAUSE_SECONDS * 2**attempt)
        except (KeyError, ValueError) as e:
            on_call(TRUNCATED)
            raise EstateError(region, operation, TRUNCATED, unreachable=True) from e
        else:
            on_call("")
            return answer
    raise AssertionError("the last try returns or raises")


_METHODS = {
    "ListAliases": "list_aliases",
    "ListGrants": "list_grants",
    "ListKeys": "list_keys",
    "ListResourceTags": "list_resource_tags",
}


def _key(region: str, metadata: Mapping[str, Any]) -> KeyInRegion:
    multi_region = metadata.get("MultiRegionConfiguration", {})
    deletion_at = metadata.get("DeletionDate")
    return KeyInRegion(
        region=region,
        arn=metadata["Arn"],
        key_id=metadata["KeyId"],
        state=metadata["KeyState"],
        multi_region_type=multi_region.get("MultiRegionKeyType", ""),
        primary_region=multi_region.get("PrimaryKey", {}).get("Region", ""),
        description=metadata.get("Description", ""),
        spec=metadata.get("KeySpec", ""),
        usage=metadata.get("KeyUsage", ""),
        deletion_at_utc=deletion_at.astimezone(UTC) if deletion_at else None,
    )


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
