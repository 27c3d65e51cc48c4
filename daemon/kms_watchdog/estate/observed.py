"""The keys there are: read from AWS, nothing changed. Each region is read by itself: a silent one blinds no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kms_watchdog.estate.desired import ESTATE_TAG, PURPOSE_TAG, DesiredKey
from kms_watchdog.estate.kms_admin import DENIED, NOT_FOUND, EstateError, Grant, KeyInRegion

A = TypeVar("A")
B = TypeVar("B")

ENABLED, CREATING, UPDATING = "Enabled", "Creating", "Updating"
GONE_STATES = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_SEARCH_TAGS = (ESTATE_TAG, PURPOSE_TAG)


class KeyReader(Protocol):
    """What is asked about keys; `KmsAdmin` asks KMS. Every method may raise `EstateError`."""

    def describe(self, region: str, key: str) -> KeyInRegion | None:
        """Return the key with this id or alias in `region`, None if there is none.

        Whoever may look at certain keys alone is denied what does not exist (`alias_target_of`, `key_of`).
        """

    def alias_target(self, region: str, alias: str) -> str | None:
        """Return the id of the key that `alias` leads to, None if there is no such alias."""

    def policy(self, region: str, key_id: str) -> Mapping[str, Any]:
        """Return the key's policy."""

    def tags(self, region: str, key_id: str) -> Mapping[str, str]:
        """Return the key's tags."""

    def rotates(self, region: str, key_id: str) -> bool:
        """Return whether the key's rotation is on."""

    def grants(self, region: str, key_id: str) -> tuple[Grant, ...]:
        """Return the grants on the key."""

    def aliases(self, region: str, key_id: str) -> tuple[str, ...]:
        """Return all aliases of the key."""


class KeyFinder(KeyReader, Protocol):
    """What is asked where no alias leads to a key."""

    def tagged(self, region: str, tags: Mapping[str, str]) -> tuple[KeyInRegion, ...]:
        """Return the multi-Region keys in `region` that carry all of `tags`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an alias leads; `key` is None where nobody let us look at it."""

    key_id: str
    key: KeyInRegion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedReplica:
    """The key in one region, with what KMS never copies from region to region."""

    key: KeyInRegion
    policy: Mapping[str, Any]
    tags: Mapping[str, str]
    rotates: bool | None
    """None while KMS does not say: the key is being made, or about to be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRegion:
    """What there is of one purpose's key in one region."""

    alias_target: str | None
    """Id of the key that the alias leads to; None: the alias does not exist."""
    replica: ObservedReplica | None
    """The key itself, primary or replica; None: it is not there, or it is not known which one it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedKey:
    """What there is of one purpose's key."""

    purpose: str
    candidates: tuple[str, ...]
    """Ids of keys that might be it: one is well, none is to be made, several are a matter for a person."""
    regions: Mapping[str, ObservedRegion]
    """Replicas are all None without exactly one candidate."""
    leaving: tuple[KeyInRegion, ...] = ()
    """Without a candidate: keys with our tags that are about to be deleted."""

    @property
    def key_id(self) -> str | None:
        """The key's id, if there is exactly one candidate."""
        return self.candidates[0] if len(self.candidates) == 1 else None


def observe(wanted: DesiredKey, reader: KeyFinder, pool: Executor) -> ObservedKey:
    """Read what there is of `wanted`; regions at the same time.

    Raises:
        EstateError: a region did not answer, or refused.
    """
    targets = _each(pool, wanted.regions, lambda region: alias_target_of(reader, region, wanted.alias))
    candidates = tuple(dict.fromkeys(target.key_id for target in targets.values() if target))
    leaving: tuple[KeyInRegion, ...] = ()
    if not candidates:
        tagged = reader.tagged(wanted.primary_region, {name: wanted.tags[name] for name in _SEARCH_TAGS})
        leaving = tuple(key for key in tagged if key.state in GONE_STATES)
        # what an earlier run made before it could give it an alias
        candidates = tuple(key.key_id for key in tagged if key not in leaving)
    key_id = candidates[0] if len(candidates) == 1 else None
    regions = _each(pool, wanted.regions, lambda region: _with_key(reader, region, targets[region], key_id))
    return ObservedKey(purpose=wanted.purpose, candidates=candidates, regions=regions, leaving=leaving)


def observe_region(wanted: DesiredKey, reader: KeyReader, region: str, key_id: str | None) -> ObservedRegion:
    """Read what there is of `wanted` in one region.

    Args:
        wanted: whose alias.
        reader: is asked.
        region: where.
        key_id: which key it should be; None: the one that the alias leads to.

    Raises:
        EstateError: the region did not answer, or refused.
    """
    target = alias_target_of(reader, region, wanted.alias)
    return _with_key(reader, region, target, key_id or (target.key_id if target else None))


def alias_target_of(reader: KeyReader, region: str, alias: str) -> Target | None:
    """Return where `alias` leads, None if it does not exist.

    The watchdog may look at its own keys alone: it is denied an alias that leads to another key, or to none. Then the
    list of aliases tells, which takes more requests.

    Raises:
        EstateError: the region did not answer, or refused.
    """
    try:
        key = reader.describe(region, alias)
    except EstateError as e:
        if e.code != DENIED:
            raise
        key_id = reader.alias_target(region, alias)
        return Target(key_id, None) if key_id else None
    return Target(key.key_id, key) if key else None


def key_of(reader: KeyReader, region: str, key_id: str, target: Target | None = None) -> KeyInRegion | None:
    """Return the key with this id, None if it is not there; not asked for again where `target` has it already.

    The watchdog is denied a key that does not exist as it is one that it may not look at: listing its aliases, which
    no key's policy forbids, tells them apart.

    Raises:
        EstateError: the region did not answer, or refused.
    """
    if target is not None and target.key is not None and target.key_id == key_id:
        return target.key
    try:
        return reader.describe(region, key_id)
    except EstateError as e:
        if e.code == DENIED and _is_gone(reader, region, key_id):
            return None
        raise


def _is_gone(reader: KeyReader, region: str, key_id: str) -> bool:
    try:
        reader.aliases(region, key_id)
    except EstateError as e:
        return e.code == NOT_FOUND
    return False


def rotation(reader: KeyReader, key: KeyInRegion) -> bool | None:
    """Return whether `key` rotates; None while KMS does not say.

    It refuses to tell of a key that is being made, and says false of one about to be deleted (aws.md §3).

    Raises:
        EstateError: the region did not answer, or refused.
    """
    if key.state == CREATING or key.state in GONE_STATES:
        return None
    return reader.rotates(key.region, key.key_id)


def _with_key(reader: KeyReader, region: str, target: Target | None, key_id: str | None) -> ObservedRegion:
    key = None if key_id is None else key_of(reader, region, key_id, target)
    return ObservedRegion(
        alias_target=target.key_id if target else None, replica=None if key is None else _replica(reader, key)
    )


def _replica(reader: KeyReader, key: KeyInRegion) -> ObservedReplica:
    return ObservedReplica(
        key=key,
        policy=reader.policy(key.region, key.key_id),
        tags=reader.tags(key.region, key.key_id),
        rotates=rotation(reader, key),
    )


def _each(pool: Executor, items: Iterable[A], ask: Callable[[A], B]) -> dict[A, B]:
    items = tuple(items)
    return dict(zip(items, pool.map(ask, items), strict=True))
