"""What must never happen: data that come back wrong, and refusals that are none."""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Rule, Seen
from kms_alarms.rows.common import any_of, check_failing, failing
from kms_watchdog import metrics as m
from kms_watchdog.results import Kind, Reason

INTEGRITY: tuple[Alarm, ...] = (
    Alarm(
        name="PlaintextMismatch",
        title="What came back is not what was sealed",
        severity="critical",
        owner="security",
        hurts="anybody whose data were sealed since: they may be lost",
        runbook="plaintext-mismatch.md",
        proven_on_path="KMS hands back another key",
        seen=Seen(kind=Kind.ROUND_TRIP),
        prometheus=(
            Rule(
                expr=any_of("~.+", Reason.MISMATCH),
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }} opened to other bytes",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="region",
            inputs={"wrong": (m.CW_INTEGRITY_FAILURES, "Sum")},
            threshold=0,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            missing="notBreaching",
            unit="looks",
        ),
    ),
    Alarm(
        name="MustFailAccepted",
        title="What had to be refused was accepted",
        severity="critical",
        owner="security",
        hurts="everybody: the encryption context protects nothing, or a policy lets the wrong ones in",
        runbook="must-fail-accepted.md",
        proven_on_path="a KMS that does not look at the encryption context",
        seen=Seen(kind=Kind.MUST_FAIL_KMS),
        prometheus=(
            Rule(
                expr=any_of(f"~{Kind.MUST_FAIL_CORE}|{Kind.MUST_FAIL_KMS}", Reason.ACCEPTED_MUST_REFUSE),
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }}: a wrong context was accepted",
            ),
        ),
        cloudwatch=NoneBecause("PlaintextMismatch counts both there: one number for whatever must never happen"),
    ),
    Alarm(
        name="RefusalProvesNothing",
        title="What must be refused is refused for another reason, or by the wrong one",
        severity="warning",
        owner="security",
        hurts="nobody, but nothing is proven of the encryption context while it lasts",
        runbook="refusal-proves-nothing.md",
        proven_on_path="KMS refuses a wrong context with another error than it should",
        seen=Seen(kind=Kind.MUST_FAIL_KMS, looks=3),
        prometheus=(
            Rule(
                expr=f"max by (canary, region, key) ({failing(f'~{Kind.MUST_FAIL_CORE}|{Kind.MUST_FAIL_KMS}', 3)})",
                summary="{{ $labels.canary }} of {{ $labels.region }} {{ $labels.key }} proves nothing",
            ),
        ),
        cloudwatch=check_failing(Kind.MUST_FAIL_CORE, Kind.MUST_FAIL_KMS),
    ),
)
