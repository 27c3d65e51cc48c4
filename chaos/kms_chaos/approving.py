"""Write an approval: leave for one drill, as it is now, on its regions, until a moment."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from kms_chaos import durable
from kms_chaos.run import Run
from kms_watchdog.drills import approval as approvals
from kms_watchdog.drills.approval import Approval, hash_of
from kms_watchdog.durable import make_folders, sync_folder
from kms_watchdog.identity import Identity


def approve(run: Run, who: Identity, *, reason: str, for_hours: float) -> Path:
    """Write `who`'s leave for `run` into the state folder, on disk when this returns; return the file."""
    now = run.clock.now_utc()
    granted = Approval(
        drill=run.drill.name,
        drill_hash=hash_of(run.drill.model_dump(mode="json")),
        regions=run.hurt,
        estate=run.settings.estate.name,
        approved_by=who.arn,
        approved_at_utc=now,
        until_utc=now + timedelta(hours=for_hours),
        reason=reason,
    )
    folder = approvals.folder(run.settings.state.dir)
    make_folders(folder)
    sync_folder(folder.parent)
    path = folder / f"{now:%Y%m%dT%H%M%S%fZ}-{run.drill.name}.json"
    durable.write(path, json.dumps(granted.to_json(), indent=2).encode() + b"\n")
    return path
