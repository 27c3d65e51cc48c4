"""The few kinds of panel our dashboards are made of, on Grafana's own foundation SDK (classic dashboard model).

The SDK is pinned exactly (0.0.21) and a development dependency: what users load is the committed JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, statushistory, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

from kms_watchdog.metrics import Metric

PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_Mapping = model.ValueMap | model.RangeMap | model.RegexMap | model.SpecialValueMap
Steps = Sequence[tuple[float | None, str]]
Texts = dict[str, tuple[str, str]]
"""Value: (text, colour). Text always, not colour alone."""

UP_OR_DOWN: Texts = {"1": ("OK", "green"), "0": ("FAILED", "red")}
BREAKER_STATES: Texts = {"0": ("closed", "green"), "1": ("half-open", "yellow"), "2": ("open", "red")}
_GOOD: Steps = ((None, "red"), (1, "green"))


def selected(metric: Metric, extra: str = "") -> str:
    """Return `metric` with the dashboard's variables as matchers, those it has labels for, and `extra`."""
    matchers = [f'{label}=~"${label}"' for label in ("region", "key", "mode") if label in metric.labels]
    return f"{metric.full_name}{{{','.join([*matchers, *([extra] if extra else [])])}}}"


def query(expression: str, legend: str = "", *, instant: bool = False, ref: str = "A") -> prometheus.Dataquery:
    """Return one PromQL target."""
    target = prometheus.Dataquery().datasource(PROMETHEUS).expr(expression).legend_format(legend).ref_id(ref)
    return target.instant() if instant else target.range()


def number(title: str, description: str, expression: str, *, unit: str = "short", steps: Steps = _GOOD) -> stat.Panel:
    """Return a panel of one coloured number, four columns wide."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .height(4)
        .span(4)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .color_scheme(dashboards.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .with_target(query(expression, instant=True))
    )


def beats(title: str, description: str, expression: str, legend: str) -> statushistory.Panel:
    """Return a status history: periodic beats, a cell each, never spanning a gap."""
    return (
        statushistory.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(10)
        .span(12)
        .max_data_points(100)
        .interval("$__rate_interval")
        .mappings(_mapped(UP_OR_DOWN))
        .show_value(common.VisibilityMode.NEVER)
        .thresholds(_thresholds(_GOOD))
        .color_scheme(dashboards.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .with_target(query(expression, legend))
    )


def states(title: str, description: str, expression: str, legend: str, texts: Texts) -> statetimeline.Panel:
    """Return a state timeline: states that last, named in words."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(10)
        .span(12)
        .merge_values(True)
        .mappings(_mapped(texts))
        .show_value(common.VisibilityMode.AUTO)
        .thresholds(_thresholds(((None, "text"),)))
        .color_scheme(dashboards.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .with_target(query(expression, legend))
    )


def lines(title: str, description: str, targets: Sequence[tuple[str, str]], *, unit: str) -> timeseries.Panel:
    """Return curves over time; `targets` are (expression, legend)."""
    panel = timeseries.Panel().title(title).description(description).datasource(PROMETHEUS).unit(unit)
    panel = panel.height(9).span(12)
    for position, (expression, legend) in enumerate(targets):
        panel = panel.with_target(query(expression, legend, ref=chr(ord("A") + position)))
    return panel


def variable(name: str, label: str, values: str) -> dashboards.QueryVariable:
    """Return a multi-select variable over `label_values(...)`, refreshed with the time range."""
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(values)
        .definition(values)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all"))
    )


def _thresholds(steps: Steps) -> dashboards.ThresholdsConfig:
    config = dashboards.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return config.steps([model.Threshold(value=value, color=colour) for value, colour in steps])


def _mapped(texts: Texts) -> list[_Mapping]:
    options = {
        value: model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [model.ValueMap(options=options)]
