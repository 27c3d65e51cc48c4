"""What a row of the table is made of: one alarm, and how each of the two systems looks for it. Frozen values.

Times in rules are written for an unscaled installation, in seconds: `$[300]` in an expression is a duration, as in
`rate(x[$[300]])`, and `$(60)` a number of seconds to compare with. Rendering may shorten all of them alike, so that
tests see in seconds what takes minutes. `$mode` is `live`, or `drill` in a twin, `$place` one of `[replicas] members`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kms_watchdog.metrics import PLACE, CloudWatchMetric, Metric
from kms_watchdog.results import Kind, Mode, Reason

Severity = Literal["critical", "warning", "none"]
"""Critical wakes somebody, warning waits for working hours, none is for machines that listen for silence."""
Scope = Literal["region", "region_key", "key", "kind", "drill", "monitor", "estate"]
"""What a CloudWatch alarm is rendered for once each; `estate` is once in all."""
Comparison = Literal["GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Missing = Literal["missing", "notBreaching", "breaching", "ignore"]

DIMENSIONS: Mapping[Scope, tuple[str, ...]] = {
    "region": ("Region",),
    "region_key": ("Region", "Key"),
    "key": ("Key",),
    "kind": ("Canary",),
    "drill": ("Drill",),
    "monitor": ("Monitor",),
    "estate": (),
}
"""The exact dimensions of every metric that an alarm of that scope may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How long it takes from the trouble until the watchdog's metrics show it, at the most."""

    kind: Kind | None = None
    """The canary that must look; None: nobody looks, it is noted at once."""
    looks: int = 1
    """How often in a row it must have looked and failed."""
    seconds: float = 0.0
    """What is to be added to that, or stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alerting rule of Prometheus."""

    expr: str
    for_seconds: int = 0
    keep_seconds: int = 0
    """How long it goes on firing after the expression is over, so that a state that flutters is one alert."""
    severity: Severity | None = None
    """None: the row's own."""
    labels: Mapping[str, str] | None = None
    """More labels; which series it speaks of comes with the expression."""
    summary: str = ""
    """One line for a pager, with Prometheus's templates; empty: the row's title."""
    shared: str = ""
    """The expression instead of `expr` where several watchdogs share the canaries: over all places. Empty: the same."""
    of_each_place: bool = False
    """Whether it is rendered once for each place that shares the canaries, as `$place`; nowhere if there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAlarm:
    """One CloudWatch alarm, rendered for each member of its scope."""

    scope: Scope
    inputs: Mapping[str, tuple[CloudWatchMetric, str]]
    """Id in the expression: (metric, statistic)."""
    expression: str = ""
    """Metric math over the ids; empty: the one input itself."""
    comparison: Comparison = "GreaterThanThreshold"
    threshold: float
    evaluation_periods: int
    datapoints_to_alarm: int
    period_seconds: int = 60
    """Of an installation that publishes each minute; with high resolution a sixth of it."""
    least_looks: int = 0
    """How often each canary of `kinds` must look within a period: it is longer where a kind looks rarely."""
    missing: Missing
    kinds: tuple[Kind, ...] = ()
    """The members of scope `kind`."""
    unit: str = ""
    """What the compared value is, for people."""

    def __post_init__(self) -> None:
        if not 1 <= self.datapoints_to_alarm <= self.evaluation_periods:
            raise ValueError("datapoints_to_alarm must be 1 to evaluation_periods")
        wanted = DIMENSIONS[self.scope]
        if wrong := [m.name for m, _ in self.inputs.values() if m.dimensions != wanted]:
            raise ValueError(f"{wrong[0]} does not have exactly the dimensions {', '.join(wanted) or 'none'}")
        if not self.expression and len(self.inputs) != 1:
            raise ValueError("more than one metric needs an expression")
        if bool(self.kinds) is not (self.scope == "kind"):
            raise ValueError("kinds are the members of scope kind, and of no other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """A CloudWatch alarm over the alarms of another row, one of each region of the estate."""

    of: str
    """The row's name; its scope is `region`."""
    at_least: int
    """How many of them must be in ALARM."""


@dataclass(frozen=True, slots=True)
class NoneBecause:
    """There is no alarm in that system, and why that is right."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One row: something of which a person has to know."""

    name: str
    title: str
    """What is wrong, in one line without an end."""
    severity: Severity
    owner: str
    hurts: str
    """Who is hurt, and how badly."""
    runbook: str
    """File in `alarms/runbooks/`, and `#` and a heading's anchor if it is not the first."""
    proven_by: tuple[str, ...] = ()
    """Drills that must see the twin fire and clear."""
    proven_on_path: str = ""
    """Or what a test of the alarm's path does on the local stack to make it fire and clear."""
    seen: Seen
    prometheus: tuple[Rule, ...] | NoneBecause
    cloudwatch: MetricAlarm | Composite | NoneBecause
    twin_not_because: str = ""
    """Why no drill makes the series that it reads, so that there is no twin; empty: there is one."""

    def __post_init__(self) -> None:
        if not self.proven_by and not self.proven_on_path:
            raise ValueError(
                f"{self.name}: an alarm nobody has seen fire is a rumour: name a drill, or the path's test"
            )
        if self.proven_by and self.twin_not_because:
            raise ValueError(f"{self.name}: a drill proves the twin, and there is none")

    @property
    def modes(self) -> tuple[Mode, ...]:
        """As what it is rendered: live, and as a drill's twin where there is one."""
        return (Mode.LIVE,) if self.twin_not_because else (Mode.LIVE, Mode.DRILL)


def series(metric: Metric, /, suffix: str = "", **labels: str) -> str:
    """Return a selector of `metric`; a value that begins with `~` or `!` is matched as `=~`, `!=` or `!~`.

    `suffix` is a histogram's: `_bucket`, `_count`, `_sum`. A metric with `mode` is asked for the rule's, unless another
    is named, so that a drill's numbers never mix in.

    Raises:
        ValueError: the metric has no such label.
    """
    known = (*metric.labels, *(("le",) if suffix == "_bucket" else ()), PLACE)
    if unknown := sorted(labels.keys() - set(known)):
        raise ValueError(f"{metric.name} has no label {unknown[0]}")
    if "mode" in metric.labels and "mode" not in labels:
        labels = {**labels, "mode": "$mode"}
    matchers = ",".join(_matcher(name, labels[name]) for name in known if name in labels)
    return f"{metric.full_name}{suffix}{{{matchers}}}" if matchers else metric.full_name + suffix


def _matcher(label: str, value: str) -> str:
    for sign, operator in (("!~", "!~"), ("!", "!="), ("~", "=~")):
        if value.startswith(sign):
            return f'{label}{operator}"{value.removeprefix(sign)}"'
    return f'{label}="{value}"'


def reasons(*of: Reason) -> str:
    """Return what matches those values of the `result` label."""
    return "~" + "|".join(of) if len(of) > 1 else str(of[0])
