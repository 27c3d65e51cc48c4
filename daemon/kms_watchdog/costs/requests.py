"""How many requests the canaries make in a month when all is well, by the configured intervals. Pure.

What each kind asks in one look was counted at a server; a test counts again. Failed looks ask less, retries more.
"""

from __future__ import annotations

from collections.abc import Mapping

from kms_watchdog.config import Settings
from kms_watchdog.results import Kind
from kms_watchdog.sharding import times_looked_at

MONTH_SECONDS = 730 * 3600.0
"""The month by which AWS bills: 730 hours."""
GOLDEN_OPENED = 4
"""Kept messages that one look opens at the most, before the key was ever rotated; five after that."""
GOLDEN_SEALED_SECONDS = 3600.0
"""How often a new one is sealed, for each key, and how often rotations are listed."""


def kms_requests_per_month(settings: Settings) -> dict[Kind, float]:
    """Return by kind of canary what it asks of KMS, in all regions and from all places together."""
    return {
        kind: times_looked_at(kind, settings.replicas) * _per_month(settings, kind) for kind in settings.canaries.kinds
    }


def per_look(settings: Settings) -> Mapping[Kind, float]:
    """Return how many requests to KMS a look makes that does not go by a cache, nor by the hour."""
    another_key = 1 if len(settings.keys) > 1 else 0
    return {
        Kind.ROUND_TRIP: 2,  # GenerateDataKey, Decrypt
        Kind.CROSS_REGION: 2,  # the same, in two regions
        Kind.GOLDEN: GOLDEN_OPENED,  # Decrypt
        Kind.MUST_FAIL_KMS: 3 + another_key,  # GenerateDataKey, Decrypt in each way that must fail
        Kind.APPLICATION_ACCESS: 3,  # DescribeKey, GetKeyPolicy, ListGrants
        Kind.KEY_STATE: 2,  # DescribeKey, GetKeyRotationStatus
        Kind.REPLICA_DRIFT: 4,  # DescribeKey, GetKeyPolicy, ListResourceTags, GetKeyRotationStatus
    }


def looks(settings: Settings, kind: Kind) -> int:
    """Return how many canaries of a kind there are."""
    keys, regions = len(settings.keys), len(settings.estate.regions)
    match kind:
        case Kind.CROSS_REGION:
            return keys * regions * (regions - 1)
        case Kind.FAILOVER_PATH | Kind.MUST_FAIL_CORE:
            return keys
        case Kind.COLD_CONNECTION | Kind.CLOCK_OFFSET | Kind.HEADROOM:
            return regions
        case Kind.ALARM_PATH:
            return len(settings.publish_regions) if settings.cloudwatch.enabled else 0
        case _:
            return keys * regions


def _per_month(settings: Settings, kind: Kind) -> float:
    interval_seconds = settings.canaries.timing(kind).interval_seconds
    turns = MONTH_SECONDS / interval_seconds
    if kind in (Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE):
        # By the cache: GenerateDataKey and Decrypt once in its time, or in each look where those are rarer.
        fresh_seconds = max(interval_seconds, settings.core.data_key_ttl_seconds)
        return 2 * looks(settings, kind) * MONTH_SECONDS / fresh_seconds
    asked = per_look(settings).get(kind, 0) * looks(settings, kind) * turns
    if kind is Kind.GOLDEN:
        asked += 2 * len(settings.keys) * MONTH_SECONDS / max(GOLDEN_SEALED_SECONDS, interval_seconds)
    return asked
