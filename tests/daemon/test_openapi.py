"""`docs/api/openapi.json` and what is served are held equal: routes, methods, status codes, content types, bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route
from status_kit import (
    BUSY,
    RUN,
    TOKEN,
    TOO_MANY,
    Reply,
    ServedWatchdog,
    Site,
    look,
    one_region_down,
    page,
    served,
)  # fmt: skip

from kms_core.overrides import RegionOverride
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.results import Outcome, Reason
from kms_watchdog.web.app import application
from kms_watchdog.web.documents import health_document, status_document

API = json.loads((Path(__file__).parents[2] / "docs/api/openapi.json").read_text(encoding="utf-8"))
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FROM_AFAR = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
"""What the address of another machine looks like to the server, said by a proxy on this one."""
CANARY = "/api/v1/canaries/round_trip:us-east-1:pii/run"


@pytest.fixture
def watchdog(settings: Settings) -> ServedWatchdog:
    return ServedWatchdog(settings, token=TOKEN)


@pytest.fixture
def site(watchdog: ServedWatchdog) -> Iterator[Site]:
    with served(watchdog) as made:
        yield made


def schema_errors(schema: Mapping[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": API["components"]})
    return [f"{error.json_path}: {error.message[:150]}" for error in validator.iter_errors(value)]


def schema_of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def told_path(path: str) -> str:
    """Return the path of the document that a request's path is an instance of."""
    patterns = {re.sub(r"\{\w+\}", "[^/]+", told): told for told in API["paths"]}
    return next(told for pattern, told in patterns.items() if re.fullmatch(pattern, path))


def agrees(method: str, path: str, reply: Reply) -> list[str]:
    """Return in what an answer differs from what the document says of its operation."""
    responses = API["paths"][told_path(path)][method.lower()]["responses"]
    if str(reply.code) not in responses:
        return [f"{reply.code} is not among {', '.join(responses)}"]
    told = responses[str(reply.code)]
    missing = [name for name in told.get("headers", {}) if name.lower() not in reply.headers]
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if "content" not in told:
        return missing + ([f"a body of {len(reply.body)}"] if reply.body else [])
    if kind not in told["content"]:
        return [*missing, f"{kind} is not among {', '.join(told['content'])}"]
    return missing + (schema_errors(told["content"][kind]["schema"], json.loads(reply.body)) if "json" in kind else [])


def test_every_route_and_method_is_told_and_no_other(watchdog: ServedWatchdog) -> None:
    """HEAD comes with GET."""
    routes = [route for route in application(watchdog, page(), with_metrics=True).routes if isinstance(route, Route)]
    served_here = {(route.path, method) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    told = {(path, method.upper()) for path, operations in API["paths"].items() for method in operations}

    assert served_here == told


Given = Callable[[ServedWatchdog], object]


def set_to(**values: Any) -> Given:
    return lambda watchdog: [setattr(watchdog, name, value) for name, value in values.items()]


def nothing(_: ServedWatchdog) -> None:
    return None


@pytest.mark.parametrize(
    ("given", "method", "path", "headers", "code"),
    [
        pytest.param(nothing, "GET", "/livez", {}, 200, id="alive"),
        pytest.param(set_to(is_alive=False), "GET", "/livez", {}, 503, id="not-alive"),
        pytest.param(nothing, "GET", "/readyz", {}, 200, id="ready"),
        pytest.param(set_to(missing=("round_trip",)), "GET", "/readyz", {}, 503, id="not-ready"),
        pytest.param(nothing, "GET", "/health", {}, 200, id="healthy"),
        pytest.param(lambda w: w.look(3, one_region_down()), "GET", "/health", BEARER, 503, id="degraded"),
        pytest.param(lambda w: w.clock.advance(9e9), "GET", "/health", {}, 500, id="unhealthy"),
        pytest.param(set_to(crash=True), "GET", "/health", {}, 500, id="stumble"),
        pytest.param(set_to(crash=True), "GET", "/api/v1/status", {}, 500, id="stumble-status"),
        pytest.param(nothing, "GET", "/metrics", {}, 200, id="metrics"),
        pytest.param(nothing, "GET", "/api/v1/status", {}, 200, id="status"),
        pytest.param(nothing, "GET", "/api/v1/status", {"Authorization": "Bearer wrong"}, 401, id="status-wrong"),
        pytest.param(nothing, "GET", "/api/v1/status", {**BEARER, **FROM_AFAR}, 403, id="status-in-the-clear"),
        pytest.param(nothing, "POST", CANARY, BEARER, 200, id="run"),
        pytest.param(nothing, "POST", CANARY, {**BEARER, "Accept": "text/html"}, 303, id="run-in-a-browser"),
        pytest.param(nothing, "POST", CANARY, {}, 401, id="run-stranger"),
        pytest.param(nothing, "POST", CANARY, {**BEARER, **FROM_AFAR}, 403, id="run-in-the-clear"),
        pytest.param(nothing, "POST", CANARY.replace(":pii", ":pi"), BEARER, 404, id="run-unknown"),
        pytest.param(set_to(refuses=BUSY), "POST", CANARY, BEARER, 409, id="run-busy"),
        pytest.param(set_to(refuses=TOO_MANY), "POST", CANARY, BEARER, 503, id="run-too-many"),
        pytest.param(nothing, "GET", "/", {}, 200, id="page"),
        pytest.param(nothing, "GET", "/fragment", {}, 200, id="fragment"),
        pytest.param(nothing, "GET", "/login", {}, 200, id="login-page"),
        pytest.param(nothing, "POST", "/login", {}, 403, id="login-from-elsewhere"),
        pytest.param(nothing, "POST", "/login", {"Sec-Fetch-Site": "same-origin"}, 401, id="login-without-token"),
        pytest.param(
            nothing, "POST", "/login", {"Sec-Fetch-Site": "same-origin", **FROM_AFAR}, 403, id="login-in-the-clear"
        ),
        pytest.param(nothing, "POST", "/logout", {}, 403, id="logout-from-elsewhere"),
        pytest.param(nothing, "POST", "/logout", {"Sec-Fetch-Site": "same-origin"}, 303, id="logout"),
        pytest.param(nothing, "GET", "/static/none.js", {}, 404, id="no-asset"),
        pytest.param(nothing, "GET", f"/drills/{RUN}/report.html", {}, 404, id="no-report"),
    ],
)
def test_each_answer_is_as_told(
    site: Site, watchdog: ServedWatchdog, given: Given, method: str, path: str, headers: dict[str, str], code: int
) -> None:
    """Its code, its content type, the headers that it must have, and its body."""
    given(watchdog)

    reply = site.ask(method, path, headers=headers)

    assert (reply.code, agrees(method, path, reply)) == (code, [])


def test_too_many_wrong_tokens_are_told_so(site: Site) -> None:
    """Of a canary and of the page where one signs in."""
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(10):
        site.ask("POST", CANARY, headers=wrong)

    ran, signed = site.ask("POST", CANARY, headers=wrong), site.ask("POST", "/login", b"token=x", headers=OURS)

    assert [(ran.code, agrees("POST", CANARY, ran)), (signed.code, agrees("POST", "/login", signed))] == [(429, [])] * 2


OURS = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


def test_files_are_as_told(site: Site, watchdog: ServedWatchdog, tmp_path: Path) -> None:
    """Assets, a report and a part of one, a form that is too large."""
    watchdog.report_file = tmp_path / "report.html"
    watchdog.report_file.write_text("<!doctype html>")
    report = f"/drills/{RUN}/report.html"
    asked = [("GET", f"/static/{name}", None, {}) for name in page().assets]
    asked += [("GET", report, None, {"Range": wished}) for wished in ("", "bytes=0-3", "bytes=99-", "bytes=z")]
    asked += [("POST", "/login", b"token=" + b"a" * 5000, OURS), ("POST", "/login", f"token={TOKEN}".encode(), OURS)]

    replies = [(method, path, site.ask(method, path, body, headers=head)) for method, path, body, head in asked]

    assert [(path, reply.code, agrees(method, path, reply)) for method, path, reply in replies if agrees(
        method, path, reply
    )] == []  # fmt: skip
    assert {reply.code for *_, reply in replies} == {200, 206, 416, 400, 413, 303}


def test_without_a_token_it_is_told_that_there_is_none(settings: Settings) -> None:
    """403 of the canary, 404 of the page where one would sign in."""
    with served(ServedWatchdog(settings)) as site:
        replies = {way: site.ask(*way) for way in (("POST", CANARY), ("GET", "/login"), ("POST", "/login"))}

    assert [(way, agrees(*way, reply)) for way, reply in replies.items() if agrees(*way, reply)] == []
    assert [reply.code for reply in replies.values()] == [403, 404, 404]


def every_state(watchdog: ServedWatchdog) -> None:
    """Have something in every list and something other than nothing in every field."""
    watchdog.look(3, one_region_down())
    watchdog.look(1, lambda s: look(s, Outcome.BLIND) if s.region == "us-west-2" else None)
    watchdog.look(1, lambda s: look(s, Outcome.FAILED, reason=Reason.DRIFT, run_id=RUN, facts={"a": 1}))
    watchdog.breakers["us-east-1"], watchdog.forced = "half_open", {"us-west-2": "by ann: disk"}
    until = watchdog.status().now_utc + timedelta(hours=1)
    watchdog.orders = (
        RegionOverride(region="eu-west-1", kind="avoid", until_utc=until, reason="evacuated by ann: INC-7"),
    )
    (run,) = watchdog.runs
    watchdog.runs = (
        run, replace(run, ended_at_utc=run.started_at_utc, verdict=Verdict.BROKE, healed_by_reason="owner_dead"),
        RunView(run_id="20260101T000001Z-x", drill="x", region="us-east-1", phase="hold"),
        RunView(run_id="20260101T000002Z-x", broken="line 3: not of this chain"),
    )  # fmt: skip


@pytest.mark.parametrize("detail", [False, True], ids=["stranger", "known"])
def test_the_documents_are_as_told_in_every_state(watchdog: ServedWatchdog, *, detail: bool) -> None:
    """Nothing that is not told, nothing missing, every word of a closed list."""
    every_state(watchdog)
    now_utc = watchdog.status().now_utc

    told = [
        *schema_errors(schema_of("Status"), status_document(watchdog.status(), detail=detail)),
        *schema_errors(schema_of("Health"), health_document(watchdog.health_now(), now_utc, detail=detail)),
    ]

    assert told == []


def test_a_field_that_is_not_told_is_noticed(watchdog: ServedWatchdog) -> None:
    """So that one that is added is told, and one that goes is missed: of every object there is."""
    document = status_document(watchdog.status(), detail=True)
    less = {name: value for name, value in document.items() if name != "jobs"}

    assert schema_errors(schema_of("Status"), {**document, "more": 1})
    assert schema_errors(schema_of("Status"), less)
    schemas = API["components"]["schemas"].values()
    assert all(one["additionalProperties"] is False for one in schemas)


CHANGES_STATE = {("/api/v1/canaries/{name}/run", "POST"), ("/login", "POST"), ("/logout", "POST")}


def test_what_changes_anything_is_known(watchdog: ServedWatchdog) -> None:
    """A route that is added with another method than GET is to be put here, and is asked below."""
    routes = [route for route in application(watchdog, page(), with_metrics=True).routes if isinstance(route, Route)]

    assert {(r.path, m) for r in routes for m in (r.methods or set()) - {"GET", "HEAD"}} == CHANGES_STATE


@pytest.mark.parametrize(
    "path", sorted(path.replace("{name}", "round_trip:us-east-1:pii") for path, _ in CHANGES_STATE)
)
@pytest.mark.parametrize(
    "shown",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"Authorization": "Bearer wrong"}, id="a-wrong-token"),
        pytest.param({"Cookie": "SESSION", "Origin": "https://evil.example"}, id="a-session-from-elsewhere"),
        pytest.param({"Cookie": "SESSION", "Sec-Fetch-Site": "same-site"}, id="a-session-of-a-neighbour"),
        pytest.param({**BEARER, **FROM_AFAR}, id="the-token-in-the-clear"),
        pytest.param({"Cookie": "SESSION", **FROM_AFAR, "Sec-Fetch-Site": "same-site"}, id="a-session-in-the-clear"),
    ],
)
def test_nothing_changes_without_leave(site: Site, watchdog: ServedWatchdog, path: str, shown: dict[str, str]) -> None:
    """401 or 403; no canary looked, no session began, none ended."""
    session = watchdog.access.begin_session()
    cookie = f"kms_watchdog_{site.port}={session}"
    headers = {name: cookie if value == "SESSION" else value for name, value in shown.items()}

    reply = site.ask("POST", path, b"token=x", headers=headers)

    assert reply.code in {401, 403}
    assert (watchdog.ran, "set-cookie" in reply.headers) == ([], False)
    assert watchdog.access.has_session(session)


def test_from_another_machine_a_token_counts_over_tls_alone(site: Site, watchdog: ServedWatchdog) -> None:
    """Not even to see detail, nor as a guess; where somebody says that the way is safe, it does."""
    watchdog.look(3, one_region_down())
    tls = {**FROM_AFAR, "X-Forwarded-Proto": "https"}
    seen = [
        b"no connection" in site.ask("GET", "/health", headers={**BEARER, **head}).body for head in (FROM_AFAR, tls)
    ]
    for _ in range(20):
        site.ask("GET", "/health", headers={"Authorization": "Bearer wrong", **FROM_AFAR})
    after_guesses = site.ask("GET", "/api/v1/status", headers={**BEARER, **tls}).code

    watchdog.access.over_plain_http = True
    allowed = site.ask("GET", "/api/v1/status", headers={**BEARER, **FROM_AFAR}).code

    assert (seen, after_guesses, allowed) == ([False, True], 200, 200)
