"""What is said over HTTP, as JSON values: the setup guide's `/health`, and the status document. Pure.

Strangers learn codes: which look failed where, why in a word of a closed list, since when. Whoever shows the token also
learns the detail: the service's own code, request ids, what the canary saw and says, and why people moved traffic.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kms_core import RegionHealth
from kms_core.overrides import RegionOverride
from kms_watchdog import evacuation
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.health import (
    USE_KINDS,
    Board,
    CanaryHealth,
    Health,
    Reason,
    Subject,
    below_paging,
    pages,
    regions_down,
)
from kms_watchdog.results import PAIR, CanaryResult, Kind, Outcome
from kms_watchdog.results import Reason as Why
from kms_watchdog.sharding import seen_in_part
from kms_watchdog.sinks.health import Standing
from kms_watchdog.web.words import FLAWS, kind_words, reason_words

SCHEMA = 2
"""1: `ticks` instead of `runs`, detail for everybody, no `kinds`, `reason_groups`, `below_paging`."""
DRILLS_SHOWN = 20
LATENCIES_SHOWN = 1000
"""Looks of a region, the newest: as many as its drawing can show, whatever the number of keys."""
SHARED_FATE = frozenset(
    {
        Why.ERROR,
        Why.TIMEOUT,
        Why.THROTTLED,
        Why.DENIED,
        Why.DNS,
        Why.CONNECT,
        Why.TLS,
        Why.NO_CREDENTIALS,
        Why.OWN_DEADLINE,
        Why.UNREADABLE,
    }
)
"""What any canary says of a region that does not answer: where round trips are down, they say it for all."""


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
    orders: Sequence[RegionOverride]
    """People's word on regions that the daemon's core follows now."""
    ticks: Mapping[Subject, Sequence[CanaryResult]]
    failures: Sequence[CanaryResult]
    runs: Sequence[RunView]
    reports: frozenset[str]
    """Ids of the runs that have a report."""
    next_runs: Sequence[tuple[str, datetime]]


def health_document(health: Health, now_utc: datetime, *, detail: bool = False) -> dict[str, Any]:
    """Return the setup guide's health answer, and why."""
    return {
        "status": str(health.status),
        "timestamp": _iso(now_utc),
        "regions": dict(health.regions),
        "circuitBreakers": {region: {"state": state.upper()} for region, state in health.breakers.items()},
        "reasons": [_reason(reason, detail=detail) for reason in health.reasons],
    }


def status_document(status: Status, *, detail: bool = False) -> dict[str, Any]:
    """Return what the status page shows; the page is rendered from this very document."""
    health = status.standing.health
    flaws = {Subject(r.canary, r.region, r.key): str(r.code) for r in health.reasons if r.canary}
    down = regions_down(status.board)
    settings = status.settings
    in_part = seen_in_part(status.board.canaries, settings.keys, settings.estate.regions)
    canaries = [
        {
            **_canary(subject, standing, status, flaws.get(subject, ""), detail=detail),
            "because": _because(subject.canary, subject.region, standing.last, down),
        }
        for subject, standing in status.board.canaries.items()
    ]
    return {
        "schema": SCHEMA,
        "detail": detail,
        "status": str(health.status),
        "since_utc": _iso(status.standing.since_utc),
        "now_utc": _iso(status.now_utc),
        "started_at_utc": _iso(status.started_at_utc),
        "version": status.version,
        "estate": status.settings.estate.name,
        **_place(status.settings),
        "interval_seconds": status.settings.canaries.timing(Kind.ROUND_TRIP).interval_seconds,
        "reasons": [_reason(reason, detail=detail) for reason in health.reasons],
        "reason_groups": reason_groups(health.reasons, down, runbooks_url=status.settings.http.runbooks_url),
        "below_paging": [subject.id for subject in below_paging(status.board)],
        "regions": [_region(region, status, detail=detail) for region in status.settings.estate.regions],
        "keys": [_key(purpose, key.alias, status, in_part) for purpose, key in status.settings.keys.items()],
        "kinds": _kinds(canaries, status.settings),
        "canaries": canaries,
        "failures": [_result(result, detail=detail) for result in status.failures],
        "failure_groups": failure_groups(status.failures, detail=detail),
        "drills": [_drill(view, status.reports, detail=detail) for view in status.runs[:DRILLS_SHOWN]],
        "jobs": _jobs(status.next_runs),
    }


def reason_groups(
    reasons: Iterable[Reason], down: Collection[str] = (), *, runbooks_url: str | None = None
) -> list[dict[str, Any]]:
    """Return reasons of one code and one kind of canary as one entry each, in words, with their places.

    What fails because round trips are `down` in its region is one entry, the last, of code `with_region`: else the
    cause would be one line among a dozen.
    """
    groups: dict[tuple[str, str], list[Reason]] = {}
    consequences: list[Reason] = []
    for reason in reasons:
        if reason.canary and _because(reason.canary, reason.region, reason.last, down):
            consequences.append(reason)
        else:
            groups.setdefault((reason.code, reason.canary), []).append(reason)
    found = [_reason_group(code, kind, group, runbooks_url) for (code, kind), group in groups.items()]
    return [*found, _consequences(consequences, down)] if consequences else found


def failure_groups(failures: Sequence[CanaryResult], *, detail: bool = False) -> list[dict[str, Any]]:
    """Return failures of one cause in one region as one entry each; `failures` and the groups are newest first."""
    groups: dict[tuple[str, ...], list[CanaryResult]] = {}
    for result in failures:
        code = result.error_code if detail else ""
        cause = (result.mode, result.canary, result.region, result.outcome, str(result.reason), code)
        groups.setdefault(cause, []).append(result)
    return [
        {
            "mode": str(group[0].mode),
            "canary": group[0].canary,
            "title": kind_words(group[0].canary).title,
            "region": group[0].region,
            "keys": sorted({result.key for result in group if result.key}),
            "outcome": str(group[0].outcome),
            "reason": str(group[0].reason),
            "words": reason_words(group[0].reason),
            "error_code": group[0].error_code if detail else None,
            "request_id": group[0].request_id if detail else None,
            "detail": group[0].detail if detail else None,
            "count": len(group),
            "last_at_utc": _iso(group[0].started_at_utc),
            "first_at_utc": _iso(group[-1].started_at_utc),
            "slowest_seconds": round(max(result.duration_seconds for result in group), 6),
        }
        for group in groups.values()
    ]


def runs_of(ticks: Iterable[CanaryResult]) -> list[dict[str, Any]]:
    """Return looks with one answer after another as one entry each; oldest first, as given."""
    return [
        {
            "outcome": str(outcome),
            "reason": str(reason) if reason else None,
            "count": len(run),
            "first_at_utc": _iso(run[0].started_at_utc),
            "last_at_utc": _iso(run[-1].started_at_utc),
            "slowest_seconds": round(max(tick.duration_seconds for tick in run), 6),
        }
        for (outcome, reason), grouped in itertools.groupby(ticks, key=lambda tick: (tick.outcome, tick.reason))
        if (run := list(grouped))
    ]


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the nearest-rank percentile of `values`, e.g. share 0.99; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def result_document(result: CanaryResult) -> dict[str, Any]:
    """Return one look's result for who may see all of it."""
    return _result(result, detail=True)


def _reason(reason: Reason, *, detail: bool) -> dict[str, Any]:
    last = reason.last
    values: dict[str, Any] = {
        "code": reason.code,
        "region": reason.region or None,
        "key": reason.key or None,
        "canary": reason.canary or None,
        "age_seconds": _rounded(reason.age_seconds),
        "why": str(last.reason) if last and last.reason else None,
    }
    if detail and last and last.reason:
        values |= {"error_code": last.error_code, "request_id": last.request_id, "detail": last.detail}
    return values


def _reason_group(code: str, kind: str, reasons: Sequence[Reason], runbooks_url: str | None) -> dict[str, Any]:
    places: dict[str, list[Reason]] = {}
    for reason in reasons:
        places.setdefault(reason.region, []).append(reason)
    words = kind_words(kind)
    runbook = f"{runbooks_url}{words.runbook}" if runbooks_url and words.runbook and kind else None
    return {
        "code": code,
        "canary": kind or None,
        "title": words.title if kind else None,
        "words": FLAWS[code],
        "meaning": words.failing if kind and code in {"down", "never_ok"} else "",
        "runbook": runbook,
        "count": len(reasons),
        "places": [
            {
                "region": region or None,
                "keys": [reason.key for reason in found if reason.key],
                "why": list(dict.fromkeys(reason_words(r.last.reason) for r in found if r.last and r.last.reason)),
                "age_seconds": _rounded(max((r.age_seconds for r in found if r.age_seconds is not None), default=None)),
            }
            for region, found in places.items()
        ],
    }


def _consequences(reasons: Sequence[Reason], down: Collection[str]) -> dict[str, Any]:
    titles = dict.fromkeys(kind_words(reason.canary).title for reason in reasons)
    return {
        "code": "with_region",
        "canary": None,
        "title": ", ".join(titles),
        "words": FLAWS["with_region"],
        "meaning": "",
        "runbook": None,
        "count": len(reasons),
        "places": [{"region": region, "keys": [], "why": [], "age_seconds": None} for region in sorted(down)],
    }


def _because(kind: str, region: str, last: CanaryResult | None, down: Collection[str]) -> str | None:
    """Return the region whose outage explains what a canary last said; None: it speaks for itself."""
    if kind in USE_KINDS or last is None or last.reason not in SHARED_FATE:
        return None
    return next((part for part in region.split(PAIR) if part in down), None)


def _region(region: str, status: Status, *, detail: bool) -> dict[str, Any]:
    estate, live = status.settings.estate, status.regions.get(region)
    answered = [
        result
        for subject, results in status.ticks.items()
        if subject.region == region and subject.canary in USE_KINDS
        for result in results
        if result.outcome is not Outcome.BLIND
    ]
    seconds = [result.duration_seconds for result in answered if result.outcome is Outcome.OK]
    forced = live.forced_reason if live else ""
    return {
        "region": region,
        "primary": region == estate.primary_region,
        "home": region == status.settings.home_region,
        **_healthy(region, status),
        "breaker": live.breaker if live else "unknown",
        "breaker_since_seconds": round(live.since_seconds, 1) if live else None,
        "forced": bool(forced),
        "forced_reason": forced or None if detail else None,
        "evacuated": _evacuated(evacuation.evacuated(status.orders).get(region), detail=detail),
        "p50_seconds": percentile(seconds, 0.5),
        "p99_seconds": percentile(seconds, 0.99),
        "latency": [
            {"at_utc": _iso(r.started_at_utc), "seconds": round(r.duration_seconds, 6), "ok": r.outcome is Outcome.OK}
            for r in sorted(answered, key=lambda r: r.started_at_utc)[-LATENCIES_SHOWN:]
        ],
    }


def _place(settings: Settings) -> dict[str, Any]:
    """Return which of several watchdogs this is; nothing where it is the only one."""
    shared = settings.replicas
    return {"place": shared.place, "members": list(shared.members)} if shared.members else {}


def _healthy(region: str, status: Status) -> dict[str, Any]:
    """Return whether a region is well; of one that other places look at alone, that nobody here can tell."""
    healthy = status.standing.health.regions.get(region)
    if not status.settings.replicas.members:
        return {"healthy": bool(healthy)}
    return {"healthy": healthy, "watched": healthy is not None}


def _key(purpose: str, alias: str, status: Status, in_part: Collection[str]) -> dict[str, Any]:
    """Return whether a key is usable somewhere; where others look in other regions, nowhere here may mean nothing."""
    usable = status.standing.health.keys.get(purpose, False)
    if not status.settings.replicas.members:
        return {"purpose": purpose, "alias": alias, "usable": usable}
    return {
        "purpose": purpose,
        "alias": alias,
        "usable": usable or (None if purpose in in_part else False),
        "watched": purpose not in in_part,
    }


def _evacuated(order: RegionOverride | None, *, detail: bool) -> dict[str, Any] | None:
    """Return until when a region is asked last, why, and who said so; None: nobody did."""
    if order is None:
        return None
    reason, by = evacuation.reason_and_by(order) if detail else (None, None)
    return {"until_utc": _iso(order.until_utc.astimezone(UTC)), "reason": reason, "by": by}


def _canary(subject: Subject, standing: CanaryHealth, status: Status, flaw: str, *, detail: bool) -> dict[str, Any]:
    last = standing.last
    return {
        "id": subject.id,
        "canary": subject.canary,
        "region": subject.region,
        "key": subject.key,
        "state": str(standing.state),
        "shown": _shown(standing, flaw),
        "since_utc": _iso(standing.since_utc) if standing.since_utc else None,
        "failures_in_a_row": standing.failures,
        "not_ok_since_utc": _iso(standing.not_ok_since_utc) if standing.not_ok_since_utc else None,
        "pages": pages(subject, standing),
        "last": _result(last, detail=detail) if last else None,
        "runs": runs_of(status.ticks.get(subject, ())),
    }


def _shown(standing: CanaryHealth, flaw: str) -> str:
    """Return one word for a canary: up, failing, recovering, down, blind, stale or unknown."""
    ok = standing.last is not None and standing.last.outcome is Outcome.OK
    match flaw:
        case "never_probed":
            return "unknown"
        case "blind" | "stale":
            return flaw
        case "down":
            return "recovering" if ok else "down"
        case _:
            return "failing" if standing.failures else "up"


def _kinds(canaries: Sequence[Mapping[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    kinds = dict.fromkeys(canary["canary"] for canary in canaries)
    url = settings.http.runbooks_url
    found = []
    for kind in kinds:
        words, shown = kind_words(kind), [canary["shown"] for canary in canaries if canary["canary"] == kind]
        found.append(
            {
                "kind": kind,
                "title": words.title,
                "question": words.question,
                "meaning": words.failing,
                "runbook": f"{url}{words.runbook}" if url and words.runbook else None,
                "interval_seconds": settings.canaries.timing(kind).interval_seconds,
                "counts": {word: shown.count(word) for word in dict.fromkeys(shown)},
            }
        )
    return found


def _result(result: CanaryResult, *, detail: bool) -> dict[str, Any]:
    values = result.to_json()
    if not detail:
        values |= dict.fromkeys(("error_code", "request_id", "detail", "facts"))
    return values


def _drill(view: RunView, reports: frozenset[str], *, detail: bool) -> dict[str, Any]:
    runs = view.active and not view.orphaned
    return {
        "run_id": view.run_id,
        "elsewhere": view.elsewhere,  # another machine ran it; its report is in the evidence store
        "host": view.host or None if detail else None,
        "drill": view.drill,
        "region": view.region,
        "started_at_utc": _iso(view.started_at_utc) if view.started_at_utc else None,
        "ended_at_utc": _iso(view.ended_at_utc) if view.ended_at_utc else None,
        "active": runs,
        "killed": view.active and view.orphaned,  # its process is gone, and its fault not yet undone
        "phase": view.phase if runs else None,
        "verdict": str(view.verdict) if view.verdict else None,
        "healed": view.healed_by_reason or None,
        "broken": bool(view.broken),
        "broken_detail": view.broken or None if detail else None,
        "report": f"/drills/{view.run_id}/report.html" if view.run_id in reports else None,
    }


def _jobs(next_runs: Sequence[tuple[str, datetime]]) -> list[dict[str, Any]]:
    """Return the soonest job of each kind, and how many there are of it; `next_runs` is soonest first."""
    groups: dict[str, list[tuple[str, datetime]]] = {}
    for name, at in next_runs:
        groups.setdefault(name.partition(":")[0], []).append((name, at))
    return [
        {"kind": kind, "count": len(jobs), "id": jobs[0][0], "next_run_utc": _iso(jobs[0][1])}
        for kind, jobs in groups.items()
    ]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
