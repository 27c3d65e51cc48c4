"""The way to KMS: breakers, failover, other regions' data, throttling, names, certificates, clocks."""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Rule, Seen, series
from kms_alarms.rows.common import LIVE_ALONE, check_failing, failing
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind

_NO_MODE = "requests are counted for the daemon's own clients alone"

REGIONS: tuple[Alarm, ...] = (
    Alarm(
        name="CircuitBreakerOpen",
        title="A circuit breaker is open: calls go to other regions",
        severity="warning",
        owner="sre",
        hurts="callers near that region: each call goes further; nobody fails",
        runbook="circuit-breaker-open.md",
        proven_by=("two-regions-lost",),
        seen=Seen(kind=Kind.ROUND_TRIP, looks=3),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.BREAKER_STATE, state='open')}[$[60]]) == 1",
                for_seconds=60,
                keep_seconds=300,
                summary="The breaker of {{ $labels.region }} is open: calls go to other regions",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="region",
            inputs={"state": (m.CW_BREAKER_STATE, "Maximum")},  # the mean of closed and open reads half-open
            comparison="GreaterThanOrEqualToThreshold",
            threshold=float(m.BREAKER_VALUES["open"]),
            evaluation_periods=3,
            datapoints_to_alarm=2,
            missing="ignore",
            unit="0 closed, 1 half-open, 2 open",
        ),
    ),
    Alarm(
        name="CircuitBreakerFlapping",
        title="A circuit breaker opens again and again",
        severity="warning",
        owner="sre",
        hurts="callers near that region, in turns",
        runbook="circuit-breaker-flapping.md",
        proven_on_path="a region comes and goes",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=3),
        prometheus=(
            Rule(
                # In a region that is gone it opens anew after each probe, but never closes between.
                expr=f"increase({series(m.BREAKER_TRANSITIONS, to='open')}[$[900]]) >= 5\n"
                "and on (region, job, instance)\n"
                f"increase({series(m.BREAKER_TRANSITIONS, to='closed')}[$[900]]) >= 2",
                keep_seconds=300,
                summary="The breaker of {{ $labels.region }} opened {{ $value | humanize }} times in 15 minutes",
            ),
        ),
        cloudwatch=NoneBecause("CircuitBreakerOpen fires there at each turn, for 2 periods of 3"),
    ),
    Alarm(
        name="FailoverPathFails",
        title="Sealing and opening as the application does fails",
        severity="critical",
        owner="sre",
        hurts="the application's users, now: cache, breakers and failover did not save the call",
        runbook="failover-path-fails.md",
        proven_on_path="all regions are lost",
        seen=Seen(kind=Kind.FAILOVER_PATH, looks=3),
        prometheus=(
            Rule(
                expr=failing(Kind.FAILOVER_PATH, 3),
                keep_seconds=120,
                summary="{{ $labels.key }} cannot be sealed and opened by way of failover",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="kind",
            kinds=(Kind.FAILOVER_PATH,),
            inputs={"failures": (m.CW_KIND_FAILURES, "Sum")},
            threshold=0,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            missing="notBreaching",
            unit="failed looks",
        ),
    ),
    Alarm(
        name="CrossRegionFails",
        title="What one region sealed does not open in another",
        severity="critical",
        owner="sre",
        hurts="nobody yet: failover would lose what was sealed before",
        runbook="cross-region-fails.md",
        proven_on_path="a replica is deleted",
        seen=Seen(kind=Kind.CROSS_REGION, looks=3),
        prometheus=(
            Rule(
                expr=failing(Kind.CROSS_REGION, 3),
                keep_seconds=120,
                summary="{{ $labels.key }} sealed and opened over {{ $labels.region }} fails",
            ),
        ),
        cloudwatch=check_failing(Kind.CROSS_REGION),
        twin_not_because="drills check every message in every region themselves, and say so in their verdict",
    ),
    Alarm(
        name="Throttled",
        title="KMS throttles the watchdog",
        severity="warning",
        owner="sre",
        hurts="everybody who shares the account's quota in that region",
        runbook="throttled.md",
        proven_on_path="KMS throttles every other request",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=2),
        prometheus=(
            Rule(
                expr="sum by (region) (rate("
                f"{series(m.KMS_REQUESTS, error_type='ThrottlingException')}[$[900]])) "
                f"/ sum by (region) (rate({series(m.KMS_REQUESTS)}[$[900]])) > 0.01\nand on (region)\n"
                f"sum by (region) (increase({series(m.KMS_REQUESTS, error_type='ThrottlingException')}[$[900]])) >= 5",
                for_seconds=60,
                summary="{{ $labels.region }} throttles {{ $value | humanizePercentage }} of the watchdog's requests",
            ),
        ),
        cloudwatch=check_failing(Kind.HEADROOM),
        twin_not_because=_NO_MODE,
    ),
    Alarm(
        name="UnclassifiedErrors",
        title="KMS answers with errors that the metrics have no name for",
        severity="warning",
        owner="developers",
        hurts="perhaps callers: what the core does not know either is neither retried nor failed over on purpose",
        runbook="unclassified-errors.md",
        proven_on_path="KMS answers with an error of another name",
        seen=Seen(kind=Kind.ROUND_TRIP),
        prometheus=(
            Rule(
                expr="sum by (region, operation) "
                f"(increase({series(m.KMS_REQUESTS, error_type='_OTHER')}[$[900]])) > 0",
                keep_seconds=300,
                summary="{{ $labels.operation }} in {{ $labels.region }} failed with an error that has no name here",
            ),
        ),
        cloudwatch=NoneBecause(
            "HighErrorRate there is on failures of any name; whose name it is, is for working hours"
        ),
        twin_not_because=_NO_MODE,
    ),
    Alarm(
        name="StaleDataKeysUsed",
        title="Data keys are used beyond their time, because no region is available",
        severity="critical",
        owner="sre",
        hurts="nobody while it lasts; a revoked key would go on serving so long",
        runbook="stale-data-keys-used.md",
        proven_on_path="all regions are lost while data keys are cached",
        seen=Seen(kind=Kind.FAILOVER_PATH),
        prometheus=(
            Rule(
                expr=f"increase({series(m.STALE_DATA_KEYS_USED)}[$[300]]) > 0",
                keep_seconds=120,
                summary="Data keys of {{ $labels.key }} are used beyond their time: no region answers",
            ),
        ),
        cloudwatch=NoneBecause("TwoRegionsDown says it there: no region is available then"),
        twin_not_because="the watchdog counts its own core's; a drill's core is judged by its journal",
    ),
    Alarm(
        name="KeyQuarantined",
        title="The core leaves a key out in one region",
        severity="warning",
        owner="sre",
        hurts="callers near that region: each call with that key goes further",
        runbook="key-quarantined.md",
        proven_on_path="a replica is disabled, and the application's way goes by it",
        seen=Seen(kind=Kind.FAILOVER_PATH),
        prometheus=(
            Rule(
                expr=f"increase({series(m.KEYS_QUARANTINED)}[$[900]]) > 0",
                keep_seconds=300,
                summary="{{ $labels.key }} is left out in {{ $labels.region }}",
            ),
        ),
        cloudwatch=NoneBecause("KeyUnusable says why there"),
        twin_not_because="the watchdog counts its own core's; a drill's core is judged by its journal",
    ),
    Alarm(
        name="ConnectionFails",
        title="New connections to KMS fail, or its certificate is about to end",
        severity="warning",
        owner="sre",
        hurts="nobody while old connections live; every new process",
        runbook="connection-fails.md",
        proven_on_path="KMS's port refuses new connections",
        seen=Seen(kind=Kind.COLD_CONNECTION, looks=3),
        prometheus=(
            Rule(
                expr=failing(Kind.COLD_CONNECTION, 3),
                keep_seconds=120,
                summary="New connections to KMS in {{ $labels.region }} fail",
            ),
        ),
        cloudwatch=check_failing(Kind.COLD_CONNECTION),
        twin_not_because="a drill's connections are its own",
    ),
    Alarm(
        name="CertificateExpiry",
        title="The certificate of KMS ends soon",
        severity="warning",
        owner="sre",
        hurts="everybody from that day on, if nobody renews it",
        runbook="certificate-expiry.md",
        proven_on_path="a certificate that ends in ten days",
        seen=Seen(kind=Kind.COLD_CONNECTION),
        prometheus=(
            Rule(
                # Not scaled with time: a certificate's days are days. 0 is not seen yet.
                expr=f"{series(m.CERTIFICATE_EXPIRY)} - time() < 14 * 86400 and {series(m.CERTIFICATE_EXPIRY)} > 0",
                for_seconds=600,
                summary="The certificate of KMS in {{ $labels.region }} ends in {{ $value | humanizeDuration }}",
            ),
        ),
        cloudwatch=NoneBecause("ConnectionFails is on it there: it is a failure of cold_connection"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="ClockOff",
        title="This machine's clock is wrong",
        severity="warning",
        owner="sre",
        hurts="nobody up to five minutes; then AWS refuses every signature",
        runbook="clock-off.md",
        proven_on_path="KMS's clock and ours differ by a minute",
        seen=Seen(kind=Kind.CLOCK_OFFSET),
        prometheus=(
            Rule(
                expr=f"abs({series(m.CLOCK_OFFSET)}) > 30",
                for_seconds=120,
                keep_seconds=120,
                summary="The clock differs from that of {{ $labels.region }} by {{ $value | humanizeDuration }}",
            ),
        ),
        cloudwatch=check_failing(Kind.CLOCK_OFFSET),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="RegionEvacuated",
        title="A region has been left out by a person's order for a day",
        severity="warning",
        owner="sre",
        hurts="nobody; the estate has one region less to fall back on, and somebody may have forgotten",
        runbook="region-evacuated.md",
        proven_on_path="a region is evacuated",
        seen=Seen(seconds=30),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.REGION_EVACUATED)}[$[60]]) == 1",
                for_seconds=86_400,
                summary="{{ $labels.region }} has been evacuated for a day",
            ),
        ),
        cloudwatch=NoneBecause("a person gave that order, and its reminder need not outlive Prometheus"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="OverridesUnreadable",
        title="What people ordered about regions cannot be read",
        severity="warning",
        owner="sre",
        hurts="whoever evacuates a region now: the order reaches nobody",
        runbook="overrides-unreadable.md",
        proven_on_path="the overrides' file is torn",
        seen=Seen(seconds=30),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.ORDERS_UNREADABLE)}[$[60]]) == 1",
                summary="The orders about regions cannot be read",
            ),
        ),
        cloudwatch=NoneBecause("nobody is hurt before somebody evacuates a region, who is told at once"),
        twin_not_because=LIVE_ALONE,
    ),
)
