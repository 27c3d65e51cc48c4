"""The policies of our roles, rendered from the estate: who may use which key, and nothing else. Pure.

Statements name the keys' own ARNs: an alias' ARN as Resource authorises nothing on a key, and `*` lets a role open what
other accounts sealed (aws.md, B2 and B4). Source of the texts: aws.md §4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kms_watchdog.config import CANARY_CONTEXT, Settings

Statement = dict[str, Any]

USE = ("kms:GenerateDataKey", "kms:Decrypt")
VERSION = "2012-10-17"
POLICY_NAME = "KmsWatchdogEstate"
"""The inline policy's name on every role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What the policies of one estate are made of."""

    settings: Settings
    key_ids: Mapping[str, str]
    """Purpose to key id; a multi-Region key has one id in all regions."""

    @property
    def partition(self) -> str:
        """Of the ARNs."""
        return self.settings.core_config().partition

    def keys(self, *purposes: str) -> list[str]:
        """Return the ARNs of these purposes' keys, in every region."""
        estate = self.settings.estate
        return [
            f"arn:{self.partition}:kms:{region}:{estate.account_id}:key/{self.key_ids[purpose]}"
            for purpose in purposes
            for region in estate.regions
        ]

    def arn(self, service: str, resource: str, region: str = "") -> str:
        """Return an ARN in the estate's account."""
        return f"arn:{self.partition}:{service}:{region}:{self.settings.estate.account_id}:{resource}"

    def roles(self) -> list[str]:
        """Return the ARNs of the roles whose access is watched."""
        return [self.arn("iam", f"role/{name}") for name in watched_roles(self.settings)]


def purposes_by_role(settings: Settings) -> dict[str, frozenset[str]]:
    """Return by the name of each application's role the purposes whose keys it may use."""
    names = dict.fromkeys(role for key in settings.keys.values() for role in key.used_by)
    return {name: frozenset(purpose for purpose, key in settings.keys.items() if name in key.used_by) for name in names}


def watched_roles(settings: Settings) -> tuple[str, ...]:
    """Return the names of the roles that may use a key at all: the applications', the watchdog's, the drills'."""
    estate = settings.estate
    return tuple(dict.fromkeys((*purposes_by_role(settings), estate.watchdog_role, estate.drill_role)))


def task_trust(given: Rendering) -> dict[str, Any]:
    """Return the trust policy of a task's role: ECS in our account alone, against the confused deputy (aws.md, B7)."""
    estate = given.settings.estate
    condition = {
        "StringEquals": {"aws:SourceAccount": estate.account_id},
        "ArnLike": {"aws:SourceArn": [given.arn("ecs", "*", region) for region in estate.regions]},
    }
    return document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": condition,
            }
        ]
    )


def application_statements(given: Rendering, purposes: Sequence[str]) -> list[Statement]:
    """Return what a role of the application may: use the keys of `purposes`, never without a context."""
    keys = given.keys(*purposes)
    return [
        _allow("UseKeysWithContext", USE, keys, {"Null": {"kms:EncryptionContextKeys": "false"}}),
        _allow("DescribeKeys", ["kms:DescribeKey"], keys),
        _publish_metrics(given),
        *_read_overrides(given),
    ]


def watchdog_statements(given: Rendering) -> list[Statement]:
    """Return what the watchdog may: canary round trips, and to look at keys, roles and the alarms' path."""
    keys = given.keys(*given.settings.keys)
    canary = {"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in CANARY_CONTEXT.items()}}
    return [
        _allow("CanaryRoundTrips", USE, keys, canary),
        _allow("ObserveKeys", _OBSERVE_KEYS, keys),
        _allow("FindAliases", ["kms:ListAliases", "kms:ListKeys"], "*"),
        _publish_metrics(given),
        _allow("ObserveAlarmPath", _OBSERVE_ALARM_PATH, "*"),
        _allow("ObserveRoles", _OBSERVE_ROLES, given.roles()),
        # Which managed policies a role has others choose, AWS's own among them; to read their text is no power.
        _allow("ObserveManagedPolicies", _OBSERVE_MANAGED_POLICIES, f"arn:{given.partition}:iam::*:policy/*"),
        *_read_overrides(given),
    ]


def drill_statements(given: Rendering) -> list[Statement]:
    """Return what drills may: the watchdog's, and to try the alarms' path."""
    settings = given.settings
    alarms = [
        given.arn("cloudwatch", f"alarm:{settings.cloudwatch.alarm_prefix}-*", region)
        for region in settings.publish_regions
    ]
    topics = [given.arn("sns", settings.cloudwatch.drills_topic, region) for region in settings.publish_regions]
    topics = list(dict.fromkeys((*topics, *settings.drills.notify.sns_topic_arns)))
    return [
        *watchdog_statements(given),
        _publish("PublishAsOwnWatchdog", [settings.cloudwatch.own_watchdog_namespace]),
        _allow("ProveAlarms", ["cloudwatch:SetAlarmState"], alarms),
        _allow("TellOfDrills", ["sns:Publish"], topics),
        *_take_the_lease(given),
    ]


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return the policy of `statements`."""
    return {"Version": VERSION, "Statement": list(statements)}


def account_details(given: Rendering) -> dict[str, Any]:
    """Return all watched roles in the form of `aws iam get-account-authorization-details`."""
    settings = given.settings
    purposes = purposes_by_role(settings)
    policies = {name: application_statements(given, sorted(uses)) for name, uses in purposes.items()}
    policies |= {
        settings.estate.watchdog_role: watchdog_statements(given),
        settings.estate.drill_role: drill_statements(given),
    }
    trust = task_trust(given)
    return {
        "RoleDetailList": [
            {
                "RoleName": name,
                "AssumeRolePolicyDocument": trust,
                "RolePolicyList": [{"PolicyName": POLICY_NAME, "PolicyDocument": document(statements)}],
            }
            for name, statements in policies.items()
        ]
    }


_OBSERVE_KEYS = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:ListGrants",
)
_OBSERVE_ALARM_PATH = (
    "cloudwatch:DescribeAlarms",
    "cloudwatch:DescribeAlarmHistory",
    "sns:GetTopicAttributes",
    "sns:ListSubscriptionsByTopic",
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetTrailStatus",
    "cloudtrail:GetEventSelectors",
)
_TAKE_THE_LEASE = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem")
_OBSERVE_ROLES = ("iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies")
_OBSERVE_MANAGED_POLICIES = ("iam:GetPolicy", "iam:GetPolicyVersion")


def _publish_metrics(given: Rendering) -> Statement:
    cloudwatch = given.settings.cloudwatch
    return _publish("PublishMetrics", [cloudwatch.namespace, cloudwatch.drill_namespace])


def _publish(sid: str, namespaces: list[str]) -> Statement:
    condition = {"StringEquals": {"cloudwatch:namespace": namespaces}}
    return _allow(sid, ["cloudwatch:PutMetricData"], "*", condition)


def _read_overrides(given: Rendering) -> list[Statement]:
    """Let a role read which regions people have left, where that is written in SSM; only people may write it."""
    place = given.settings.overrides
    if place.ssm_parameter is None:
        return []
    regions = place.regions or given.settings.estate.regions
    parameters = [given.arn("ssm", f"parameter{place.ssm_parameter}", region) for region in regions]
    return [_allow("ReadOverrides", ["ssm:GetParameter"], parameters)]


def _take_the_lease(given: Rendering) -> list[Statement]:
    """Let drills keep the drill lease where a table holds it; nobody need delete a row, and tokens live in one."""
    lease = given.settings.drills.lease
    if lease is None:
        return []
    table = given.arn("dynamodb", f"table/{lease.table}", lease.region)
    return [_allow("TakeTheDrillLease", _TAKE_THE_LEASE, table)]


def _allow(sid: str, actions: Sequence[str], resource: Any, condition: dict[str, Any] | None = None) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement
