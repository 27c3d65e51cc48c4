"""`status`: the daemon's document of any version so far, in the terminal; and who is shown the token."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import START
from rich.console import Console

from kms_core.overrides import FileOverrides
from kms_core.testing import ManualClock
from kms_watchdog import evacuation, status_client
from kms_watchdog.cli import command
from kms_watchdog.commands import status
from kms_watchdog.config import Settings, load
from kms_watchdog.override_store import FileStore
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.status_client import NoAnswerError, View, view
from kms_watchdog.web.server import bind

TOKEN = "a-token-of-the-tests-0123456789abcdef"

DOCUMENT: dict[str, Any] = {
    "schema": 2,
    "status": "degraded",
    "since_utc": "2026-01-01T00:00:00Z",
    "now_utc": "2026-01-01T01:30:00Z",
    "version": "0.1.0",
    "estate": "test",
    "reasons": [
        {"code": "down", "region": "eu-west-1", "key": "pii", "canary": "round_trip"},
        {"code": "breaker_open", "region": "eu-west-1", "key": None, "canary": None},
    ],
    "regions": [
        {"region": "us-east-1", "healthy": True, "breaker": "closed", "p50_seconds": 0.02, "p99_seconds": 0.09},
        {"region": "eu-west-1", "healthy": False, "breaker": "open", "p50_seconds": None, "p99_seconds": None},
    ],
    "keys": [{"purpose": "pii", "alias": "alias/pii", "usable": True}],
    "canaries": [
        {"canary": "round_trip", "region": "us-east-1", "key": "pii", "state": "up", "last": {"outcome": "OK"}},
        {
            "canary": "round_trip",
            "region": "eu-west-1",
            "key": "pii",
            "state": "down",
            "since_utc": "2026-01-01T01:00:00Z",
            "failures_in_a_row": 12,
            "last": {"outcome": "FAILED", "reason": "timeout", "error_code": "ReadTimeout", "detail": "[red]no answer"},
        },
        {"canary": "clock_offset", "region": "us-east-1", "key": "", "state": "up", "last": {"outcome": "BLIND"}},
    ],
    "drills": [
        {"active": True, "drill": "blackhole", "region": "us-east-1", "phase": "hold", "run_id": "r1"},
        {"active": False, "killed": True, "drill": "latency", "region": "eu-west-1", "phase": None, "run_id": "r2"},
        {"active": False, "killed": False, "drill": "over", "region": "eu-west-1", "phase": None, "run_id": "r3"},
    ],
}
HEALTHY = {**DOCUMENT, "status": "healthy", "reasons": [], "canaries": [], "drills": []}


class Daemon:
    """Answers with what a test sets, and remembers what it was asked."""

    def __init__(self) -> None:
        self.body, self.code, self.asked = json.dumps(DOCUMENT), 200, list[tuple[str, str | None]]()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(outer.code)
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.close()


@pytest.fixture
def run(daemon: Daemon, write_config: Callable[..., Path]) -> Callable[..., Result]:
    """Run `status` where http.json names the daemon."""
    config = write_config(f'[http]\ntoken = "{TOKEN}"\n[overrides]\nfile = "overrides.json"\n')
    folder = StateFolder(load(config).state.dir)
    folder.prepare()
    folder.tell_url(daemon.url)

    def run_it(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["status", *arguments, "--config", str(config)])

    return run_it


def test_status_is_lines_when_piped(run: Callable[..., Result], daemon: Daemon, tmp_path: Path) -> None:
    """What is wrong first comes to grep; orders as they are written; 1, since it is not healthy."""
    new = evacuation.order(
        "us-east-1", lasts=timedelta(hours=1), reason="INC-7", by="ann", now_utc=ManualClock().now_utc()
    )
    FileStore(tmp_path / "overrides.json").change(lambda _: [new])
    assert FileOverrides(tmp_path / "overrides.json").read() == (new,)

    told = run()

    assert told.exit_code == 1
    assert told.stdout.splitlines()[:7] == [
        "status\tdegraded for 1h30m (test, version 0.1.0)",
        "region\tus-east-1\thealthy\tbreaker closed\tp50 20.0ms\tp99 90.0ms",
        "region\teu-west-1\tdown\tbreaker open\tp50 n/a\tp99 n/a",
        "key\tpii\talias/pii\tusable",
        "canary\tdown\tround_trip:eu-west-1:pii\t30m\t12 in a row\tFAILED timeout ReadTimeout\t[red]no answer",
        "canary\tup\tclock_offset:us-east-1\t\t\tBLIND\t",
        "reason\tdown:round_trip:eu-west-1:pii",
    ]
    assert "drill\tblackhole us-east-1 hold r1" in told.stdout
    assert "drill\tlatency eu-west-1 r2: killed, not yet undone" in told.stdout
    assert "r3" not in told.stdout
    assert daemon.asked == [("/api/v1/status", f"Bearer {TOKEN}")]


def test_a_healthy_daemon_is_0(run: Callable[..., Result], daemon: Daemon) -> None:
    """For scripts."""
    daemon.body = json.dumps(HEALTHY)

    assert run().exit_code == 0


def test_json_is_the_daemons_own(run: Callable[..., Result]) -> None:
    """Untouched, with the same exit code."""
    told = run("--json")

    assert (told.exit_code, json.loads(told.stdout)) == (1, DOCUMENT)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        pytest.param("{}", 200, "not with a status document", id="another-service"),
        pytest.param("[1]", 200, "not with a status document", id="a-list"),
        pytest.param("<html>", 200, "not with a status document", id="a-page"),
        pytest.param("no", 401, "answers 401 Unauthorized", id="wrong-token"),
    ],
)
def test_another_answer_is_no_answer(
    run: Callable[..., Result], daemon: Daemon, body: str, code: int, says: str
) -> None:
    """3, one line."""
    daemon.body, daemon.code = body, code

    told = run()

    assert (told.exit_code, len(told.stderr.splitlines())) == (3, 1)
    assert says in told.stderr


def test_nobody_there_is_3(write_config: Callable[..., Path]) -> None:
    """Neither where http.json says, nor where the configuration does."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    fixed = write_config(f'[http]\nlisten = "127.0.0.1:{port}"\n', name="fixed.toml")
    free = write_config('[http]\nlisten = "127.0.0.1:0"\n', name="free.toml")

    refused = CliRunner().invoke(command, ["status", "--config", str(fixed)])
    none = CliRunner().invoke(command, ["status", "--config", str(free)])

    assert (refused.exit_code, none.exit_code) == (3, 3)
    assert f"no answer from http://127.0.0.1:{port}" in refused.stderr
    assert "no daemon runs" in none.stderr


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:9464", "http://"])
def test_what_is_no_address_is_told(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(NoAnswerError, match="not an http"):
        status_client.fetch(url, TOKEN)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("http://127.0.0.1:9464", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("https://watchdog.example", True),
        ("http://watchdog.example", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_the_token_stays_on_this_machine_or_in_tls(url: str, *, goes: bool) -> None:
    """Never in the clear over a network."""
    assert status_client.may_carry_token(url) is goes


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9464", "http://127.0.0.1:9464"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("127.0.0.1:0", None),
    ],
)
def test_where_a_daemon_listens_here(write_config: Callable[..., Path], listen: str, url: str | None) -> None:
    """All addresses include this machine's own."""
    assert status.listening(load(write_config(f'[http]\nlisten = "{listen}"\n'))) == url


def test_documents_of_other_versions_are_read() -> None:
    """What is missing is left out, what is new is passed over; only a status and a time there must be."""
    least = view({"status": "healthy", "now_utc": "2026-01-01T00:00:00Z"})
    newer = view({**DOCUMENT, "schema": 9, "status": "splendid", "regions": [{"region": "x"}], "keys": "later"})

    assert (least.healthy, least.regions, least.canaries) == (True, (), 0)
    assert newer.healthy is False
    assert newer.regions[0].cells == ("x", "down", "breaker ", "p50 n/a", "p99 n/a")
    with pytest.raises(KeyError):
        view({"status": "healthy"})


def test_a_terminal_is_shown_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """What a canary says is no markup; a daemon that went away is said in words."""
    console = Console(force_terminal=True, width=160)

    status.show(view(DOCUMENT), ["avoid us-east-1 until noon"], console)
    status.show("no answer from x", [], console)

    written = capsys.readouterr().out
    for text in ("degraded for 1h30m", "[red]no answer", "1 of 3 canaries are up", "avoid us-east-1", "drill runs"):
        assert text in written
    assert "\x1b[" in written
    assert "no answer from x" in written


def test_what_a_region_takes_with_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Once a region is down, dozens fail with it: on 80 columns, what is wrong by itself stands whole above them."""
    down = DOCUMENT["canaries"][1]
    with_it = {**down, "canary": "key_state", "state": "up", "shown": "blind", "because": "eu-west-1"}
    document = {**DOCUMENT, "canaries": [down, *[{**with_it, "key": str(n)} for n in range(27)]]}

    status.show(view(document), [], Console(force_terminal=True, width=80))
    written = capsys.readouterr().out

    assert "down  round_trip:eu-west-1:pii  30m  12 in a row" in written
    assert "27 more fail, or see nothing, with eu-west-1" in written
    assert "key_state" not in written
    assert view(document).troubles[1].cells[0] == "blind"


def test_no_color_is_honoured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By everything that draws on a terminal (no-color.org)."""
    monkeypatch.setenv("NO_COLOR", "1")

    status.show(view(DOCUMENT), [], Console(force_terminal=True, width=160))

    assert "\x1b[31m" not in capsys.readouterr().out


class Until(ManualClock):
    """A clock on which a person presses Ctrl-C in the `turns`th pause."""

    def __init__(self, turns: int, pause: Callable[[int], None]) -> None:
        super().__init__()
        self.left, self.pause = turns, pause

    def wait(self, event: threading.Event, timeout_seconds: float) -> bool:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        self.pause(self.left)
        return False


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_goes_on_when_the_daemon_is_away(
    settings: Settings, capsys: pytest.CaptureFixture[str], *, terminal: bool
) -> None:
    """It says so, and shows the next answer; Ctrl-C ends with the last one's code."""
    answers: list[dict[str, Any] | None] = [HEALTHY, HEALTHY, None, DOCUMENT]

    def ask() -> dict[str, Any]:
        answer = answers.pop(0)
        if answer is None:
            raise NoAnswerError("no answer from here")
        return answer

    code = status.follow(ask, settings, Console(force_terminal=terminal, width=160), Until(3, lambda _: None), 2.0)

    written = capsys.readouterr().out
    assert code == 1
    assert written.index("healthy") < written.index("no answer from here") < written.index("degraded")


def test_watching_nobody_ends_at_once(settings: Settings) -> None:
    """Nothing to begin with."""

    def ask() -> dict[str, Any]:
        raise NoAnswerError("no answer")

    with pytest.raises(NoAnswerError):
        status.follow(ask, settings, Console(), Until(1, lambda _: None), 2.0)


def test_the_exit_code_is_the_healths() -> None:
    """0 for healthy alone."""
    assert [status.exit_code(view({"status": s, "now_utc": START.isoformat()})) for s in ("healthy", "degraded")] == [
        0,
        1,
    ]
    assert isinstance(view(HEALTHY), View)
