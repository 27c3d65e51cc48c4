"""What every dashboard has: variables, annotations, links to the others, to the status page and to runbooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from kms_alarms.parts import series
from kms_dashboards import parts
from kms_watchdog import metrics
from kms_watchdog.results import Mode

TAG = "kms-watchdog"
STATUS_PAGE = "http://127.0.0.1:9464"
RUNBOOKS = "https://wiki.example/runbooks/"
"""Placeholders, as in `watchdog.example.toml`; whoever loads the dashboards sets their own."""
PURPLE = "purple"  # drills: red keeps its meaning
Rows = Mapping[str, Sequence[parts.Part]]
"""Panels by their row's title; the widths of a line add up to 24."""


def board(
    name: str,
    *,
    description: str,
    rows: Rows,
    since: str,
    alerts: Mode = Mode.LIVE,
    choose_mode: bool = False,
) -> model.Dashboard:
    """Return the dashboard `name`; `alerts` says whose alerts are annotated, `since` how far back it looks."""
    made = (
        dashboards.Dashboard(f"KMS watchdog / {name}")
        .uid(f"kms-watchdog-{name.lower().replace(' ', '-')}")
        .tags([TAG])
        .description(f"{description} Made by kms-dashboards: edit the code.")
        .refresh("30s")
        .time(since, "now")
        .timezone("utc")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in _variables(choose_mode=choose_mode):
        made = made.with_variable(variable)
    for annotation in _annotations("$mode" if choose_mode else alerts):
        made = made.annotation(annotation)
    for link in _links():
        made = made.link(link)
    for title, panels in rows.items():
        made = made.with_row(dashboards.Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return made.build()


def _variables(*, choose_mode: bool) -> tuple[Builder[model.VariableModel], ...]:
    # Of all regions' own metric: a canary's region can be a pair.
    regions = f"label_values({metrics.REGION_HEALTHY.full_name}, region)"
    keys = f'label_values({metrics.CANARY_UP.full_name}{{key!=""}}, key)'
    mode = (
        dashboards.CustomVariable("mode")
        .label("Mode")
        .description("Live traffic, or a drill's.")
        .values("live,drill")
        .current(model.VariableOption(text="live", value="live"))
    )
    return (
        dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        parts.variable("region", "Region", regions),
        parts.variable("key", "Key", keys),
        *([mode] if choose_mode else []),
        dashboards.TextBoxVariable("watchdog").label("Status page").default_value(STATUS_PAGE),
        dashboards.TextBoxVariable("runbooks").label("Runbooks").default_value(RUNBOOKS),
    )


def _annotations(alerts: str) -> tuple[dashboards.AnnotationQuery, ...]:
    firing = f'ALERTS{{alertstate="firing",alarm!="",severity!="none",mode="{alerts}"}}'
    return (
        _annotation("Drills", PURPLE, f"max by (drill) ({series(metrics.DRILL_ACTIVE)}) > 0").title_format(
            "Drill {{drill}}"
        ),
        _annotation("Alerts", "red", f"max by (alertname, region, key) ({firing})")
        .title_format("{{alertname}}")
        .text_format("{{region}} {{key}}"),
        _annotation("Configuration", "blue", f"{series(metrics.CONFIG_RELOADED)} * 1000")
        .title_format("Configuration taken")
        .use_value_for_time(True),
    )


def _annotation(name: str, colour: str, expression: str) -> dashboards.AnnotationQuery:
    """Return an annotation over the time for which `expression` has a value."""
    return (
        dashboards.AnnotationQuery()
        .name(name)
        .datasource(parts.PROMETHEUS)
        .enable(True)
        .icon_color(colour)
        .expr(expression)
        .step("15s")
    )


def _links() -> tuple[dashboards.DashboardLink, ...]:
    others = dashboards.DashboardLink("KMS watchdog").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return (
        others.include_vars(True).keep_time(True),
        _link("Status page", "${watchdog:raw}/", "What the watchdog itself says now."),
        _link("Drill reports", "${watchdog:raw}/#drills", "Every drill, with its report."),
        _link("Runbooks", "${runbooks:raw}", "What to do, alarm by alarm."),
    )


def _link(title: str, url: str, tooltip: str) -> dashboards.DashboardLink:
    link = dashboards.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).tooltip(tooltip)
    return link.icon("external link").target_blank(True)
