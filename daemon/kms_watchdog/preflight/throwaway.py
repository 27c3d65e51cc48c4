"""Throw-away keys: made with a tag, found by it, and never destroyed without it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kms_watchdog.estate.desired import ESTATE_TAG
from kms_watchdog.estate.observed import CREATING
from kms_watchdog.preflight.answers import NOT_FOUND, Seen
from kms_watchdog.preflight.asker import Asker

TAG: Final = "kms-watchdog:preflight"
"""Its value is the run's id."""
ALIAS_PREFIX: Final = "alias/kms-watchdog-preflight-"
WINDOW_DAYS: Final = 7
"""The shortest that KMS allows. Nothing is billed for a key whose deletion is scheduled."""
GONE: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
"""The states of a key whose deletion is scheduled."""
CREATING_LOOKS: Final = 120
"""How often a replica that is still being made is looked at, half a second apart: AWS takes some seconds, and names no
bound."""
_LOOK_SECONDS: Final = 0.5
_KMS_MARKER = ("Marker", "NextMarker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Throwaway:
    """One key resource that carries the tag."""

    region: str
    key_id: str
    run_id: str
    replica: bool
    pending: bool
    """Whether its deletion is scheduled already."""
    creating: bool
    """Whether KMS is still making it, and refuses to delete it until then."""
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key_id} in {self.region} (run {self.run_id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One key resource that is left alone though it may be a throw-away one."""

    region: str
    key_id: str
    run_id: str
    """Empty: its tags could not be read, so that nobody knows whose it is."""
    why: str

    def __str__(self) -> str:
        return f"{self.key_id} in {self.region} is left alone: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one key turns out to be; all empty: it has no tag, and is none of our business."""

    ours: Throwaway | None = None
    kept: str = ""
    """It has the tag, and why it is left alone all the same."""
    blind: str = ""
    """The code with which it was not told."""
    run_id: str = ""
    """The tag's value, if that was told."""


@dataclass(slots=True)
class Swept:
    """What looking for keys by their tag found."""

    keys: list[Throwaway] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    """Keys that are left alone: they have the tag and something else, or nobody could read whether they have it."""
    blind: dict[str, str] = field(default_factory=dict)
    """Regions where it cannot be told which keys there are, with the code; one unreadable key does not make one so."""

    @property
    def live(self) -> list[Throwaway]:
        """Those whose deletion is not scheduled yet, or that still have a name; replicas first."""
        return sorted((one for one in self.keys if not one.pending or one.aliases), key=lambda one: not one.replica)


def why_not_ours(tags: Mapping[str, str], aliases: Collection[str]) -> str:
    """Return why a key must not be destroyed here; empty: it is one of ours. Pure."""
    if TAG not in tags:
        return f"it has no tag {TAG}"
    if ESTATE_TAG in tags:
        return f"it has the tag {ESTATE_TAG}: it is a key of an estate"
    if others := sorted(name for name in aliases if not name.startswith(ALIAS_PREFIX)):
        return f"it is called {others[0]}"
    return ""


def create(asker: Asker, region: str, run_id: str) -> Seen:
    """Make a primary key, with the default policy: the account's own policies decide."""
    return asker.kms(
        region,
        "CreateKey",
        lambda kms: kms.create_key(MultiRegion=True, Description=_description(run_id), Tags=_tags(run_id)),
        "KeyMetadata",
    )


def replicate(asker: Asker, asked_in: str, key_id: str, into: str, run_id: str) -> Seen:
    """Make a replica, or ask for one that should be refused; whatever comes of it carries the tag."""
    return asker.kms(
        asked_in,
        "ReplicateKey",
        lambda kms: kms.replicate_key(
            KeyId=key_id, ReplicaRegion=into, Description=_description(run_id), Tags=_tags(run_id)
        ),
        "ReplicaKeyMetadata",
    )


def look(asker: Asker, region: str, key_id: str) -> Look:
    """Return whether a key is one of ours; its tags are read at this moment."""
    tags_seen = asker.pages(
        "kms",
        region,
        "ListResourceTags",
        lambda kms, page: kms.list_resource_tags(KeyId=key_id, **page),
        "Tags",
        _KMS_MARKER,
    )
    if tags_seen.code:
        return Look(blind=f"ListResourceTags: {tags_seen.code}")
    tags = {tag["TagKey"]: tag["TagValue"] for tag in tags_seen.answer["Tags"]}
    if TAG not in tags:
        return Look()
    named = asker.pages(
        "kms", region, "ListAliases", lambda kms, page: kms.list_aliases(KeyId=key_id, **page), "Aliases", _KMS_MARKER
    )
    described = asker.kms(region, "DescribeKey", lambda kms: kms.describe_key(KeyId=key_id), "KeyMetadata")
    for seen in (named, described):
        if seen.code:
            return Look(blind=f"{seen.operation}: {seen.code}", run_id=tags[TAG])
    aliases = tuple(one["AliasName"] for one in named.answer["Aliases"])
    if why := why_not_ours(tags, aliases):
        return Look(kept=why, run_id=tags[TAG])
    metadata = described.answer["KeyMetadata"]
    kind = metadata.get("MultiRegionConfiguration", {}).get("MultiRegionKeyType", "")
    return Look(
        ours=Throwaway(
            region=region,
            key_id=key_id,
            run_id=tags[TAG],
            replica=kind == "REPLICA",
            pending=metadata["KeyState"] in GONE,
            creating=metadata["KeyState"] == CREATING,
            aliases=aliases,
        ),
        run_id=tags[TAG],
    )


def sweep(asker: Asker, regions: Sequence[str], known: Mapping[str, Collection[str]] | None = None) -> Swept:
    """Look at every multi-Region key's tags in every region, and at those that are `known` to be there."""
    swept = Swept()
    for region in regions:
        listed = asker.pages(
            "kms", region, "ListKeys", lambda kms, page: kms.list_keys(**page), "Keys", _KMS_MARKER
        )  # fmt: skip
        if listed.code:
            swept.blind[region] = f"ListKeys: {listed.code}"
        ids = [str(one["KeyId"]) for one in listed.answer.get("Keys", ())]
        ids += [key_id for key_id in (known or {}).get(region, ()) if key_id not in ids]
        for key_id in ids:
            if key_id.startswith("mrk-"):
                _add(swept, asker, region, key_id)
    return swept


def _add(swept: Swept, asker: Asker, region: str, key_id: str) -> None:
    seen = look(asker, region, key_id)
    if seen.ours:
        swept.keys.append(seen.ours)
    elif seen.kept or (seen.blind and not seen.blind.endswith(NOT_FOUND)):  # else it went while we looked
        why = seen.kept or f"it cannot be told whose it is: {seen.blind}"
        swept.kept.append(Kept(region=region, key_id=key_id, run_id=seen.run_id, why=why))


def schedule_deletion(asker: Asker, region: str, key_id: str) -> list[Seen]:
    """Take a key's aliases away and schedule its deletion, if it is one of ours at this moment; return the changes.

    A replica that is still being made is waited for. A change that is refused is one with its code; nothing to do is
    none.
    """
    seen = _look_once_made(asker, region, key_id)
    if (found := seen.ours) is None:
        why = seen.kept or seen.blind or f"it has no tag {TAG}"
        return [Seen(region=region, operation="ScheduleKeyDeletion", code=REFUSED, message=why)]
    changes = [
        asker.kms(region, "DeleteAlias", lambda kms, name=name: kms.delete_alias(AliasName=name))  # type: ignore[misc]
        for name in found.aliases
    ]
    if not found.pending:
        changes.append(
            asker.kms(
                region,
                "ScheduleKeyDeletion",
                lambda kms: kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=WINDOW_DAYS),
                "KeyId",
            )
        )
    return changes


def _look_once_made(asker: Asker, region: str, key_id: str) -> Look:
    for _ in range(CREATING_LOOKS):
        seen = look(asker, region, key_id)
        if seen.ours is None or not seen.ours.creating:
            break
        asker.pause(_LOOK_SECONDS)
    return seen


REFUSED: Final = "RefusedByUs"
"""Our own code: a key is not destroyed, since it is not seen to be a throw-away one."""


def _tags(run_id: str) -> list[dict[str, Any]]:
    return [{"TagKey": TAG, "TagValue": run_id}]


def _description(run_id: str) -> str:
    return f"kms-watchdog preflight {run_id}: a throw-away key"
