"""The watchdog watches itself, and somebody else watches the watchdog."""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Rule, Seen, series
from kms_alarms.rows.common import failing, lately
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind

JOB = "kms-watchdog"
"""The name of Prometheus's scrape job: of a daemon that is gone there is nothing else to go by."""
_OF_ITSELF = "it is about the watchdog itself"
_INSIDE = "HeartbeatMissing there is on whatever keeps the watchdog from looking; the rest is Prometheus's business"

WATCHDOG: tuple[Alarm, ...] = (
    Alarm(
        name="WatchdogDown",
        title="The watchdog is down, or cannot be reached",
        severity="critical",
        owner="sre",
        hurts="nobody, but what breaks now is seen by nobody",
        runbook="watchdog-down.md",
        proven_on_path="the daemon is killed",
        seen=Seen(seconds=15),
        prometheus=(
            Rule(
                expr=f'up{{job="{JOB}"}} == 0 or absent(up{{job="{JOB}"}})',
                for_seconds=120,
                summary="Prometheus cannot scrape the watchdog",
            ),
            Rule(
                # One that is gone from Prometheus's targets is not down there: nobody misses it but by name.
                expr=f"absent({series(m.SCHEDULER_HEARTBEAT, place='$place')})",
                for_seconds=120,
                summary="There is no watchdog at $place",
                of_each_place=True,
            ),
        ),
        cloudwatch=NoneBecause("HeartbeatMissing says it there"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="HeartbeatMissing",
        title="No whole round of canaries has come to its end for five minutes",
        severity="critical",
        owner="sre",
        hurts="nobody, but what breaks now is seen by nobody",
        runbook="heartbeat-missing.md",
        proven_on_path="the daemon is killed",
        seen=Seen(seconds=0),
        prometheus=NoneBecause("WatchdogDown, CanaryStale and SchedulerStalled say it there, each with its cause"),
        cloudwatch=MetricAlarm(
            scope="monitor",
            inputs={"beats": (m.CW_HEARTBEAT, "Sum")},
            comparison="LessThanThreshold",
            threshold=1,
            evaluation_periods=5,
            datapoints_to_alarm=5,
            missing="breaching",  # the only one: else a dead daemon trips every alarm at once and hides the cause
            unit="rounds",
        ),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="SchedulerStalled",
        title="The watchdog's scheduler stands still",
        severity="critical",
        owner="sre",
        hurts="nobody, but what breaks now is seen by nobody",
        runbook="scheduler-stalled.md",
        proven_on_path="the scheduler's thread is held",
        seen=Seen(seconds=0),
        prometheus=(
            Rule(
                expr=f"time() - {series(m.SCHEDULER_HEARTBEAT)} > $(60)",
                for_seconds=60,
                summary="The scheduler last beat {{ $value | humanizeDuration }} ago",
            ),
        ),
        cloudwatch=NoneBecause(_INSIDE),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="SchedulerFails",
        title="The scheduler's cycles end in errors, or its thread died",
        severity="warning",
        owner="developers",
        hurts="nobody, while it starts anew",
        runbook="scheduler-fails.md",
        proven_on_path="the scheduler's cycles raise",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.SCHEDULER_FAILED_CYCLES)}[$[60]]) >= 3\n"
                f"or\nincrease({series(m.SCHEDULER_RESTARTS)}[$[3600]]) > 0",
                keep_seconds=300,
                summary="The scheduler fails again and again, or had to be started anew",
            ),
        ),
        cloudwatch=NoneBecause(_INSIDE),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="JobsFail",
        title="Jobs of the watchdog are missed, overlap or end in errors",
        severity="warning",
        owner="sre",
        hurts="nobody; looks are rarer than they should be",
        runbook="jobs-fail.md",
        proven_on_path="looks take longer than their interval",
        seen=Seen(seconds=120),  # four jobs of half a minute
        prometheus=(
            Rule(
                expr=f"sum by (job, instance, exported_job) "
                f"(increase({series(m.SCHEDULER_JOBS, result='~missed|skipped_overlap|error')}[$[900]])) >= 4",
                for_seconds=300,
                summary="{{ $labels.exported_job }}: {{ $value | humanize }} jobs were missed or failed in 15 minutes",
            ),
        ),
        cloudwatch=NoneBecause(_INSIDE),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="PublishFailing",
        title="Metrics do not reach CloudWatch",
        severity="warning",
        owner="sre",
        hurts="nobody; the alarms there see nothing, and HeartbeatMissing will fire",
        runbook="publish-failing.md",
        proven_on_path="CloudWatch does not answer",
        seen=Seen(seconds=0),
        prometheus=(
            Rule(
                expr=f"time() - {series(m.CLOUDWATCH_LAST_SUCCESS)} > $(300)",
                for_seconds=120,  # after a start the first period must be over
                keep_seconds=120,
                summary="CloudWatch in {{ $labels.region }} last took metrics {{ $value | humanizeDuration }} ago",
            ),
        ),
        cloudwatch=NoneBecause("what does not arrive cannot tell; HeartbeatMissing takes the silence for what it is"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="DatumsDropped",
        title="Metrics for CloudWatch were given up",
        severity="warning",
        owner="sre",
        hurts="nobody; there is a hole in the record",
        runbook="datums-dropped.md",
        proven_on_path="CloudWatch refuses a datum",
        seen=Seen(seconds=60),
        prometheus=(
            Rule(
                expr=f"sum by (region, reason) (increase({series(m.CLOUDWATCH_DROPPED)}[$[900]])) > 0",
                keep_seconds=300,
                summary="{{ $value | humanize }} datums for {{ $labels.region }} were given up: {{ $labels.reason }}",
            ),
        ),
        cloudwatch=NoneBecause(_INSIDE),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="AlarmPathBroken",
        title="An alarm, its topic or its subscriber is missing or not as rendered",
        severity="warning",
        owner="sre",
        hurts="whoever should be woken, and would not be",
        runbook="alarm-path-broken.md",
        proven_on_path="an alarm is deleted",
        seen=Seen(kind=Kind.ALARM_PATH, looks=2),
        prometheus=(
            Rule(
                expr=failing(Kind.ALARM_PATH, 2),
                for_seconds=60,
                keep_seconds=120,
                summary="CloudWatch's alarms in {{ $labels.region }} would not wake anybody",
            ),
        ),
        cloudwatch=NoneBecause("an alarm cannot be trusted to tell that alarms are broken"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="AlarmUnproven",
        title="An alarm was not seen to fire for more than a month, or never",
        severity="warning",
        owner="sre",
        hurts="nobody; an alarm nobody has seen fire is a rumour",
        runbook="alarm-unproven.md",
        proven_on_path="an alarm's last firing is forty days old",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                # The alert has a label `alarm` of its own, in whose place all of them would be one. Never is 0, and
                # the age that makes is longer than any.
                expr=f"label_replace(time() - {series(m.ALARM_LAST_FIRED)}, "
                '"unproven", "$1", "alarm", "(.+)") > $(3024000)',
                shared=f"label_replace(time() - max by (alarm, system, job) ({series(m.ALARM_LAST_FIRED)}), "
                '"unproven", "$1", "alarm", "(.+)") > $(3024000)',  # seen at one place is seen
                for_seconds=3600,
                summary="{{ $labels.unproven }} in {{ $labels.system }} "
                "{{ if gt $value 1e9 }}has never been seen to fire{{ else }}last fired "
                "{{ $value | humanizeDuration }} ago{{ end }}",
            ),
        ),
        cloudwatch=NoneBecause("it is for working hours; kms-chaos score says it too"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="ReloadFailed",
        title="The last configuration given was not taken",
        severity="warning",
        owner="sre",
        hurts="nobody; the watchdog goes on with the one before",
        runbook="reload-failed.md",
        proven_on_path="SIGHUP with a broken configuration",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"{lately(series(m.CONFIG_RELOAD_OK))} == 0",
                for_seconds=60,
                summary="The watchdog goes on with its old configuration",
            ),
        ),
        cloudwatch=NoneBecause("it is for working hours, and whoever gave the configuration is told"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="ClockStepped",
        title="The machine's clock jumped",
        severity="warning",
        owner="sre",
        hurts="nobody; times in the record are off by as much",
        runbook="clock-stepped.md",
        proven_on_path="the clock is set on by an hour",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"increase({series(m.SCHEDULER_CLOCK_STEPS)}[$[900]]) > 0",
                keep_seconds=300,
                summary="The clock of the watchdog's machine jumped",
            ),
        ),
        cloudwatch=NoneBecause("CloudWatch has a clock of its own, and ClockOff is there"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="StateWriteFailing",
        title="The watchdog cannot write its state",
        severity="warning",
        owner="sre",
        hurts="nobody; history and metrics for CloudWatch are lost at a restart",
        runbook="state-write-failing.md",
        proven_on_path="the disk is full",
        seen=Seen(seconds=30),
        prometheus=(
            Rule(
                expr=f"sum by (file) (increase({series(m.STATE_WRITE_FAILURES)}[$[900]])) > 0",
                keep_seconds=300,
                summary="{{ $labels.file }} cannot be written",
            ),
        ),
        cloudwatch=NoneBecause(_INSIDE),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="DeadmanFailing",
        title="The dead man's switch is not reached",
        severity="warning",
        owner="sre",
        hurts="nobody; the switch will call soon, or is dead itself",
        runbook="deadman-failing.md",
        proven_on_path="the dead man's switch refuses",
        seen=Seen(seconds=120),  # until the last that was taken is so old
        prometheus=(
            Rule(
                expr=f"increase({series(m.DEADMAN_PINGS, result='!success')}[$[600]]) >= 3\n"
                f"unless on (job, instance)\nincrease({series(m.DEADMAN_PINGS, result='success')}[$[120]]) > 0",
                for_seconds=60,
                summary="The dead man's switch: {{ $labels.result }}",
            ),
        ),
        cloudwatch=NoneBecause("the switch stands outside both systems, and calls by itself"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="ExportFailing",
        title="Metrics do not reach the OpenTelemetry collector",
        severity="warning",
        owner="sre",
        hurts="nobody; whoever draws from there sees nothing",
        runbook="export-failing.md",
        proven_on_path="the collector does not answer",
        seen=Seen(seconds=190),  # three exports, the last with its whole timeout
        prometheus=(
            Rule(
                expr=f"increase({series(m.OTEL_EXPORTS, result='failure')}[$[900]]) >= 3",
                for_seconds=60,
                summary="Exports by OTLP fail",
            ),
        ),
        cloudwatch=NoneBecause("whoever has a collector watches it"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="WatchdogHeartbeat",
        title="Canaries are well, and this reaches you: silence is the alarm",
        severity="none",
        owner="sre",
        hurts="nobody: it fires always; an external dead man's switch calls when it does not",
        runbook="watchdog-heartbeat.md",
        proven_on_path="it arrives while canaries are well, and stops when they are not",
        seen=Seen(seconds=0),
        prometheus=(
            Rule(
                expr=f"count(time() - {series(m.CANARY_LAST_SUCCESS, canary=Kind.ROUND_TRIP)} < $(180)) > 0",
                summary="{{ $value }} canaries were well within three minutes",
            ),
        ),
        cloudwatch=NoneBecause("HeartbeatMissing is the same the other way round"),
        twin_not_because=_OF_ITSELF,
    ),
    Alarm(
        name="Watchdog",
        title="Prometheus and Alertmanager reach you: silence is the alarm",
        severity="none",
        owner="sre",
        hurts="nobody: it fires always; an external dead man's switch calls when it does not",
        runbook="watchdog-heartbeat.md#watchdog",
        proven_on_path="it arrives while Prometheus and Alertmanager run",
        seen=Seen(seconds=0),
        prometheus=(Rule(expr="vector(1)", summary="The way from Prometheus to you works"),),
        cloudwatch=NoneBecause("CloudWatch's own way is proven by kms-alarms prove"),
        twin_not_because=_OF_ITSELF,
    ),
)
