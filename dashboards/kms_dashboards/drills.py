"""The second dashboard: do drills run and hold, what did they show, and which alarms have they seen fire."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from kms_alarms.parts import series
from kms_dashboards import frame, parts
from kms_dashboards.parts import Column, Part, Texts
from kms_dashboards.queries import ROUND_TRIP, breaker, growth, or_zero, worst_look
from kms_watchdog import metrics
from kms_watchdog.metrics import Metric
from kms_watchdog.results import Kind, Mode
from kms_watchdog.sinks.series import DRILL_RESULTS

_DRILL = str(Mode.DRILL)
_UNPROVEN_SECONDS = 3_024_000
"""35 days, as the alarm AlarmUnproven has it."""
_GRACE_SECONDS = 604_800  # as DrillOverdue has it
_RUNS: Texts = {"0": ("no drill", "#4b5059"), "1": ("runs", frame.PURPLE)}
_VERDICT: Texts = {"1": ("HELD", "green"), "0": ("NOT HELD", "red")}
_NEVER: Texts = {"0": ("never", "red")}
_OVERDUE: Texts = {"1": ("OVERDUE", "red"), "0": ("in time", "green")}


def build() -> model.Dashboard:
    """Return the dashboard."""
    return frame.board(
        "Drills",
        description="Drills by their own metrics, and their canaries, breakers and alarms (mode=drill).",
        since="now-3h",
        alerts=Mode.DRILL,
        rows={
            "Now": _now(),
            "Last runs": (_last_runs(),),
            "Cause and effect": _cause_and_effect(),
            "Figures": _figures(),
            "Alarm coverage": (_coverage(),),
        },
    )


def _of(metric: Metric, **labels: str) -> str:
    """Return a drill's metric; two watchdogs of one estate know the same drills."""
    return f"max by (drill) ({series(metric, **labels)})"


def _ended(expression: str) -> str:
    """Return `expression` for drills that have ended once; the others have nothing to tell."""
    return f"{expression} and {_of(metrics.DRILL_LAST_RUN)} > 0"


def _now() -> tuple[Part, ...]:
    halted = f"max({series(metrics.DRILLS_HALTED)})"
    fired = f"max by (alarm, system) ({series(metrics.ALARM_LAST_FIRED)})"
    overdue = f"time() - {_of(metrics.DRILL_LAST_SUCCESS)} > {_of(metrics.DRILL_INTERVAL)} + {_GRACE_SECONDS}"
    missed = f"count({_of(metrics.DRILL_MISSED_SLOT)} > 0)"
    return (
        parts.number(
            "Drills",
            "Whether a drill runs now.",
            or_zero(f"max({series(metrics.DRILL_ACTIVE)})", metrics.DRILLS_HALTED),
            steps=((None, "green"), (1, frame.PURPLE)),
            texts=_RUNS,
            span=4,
            runbook="drill-stuck.md",
        ),
        parts.number(
            "Halted",
            "Whether a person's order keeps every drill from running.",
            halted,
            steps=((None, "green"), (1, "orange")),
            texts={"0": ("no", "green"), "1": ("HALTED", "orange")},
            span=4,
            runbook="drills-halted.md",
        ),
        parts.number(
            "Faults not undone",
            "Proxies with a fault that nobody has undone yet; purple while a drill runs, whose they are.",
            or_zero(f"sum({series(metrics.FAULTS_ACTIVE)})", metrics.DRILLS_HALTED),
            steps=((None, "green"), (1, frame.PURPLE)),
            texts={"0": ("none", "green")},
            span=4,
            runbook="fault-leaked.md",
        ),
        parts.number(
            "Overdue",
            "Scheduled drills that have not held for an interval and a week; one that never held, from its first run "
            "on.",
            or_zero(f"count({overdue})", metrics.DRILLS_HALTED),
            texts={"0": ("none", "green")},
            span=4,
            runbook="drill-overdue.md",
        ),
        parts.number(
            "Slots missed",
            "Scheduled drills the window of whose last slot closed without a run.",
            or_zero(missed, metrics.DRILLS_HALTED),
            texts={"0": ("none", "green")},
            span=4,
            runbook="drill-overdue.md",
        ),
        parts.tally(
            "Alarms proven",
            "Alarms that a drill or a proof has seen fire within 35 days, of all that have to be. Red where one was "
            "not.",
            well=f"(count(time() - {fired} < {_UNPROVEN_SECONDS}) or 0 * count({fired}))",
            every=f"count({fired})",
            span=4,
            runbook="alarm-unproven.md",
        ),
    )


def _last_runs() -> Part:
    last, held = _of(metrics.DRILL_LAST_RUN), _of(metrics.DRILL_LAST_SUCCESS)
    totals = (
        Column(
            name=result.capitalize(),
            expression=_ended(f"sum by (drill) ({series(metrics.DRILL_RUNS, result=result)})"),
        )
        for result in DRILL_RESULTS
    )
    return parts.listing(
        "Last run of each drill",
        "The verdict of the last run, its age beside how often it shall run, detection (fault to open breaker) and "
        "recovery (fault removed to steady state), and how all its runs ended. NOT HELD: it broke or could not tell; "
        "the report says which.",
        (
            Column(name="Verdict", expression=_ended(f"({held} >= bool {last})"), texts=_VERDICT),
            Column(name="Age", expression=f"time() - ({last} > 0)", unit="s"),
            Column(name="Shall run every", expression=_of(metrics.DRILL_INTERVAL), unit="s"),
            Column(
                name="In time",
                expression=f"(time() - {held} > bool {_of(metrics.DRILL_INTERVAL)} + {_GRACE_SECONDS})",
                texts=_OVERDUE,
            ),
            Column(name="Detection", expression=f"{_of(metrics.DRILL_DETECTION)} > 0", unit="s"),
            Column(name="Recovery", expression=f"{_of(metrics.DRILL_RECOVERY)} > 0", unit="s"),
            *totals,
        ),
        labels={"drill": "Drill"},
        no_rows="no drill has ended yet, and none is scheduled",
        height=7,
        runbook="drill-failed.md",
    )


def _cause_and_effect() -> tuple[Part, ...]:
    kinds = f"~{ROUND_TRIP}|{Kind.FAILOVER_PATH}"
    looks = worst_look(canary=kinds, mode=_DRILL)
    active = f"max by (drill) (max_over_time({series(metrics.DRILL_ACTIVE)}[$__rate_interval]))"
    return (
        parts.states(
            "Drill",
            "The cause: when a drill ran.",
            [(active, "{{drill}}"), (or_zero(f"max({active})", metrics.DRILLS_HALTED), "any drill")],
            _RUNS,
            span=24,
            height=5,
        ),
        parts.states(
            "The drill's breakers",
            "Closed, half-open or open, by region.",
            [(breaker(_DRILL), "{{region}}")],
            parts.BREAKER_STATES,
            span=24,
            height=6,
            runbook="circuit-breaker-open.md",
        ),
        parts.beats(
            "The drill's canaries",
            "Round trips pinned to one region each, by the drill's own clients: red where the fault bites. A drill "
            "with a watchdog of its own also has its failover_path: the way of an application, which must stay green.",
            f"min by (canary, region, key) {looks}",
            "{{canary}} {{region}} {{key}}",
            span=24,
            height=9,
            runbook="region-unhealthy.md",
        ),
        parts.lines(
            "The drill's failovers",
            "The effect: calls of the drill's own core that went on in another region.",
            [
                (
                    growth(series(metrics.FAILOVERS, mode=_DRILL), "from_region, to_region"),
                    "{{from_region}} to {{to_region}}",
                )
            ],
            unit="short",
            span=24,
            height=6,
        ),
    )


def _figures() -> tuple[Part, ...]:
    return (
        parts.lines(
            "Detection and recovery",
            "Fault to open breaker, and the fault's removal to steady state, in the last drill that was judged.",
            [
                (f"{_of(metrics.DRILL_DETECTION)} > 0", "{{drill}} detection"),
                (f"{_of(metrics.DRILL_RECOVERY)} > 0", "{{drill}} recovery"),
            ],
            unit="s",
            no_lines="no drill was judged yet",
            span=8,
        ),
        parts.lines(
            "Faults not undone",
            "Proxies with a fault that nobody has undone yet, and what the healer did in a dead owner's place.",
            [
                (or_zero(f"sum({series(metrics.FAULTS_ACTIVE)})", metrics.DRILLS_HALTED), "faults"),
                (or_zero(f"sum({series(metrics.FAULTS_HEALED)})", metrics.DRILLS_HALTED), "runs healed"),
                (f"max({series(metrics.HEAL_FAILURES)})", "attempts to heal that failed"),
            ],
            unit="short",
            span=8,
        ),
        parts.lines(
            "Slots missed",
            "Scheduled drills whose window closed without a run, since the watchdog's start.",
            [(f"sum by (drill) ({series(metrics.DRILL_SLOTS_MISSED)})", "{{drill}}")],
            unit="short",
            span=8,
        ),
    )


def _coverage() -> Part:
    fired, cleared = (
        f"max by (alarm, system) ({series(metric)})"
        for metric in (metrics.ALARM_LAST_FIRED, metrics.ALARM_LAST_CLEARED)
    )
    return parts.listing(
        "Alarms, and when each was last seen to move",
        "An alarm that nobody has seen fire is a rumour: when a drill or a proof last saw each fire and clear, by the "
        "system that told it, the oldest first.",
        (
            Column(name="Last fired", expression=f"{fired} * 1000", unit="dateTimeAsIso", texts=_NEVER),
            Column(name="Last cleared", expression=f"{cleared} * 1000", unit="dateTimeAsIso", texts=_NEVER),
            Column(
                name="Age",
                expression=f"time() - {fired}",
                unit="s",
                steps=((None, "green"), (_UNPROVEN_SECONDS, "red")),
                texts=parts.NEVER,
            ),
        ),
        labels={"alarm": "Alarm", "system": "System"},
        no_rows="no alarm has to be seen to fire",
        sort="Age",
        height=12,
        runbook="alarm-unproven.md",
    )
