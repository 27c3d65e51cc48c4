"""The policies of the roles that use keys, rendered from the estate: who may use which key, and nothing else. Pure.

Statements name the keys' own ARNs: an alias' ARN as Resource authorises nothing on a key, and `*` lets a role open what
other accounts sealed (aws.md, B2 and B4). Source of the texts: aws.md §4; the actions are those that our commands call
(`iam.actions`). The roles of people are in `iam.estate_roles`, with these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kms_watchdog import alarm_definitions
from kms_watchdog.config import CANARY_CONTEXT, Settings
from kms_watchdog.iam import actions

Statement = dict[str, Any]

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

    def alarms(self) -> list[str]:
        """Return what the ARNs of our alarms look like."""
        prefix = self.settings.cloudwatch.alarm_prefix
        return [self.arn("cloudwatch", f"alarm:{prefix}-*", region) for region in self.settings.publish_regions]

    def topics(self) -> list[str]:
        """Return the ARNs of the topics that alarms speak to."""
        names = dict.fromkeys(alarm_definitions.topics(self.settings))
        return [self.arn("sns", name, region) for name in names for region in self.settings.publish_regions]

    def override_parameters(self) -> list[str]:
        """Return the ARNs of the parameters that tell which regions people have left; empty: there are none."""
        place = self.settings.overrides
        if place.ssm_parameter is None:
            return []
        regions = place.regions or self.settings.estate.regions
        return [self.arn("ssm", f"parameter{place.ssm_parameter}", region) for region in regions]


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
        allow("UseKeysWithContext", actions.USE_KEYS, keys, {"Null": {"kms:EncryptionContextKeys": "false"}}),
        allow("DescribeKeys", actions.DESCRIBE_KEYS, keys),
        _publish_metrics(given),
        *_read_overrides(given),
    ]


def watchdog_statements(given: Rendering) -> list[Statement]:
    """Return what the watchdog may: to watch, and to read what drills elsewhere left as evidence."""
    return [*_watch(given), *read_evidence(given)]


def _watch(given: Rendering) -> list[Statement]:
    """Let canaries do round trips, and look at keys, roles and the alarms' path."""
    keys = given.keys(*given.settings.keys)
    canary = {"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in CANARY_CONTEXT.items()}}
    return [
        allow("CanaryRoundTrips", actions.USE_KEYS, keys, canary),
        allow("ObserveKeys", actions.OBSERVE_KEYS, keys),
        allow("FindAliases", actions.FIND_ALIASES, "*"),
        _publish_metrics(given),
        allow("ObserveAlarmPath", actions.OBSERVE_ALARM_PATH, "*"),
        allow("ObserveRoles", actions.OBSERVE_ROLES, given.roles()),
        observe_managed_policies(given),
        *_read_overrides(given),
        *_tell_people(given),
    ]


def drill_statements(given: Rendering) -> list[Statement]:
    """Return what drills may: the watchdog's, to try the alarms' path, and to keep and sign evidence."""
    settings = given.settings
    topics = [given.arn("sns", settings.cloudwatch.drills_topic, region) for region in settings.publish_regions]
    topics = list(dict.fromkeys((*topics, *settings.drills.notify.sns_topic_arns)))
    return [
        *_watch(given),
        _publish("PublishAsOwnWatchdog", [settings.cloudwatch.own_watchdog_namespace]),
        allow("ProveAlarms", actions.SET_ALARMS_OFF, given.alarms()),
        allow("TellOfDrills", actions.TELL_PEOPLE, topics),
        *_take_the_lease(given),
        *_keep_evidence(given),
        *_sign_evidence(given),
        *(listen_to_topics(given) if settings.cloudwatch.proof.slot else []),
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


def allow(sid: str, names: Sequence[str], resource: Any, condition: dict[str, Any] | None = None) -> Statement:
    """Return a statement that allows these actions."""
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(names), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def observe_managed_policies(given: Rendering) -> Statement:
    """Let a role read managed policies.

    Which of them a role has others choose, AWS's own among them; to read their text is no power.
    """
    return allow("ObserveManagedPolicies", actions.OBSERVE_MANAGED_POLICIES, f"arn:{given.partition}:iam::*:policy/*")


def listen_to_topics(given: Rendering) -> list[Statement]:
    """Let a role that proves alarms listen to their topics for a while.

    Whoever can take away one subscription can take away the pager's: no role has this that need not prove.
    """
    return [
        allow("ReadAlarmOwners", actions.READ_ALARM_OWNERS, given.alarms()),
        allow("ListenToTopics", actions.LISTEN_TO_TOPICS, given.topics()),
        allow("LeaveTopics", actions.LEAVE_TOPICS, "*"),
    ]


def _publish_metrics(given: Rendering) -> Statement:
    cloudwatch = given.settings.cloudwatch
    return _publish("PublishMetrics", [cloudwatch.namespace, cloudwatch.drill_namespace])


def _publish(sid: str, namespaces: list[str]) -> Statement:
    condition = {"StringEquals": {"cloudwatch:namespace": namespaces}}
    return allow(sid, actions.PUBLISH_METRICS, "*", condition)


def _read_overrides(given: Rendering) -> list[Statement]:
    """Let a role read which regions people have left, where that is written in SSM; only people may write it."""
    parameters = given.override_parameters()
    return [allow("ReadOverrides", actions.READ_OVERRIDES, parameters)] if parameters else []


def _tell_people(given: Rendering) -> list[Statement]:
    """Let the daemon tell people what is due, where a topic is named for that."""
    topics = list(given.settings.drills.notify.sns_topic_arns)
    return [allow("TellPeople", actions.TELL_PEOPLE, topics)] if topics else []


def _take_the_lease(given: Rendering) -> list[Statement]:
    """Let drills keep the drill lease where a table holds it; nobody need delete a row, and tokens live in one."""
    lease = given.settings.drills.lease
    if lease is None:
        return []
    table = given.arn("dynamodb", f"table/{lease.table}", lease.region)
    return [allow("TakeTheDrillLease", actions.TAKE_THE_LEASE, table)]


def _keep_evidence(given: Rendering) -> list[Statement]:
    """Let drills put evidence into its bucket, where there is one, and read it again; nothing there is deleted."""
    return [
        statement
        for bucket, objects in _bucket_of_evidence(given)
        for statement in (
            allow("KeepEvidence", actions.KEEP_EVIDENCE, objects),
            allow("CheckEvidenceStore", actions.CHECK_EVIDENCE_STORE, bucket),
        )
    ]


def read_evidence(given: Rendering) -> list[Statement]:
    """Let a role read what drills of all machines left in the bucket, where there is one."""
    of_objects, of_the_bucket = actions.READ_EVIDENCE[:1], actions.READ_EVIDENCE[1:]
    return [
        statement
        for bucket, objects in _bucket_of_evidence(given)
        for statement in (
            allow("ReadEvidence", of_objects, objects),
            allow("ListEvidence", of_the_bucket, bucket),
        )
    ]


def _bucket_of_evidence(given: Rendering) -> list[tuple[str, str]]:
    """Return the ARN of the bucket and that of its objects under the prefix; empty: evidence is in none."""
    store = given.settings.drills.evidence.store or ""
    if not store.startswith("s3://"):
        return []
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    arn = f"arn:{given.partition}:s3:::{bucket}"
    return [(arn, f"{arn}/{prefix}/*" if prefix else f"{arn}/*")]


def _sign_evidence(given: Rendering) -> list[Statement]:
    """Let drills sign with the key that is for that alone, where it is in KMS."""
    signing = given.settings.drills.evidence.signing
    if signing is None or signing.key_id is None:
        return []
    names = actions.SIGN_EVIDENCE_BY_MAC if signing.algorithm.startswith("HMAC") else actions.SIGN_EVIDENCE
    *where, key = signing.key_id.rsplit(":", 1)
    if key.startswith("alias/"):  # an alias' ARN authorises nothing on a key; its name as a condition does
        named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": key}}
        return [allow("SignEvidence", names, _kms_arns(given, where, "key/*"), named)]
    return [allow("SignEvidence", names, _kms_arns(given, where, f"key/{key.removeprefix('key/')}"))]


def _kms_arns(given: Rendering, where: Sequence[str], key: str) -> list[str]:
    """Return the ARNs of the key that signs, of our account unless the beginning of its own ARN names another."""
    signing = given.settings.drills.evidence.signing
    account_id = where[0].split(":")[4] if where else given.settings.estate.account_id
    regions = signing.regions if signing else ()
    return [f"arn:{given.partition}:kms:{region}:{account_id}:{key}" for region in regions]
