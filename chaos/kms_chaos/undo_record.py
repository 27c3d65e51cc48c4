"""Write the undo record: the first thing a drill does, before anything is created that could outlive it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from kms_chaos import durable
from kms_chaos.drill import Drill
from kms_chaos.faults.plans import Ordered
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.undo import OWN_PROXIES, ProxyUndo, UndoRecord

MARGIN_SECONDS = 30.0
"""What a drill may take beyond the longest its file allows, before whoever finds it ends it."""


def proxy_name(run_id: str, region: str, service: str = "kms") -> str:
    """Return the name of the proxy that `run_id` makes for `region`; also safe in Toxiproxy's URLs."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{OWN_PROXIES}{run_id}.{region}{'' if service == 'kms' else f'.{service}'}")


def plan(
    *,
    run_id: str,
    drill: Drill,
    faults: Iterable[Ordered],
    upstreams: Mapping[str, str],
    toxiproxy_url: str,
    now_utc: datetime,
    services: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> UndoRecord:
    """Return what the drill may change, and until when at the latest.

    `upstreams` maps each region to `host:port` of its KMS, `services` each service beside it and region. The deadline
    is the longest the drill may hold its fault, after the longest baseline, and a margin.
    """
    toxics: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        toxics.setdefault((fault.service, fault.region), []).extend(toxic.name for toxic in fault.toxics)
    ends = {**{("kms", region): upstream for region, upstream in upstreams.items()}, **services}
    proxies = tuple(
        ProxyUndo(
            name=proxy_name(run_id, region, service),
            region=region,
            listen="127.0.0.1:0",
            upstream=upstream,
            made_by_drill=True,
            toxics=tuple(toxics.get((service, region), ())),
        )
        for (service, region), upstream in ends.items()
    )
    record = UndoRecord(
        run_id=run_id,
        drill=drill.name,
        toxiproxy_url=toxiproxy_url,
        created_at_utc=now_utc,
        expires_at_utc=now_utc,
        proxies=proxies,
    )
    return until(record, now_utc, drill.timing.baseline_at_most_seconds + drill.longest_fault_seconds)


def until(record: UndoRecord, now_utc: datetime, seconds: float) -> UndoRecord:
    """Return `record` with its deadline `seconds` and the margin after `now_utc`.

    A drill moves its deadline twice: when the fault begins, so that a drill that hangs then is ended as soon as may
    be, and when the fault is gone, so that nobody takes the proxies from under the recovery that it still measures.
    """
    return replace(record, expires_at_utc=now_utc + timedelta(seconds=seconds + MARGIN_SECONDS))


def write(folder: DrillFolder, record: UndoRecord) -> None:
    """Put `record` on disk in `folder`; it is durable, file and folder, when this returns."""
    durable.write(folder.undo, (json.dumps(record.to_json(), indent=2, sort_keys=True) + "\n").encode())
