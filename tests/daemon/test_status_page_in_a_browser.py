"""The status page in a real browser: it keeps itself current and the reader's place, and admits when nobody answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from status_kit import TOKEN, ServedWatchdog, look, one_region_down, page

from kms_core.overrides import RegionOverride
from kms_watchdog.config import load
from kms_watchdog.health import Subject
from kms_watchdog.results import Kind, Outcome, Reason
from kms_watchdog.web.app import HTML_HEADERS, application
from kms_watchdog.web.documents import status_document
from kms_watchdog.web.page import Viewer
from kms_watchdog.web.server import WebServer, bind, url_of

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
SCREENSHOTS = os.environ.get("KMS_WATCHDOG_SCREENSHOTS")
"""A folder to keep screenshots in; .ci/run names one."""

WATCH = """
const found = {};
const tell = (more) => {
  Object.assign(found, more);
  let out = document.getElementById("probe");
  if (!out) { out = document.createElement("pre"); out.id = "probe"; document.body.append(out); }
  out.textContent = JSON.stringify(found);
};
const when = (what, then) => { const look = () => (what() ? then() : setTimeout(look, 50)); look(); };
"""
"""What a probe begins with: `tell` what was found, do something `when` something is so."""


class Site:
    """A served watchdog; its first page carries a probe, and something happens right after it was served."""

    def __init__(self, watchdog: ServedWatchdog) -> None:
        self.watchdog, self.probe, self.signed_in = watchdog, "", False
        self.then: Callable[[], object] = lambda: None

    def application(self) -> Any:
        made = application(self.watchdog, page(), with_metrics=True)
        made.router.routes[:0] = [Route("/first", self.first), Route("/probe.js", self.script)]
        return made

    def first(self, request: Request) -> Response:
        viewer = Viewer(signed_in=self.signed_in, may_sign_in=True)
        drawn = page().whole(status_document(self.watchdog.status(), detail=self.signed_in), viewer)
        answer = Response(
            drawn.replace("</head>", '<script src="/probe.js" defer></script></head>'), headers=HTML_HEADERS
        )
        if self.signed_in:
            name = f"kms_watchdog_{request.url.port}"
            answer.set_cookie(name, self.watchdog.access.begin_session(), httponly=True, samesite="strict")
        self.then()
        return answer

    def script(self, _request: Request) -> Response:
        return Response(WATCH + self.probe, headers={"Content-Type": "text/javascript"})


@pytest.fixture
def site(write_config: Callable[..., Path]) -> Site:
    settings = load(write_config('[keys.pii]\nalias = "alias/parker-flight-pii-production"\n'))
    watchdog = ServedWatchdog(settings, token=TOKEN)
    watchdog.look(57)
    return Site(watchdog)


Browse = Callable[..., tuple[str, str]]


@pytest.fixture
def browse(site: Site, tmp_path: Path) -> Iterator[Browse]:
    """Open the first page, let some seconds of its time pass; return what it became, and what the browser said."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium here: .ci/run installs it")
        pytest.skip("no chromium here: apt-get install chromium")
    listener = bind("127.0.0.1", 0)
    server = WebServer(site.application(), listener)
    server.start()

    def open_it(*flags: str) -> tuple[str, str]:
        what = flags or ("--virtual-time-budget=12000", "--dump-dom")
        done = subprocess.run(
            [browser, *FLAGS, *what, f"--user-data-dir={tmp_path}/browser", f"{url_of(listener)}/first"],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, "\n".join(complaints)

    yield open_it
    server.stop()


def probed(dom: str) -> dict[str, Any]:
    """Return what the probe found."""
    told = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert told, "the probe has told nothing"
    found: dict[str, Any] = json.loads(unescape(told[1]))
    return found


def test_the_page_updates_itself_and_keeps_the_readers_place(browse: Browse, site: Site) -> None:
    """Green when it was opened, degraded now; what was open, scrolled to and focused still is; no policy is broken."""
    site.then = lambda: site.watchdog.look(3, one_region_down())
    site.probe = """
      const details = document.getElementById("kind-golden");
      details.open = true;
      details.querySelector("summary").focus();
      scrollTo(0, 700);
      const row = details.querySelector("tbody tr");
      when(() => document.querySelector("h1").textContent === "Degraded", () => tell({
        open: details.open && details.isConnected,
        focus: document.activeElement === details.querySelector("summary"),
        scrolled: scrollY > 300,
        same_row: row === document.querySelector("#kind-golden tbody tr"),
        live: document.querySelector("h1").closest("[role=status]") !== null,
      }));
    """

    dom, complaints = browse()

    assert probed(dom) == dict.fromkeys(("open", "focus", "scrolled", "same_row", "live"), True)
    assert "<title>Degraded" in dom
    assert complaints == ""


def test_the_page_admits_that_nobody_answers(browse: Browse, site: Site) -> None:
    """It does not go on looking green."""
    site.then = lambda: setattr(site.watchdog, "crash", True)

    with structlog.testing.capture_logs():
        dom, _ = browse()

    assert '<body class="old">' in dom
    assert 'role="alert">No answer from the watchdog since' in dom
    assert "<title>No answer" in dom


def test_a_person_lets_a_canary_look_now(browse: Browse, site: Site) -> None:
    """By a button of its row: what it saw is said aloud, and the focus stays on the button."""
    site.signed_in = True
    site.probe = """
      const row = document.querySelector("#kind-golden form.run");
      row.closest("details").open = true;
      const button = row.querySelector("button");
      button.focus();
      button.click();
      const said = document.getElementById("said");
      when(() => said.textContent, () => tell({ said: said.textContent, focus: document.activeElement === button }));
    """

    dom, complaints = browse()

    found = probed(dom)
    assert found["said"].startswith("golden us-east-1 general: FAILED (timeout) in ")
    assert found["focus"]
    assert site.watchdog.ran == ["golden:us-east-1:general"]
    assert complaints == ""


@pytest.mark.slow
def test_a_person_signs_in(browse: Browse, site: Site) -> None:
    """By the form, as a browser sends it; the page that comes next has the detail."""
    site.watchdog.look(3, one_region_down())
    site.probe = f"""
      const form = document.createElement("form");
      form.method = "post";
      form.action = "/login";
      const field = document.createElement("input");
      Object.assign(field, {{ name: "token", value: "{TOKEN}" }});
      form.append(field);
      document.body.append(form);
      form.submit();
    """

    dom, complaints = browse()

    assert ">Sign out</button>" in dom
    assert "no connection within" in dom
    assert complaints == ""


def troubled(site: Site) -> None:
    """Leave the watchdog with a dead region that somebody evacuated, and some trouble below paging."""
    dead, off = one_region_down(), Subject(Kind.KEY_STATE, "eu-west-1", "pii")
    site.watchdog.look(20, {off: look(off, Outcome.FAILED, reason=Reason.ROTATION_OFF)})
    site.watchdog.breakers["us-east-1"] = "open"
    until_utc = site.watchdog.clock.now_utc() + timedelta(hours=1)
    reason = "INC-7: errors of KMS since the morning (by ann at 2026-01-01T00:00:00Z)"
    site.watchdog.orders = (RegionOverride(region="us-east-1", kind="avoid", until_utc=until_utc, reason=reason),)
    site.watchdog.look(4, lambda s: look(s, Outcome.FAILED, reason=Reason.ROTATION_OFF) if s == off else dead(s))


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [pytest.param("desktop", 1200, 2400, id="desktop"), pytest.param("phone", 390, 5200, id="phone")],
)
@pytest.mark.parametrize(
    "scheme",
    [
        pytest.param("light", marks=pytest.mark.slow, id="light"),
        pytest.param("dark", marks=pytest.mark.slow, id="dark"),
    ],
)
def test_the_page_can_be_looked_at(
    browse: Browse, site: Site, tmp_path: Path, name: str, width: int, height: int, scheme: str
) -> None:
    """On a desk and on a phone, by day and by night: a picture for people to judge, kept by CI."""
    troubled(site)
    folder = Path(SCREENSHOTS or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"status-{name}-{scheme}.png"
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()

    browse(f"--window-size={width},{height}", f"--screenshot={picture}", *dark)

    raw = picture.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", raw[16:24]) == (width, height)
    assert len(raw) > 50_000


@pytest.mark.slow
def test_nothing_is_wider_than_a_phone(browse: Browse, site: Site) -> None:
    """With every detail open, in the worst hour."""
    troubled(site)
    site.signed_in = True
    site.probe = """
      for (const details of document.querySelectorAll("details")) details.open = true;
      const right = (element) => element.getBoundingClientRect().right;
      const box = (element) => element.parentElement.closest("table, .kinds, .card, .banner, main");  // some cut it off
      document.body.style.width = "390px";  // a browser without a head makes no window narrower than 500 px
      const room = (element) => Math.min(right(box(element)), 390) + 1;
      const inside = (element) => element.closest("thead") || right(element) <= room(element);
      const wide = [...document.querySelectorAll("main *")].filter((element) => !inside(element));
      tell({ page: document.body.scrollWidth - 390, wide: wide.map((e) => e.outerHTML) });
    """

    dom, _ = browse("--window-size=390,2000", "--virtual-time-budget=2000", "--dump-dom")

    found = probed(dom)
    assert found["wide"] == []
    assert found["page"] <= 0
