"""A drill as Chaos Toolkit's `journal.json`, as chaostoolkit-lib 1.45.1 writes it (reference drills.md, section 6).

The format has no third answer, and ours must not turn green on the way: HELD alone is `completed` and not `deviated`.
BROKE is `deviated`. INCONCLUSIVE is a baseline that was not met where it was that, else `interrupted`, or `aborted`
where the drill itself died. The hypothesis *before* is the canaries; that *after* is the drill's own claims. The true
verdict and all that the format has no place for are in `x-kms-drill`, with a schema number of its own.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kms_chaos.export.account import Account
from kms_chaos.faults.plans import Ordered
from kms_chaos.judging.after import restore_failed
from kms_chaos.judging.history import History, Look
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim, Verdict
from kms_watchdog.results import Outcome

FORMAT = "1.45.1"
"""The version of chaostoolkit-lib whose format this is; who wrote it is in `x-kms-drill`."""
SCHEMA = 1
EXTENSION = "x-kms-drill"
_MODULE = "kms_chaos.ctk"
_CRASHED = "crashed:"
_BASELINE_MISSED = "the steady state was not there before"


def render(a: Account) -> str:
    """Return the JSON text."""
    return json.dumps(values(a), indent=2, ensure_ascii=False) + "\n"


def values(a: Account) -> dict[str, Any]:
    """Return the journal as JSON values."""
    h, first, last = a.history, a.started, a.history.records[-1]
    status, why = _status(a)
    return {
        "chaoslib-version": FORMAT,
        "platform": f"Python {first.fields.get('versions', {}).get('python', 'unknown')}",
        "node": str(first.fields.get("owner", {}).get("host", "unknown")),
        "experiment": experiment(a),
        "start": _time(first.at_utc),
        "status": status,
        "deviated": a.judgement.verdict is Verdict.BROKE,
        "steady_states": {"before": _before(h), "after": _after(a), "during": list(_during(h))},
        "run": list(_run(h)),
        "rollbacks": list(_rollbacks(h)),
        "end": _time(last.at_utc),
        "duration": round(last.t - first.t, 6),
        **why,
        EXTENSION: _extension(a),
    }


def experiment(a: Account) -> dict[str, Any]:
    """Return the drill as an experiment: what `chaos run` would take, without our judge."""
    h = a.history
    return {
        "version": "1.0.0",
        "title": h.drill.title,
        "description": " ".join(h.drill.why.split()),
        "tags": ["kms-watchdog", h.drill.mode],
        "dry": None,
        "runtime": {"rollbacks": {"strategy": "always"}, "hypothesis": {"strategy": "continuously"}},
        "extensions": [{"name": EXTENSION, "drill": h.drill.name, "rto_seconds": h.drill.objectives.rto_seconds}],
        "steady-state-hypothesis": {
            "title": "every region serves",
            "probes": [_canary_probe(region) for region in h.regions]
            + [_claim_probe(h.run_id, c) for c in a.judgement.claims],
        },
        "method": [_inject(order) for order in h.orders],
        "rollbacks": [_heal(region) for region in dict.fromkeys(order.region for order in h.orders)],
    }


def _status(a: Account) -> tuple[str, dict[str, Any]]:
    """Return the status, and the fields that tell why it is not `completed`."""
    h, verdict = a.history, a.judgement.verdict
    stopped = h.stopped
    reason = str(stopped.fields["reason"]) if stopped else ""
    if stopped is not None and (stopped.event == "healed" or reason.startswith(_CRASHED)):
        return "aborted", {}
    tripped = [g for g in a.guards if not g.held]
    if tripped:
        results = [{"name": g.name, "output": g.detail, "status": "failed"} for g in tripped]
        return "interrupted", {"safeguards": {"triggered_by": tripped[0].name, "run": results}}
    if _baseline_missed(h, reason):
        return "completed", {}
    if stopped is not None:
        kind = "signal" if reason in signal.Signals.__members__ else "control"
        return "interrupted", {"interruption": {"kind": kind, "name": reason, "reason": reason}}
    if verdict is Verdict.INCONCLUSIVE:
        unclear = "; ".join(c.finding for c in a.judgement.claims if c.verdict is verdict)
        return "interrupted", {"interruption": {"kind": EXTENSION, "name": str(verdict), "reason": unclear}}
    return "completed", {}


def _baseline_missed(h: History, reason: str) -> bool:
    return h.injected is None and reason.startswith(_BASELINE_MISSED)


def _before(h: History) -> dict[str, Any] | None:
    """Return what the canaries said last before the fault; of a baseline that was missed, it is not met."""
    missed = _baseline_missed(h, str(h.stopped.fields["reason"]) if h.stopped else "")
    looks = [look for look in h.looks if h.injected is None or look.record.seq < h.injected.seq]
    if not looks and not missed:
        return None
    state = _state(h, looks, last_only=True)
    return {**state, "steady_state_met": state["steady_state_met"] and not missed}


def _during(h: History) -> Iterator[dict[str, Any]]:
    """Yield what the canaries of the regions that no fault may touch said meanwhile."""
    if h.fault is not None:
        began, ended = h.fault
        inside = [look for look in h.looks if look.began >= began and look.record.t <= ended]
        yield _state(h, [look for look in inside if look.where[0] in h.others])


def _after(a: Account) -> dict[str, Any] | None:
    if a.history.injected is None:
        return None
    last, run_id = a.history.records[-1], a.history.run_id
    probes = [
        _result(_claim_probe(run_id, c), str(c.verdict), last, met=c.verdict is Verdict.HELD)
        for c in a.judgement.claims
    ]
    return {"steady_state_met": a.judgement.verdict is Verdict.HELD, "probes": probes}


def _state(h: History, looks: list[Look], *, last_only: bool = False) -> dict[str, Any]:
    probes = []
    for region in h.regions:
        found = [look for look in looks if look.where[0] == region]
        if last_only:
            found = list({look.where: look for look in found}.values())
        if found:
            ratio = sum(look.outcome is Outcome.OK for look in found) / len(found)
            probes.append(_result(_canary_probe(region), round(ratio, 4), found[-1].record, met=ratio == 1.0))
    return {"steady_state_met": bool(probes) and all(p["tolerance_met"] for p in probes), "probes": probes}


def _run(h: History) -> Iterator[dict[str, Any]]:
    tried = h.first("phase-started", phase="inject")
    for order in h.orders:
        if record := h.put_on(order):
            yield _result(_inject(order), {"fault_id": order.id, "seen": True}, record)
        elif tried:
            why = f"the {order.kind} of {order.region} was not seen to be on"
            yield {**_result(_inject(order), None, tried), "status": "failed", "exception": [why]}


def _rollbacks(h: History) -> Iterator[dict[str, Any]]:
    verified = h.of_event("restore-verified")
    last, why = (verified or h.records)[-1], restore_failed(h)
    for region in dict.fromkeys(order.region for order in h.orders if h.put_on(order)):
        if why:
            yield {**_result(_heal(region), None, last), "status": "failed", "exception": [why]}
        else:
            yield _result(_heal(region), {"left": []}, last)


def _result(activity: dict[str, Any], output: Any, record: Record, *, met: bool | None = None) -> dict[str, Any]:
    at = _time(record.at_utc)
    told = {"activity": activity, "output": output, "start": at, "status": "succeeded", "end": at, "duration": 0.0}
    return told if met is None else {**told, "tolerance_met": met}


def _activity(kind: str, name: str, func: str, arguments: dict[str, Any]) -> dict[str, Any]:
    provider = {"type": "python", "module": _MODULE, "func": func, "arguments": arguments}
    return {"type": kind, "name": name, "provider": provider}


def _canary_probe(region: str) -> dict[str, Any]:
    arguments = {"region": region, "window_seconds": 30}
    probe = _activity("probe", f"canaries in {region}", "canary_success_ratio", arguments)
    return {**probe, "tolerance": {"type": "range", "range": [1.0, 1.0]}}


def _claim_probe(run_id: str, claim: Claim) -> dict[str, Any]:
    """Return the probe that one claim is: asked of the journal, since no live system can answer it."""
    provider = {"type": "process", "path": "kms-chaos", "arguments": ["judge", run_id, "--json"]}
    return {"type": "probe", "name": claim.title, "provider": provider, "tolerance": str(Verdict.HELD)}


def _inject(order: Ordered) -> dict[str, Any]:
    return _activity("action", f"inject {order.kind} in {order.region}", "inject", _arguments(order))


def _arguments(order: Ordered) -> dict[str, Any]:
    return {"fault": order.kind, "region": order.region}


def _heal(region: str) -> dict[str, Any]:
    return _activity("action", f"heal {region}", "heal", {"region": region})


def _time(at_utc: datetime) -> str:
    return at_utc.isoformat(timespec="microseconds")


def _extension(a: Account) -> dict[str, Any]:
    j = a.judgement
    return {
        "schema": SCHEMA,
        "producer": {
            "name": "kms-watchdog",
            "version": a.started.fields.get("versions", {}).get("kms-watchdog", "unknown"),
        },
        "run_id": j.run_id,
        "verdict": str(j.verdict),
        "conclusive": j.verdict is not Verdict.INCONCLUSIVE,
        "cut_short": a.cut_short,
        "claims": j.to_json()["claims"],
        "figures": dict(j.figures),
        "timings": [timing.to_json() for timing in a.timings],
        "key_loss": a.key_loss.to_json() if a.key_loss else None,
        "journal_head": j.journal_head,
    }
