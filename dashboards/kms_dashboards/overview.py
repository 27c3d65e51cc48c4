"""The first dashboard: can data be sealed and opened, where, since when, and what do breakers and drills do."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import stat, statetimeline, statushistory, timeseries
from grafana_foundation_sdk.models import dashboard as model

from kms_dashboards import parts
from kms_watchdog import metrics

_Part = dashboards.Row | stat.Panel | statushistory.Panel | statetimeline.Panel | timeseries.Panel
_AGE_STEPS: parts.Steps = ((None, "green"), (90, "orange"), (150, "red"))
_NONE_IS_GOOD: parts.Steps = ((None, "green"), (1, "red"))


def build() -> model.Dashboard:
    """Return the dashboard."""
    board = _frame()
    for panel in (*_now(), *_matrix(), *_latency(), *_drills()):
        board = board.with_row(panel) if isinstance(panel, dashboards.Row) else board.with_panel(panel)
    return board.build()


def _frame() -> dashboards.Dashboard:
    up = metrics.CANARY_UP.full_name
    active = metrics.DRILL_ACTIVE.full_name
    return (
        dashboards.Dashboard("KMS watchdog / Overview")
        .uid("kms-watchdog-overview")
        .tags(["kms-watchdog"])
        .description("Canaries through the crypto core, by region and key. Made by kms-dashboards: edit the code.")
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("utc")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(parts.variable("region", "Region", f"label_values({up}, region)"))
        .with_variable(parts.variable("key", "Key", f"label_values({up}, key)"))
        .with_variable(
            dashboards.CustomVariable("mode")
            .label("Mode")
            .values("live,drill")
            .current(model.VariableOption(text="live", value="live"))
        )
        .annotation(
            dashboards.AnnotationQuery()
            .name("Drills")
            .datasource(parts.PROMETHEUS)
            .enable(True)
            .icon_color("purple")  # red keeps its meaning
            .expr(f"{active} > 0")
            .title_format("Drill {{drill}}")
            .step("15s")
        )
    )


def _now() -> tuple[_Part, ...]:
    up = parts.selected(metrics.CANARY_UP)
    success = parts.selected(metrics.CANARY_LAST_SUCCESS)
    healthy = parts.selected(metrics.REGION_HEALTHY)
    opened = parts.selected(metrics.BREAKER_STATE, 'state="open"')
    return (
        dashboards.Row("Now"),
        parts.number(
            "Regions down", "Regions that are not healthy.", f"count({healthy} == 0) or vector(0)", steps=_NONE_IS_GOOD
        ),
        parts.number(
            "Failing canaries",
            "Canaries whose last run was not OK.",
            f"count({up} == 0) or vector(0)",
            steps=_NONE_IS_GOOD,
        ),
        parts.number("Canaries", "Canaries that are watched.", f"count({up})"),
        parts.number(
            "Oldest success", "Age of the stalest success.", f"max(time() - {success})", unit="s", steps=_AGE_STEPS
        ),
        parts.number("Open breakers", "Regions the core does not ask now.", f"sum({opened})", steps=_NONE_IS_GOOD),
        parts.number(
            "Scheduler",
            "Age of the scheduler's heartbeat.",
            f"time() - {metrics.SCHEDULER_HEARTBEAT.full_name}",
            unit="s",
            steps=((None, "green"), (30, "orange"), (60, "red")),
        ),
    )


def _matrix() -> tuple[_Part, ...]:
    up = parts.selected(metrics.CANARY_UP)
    state = parts.selected(metrics.BREAKER_STATE)
    half, opened = (state.replace("}", f',state="{name}"}}') for name in ("half_open", "open"))
    return (
        dashboards.Row("Canaries and breakers"),
        parts.beats(
            "Canary matrix",
            "A cell a step; red where a run within it failed.",
            f"min_over_time({up}[$__rate_interval])",
            "{{region}} {{key}}",
        ),
        parts.states(
            "Circuit breakers",
            "closed, half-open, open, by region.",
            f"max by (region) ({half}) + 2 * max by (region) ({opened})",
            "{{region}}",
            parts.BREAKER_STATES,
        ),
    )


def _latency() -> tuple[_Part, ...]:
    bucket = parts.selected(metrics.CANARY_DURATION).replace("_seconds{", "_seconds_bucket{")
    rate = f"sum by (le, region) (rate({bucket}[$__rate_interval]))"
    runs = parts.selected(metrics.CANARY_RUNS, 'result!="blind"')
    good = parts.selected(metrics.CANARY_RUNS, 'result="success"')
    share = " / ".join(f"sum by (region) (rate({series}[$__rate_interval]))" for series in (good, runs))
    return (
        dashboards.Row("Latency and availability"),
        parts.lines(
            "Round trip",
            "Seal and open, median and 99th percentile.",
            [
                (f"histogram_quantile(0.5, {rate})", "{{region}} p50"),
                (f"histogram_quantile(0.99, {rate})", "{{region}} p99"),
            ],
            unit="s",
        ),
        parts.lines(
            "Availability",
            "Share of runs that were OK; BLIND counts for neither.",
            [(share, "{{region}}")],
            unit="percentunit",
        ),
    )


def _drills() -> tuple[_Part, ...]:
    requests = f'{metrics.KMS_REQUESTS.full_name}{{region=~"$region"}}'
    return (
        dashboards.Row("Drills and requests"),
        parts.lines(
            "Faults not undone",
            "Proxies with a fault nobody has undone yet, and drills that run.",
            [(metrics.FAULTS_ACTIVE.full_name, "{{proxy}}"), (metrics.DRILL_ACTIVE.full_name, "{{drill}} runs")],
            unit="short",
        ),
        parts.lines(
            "KMS requests by result",
            "Attempts a second of the watchdog's own core; empty is success.",
            [(f"sum by (region, error_type) (rate({requests}[$__rate_interval]))", "{{region}} {{error_type}}")],
            unit="reqps",
        ),
    )
