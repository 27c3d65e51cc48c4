"""The few kinds of panel our dashboards are made of, on Grafana's own foundation SDK (classic dashboard model).

The SDK is pinned exactly (0.0.21) and a development dependency: what users load is the committed JSON. Colour never
speaks alone: states are named in words, and a number's description says from where on it is orange or red.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, statushistory, table, timeseries
from grafana_foundation_sdk.builders import text as texts_builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import text as text_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from kms_watchdog.durations import spoken

PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
Part = Builder[model.Panel]
_EMPTY_CELL = model.DynamicConfigValue(id_val="noValue", value="-")
"""Of a column: the panel's own is what a table without rows says, and would stand in each empty cell too."""
Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first from nothing on."""
_Mapping = model.ValueMap | model.RangeMap | model.RegexMap | model.SpecialValueMap
Texts = Mapping[str, tuple[str, str]]
"""Value: (text, colour); `"5.."` is every number from 5 on."""

UP_OR_DOWN: Texts = {"1": ("OK", "green"), "0": ("FAILED", "red")}
BREAKER_STATES: Texts = {"0": ("closed", "green"), "1": ("half-open", "yellow"), "2": ("open", "red")}
HEALTH: Texts = {"0": ("healthy", "green"), "1": ("degraded", "yellow"), "2": ("unhealthy", "red")}
NONE_IS_GOOD: Steps = ((None, "green"), (1, "red"))
PLAIN: Steps = ((None, "text"),)
NEVER: Texts = {"1000000000..": ("never", "red")}
"""A time of 0 is never: its age is that of Unix's clock."""
_WHOLE = 24
_AXIS_WIDTH = 200  # the same on every panel of the whole width, so that cause and effect stand under each other
_UNKNOWN = "#6e7280"  # grey
_LOWEST = -1e12
_BEAT = "30s"  # the interval at which canaries look unless told otherwise: a cell is one look at least
_CELLS = 120


def query(
    expression: str, legend: str = "", *, instant: bool = False, ref: str = "A", form: PromQueryFormat | None = None
) -> prometheus.Dataquery:
    """Return one PromQL target."""
    target = prometheus.Dataquery().datasource(PROMETHEUS).expr(expression).legend_format(legend).ref_id(ref)
    target = target.instant() if instant else target.range()
    return target.format(form) if form else target


def number(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "short",
    steps: Steps = NONE_IS_GOOD,
    texts: Texts | None = None,
    legend: str = "",
    span: int = 3,
    height: int = 4,
    runbook: str = "",
) -> stat.Panel:
    """Return a panel of one coloured number; with `legend` it shows that in the number's place, as in `3/3`.

    No data are "N/A" in grey, never 0 and never green: silence is not health.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description if legend else _with_limits(description, steps, unit))
        .datasource(PROMETHEUS)
        .unit(unit)
        .height(height)
        .span(span)
        .no_value("N/A")
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.NONE)
        .justify_mode(common.BigValueJustifyMode.CENTER)
        .text_mode(common.BigValueTextMode.NAME if legend else common.BigValueTextMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(_grey_without_data(steps)))
        .color_scheme(_by_threshold())
        .mappings(_mapped(texts or {}))
        .with_target(query(expression, legend, instant=True))
    )
    return panel.links(_runbook_link(runbook)) if runbook else panel


def tally(
    title: str, description: str, *, well: str, every: str, span: int = 3, height: int = 4, runbook: str = ""
) -> stat.Panel:
    """Return a panel that says `3/3`: how many are well of how many; red where one is not."""
    said = f'count_values("well", {well}) * on () group_left (every) count_values("every", {every})'
    missing = f"scalar({every} - {well})"
    return number(
        title,
        description,
        f"({said}) * 0 + on () group_left () vector({missing})",
        legend="{{well}}/{{every}}",
        span=span,
        height=height,
        runbook=runbook,
    )


def beats(
    title: str,
    description: str,
    expression: str,
    legend: str,
    *,
    texts: Texts = UP_OR_DOWN,
    span: int = 12,
    height: int = 10,
    runbook: str = "",
) -> statushistory.Panel:
    """Return a status history: periodic beats, a cell each, never spanning a gap."""
    panel = (
        statushistory.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(height)
        .span(span)
        .max_data_points(_CELLS)  # more cells than it can draw, and it refuses
        .interval(_BEAT)
        .mappings(_mapped(texts))
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.9)
        .thresholds(_thresholds(PLAIN))
        .color_scheme(_by_threshold())
        .legend(_legend())
        .with_target(query(expression, legend))
    )
    panel = panel.axis_width(_AXIS_WIDTH) if span == _WHOLE else panel
    return panel.links(_runbook_link(runbook)) if runbook else panel


def states(
    title: str,
    description: str,
    targets: Sequence[tuple[str, str]],
    texts: Texts,
    *,
    span: int = 12,
    height: int = 8,
    runbook: str = "",
) -> statetimeline.Panel:
    """Return a state timeline: states that last, named in words, never spanning a gap."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(height)
        .span(span)
        .merge_values(True)
        .span_nulls(False)
        .mappings(_mapped(texts))
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .thresholds(_thresholds(PLAIN))
        .color_scheme(_by_threshold())
        .legend(_legend())
    )
    for ref, (expression, legend) in zip("ABCDEF", targets, strict=False):
        panel = panel.with_target(query(expression, legend, ref=ref))
    panel = panel.axis_width(_AXIS_WIDTH) if span == _WHOLE else panel
    return panel.links(_runbook_link(runbook)) if runbook else panel


def lines(
    title: str,
    description: str,
    targets: Sequence[tuple[str, str]],
    *,
    unit: str,
    limits: Sequence[tuple[float, str, str]] = (),
    span: int = 12,
    height: int = 8,
    lowest: float | None = 0,
    highest: float | None = None,
    no_lines: str = "",
) -> timeseries.Panel:
    """Return curves over time; `targets` are (expression, legend), `limits` (value, colour, words) dashed lines.

    `no_lines` is what it says where it may well be empty.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .height(height)
        .span(span)
        .span_nulls(False)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    panel = panel.no_value(no_lines) if no_lines else panel
    panel = panel if lowest is None else panel.min(lowest)
    panel = panel if highest is None else panel.max(highest)
    panel = panel.axis_width(_AXIS_WIDTH) if span == _WHOLE else panel
    drawn = (*targets, *((f"vector({value:g})", words) for value, _, words in limits))
    for ref, (expression, legend) in zip("ABCDEFGHIJ", drawn, strict=False):
        panel = panel.with_target(query(expression, legend, ref=ref))
    for _, colour, words in limits:
        panel = panel.override_by_name(words, _dashed(colour))
    return panel


def heat(title: str, description: str, expression: str, *, span: int = 12, height: int = 8) -> heatmap.Panel:
    """Return a heatmap of a histogram's buckets, of seconds; the buckets widen, so the axis is logarithmic."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(height)
        .span(span)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Spectral")
            .steps(64)
            .reverse(True)
        )
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT))
        .cell_gap(1)
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .show_legend()
        .with_target(query(expression, "{{le}}", form=PromQueryFormat.HEATMAP))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of numbers in a table: what is asked for, and how it reads."""

    name: str
    expression: str
    unit: str = "short"
    texts: Texts = field(default_factory=dict)
    steps: Steps = PLAIN


def listing(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    labels: Mapping[str, str],
    hidden: Sequence[str] = (),
    no_rows: str = "none",
    sort: str = "",
    span: int = 24,
    height: int = 8,
    runbook: str = "",
) -> table.Panel:
    """Return a table: a row for each set of labels, a column for each query.

    Args:
        title: its title.
        description: what it shows.
        columns: of numbers, in their order.
        labels: names of label columns, by label, in their order; they come first.
        hidden: columns that only make the rows what they are.
        no_rows: what it says where there are no rows.
        sort: the column to sort by, largest first.
        span: columns of the grid.
        height: rows of the grid.
        runbook: of the alarm that belongs to it.
    """
    refs = dict(zip("ABCDEFGHIJ", columns, strict=False))
    names = {f"Value #{ref}": column.name for ref, column in refs.items()}
    if len(columns) == 1:
        names = {"Value": columns[0].name, **names}
    order = {name: position for position, name in enumerate((*labels, *names))}
    limits = "".join(f" {c.name}: {limited}" for c in columns if (limited := _limits(c.steps, c.unit)))
    panel = (
        table.Panel()
        .title(title)
        .description(description + limits)
        .datasource(PROMETHEUS)
        .unit("short")
        .height(height)
        .span(span)
        .no_value(no_rows)
        .cell_height(common.TableCellHeight.SM)
        .thresholds(_thresholds(PLAIN))
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(("Time", *hidden), True),
                    "indexByName": order,
                    "renameByName": {**labels, **names},
                },
            )
        )
    )
    for name in labels.values():
        panel = panel.override_by_name(name, [_EMPTY_CELL])
    for ref, column in refs.items():
        panel = panel.with_target(query(column.expression, instant=True, ref=ref, form=PromQueryFormat.TABLE))
        panel = panel.override_by_name(column.name, _cell(column))
    if sort:
        panel = panel.sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(True)])
    return panel.links(_runbook_link(runbook)) if runbook else panel


def prose(title: str, content: str, *, span: int = 24, height: int = 6) -> texts_builders.Panel:
    """Return a panel of Markdown."""
    return (
        texts_builders.Panel()
        .title(title)
        .mode(text_model.TextMode.MARKDOWN)
        .content(content)
        .height(height)
        .span(span)
    )


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


def _runbook_link(runbook: str) -> list[Builder[model.DashboardLink]]:
    link = dashboards.DashboardLink(f"Runbook: {runbook.removesuffix('.md')}").type(model.DashboardLinkType.LINK)
    return [link.url(f"${{runbooks:raw}}{runbook}").target_blank(True)]


def _cell(column: Column) -> list[model.DynamicConfigValue]:
    found = [_EMPTY_CELL, model.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.texts:
        found.append(model.DynamicConfigValue(id_val="mappings", value=_mapped(column.texts)))
    if column.texts or column.steps is not PLAIN:
        found.append(model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        found.append(model.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.steps).build()))
        found.append(model.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}))
    return found


def _dashed(colour: str) -> list[model.DynamicConfigValue]:
    return [
        model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour}),
        model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
        model.DynamicConfigValue(id_val="custom.lineWidth", value=2),
    ]


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _grey_without_data(steps: Steps) -> Steps:
    """Return `steps` with grey under them: Grafana gives the lowest colour to a number that is not there."""
    return ((None, _UNKNOWN), *((_LOWEST if value is None else value, colour) for value, colour in steps))


def _by_threshold() -> dashboards.FieldColor:
    return dashboards.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def _thresholds(steps: Steps) -> dashboards.ThresholdsConfig:
    config = dashboards.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return config.steps([model.Threshold(value=value, color=colour) for value, colour in steps])


def _mapped(texts: Texts) -> list[_Mapping]:
    results = {
        value: model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    found: list[_Mapping] = [
        model.RangeMap(options=model.DashboardRangeMapOptions(from_val=float(value.removesuffix("..")), result=result))
        for value, result in results.items()
        if value.endswith("..")
    ]
    exact = {value: result for value, result in results.items() if not value.endswith("..")}
    return [model.ValueMap(options=exact), *found] if exact else found


def _with_limits(description: str, steps: Steps, unit: str) -> str:
    limits = _limits(steps, unit)
    return f"{description} {limits}" if limits else description


def _limits(steps: Steps, unit: str) -> str:
    """Say from where on a number has which colour: colour alone tells some people nothing."""
    (_, first), *others = steps
    if not others:
        return ""
    said = (f"{colour} from {_amount(value or 0, unit)}" for value, colour in others)
    return f"{first.capitalize()}; {', '.join(said)}."


def _amount(value: float, unit: str) -> str:
    match unit:
        case "s":
            return spoken(timedelta(seconds=value))
        case "percentunit":
            return f"{value * 100:g} %"
        case _:
            return f"{value:g}"
