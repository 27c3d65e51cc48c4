"""The keys there are: read from AWS, nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from kms_watchdog.estate.desired import ESTATE_TAG, PURPOSE_TAG, DesiredKey
from kms_watchdog.estate.kms_admin import KeyInRegion, KmsAdmin

A = TypeVar("A")
B = TypeVar("B")

GONE_STATES = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_SEARCH_TAGS = (ESTATE_TAG, PURPOSE_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedReplica:
    """The key in one region, with what KMS never copies from region to region."""

    key: KeyInRegion
    policy: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedKey:
    """What there is of one purpose's key."""

    purpose: str
    alias_targets: Mapping[str, KeyInRegion | None]
    """By region; None where the alias does not exist."""
    candidates: tuple[str, ...]
    """Ids of keys that might be it: one is well, none is to be made, several are a matter for a person."""
    replicas: Mapping[str, ObservedReplica | None]
    """The candidate by region, primary too; all None without exactly one candidate."""
    rotates: bool

    @property
    def key_id(self) -> str | None:
        """The key's id, if there is exactly one candidate."""
        return self.candidates[0] if len(self.candidates) == 1 else None


def observe(wanted: DesiredKey, admin: KmsAdmin, pool: Executor) -> ObservedKey:
    """Read what there is of `wanted`; regions at the same time.

    Raises:
        EstateError: a region did not answer, or refused.
    """
    targets = _each(pool, wanted.regions, lambda region: admin.describe(region, wanted.alias))
    candidates = tuple(dict.fromkeys(target.key_id for target in targets.values() if target))
    if not candidates:
        candidates = _half_finished(wanted, admin)
    replicas: Mapping[str, ObservedReplica | None] = dict.fromkeys(wanted.regions)
    if len(candidates) == 1:
        replicas = _each(pool, wanted.regions, lambda region: _replica(admin, region, candidates[0]))
    return ObservedKey(
        purpose=wanted.purpose,
        alias_targets=targets,
        candidates=candidates,
        replicas=replicas,
        rotates=_rotates(wanted, replicas, admin),
    )


def _half_finished(wanted: DesiredKey, admin: KmsAdmin) -> tuple[str, ...]:
    """Return the keys that an earlier run made before it could give them an alias."""
    tags = {name: wanted.tags[name] for name in _SEARCH_TAGS}
    return tuple(key.key_id for key in admin.tagged(wanted.primary_region, tags) if key.state not in GONE_STATES)


def _replica(admin: KmsAdmin, region: str, key_id: str) -> ObservedReplica | None:
    key = admin.describe(region, key_id)
    if key is None:
        return None
    return ObservedReplica(key=key, policy=admin.policy(region, key_id), tags=admin.tags(region, key_id))


def _rotates(wanted: DesiredKey, replicas: Mapping[str, ObservedReplica | None], admin: KmsAdmin) -> bool:
    primary = replicas[wanted.primary_region]
    return primary is not None and admin.rotates(wanted.primary_region, primary.key.key_id)


def _each(pool: Executor, items: Iterable[A], ask: Callable[[A], B]) -> dict[A, B]:
    items = tuple(items)
    return dict(zip(items, pool.map(ask, items), strict=True))
