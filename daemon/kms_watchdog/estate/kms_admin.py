"""KMS's management calls, region by region: errors translated, refusals for load waited out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import DesiredKey

T = TypeVar("T")

MAX_TRIES = 6
FIRST_PAUSE_SECONDS = 0.2
NOT_FOUND = "NotFoundException"
_WAIT_FOR_ROLES = "MalformedPolicyDocumentException"  # a principal that was made a moment ago is not visible yet


class EstateError(RuntimeError):
    """A management call failed; `unreachable` says that nobody answered, so nothing is known."""

    def __init__(self, region: str, operation: str, code: str, *, unreachable: bool) -> None:
        super().__init__(f"{region}: {operation}: {code}")
        self.region, self.operation, self.code, self.unreachable = region, operation, code, unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInRegion:
    """One key resource as KMS describes it."""

    region: str
    key_id: str
    state: str
    multi_region_type: str
    """PRIMARY or REPLICA; empty for a key of one region."""
    primary_region: str
    description: str


class KmsAdmin:
    """One client a region; any thread may call any method.

    A call is repeated only when KMS itself refused it (load, roles not yet visible), never when its answer got lost: a
    second CreateKey would make a second key.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Make the clients; call in the main thread."""
        self._clock = clock
        self._clients = {region: aws.client(settings, "kms", region) for region in settings.estate.regions}
        self._never = threading.Event()

    def describe(self, region: str, key: str) -> KeyInRegion | None:
        """Return the key with this id or alias in `region`, None if there is none."""
        try:
            answer = self._call(region, "DescribeKey", lambda kms: kms.describe_key(KeyId=key))
        except EstateError as e:
            if e.code == NOT_FOUND:
                return None
            raise
        return _key(region, answer["KeyMetadata"])

    def policy(self, region: str, key_id: str) -> Mapping[str, Any]:
        """Return the key's policy."""
        answer = self._call(region, "GetKeyPolicy", lambda kms: kms.get_key_policy(KeyId=key_id, PolicyName="default"))
        document: Mapping[str, Any] = json.loads(answer["Policy"])
        return document

    def tags(self, region: str, key_id: str) -> Mapping[str, str]:
        """Return the key's tags."""
        pages = self._pages(region, "list_resource_tags", {"KeyId": key_id})
        return {tag["TagKey"]: tag["TagValue"] for page in pages for tag in page["Tags"]}

    def rotates(self, region: str, key_id: str) -> bool:
        """Return whether the key's rotation is on."""
        answer = self._call(region, "GetKeyRotationStatus", lambda kms: kms.get_key_rotation_status(KeyId=key_id))
        return bool(answer["KeyRotationEnabled"])

    def tagged(self, region: str, tags: Mapping[str, str]) -> tuple[KeyInRegion, ...]:
        """Return the multi-Region keys in `region` that carry all of `tags`.

        It asks about each key there; that is needed only where no alias leads to the key yet.
        """
        ids = [entry["KeyId"] for page in self._pages(region, "list_keys", {}) for entry in page["Keys"]]
        ours = [i for i in ids if i.startswith("mrk-") and tags.items() <= self.tags(region, i).items()]
        return tuple(key for key_id in ours if (key := self.describe(region, key_id)))

    def create(self, wanted: DesiredKey) -> str:
        """Make the primary key; return its id."""
        answer = self._call(
            wanted.primary_region,
            "CreateKey",
            lambda kms: kms.create_key(
                MultiRegion=True,
                KeyUsage="ENCRYPT_DECRYPT",
                KeySpec="SYMMETRIC_DEFAULT",
                Policy=wanted.policy_text,
                Description=wanted.description_in(wanted.primary_region),
                Tags=_tag_list(wanted.tags),
            ),
        )
        return str(answer["KeyMetadata"]["KeyId"])

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
        )

    def create_alias(self, region: str, alias: str, key_id: str) -> None:
        """Let `alias` point to the key."""
        self._call(region, "CreateAlias", lambda kms: kms.create_alias(AliasName=alias, TargetKeyId=key_id))

    def enable_rotation(self, region: str, key_id: str) -> None:
        """Let the primary key rotate, and with it all its replicas."""
        self._call(region, "EnableKeyRotation", lambda kms: kms.enable_key_rotation(KeyId=key_id))

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._clock.wait(self._never, seconds)

    def _pages(self, region: str, operation: str, arguments: Mapping[str, Any]) -> Iterator[Any]:
        def collect(kms: Any) -> list[Any]:
            return list(kms.get_paginator(operation).paginate(**arguments))

        yield from self._call(region, operation, collect)

    def _call(self, region: str, operation: str, ask: Callable[[Any], T]) -> T:
        for attempt in range(MAX_TRIES):
            try:
                return ask(self._clients[region])
            except aws.AwsError as e:
                code, trouble = aws.error_code(e), aws.trouble(e)
                if attempt + 1 == MAX_TRIES or (trouble != "throttled" and code != _WAIT_FOR_ROLES):
                    raise EstateError(region, operation, code, unreachable=trouble == "unreachable") from e
                self.pause(FIRST_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("the last try returns or raises")


def _key(region: str, metadata: Mapping[str, Any]) -> KeyInRegion:
    multi_region = metadata.get("MultiRegionConfiguration", {})
    return KeyInRegion(
        region=region,
        key_id=metadata["KeyId"],
        state=metadata["KeyState"],
        multi_region_type=multi_region.get("MultiRegionKeyType", ""),
        primary_region=multi_region.get("PrimaryKey", {}).get("Region", ""),
        description=metadata.get("Description", ""),
    )


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
