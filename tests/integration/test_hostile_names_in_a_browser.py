"""Hostile names in every field that data can reach, on every page, in a real browser: they are read, and nothing more.

The pages are judged twice, by what the browser made of them (no element, handler or address that no page of ours has)
and by what it did (nobody was asked). Pages that are files have no header: escaping alone stands there. The status
page is shown with its policy and without, so that neither hides what the other lacks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from canary_server import Canary, listening
from daemon_kit import settings, write_config
from hostile_names import filled, hostile, hostile_story, injected, text_of
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from status_kit import RUN, TOKEN, ServedWatchdog, look, page

from kms_chaos.export import scores
from kms_chaos.judge import judge
from kms_chaos.report import render
from kms_chaos.score import Score
from kms_core.overrides import RegionOverride
from kms_watchdog.auditing import sheet
from kms_watchdog.auditing.audit import Audit
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.health import Subject
from kms_watchdog.history import page as digests
from kms_watchdog.history.digest import Digest
from kms_watchdog.results import Kind, Outcome, Reason
from kms_watchdog.web.app import HTML_HEADERS, application
from kms_watchdog.web.documents import status_document
from kms_watchdog.web.page import Viewer
from kms_watchdog.web.server import WebServer, bind, url_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:constrained_layout not applied", "ignore:Attempting to set identical low"),
]

__all__ = ["settings", "write_config"]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
    "--virtual-time-budget=4000", "--dump-dom",
)  # fmt: skip
OUR_SCRIPTS = frozenset({"/static/status.js"})
Browse = Callable[[str], str]


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listening() as found:
        yield found


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open an address; return what the page became."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium here: .ci/run installs it")
        pytest.skip("no chromium here: apt-get install chromium")

    def open_it(url: str) -> str:
        command = [browser, *FLAGS, f"--user-data-dir={tmp_path}/browser", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout

    return open_it


@pytest.fixture
def read(browse: Browse, tmp_path: Path) -> Browse:
    """Open HTML as the file that somebody was sent."""

    def open_it(html: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        return browse(path.as_uri())

    return open_it


def test_without_escaping_the_names_do_what_they_want(read: Browse, canary: Canary) -> None:
    """Else the tests below could see nothing: in a page that believes them, the browser asks and runs."""
    dom = read(f'<!doctype html><title>x</title><p title="{hostile(canary.port)}">{hostile(canary.port)}</p>')

    assert {"GET /img", "GET /script", "GET /inline", "GET /onerror", "GET /frame"} <= set(canary.asked)
    assert {"img", "iframe", "script", "a #owned"} <= set(injected(dom))


def drill_report(mark: str) -> str:
    journal = hostile_story(mark).journal()
    return render(journal, judge(journal))


PAGES: Mapping[str, Callable[[str], str]] = {
    "drill-report": drill_report,
    "digest": lambda mark: digests.render(filled(Digest, mark)),
    "audit": lambda mark: sheet.html(filled(Audit, mark)),
    "score": lambda mark: scores.html(filled(Score, mark)),
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_that_is_a_file_shows_names_as_text(read: Browse, canary: Canary, kind: str) -> None:
    """As an auditor opens it, from a disk: no element of theirs, no script, nobody asked; and the names are there."""
    mark = hostile(canary.port)

    dom = read(PAGES[kind](mark))

    assert injected(dom) == []
    assert canary.asked == []
    assert text_of(dom).count("onerror=fetch") > 3, "they are not there at all, so nothing was shown"
    assert "{{7*7}}" in text_of(dom), "a template would have reckoned"
    assert "<title>owned" not in dom


def spoilt_watchdog(settings: Settings, mark: str) -> ServedWatchdog:
    """Return a watchdog with a hostile name wherever data or people can put one."""
    watchdog = ServedWatchdog(settings, token=TOKEN)
    bad = Subject(Kind.ROUND_TRIP, "us-east-1", "pii")
    seen = look(
        bad, Outcome.FAILED, reason=Reason.ERROR, error_code=f"code{mark}", request_id=f"id{mark}",
        detail=f"detail{mark}", facts={f"fact{mark}": f"value{mark}"}, run_id=f"run{mark}",
    )  # fmt: skip
    watchdog.look(4, {bad: seen})
    until = watchdog.status().now_utc + timedelta(hours=1)
    watchdog.orders = (
        RegionOverride(region="eu-west-1", kind="avoid", until_utc=until, reason=f"by ann{mark}: why{mark}"),
    )
    watchdog.forced = {"us-west-2": f"forced{mark}"}
    watchdog.runs = (
        *watchdog.runs,
        RunView(run_id=f"a{mark}", drill=f"drill{mark}", region=f"region{mark}", phase=f"phase{mark}"),
        RunView(run_id=f"b{mark}", drill=f"drill{mark}", broken=f"broken{mark}", healed_by_reason=f"healed{mark}"),
        RunView(run_id=RUN, drill=f"drill{mark}", region=f"region{mark}", orphaned=True),
    )
    watchdog.next_runs = ((f"job{mark}", 5.0),)
    names = {"estate": settings.estate.model_copy(update={"name": f"estate{mark}"})}
    names["keys"] = {  # type: ignore[assignment] # purposes and aliases, as no configuration may have them
        f"{purpose}{mark}": key.model_copy(update={"alias": f"alias{mark}"}) for purpose, key in settings.keys.items()
    }
    watchdog.settings = settings.model_copy(update=names)
    return watchdog


@pytest.mark.parametrize("policy", [True, False], ids=["with-its-policy", "by-escaping-alone"])
def test_the_status_page_shows_names_as_text(
    browse: Browse, settings: Settings, canary: Canary, *, policy: bool
) -> None:
    """All of its detail, to somebody who is signed in, and again when it renews itself."""
    watchdog = spoilt_watchdog(settings, hostile(canary.port))
    made = application(watchdog, page(), with_metrics=True)
    renewed: list[str] = []

    def first(request: Request) -> Response:
        drawn = page().whole(status_document(watchdog.status(), detail=True), Viewer(signed_in=True, may_sign_in=True))
        headers = HTML_HEADERS if policy else {"Content-Type": HTML_HEADERS["Content-Type"]}
        answer = Response(drawn, headers=headers)
        answer.set_cookie(f"kms_watchdog_{request.url.port}", watchdog.access.begin_session(), samesite="strict")
        return answer

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        renewed.append(scope["path"])
        await made(scope, receive, send)

    made.router.routes.insert(0, Route("/first", first))
    listener = bind("127.0.0.1", 0)
    server = WebServer(noting, listener)
    server.start()
    try:
        dom = browse(f"{url_of(listener)}/first")
    finally:
        server.stop()

    assert injected(dom, scripts=OUR_SCRIPTS) == []
    assert canary.asked == []
    assert "/fragment" in renewed, "it did not renew itself, so half of it was not tried"
    shown = text_of(dom)
    words = ("code", "id", "detail", "why", "forced", "drill", "region", "broken", "estate", "alias", "job")
    assert [word for word in words if f'{word}"><img src=' not in shown] == []
