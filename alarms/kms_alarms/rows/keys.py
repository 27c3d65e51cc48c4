"""The keys: usable, as configured, not about to be deleted, old data still open."""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Rule, Seen, series
from kms_alarms.rows.common import LIVE_ALONE, any_of, check_failing, failing, lately
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind, Reason

KEYS: tuple[Alarm, ...] = (
    Alarm(
        name="KeyUnusable",
        title="A key cannot be used in a region",
        severity="critical",
        owner="sre",
        hurts="whoever is served from there; for a strict key everybody who is asked to use it there",
        runbook="key-unusable.md",
        proven_on_path="a replica is disabled",
        seen=Seen(kind=Kind.KEY_STATE),
        prometheus=(
            Rule(
                # The gauge is 0 before the first look too, which has no failure.
                expr=f"{lately(series(m.KEY_USABLE))} == 0\n"
                "and on (region, key, job, instance) "
                f"{lately(series(m.CANARY_CONSECUTIVE_FAILURES, canary=Kind.KEY_STATE))} >= 1",
                for_seconds=30,
                keep_seconds=120,
                summary="{{ $labels.key }} cannot be used in {{ $labels.region }}",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="region_key",
            inputs={"usable": (m.CW_KEY_USABLE, "Minimum")},
            comparison="LessThanThreshold",
            threshold=1,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            missing="ignore",  # a look that could not see says nothing, which is neither usable nor not
            unit="1 is usable",
        ),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="KeyPendingDeletion",
        title="A key is scheduled for deletion",
        severity="critical",
        owner="security",
        hurts="everybody whose data are under it, for ever, from the day it is deleted",
        runbook="key-pending-deletion.md",
        proven_on_path="a replica's deletion is scheduled",
        seen=Seen(kind=Kind.KEY_STATE),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.KEY_DELETION)}[$[60]]) > 0",
                keep_seconds=120,
                summary="{{ $labels.key }} in {{ $labels.region }} is scheduled for deletion",
            ),
        ),
        cloudwatch=NoneBecause("KeyUnusable says it there: such a key cannot be used"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="AliasWrong",
        title="An alias is missing, or leads to another key",
        severity="critical",
        owner="security",
        hurts="whoever seals by the alias: it fails, or seals under a key that nobody watches",
        runbook="alias-wrong.md",
        proven_on_path="an alias is repointed",
        seen=Seen(kind=Kind.KEY_STATE),
        prometheus=(
            Rule(
                expr=any_of(Kind.KEY_STATE, Reason.ALIAS_WRONG, within_seconds=300),
                summary="The alias of {{ $labels.key }} in {{ $labels.region }} is missing or leads elsewhere",
            ),
        ),
        cloudwatch=NoneBecause("CheckFails says it there, for key_state"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="ReplicaDrift",
        title="A key differs from the configuration",
        severity="warning",
        owner="security",
        hurts="nobody yet: it shows when that region is needed, or the policy lets in too many",
        runbook="replica-drift.md",
        proven_on_path="a key's policy is edited in one region",
        seen=Seen(kind=Kind.REPLICA_DRIFT),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.REPLICA_DRIFT)}[$[60]]) == 1",
                for_seconds=900,
                keep_seconds=120,
                summary="{{ $labels.field }} of {{ $labels.key }} in {{ $labels.region }} is not as configured",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="key",
            inputs={"differing": (m.CW_REPLICA_DRIFT, "Maximum")},
            threshold=0,
            evaluation_periods=5,
            datapoints_to_alarm=4,
            period_seconds=300,
            missing="ignore",
            unit="regions",
        ),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="RotationOff",
        title="A key does not rotate any more",
        severity="warning",
        owner="security",
        hurts="nobody; a control that auditors count on is off",
        runbook="rotation-off.md",
        proven_on_path="rotation is switched off on the primary",
        seen=Seen(kind=Kind.KEY_STATE),
        prometheus=(
            Rule(
                # The gauge is 0 too before anybody has seen the key, and where KMS tells nothing of a key that is gone.
                expr=f"{lately(series(m.KEY_ROTATION))} == 0\n"
                f"and on (region, key, job, instance) {lately(series(m.KEY_USABLE))} == 1",
                for_seconds=900,
                keep_seconds=120,
                summary="{{ $labels.key }} does not rotate in {{ $labels.region }}",
            ),
        ),
        cloudwatch=NoneBecause("CheckFails says it there, for key_state"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="MetadataStale",
        title="Nobody could read the keys' state for a while",
        severity="warning",
        owner="sre",
        hurts="nobody, but what is said of the keys there is old",
        runbook="metadata-stale.md",
        proven_on_path="the watchdog may not describe keys",
        seen=Seen(kind=Kind.KEY_STATE, looks=5),
        prometheus=(
            Rule(
                expr=f"time() - {series(m.METADATA_CHECKED)} > on (job, instance) group_left () "
                f"(5 * max by (job, instance) ({series(m.CANARY_INTERVAL, canary=Kind.KEY_STATE)}))",
                for_seconds=120,
                summary="The keys in {{ $labels.region }} were last read {{ $value | humanizeDuration }} ago",
            ),
        ),
        cloudwatch=NoneBecause("KeyUnusable keeps its state there while nobody can see: this is Prometheus's business"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="GoldenFails",
        title="Data that were sealed long ago do not open",
        severity="critical",
        owner="security",
        hurts="everybody with old data: a rotation or a re-created key may have cut them off",
        runbook="golden-fails.md",
        proven_on_path="a golden message under a deleted key",
        seen=Seen(kind=Kind.GOLDEN, looks=3),
        prometheus=(
            Rule(
                expr=failing(Kind.GOLDEN, 3),
                keep_seconds=120,
                summary="Old messages under {{ $labels.key }} do not open in {{ $labels.region }}",
            ),
        ),
        cloudwatch=check_failing(Kind.GOLDEN),
        twin_not_because="drills make no golden messages: those are months old",
    ),
    Alarm(
        name="ApplicationAccess",
        title="A role may not use its own key, or may use another's",
        severity="critical",
        owner="security",
        hurts="the application, at its next start; or nobody, until somebody abuses it",
        runbook="application-access.md",
        proven_on_path="the application's role is taken out of a key's policy",
        seen=Seen(kind=Kind.APPLICATION_ACCESS, looks=3),
        prometheus=(
            Rule(
                expr=failing(Kind.APPLICATION_ACCESS, 3),
                keep_seconds=120,
                summary="Access to {{ $labels.key }} in {{ $labels.region }} is not as configured",
            ),
        ),
        cloudwatch=check_failing(Kind.APPLICATION_ACCESS),
        twin_not_because=LIVE_ALONE,
    ),
)
