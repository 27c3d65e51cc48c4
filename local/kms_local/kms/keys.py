"""The keys of one account: what related multi-Region keys share, and what each region has of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

_SECONDS_A_DAY = 86_400.0


class KeyState(StrEnum):
    """A key's state in one region, as DescribeKey names it."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    CREATING = "Creating"
    PENDING_DELETION = "PendingDeletion"
    PENDING_REPLICA_DELETION = "PendingReplicaDeletion"

    @property
    def pending_deletion(self) -> bool:
        """Whether the key is on its way out, its own window running or not."""
        return self in {KeyState.PENDING_DELETION, KeyState.PENDING_REPLICA_DELETION}


@dataclass(frozen=True, slots=True)
class Material:
    """One version of a key's secret; rotation adds versions, and none ever goes away."""

    material_id: bytes  # 16 bytes, stored in each ciphertext
    secret: bytes = field(repr=False)  # 32 bytes


@dataclass(slots=True)
class Rotation:
    """Automatic rotation: shared by related keys, changed on the primary alone."""

    period_days: int
    since: float  # POSIX seconds

    def next_at(self) -> float:
        """Return when the next rotation is due, POSIX seconds."""
        return self.since + self.period_days * _SECONDS_A_DAY


@dataclass(slots=True)
class Family:
    """What a multi-Region key and its replicas share; a single-Region key is a family of one."""

    key_id: str
    multi_region: bool
    primary_region: str
    materials: list[Material]  # oldest first; the last one encrypts
    rotation: Rotation | None = None
    regions: list[str] = field(default_factory=list)  # primary first, then replicas in the order they were made


@dataclass(slots=True)
class RegionalKey:
    """A key in one region: state, policy, description, tags and aliases are never synchronised."""

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

    @property
    def primary(self) -> bool:
        """Whether this is the family's primary (a single-Region key is its own)."""
        return self.family.primary_region == self.region

    def state(self, now: float) -> KeyState:
        """Return the state at `now`: a replica leaves Creating by itself."""
        if self.stored_state is KeyState.CREATING and now >= self.ready_at:
            return KeyState.ENABLED
        return self.stored_state


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
    creating_seconds: float  # how long a new replica stays Creating

    def arn(self, region: str, resource: str) -> str:
        """Return the ARN of `key/<id>` or `alias/<name>` in `region`."""
        return f"arn:aws:kms:{region}:{self.account_id}:{resource}"

    def related(self, family: Family) -> list[RegionalKey]:
        """Return the family's keys in every region, the primary first."""
        return [self.regions[region].keys[family.key_id] for region in family.regions]

    def settle(self, now: float) -> None:
        """Delete what is past its deletion date, and start the window of a primary whose last replica is gone."""
        for region in self.regions.values():
            for key in [key for key in region.keys.values() if key.deletion_at is not None and key.deletion_at <= now]:
                self._delete(key)

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


def make_estate(account_id: str, regions: tuple[str, ...], *, creating_seconds: float) -> Estate:
    """Return an estate without keys."""
    return Estate(account_id, {name: Region(name) for name in regions}, creating_seconds)
