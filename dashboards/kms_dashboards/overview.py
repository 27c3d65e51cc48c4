"""The first dashboard: can data be sealed and opened, where, since when, and how fast is the error budget spent."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from kms_alarms import burn_rate
from kms_alarms.burn_rate import OBJECTIVE, Burn
from kms_alarms.parts import series
from kms_alarms.table import GROUPS
from kms_dashboards import frame, parts
from kms_dashboards.parts import Column, Part
from kms_dashboards.queries import (
    COUNTED,
    FAILED,
    OF_PAIRS,
    REGION,
    ROUND_TRIP,
    WELL,
    breaker,
    chosen,
    looking,
    lowest,
    quantile,
    rate,
    worst_look,
)
from kms_watchdog import metrics

_BUDGET_DAYS = 30
_CANARY = {"canary": "Canary", "region": "Region", "key": "Key"}
_ALERT = {"alertname": "Alert", "severity": "Severity", "owner": "Owner", "region": "Region", "key": "Key"}


def build() -> model.Dashboard:
    """Return the dashboard."""
    return frame.board(
        "Overview",
        description="Canaries through the crypto core, by region and key.",
        since="now-6h",
        choose_mode=True,
        rows={
            "Now": _now(),
            "Canaries": _canaries(),
            "Breakers and health": _breakers(),
            "Uptime and reachability": _uptime(),
            "Latency": _latency(),
            "Error budget": tuple(_burning(burn) for burn in burn_rate.BURNS if burn.severity == "critical"),
            "Red, and what was made of it": _advice(),
            "Runbooks": (parts.prose("Runbooks by alarm", _runbooks(), height=7),),
        },
    )


def _now() -> tuple[Part, ...]:
    region_well = f"min by (region) ({chosen(metrics.REGION_HEALTHY)})"
    trip_well = f"min by (region, key) {looking(chosen(metrics.CANARY_UP, canary=ROUND_TRIP), canary=ROUND_TRIP)}"
    every = looking(chosen(metrics.CANARY_UP, region=OF_PAIRS), region=OF_PAIRS)
    opened = f"max by (region) ({chosen(metrics.BREAKER_STATE, state='open')})"
    return (
        parts.tally(
            "Regions",
            "Regions that are healthy, of all, after hysteresis. Red where one is not.",
            well=f"sum({region_well})",
            every=f"count({region_well})",
            runbook="region-unhealthy.md",
        ),
        parts.tally(
            "Keys",
            "Keys in their regions whose last round trip was OK, of all that are looked at. Red where one was not.",
            well=f"sum({trip_well})",
            every=f"count({trip_well})",
            runbook="high-error-rate.md",
        ),
        parts.number(
            "Failing canaries",
            "Canaries of every kind whose last look was not OK.",
            f"sum(1 - min by (canary, region, key) {every})",
            texts={"0": ("none", "green")},
            runbook="red-below-paging.md",
        ),
        parts.number(
            "Worst age",
            "Age of the stalest round trip that was OK.",
            f"max(time() - {chosen(metrics.CANARY_LAST_SUCCESS, canary=ROUND_TRIP)})",
            unit="s",
            steps=((None, "green"), (90, "orange"), (150, "red")),
            texts=parts.NEVER,
            runbook="no-recent-success.md",
        ),
        parts.number(
            "Open breakers",
            "Regions that the core does not ask now.",
            f"sum({opened})",
            texts={"0": ("none", "green")},
            runbook="circuit-breaker-open.md",
        ),
        parts.number(
            "Budget left",
            f"What is left of {_BUDGET_DAYS} days' error budget ({1 - OBJECTIVE:.1%} of round trips) in the worst "
            "region; of as many days as Prometheus keeps.",
            _budget_left(),
            unit="percentunit",
            steps=((None, "red"), (0.25, "orange"), (0.5, "green")),
            texts={"0": ("spent", "red")},
            runbook="high-error-rate.md",
        ),
        parts.number(
            "Alerts",
            "Alerts that fire; not those that always do. N/A: Prometheus has none of our rules.",
            f'count({_alerts("firing")}) or 0 * count(ALERTS{{alertname="Watchdog",alertstate="firing"}})',
            texts={"0": ("none", "green")},
        ),
        parts.number(
            "Dead man age",
            "Since the dead man's switch outside last took a ping, to the minute. N/A: there is none, or it took none "
            "for six hours.",
            "time() - max_over_time((timestamp(sum(increase("
            f"{series(metrics.DEADMAN_PINGS, result='success')}[2m])) > 0))[6h:1m])",
            unit="s",
            steps=((None, "green"), (300, "orange"), (600, "red")),
            runbook="deadman-failing.md",
        ),
    )


def _alerts(state: str) -> str:
    return f'ALERTS{{alertstate="{state}",alarm!="",severity!="none",mode="$mode"}}'


def _budget_left() -> str:
    failed, counted = (
        f"sum by (region) (increase({chosen(metrics.CANARY_RUNS, canary=ROUND_TRIP, result=result)}[{_BUDGET_DAYS}d]))"
        for result in (FAILED, COUNTED)
    )
    return f"clamp_min(1 - max({failed} / {counted}) / {1 - OBJECTIVE:.4g}, 0)"


def _canaries() -> tuple[Part, ...]:
    trips = worst_look(canary=ROUND_TRIP)
    every = worst_look(region=OF_PAIRS)
    return (
        parts.beats(
            "Canary matrix",
            "Round trips: a cell a step, red where a look within it failed, empty where nobody looked.",
            f"min by (region, key) {trips}",
            "{{region}} {{key}}",
            runbook="canary-stale.md",
        ),
        parts.beats(
            "Every question",
            "The worst answer to each kind of question, over regions and keys.",
            f"min by (canary) {every}",
            "{{canary}}",
            runbook="check-fails.md",
        ),
    )


def _breakers() -> tuple[Part, ...]:
    degraded, unhealthy = (
        f"max(max_over_time({series(metrics.HEALTH_STATUS, status=status)}[$__rate_interval]))"
        for status in ("degraded", "unhealthy")
    )
    well = f"min by (region) ({lowest(metrics.REGION_HEALTHY)})"
    return (
        parts.states(
            "Circuit breakers",
            "Closed, half-open or open, by region.",
            [(breaker("$mode"), "{{region}}")],
            parts.BREAKER_STATES,
            height=6,
            runbook="circuit-breaker-open.md",
        ),
        parts.states(
            "Health",
            "The whole, which is of live traffic always, and each region after hysteresis.",
            [(f"clamp_max({degraded} + 2 * {unhealthy}, 2)", "the whole"), (f"2 * (1 - {well})", "{{region}}")],
            parts.HEALTH,
            height=6,
            runbook="region-unhealthy.md",
        ),
    )


def _uptime() -> tuple[Part, ...]:
    somewhere = f"max by (key) {looking(chosen(metrics.CANARY_UP, canary=ROUND_TRIP), canary=ROUND_TRIP)}"
    well, counted = (chosen(metrics.CANARY_RUNS, canary=ROUND_TRIP, result=result) for result in (WELL, COUNTED))
    shares = ((None, "red"), (0.99, "orange"), (OBJECTIVE, "green"))
    return (
        parts.number(
            "Uptime",
            "Share of the time in which the worst key could be used in some region: what an application that fails "
            "over gets.",
            f"min(avg_over_time(({somewhere})[$__range:$__rate_interval]))",
            unit="percentunit",
            steps=shares,
            span=4,
            height=8,
            runbook="key-usable-nowhere.md",
        ),
        parts.number(
            "Reachability",
            "Share of round trips that were OK, over all regions: what an application gets that asks one region.",
            f"sum(increase({well}[$__range])) / sum(increase({counted}[$__range]))",
            unit="percentunit",
            steps=shares,
            span=4,
            height=8,
            runbook="high-error-rate.md",
        ),
        parts.lines(
            "Usable somewhere, and well in each region",
            "A region's loss lowers its own line alone: the first one is what failover is for.",
            [
                (
                    f"min(max by (key) {worst_look(canary=ROUND_TRIP)})",
                    "usable somewhere",
                ),
                (f"{rate(well, 'region')} / {rate(counted, 'region')}", "{{region}}"),
            ],
            unit="percentunit",
            span=16,
            highest=1,
        ),
    )


def _latency() -> tuple[Part, ...]:
    buckets = chosen(metrics.CANARY_DURATION, "_bucket", canary=ROUND_TRIP)
    return (
        parts.lines(
            "Round trip",
            "Sealing and opening in one region, median and 99th percentile; failed ones too.",
            [
                (
                    quantile(share, metrics.CANARY_DURATION, "region", canary=ROUND_TRIP),
                    f"{{{{region}}}} p{share:.0%}"[:-1],
                )
                for share in (0.5, 0.99)
            ],
            unit="s",
            limits=[(1, "orange", "1 s: HighLatency")],
        ),
        parts.heat(
            "Round trips by duration",
            "How many took how long, a row a bucket.",
            f"sum by (le) (increase({buckets}[$__rate_interval]))",
        ),
    )


def _burning(burn: Burn) -> Part:
    windows = (burn.short_seconds, burn.long_seconds)
    short, long = (burn_rate.NAMES[window] for window in windows)
    return parts.lines(
        f"Burn rate, {short} and {long}",
        f"How many times faster than its pace each region spends the error budget. Both above {burn.factor:g}, and "
        f"{burn_rate.LEAST_FAILURES} failures at least: somebody is woken.",
        [
            (
                f'{burn_rate.record_name(window)}{{region=~"{REGION[1:]}",mode="$mode"}} / {1 - OBJECTIVE:.4g}',
                f"{{{{region}}}} {burn_rate.NAMES[window]}",
            )
            for window in windows
        ],
        unit="short",
        limits=[(burn.factor, "red", f"{burn.factor:g}: pages")],
    )


def _advice() -> tuple[Part, ...]:
    of = {"region": OF_PAIRS}
    red = looking(f"{chosen(metrics.CANARY_UP, **of)} == 0", **of)
    paged = 'ALERTS{alertstate="firing",severity="critical",mode="$mode"}'

    def below(value: str) -> str:
        return f"max by (canary, region, key) ({value} and {red} unless on (region) {paged})"

    last = chosen(metrics.CANARY_LAST_SUCCESS, **of)
    in_a_row = chosen(metrics.CANARY_CONSECUTIVE_FAILURES, **of)
    known = "max by (alertname, severity, owner, region, key)"
    return (
        parts.listing(
            "Red, but below paging",
            "Canaries that fail, and for whose region nobody has been woken: since when. This is what is forgotten.",
            (
                Column(
                    name="Last OK",
                    expression=below(f"{last} * 1000"),
                    unit="dateTimeAsIso",
                    texts={"0": ("never", "red")},
                ),
                Column(name="Red for", expression=below(f"time() - {last}"), unit="s", texts=parts.NEVER),
                Column(name="Failures in a row", expression=below(in_a_row)),
            ),
            labels=_CANARY,
            no_rows="nothing is red below paging",
            sort="Red for",
            span=12,
            runbook="red-below-paging.md",
        ),
        parts.listing(
            "Alerts",
            "Every alert that is pending or fires, since when.",
            (
                Column(
                    name="State",
                    expression=f"{known} ({_alerts('firing')} or {_alerts('pending')} * 0)",
                    texts={"1": ("firing", "red"), "0": ("pending", "orange")},
                ),
                Column(
                    name="Since",
                    expression=f'{known} (ALERTS_FOR_STATE{{alarm!="",severity!="none",mode="$mode"}}) * 1000',
                    unit="dateTimeAsIso",
                ),
            ),
            labels=_ALERT,
            no_rows="no alert is pending or fires",
            span=12,
        ),
    )


def _runbooks() -> str:
    return "\n\n".join(
        f"**{group}**: " + " · ".join(f"[{row.name}](${{runbooks:raw}}{row.runbook})" for row in rows)
        for group, rows in GROUPS.items()
    )
