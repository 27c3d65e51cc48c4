"""The status page in a real browser: it updates itself, breaks no policy of its own, and admits when nobody answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kms_watchdog.web.app import PAGE_POLICY
from kms_watchdog.web.page import Page
from kms_watchdog.web.server import WebServer, bind, url_of

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=12000",
    "--dump-dom",
)
DOCUMENT = {
    "schema": 1,
    "status": "healthy",
    "since_utc": "2026-01-01T00:00:00.000Z",
    "now_utc": "2026-01-01T00:01:00.000Z",
    "started_at_utc": "2026-01-01T00:00:00.000Z",
    "version": "1",
    "estate": "test",
    "interval_seconds": 30,
    "reasons": [],
    "regions": [],
    "keys": [],
    "canaries": [],
    "failures": [],
    "failure_groups": [],
    "drills": [],
    "jobs": [{"id": "heartbeat", "next_run_utc": "2026-01-01T00:01:01.000Z"}],
}
DEGRADED = {**DOCUMENT, "status": "degraded", "reasons": [{"code": "breaker_open", "region": "us-east-1", "key": None}]}


class Site:
    """The page as it was at first, and what its later questions are answered."""

    def __init__(self) -> None:
        self.page, self.asked, self.answering = Page(), 0, True

    def index(self, _request: Request) -> Response:
        return self._html(self.page.whole(DOCUMENT))

    def fragment(self, _request: Request) -> Response:
        self.asked += 1
        return self._html(self.page.fragment(DEGRADED)) if self.answering else Response(status_code=500)

    def static(self, request: Request) -> Response:
        asset = self.page.assets[request.path_params["name"]]
        return Response(asset.body, headers={"Content-Type": asset.content_type})

    def application(self) -> Starlette:
        routes = [("/", self.index), ("/fragment", self.fragment), ("/static/{name}", self.static)]
        return Starlette(routes=[Route(path, handler) for path, handler in routes])

    def _html(self, text: str) -> Response:
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


@pytest.fixture
def site() -> Site:
    return Site()


Look = Callable[[], tuple[str, str]]


@pytest.fixture
def look(site: Site, tmp_path: Path) -> Iterator[Look]:
    """Open the page, let some seconds of its time pass; return what it became, and what the browser complained of."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium here: .ci/run installs it")
        pytest.skip("no chromium here: apt-get install chromium")
    listener = bind("127.0.0.1", 0)
    server = WebServer(site.application(), listener)
    server.start()

    def open_it() -> tuple[str, str]:
        done = subprocess.run(
            [browser, *FLAGS, f"--user-data-dir={tmp_path}", url_of(listener)],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, "\n".join(complaints)

    yield open_it
    server.stop()


def test_the_page_updates_itself(look: Look, site: Site) -> None:
    """Green when it was opened, and degraded now, title and all; nothing that its own policy forbids."""
    dom, complaints = look()

    assert site.asked >= 1
    assert ">Degraded</h1>" in dom
    assert "The circuit breaker of <b>us-east-1</b> is open" in dom
    assert "<title>Degraded" in dom
    assert complaints == ""


def test_the_page_admits_that_nobody_answers(look: Look, site: Site) -> None:
    """It does not go on looking green."""
    site.answering = False

    dom, _ = look()

    assert '<body class="old">' in dom
    assert 'role="alert">No answer from the watchdog since' in dom
    assert "<title>No answer" in dom
