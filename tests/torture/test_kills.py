"""Thirty kills under load: nothing acknowledged is lost, no fault is left, no second drill runs, all recover.

The full run is `python tests/torture kills`. KMS_WATCHDOG_KILL_SEED chooses another seed, KMS_WATCHDOG_KILLS another
number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kill_arena import Arena, arena
from kill_figures import Figures
from kill_ledger import Kept, read_kept
from kill_plan import VICTIMS
from kill_rounds import CLOCK, Torture
from waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.minutes(6), pytest.mark.timeout(3000)]


KILLS = int(os.environ.get("KMS_WATCHDOG_KILLS", "30"))
SEED = int(os.environ.get("KMS_WATCHDOG_KILL_SEED", "20261130"))


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    """Daemon, drill, Toxiproxy and local AWS are killed and stopped at drawn instants, and all goes on."""
    figures = Figures(seed=SEED)
    try:
        with arena(tmp_path / "arena") as made:
            torture = Torture(made, figures)
            torture.run(KILLS)
            assert figures.findings == []
            torture.finish()
    except BaseException as e:
        e.add_note(f"seed {SEED}, after {figures.rounds} rounds and {figures.kills.total()} kills, in {tmp_path}")
        raise
    print(json.dumps(figures.to_json(), indent=1))

    assert figures.findings == []
    assert figures.kills.total() >= KILLS
    assert set(figures.recoveries) == set(VICTIMS) - {"drill"} or KILLS < 30
    assert figures.faults_injected > 0, "no drill came so far as to break something"
    assert figures.acknowledged["looks_told"] == figures.found["looks_told"] > 0
    assert figures.acknowledged["metrics"] == figures.found["metrics"] + figures.not_told > 0


def test_what_is_lost_or_left_on_purpose_is_noticed(tmp_path: Path) -> None:
    """Of the real processes: each thing that a run must not find is done, one after the other, and found."""
    with arena(tmp_path / "arena") as made:
        torture = Torture(made, Figures(seed=SEED))
        wait_until(lambda: looks(made) > 20, says="it has looked")
        made.services["aws"].signal(signal.SIGKILL)
        wait_until(lambda: missed(made), says="a look has failed and a period waits for CloudWatch", seconds=120)
        made.services["daemon"].signal(signal.SIGKILL)
        torture._acknowledge()
        kept = torture.before

        change(made, "history.db", "DELETE FROM results WHERE id = (SELECT max(id) FROM results)")
        assert noticed(torture, kept, torture._acknowledge, "is gone or another")
        change(made, "history.db", "UPDATE hourly SET ok = 0, failed = 0, blind = 0 WHERE mode = 'live'")
        torture.life.tell(0.0, 1)
        assert noticed(torture, kept, lambda: torture._compare(CLOCK.monotonic()), "looks had been told of")

        change(made, "cloudwatch.db", "DELETE FROM waiting")
        made.services["aws"].start()
        wait_until(lambda: made.recovered("aws"), says="the local AWS is back", seconds=120)
        torture._acknowledge()
        assert noticed(torture, torture.before, torture._settle_deliveries, "never got")

        made._ask("POST", "/proxies", {"name": "kmswd.x.us-east-1", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"})
        assert noticed(torture, torture.before, torture._look_at_all, "Toxiproxy: kmswd.x.us-east-1 is left")
        made._ask("POST", "/proxies/theirs", {"enabled": False})
        assert noticed(torture, torture.before, torture._look_at_all, "Toxiproxy: theirs was")

        torture.figures.acknowledged["aws_writes"] = made.writes.last + 1_000_000
        assert noticed(torture, torture.before, torture._look_at_all, "was answered, has")

        (made.state / "slots.db-wal").unlink(missing_ok=True)  # else what it holds would be read
        shutil.copy(made.config, made.state / "slots.db")
        assert noticed(torture, torture.before, torture._look_at_all, "slots.db:")


def looks(made: Arena) -> int:
    return made.live_looks() if made.tells_of_itself() else 0


def missed(made: Arena) -> bool:
    """Whether there is a look that is kept whole, and a metric in the queue."""
    kept = read_kept(made.state)
    return bool(kept.rows and kept.waiting)


def change(made: Arena, name: str, statement: str) -> None:
    """Do what no daemon does."""
    with closing(sqlite3.connect(made.state / name)) as db, db:
        assert db.execute(statement).rowcount > 0


def noticed(torture: Torture, before: Kept, look: Callable[[], object], said: str) -> bool:
    """Whether a look finds what is said, from what was there before on."""
    torture.before, torture.figures.findings = before, []
    look()
    return any(said in finding for finding in torture.figures.findings)
