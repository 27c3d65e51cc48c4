"""Key policies, rendered from the estate: the same text on primary and replicas. Standard library only.

PutKeyPolicy is denied to nobody, and the account root may do everything that no Deny forbids: KMS demands that whoever
writes a policy can change it later, and that is the way out. Denies name nobody as Principal but test
`aws:PrincipalArn`, because a role named as Principal is stored by its unique id: delete and make it anew, and the
statement no longer means it. Negated operators also match when the key is absent: a request without context is denied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

USE_ACTIONS = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*")
DESTRUCTIVE_ACTIONS = (
    "kms:ScheduleKeyDeletion",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:UpdatePrimaryRegion",
)
MAX_POLICY_BYTES = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Who is who in one account; role names, not ARNs."""

    account_id: str
    partition: str
    applications: Sequence[str]
    """May use this key, under any context."""
    watchers: Sequence[str]
    """May use it under the canary's context alone."""
    break_glass: str
    """May disable and delete."""

    def arn(self, role: str) -> str:
        """Return the ARN of a role."""
        return f"arn:{self.partition}:iam::{self.account_id}:role/{role}"

    @property
    def root(self) -> str:
        """The account itself."""
        return f"arn:{self.partition}:iam::{self.account_id}:root"


def key_policy(who: Principals, *, regions: Sequence[str], canary_context: tuple[str, str]) -> dict[str, Any]:
    """Return the policy of one key; `canary_context` is the pair that confines the watchers."""
    watchers = [who.arn(role) for role in who.watchers]
    users = [who.arn(role) for role in who.applications] + watchers
    name, value = canary_context
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "LetIamPoliciesDecide",
                "Effect": "Allow",
                "Principal": {"AWS": who.root},
                "Action": "kms:*",
                "Resource": "*",
            },
            _deny("NobodyElseUsesThisKey", USE_ACTIONS, {"ArnNotEquals": {"aws:PrincipalArn": users}}),
            _deny(
                "WatchdogSeesOnlyCanaries",
                USE_ACTIONS,
                {
                    "ArnEquals": {"aws:PrincipalArn": watchers},
                    "StringNotEquals": {f"kms:EncryptionContext:{name}": value},
                },
            ),
            _deny("NoGrants", ("kms:CreateGrant",), None),
            _deny(
                "ReplicasOnlyHere",
                ("kms:ReplicateKey",),
                {"StringNotEquals": {"kms:ReplicaRegion": list(regions)}},
            ),
            _deny(
                "OnlyBreakGlassDestroys",
                DESTRUCTIVE_ACTIONS,
                {"ArnNotEquals": {"aws:PrincipalArn": who.arn(who.break_glass)}},
            ),
        ],
    }


def _deny(sid: str, actions: Sequence[str], condition: dict[str, Any] | None) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": list(actions) if len(actions) > 1 else actions[0],
        "Resource": "*",
    }
    return {**statement, "Condition": condition} if condition else statement
