"""The keys of one account: what related multi-Region keys share, and what each region has of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_SECONDS_A_DAY = 86_400.0
_MATERIAL_ID_BYTES = 16
_SECRET_BYTES = 32


class KeyState(StrEnum):
    """A key's state in one region, as DescribeKey names it."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    CREATING = "Creating"
    UPDATING = "Updating"  # its family's primary is being moved; cryptography goes on
    PENDING_DELETION = "PendingDeletion"
    PENDING_REPLICA_DELETION = "PendingReplicaDeletion"
    UNAVAILABLE = "Unavailable"  # of a custom key store: no key comes here, but a fault can make one look like it

    @property
    def pending_deletion(self) -> bool:
        """Whether the key is on its way out, its own window running or not."""
        return self in {KeyState.PENDING_DELETION, KeyState.PENDING_REPLICA_DELETION}


@dataclass(frozen=True, slots=True)
class Material:
    """One version of a key's secret; rotation adds versions, and none ever goes away."""

    material_id: bytes  # 16 bytes, stored in each ciphertext
    secret: bytes = field(repr=False)  # 32 bytes
    rotated_at: float | None = None  # POSIX seconds; None for a family's first
    on_demand: bool = False  # whether somebody asked for it, or the calendar did


def new_material(
    entropy: Callable[[int], bytes], *, rotated_at: float | None = None, on_demand: bool = False
) -> Material:
    """Make a new version of key material."""
    return Material(entropy(_MATERIAL_ID_BYTES), entropy(_SECRET_BYTES), rotated_at, on_demand)


@dataclass(slots=True)
class Rotation:
    """Automatic rotation: shared by related keys, changed on the primary alone."""

    period_days: int
    next_at: float  # POSIX seconds; it may lie in the past while the primary is disabled

    @property
    def period_seconds(self) -> float:
        """The time between two rotations."""
        return self.period_days * _SECONDS_A_DAY


@dataclass(slots=True)
class Family:
    """What a multi-Region key and its replicas share; a single-Region key is a family of one."""

    key_id: str
    multi_region: bool
    primary_region: str
    materials: list[Material]  # oldest first; the last one encrypts
    rotation: Rotation | None = None
    regions: list[str] = field(default_factory=list)  # primary first, then replicas in the order they were made
    on_demand_since: float | None = None  # while a rotation on demand is under way: when it was asked for
    on_demand_ends: float = 0.0  # and when it will be done


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a grant allows to whom, on one key in one region."""

    grant_id: str  # 64 hexadecimal digits
    grantee: str  # the principal's ARN
    operations: tuple[str, ...]
    created_at: float  # POSIX seconds
    name: str | None = None
    retiring_principal: str | None = None
    context_equals: Mapping[str, str] | None = None
    context_subset: Mapping[str, str] | None = None

    def permits(self, operation: str, encryption_context: Mapping[str, str]) -> bool:
        """Say whether the grant allows `operation` (as CreateGrant names them) with this encryption context.

        Constraints bind the operations that take an encryption context; DescribeKey and RetireGrant take none, and
        for CreateGrant see `covers`.
        """
        if operation not in self.operations:
            return False
        return operation in _WITHOUT_CONTEXT or self._context_fits(encryption_context)

    def covers(self, other: Grant) -> bool:
        """Say whether a grantee of this grant may create `other`: no more operations, and constraints as strict."""
        if "CreateGrant" not in self.operations or not set(other.operations) <= set(self.operations):
            return False
        if self.context_equals is not None and other.context_equals != self.context_equals:
            return False
        narrowed = {**(other.context_subset or {}), **(other.context_equals or {})}
        return self.context_subset is None or self.context_subset.items() <= narrowed.items()

    def _context_fits(self, context: Mapping[str, str]) -> bool:
        if self.context_equals is not None and dict(self.context_equals) != dict(context):
            return False
        return self.context_subset is None or self.context_subset.items() <= context.items()


_WITHOUT_CONTEXT = frozenset({"CreateGrant", "DescribeKey", "RetireGrant"})


@dataclass(slots=True)
class RegionalKey:
    """A key in one region: state, policy, description, tags, aliases and grants are never synchronised."""

    family: Family
    region: str
    arn: str
    description: str
    policy: str
    created_at: float  # POSIX seconds, like every time here
    stored_state: KeyState
    tags: dict[str, str]
    ready_at: float = 0.0  # while Creating: when it becomes Enabled
    deletion_at: float | None = None
    window_days: int | None = None
    updating_until: float = 0.0  # while the primary is being moved
    grants: dict[str, Grant] = field(default_factory=dict)  # by id, oldest first

    @property
    def primary(self) -> bool:
        """Whether this is the family's primary (a single-Region key is its own)."""
        return self.family.primary_region == self.region

    def state(self, now: float) -> KeyState:
        """Return the state at `now`: a key leaves Creating and Updating by itself."""
        state = self.stored_state
        if state is KeyState.CREATING and now >= self.ready_at:
            state = KeyState.ENABLED
        if state is KeyState.ENABLED and now < self.updating_until:
            state = KeyState.UPDATING
        return state


@dataclass(slots=True)
class Alias:
    """A name for a key in one region."""

    name: str
    key_id: str
    created_at: float
    updated_at: float


@dataclass(slots=True)
class Region:
    """Everything KMS keeps in one region."""

    name: str
    keys: dict[str, RegionalKey] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)


@dataclass(slots=True)
class Estate:
    """One account's keys in all regions served; used from one event loop only."""

    account_id: str
    regions: dict[str, Region]
    creating_seconds: float  # how long what AWS does in the background takes: Creating, Updating, rotation on demand
    entropy: Callable[[int], bytes] = os.urandom  # for the key material that rotation makes
    quiet_until: float = -math.inf  # `settle` has nothing to do before; whoever sets a date calls `expect`

    def arn(self, region: str, resource: str) -> str:
        """Return the ARN of `key/<id>` or `alias/<name>` in `region`."""
        return f"arn:aws:kms:{region}:{self.account_id}:{resource}"

    def related(self, family: Family) -> list[RegionalKey]:
        """Return the family's keys in every region, the primary first."""
        return [self.regions[region].keys[family.key_id] for region in family.regions]

    def expect(self, at: float) -> None:
        """Note that something is to happen by itself at `at`."""
        self.quiet_until = min(self.quiet_until, at)

    def settle(self, now: float) -> bool:
        """Do what is due: delete keys, start the window of a primary whose last replica is gone, rotate.

        Returns:
            Whether anything may have changed.
        """
        if now < self.quiet_until:
            return False
        while due := [key for key in self._keys() if key.deletion_at is not None and key.deletion_at <= now]:
            self._delete(min(due, key=lambda key: key.deletion_at or 0.0))  # it may start another key's window
        for key in self._keys():
            if key.primary:
                self._rotate(key, now)
        self.quiet_until = min(map(self._next_date, self._keys()), default=math.inf)
        return True

    def _keys(self) -> Iterator[RegionalKey]:
        for region in self.regions.values():
            yield from region.keys.values()

    def _delete(self, key: RegionalKey) -> None:
        region, family, gone_at = self.regions[key.region], key.family, key.deletion_at or 0.0
        del region.keys[family.key_id]
        region.aliases = {name: alias for name, alias in region.aliases.items() if alias.key_id != family.key_id}
        family.regions.remove(key.region)
        if family.regions == [family.primary_region]:
            self._start_window(self.regions[family.primary_region].keys[family.key_id], gone_at)

    def _start_window(self, primary: RegionalKey, now: float) -> None:
        if primary.stored_state is KeyState.PENDING_REPLICA_DELETION:
            primary.stored_state = KeyState.PENDING_DELETION
            primary.deletion_at = now + (primary.window_days or 30) * _SECONDS_A_DAY

    def _rotate(self, primary: RegionalKey, now: float) -> None:
        family = primary.family
        if family.on_demand_since is not None and family.on_demand_ends <= now:
            family.materials.append(new_material(self.entropy, rotated_at=family.on_demand_ends, on_demand=True))
            family.on_demand_since = None
        if not _rotates(primary):
            return
        rotation = family.rotation
        while rotation is not None and rotation.next_at <= now:
            family.materials.append(new_material(self.entropy, rotated_at=rotation.next_at))
            rotation.next_at += rotation.period_seconds

    def _next_date(self, key: RegionalKey) -> float:
        dates = [math.inf]
        if key.deletion_at is not None:
            dates.append(key.deletion_at)
        if key.primary and key.family.on_demand_since is not None:
            dates.append(key.family.on_demand_ends)
        if key.primary and key.family.rotation is not None and _rotates(key):
            dates.append(key.family.rotation.next_at)
        return min(dates)


def _rotates(primary: RegionalKey) -> bool:
    """Say whether the calendar counts for a key: not while it is disabled or on its way out."""
    return primary.stored_state in {KeyState.ENABLED, KeyState.CREATING}


def make_estate(
    account_id: str,
    regions: tuple[str, ...],
    *,
    creating_seconds: float,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Estate:
    """Return an estate without keys."""
    return Estate(account_id, {name: Region(name) for name in regions}, creating_seconds, entropy)
