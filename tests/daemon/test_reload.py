"""A reload while the watchdog runs: good configurations change what can change, bad ones nothing; numbers go on."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from botocore.client import BaseClient
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_core.events import BreakerMoved
from kms_watchdog import aws
from kms_watchdog.config import Log, Settings, load
from kms_watchdog.daemon import HOUSEKEEPING, Daemon
from kms_watchdog.reload import Reloading, unchangeable
from kms_watchdog.results import Mode
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.sink import Seen
from kms_watchdog.state_folder import StateFolder

NOWHERE = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = {regions}
[keys.general]
alias = "alias/general"
key_id = "mrk-0123456789abcdef0123456789abcdef"
[endpoints.us-east-1]
kms = "https://127.0.0.1:1"
cloudwatch = "https://127.0.0.1:1"
[endpoints.us-west-2]
kms = "https://127.0.0.1:1"
cloudwatch = "https://127.0.0.1:1"
[core]
deadline_seconds = 0.5
max_retries = 0
[canaries]
kinds = ["round_trip"]
interval_seconds = {interval}
deadline_seconds = 0.9
[state]
dir = "{state}"
[http]
listen = "127.0.0.1:{port}"
"""
"""Nobody listens at these addresses: a look ends at once, and nothing leaves this machine."""


class Site:
    """A daemon that runs, and the file it was made from."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, SystemClock()
        self.write()
        settings = load(path, environ={})
        self.folder = StateFolder(settings.state.dir)
        self.folder.prepare()
        self.log = list[Log]()
        self.running = Reloading(
            self.build(settings),
            load=lambda: load(path, environ={}),
            build=self.build,
            set_log=self.log.append,
        )
        self.running.start()
        self.runs_now = True

    def stop(self, *, spent_seconds: float = 0.0) -> bool:
        """Stop it, unless it is stopped; return whether every thread has ended."""
        was_running, self.runs_now = self.runs_now, False
        return self.running.stop(spent_seconds=spent_seconds) if was_running else True

    def build(self, settings: Settings, before: Daemon | None = None) -> Daemon:
        return Daemon(settings, self.path, self.folder, self.clock, before=before)

    def write(self, more: str = "", **changed: object) -> None:
        both = '["us-east-1", "us-west-2"]'
        values = {"regions": both, "interval": 1.0, "state": "state", "port": 0, **changed}
        self.path.write_text(NOWHERE.format(**values) + more)

    def reload(self) -> tuple[bool, list[dict[str, object]]]:
        with structlog.testing.capture_logs() as logs:
            taken = self.running.reload()
        return taken, [dict(entry) for entry in logs if str(entry["event"]).startswith("config.")]

    def value(self, name: str, **labels: str) -> float:
        lines = self.running.exposition.render("")[0].decode().splitlines()
        found = [line for line in lines if line.startswith(f"kms_watchdog_{name}")]
        return sum(
            float(line.rpartition(" ")[2]) for line in found if all(f'{k}="{v}"' in line for k, v in labels.items())
        )

    def runs(self, region: str) -> float:
        return self.value("canary_runs_total", region=region)

    def wait_for_a_round(self) -> None:
        before = self.runs("us-west-2"), self.runs("us-east-1")
        wait_until(
            lambda: self.runs("us-west-2") > before[0] and self.runs("us-east-1") > before[1], says="a round of looks"
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws._session.cache_clear()
    made = Site(tmp_path / "watchdog.toml")
    made.wait_for_a_round()
    yield made
    made.stop()
    aws._session.cache_clear()


def test_a_good_configuration_is_taken_and_numbers_go_on(site: Site) -> None:
    """Another interval, a region less: counters and standing of what stays go on, what is gone is gone."""
    wait_until(lambda: site.value("canary_consecutive_failures", region="us-east-1") >= 2, says="failures in a row")
    before, ticks = site.runs("us-east-1"), len(site.running.history.ticks())
    site.write("[log]\nlevel = 'debug'\n", regions='["us-east-1"]', interval=60.0)
    text = site.path.read_text()
    gone, rest = text.index("[endpoints.us-west-2]"), text.index("[core]")
    site.path.write_text(text[:gone] + text[rest:])

    taken, logs = site.reload()

    assert (taken, [entry["event"] for entry in logs]) == (True, ["config.reloaded"])
    assert site.value("config_last_reload_successful") == 1
    assert site.value("canary_interval_seconds", canary="round_trip") == 60
    assert site.value("build_info") == 1  # of the new configuration alone
    assert site.running.kept.queue.length("us-east-1") > 0  # what was counted for CloudWatch by then
    assert site.runs("us-east-1") >= before
    assert site.runs("us-west-2") == 0
    assert "us-west-2" not in site.running.exposition.render("")[0].decode()
    (health,) = site.running.health.board().canaries.values()
    assert health.failures >= 2
    assert len(site.running.history.ticks()) == ticks
    assert [log.level for log in site.log] == ["debug"]
    assert {name for name, _ in site.running.scheduler.next_runs()} >= {"round_trip:us-east-1:general", "heartbeat"}


BAD: tuple[tuple[str, dict[str, object], str], ...] = (
    ("[log]\nlevl = 'info'\n", {}, "log.levl: unknown key; did you mean level?"),
    ("", {"interval": 0.5}, "deadline_seconds must be below interval_seconds"),
    ("", {"state": "other"}, "state.dir: cannot change without a restart"),
    ("", {"port": 9}, "http.listen: cannot change without a restart"),
)


def test_a_bad_configuration_changes_nothing(site: Site) -> None:
    """The old one stays and works; the metric and one line of the log say so, until a good one comes."""
    daemon = site.running._daemon
    for more, changed, why in BAD:
        site.write(more, **changed)

        taken, logs = site.reload()

        assert not taken
        assert site.value("config_last_reload_successful") == 0
        assert [entry["event"] for entry in logs] == ["config.refused"]
        assert why in str(logs[0]["why"])
    assert site.running._daemon is daemon
    before = site.runs("us-east-1")
    wait_until(lambda: site.runs("us-east-1") > before, says="it looks on")
    site.write()
    assert site.reload()[0]
    assert site.value("config_last_reload_successful") == 1


@pytest.mark.slow
def test_reloads_leave_nothing_behind(site: Site) -> None:
    """Every thread that a replaced daemon began ends; no open file, no client, no daemon more after eight than two."""
    began_with, born = set(threading.enumerate()), set[threading.Thread]()
    before = _there()
    for turn in range(8):
        site.wait_for_a_round()  # its pools begin their threads with the first work
        born |= set(threading.enumerate()) - began_with
        assert site.reload()[0]
        if turn == 1:
            before = _there()
    assert born
    wait_until(lambda: not any(thread.is_alive() for thread in born), seconds=90, says="threads end")
    wait_until(lambda: _there().files <= before.files + 2, says="files are closed")
    after = _there()

    assert after.daemons <= before.daemons
    assert after.clients <= before.clients


@dataclass(frozen=True)
class There:
    """What this process holds."""

    files: int
    daemons: int
    clients: int


def _there() -> There:
    gc.collect()
    held = gc.get_objects()
    return There(
        files=len(list(Path("/proc/self/fd").iterdir())),
        daemons=sum(isinstance(each, Daemon) for each in held),
        clients=sum(isinstance(each, BaseClient) for each in held),
    )


def test_what_nobody_foresaw_does_not_end_the_watchdog(site: Site) -> None:
    """An error of any other kind while the new parts are built is a refusal too."""

    def fails(_: Settings, __: Daemon) -> Daemon:
        raise ZeroDivisionError

    site.running._build, build = fails, site.running._build
    taken, logs = site.reload()
    site.running._build = build

    assert not taken
    assert [(entry["event"], entry["why"]) for entry in logs] == [("config.refused", "ZeroDivisionError")]
    assert site.value("config_last_reload_successful") == 0
    assert site.reload()[0]


def test_a_refused_reload_leaves_nothing_of_it(site: Site) -> None:
    """Neither its series nor its files: the next one would write to a second connection of the same file."""
    site.write("[canaries.alarm_path]\ndefinitions = 'none'\n[keys.pii]\nalias = 'alias/pii'\n")
    text = site.path.read_text().replace('kinds = ["round_trip"]', 'kinds = ["golden", "round_trip", "alarm_path"]')
    site.path.write_text(text)

    taken, logs = site.reload()

    assert not taken
    assert "none" in str(logs[0]["why"])
    assert 'key="pii"' not in site.running.exposition.render("")[0].decode()
    wait_until(lambda: "sqlite-golden" not in {t.name for t in threading.enumerate()}, says="its file is closed")


def test_a_reload_while_a_drill_runs_leaves_its_breaker_open(site: Site) -> None:
    """The drill has breakers of its own: shown as closed, its alarm would clear too soon and the drill be lost."""
    moved = BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures")
    site.running.prometheus.on_event(Seen(event=moved, mode=Mode.DRILL, at_utc=site.clock.now_utc()))

    assert site.reload()[0]

    assert site.value("circuit_breaker_state", region="us-east-1", mode="drill", state="open") == 1
    assert site.value("circuit_breaker_state", region="us-east-1", mode="live", state="closed") == 1


def something_hangs(site: Site) -> threading.Event:
    """Have a job that hangs until what is returned is set, or for half a minute."""
    began, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        go_on.wait(30)

    site.running.scheduler.add(
        Job(id="hangs", kind="hangs", action=hang, interval_seconds=60, pool=HOUSEKEEPING, first_within_seconds=0)
    )
    assert began.wait(10)
    return go_on


@pytest.mark.slow
def test_a_thread_that_hung_when_another_took_over_is_not_forgotten(site: Site) -> None:
    """Else the process would be left to the interpreter, which waits for that thread, and would never end."""
    go_on = something_hangs(site)

    taken, _ = site.reload()
    ended = site.stop()
    go_on.set()

    assert taken
    assert not ended


def test_what_was_counted_is_kept_though_something_hangs_at_the_end(site: Site) -> None:
    """The running period was lost whenever a thread had not ended: in an outage, that is."""
    go_on = something_hangs(site)

    ended = site.stop(spent_seconds=4)
    go_on.set()

    assert not ended
    with closing(sqlite3.connect(site.folder.metric_queue)) as db:
        assert db.execute("SELECT count(*) FROM waiting WHERE region = 'us-east-1'").fetchone()[0] > 0


def test_steps_of_the_clock_and_failed_cycles_are_metrics(site: Site) -> None:
    """Told from outside the scheduler: inside it nothing might be running any more."""
    inner = site.running.scheduler._inner
    inner.steps, inner.failed_cycles, inner.restarts = 2, 3, 1

    site.running.supervise()
    site.running.supervise()

    assert site.value("scheduler_clock_steps_total") == 2
    assert site.value("scheduler_thread_restarts_total") == 1
    assert site.value("scheduler_failed_cycles") in {3, 0}  # the next good cycle takes it back


def test_readiness_survives_what_a_reload_adds(site: Site) -> None:
    """Who is ready stays ready, also while a new canary has not looked yet."""
    wait_until(lambda: not site.running.waiting_for(), says="it is ready")
    site.write("[keys.pii]\nalias = 'alias/pii'\nkey_id = 'mrk-1123456789abcdef0123456789abcdef'\n", interval=60)

    assert site.reload()[0]

    assert site.running.waiting_for() == ()
    wait_until(lambda: site.value("canary_runs_total", key="pii") >= 2, says="the new canaries look soon")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("[log]\nlevel = 'debug'\n", "", id="log"),
        pytest.param("[prometheus]\nenabled = false\n", "prometheus.enabled", id="metrics-route"),
        pytest.param("[http]\ntoken = 'aaaaaaaaaaaaaaaaaaaa'\n", "http.token", id="token"),
    ],
)
def test_what_needs_a_restart_is_named(write_config: Callable[..., Path], more: str, key: str) -> None:
    """The key itself."""
    before, after = load(write_config(), environ={}), load(write_config(more, name="after.toml"), environ={})

    assert unchangeable(before, after) == key
