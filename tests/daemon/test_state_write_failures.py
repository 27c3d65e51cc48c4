"""A disk that is full, and a log that is written: both are counted, and the daemon goes on."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import structlog
from daemon_kit import result
from waiting import wait_until

from kms_core.testing import ManualClock
from kms_watchdog import logs, metrics
from kms_watchdog.config import Log
from kms_watchdog.results import Outcome
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.prometheus import Exposition


def failures(exposition: Exposition) -> float:
    lines = exposition.render("")[0].decode().splitlines()
    of_history = [li for li in lines if li.startswith('kms_watchdog_state_write_failures_total{file="history"}')]
    return float(of_history[0].rpartition(" ")[2]) if of_history else 0.0


def test_a_history_that_cannot_be_written_is_counted_and_said_once(tmp_path: Path, clock: ManualClock) -> None:
    """The page lives from memory; what could not be written comes once there is room."""
    exposition = Exposition()
    failed = partial(exposition.add, metrics.STATE_WRITE_FAILURES, "history")
    history = HistorySink(tmp_path / "history.db", clock, failed=failed)
    (pages,) = history._file.call(lambda db: db.execute("PRAGMA page_count").fetchone())
    history._file.call(lambda db: db.execute(f"PRAGMA max_page_count={pages:d}").fetchone())

    with structlog.testing.capture_logs() as said:
        for number in range(2):
            for look in range(200):
                history.write(result(Outcome.FAILED, at=200 * number + look, detail="x" * 200))
            history.flush()
            wait_until(lambda before=number: failures(exposition) > before, says="the write fails")  # type: ignore[misc] # a default is a later round's number otherwise
        history._file.call(lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())
        history.flush()
        wait_until(lambda: any(entry["event"] == "history.recovered" for entry in said), says="it is written")
    shown = len(history.failures())
    history.close()
    again = HistorySink(tmp_path / "history.db", clock)
    kept = len(again.failures())
    again.close()

    assert [entry["event"] for entry in said] == ["history.failed", "history.recovered"]
    assert "full" in said[0]["error"]
    assert shown == kept == 50


def test_every_line_of_the_log_is_counted_by_its_level(capsys: pytest.CaptureFixture[str], clock: ManualClock) -> None:
    """Those of the standard library's loggers too, and whatever is configured anew meanwhile; until it is ended."""
    counted: Counter[str] = Counter()
    logs.configure(Log(format="json"), clock)
    stop = logs.count_lines(lambda level: counted.update([level]))
    logs.configure(Log(format="json", level="warning"), clock)

    structlog.get_logger("x").warning("one")
    structlog.get_logger("x").info("below the level: no line, no count")
    logging.getLogger("library").error("two")
    logging.getLogger("library").log(35, "between warning and error")
    stop()
    logging.getLogger("library").error("after the end")

    assert counted == {"warning": 2, "error": 1}
    assert len(capsys.readouterr().err.splitlines()) == 4
