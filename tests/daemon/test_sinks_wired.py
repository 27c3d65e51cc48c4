"""The daemon's parts put together: what happens in one is told by the sinks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from daemon_kit import JournalFile, undo_record, write_undo
from otlp_collector import Collector, collecting
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_watchdog import aws, evacuation, logs
from kms_watchdog.config import Log, load
from kms_watchdog.daemon import Daemon
from kms_watchdog.override_store import FileStore
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.web.documents import status_document

NOWHERE = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1"]
[keys.general]
alias = "alias/general"
key_id = "mrk-0123456789abcdef0123456789abcdef"
[endpoints.us-east-1]
kms = "https://127.0.0.1:1"
cloudwatch = "https://127.0.0.1:1"
[core]
deadline_seconds = 0.5
max_retries = 0
[canaries]
kinds = ["round_trip", "failover_path"]
interval_seconds = 1
deadline_seconds = 0.9
[cloudwatch]
period_seconds = 10
[state]
dir = "state"
[overrides]
file = "overrides.json"
[otel]
enabled = true
interval_seconds = 86400
timeout_seconds = 0.5
"""
"""Nobody listens at these addresses: a look ends at once, and nothing leaves this machine."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


@pytest.fixture
def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> Iterator[tuple[Daemon, ExitStack]]:
    """A daemon that runs, and what ends it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws._session.cache_clear()
    config = tmp_path / "watchdog.toml"
    config.write_text(f"{NOWHERE}endpoint = {json.dumps(collector.url)}\n")
    settings, clock = load(config, environ={}), SystemClock()
    logs.configure(Log(format="json"), clock)
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    made = Daemon(settings, config, folder, clock)
    made.start()
    with ExitStack() as ending:
        ending.callback(aws._session.cache_clear)
        ending.callback(made.stop)
        yield made, ending


def value(daemon: Daemon, series: str) -> float:
    lines = daemon.exposition.render("")[0].decode().splitlines()
    found = [line for line in lines if line.startswith(f"kms_watchdog_{series} ")]
    return float(found[0].rpartition(" ")[2]) if found else -1.0


def test_every_way_out_tells_what_happens(
    running: tuple[Daemon, ExitStack], collector: Collector, new_drill: Callable[..., JournalFile]
) -> None:
    """Canaries, cache, log lines and faults: on `/metrics`, at OpenTelemetry's collector, on the way to CloudWatch.

    At the end the last numbers are exported once more.
    """
    daemon, ending = running
    drill = new_drill()
    drill.begin()
    with drill.folder.owned():
        write_undo(undo_record(drill.folder.run_id, expires_in=10**9), drill.folder)
        wait_until(lambda: daemon.watch.active_faults() == 1, says="the fault is seen")
        labels = 'canary="round_trip",key="general",mode="live",region="us-east-1"'
        wait_until(lambda: value(daemon, f"canary_consecutive_failures{{{labels}}}") >= 1, says="a look")
        wait_until(lambda: value(daemon, 'log_messages_total{level="warning"}') >= 1, says="a line is counted")
        wait_until(
            lambda: value(daemon, 'data_key_cache_requests_total{result="miss"}') >= 1, says="a look into the cache"
        )
        now = daemon.clock.now_utc().timestamp()
        assert daemon.cloudwatch is not None
        faults = [d for d in daemon.cloudwatch.sink.close(now + 10) if d.name == "FaultsActive"]
        jobs = {name for name, _ in daemon.scheduler.next_runs()}
        ending.close()
        told = collector.metrics()

    assert "otel.export" in jobs
    assert "kms_watchdog.canary_runs" in told
    assert told["kms_watchdog.faults_active"].gauge.data_points[0].as_double == 1
    assert faults[-1].values == (1.0,)
    assert value(daemon, "data_key_cache_entries") == 0
    assert value(daemon, "scheduler_heartbeat_timestamp_seconds") > 0
    assert value(daemon, 'circuit_breaker_state{mode="drill",region="us-east-1",state="closed"}') == 1


def test_orders_that_are_torn_show_until_they_are_whole(running: tuple[Daemon, ExitStack], tmp_path: Path) -> None:
    """As long as it is so, not once."""
    daemon, _ = running
    for text, shown in (("torn", 1), ('{"overrides": []}', 0)):
        (tmp_path / "overrides.json").write_text(text, encoding="utf-8")
        daemon.core.read_overrides()  # rather than wait for its next reading
        wait_until(lambda shown=shown: value(daemon, "region_orders_unreadable") == shown, says=f"it is {shown}")


def test_an_evacuation_shows_until_the_region_is_returned(running: tuple[Daemon, ExitStack], tmp_path: Path) -> None:
    """In the status document and in the metric, without a restart."""
    daemon, _ = running
    store, now_utc = FileStore(tmp_path / "overrides.json"), daemon.clock.now_utc()
    order = evacuation.order("us-east-1", lasts=timedelta(hours=1), reason="INC-7", by="ann", now_utc=now_utc)

    def told(metric: float) -> dict[str, object] | None:
        daemon.core.read_overrides()  # rather than wait for its next reading
        wait_until(lambda: value(daemon, 'region_evacuated{region="us-east-1"}') == metric, says=f"it is {metric}")
        found: dict[str, object] | None = status_document(daemon.status(), detail=True)["regions"][0]["evacuated"]
        return found

    before = told(0)
    store.change(lambda found: evacuation.with_order(found, order, now_utc))
    during = told(1)
    store.change(lambda found: evacuation.without(found, "us-east-1", now_utc))
    after = told(0)

    assert (before, after) == (None, None)
    assert during is not None
    assert (during["reason"], during["by"]) == ("INC-7", "ann")
