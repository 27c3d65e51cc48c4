"""The keys there should be, as the configuration says. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms_watchdog.config import CANARY_CONTEXT, Key, Settings
from kms_watchdog.estate.policies import Principals, key_policy

ESTATE_TAG, PURPOSE_TAG, OWNER_TAG = "kms-watchdog:estate", "kms-watchdog:purpose", "managed-by"
OWNER = "kms-watchdog"
SPEC, USAGE = "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"
"""Those of every key here; KMS lets neither be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredKey:
    """One purpose's multi-Region key in all its regions."""

    purpose: str
    alias: str
    description: str
    primary_region: str
    replica_regions: tuple[str, ...]
    policy: Mapping[str, Any]
    tags: Mapping[str, str]
    spec: str = SPEC
    usage: str = USAGE

    @property
    def regions(self) -> tuple[str, ...]:
        """Primary first."""
        return (self.primary_region, *self.replica_regions)

    @property
    def policy_text(self) -> str:
        """The policy as KMS takes it."""
        return json.dumps(self.policy, separators=(",", ":"))

    def description_in(self, region: str) -> str:
        """Return the description in `region`; KMS copies none to replicas."""
        return self.description if region == self.primary_region else f"{self.description} (replica in {region})"


def desired_keys(settings: Settings) -> tuple[DesiredKey, ...]:
    """Return the keys that `settings` asks for."""
    estate = settings.estate
    replicas = tuple(region for region in estate.regions if region != estate.primary_region)
    return tuple(
        DesiredKey(
            purpose=purpose,
            alias=key.alias,
            description=key.description or f"{purpose} ({estate.name})",
            primary_region=estate.primary_region,
            replica_regions=replicas,
            policy=key_policy(_who(settings, key), regions=estate.regions, canary_context=_canary_pair()),
            tags={OWNER_TAG: OWNER, ESTATE_TAG: estate.name, PURPOSE_TAG: purpose},
        )
        for purpose, key in settings.keys.items()
    )


def _who(settings: Settings, key: Key) -> Principals:
    estate = settings.estate
    return Principals(
        account_id=estate.account_id,
        partition=settings.core_config().partition,
        applications=key.used_by,
        watchers=(estate.watchdog_role, estate.drill_role),
        break_glass=estate.break_glass_role,
    )


def _canary_pair() -> tuple[str, str]:
    ((name, value),) = CANARY_CONTEXT.items()
    return name, value
