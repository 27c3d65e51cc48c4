"""Who is told detail and who may run a canary: whoever knows the token, and nobody by guessing or by another site."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import structlog
from status_kit import BUSY, TOKEN, TOO_MANY, Reply, ServedWatchdog, Site, one_region_down, served

from kms_core import ConfigurationError
from kms_core.testing import ManualClock
from kms_watchdog.config import Http, Settings
from kms_watchdog.web.access import (
    GUESSES_SECONDS,
    MAX_ADDRESSES,
    MAX_SESSIONS,
    SESSION_SECONDS,
    WRONG_GUESSES,
    Access,
    Answer,
    token_of,
)

BEARER = {"Authorization": f"Bearer {TOKEN}"}
RUN = "/api/v1/canaries/round_trip:us-east-1:pii/run"
SECRETS = (b"ConnectTimeout", b"no connection within")


@pytest.fixture
def watchdog(settings: Settings) -> ServedWatchdog:
    made = ServedWatchdog(settings, token=TOKEN)
    made.look(3, one_region_down())
    return made


@pytest.fixture
def site(watchdog: ServedWatchdog) -> Iterator[Site]:
    with served(watchdog) as made:
        yield made


def ours(site: Site) -> dict[str, str]:
    """What a browser says of a form on our own page."""
    return {"Origin": f"http://127.0.0.1:{site.port}", "Content-Type": "application/x-www-form-urlencoded"}


def sign_in(site: Site, token: str = TOKEN, headers: dict[str, str] | None = None) -> Reply:
    body = urlencode({"token": token}).encode()
    return site.ask("POST", "/login", body, headers=ours(site) if headers is None else headers)


def cookie_of(reply: Reply) -> dict[str, str]:
    return {"Cookie": reply.headers["set-cookie"].partition(";")[0]}


@pytest.mark.parametrize("path", ["/health", "/api/v1/status", "/", "/fragment"])
def test_detail_is_for_who_shows_the_token(site: Site, path: str) -> None:
    """The same document: strangers read codes, whoever shows the token reads KMS's own words too."""
    stranger = site.ask("GET", path)
    known = site.ask("GET", path, headers=BEARER)

    assert stranger.code == known.code
    assert not any(secret in stranger.body for secret in SECRETS)
    assert all(secret in known.body for secret in SECRETS)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param("Bearer wrong", id="wrong"),
        pytest.param("Bearer ", id="empty"),
        pytest.param(f"Bearer {TOKEN}x", id="longer"),
        pytest.param(f"Bearer {TOKEN[:-1]}", id="shorter"),
        pytest.param("Bearer \xff\xfe", id="not-ascii"),
        pytest.param(f"Basic {TOKEN}", id="another-scheme"),
    ],
)
def test_nothing_else_opens_the_door(site: Site, watchdog: ServedWatchdog, shown: str) -> None:
    """No detail, no run."""
    told = [site.ask("GET", path, headers={"Authorization": shown}) for path in ("/health", "/api/v1/status")]
    ran = site.ask("POST", RUN, headers={"Authorization": shown})

    assert not any(secret in reply.body for reply in told for secret in SECRETS)
    assert (ran.code, watchdog.ran) == (401, [])
    assert ran.headers["www-authenticate"].startswith("Bearer")


def test_a_wrong_token_is_told_so_where_detail_is_the_point(site: Site) -> None:
    """A script with yesterday's token learns it; an uptime monitor does not read it as an outage."""
    wrong = {"Authorization": "Bearer yesterdays-token-it-is"}

    assert site.ask("GET", "/api/v1/status", headers=wrong).code == 401
    assert site.ask("GET", "/health", headers=wrong).code == site.ask("GET", "/health").code == 503


def test_a_canary_runs_now_for_who_shows_the_token(site: Site, watchdog: ServedWatchdog) -> None:
    """The answer is what it saw, with all detail; 200 even if that is a failure: the run itself went well."""
    reply = site.ask("POST", RUN, headers=BEARER)

    seen = json.loads(reply.body)
    assert (reply.code, seen["outcome"], seen["error_code"], seen["detail"]) == (200, "FAILED", "ReadTimeout", "slow")
    assert watchdog.ran == ["round_trip:us-east-1:pii"]


def test_an_unknown_canary_is_404_with_the_nearest(site: Site) -> None:
    """A misspelling costs one look at the answer."""
    reply = site.ask("POST", "/api/v1/canaries/round_trip:us-east-1:pi/run", headers=BEARER)

    assert (reply.code, json.loads(reply.body)["nearest"]) == (404, "round_trip:us-east-1:pii")


@pytest.mark.parametrize(
    ("refuses", "code", "error"),
    [pytest.param(BUSY, 409, "busy", id="it-looks-already"), pytest.param(TOO_MANY, 503, "too_many", id="too-many")],
)
def test_a_canary_that_cannot_look_now_is_said_so(
    site: Site, watchdog: ServedWatchdog, refuses: Exception, code: int, error: str
) -> None:
    """Busy is no failure of the canary: nothing is recorded."""
    watchdog.refuses = refuses

    reply = site.ask("POST", RUN, headers=BEARER)

    assert (reply.code, json.loads(reply.body)["error"], watchdog.ran) == (code, error, [])


def test_without_a_token_nobody_gets_in(settings: Settings) -> None:
    """No detail over HTTP at all, no run, no way to sign in, and the page says what would change that."""
    watchdog = ServedWatchdog(settings)
    watchdog.look(3, one_region_down())
    with served(watchdog) as site:
        ran = site.ask("POST", RUN, headers=BEARER)
        told = [site.ask("GET", path, headers=BEARER) for path in ("/health", "/")]
        login = site.ask("GET", "/login")

    assert (ran.code, json.loads(ran.body)["error"]) == (403, "no_token_configured")
    assert not any(secret in reply.body for reply in told for secret in SECRETS)
    assert b"token_file" in told[1].body
    assert b"/login" not in told[1].body
    assert login.code == 404


def test_a_person_signs_in_and_out(site: Site, watchdog: ServedWatchdog) -> None:
    """The cookie is the browser's alone: no script reads it, no other site sends it."""
    form = site.ask("GET", "/login")
    reply = sign_in(site)
    cookie = cookie_of(reply)
    page = site.ask("GET", "/", headers=cookie)
    ran = site.ask("POST", RUN, headers={**cookie, **ours(site)})
    out = site.ask("POST", "/logout", headers={**cookie, **ours(site)})
    after = site.ask("GET", "/", headers=cookie)

    assert (form.code, reply.code, reply.headers["location"]) == (200, 303, "/")
    assert {part.strip().lower() for part in reply.headers["set-cookie"].split(";")[1:]} == {
        "httponly",
        f"max-age={SESSION_SECONDS:.0f}",
        "path=/",
        "samesite=strict",
    }
    assert TOKEN not in reply.headers["set-cookie"]
    assert b"Sign out" in page.body
    assert SECRETS[0] in page.body
    assert (ran.code, len(watchdog.ran)) == (200, 1)
    assert out.code == 303
    assert SECRETS[0] not in after.body


def test_behind_tls_the_cookie_is_for_tls_alone(site: Site) -> None:
    """A proxy in front says by which scheme the browser came."""
    https = {"X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin"}

    reply = sign_in(site, headers=https)

    assert "; Secure" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"Origin": "https://evil.example"}, id="another-origin"),
        pytest.param({"Origin": "null"}, id="no-origin"),
        pytest.param({}, id="nothing-said"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="a-neighbour-domain"),
        pytest.param({"Sec-Fetch-Site": "none", "Origin": "http://127.0.0.1"}, id="another-port"),
    ],
)
def test_another_site_can_do_nothing_with_somebodys_session(
    site: Site, watchdog: ServedWatchdog, said: dict[str, str]
) -> None:
    """Neither run a canary, nor sign in or out."""
    cookie = cookie_of(sign_in(site))

    codes = [
        site.ask("POST", RUN, headers={**cookie, **said}).code,
        site.ask("POST", "/logout", headers={**cookie, **said}).code,
        sign_in(site, headers=said).code,
    ]

    assert (codes, watchdog.ran) == ([403, 403, 403], [])
    assert SECRETS[0] in site.ask("GET", "/", headers=cookie).body


def test_a_browser_without_script_comes_back_to_the_page(site: Site) -> None:
    """The button is a plain form."""
    cookie = cookie_of(sign_in(site))

    reply = site.ask("POST", RUN, headers={**cookie, **ours(site), "Accept": "text/html,*/*"})

    assert (reply.code, reply.headers["location"]) == (303, "/")


def test_guesses_are_limited_and_said(site: Site, watchdog: ServedWatchdog) -> None:
    """After ten wrong ones not even the right one counts for a minute, by header or form; a session goes on."""
    cookie = cookie_of(sign_in(site))
    wrong = [sign_in(site, "a-guess-and-a-wrong-one").code for _ in range(WRONG_GUESSES)]

    limited = sign_in(site), site.ask("POST", RUN, headers=BEARER), site.ask("GET", "/api/v1/status", headers=BEARER)
    session = site.ask("GET", "/", headers=cookie)
    watchdog.clock.advance(GUESSES_SECONDS)
    later = sign_in(site)

    assert set(wrong) == {401}
    assert [reply.code for reply in limited] == [429, 429, 429]
    assert limited[0].headers["retry-after"] == "60"
    assert SECRETS[0] in session.body
    assert later.code == 303


def test_a_wrong_token_is_logged_and_not_shown(site: Site) -> None:
    """Who and when, not what: it may be the right one of another system."""
    with structlog.testing.capture_logs() as logs:
        reply = sign_in(site, "another-systems-token")

    assert [(entry["event"], entry["address"]) for entry in logs] == [("http.wrong_token", "127.0.0.1")]
    assert "another-systems-token" not in repr(logs) + reply.body.decode()


def test_a_form_of_any_size_is_not_read(site: Site) -> None:
    """A token has 256 characters at most."""
    reply = site.ask("POST", "/login", b"token=" + b"x" * 10_000, headers=ours(site))

    assert reply.code == 413


@pytest.fixture
def access(clock: ManualClock) -> Access:
    count = iter(range(10_000))
    return Access(lambda: TOKEN, clock, entropy=lambda size: next(count).to_bytes(size, "big"))


def test_a_session_ends_by_itself(access: Access, clock: ManualClock) -> None:
    """After a night on call."""
    secret = access.begin_session()

    clock.advance(SESSION_SECONDS - 1)
    before = access.has_session(secret)
    clock.advance(2)

    assert (before, access.has_session(secret)) == (True, False)


def test_a_session_ends_with_its_token(clock: ManualClock) -> None:
    """Whoever changes the token puts everybody out."""
    tokens = [TOKEN]
    access = Access(lambda: tokens[0], clock, entropy=bytes)
    secret = access.begin_session()

    tokens[0] = "another-token-altogether"

    assert not access.has_session(secret)


def test_sessions_and_addresses_are_bounded(access: Access) -> None:
    """The oldest gives way: nobody fills the memory by signing in or by guessing wrong."""
    secrets = [access.begin_session() for _ in range(MAX_SESSIONS + 1)]
    for i in range(MAX_ADDRESSES + 10):
        access.check("wrong", f"address-{i}")

    assert [access.has_session(secret) for secret in (secrets[0], secrets[1], secrets[-1])] == [False, True, True]
    assert len(access._wrong) == MAX_ADDRESSES  # what no public name shows


def test_one_address_s_guesses_do_not_shut_another_out(access: Access) -> None:
    """The limit is by address."""
    for _ in range(WRONG_GUESSES):
        access.check("wrong", "10.0.0.1")

    assert access.check(TOKEN, "10.0.0.1") is Answer.TOO_OFTEN
    assert access.check(TOKEN, "10.0.0.2") is Answer.RIGHT


def test_the_right_token_is_no_guess(access: Access) -> None:
    """A dashboard that asks every second is not limited."""
    answers = {access.check(TOKEN, "10.0.0.1") for _ in range(100)}

    assert answers == {Answer.RIGHT}


def test_a_token_file_is_read_again(tmp_path: Path, clock: ManualClock) -> None:
    """White space around it does not count; a new content counts at once, and a bad one lets nobody in."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    access = Access(token_of(Http(token_file=path)), clock, entropy=bytes)

    first = access.check(TOKEN, "a")
    path.write_text("another-token-altogether")
    changed = access.check(TOKEN, "a"), access.check("another-token-altogether", "a")
    path.write_text("short")
    with structlog.testing.capture_logs() as logs:
        unfit = access.check("short", "a"), access.check("another-token-altogether", "a")

    assert (first, *changed) == (Answer.RIGHT, Answer.WRONG, Answer.RIGHT)
    assert unfit == (Answer.WRONG, Answer.WRONG)
    assert [entry["event"] for entry in logs].count("http.token_file_unfit") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot be read: FileNotFoundError", id="missing"),
        pytest.param(b"short", "16 to 256 visible ASCII characters", id="short"),
        pytest.param(b"two words are no token", "16 to 256 visible ASCII characters", id="spaces"),
        pytest.param(b"\xff" * 20, "cannot be read: UnicodeDecodeError", id="binary"),
    ],
)
def test_an_unfit_token_file_is_refused_at_the_start(tmp_path: Path, content: bytes | None, says: str) -> None:
    """In one line, without what is in it."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=says) as caught:
        token_of(Http(token_file=path))

    assert str(caught.value).startswith("http.token_file: ")
    assert "two words" not in str(caught.value)


def test_a_token_file_that_nobody_may_read_is_no_crash(tmp_path: Path) -> None:
    """Rights may change while it runs; root reads all the same, so the folder takes the file's place here."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    token = token_of(Http(token_file=path))
    path.unlink()
    path.mkdir(mode=stat.S_IRWXU)

    assert token is not None
    assert token() is None
