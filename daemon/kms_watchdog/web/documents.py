"""What is said over HTTP, as JSON values: the setup guide's `/health`, and the status document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kms_core import RegionHealth
from kms_watchdog.config import Settings
from kms_watchdog.drills.follow import RunView
from kms_watchdog.health import Board, CanaryHealth, Health, Reason, Subject
from kms_watchdog.results import CanaryResult, Outcome
from kms_watchdog.sinks.health import Standing

SCHEMA = 1
DRILLS_SHOWN = 20
JOBS_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All that the status page tells, as values."""

    settings: Settings
    version: str
    now_utc: datetime
    started_at_utc: datetime
    standing: Standing
    board: Board
    regions: Mapping[str, RegionHealth]
    ticks: Mapping[Subject, Sequence[CanaryResult]]
    failures: Sequence[CanaryResult]
    runs: Sequence[RunView]
    reports: frozenset[str]
    """Ids of the runs that have a report."""
    next_runs: Sequence[tuple[str, datetime]]


def health_document(health: Health, now_utc: datetime) -> dict[str, Any]:
    """Return the setup guide's health answer; reason codes only, no detail of an error."""
    return {
        "status": str(health.status),
        "timestamp": _iso(now_utc),
        "regions": dict(health.regions),
        "circuitBreakers": {region: {"state": state.upper()} for region, state in health.breakers.items()},
        "reasons": [_reason(reason) for reason in health.reasons],
    }


def status_document(status: Status) -> dict[str, Any]:
    """Return what the status page shows; the page is rendered from this very document."""
    health = status.standing.health
    return {
        "schema": SCHEMA,
        "status": str(health.status),
        "since_utc": _iso(status.standing.since_utc),
        "now_utc": _iso(status.now_utc),
        "started_at_utc": _iso(status.started_at_utc),
        "version": status.version,
        "estate": status.settings.estate.name,
        "interval_seconds": status.settings.canaries.interval_seconds,
        "reasons": [_reason(reason) for reason in health.reasons],
        "regions": [_region(region, status) for region in status.settings.estate.regions],
        "keys": [
            {"purpose": purpose, "alias": key.alias, "usable": health.keys.get(purpose, False)}
            for purpose, key in status.settings.keys.items()
        ],
        "canaries": [_canary(subject, standing, status) for subject, standing in status.board.canaries.items()],
        "failures": [result.to_json() for result in status.failures],
        "failure_groups": failure_groups(status.failures),
        "drills": [_drill(view, status.reports) for view in status.runs[:DRILLS_SHOWN]],
        "jobs": [{"id": name, "next_run_utc": _iso(at)} for name, at in status.next_runs[:JOBS_SHOWN]],
    }


def failure_groups(failures: Sequence[CanaryResult]) -> list[dict[str, Any]]:
    """Return failures of one cause in one region as one entry each; `failures` and the groups are newest first."""
    groups: dict[tuple[str, ...], list[CanaryResult]] = {}
    for result in failures:
        cause = (result.mode, result.canary, result.region, result.outcome, str(result.reason), result.error_code)
        groups.setdefault(cause, []).append(result)
    return [
        {
            "mode": str(group[0].mode),
            "canary": group[0].canary,
            "region": group[0].region,
            "keys": sorted({result.key for result in group}),
            "outcome": str(group[0].outcome),
            "reason": str(group[0].reason),
            "error_code": group[0].error_code,
            "request_id": group[0].request_id,
            "count": len(group),
            "last_at_utc": _iso(group[0].started_at_utc),
            "first_at_utc": _iso(group[-1].started_at_utc),
            "slowest_seconds": round(max(result.duration_seconds for result in group), 6),
        }
        for group in groups.values()
    ]


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the nearest-rank percentile of `values`, e.g. share 0.99; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def _reason(reason: Reason) -> dict[str, Any]:
    age_seconds = None if reason.age_seconds is None else round(reason.age_seconds, 1)
    return {
        "code": reason.code,
        "region": reason.region or None,
        "key": reason.key or None,
        "canary": reason.canary or None,
        "age_seconds": age_seconds,
    }


def _region(region: str, status: Status) -> dict[str, Any]:
    estate, live = status.settings.estate, status.regions.get(region)
    answered = [
        result
        for subject, results in status.ticks.items()
        if subject.region == region
        for result in results
        if result.outcome is not Outcome.BLIND
    ]
    seconds = [result.duration_seconds for result in answered if result.outcome is Outcome.OK]
    return {
        "region": region,
        "primary": region == estate.primary_region,
        "home": region == status.settings.home_region,
        "healthy": status.standing.health.regions.get(region, False),
        "breaker": live.breaker if live else "unknown",
        "breaker_since_seconds": round(live.since_seconds, 1) if live else None,
        "p50_seconds": percentile(seconds, 0.5),
        "p99_seconds": percentile(seconds, 0.99),
        "latency": [
            {"at_utc": _iso(r.started_at_utc), "seconds": round(r.duration_seconds, 6), "ok": r.outcome is Outcome.OK}
            for r in sorted(answered, key=lambda r: r.started_at_utc)
        ],
    }


def _canary(subject: Subject, standing: CanaryHealth, status: Status) -> dict[str, Any]:
    last = standing.last
    return {
        "canary": subject.canary,
        "region": subject.region,
        "key": subject.key,
        "state": str(standing.state),
        "since_utc": _iso(standing.since_utc) if standing.since_utc else None,
        "failures_in_a_row": standing.failures,
        "last": last.to_json() if last else None,
        "ticks": [
            {
                "outcome": str(tick.outcome),
                "reason": str(tick.reason) if tick.reason else None,
                "at_utc": _iso(tick.started_at_utc),
                "seconds": round(tick.duration_seconds, 6),
            }
            for tick in status.ticks.get(subject, ())
        ],
    }


def _drill(view: RunView, reports: frozenset[str]) -> dict[str, Any]:
    return {
        "run_id": view.run_id,
        "drill": view.drill,
        "region": view.region,
        "started_at_utc": _iso(view.started_at_utc) if view.started_at_utc else None,
        "ended_at_utc": _iso(view.ended_at_utc) if view.ended_at_utc else None,
        "active": view.active,
        "phase": view.phase if view.active else None,
        "verdict": str(view.verdict) if view.verdict else None,
        "healed": view.healed_by_reason or None,
        "broken": view.broken or None,
        "report": f"/drills/{view.run_id}/report.html" if view.run_id in reports else None,
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
