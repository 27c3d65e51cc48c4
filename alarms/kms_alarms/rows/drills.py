"""Drills: that they run, hold, end, and leave nothing behind; and the regular tasks, of which they are one."""

from __future__ import annotations

from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Rule, Seen, series
from kms_alarms.rows.common import LIVE_ALONE
from kms_watchdog import metrics as m

_OF_DRILLS = "it is about drills themselves"


def _of_all(metric: m.Metric) -> str:
    return f"max by (drill, job) ({series(metric)})"


_HELD, _MISSED = _of_all(m.DRILL_LAST_SUCCESS), _of_all(m.DRILL_MISSED_SLOT)
_ACTIVE = f"max by (job, instance) ({series(m.DRILL_ACTIVE)})"

DRILLS: tuple[Alarm, ...] = (
    Alarm(
        name="DrillFailed",
        title="A drill broke: the system did not do what it should under a fault",
        severity="warning",
        owner="sre",
        hurts="nobody yet: the next real fault will",
        runbook="drill-failed.md",
        proven_on_path="a drill whose failover is off",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"increase({series(m.DRILL_RUNS, result='broke')}[$[3600]]) > 0",
                summary="Drill {{ $labels.drill }} broke",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="drill",
            inputs={"broke": (m.CW_DRILL_FAILED, "Sum")},
            threshold=0,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            missing="notBreaching",
            unit="drills",
        ),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="DrillInconclusive",
        title="A drill could not tell",
        severity="warning",
        owner="sre",
        hurts="nobody; what it should prove is not proven",
        runbook="drill-inconclusive.md",
        proven_on_path="a drill that is stopped",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"increase({series(m.DRILL_RUNS, result='inconclusive')}[$[3600]]) > 0",
                summary="Drill {{ $labels.drill }} could not tell",
            ),
        ),
        cloudwatch=NoneBecause("it is for working hours, and the monthly report says it too"),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="DrillOverdue",
        title="A scheduled drill has not held in its time, or its window passed without a run",
        severity="warning",
        owner="sre",
        hurts="nobody; what was proven is getting old",
        runbook="drill-overdue.md",
        proven_on_path="a slot whose window closes without a run",
        seen=Seen(seconds=420),  # every minute; where others drill too, the evidence store is asked first, every 300 s
        prometheus=(
            Rule(
                # Of one that never held, the slot that was missed tells: there is no time to count from. It is no
                # count, which would not grow where no daemon ran meanwhile. With group_left the labels that
                # Prometheus gives its target stay, and `and` finds the same ones.
                expr=f"time() - {series(m.DRILL_LAST_SUCCESS)} > on (drill, job, instance) group_left () "
                f"({series(m.DRILL_INTERVAL)} + $(604800))\nand\n{series(m.DRILL_LAST_SUCCESS)} > 0\nor\n"
                f"({series(m.DRILL_MISSED_SLOT)} > 0\nunless\n"
                f"{series(m.DRILL_LAST_SUCCESS)} > on (drill, job, instance) group_left () "
                f"{series(m.DRILL_MISSED_SLOT)})",
                # One place runs it, and to the others' ledgers the slot is somebody else's.
                shared=f"time() - {_HELD} > {_of_all(m.DRILL_INTERVAL)} + $(604800)\nand\n{_HELD} > 0\nor\n"
                f"({_MISSED} > 0\nunless\n{_HELD} > {_MISSED})",
                for_seconds=600,
                summary="Drill {{ $labels.drill }} is overdue",
            ),
        ),
        cloudwatch=NoneBecause("it is for working hours; the status page and the daily digest say it too"),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="TaskOverdue",
        title="A regular task was not done in its time",
        severity="warning",
        owner="sre",
        hurts="nobody; what is looked at regularly is not looked at",
        runbook="task-overdue.md",
        proven_on_path="the weekly review was never delivered",
        seen=Seen(seconds=60),
        prometheus=(
            Rule(
                # Done at one of several watchdogs is done. 0 is that nobody can tell, which is overdue too.
                expr=f"time() > max by (task) ({series(m.TASK_DUE)})",
                for_seconds=3600,
                summary="The regular task {{ $labels.task }} is overdue",
            ),
        ),
        cloudwatch=NoneBecause("it is for working hours; kms-watchdog tasks list says it too"),
        twin_not_because=LIVE_ALONE,
    ),
    Alarm(
        name="DrillStuck",
        title="A drill has been running for an hour",
        severity="warning",
        owner="sre",
        hurts="nobody; its fault has an end of its own, and the next drill waits",
        runbook="drill-stuck.md",
        proven_on_path="a drill's journal that is never closed",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.DRILL_ACTIVE)}[$[60]]) == 1",
                for_seconds=3600,
                summary="Drill {{ $labels.drill }} has been running for an hour",
            ),
        ),
        cloudwatch=NoneBecause("FaultLeaked is what would hurt"),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="FaultLeaked",
        title="A fault is still on, and no drill runs",
        severity="critical",
        owner="sre",
        hurts="whoever goes through that proxy: drills alone, unless somebody else uses it too",
        runbook="fault-leaked.md",
        proven_on_path="a drill is killed, and its Toxiproxy does not answer",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"sum by (job, instance) ({series(m.FAULTS_ACTIVE)}) > 0\n"
                f"unless on (job, instance)\n{_ACTIVE} == 1",
                for_seconds=120,
                summary="{{ $value }} proxies have a fault that no drill owns",
            ),
        ),
        cloudwatch=MetricAlarm(
            scope="estate",
            inputs={"faults": (m.CW_FAULTS_ACTIVE, "Maximum"), "drill": (m.CW_DRILL_ACTIVE, "Maximum")},
            expression="IF(drill > 0, 0, faults)",
            threshold=0,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            missing="notBreaching",
            unit="proxies",
        ),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="HealFails",
        title="A fault that was left behind cannot be undone",
        severity="critical",
        owner="sre",
        hurts="whoever goes through that proxy",
        runbook="heal-fails.md",
        proven_on_path="a drill is killed, and its Toxiproxy does not answer",
        seen=Seen(seconds=30),
        prometheus=(
            Rule(
                expr=f"increase({series(m.HEAL_FAILURES)}[$[900]]) >= 2",  # > 1 is one already, extrapolated
                keep_seconds=300,
                summary="What a drill left behind cannot be undone",
            ),
        ),
        cloudwatch=NoneBecause("FaultLeaked says it there"),
        twin_not_because=_OF_DRILLS,
    ),
    Alarm(
        name="DrillsHalted",
        title="Drills have been halted for a week",
        severity="warning",
        owner="sre",
        hurts="nobody; nothing is proven while it lasts",
        runbook="drills-halted.md",
        proven_on_path="drills are halted",
        seen=Seen(seconds=5),
        prometheus=(
            Rule(
                expr=f"max_over_time({series(m.DRILLS_HALTED)}[$[60]]) == 1",
                for_seconds=604_800,
                summary="Drills have been halted for a week",
            ),
        ),
        cloudwatch=NoneBecause("a person gave that order, and DrillOverdue follows"),
        twin_not_because=_OF_DRILLS,
    ),
)
