"""What is said over HTTP: documents, the page, and how the page must not be attacked."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_kit import START, result

from kms_core import RegionHealth
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings
from kms_watchdog.drills.follow import RunView
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Board, Health, Subject, assess, board
from kms_watchdog.results import Mode, Outcome
from kms_watchdog.sinks.health import Standing
from kms_watchdog.web.app import PAGE_POLICY, application
from kms_watchdog.web.documents import Status, failure_groups, health_document, percentile, status_document
from kms_watchdog.web.page import Page, ago, chart, clock, duration, milliseconds, tally
from kms_watchdog.web.server import ListenError, WebServer, bind, url_of

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
SUBJECTS = [Subject("round_trip", region, key) for region in REGIONS for key in ("general", "payment")]
RUN = "20260101T000000Z-region-blackhole"


def board_with(*, down: str | None = None) -> Board:
    standing = board(SUBJECTS)
    for s in SUBJECTS:
        outcome = Outcome.FAILED if s.region == down else Outcome.OK
        for i in range(3):
            standing = standing.fold(result(outcome, region=s.region, key=s.key, at=i), now=0.0)
    return standing


class FakeWatchdog:
    """What is served, with everything at hand to set."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        self.settings, self.clock = settings, ManualClock()
        self.is_alive, self.missing = True, tuple[str, ...]()
        self.board = board_with()
        self.failures = (result(Outcome.FAILED, at=5, error_code="ReadTimeout"),)
        self.runs = (
            RunView(
                run_id=RUN,
                drill="region-blackhole",
                region="us-east-1",
                started_at_utc=START,
                closed=True,
                verdict=Verdict.HELD,
            ),
        )
        self.report_file = tmp_path / "report.html"
        self.crash = False

    def alive(self) -> bool:
        return self.is_alive

    def waiting_for(self) -> tuple[str, ...]:
        return self.missing

    def health_now(self) -> Health:
        if self.crash:
            raise RuntimeError("a secret detail")
        breakers = dict.fromkeys(REGIONS, "closed")
        return assess(self.board, breakers, now=0.0, stale_after_seconds=90)

    def status(self) -> Status:
        return Status(
            settings=self.settings,
            version="1.2.3",
            now_utc=START + timedelta(seconds=60),
            started_at_utc=START,
            standing=Standing(self.health_now(), START),
            board=self.board,
            regions={r: RegionHealth(region=r, breaker="closed", since_seconds=1.0, joined=True) for r in REGIONS},
            ticks={s: (result(at=1, region=s.region, key=s.key), result(at=2, region=s.region)) for s in SUBJECTS},
            failures=self.failures,
            runs=self.runs,
            reports=frozenset({RUN}),
            next_runs=(("heartbeat", START),),
        )

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        return b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def report(self, run_id: str) -> Path | None:
        return self.report_file if run_id == RUN else None


@pytest.fixture
def watchdog(settings: Settings, tmp_path: Path) -> FakeWatchdog:
    return FakeWatchdog(settings, tmp_path)


Get = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def get(watchdog: FakeWatchdog) -> Iterator[Get]:
    """Ask a real server on a free port."""
    listener = bind("127.0.0.1", 0)
    server = WebServer(application(watchdog, Page(), with_metrics=True), listener)
    server.start()
    port = int(url_of(listener).rpartition(":")[2])

    def ask(path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    yield ask
    server.stop()


@pytest.mark.parametrize(
    ("down", "code", "status"),
    [
        pytest.param(None, 200, "healthy", id="healthy"),
        pytest.param("us-east-1", 503, "degraded", id="degraded"),
    ],
)
def test_health_answers_as_the_setup_guide_says(
    get: Get, watchdog: FakeWatchdog, down: str | None, code: int, status: str
) -> None:
    """Code, status, timestamp, regions, breakers; and why."""
    watchdog.board = board_with(down=down)

    found, _, body = get("/health")

    document = json.loads(body)
    assert (found, document["status"]) == (code, status)
    assert set(document) == {"status", "timestamp", "regions", "circuitBreakers", "reasons"}
    assert document["regions"] == {region: region != down for region in REGIONS}
    assert document["circuitBreakers"]["us-west-2"] == {"state": "CLOSED"}
    assert document["timestamp"] == "2026-01-01T00:00:00.000Z"


def test_unhealthy_is_500(get: Get, watchdog: FakeWatchdog) -> None:
    """No fresh answer at all."""
    watchdog.board = board(SUBJECTS)

    assert get("/health")[0] == 500


def test_strangers_learn_no_detail_of_an_error(get: Get, watchdog: FakeWatchdog) -> None:
    """Reason codes only; what went wrong inside is for the log."""
    watchdog.board = board_with(down="us-east-1")
    degraded = get("/health")[2]
    watchdog.crash = True
    with structlog.testing.capture_logs() as logs:
        code, _, body = get("/health")

    assert b"ReadTimeout" not in degraded
    assert (code, json.loads(body)) == (500, {"status": "unhealthy", "error": "internal"})
    assert [entry["event"] for entry in logs] == ["http.failed"]


def test_livez_depends_on_nothing_outside(get: Get, watchdog: FakeWatchdog) -> None:
    """Every region down is no reason to be killed; a stalled scheduler is."""
    watchdog.board, watchdog.crash = board(SUBJECTS), True
    assert get("/livez")[0] == 200

    watchdog.is_alive = False
    assert get("/livez")[0] == 503


def test_readyz_says_what_is_missing(get: Get, watchdog: FakeWatchdog) -> None:
    """By name."""
    watchdog.missing = ("first_round",)
    code, _, body = get("/readyz")
    watchdog.missing = ()

    assert (code, json.loads(body)) == (503, {"ready": False, "waiting_for": ["first_round"]})
    assert get("/readyz")[0] == 200


def test_the_page_and_the_json_tell_the_same(get: Get, watchdog: FakeWatchdog) -> None:
    """One document, two forms."""
    document = json.loads(get("/api/v1/status")[2])

    page = get("/")[2].decode()

    assert document == json.loads(json.dumps(status_document(watchdog.status())))
    for key in document["keys"]:
        assert key["alias"] in page
    for drill in document["drills"]:
        assert drill["report"] in page
    assert "Healthy" in page
    assert "HELD" in page


@pytest.mark.parametrize("path", ["/", "/fragment"])
def test_the_page_runs_and_loads_nothing_but_its_own(get: Get, path: str) -> None:
    """A strict policy, no inline style or script, no address elsewhere."""
    _, headers, body = get(path)
    page = body.decode()

    assert headers["content-security-policy"] == PAGE_POLICY
    assert "'unsafe" not in PAGE_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son\w+=", page)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)


def test_what_comes_from_outside_is_escaped(get: Get, watchdog: FakeWatchdog) -> None:
    """An error code or a drill's name is text, whatever it looks like."""
    evil = "<script>alert(1)</script>"
    watchdog.failures = (result(Outcome.FAILED, error_code=evil, request_id=evil),)
    watchdog.runs = (replace(watchdog.runs[0], drill=evil, region=evil),)

    page = get("/")[2].decode()

    assert evil not in page
    assert "&lt;script&gt;" in page


def test_every_asset_is_served_from_here(get: Get) -> None:
    """With its type; its address changes with its content, so it may be kept for ever."""
    page = get("/")[2].decode()
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)

    answers = [get(address) for address in addresses]

    assert len(answers) == 3
    assert {headers["content-type"].split(";")[0] for _, headers, _ in answers} == {
        "image/svg+xml",
        "text/css",
        "text/javascript",
    }
    assert all("immutable" in headers["cache-control"] for _, headers, _ in answers)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/nothing.css", "/nowhere", "/drills/x/report.html"]
)
def test_what_is_not_there_is_404_and_says_no_more(get: Get, path: str) -> None:
    """No path of ours, no framework's page."""
    code, _, body = get(path)

    assert (code, body) == (404, b"404\n")


def test_nothing_can_be_changed(get: Get) -> None:
    """The page only tells."""
    assert get("/", method="POST")[0] == 405


def test_a_report_is_served_under_its_own_policy(get: Get, watchdog: FakeWatchdog) -> None:
    """Styles and pictures inside it may show, a script may not run."""
    watchdog.report_file.write_text("<!doctype html><title>r</title>")

    code, headers, body = get(f"/drills/{RUN}/report.html")

    assert (code, body) == (200, b"<!doctype html><title>r</title>")
    assert "script-src" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_metrics_keep_their_content_type(get: Get) -> None:
    """Prometheus reads the version from it."""
    assert get("/metrics")[1]["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


class Tags(HTMLParser):
    """Collects a page's tags, and complains about those that do not match."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.mark.parametrize("down", [pytest.param(None, id="healthy"), pytest.param("us-east-1", id="degraded")])
def test_the_page_is_made_for_ears_and_keys_too(watchdog: FakeWatchdog, down: str | None) -> None:
    """Well-formed, one heading of the first rank, named pictures, header cells with a scope, unique ids."""
    watchdog.board = board_with(down=down)
    tags = Tags()

    tags.feed(Page().whole(status_document(watchdog.status())))

    assert tags.open == []
    names = [name for name, _ in tags.seen]
    ids = [attrs["id"] for _, attrs in tags.seen if "id" in attrs]
    assert names.count("h1") == names.count("main") == 1
    assert all(attrs.get("aria-label") for name, attrs in tags.seen if name == "svg")
    assert all(attrs.get("scope") for name, attrs in tags.seen if name == "th")
    assert len(ids) == len(set(ids))
    assert dict(tags.seen)["html"]["lang"] == "en"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: setattr(w, "board", board(SUBJECTS)), id="before-the-first-look"),
        pytest.param(lambda w: setattr(w, "runs", ()), id="no-drill"),
        pytest.param(lambda w: setattr(w, "failures", ()), id="no-failure"),
        pytest.param(lambda w: setattr(w, "runs", (RunView(run_id=RUN),)), id="drill-that-said-nothing-yet"),
        pytest.param(
            lambda w: setattr(w, "runs", (replace(w.runs[0], closed=False, phase="hold"),)), id="drill-running"
        ),
        pytest.param(
            lambda w: setattr(w, "failures", (result(Outcome.BLIND, mode=Mode.DRILL),)), id="blind-in-a-drill"
        ),
    ],
)
def test_the_page_can_be_drawn_in_every_state(watchdog: FakeWatchdog, change: Callable[[FakeWatchdog], None]) -> None:
    """A template that trips over an empty list would hide the worst moment."""
    change(watchdog)

    assert "</html>" in Page().whole(status_document(watchdog.status()))


def test_failures_of_one_cause_are_one_line() -> None:
    """A hundred timeouts of a dead region do not push everything else off the page."""
    failures = [
        result(Outcome.FAILED, at=3, key="pii", error_code="X", seconds=2.0),
        result(Outcome.FAILED, at=2, mode=Mode.DRILL, error_code="X"),
        result(Outcome.FAILED, at=1, key="general", error_code="X"),
    ]

    live, drill = failure_groups(failures)

    assert (live["count"], live["keys"], live["slowest_seconds"]) == (2, ["general", "pii"], 2.0)
    assert (live["first_at_utc"], live["last_at_utc"]) == ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:03.000Z")
    assert drill["mode"] == "drill"


def test_a_reason_is_a_code_with_its_place(watchdog: FakeWatchdog) -> None:
    """And how old the last answer is."""
    watchdog.board = board_with(down="us-east-1")

    document = health_document(watchdog.health_now(), START)

    assert document["reasons"][0] == {
        "code": "down",
        "region": "us-east-1",
        "key": "general",
        "canary": "round_trip",
        "age_seconds": 0.0,
    }


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([], 0.5, None, id="nothing"),
        pytest.param([3.0], 0.99, 3.0, id="one"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 0.5, 3.0, id="median"),
        pytest.param([float(i) for i in range(100)], 0.99, 99.0, id="p99"),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float | None) -> None:
    """Nearest rank."""
    assert percentile(values, share) == expected


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "never"), (-1, "0 s"), (59.4, "59 s"), (61, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_spans_are_for_people(seconds: float | None, said: str) -> None:
    """One number, one unit."""
    assert duration(seconds) == said


def test_times_and_latencies_are_for_people() -> None:
    """UTC, and three digits."""
    assert milliseconds(0.01234) == "12.3 ms"
    assert milliseconds(1.234) == "1234 ms"
    assert milliseconds(None) == clock(None) == "–"  # noqa: RUF001 - a dash where a number would be
    assert clock("2026-01-01T12:00:00.500Z") == "2026-01-01 12:00:00 UTC"
    assert ago(None, "2026-01-01T12:00:00Z") == "never"
    assert tally([{"outcome": "OK"}, {"outcome": "FAILED"}]) == "1 of the last 2 looks OK, 1 failed"


def point(seconds: float, *, ok: bool = True) -> dict[str, Any]:
    return {"seconds": seconds, "ok": ok}


def test_a_chart_breaks_at_failures() -> None:
    """No line is drawn through what did not answer; the scale is that of good answers."""
    drawing = chart([point(0.1), point(0.2), point(9.0, ok=False), point(0.1), point(0.2)])

    assert drawing is not None
    assert drawing.line.count("M") == 2
    assert drawing.failures == (120.0,)
    assert drawing.top_seconds == pytest.approx(0.23)


@pytest.mark.parametrize(
    "latency",
    [
        pytest.param([], id="nothing"),
        pytest.param([point(0.1)], id="one-point"),
    ],
)
def test_a_chart_needs_two_points(latency: list[dict[str, Any]]) -> None:
    """Else the page says that there is nothing yet."""
    assert chart(latency) is None


def test_a_chart_of_failures_alone_has_no_line() -> None:
    """And does not divide by nothing."""
    drawing = chart([point(1.0, ok=False), point(1.0, ok=False)])

    assert drawing is not None
    assert (drawing.line, len(drawing.failures)) == ("", 2)


def test_a_port_in_use_is_one_clear_line() -> None:
    """Found before anything is begun."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    try:
        with pytest.raises(ListenError, match=f"127.0.0.1:{port} is in use"):
            bind("127.0.0.1", port)
    finally:
        listener.close()


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    """Named with its key."""
    with pytest.raises(ListenError, match=r"http\.listen: 192\.0\.2\.1:80 cannot be listened on"):
        bind("192.0.2.1", 80)
