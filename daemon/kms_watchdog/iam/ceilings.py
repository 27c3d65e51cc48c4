"""Permissions boundaries: what roles may at most, whatever their policies come to say. Pure.

A role that may write policies can give any role anything, and then become it. What keeps it from that is a boundary on
every role that it may write, which it can neither change nor take away. Source: AWS IAM User Guide, "Permissions
boundaries for IAM entities", "Delegating responsibility to others using permissions boundaries".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.estate.policies import DESTRUCTIVE_ACTIONS, USE_ACTIONS
from kms_watchdog.iam import actions

CEILING, ADMIN_CEILING = "KmsEstateBoundary", "KmsIamAdminBoundary"
_MANAGING = ("Put", "Create", "Update", "Enable", "Tag", "Untag", "Replicate")
_VERSION = "2012-10-17"


def ceiling(statements: Iterable[Mapping[str, Any]], *, watchers: Sequence[str], provisioning: str) -> dict[str, Any]:
    """Return the boundary of the roles that have `statements`.

    It holds the actions of all of them, and takes from each what only one should have: so a role that is given another
    one's policy gains nothing by it.

    Args:
        statements: those of all roles under this ceiling.
        watchers: ARNs of the roles that may use keys, under the canary's context alone.
        provisioning: ARN of the role that may change keys.
    """
    ((name, value),) = CANARY_CONTEXT.items()
    named = sorted({action for statement in statements for action in statement["Action"]})
    changing = [action for action in (*actions.MANAGE_KEYS, *actions.CREATE_KEYS, *actions.REPLICATE_KEYS)
                if action.partition(":")[2].startswith(_MANAGING)]  # fmt: skip
    return {
        "Version": _VERSION,
        "Statement": [
            {"Sid": "AtMost", "Effect": "Allow", "Action": named, "Resource": "*"},
            _deny("OnlyWatchersUseKeys", USE_ACTIONS, "*", {"ArnNotEquals": {"aws:PrincipalArn": list(watchers)}}),
            _deny("OnlyCanaries", USE_ACTIONS, "*", {"StringNotEquals": {f"kms:EncryptionContext:{name}": value}}),
            _deny("OnlyProvisioningChangesKeys", changing, "*", {"ArnNotEquals": {"aws:PrincipalArn": provisioning}}),
            _deny("NobodyDestroys", (*DESTRUCTIVE_ACTIONS, "kms:CreateGrant"), "*"),
        ],
    }


def admin_ceiling(
    statements: Iterable[Mapping[str, Any]], *, ceiling_arn: str, untouchable: Sequence[str]
) -> dict[str, Any]:
    """Return the boundary of the role that has `statements` and writes roles.

    Args:
        statements: its own.
        ceiling_arn: of the boundary without which it may write no role.
        untouchable: ARNs of roles and policies that it never changes: itself, its boundary, the other ceiling.
    """
    named = sorted({action for statement in statements for action in statement["Action"]})
    other_ceiling = {"StringNotEquals": {"iam:PermissionsBoundary": ceiling_arn}}
    return {
        "Version": _VERSION,
        "Statement": [
            {"Sid": "AtMost", "Effect": "Allow", "Action": named, "Resource": "*"},
            _deny("OnlyUnderTheCeiling", _WRITING, "*", other_ceiling),
            _deny("NeverItself", _CHANGING, list(untouchable)),
            _deny("NobodyElse", _BECOMING, "*"),
            _deny("NoKeys", ("kms:*",), "*"),
        ],
    }


_WRITING = ("iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary")
_CHANGING = (
    "iam:Put*",
    "iam:Delete*",
    "iam:Attach*",
    "iam:Detach*",
    "iam:Update*",
    "iam:Create*",
    "iam:Set*",
    "iam:Tag*",
    "iam:Untag*",
)
_BECOMING = (
    "sts:AssumeRole",
    "iam:PassRole",
    "iam:UpdateAssumeRolePolicy",
    "iam:DeleteRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:CreatePolicyVersion",
    "iam:SetDefaultPolicyVersion",
    "iam:*User*",
    "iam:*Group*",
    "iam:*AccessKey*",
    "iam:*LoginProfile*",
)


def _deny(sid: str, names: Sequence[str], resource: Any, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Deny", "Action": list(names), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement
