"""A drill as JSON: the content of `verdict.json`, and all that the report tells besides."""

from __future__ import annotations

import json
from typing import Any

from kms_chaos.export.account import Account

SCHEMA = 1


def values(a: Account) -> dict[str, Any]:
    """Return the account as JSON values; `judgement` is what `verdict.json` holds."""
    h = a.history
    return {
        "schema": SCHEMA,
        "judgement": a.judgement.to_json(),
        "says": a.says,
        "cut_short": a.cut_short,
        "closed": a.closed,
        "drill": {"title": h.drill.title, "why": h.drill.why.strip(), "mode": h.drill.mode},
        "started_at_utc": a.started.at_utc.isoformat(),
        "ended_at_utc": h.records[-1].at_utc.isoformat(),
        "targets": list(h.targets),
        "regions": list(h.regions),
        "purposes": list(h.purposes),
        "timings": [timing.to_json() for timing in a.timings],
        "key_loss": a.key_loss.to_json() if a.key_loss else None,
        "guards": [{"guard": g.name, "held": g.held, "detail": g.detail, "line": g.seq} for g in a.guards],
        "touched": [
            {"name": t.name, "region": t.region, "way": t.way, "toxics": list(t.toxics), "undone": t.undone}
            for t in a.touched
        ],
        "steps": [{"t": s.t, "what": s.what, "detail": s.detail, "line": s.seq, "bad": s.bad} for s in a.steps],
        "circumstances": dict(a.circumstances),
        "versions": a.started.fields.get("versions", {}),
        "events": dict(a.events),
    }


def render(a: Account) -> str:
    """Return the JSON text."""
    return json.dumps(values(a), indent=2, ensure_ascii=False) + "\n"
