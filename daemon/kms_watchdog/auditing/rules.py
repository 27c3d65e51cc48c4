"""What a review may find besides what `iam.catalogue` knows of policies: each with a stable id. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kms_watchdog.estate.diff import Field
from kms_watchdog.iam.catalogue import Rule, Severity

_HIGH, _MEDIUM, _LOW, _INFORMATION = Severity

DRIFT: Mapping[Field, Rule] = {
    Field.STATE: Rule(
        id="K1",
        name="key-not-usable",
        severity=_HIGH,
        means="A key, or a replica of it, is missing, disabled, about to be deleted or not where it should be.",
        remedy="kms-watchdog doctor --key PURPOSE; runbook key-unusable.md.",
    ),
    Field.SPEC: Rule(
        id="K2",
        name="another-kind-of-key",
        severity=_HIGH,
        means="The key has another spec, or is of one region: neither can be changed.",
        remedy="A new key and all data sealed anew: a project, not a repair.",
    ),
    Field.USAGE: Rule(
        id="K2u",
        name="another-usage",
        severity=_HIGH,
        means="The key is not for encryption: that cannot be changed.",
        remedy="A new key and all data sealed anew: a project, not a repair.",
    ),
    Field.ROTATION: Rule(
        id="K3",
        name="rotation-off",
        severity=_HIGH,
        means="The key's material is not renewed by itself.",
        remedy="kms-watchdog provision apply --steps rotation; on the primary alone, by its id.",
    ),
    Field.POLICY: Rule(
        id="K4",
        name="key-policy-differs",
        severity=_HIGH,
        means="A key's policy is per region, never synchronised, and not the one rendered here: others may use the "
        "key, or its users may not.",
        remedy="Find out who changed it (below), then kms-watchdog provision apply --steps policies.",
    ),
    Field.ALIAS: Rule(
        id="K5",
        name="alias-wrong",
        severity=_HIGH,
        means="An alias is missing or leads to another key: what is sealed there opens nowhere else.",
        remedy="Runbook alias-wrong.md; a missing one: kms-watchdog provision apply --steps aliases.",
    ),
    Field.TAGS: Rule(
        id="K6",
        name="tags-differ",
        severity=_LOW,
        means="The key does not say whose it is, and a half-finished provisioning would not find it.",
        remedy="kms-watchdog provision apply --steps tags.",
    ),
    Field.DESCRIPTION: Rule(
        id="K6d",
        name="description-differs",
        severity=_LOW,
        means="The key is not described as configured; KMS copies no description to replicas.",
        remedy="kms-watchdog provision apply --steps tags.",
    ),
}
SPARE_KEY = Rule(
    id="K7",
    name="spare-key",
    severity=_MEDIUM,
    means="A key carries the estate's tag and is none of its keys: two people provisioned at once, or an old one was "
    "left. It costs a dollar a month, and may have sealed something.",
    remedy="Look in CloudTrail who has used it; nobody: schedule its deletion.",
)
GRANT = Rule(
    id="K8",
    name="grant",
    severity=_HIGH,
    means="A grant lets somebody use the key past every IAM policy; key policies here forbid to make one.",
    remedy="Find out who made it (below), and kms:RevokeGrant.",
)
NO_TRAIL = Rule(
    id="T1",
    name="no-trail",
    severity=_HIGH,
    means="No trail records every region's management events: who used or changed a key is known for 90 days at most.",
    remedy="Name [estate] trail_bucket and `kms-watchdog provision apply`, or have a stack own a trail.",
)
TRAIL_SILENT = Rule(
    id="T2",
    name="trail-not-logging",
    severity=_HIGH,
    means="The trail was stopped: nothing is written since.",
    remedy="aws cloudtrail start-logging, and find out who stopped it.",
)
TRAIL_WITHOUT_KMS = Rule(
    id="T3",
    name="trail-leaves-kms-out",
    severity=_HIGH,
    means="The trail excludes KMS's events, or reads: use of keys is not recorded (C7).",
    remedy="aws cloudtrail put-event-selectors with ReadWriteType All and nothing excluded.",
)
TRAIL_NOT_VALIDATED = Rule(
    id="T4",
    name="trail-not-validated",
    severity=_MEDIUM,
    means="Its files can be changed and nobody would notice.",
    remedy="aws cloudtrail update-trail --enable-log-file-validation.",
)
UNUSED = Rule(
    id="U1",
    name="unused-access",
    severity=_INFORMATION,
    means="A role has not used a service for 90 days that its policies let it use.",
    remedy="Ask its owner whether it is still needed.",
)
