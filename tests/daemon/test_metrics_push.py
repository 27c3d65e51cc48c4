"""What a command leaves behind at its end: a push or a file; what fails is said, and changes and holds up nothing."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import pytest
import structlog
from daemon_kit import JournalFile, result
from ports import nobody
from waiting import wait_until

from kms_core import SystemClock
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.health import Subject
from kms_watchdog.results import Mode, Outcome
from kms_watchdog.sinks import push

SUBJECTS = [Subject("round_trip", region, "general") for region in ("us-east-1", "us-west-2")]
USER, PASSWORD = "pusher", "s3cret%2Fp%40ss"  # as it stands in a URL
HASH = "$2b$04$5/BgNKa9V81KwyqbFdXrc.ivuKbbkbyYRsx/4pB/0KrcVzKi1NEhK"


@contextmanager
def gateway(*options: str) -> Iterator[str]:
    """Run Debian's Pushgateway on a free port; where it is not installed, skip, but not in CI."""
    program = shutil.which("prometheus-pushgateway")
    if program is None:
        assert os.environ.get("CI") != "true", "CI installs prometheus-pushgateway"
        pytest.skip("no prometheus-pushgateway here: Debian has a package of that name")
    # Debian's default keeps what was pushed in /var/lib, for the next test to find.
    command = [program, "--web.listen-address=127.0.0.1:0", "--persistence.file=", *options]
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stderr=said) as process:
        try:
            wait_until(lambda: _address(said) or process.poll() is not None, says="the Pushgateway listens")
            yield _address(said)
        finally:
            process.terminate()


def _address(said: IO[str]) -> str:
    said.seek(0)
    found = re.search(r'msg="Listening on" address=(\S+)', said.read())
    return found[1] if found else ""


def metrics_of(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen, and have `answer` do what it does with each connection once the request has begun to come."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                answer(connection)

    serving = threading.Thread(target=serve)
    serving.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    serving.join(10)
    listener.close()


@pytest.fixture
def configured(write_config: Callable[..., Path]) -> Callable[..., Settings]:
    """Load a configuration with these lines under `[prometheus]`."""
    return lambda *rows: load(write_config("[prometheus]\n" + "\n".join(rows) + "\n"))


def leave(settings: Settings, outcome: Outcome = Outcome.OK) -> list[str]:
    """Leave one round behind; return what was logged about it."""
    sink = push.round_sink(settings, SUBJECTS)
    sink.write(result(outcome))
    with structlog.testing.capture_logs() as logs:
        push.leave_round(sink, settings)
    return [f"{entry['event']} {entry['to']} {entry['error']}" for entry in logs]


def test_a_round_is_pushed(configured: Callable[..., Settings]) -> None:
    """Under a job and an instance of its own; the next round takes its place; no series of a daemon's is in it."""
    with gateway() as address:
        settings = configured(f'push_url = "http://{address}"')

        first, second = leave(settings, Outcome.FAILED), leave(settings)

        told = metrics_of(address)
    labels = 'canary="round_trip",instance="test-us-east-1",job="kms-watchdog-once",key="general",mode="live"'
    assert (first, second) == ([], [])
    assert f'kms_watchdog_canary_up{{{labels},region="us-east-1"}} 1' in told
    assert f'kms_watchdog_canary_runs_total{{{labels},region="us-east-1",result="timeout"}} 0' in told
    assert f'kms_watchdog_canary_runs_total{{{labels},region="us-west-2",result="success"}} 0' in told
    assert "scheduler_heartbeat" not in told
    assert 'mode="drill"' not in told


def test_the_gateways_password_is_shown_to_it_alone(configured: Callable[..., Settings], tmp_path: Path) -> None:
    """Taken from the URL; a wrong one is refused, and neither stands in the log."""
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  {USER}: {HASH}\n")
    with gateway(f"--web.config.file={tmp_path / 'web.yml'}") as address:
        right = leave(configured(f'push_url = "http://{USER}:{PASSWORD}@{address}"'))
        wrong = leave(configured(f'push_url = "http://{USER}:wrong@{address}"'))
        none = leave(configured(f'push_url = "http://{address}"'))

    assert right == []
    assert wrong == none == [f"metrics.push_failed {address} HTTPError: HTTP Error 401: Unauthorized"]


def refuse(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n")


def nonsense(connection: socket.socket) -> None:
    connection.sendall(b"what?\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [pytest.param(refuse, "HTTP Error 500: Sorry", id="500"), pytest.param(nonsense, "BadStatusLine", id="not-http")],
)
def test_a_gateway_that_fails_is_one_line(
    configured: Callable[..., Settings], answer: Callable[[socket.socket], None], error: str
) -> None:
    """Where to, and why."""
    with server(answer) as address:
        (said,) = leave(configured(f'push_url = "http://{address}"'))

    assert said.startswith(f"metrics.push_failed {address}")
    assert error in said


def test_a_gateway_that_is_not_there_is_one_line(configured: Callable[..., Settings]) -> None:
    """Refused at once."""
    (said,) = leave(configured(f'push_url = "http://127.0.0.1:{nobody()}"'))

    assert "Connection refused" in said


def test_a_gateway_that_trickles_holds_up_nobody(configured: Callable[..., Settings]) -> None:
    """A byte now and then keeps every timeout of the socket from passing: the push has a deadline of its own."""
    let_go = threading.Event()
    trickled: SimpleQueue[int] = SimpleQueue()
    clock = SystemClock()

    def trickle(connection: socket.socket) -> None:
        while not clock.wait(let_go, 0.05):
            connection.sendall(b"H")
            trickled.put(1)

    with server(trickle) as address:
        (said,) = leave(configured(f'push_url = "http://{address}"', "push_timeout_seconds = 0.3"))
        let_go.set()

    assert said == f"metrics.push_failed {address} not within 0.3 s"
    assert trickled.qsize() > 1


def test_a_round_is_left_in_a_file(configured: Callable[..., Settings], tmp_path: Path) -> None:
    """Whole or not at all: nothing else is in the folder then."""
    settings = configured('textfile = "metrics/kms.prom"')
    folder = tmp_path / "metrics"
    missing = leave(settings)
    folder.mkdir()

    there = leave(settings)

    assert there == []
    assert "No such file or directory" in missing[0]
    assert [path.name for path in folder.iterdir()] == ["kms.prom"]
    assert 'kms_watchdog_canary_up{canary="round_trip",key="general"' in (folder / "kms.prom").read_text()


def test_a_push_that_fails_keeps_no_file_from_being_written(
    configured: Callable[..., Settings], tmp_path: Path
) -> None:
    """Both are tried."""
    settings = configured(f'push_url = "http://127.0.0.1:{nobody()}"', 'textfile = "kms.prom"')

    said = leave(settings)

    assert len(said) == 1
    assert (tmp_path / "kms.prom").exists()


def test_a_drill_is_left_as_its_journal_tells_it(
    configured: Callable[..., Settings], new_drill: Callable[..., JournalFile], tmp_path: Path
) -> None:
    """Verdict, detection, its canaries as mode="drill"; grouped by the drill, so that drills keep apart."""
    drill = new_drill()
    drill.begin()
    drill.append("canary-result", result=result(Outcome.FAILED, at=1, mode=Mode.DRILL).to_json())
    drill.append("verdict", verdict="HELD", claims={}, figures={"detect_seconds": 2.5})
    drill.append("closed", at=70, by="drill", verdict="HELD")
    with gateway() as address:
        settings = configured(f'push_url = "http://{address}"', 'textfile = "kms.prom"')

        push.leave_drill(drill.folder, settings)

        told = metrics_of(address)
    of_the_drill = 'drill="region-blackhole",instance="test-us-east-1",job="kms-chaos"'
    assert f'kms_watchdog_drill_runs_total{{{of_the_drill},result="held"}} 1' in told
    assert f"kms_watchdog_drill_detection_seconds{{{of_the_drill}}} 2.5" in told
    assert f'kms_watchdog_canary_up{{canary="round_trip",{of_the_drill},key="general",mode="drill"' in told
    assert 'mode="live"' not in told
    written = (tmp_path / "kms.prom").read_text()
    assert 'kms_watchdog_canary_runs_total{canary="round_trip",key="general",mode="drill"' in written


def test_nothing_is_left_where_nothing_is_configured(settings: Settings, new_drill: Callable[..., JournalFile]) -> None:
    """Not even the journal is read."""
    assert not push.is_wanted(settings)

    push.leave_drill(new_drill().folder, settings)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        pytest.param('push_url = "gateway:9091"', "prometheus.push_url: should be http:// or https://", id="url"),
        pytest.param('textfile = "kms.txt"', "prometheus.textfile: should end in .prom", id="suffix"),
    ],
)
def test_a_place_that_cannot_be_one_is_refused(configured: Callable[..., Settings], row: str, says: str) -> None:
    """When the configuration is read, not at the end of a drill."""
    with pytest.raises(ConfigError, match=re.escape(says)):
        configured(row)
