"""The fourth dashboard: the watchdog itself: does it look on time, do its metrics get out, what does its core do."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from kms_alarms.parts import series
from kms_alarms.rows.watchdog import JOB
from kms_dashboards import frame, parts
from kms_dashboards.parts import Part
from kms_dashboards.queries import chosen, growth, quantile, rate
from kms_watchdog import metrics
from kms_watchdog.results import Mode

_LIVE = str(Mode.LIVE)
_BAD_JOBS = "~missed|skipped_overlap|error"


def build() -> model.Dashboard:
    """Return the dashboard."""
    return frame.board(
        "Internals",
        description="The watchdog itself: its scheduler, its way to CloudWatch, its core, its state.",
        since="now-6h",
        rows={
            "Now": _now(),
            "Scheduler": _scheduler(),
            "CloudWatch": _cloudwatch(),
            "The core's requests": _requests(),
            "Cache and failover": _cache(),
            "The process": _process(),
        },
    )


def _now() -> tuple[Part, ...]:
    up = f'up{{job="{JOB}"}}'
    return (
        parts.tally(
            "Scraped",
            "Watchdogs that Prometheus reaches, of those it knows. Red where one is not.",
            well=f"sum({up})",
            every=f"count({up})",
            span=4,
            runbook="watchdog-down.md",
        ),
        parts.number(
            "Scheduler",
            "Age of the scheduler's heartbeat.",
            f"max(time() - {series(metrics.SCHEDULER_HEARTBEAT)})",
            unit="s",
            steps=((None, "green"), (30, "orange"), (60, "red")),
            texts=parts.NEVER,
            span=4,
            runbook="scheduler-stalled.md",
        ),
        parts.number(
            "Failed cycles",
            "Cycles of the scheduler in a row that ended in an error.",
            f"max({series(metrics.SCHEDULER_FAILED_CYCLES)})",
            steps=((None, "green"), (1, "orange"), (3, "red")),
            texts={"0": ("none", "green")},
            span=4,
            runbook="scheduler-fails.md",
        ),
        parts.number(
            "Publish age",
            "Since CloudWatch last took our data, in the worst region.",
            f"max(time() - {series(metrics.CLOUDWATCH_LAST_SUCCESS)})",
            unit="s",
            steps=((None, "green"), (150, "orange"), (300, "red")),
            texts=parts.NEVER,
            span=4,
            runbook="publish-failing.md",
        ),
        parts.number(
            "Configuration",
            "Whether the last configuration given was taken.",
            f"min({series(metrics.CONFIG_RELOAD_OK)})",
            steps=((None, "red"), (1, "green")),
            texts={"1": ("taken", "green"), "0": ("NOT TAKEN", "red")},
            span=4,
            runbook="reload-failed.md",
        ),
        parts.number(
            "Version",
            "What runs; two at once are two watchdogs, or an upgrade on its way.",
            f"count by (version) ({series(metrics.BUILD_INFO)})",
            steps=parts.PLAIN,
            legend="{{version}}",
            span=4,
        ),
    )


def _scheduler() -> tuple[Part, ...]:
    bad = series(metrics.SCHEDULER_JOBS, result=_BAD_JOBS)
    # A job's name is in `exported_job`: `job` is Prometheus's own.
    return (
        parts.heat(
            "Scheduler lag",
            "Start of a job minus when it was due, a row a bucket.",
            f"sum by (le) (increase({series(metrics.SCHEDULER_LAG, '_bucket')}[$__rate_interval]))",
            span=8,
        ),
        parts.lines(
            "Jobs missed, overlapping or in error",
            "Of jobs of every kind; the log names each.",
            [(growth(bad, "result"), "{{result}}")],
            unit="short",
            span=8,
        ),
        parts.lines(
            "Jobs executed",
            "How many of each kind ended well, in a second.",
            [(rate(series(metrics.SCHEDULER_JOBS, result="executed"), "exported_job"), "{{exported_job}}")],
            unit="ops",
            span=8,
        ),
        parts.lines(
            "Clock steps and restarts",
            "Steps of the wall clock that were seen, and times the scheduler's thread was started anew.",
            [
                (f"sum({series(metrics.SCHEDULER_CLOCK_STEPS)})", "clock steps"),
                (f"sum({series(metrics.SCHEDULER_RESTARTS)})", "thread restarts"),
            ],
            unit="short",
            span=8,
        ),
        parts.lines(
            "Dead man's switch",
            "Pings by result; none at all: it is not set up.",
            [(growth(series(metrics.DEADMAN_PINGS), "result"), "{{result}}")],
            unit="short",
            span=8,
        ),
        parts.lines(
            "Log",
            "Lines by level.",
            [(growth(series(metrics.LOG_MESSAGES), "level"), "{{level}}")],
            unit="short",
            span=8,
        ),
    )


def _cloudwatch() -> tuple[Part, ...]:
    return (
        parts.lines(
            "Queue",
            "Datums waiting to be sent; they wait on disk, and nothing is lost while they do.",
            [(f"max by (region) ({series(metrics.CLOUDWATCH_QUEUE)})", "{{region}}")],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Publish age",
            "Since CloudWatch last took our data.",
            [(f"time() - max by (region) ({series(metrics.CLOUDWATCH_LAST_SUCCESS)} > 0)", "{{region}}")],
            unit="s",
            limits=[(300, "orange", "5 min: PublishFailing")],
            span=6,
        ),
        parts.lines(
            "Requests by result",
            "PutMetricData requests, over all regions.",
            [(growth(series(metrics.CLOUDWATCH_PUBLISH), "result"), "{{result}}")],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Datums taken, and given up",
            "A datum that was given up is a hole in the record.",
            [
                (growth(series(metrics.CLOUDWATCH_DATUMS), "region"), "{{region}} taken"),
                (growth(series(metrics.CLOUDWATCH_DROPPED), "reason"), "dropped: {{reason}}"),
            ],
            unit="short",
            span=6,
        ),
    )


def _requests() -> tuple[Part, ...]:
    failed = chosen(metrics.KMS_REQUESTS, error_type="!")
    return (
        parts.lines(
            "KMS requests",
            "Attempts in a second, by operation.",
            [(rate(chosen(metrics.KMS_REQUESTS), "operation"), "{{operation}}")],
            unit="reqps",
            span=8,
        ),
        parts.lines(
            "Duration of an attempt",
            "99th percentile, by operation.",
            [(quantile(0.99, metrics.KMS_REQUEST_DURATION, "operation"), "{{operation}} p99")],
            unit="s",
            span=8,
        ),
        parts.lines(
            "Retries",
            "Attempts that followed a failed one of the same call, there or elsewhere, in a second.",
            [(rate(chosen(metrics.KMS_RETRIES), "region"), "{{region}}")],
            unit="reqps",
            span=8,
        ),
        parts.lines(
            "Failed attempts, by region",
            "In a second; a drill's own are in its journal.",
            [(rate(failed, "region"), "{{region}}")],
            unit="reqps",
        ),
        parts.lines(
            "Failed attempts, by error",
            "In a second, those that occur: by the service's own code, or the core's name for a fault of the "
            "connection.",
            [(f"{rate(failed, 'error_type')} > 0", "{{error_type}}")],
            unit="reqps",
            no_lines="no attempt failed",
        ),
    )


def _cache() -> tuple[Part, ...]:
    hits = rate(series(metrics.CACHE_REQUESTS, result="hit"), "job")
    looks = rate(series(metrics.CACHE_REQUESTS), "job")
    return (
        parts.lines(
            "Cache hits",
            "Share of looks into the data-key cache that found one; none while nobody looks.",
            [(f"{hits} / {looks}", "hits")],
            unit="percentunit",
            highest=1,
            span=6,
        ),
        parts.lines(
            "Data keys in the cache",
            "And those that it let go of, by reason.",
            [
                (f"max({series(metrics.CACHE_ENTRIES)})", "in the cache"),
                (growth(series(metrics.CACHE_EVICTIONS), "reason"), "evicted: {{reason}}"),
            ],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Failovers",
            "Calls of the watchdog's own core that went on in another region.",
            [
                (
                    growth(series(metrics.FAILOVERS, mode=_LIVE), "from_region, to_region"),
                    "{{from_region}} to {{to_region}}",
                )
            ],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Data keys used beyond their time",
            "Because no region was available.",
            [(growth(chosen(metrics.STALE_DATA_KEYS_USED), "key"), "{{key}}")],
            unit="short",
            span=6,
        ),
    )


def _process() -> tuple[Part, ...]:
    return (
        parts.lines(
            "Scrape",
            "How long Prometheus's scrape of the watchdog takes.",
            [(f'max by (instance) (scrape_duration_seconds{{job="{JOB}"}})', "{{instance}}")],
            unit="s",
            span=6,
        ),
        parts.lines(
            "Series",
            "How many series the watchdog exports; a number that grows is a label with too many values.",
            [(f'max by (instance) (scrape_samples_scraped{{job="{JOB}"}})', "{{instance}}")],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Writes of the state that failed",
            "By database of the state folder.",
            [(growth(series(metrics.STATE_WRITE_FAILURES), "file"), "{{file}}")],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Age of the configuration",
            "Since one was last taken; it falls to 0 at each reload.",
            [(f"max by (instance) (time() - {series(metrics.CONFIG_RELOADED)})", "{{instance}}")],
            unit="s",
            span=6,
        ),
    )
