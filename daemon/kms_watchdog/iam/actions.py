"""Every AWS action that our commands call, and the role that each command runs under: the one place that says so.

The roles' policies are rendered from these names. Tests record the calls that the commands really make, and compare.
`sts:GetCallerIdentity` is not here: AWS answers it to whoever signs, whatever a policy says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Actions = tuple[str, ...]

USE_KEYS: Actions = ("kms:GenerateDataKey", "kms:Decrypt")
DESCRIBE_KEYS: Actions = ("kms:DescribeKey",)
OBSERVE_KEYS: Actions = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:ListGrants",
)
FIND_ALIASES: Actions = ("kms:ListAliases",)
FIND_KEYS: Actions = ("kms:ListAliases", "kms:ListKeys")
PUBLISH_METRICS: Actions = ("cloudwatch:PutMetricData",)
OBSERVE_ALARM_PATH: Actions = ("cloudwatch:DescribeAlarms", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic")
OBSERVE_ROLES: Actions = ("iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies")
OBSERVE_MANAGED_POLICIES: Actions = ("iam:GetPolicy", "iam:GetPolicyVersion")
READ_OVERRIDES: Actions = ("ssm:GetParameter",)
WRITE_OVERRIDES: Actions = ("ssm:GetParameter", "ssm:PutParameter")

TELL_PEOPLE: Actions = ("sns:Publish",)
TAKE_THE_LEASE: Actions = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem")
READ_THE_LEASE: Actions = ("dynamodb:GetItem",)
SIGN_EVIDENCE: Actions = ("kms:Sign", "kms:GetPublicKey", "kms:Verify")
SIGN_EVIDENCE_BY_MAC: Actions = ("kms:GenerateMac", "kms:VerifyMac")
KEEP_EVIDENCE: Actions = ("s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectVersion")
READ_EVIDENCE: Actions = ("s3:GetObjectVersion", "s3:ListBucketVersions")
CHECK_EVIDENCE_STORE: Actions = (
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:ListBucketVersions",
)

OBSERVE_TRAILS: Actions = ("cloudtrail:DescribeTrails", "cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors")
LOOK_UP_CHANGES: Actions = ("cloudtrail:LookupEvents",)
MAKE_TRAIL: Actions = ("cloudtrail:CreateTrail", "cloudtrail:StartLogging")
FIND_UNUSED: Actions = ("iam:GenerateServiceLastAccessedDetails", "iam:GetServiceLastAccessedDetails")
COUNT_METRICS: Actions = ("cloudwatch:ListMetrics", "cloudwatch:ListDashboards", "cloudwatch:GetDashboard")

SET_ALARMS_OFF: Actions = ("cloudwatch:SetAlarmState",)
READ_ALARM_OWNERS: Actions = ("cloudwatch:ListTagsForResource",)
PUT_ALARMS: Actions = (
    "cloudwatch:ListTagsForResource",
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:TagResource",
)
PUT_COMPOSITES: Actions = ("cloudwatch:PutCompositeAlarm",)
"""Only for all alarms: "You can't create composite alarms if your permission has a narrower scope".
Source: CloudWatch API Reference, "PutCompositeAlarm"."""
MAKE_TOPICS: Actions = ("sns:CreateTopic", "sns:GetTopicAttributes", "sns:Subscribe")
LISTEN_TO_TOPICS: Actions = ("sns:ListSubscriptionsByTopic", "sns:Subscribe", "sns:ConfirmSubscription")
LEAVE_TOPICS: Actions = ("sns:GetSubscriptionAttributes", "sns:Unsubscribe")
"""These name a subscription, for which IAM has no resource of its own: whoever has them has them for every one."""

CREATE_KEYS: Actions = ("kms:CreateKey",)
REPLICATE_KEYS: Actions = ("kms:ReplicateKey",)
MANAGE_KEYS: Actions = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:PutKeyPolicy",
    "kms:EnableKeyRotation",
    "kms:GetKeyRotationStatus",
    "kms:UpdateKeyDescription",
    "kms:ListResourceTags",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:CreateAlias",
    "kms:UpdateAlias",
)
MAKE_ROLES: Actions = (
    "iam:CreatePolicy",
    "iam:CreateRole",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
)
POINT_ALIASES: Actions = ("kms:CreateAlias", "kms:UpdateAlias")
DESTROY_KEYS: Actions = (
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKeyRotation",
    "kms:ScheduleKeyDeletion",
    "kms:CancelKeyDeletion",
    "kms:UpdatePrimaryRegion",
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:PutKeyPolicy",
)
"""What is called for by hand in an emergency, and what takes it back."""


class Runner(StrEnum):
    """Whose role a command runs under; the roles' names are `iam.estate_roles`'."""

    APPLICATION = "application"
    WATCHDOG = "watchdog"
    DRILL = "drill"
    AUDIT = "audit"
    PROVISIONING = "provisioning"
    BREAK_GLASS = "break glass"
    OTHERS = "whoever the account lets"
    """No role of the estate: an administrator of the account, or who takes the watchdog's role on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, and the actions it may call: fewer, where no lease, store, bucket or parameter is configured."""

    line: str
    runner: Runner
    actions: frozenset[str]


def _command(line: str, runner: Runner, *groups: Actions) -> Command:
    return Command(line=line, runner=runner, actions=frozenset(action for group in groups for action in group))


_WATCH = (
    USE_KEYS, OBSERVE_KEYS, FIND_ALIASES, PUBLISH_METRICS, OBSERVE_ALARM_PATH, OBSERVE_ROLES, OBSERVE_MANAGED_POLICIES,
    READ_OVERRIDES,
)  # fmt: skip
_PROVISION = (
    DESCRIBE_KEYS, FIND_KEYS, ("kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags"),
    ("iam:GetRole", "iam:GetRolePolicy"), OBSERVE_MANAGED_POLICIES, OBSERVE_TRAILS,
)  # fmt: skip
_PROVE = (
    ("cloudwatch:DescribeAlarms",), SET_ALARMS_OFF, READ_ALARM_OWNERS, LISTEN_TO_TOPICS, LEAVE_TOPICS, READ_THE_LEASE,
)  # fmt: skip

COMMANDS: tuple[Command, ...] = (
    _command("(the application, by kms_core)", Runner.APPLICATION, USE_KEYS, DESCRIBE_KEYS, PUBLISH_METRICS,
             READ_OVERRIDES),
    _command("kms-watchdog run", Runner.WATCHDOG, *_WATCH, READ_EVIDENCE),
    _command("kms-watchdog once", Runner.WATCHDOG, *_WATCH),
    _command("kms-watchdog measure", Runner.WATCHDOG, USE_KEYS, DESCRIBE_KEYS),
    _command("kms-watchdog doctor", Runner.WATCHDOG, USE_KEYS, OBSERVE_KEYS, FIND_ALIASES, OBSERVE_ROLES,
             OBSERVE_MANAGED_POLICIES),
    _command("kms-watchdog digest", Runner.WATCHDOG, TELL_PEOPLE),
    _command("kms-chaos run", Runner.DRILL, *_WATCH, TELL_PEOPLE, TAKE_THE_LEASE, SIGN_EVIDENCE,
             SIGN_EVIDENCE_BY_MAC, KEEP_EVIDENCE, CHECK_EVIDENCE_STORE),
    _command("kms-chaos heal", Runner.DRILL, TAKE_THE_LEASE),
    _command("kms-chaos verify", Runner.DRILL, SIGN_EVIDENCE, SIGN_EVIDENCE_BY_MAC, KEEP_EVIDENCE,
             CHECK_EVIDENCE_STORE),
    _command("kms-alarms prove (started by the daemon)", Runner.DRILL, *_PROVE),
    _command("kms-alarms prove", Runner.PROVISIONING, *_PROVE),
    _command("kms-alarms plan", Runner.PROVISIONING, ("cloudwatch:DescribeAlarms", "sns:GetTopicAttributes"),
             READ_ALARM_OWNERS),
    _command("kms-alarms apply", Runner.PROVISIONING, ("cloudwatch:DescribeAlarms",), PUT_ALARMS, PUT_COMPOSITES,
             ("sns:CreateTopic", "sns:GetTopicAttributes")),
    _command("kms-alarms subscribe", Runner.PROVISIONING, ("sns:Subscribe",)),
    _command("kms-watchdog provision plan", Runner.PROVISIONING, *_PROVISION),
    _command("kms-watchdog provision apply", Runner.PROVISIONING, *_PROVISION, CREATE_KEYS, REPLICATE_KEYS,
             MAKE_TRAIL, ("kms:TagResource", "kms:CreateAlias", "kms:EnableKeyRotation", "kms:PutKeyPolicy",
              "kms:UpdateKeyDescription", "kms:UntagResource")),
    _command("kms-watchdog provision apply (roles and their policies)", Runner.OTHERS,
             MAKE_ROLES),
    _command("(whoever takes on the role of [core] role_arn)", Runner.OTHERS, ("sts:AssumeRole",)),
    _command("kms-watchdog provision policies", Runner.PROVISIONING, DESCRIBE_KEYS),
    _command("kms-watchdog iam render", Runner.AUDIT, DESCRIBE_KEYS),
    _command("kms-watchdog iam check", Runner.AUDIT, OBSERVE_ROLES, OBSERVE_MANAGED_POLICIES,
             ("kms:DescribeKey", "kms:GetKeyPolicy")),
    _command("kms-watchdog audit", Runner.AUDIT, OBSERVE_KEYS, FIND_KEYS, OBSERVE_ROLES, OBSERVE_MANAGED_POLICIES,
             OBSERVE_TRAILS, LOOK_UP_CHANGES, FIND_UNUSED),
    _command("kms-watchdog cost", Runner.AUDIT, DESCRIBE_KEYS, ("kms:ListKeyRotations", "cloudwatch:DescribeAlarms"),
             COUNT_METRICS),
    _command("kms-watchdog checklist", Runner.AUDIT, OBSERVE_KEYS, FIND_KEYS, OBSERVE_ROLES, OBSERVE_ALARM_PATH,
             READ_EVIDENCE),
    _command("kms-chaos score, kms-chaos evidence archive", Runner.AUDIT, READ_EVIDENCE),
    _command("kms-watchdog preflight", Runner.OTHERS, FIND_KEYS, CREATE_KEYS, REPLICATE_KEYS,
             ("kms:TagResource", "kms:ListResourceTags", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey",
              "kms:EnableKeyRotation", "kms:GetKeyRotationStatus", "kms:GetKeyPolicy", "kms:ScheduleKeyDeletion",
              "kms:GenerateDataKeyWithoutPlaintext", "access-analyzer:ValidatePolicy", "iam:SimulateCustomPolicy",
              "cloudformation:ValidateTemplate", "servicequotas:ListServiceQuotas", "cloudwatch:GetMetricData")),
    _command("kms-watchdog evacuate", Runner.BREAK_GLASS, WRITE_OVERRIDES),
    _command("kms-watchdog return", Runner.BREAK_GLASS, WRITE_OVERRIDES),
)  # fmt: skip
"""What asks AWS nothing is not here: status, history, digest, healthcheck, check-config, dump-config."""


def actions_of(runner: Runner) -> frozenset[str]:
    """Return every action that a command under `runner`'s role may call."""
    return frozenset(action for one in COMMANDS if one.runner is runner for action in one.actions)
