"""What may be wrong with a policy: each with a stable id, what it means and what to do about it.

Ids that begin with B are those of the mistakes in the setup guide (aws.md, section 2 B); P are others' and our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs; `INFORMATION` alone is no reason to call a check bad."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that may be wrong."""

    id: str
    name: str
    severity: Severity
    means: str
    remedy: str


_HIGH, _MEDIUM, _LOW, _INFORMATION = Severity

RULES = (
    Rule(
        id="B1",
        name="via-service-blocks-direct-use",
        severity=_HIGH,
        means="kms:ViaService holds only for requests that S3, DynamoDB or another service makes: a call by the SDK "
        "never matches, so whoever has this policy cannot use the key itself.",
        remedy="Allow direct use in a statement of its own, with the keys' ARNs and without kms:ViaService; keep this "
        "one only if a service really uses the key.",
    ),
    Rule(
        id="B2",
        name="alias-as-resource",
        severity=_HIGH,
        means="An alias' ARN as Resource authorises nothing on a key; it counts for CreateAlias, UpdateAlias and "
        "DeleteAlias alone.",
        remedy="Name the keys' own ARNs, one for each region; `kms-watchdog iam render` writes them.",
    ),
    Rule(
        id="B3",
        name="metrics-not-allowed",
        severity=_HIGH,
        means="Whoever uses these keys may not cloudwatch:PutMetricData: nothing is reported, and alarms see silence.",
        remedy='Allow cloudwatch:PutMetricData on "*" with a condition on cloudwatch:namespace.',
    ),
    Rule(
        id="B3n",
        name="metrics-in-any-namespace",
        severity=_LOW,
        means="Metrics may be written into any namespace, also another application's, whose alarms can so be fooled.",
        remedy="Add StringEquals cloudwatch:namespace with the namespaces that are needed.",
    ),
    Rule(
        id="B4",
        name="wildcard-resource",
        severity=_HIGH,
        means="Use of keys is allowed on any key, of other accounts too if their key policies permit it.",
        remedy="Name the keys' own ARNs.",
    ),
    Rule(
        id="B4k",
        name="any-key-of-the-account",
        severity=_MEDIUM,
        means="Use of keys is allowed on every key of an account, those of other classes of data among them.",
        remedy="Name the keys' own ARNs; second best is a condition on kms:ResourceAliases.",
    ),
    Rule(
        id="B5",
        name="no-key-separation",
        severity=_HIGH,
        means="Roles may use each other's keys: whoever gets into one application reads the data of the others.",
        remedy="A policy for each role that names its keys alone, and a Deny for everybody else in each key's policy.",
    ),
    Rule(
        id="B6",
        name="unconditioned-grants",
        severity=_MEDIUM,
        means="Whoever may create grants passes a key on, past all IAM policies; who uses keys directly needs none.",
        remedy="Take CreateGrant and RevokeGrant away; if a service needs them, with Bool kms:GrantIsForAWSResource.",
    ),
    Rule(
        id="B7",
        name="trusts-ec2",
        severity=_MEDIUM,
        means="Any instance with this role in its profile has it; tasks on Fargate need ecs-tasks.amazonaws.com alone.",
        remedy="Take ec2.amazonaws.com out of the trust policy.",
    ),
    Rule(
        id="B7s",
        name="trust-without-source",
        severity=_MEDIUM,
        means="ECS takes the role on for whoever makes it do so, also for another account (the confused deputy).",
        remedy="Add StringEquals aws:SourceAccount and ArnLike aws:SourceArn arn:aws:ecs:REGION:ACCOUNT:*.",
    ),
    Rule(
        id="B7p",
        name="trusts-anybody",
        severity=_HIGH,
        means="Anybody, of any account, may take the role on.",
        remedy="Name who may, or the account, as Principal.",
    ),
    Rule(
        id="B8",
        name="role-chaining",
        severity=_INFORMATION,
        means="The role is reached through another one: such a session ends after an hour, code has to ask for it, and "
        "the separation is as strong as the first role.",
        remedy="Let the tasks run under the role itself.",
    ),
    Rule(
        id="B9",
        name="key-policy-does-not-delegate",
        severity=_HIGH,
        means="The key's policy does not hand decisions to the account, so no IAM policy counts for this key.",
        remedy="Allow kms:* to arn:aws:iam::ACCOUNT:root, and deny the rest: key-PURPOSE.json of `iam render`.",
    ),
    Rule(
        id="B9d",
        name="key-policy-is-the-default",
        severity=_HIGH,
        means="Whoever in the account has rights on KMS may use this key. CreateKey and ReplicateKey give this policy "
        "where none is passed, to each replica anew.",
        remedy="Put key-PURPOSE.json of `iam render` in every region: `kms-watchdog provision apply --steps policies`.",
    ),
    Rule(
        id="B9m",
        name="key-policy-missing",
        severity=_HIGH,
        means="These files have roles that use keys, and no key's policy: KMS would give each key the default one.",
        remedy="Write a policy for each key, and pass it to CreateKey and to ReplicateKey.",
    ),
    Rule(
        id="B10",
        name="role-missing",
        severity=_MEDIUM,
        means="The role is not there, so something else does its work, with rights made for another purpose.",
        remedy="Create it as `kms-watchdog iam render` has it.",
    ),
    Rule(
        id="P1",
        name="differs-from-rendered",
        severity=_MEDIUM,
        means="What is there is not what the configuration asks for.",
        remedy="Put what `kms-watchdog iam render` writes, or find out who had a reason, and change the configuration.",
    ),
    Rule(
        id="P1b",
        name="without-its-boundary",
        severity=_MEDIUM,
        means="The role has not the permissions boundary that is rendered: KmsIamAdminRole may not change it.",
        remedy="`kms-watchdog provision apply --steps policies`, by an administrator of the account.",
    ),
    Rule(
        id="P1a",
        name="administrator-without-boundary",
        severity=_HIGH,
        means="A role that writes policies has not the permissions boundary that keeps it from giving itself more.",
        remedy="`kms-watchdog provision apply --steps policies`, by an administrator of the account.",
    ),
    Rule(
        id="P2",
        name="not-action",
        severity=_MEDIUM,
        means="NotAction with Allow allows all but a list: also what AWS will add.",
        remedy="List what is needed, as Action.",
    ),
    Rule(
        id="P3",
        name="not-resource",
        severity=_MEDIUM,
        means="NotResource with Allow allows all but a list: every other key, of other accounts too.",
        remedy="List what is needed, as Resource.",
    ),
    Rule(
        id="P4",
        name="all-actions",
        severity=_HIGH,
        means="Every action on keys is allowed: to use, disable and delete them, and to write their policies.",
        remedy="List the actions that are needed.",
    ),
    Rule(
        id="P5",
        name="unknown-action",
        severity=_MEDIUM,
        means="KMS has no such action: the statement does not do what it seems to. Nobody tells: IAM takes any name.",
        remedy="Correct the name.",
    ),
    Rule(
        id="P6",
        name="no-context-required",
        severity=_MEDIUM,
        means="Keys may be used without an encryption context, so nothing ties what is sealed to its purpose.",
        remedy='Add Null kms:EncryptionContextKeys "false", or StringEquals kms:EncryptionContext:NAME.',
    ),
    Rule(
        id="P7",
        name="secure-transport-adds-nothing",
        severity=_INFORMATION,
        means="KMS answers over TLS alone: aws:SecureTransport is always true.",
        remedy="Leave it out; nothing changes.",
    ),
    Rule(
        id="P8",
        name="context-for-all-values",
        severity=_HIGH,
        means="ForAllValues also holds for a request without an encryption context: the condition asks for nothing.",
        remedy="StringEquals kms:EncryptionContext:NAME, or ForAnyValue with Null kms:EncryptionContextKeys.",
    ),
    Rule(
        id="P9",
        name="context-where-there-is-none",
        severity=_MEDIUM,
        means="Only cryptographic calls and CreateGrant have an encryption context: for other actions a condition on "
        "it never holds, and they stay forbidden.",
        remedy="Put the other actions into a statement of their own.",
    ),
    Rule(
        id="P10",
        name="uses-and-destroys",
        severity=_HIGH,
        means="One role may both use a key and disable, delete or change it: whoever gets into it loses you the data.",
        remedy="Leave that to KmsProvisioningRole and KmsBreakGlassRole.",
    ),
    Rule(
        id="P11",
        name="key-open-to-anybody",
        severity=_HIGH,
        means="The key's policy allows any principal, of any account, without a condition on who it is.",
        remedy="Name the account as Principal, or add StringEquals kms:CallerAccount.",
    ),
)

_BY_ID = {rule.id: rule for rule in RULES}


def rule(identifier: str) -> Rule:
    """Return the rule with this id."""
    return _BY_ID[identifier]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, and where."""

    rule: Rule
    subject: str
    """A role's name, a key's (`key payment in us-west-2`), or a file's."""
    policy: str = ""
    """The policy's name, ARN or file; empty: about the subject as a whole."""
    statement: str = ""
    """The statement's Sid, or `statement 2`."""
    detail: str = ""
    """What exactly."""

    @property
    def where(self) -> str:
        """The place, in one line."""
        return " / ".join(part for part in (self.subject, self.policy, self.statement) if part)
