"""The questions: what was written down unverified, how AWS is asked, and what each answer means. Pure.

Ids are stable: result files name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One statement that nobody had verified."""

    id: str
    source: str
    """Where it stands, or is relied on."""
    claim: str
    """What is confirmed or refuted."""
    request: str
    """What AWS is asked."""
    if_confirmed: str
    if_refuted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAsked:
    """One statement that stays unverified here."""

    id: str
    source: str
    claim: str
    why: str
    """Why it is not asked, and what would settle it."""


REPLICATE_ELSEWHERE: Final = "replicate-outside-primary"
REPLICATE_TWICE: Final = "replicate-twice"
REPLICATE_REPLICA: Final = "replicate-a-replica"
ROTATION_ON_REPLICA: Final = "rotation-on-replica"
ALIAS_ENABLE_ROTATION: Final = "alias-in-enable-rotation"
ALIAS_ROTATION_STATUS: Final = "alias-in-rotation-status"
ALIAS_KEY_POLICY: Final = "alias-in-key-policy"
POLICIES_VALIDATE: Final = "policies-validate"
POLICIES_SIMULATE: Final = "policies-simulate"
TEMPLATES_VALIDATE: Final = "templates-validate"
KMS_QUOTAS: Final = "kms-quotas"
FILL_WITHOUT_DATA: Final = "fill-without-data"
PENDING_DELETION: Final = "pending-deletion-code"
PENDING_REPLICA_DELETION: Final = "pending-replica-deletion-code"

_ALIASES_RESOLVED = "nothing to change: aliases are resolved with DescribeKey first, and ids are sent"

QUESTIONS: Final = (
    Question(
        id=REPLICATE_ELSEWHERE,
        source="aws.md §2 C1 (inference)",
        claim="ReplicateKey, called in a region that has no such key, fails with NotFoundException",
        request="ReplicateKey in the second region, before the replica is made",
        if_confirmed="nothing to change: provisioning calls it in the primary's region",
        if_refuted="the mistake C1 of the setup guide reads otherwise: correct its text and the local AWS",
    ),
    Question(
        id=ALIAS_ENABLE_ROTATION,
        source="aws.md §7, §2 C5",
        claim="EnableKeyRotation takes no alias",
        request="EnableKeyRotation of the primary, by its alias",
        if_confirmed=_ALIASES_RESOLVED,
        if_refuted=f"{_ALIASES_RESOLVED}; correct the local AWS, which refuses them",
    ),
    Question(
        id=ALIAS_ROTATION_STATUS,
        source="aws.md §7, §2 C5",
        claim="GetKeyRotationStatus takes no alias",
        request="GetKeyRotationStatus of the primary, by its alias",
        if_confirmed=_ALIASES_RESOLVED,
        if_refuted=f"{_ALIASES_RESOLVED}; correct the local AWS, which refuses them",
    ),
    Question(
        id=ALIAS_KEY_POLICY,
        source="aws.md §7, §2 C5",
        claim="GetKeyPolicy takes no alias",
        request="GetKeyPolicy of the primary, by its alias",
        if_confirmed=_ALIASES_RESOLVED,
        if_refuted=f"{_ALIASES_RESOLVED}; correct the local AWS, which refuses them",
    ),
    Question(
        id=REPLICATE_TWICE,
        source="aws.md §7, §3",
        claim="a second ReplicateKey into the same region fails with AlreadyExistsException",
        request="ReplicateKey of the primary, into the second region once more",
        if_confirmed="nothing to change: a provisioning that was broken off meets this code",
        if_refuted="provisioning must know the code: correct estate/provision.py and the local AWS",
    ),
    Question(
        id=REPLICATE_REPLICA,
        source="aws.md §7, §3",
        claim="ReplicateKey of a replica fails with UnsupportedOperationException",
        request="ReplicateKey of the replica, into a third region",
        if_confirmed="nothing to change",
        if_refuted="correct the local AWS; a key that this makes is torn down with the others",
    ),
    Question(
        id=ROTATION_ON_REPLICA,
        source="aws.md §7, §2 C4",
        claim="EnableKeyRotation on a replica fails with UnsupportedOperationException",
        request="EnableKeyRotation of the replica, by its id",
        if_confirmed="nothing to change: rotation is enabled on the primary alone",
        if_refuted="correct the local AWS, and the words of the setup guide's mistake C4",
    ),
    Question(
        id=POLICIES_VALIDATE,
        source="aws.md §7 (section 4), estate/topic_policy.py",
        claim="AWS finds no error and no security warning in the policies that are rendered",
        request="access-analyzer ValidatePolicy of all policies: roles' own, trusts, boundaries, keys', topics'",
        if_confirmed="nothing to change",
        if_refuted="correct what is named before `provision apply`: see the finding's code",
    ),
    Question(
        id=POLICIES_SIMULATE,
        source="aws.md §7, scale.md §7",
        claim="AWS's simulator decides the rendered policies as our own evaluator does",
        request="iam SimulateCustomPolicy of the watchdog's, an application's and the provisioning role's policies",
        if_confirmed="the evaluator that `iam check`, `doctor` and the canaries rest on is right in these cases",
        if_refuted="estate/policy.py or the rendered policy is wrong in the case that is named",
    ),
    Question(
        id=TEMPLATES_VALIDATE,
        source="verification.md §9",
        claim="CloudFormation accepts the rendered templates",
        request="cloudformation ValidateTemplate of each region's template",
        if_confirmed="nothing to change; whether a stack can be made of them, only making one shows",
        if_refuted="correct estate/cloudformation.py",
    ),
    Question(
        id=KMS_QUOTAS,
        source="aws.md §7 and §3, crypto-core.md §11",
        claim="KMS's quotas for management requests are at least those of 2023",
        request="service-quotas ListServiceQuotas of KMS in every region",
        if_confirmed="nothing to change; the quota for cryptographic requests is told beside it",
        if_refuted="canaries of the estate are too frequent for the account, or the quota is to be raised",
    ),
    Question(
        id=FILL_WITHOUT_DATA,
        source="monitoring.md §10 and §6 A",
        claim="FILL(m, 0) of a metric without any data gives zeros",
        request="cloudwatch GetMetricData of FILL over a metric that does not exist",
        if_confirmed="nothing to change: the evaluator of alarms and the local AWS do the same",
        if_refuted="correct kms_alarms/metric_math.py; the shipped alarms have no FILL",
    ),
    Question(
        id=PENDING_DELETION,
        source="aws.md §7 and §3, crypto-core.md §11",
        claim="a key that is pending deletion answers use with KMSInvalidStateException",
        request="GenerateDataKeyWithoutPlaintext under the replica, whose deletion is scheduled",
        if_confirmed="nothing to change: the crypto core treats both documented codes alike",
        if_refuted="nothing to change where it is DisabledException: correct the local AWS",
    ),
    Question(
        id=PENDING_REPLICA_DELETION,
        source="aws.md §7 and §3",
        claim="a primary that waits for its replicas to go answers use with KMSInvalidStateException",
        request="GenerateDataKeyWithoutPlaintext under the primary, whose deletion is scheduled",
        if_confirmed="nothing to change: the crypto core treats both documented codes alike",
        if_refuted="nothing to change where it is DisabledException: correct the local AWS",
    ),
)

NOT_ASKED: Final = (
    NotAsked(
        id="tags-in-create-key",
        source="aws.md §7",
        claim="kms:TagResource on key/mrk-* covers the tags that are given to CreateKey",
        why="it needs a role with that right alone; `provision apply` under KmsProvisioningRole shows it",
    ),
    NotAsked(
        id="key-type-in-replicate-key",
        source="aws.md §7",
        claim="kms:MultiRegionKeyType is there in the CreateKey part of ReplicateKey",
        why="as before; if `provision apply` is denied there, fall back to aws:RequestedRegion alone",
    ),
    NotAsked(
        id="primary-moved-without-its-region",
        source="aws.md §7",
        claim="UpdatePrimaryRegion cannot work while the primary's region is down",
        why="no region can be taken down, and nothing of the kind is tried on keys; failover never calls it",
    ),
    NotAsked(
        id="topic-policy-delivers",
        source="estate/topic_policy.py",
        claim="EventBridge sends aws:SourceArn of its rule when it publishes to a topic",
        why="it needs a rule, a subscriber and a change that trips it; the policy's text is validated here, and "
        "disabling and enabling a key of a test account with the stack deployed shows the rest",
    ),
    NotAsked(
        id="alarm-topic-region",
        source="aws.md §7",
        claim="an alarm's topic must be in the alarm's region",
        why="it would make an alarm; ours always are, and `kms-alarms prove` shows that they are heard",
    ),
    NotAsked(
        id="prices",
        source="aws.md §7, monitoring.md §10, scale.md §7",
        claim="list prices, and that the first two rotations alone are billed",
        why="only a bill shows it: correct the table that `kms-watchdog cost --prices` takes",
    ),
    NotAsked(
        id="secure-transport",
        source="aws.md §7",
        claim="aws:SecureTransport adds nothing for KMS",
        why="it would send signed requests without TLS",
    ),
    NotAsked(
        id="port-in-host",
        source="aws.md §7",
        claim="SigV4 with an explicit port in Host",
        why="AWS's own end points have none but 443, which boto3 leaves out",
    ),
    NotAsked(
        id="tls-route",
        source="aws.md §6 way 3, §7; toxiproxy.md",
        claim="the TLS route leads to AWS's real end points with nothing switched off",
        why="the route belongs to kms-chaos and needs a Toxiproxy: the first drill on a real account shows it",
    ),
    NotAsked(
        id="latencies",
        source="crypto-core.md §11, scale.md §7, monitoring.md §10",
        claim="latencies in and between regions, and of TLS",
        why="`kms-watchdog measure` measures them, where the application runs",
    ),
    NotAsked(
        id="connections",
        source="crypto-core.md §11, scale.md §7, toxiproxy.md",
        claim="how long KMS keeps an idle connection, and whether an answer is one TLS record",
        why="it takes many minutes of waiting; nothing rests on it: every answer's members are checked",
    ),
    NotAsked(
        id="consistency",
        source="crypto-core.md §11",
        claim="how long changes of grants and policies take",
        why="it needs roles of its own; runbooks allow for five minutes",
    ),
    NotAsked(
        id="metrics-insights",
        source="monitoring.md §6 C, §10",
        claim="the query of Metrics Insights, and AT_LEAST in composite alarms",
        why="neither is used: alarms take the portable forms",
    ),
    NotAsked(
        id="lease-and-fargate",
        source="scale.md §7",
        claim="DynamoDB itself, and Fargate beyond stopTimeout",
        why="it needs a table or a task of the estate: the first scheduled drill on a real account shows both",
    ),
)


def question(wanted: str) -> Question:
    """Return the question with this id."""
    return next(one for one in QUESTIONS if one.id == wanted)
