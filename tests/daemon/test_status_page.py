"""What is said over HTTP: documents, the page, and how the page must not be attacked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_kit import REGIONS, START, result
from status_kit import RUN, ServedWatchdog, Site, look, one_region_down, served

from kms_core.overrides import RegionOverride
from kms_watchdog import evacuation
from kms_watchdog.config import load
from kms_watchdog.drills.runs import RunView
from kms_watchdog.health import Subject, board
from kms_watchdog.results import Kind, Mode, Outcome, Reason
from kms_watchdog.web.app import PAGE_POLICY
from kms_watchdog.web.documents import failure_groups, health_document, percentile, runs_of, status_document
from kms_watchdog.web.page import (
    Page,
    Viewer,
    ago,
    chart,
    clock,
    duration,
    in_order,
    key_checks,
    milliseconds,
    place,
    strip,
    tally,
)
from kms_watchdog.web.server import ListenError, bind


@pytest.fixture
def watchdog(write_config: Callable[..., Path], tmp_path: Path) -> ServedWatchdog:
    settings = load(write_config('[keys.pii]\nalias = "alias/pii"\n'))
    return ServedWatchdog(settings, report_file=tmp_path / "report.html")


@pytest.fixture
def site(watchdog: ServedWatchdog) -> Iterator[Site]:
    with served(watchdog) as made:
        yield made


Get = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def get(site: Site) -> Get:
    """Ask a real server on a free port."""

    def ask(path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        answer = site.ask(method, path, headers=headers)
        return answer.code, answer.headers, answer.body

    return ask


@pytest.mark.parametrize(
    ("down", "code", "status"),
    [
        pytest.param(None, 200, "healthy", id="healthy"),
        pytest.param("us-east-1", 503, "degraded", id="degraded"),
    ],
)
def test_health_answers_as_the_setup_guide_says(
    get: Get, watchdog: ServedWatchdog, down: str | None, code: int, status: str
) -> None:
    """Code, status, timestamp, regions, breakers; and why."""
    watchdog.look(3, one_region_down(down) if down else lambda _: None)

    found, _, body = get("/health")

    document = json.loads(body)
    assert (found, document["status"]) == (code, status)
    assert set(document) == {"status", "timestamp", "regions", "circuitBreakers", "reasons"}
    assert document["regions"] == {region: region != down for region in REGIONS}
    assert document["circuitBreakers"]["us-west-2"] == {"state": "CLOSED"}
    assert document["timestamp"] == "2026-01-01T00:03:00.000Z"


def test_unhealthy_is_500(get: Get, watchdog: ServedWatchdog) -> None:
    """No fresh answer at all."""
    watchdog.board = board(watchdog.subjects)

    assert get("/health")[0] == 500


def test_strangers_learn_no_detail_of_an_error(get: Get, watchdog: ServedWatchdog) -> None:
    """Reason codes only; what went wrong inside is for the log."""
    watchdog.look(3, one_region_down())
    told = [get(path)[2] for path in ("/health", "/", "/fragment", "/api/v1/status")]
    watchdog.crash = True
    with structlog.testing.capture_logs() as logs:
        code, _, body = get("/health")

    assert not any(b"ConnectTimeout" in text or b"no connection within" in text for text in told)
    assert b'"why":"timeout"' in told[0]
    assert (code, json.loads(body)) == (500, {"status": "unhealthy", "error": "internal"})
    assert [entry["event"] for entry in logs] == ["http.failed"]


def test_livez_depends_on_nothing_outside(get: Get, watchdog: ServedWatchdog) -> None:
    """Every region down is no reason to be killed; a stalled scheduler is."""
    watchdog.board, watchdog.crash = board(watchdog.subjects), True
    assert get("/livez")[0] == 200

    watchdog.is_alive = False
    assert get("/livez")[0] == 503


def test_a_killed_drill_is_not_shown_as_running(get: Get, watchdog: ServedWatchdog) -> None:
    """Its process is gone, and its fault may still be on."""
    watchdog.runs = (replace(watchdog.runs[0], closed=False, verdict=None, phase="hold", orphaned=True),)

    [drill] = json.loads(get("/api/v1/status")[2])["drills"]
    page = get("/fragment")[2].decode()

    assert (drill["active"], drill["killed"], drill["phase"]) == (False, True, None)
    assert "killed, not yet undone" in page
    assert "running" not in page.partition('id="drills"')[2].partition("</section>")[0]


def test_readyz_says_what_is_missing(get: Get, watchdog: ServedWatchdog) -> None:
    """By name."""
    watchdog.missing = ("first_round",)
    code, _, body = get("/readyz")
    watchdog.missing = ()

    assert (code, json.loads(body)) == (503, {"ready": False, "waiting_for": ["first_round"]})
    assert get("/readyz")[0] == 200


def test_the_page_and_the_json_tell_the_same(get: Get, watchdog: ServedWatchdog) -> None:
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


def test_a_key_is_usable_everywhere_somewhere_or_nowhere(watchdog: ServedWatchdog) -> None:
    """A healthy page does not say `somewhere`, which reads as if something were lost."""
    pages = []
    for bad in (lambda _: None, one_region_down("eu-west-1")):
        watchdog.look(3, bad)
        pages.append(Page().whole(status_document(watchdog.status()), Viewer()))

    assert [(page.count("</i> everywhere"), page.count("</i> somewhere")) for page in pages] == [(3, 0), (0, 3)]


def test_what_comes_from_outside_is_escaped(get: Get, watchdog: ServedWatchdog) -> None:
    """An error code or a drill's name is text, whatever it looks like."""
    evil = "<script>alert(1)</script>"
    watchdog.failures = (result(Outcome.FAILED, error_code=evil, request_id=evil, detail=evil),)
    watchdog.runs = (replace(watchdog.runs[0], drill=evil, region=evil),)
    watchdog.forced = {"us-east-1": evil}

    page = Page().whole(status_document(watchdog.status(), detail=True), Viewer(signed_in=True))

    assert evil not in page
    assert page.count("&lt;script&gt;") >= 6


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


def test_a_report_is_served_under_its_own_policy(get: Get, watchdog: ServedWatchdog) -> None:
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


@pytest.mark.parametrize("signed_in", [pytest.param(False, id="stranger"), pytest.param(True, id="signed-in")])
@pytest.mark.parametrize("down", [pytest.param(None, id="healthy"), pytest.param("us-east-1", id="degraded")])
def test_the_page_is_made_for_ears_and_keys_too(watchdog: ServedWatchdog, down: str | None, *, signed_in: bool) -> None:
    """Well-formed, one heading of the first rank, named pictures, header cells with a scope, unique ids."""
    watchdog.look(3, one_region_down(down) if down else lambda _: None)
    tags = Tags()

    tags.feed(Page().whole(status_document(watchdog.status(), detail=signed_in), Viewer(signed_in=signed_in)))

    assert tags.open == []
    names = [name for name, _ in tags.seen]
    ids = [attrs["id"] for _, attrs in tags.seen if "id" in attrs]
    assert names.count("h1") == names.count("main") == 1
    assert all(attrs.get("aria-label") for name, attrs in tags.seen if name == "svg")
    assert all(attrs.get("scope") for name, attrs in tags.seen if name == "th")
    assert len(ids) == len(set(ids))
    assert dict(tags.seen)["html"]["lang"] == "en"
    assert all(attrs.get("aria-labelledby") in ids for name, attrs in tags.seen if name == "section")
    assert names.count("button") == (1 + len(watchdog.subjects) if signed_in else 0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda w: setattr(w, "board", board(w.subjects)), id="before-the-first-look"),
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
def test_the_page_can_be_drawn_in_every_state(
    watchdog: ServedWatchdog, change: Callable[[ServedWatchdog], None]
) -> None:
    """A template that trips over an empty list would hide the worst moment."""
    change(watchdog)

    for viewer in (Viewer(), Viewer(signed_in=True)):
        assert "</html>" in Page().whole(status_document(watchdog.status(), detail=viewer.signed_in), viewer)


def test_failures_of_one_cause_are_one_line() -> None:
    """A hundred timeouts of a dead region do not push everything else off the page."""
    failures = [
        result(Outcome.FAILED, at=3, key="pii", error_code="X", seconds=2.0),
        result(Outcome.FAILED, at=2, mode=Mode.DRILL, error_code="X"),
        result(Outcome.FAILED, at=1, key="general", error_code="X"),
    ]

    live, drill = failure_groups(failures, detail=True)

    assert (live["count"], live["keys"], live["slowest_seconds"]) == (2, ["general", "pii"], 2.0)
    assert (live["first_at_utc"], live["last_at_utc"]) == ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:03.000Z")
    assert drill["mode"] == "drill"


def test_a_reason_is_a_code_with_its_place(watchdog: ServedWatchdog) -> None:
    """And how old the last answer is."""
    watchdog.look(3, one_region_down())

    document = health_document(watchdog.health_now(), START)

    assert document["reasons"][0] == {
        "code": "down",
        "region": "us-east-1",
        "key": "general",
        "canary": "round_trip",
        "age_seconds": 30.0,
        "why": "timeout",
    }


def test_who_is_known_gets_the_same_documents_with_detail(watchdog: ServedWatchdog) -> None:
    """The service's own code, the request id, and what exactly is wrong; nothing else differs."""
    watchdog.look(3, one_region_down())

    short = health_document(watchdog.health_now(), START)
    full = health_document(watchdog.health_now(), START, detail=True)

    told = full["reasons"][0]
    assert (told["error_code"], told["detail"]) == ("ConnectTimeout", "us-east-1: no connection within 1 s")
    assert [{**reason, "error_code": 0, "request_id": 0, "detail": 0} for reason in short["reasons"]] == [
        {**reason, "error_code": 0, "request_id": 0, "detail": 0} for reason in full["reasons"]
    ]


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
    runs = [{"outcome": "OK", "count": 3}, {"outcome": "FAILED", "count": 1}]
    assert tally(runs) == "3 of the last 4 looks OK, 1 failed"


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


def test_a_dead_region_is_one_cause_and_its_consequences(watchdog: ServedWatchdog) -> None:
    """Not a dozen reasons side by side: round trips first, all that needs the region last, in one line."""
    watchdog.breakers["us-east-1"] = "open"
    watchdog.look(3, one_region_down())

    document = status_document(watchdog.status())

    first, *_, last = document["reason_groups"]
    assert (first["code"], first["canary"], first["places"][0]["keys"]) == (
        "down",
        "round_trip",
        ["general", "pii", "payment"],
    )
    assert (last["code"], last["places"][0]["region"]) == ("with_region", "us-east-1")
    assert last["count"] == sum(canary["because"] == "us-east-1" for canary in document["canaries"]) > 20
    assert len(document["reason_groups"]) == 3


def test_what_a_dead_region_does_not_explain_stands_for_itself(watchdog: ServedWatchdog) -> None:
    """A policy that grants too much is no timeout, wherever it is found."""
    excess = Subject(Kind.APPLICATION_ACCESS, "us-east-1", "pii")
    dead = one_region_down()
    watchdog.look(3, lambda s: look(s, Outcome.FAILED, reason=Reason.ACCESS_EXCESS) if s == excess else dead(s))

    document = status_document(watchdog.status())

    (found,) = [group for group in document["reason_groups"] if group["canary"] == Kind.APPLICATION_ACCESS]
    assert found["places"] == [
        {"region": "us-east-1", "keys": ["pii"], "why": ["a role may use what is not its own"], "age_seconds": 30.0}
    ]


def test_what_fails_below_paging_is_listed_with_its_since(watchdog: ServedWatchdog) -> None:
    """Red for an hour while the service is green, and nobody told, is what must not happen."""
    off = Subject(Kind.KEY_STATE, "eu-west-1", "pii")
    blip = Subject(Kind.ROUND_TRIP, "us-west-2", "payment")
    watchdog.look(5, {off: look(off, Outcome.FAILED, reason=Reason.ROTATION_OFF)})
    watchdog.look(1, {s: look(s, Outcome.FAILED) for s in (off, blip)})

    document = status_document(watchdog.status())
    page = Page().whole(document, Viewer())

    listed = page.partition('id="below"')[2].partition("</section>")[0]
    assert document["below_paging"] == ["key_state:eu-west-1:pii", "round_trip:us-west-2:payment"]
    assert "for 3 min" in listed
    assert "1 in a row, down from 3 on" in listed
    assert document["status"] == "degraded"


def test_what_fails_with_a_region_is_not_listed_again(watchdog: ServedWatchdog) -> None:
    """Somebody was called for the region."""
    watchdog.look(3, one_region_down())

    page = Page().whole(status_document(watchdog.status()), Viewer())

    listed = page.partition('id="below"')[2].partition("</section>")[0]
    assert "Nothing." in listed
    assert "that fail with us-east-1, for which somebody was called" in listed


def test_latency_is_that_of_round_trips(watchdog: ServedWatchdog) -> None:
    """A slow reading of policies is no slow region."""
    slow = {s: look(s, duration_seconds=9.0) for s in watchdog.subjects if s.canary != Kind.ROUND_TRIP}
    watchdog.look(2)
    for subject, seen in slow.items():
        watchdog.ticks[subject].append(seen)

    document = status_document(watchdog.status())

    assert all(region["p99_seconds"] < 0.1 for region in document["regions"])


@pytest.mark.parametrize(
    ("detail", "told"), [pytest.param(False, None, id="stranger"), pytest.param(True, "by ann: disk", id="known")]
)
def test_an_evacuated_region_says_so(watchdog: ServedWatchdog, told: str | None, *, detail: bool) -> None:
    """To everybody; who did it and why is detail."""
    watchdog.forced = {"us-west-2": "by ann: disk"}

    document = status_document(watchdog.status(), detail=detail)

    region = document["regions"][1]
    assert (region["forced"], region["forced_reason"]) == (True, told)
    assert "evacuated" in Page().whole(document, Viewer())


def ordered(reason: str = "INC-7 <b>") -> RegionOverride:
    return evacuation.order("us-west-2", lasts=timedelta(minutes=2), reason=reason, by="ann", now_utc=START)


@pytest.mark.parametrize(
    ("detail", "why", "by"),
    [pytest.param(False, None, None, id="stranger"), pytest.param(True, "INC-7 <b>", "ann", id="known")],
)
def test_an_order_to_leave_a_region_shows_until_it_is_gone(
    watchdog: ServedWatchdog, why: str | None, by: str | None, *, detail: bool
) -> None:
    """Its end to everybody; who gave it and why is detail. It is deliberate: all stays healthy."""
    watchdog.orders = (ordered(), replace(ordered(), region="us-east-1", kind="prefer"))
    during = status_document(watchdog.status(), detail=detail)
    watchdog.orders = ()
    after = status_document(watchdog.status(), detail=detail)

    told = [region["evacuated"] for region in during["regions"]]
    assert told == [None, {"until_utc": "2026-01-01T00:02:00.000Z", "reason": why, "by": by}, None]
    assert [region["evacuated"] for region in after["regions"]] == [None] * 3
    assert during["regions"][1]["forced"] is False
    assert (during["status"], during["reasons"]) == ("healthy", [])
    drawn, later = (Page().whole(document, Viewer()) for document in (during, after))
    assert drawn.count("evacuated until") == 1
    assert "2026-01-01 00:02:00 UTC" in drawn.partition("evacuated until")[2].partition("</h3>")[0]
    assert ("asked last, says ann: INC-7 &lt;b&gt;" in drawn) is detail
    assert "evacuated" not in later


def test_an_end_in_another_zone_is_told_in_utc(watchdog: ServedWatchdog) -> None:
    """Orders may be written by hand."""
    paris = timezone(timedelta(hours=1))
    watchdog.orders = (replace(ordered(), until_utc=ordered().until_utc.astimezone(paris), reason="by hand"),)

    region = status_document(watchdog.status(), detail=True)["regions"][1]

    assert region["evacuated"] == {"until_utc": "2026-01-01T00:02:00.000Z", "reason": "by hand", "by": None}
    assert "asked last: by hand" in Page().whole(status_document(watchdog.status(), detail=True), Viewer())


def test_looks_of_one_answer_are_one_entry() -> None:
    """A healthy day is one shape, not sixty; the newest look is at the right end."""
    ticks = [result(at=0), result(at=30, seconds=0.5), result(Outcome.FAILED, at=60), result(at=90)]

    runs = runs_of(ticks)

    assert [(run["outcome"], run["count"]) for run in runs] == [("OK", 2), ("FAILED", 1), ("OK", 1)]
    assert (runs[0]["slowest_seconds"], runs[0]["last_at_utc"]) == (0.5, "2026-01-01T00:00:30.000Z")
    assert [(s.x, s.width, s.outcome) for s in strip(runs)] == [(56, 2, "ok"), (58, 1, "failed"), (59, 1, "ok")]
    assert "no answer in time" in strip(runs)[1].title


def test_cross_region_looks_are_a_grid_of_from_and_to(watchdog: ServedWatchdog) -> None:
    """Each ordered pair has its cell, in its own direction; a region with itself has none."""
    bad = Subject(Kind.CROSS_REGION, "us-east-1:eu-west-1", "pii")
    watchdog.look(3, {bad: look(bad, Outcome.FAILED)})

    grid = in_order(status_document(watchdog.status())).crossings

    there, back = grid["us-east-1"]["eu-west-1"], grid["eu-west-1"]["us-east-1"]
    assert there is not None
    assert back is not None
    assert (there.shown, there.ok, there.total, there.troubled[0]["key"]) == ("down", 2, 3, "pii")
    assert (back.shown, back.ok) == ("up", 3)
    assert grid["us-east-1"]["us-east-1"] is None
    assert place(bad.region) == "us-east-1 → eu-west-1"


def test_a_key_is_summed_up_over_its_regions(watchdog: ServedWatchdog) -> None:
    """By question; of other keys nothing."""
    bad = Subject(Kind.REPLICA_DRIFT, "us-west-2", "payment")
    watchdog.look(3, {bad: look(bad, Outcome.FAILED, reason=Reason.DRIFT)})
    page = in_order(status_document(watchdog.status()))

    payment, pii = (key_checks(page.of_key[purpose]) for purpose in ("payment", "pii"))

    assert (payment["replica_drift"].ok, payment["replica_drift"].total) == (2, 3)
    assert payment["key_state"].shown == pii["replica_drift"].shown == "up"


@pytest.mark.parametrize(
    ("looks", "shown"),
    [
        pytest.param([], "unknown", id="never"),
        pytest.param([Outcome.OK], "up", id="up"),
        pytest.param([Outcome.OK, Outcome.FAILED], "failing", id="one-failure"),
        pytest.param([Outcome.FAILED], "failing", id="never-ok"),
        pytest.param([Outcome.FAILED] * 3, "down", id="down"),
        pytest.param([Outcome.FAILED] * 3 + [Outcome.OK], "recovering", id="one-ok-after-down"),
        pytest.param([Outcome.OK, Outcome.BLIND], "blind", id="blind"),
    ],
)
def test_each_canary_is_shown_by_one_word(watchdog: ServedWatchdog, looks: list[Outcome], shown: str) -> None:
    """The same on the page and in the document."""
    subject = watchdog.subjects[0]
    watchdog.board = board(watchdog.subjects)
    for outcome in looks:
        watchdog.write(look(subject, outcome))

    first = status_document(watchdog.status())["canaries"][0]

    assert (first["id"], first["shown"]) == (subject.id, shown)


def test_a_canary_without_a_fresh_answer_is_stale(watchdog: ServedWatchdog) -> None:
    """However well it was."""
    watchdog.clock.advance(91)

    document = status_document(watchdog.status())

    assert {canary["shown"] for canary in document["canaries"]} == {"stale"}


def test_the_page_stays_small(watchdog: ServedWatchdog) -> None:
    """89 canaries, a dead region: under 200 kB, which travels as 20 kB."""
    watchdog.look(57)
    watchdog.look(3, one_region_down())

    page = Page().whole(status_document(watchdog.status()), Viewer())

    assert len(watchdog.subjects) == 89
    assert len(page) < 200_000


def test_jobs_are_one_line_a_kind(watchdog: ServedWatchdog) -> None:
    """The soonest of them, and how many there are."""
    watchdog.next_runs = (("round_trip:us-east-1:pii", 1), ("heartbeat", 2), ("round_trip:us-west-2:pii", 3))

    jobs = status_document(watchdog.status())["jobs"]

    assert [(job["kind"], job["count"], job["id"]) for job in jobs] == [
        ("round_trip", 2, "round_trip:us-east-1:pii"),
        ("heartbeat", 1, "heartbeat"),
    ]
