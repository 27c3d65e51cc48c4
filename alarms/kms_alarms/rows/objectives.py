"""The objectives: round trips work, are fast, and are looked at; who is told when they are not."""

from __future__ import annotations

from kms_alarms.burn_rate import burn_rate_rules
from kms_alarms.parts import Alarm, Composite, MetricAlarm, NoneBecause, Rule, Seen, series
from kms_alarms.rows.common import LIVE_ALONE, SAME_DAEMON, check_failing, configured_for, failing, lately
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind

_OF_ONE_DAEMON = "sum by (canary, region, job, instance)"

OBJECTIVES: tuple[Alarm, ...] = (
    Alarm(
        name="HighErrorRate",
        title="Round trips through KMS fail in this region",
        severity="critical",
        owner="sre",
        hurts="whoever is served from this region alone; the application fails over, and is slower",
        runbook="high-error-rate.md",
        proven_by=("region-blackhole",),
        seen=Seen(kind=Kind.ROUND_TRIP),
        prometheus=burn_rate_rules(),
        cloudwatch=MetricAlarm(
            scope="region",
            inputs={"runs": (m.CW_CANARY_RUNS, "Sum"), "failures": (m.CW_CANARY_FAILURES, "Sum")},
            # Zeros are published, so no FILL; absence is not this alarm's business, hence notBreaching.
            expression="IF(runs > 0, 100 * failures / runs, 0)",
            threshold=5.0,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            missing="notBreaching",
            unit="percent",
        ),
    ),
    Alarm(
        name="RegionUnhealthy",
        title="A region cannot be used",
        severity="critical",
        owner="sre",
        hurts="nobody yet, if the others are well: the core serves from them; the next loss is felt",
        runbook="region-unhealthy.md",
        proven_by=("region-blackhole",),
        seen=Seen(kind=Kind.ROUND_TRIP, looks=3),
        prometheus=(
            Rule(
                expr=f"{lately(series(m.REGION_HEALTHY))} == 0",
                for_seconds=45,  # after a start no region has been seen well yet
                keep_seconds=300,
                summary="{{ $labels.region }} cannot be used",
            ),
        ),
        cloudwatch=NoneBecause(
            "HighErrorRate of the region says it there: a region that fails three looks fails 100 %"
        ),
    ),
    Alarm(
        name="TwoRegionsDown",
        title="Two regions or more fail at once",
        severity="critical",
        owner="sre",
        hurts="everybody, as soon as the last region fails too",
        runbook="two-regions-down.md",
        proven_by=("two-regions-lost",),
        seen=Seen(kind=Kind.ROUND_TRIP, looks=2),
        prometheus=(
            Rule(
                # Failures alone count: at a start no region has been seen well yet.
                expr=f"count by (job, instance) (max by (region, job, instance) ({failing(Kind.ROUND_TRIP, 2)})) >= 2",
                # Of two regions that fail, none of several places need see both.
                shared=f"count by (job) (max by (region, job) ({failing(Kind.ROUND_TRIP, 2)})) >= 2",
                for_seconds=15,
                keep_seconds=300,
                summary="{{ $value }} regions fail at once",
            ),
        ),
        cloudwatch=Composite(of="HighErrorRate", at_least=2),
    ),
    Alarm(
        name="KeyUsableNowhere",
        title="A key can be used in no region, or nothing has been looked at lately",
        severity="critical",
        owner="sre",
        hurts="every customer whose data are under that key",
        runbook="key-usable-nowhere.md",
        proven_on_path="all regions of a key fail",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=3),
        prometheus=(
            Rule(
                # The newest value, not the highest: each start is unhealthy for a moment, and a scrape may see it.
                expr=f"{lately(series(m.HEALTH_STATUS, status='unhealthy'))} == 1",
                # Of several places each sees a part, and none can say "nowhere" but all of them together.
                shared=f"{lately(series(m.HEALTH_STATUS, status='unhealthy'))} == 1\nor\n"
                f"max by (key, job) (max_over_time({series(m.CANARY_UP, canary=Kind.ROUND_TRIP)}[$[60]])) == 0",
                for_seconds=45,
                keep_seconds=300,
            ),
        ),
        cloudwatch=NoneBecause("TwoRegionsDown and KeyUnusable come first there"),
        twin_not_because="a drill's health is not assessed as a whole: its canaries stop with it",
    ),
    Alarm(
        name="HighLatency",
        title="Round trips through KMS are slow in this region",
        severity="warning",
        owner="sre",
        hurts="callers wait; the core leaves a region that answers slowly",
        runbook="high-latency.md",
        proven_on_path="a region answers after two seconds",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=2),
        prometheus=(
            Rule(
                # Of the 90 looks of three keys a single one above 1 s is the 99th percentile: it takes three.
                expr="histogram_quantile(0.99, sum by (region, le) "
                f"(rate({series(m.CANARY_DURATION, '_bucket', canary=Kind.ROUND_TRIP)}[$[900]]))) > 1\n"
                "and on (region)\n"
                f"sum by (region) (increase({series(m.CANARY_DURATION, '_count', canary=Kind.ROUND_TRIP)}[$[900]])) "
                f"- sum by (region) "
                f"(increase({series(m.CANARY_DURATION, '_bucket', canary=Kind.ROUND_TRIP, le='1.0')}[$[900]])) >= 3",
                for_seconds=600,
                summary="p99 of round trips in {{ $labels.region }} is {{ $value | humanizeDuration }}",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="region",
            # A p99 is evaluated from 1,000 samples on; of the 30 of a period it is the slowest one alone.
            inputs={"p90": (m.CW_CANARY_DURATION, "p90")},
            threshold=1000.0,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            period_seconds=300,
            missing="notBreaching",
            unit="milliseconds",
        ),
    ),
    Alarm(
        name="CanaryStale",
        title="A canary has stopped looking",
        severity="critical",
        owner="sre",
        hurts="nobody, but what breaks there now is seen by nobody",
        runbook="canary-stale.md",
        proven_on_path="a canary that hangs is not looked at any more",
        seen=Seen(seconds=0),
        prometheus=(
            Rule(
                expr=f"time() - {series(m.CANARY_LAST_RUN)} > {SAME_DAEMON} (3 * {series(m.CANARY_INTERVAL)})\n"
                f"{configured_for(3)}",
                for_seconds=60,
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }} last looked "
                "{{ $value | humanizeDuration }} ago",
            ),
        ),
        cloudwatch=NoneBecause("HeartbeatMissing says it there: a round that is never whole beats no heart"),
        twin_not_because="a drill's canaries stop with the drill, and are stale from then on",
    ),
    Alarm(
        name="NoRecentSuccess",
        title="A canary has not been well for five of its looks, or never",
        severity="critical",
        owner="sre",
        hurts="whoever needs what that canary looks at; or it is blind, and nobody knows",
        runbook="no-recent-success.md",
        proven_on_path="a key's round trips fail in one region",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=5),
        prometheus=(
            Rule(
                expr=f"time() - {series(m.CANARY_LAST_SUCCESS, canary=f'~{Kind.ROUND_TRIP}|{Kind.CROSS_REGION}')} "
                f"> {SAME_DAEMON} (5 * {series(m.CANARY_INTERVAL)})\n{configured_for(5)}",
                for_seconds=120,
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }} was last well "
                "{{ $value | humanizeDuration }} ago",
            ),
        ),
        cloudwatch=NoneBecause("HighErrorRate and CanaryBlind say it there"),
        twin_not_because="a drill's canaries stop with the drill, and are stale from then on",
    ),
    Alarm(
        name="CanaryBlind",
        title="Canaries cannot ask: they say neither yes nor no",
        severity="warning",
        owner="sre",
        hurts="nobody yet, but what breaks now is not seen",
        runbook="canary-blind.md",
        proven_on_path="the watchdog has no credentials",
        seen=Seen(kind=Kind.ROUND_TRIP, looks=6),  # more than half of those of five minutes
        prometheus=(
            Rule(
                # By daemon: of two that look at the same, one without credentials would be just half.
                expr=f"{_OF_ONE_DAEMON} (increase({series(m.CANARY_RUNS, result='blind')}[$[300]])) "
                f"/ {_OF_ONE_DAEMON} (increase({series(m.CANARY_RUNS)}[$[300]])) > 0.5",
                for_seconds=120,
                summary="{{ $labels.canary }} of {{ $labels.region }} could not ask in "
                "{{ $value | humanizePercentage }} of its looks",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="region",
            inputs={"blind": (m.CW_CANARY_BLIND, "Sum")},
            threshold=0,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            missing="notBreaching",
            unit="looks",
        ),
    ),
    Alarm(
        name="RedBelowPaging",
        title="Something has been red for an hour without getting anybody up",
        severity="warning",
        owner="sre",
        hurts="nobody at once: that is why it is easily forgotten",
        runbook="red-below-paging.md",
        proven_on_path="a canary that pages nobody fails",
        seen=Seen(seconds=300),  # until no look of the last five minutes was well
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.CANARY_UP)}[$[300]]) == 0",
                for_seconds=3600,
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }} has been red for an hour",
            ),
        ),
        cloudwatch=NoneBecause("CheckFails and the alarms of single kinds say it there"),
        twin_not_because="a drill is over long before an hour is",
    ),
    Alarm(
        name="CheckFails",
        title="A check of the watchdog fails again and again",
        severity="warning",
        owner="sre",
        hurts="it depends on the check: the status page names what it found",
        runbook="check-fails.md",
        proven_on_path="an alias is repointed",
        seen=Seen(kind=Kind.KEY_STATE),
        prometheus=NoneBecause("each check has alerts of its own there"),
        cloudwatch=check_failing(Kind.KEY_STATE),
        twin_not_because=LIVE_ALONE,
    ),
)
