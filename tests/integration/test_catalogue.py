"""The whole catalogue over the local AWS with its real alarms: each drill ends as declared, and the log agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until
from whole_processes import CLOCK

from kms_chaos import drill
from kms_chaos.faults.ordering import Bite
from kms_chaos.judging.history import History
from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folders

pytestmark = [pytest.mark.catalogue, pytest.mark.timeout(3600)]

ESTATES = 2
"""On each a part of the catalogue, one drill after the other: a lease lets in no more, and two cores carry two."""
CACHE_SECONDS = 12
"""How long a data key lives here: the drill of a revocation holds past it, and production's 300 s are no test's."""


@pytest.fixture
def demo(stage: Stage, tmp_path: Path) -> DemoFolder:
    """A local AWS with a running daemon, whose live alarms have data."""
    folder = DemoFolder(next(iter((tmp_path / "stage").iterdir())))
    with folder.configuration.open("a", encoding="utf-8") as config:
        config.write(f"\n[core]\ndata_key_ttl_seconds = {CACHE_SECONDS}\n")
    stage.start_daemon()
    return folder


@pytest.mark.parametrize("part", range(ESTATES))
def test_every_drill_ends_as_declared_and_the_regions_log_agrees(demo: DemoFolder, part: int) -> None:
    """All HELD, none missing, one journal each; what was not answered is not in the log, what was is."""
    names = drill.names()[part::ESTATES]
    environment = credentials(read_endpoints(demo))
    wait_until((demo.state / "history.db").exists, seconds=60, says="the daemon looks")
    began = CLOCK.monotonic()

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "kms_chaos",
            "catalogue",
            *names,
            "--arm",
            "--json",
            "--config",
            str(demo.configuration),
        ],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=3300,
    )

    print(ran.stderr, f"{CLOCK.monotonic() - began:.0f} s in all")
    told = json.loads(ran.stdout)
    assert [one["drill"] for one in told] == list(names)
    assert {one["drill"]: (one["verdict"], one["not_held"]) for one in told if one["verdict"] != "HELD"} == {}
    assert ran.returncode == 0
    log = [json.loads(line) for line in (demo.aws / "requests.ndjson").read_text().splitlines()]
    runs = {one.run_id: one for one in folders(demo.state)}
    for one in told:
        agrees(runs[one["run_id"]], log)


def agrees(where: DrillFolder, log: list[dict[str, Any]]) -> None:
    """See that the local KMS's request log says of one run what its journal says."""
    history = History.of(journal.read(where.journal))
    answered = {(entry["region"], entry["request_id"]): entry["at_utc"] for entry in log}
    asked = [r for r in history.of_event("attempt") if r.fields["request_id"]]
    ours = [r for r in asked if not str(r.fields["request_id"]).startswith("drill-")]  # KMS never saw those
    assert ours, where.run_id
    unknown = [r.seq for r in ours if (r.fields["region"], r.fields["request_id"]) not in answered]
    assert unknown == [], f"{where.run_id}: answers that the region never gave"
    for order in history.orders:
        injected, removed = history.put_on(order), history.taken_off(order)
        if injected is None or removed is None:
            continue
        sign = Bite.of_json(injected.fields["bite"])
        if not sign.whole or sign.operations:
            continue
        restoring = history.first("phase-started", phase="restore")
        end = min(removed.t, restoring.t) if restoring else removed.t
        during = [
            r.seq
            for r in ours
            if r.fields["region"] == order.region
            and not r.fields["error_code"]
            and not sign.shown_by(error_code="", seconds=r.fields["seconds"], operation="")  # a crawl's are late
            and r.t - r.fields["seconds"] > injected.t  # what was under way before may have got through
            and r.t <= end  # and what was, as it was lifted, too
        ]
        assert during == [], f"{where.run_id}: {order.id} was on, and the region answered all the same"
