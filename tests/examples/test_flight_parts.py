"""The example service's parts by themselves: what is bound to what, what health says, what the load reports."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flight_kit import FIELDS
from parker_flight_api import load
from parker_flight_api.bodies import BadRequestError, to_open, to_seal
from parker_flight_api.bookings import FIELDS as SEALED_FIELDS
from parker_flight_api.bookings import Bookings, UnknownFieldError
from parker_flight_api.ending import Ending
from parker_flight_api.metrics import Metrics
from parker_flight_api.readiness import Watch, denial, health_answer, readiness_answer
from parker_flight_api.web import Api
from starlette.requests import Request
from starlette.responses import Response

from kms_core import CoreConfig, MessageError, RoundTrip, SelfCheck
from kms_core.aio import AsyncCore
from kms_core.testing import FakeEstate, ManualClock, core_over

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAIT_SECONDS = 20.0
"""More than anything here takes."""
QUICK = dict.fromkeys(
    ("deadline_seconds", "attempt_timeout_seconds", "read_timeout_seconds", "connect_timeout_seconds"), 0.1
)
CLOSED = dict.fromkeys(("us-east-1", "us-west-2"), "closed")


def check(**failed: str) -> SelfCheck:
    """Two keys in two regions; `general_us_east_1="Code"` is one that failed."""
    return SelfCheck(
        round_trips=tuple(
            RoundTrip(
                region=region,
                purpose=purpose,
                ok=(code := failed.get(f"{purpose}_{region}".replace("-", "_"), "")) == "",
                error_code=code,
                seconds=0.02,
            )
            for region in ("us-east-1", "us-west-2")
            for purpose in ("general", "pii")
        )
    )


PAIRS = [f"{purpose}_{region}" for purpose in ("general", "pii") for region in ("us_east_1", "us_west_2")]
ALL_DENIED = dict.fromkeys(PAIRS, "AccessDeniedException")


@pytest.fixture
def estate() -> FakeEstate:
    made = FakeEstate(["us-east-1", "us-west-2", "eu-west-1"], clock=ManualClock(auto_advance=True))
    for purpose in ("general", "pii", "payment"):
        made.create_key(f"alias/parker-flight-{purpose}-production")
    return made


def with_bookings(estate: FakeEstate, purposes: str, work: Callable[[Bookings], object]) -> None:
    """Have `work`, a coroutine function, use bookings over the fake estate."""
    config = CoreConfig.from_env(
        {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "us-east-1", "KMS_PURPOSES": purposes}
    )

    async def run() -> None:
        async with AsyncCore(core_over(estate, config)) as core:
            await work(Bookings.of(core, config.keys))  # type: ignore[misc]

    asyncio.run(run())


def test_each_field_has_a_key_and_a_context_of_its_own(estate: FakeEstate) -> None:
    """What KMS is asked for is one data key a field; no two fields share a purpose or a context."""
    contexts = [tuple(sorted(field.context.items())) for field in SEALED_FIELDS.values()]

    async def work(bookings: Bookings) -> None:
        for number in range(10):
            sealed = await bookings.seal(f"AAAAA{number}", FIELDS)
            assert await bookings.open(f"AAAAA{number}", sealed) == FIELDS

    with_bookings(estate, "general,pii,payment", work)

    assert len(set(contexts)) == len({field.purpose for field in SEALED_FIELDS.values()}) == 3
    assert [call.operation for call in estate.calls].count("GenerateDataKey") == 3


def test_a_sealed_field_is_bound_to_its_kind_and_its_booking(estate: FakeEstate) -> None:
    """Every exchange of two fields or of two bookings is refused, with the same words."""

    async def work(bookings: Bookings) -> None:
        sealed = await bookings.seal("AAAAAA", FIELDS)
        swaps = [("AAAAAA", {one: sealed[other]}) for one, other in itertools.permutations(FIELDS, 2)]
        for reference, fields in [*swaps, *(("BBBBBB", {name: sealed[name]}) for name in FIELDS)]:
            with pytest.raises(MessageError, match=r"^the message cannot be opened$"):
                await bookings.open(reference, fields)

    with_bookings(estate, "general,pii,payment", work)


def test_what_another_program_sealed_under_the_same_context_is_no_booking(estate: FakeEstate) -> None:
    """It opens, and is not in our form: a bad message, not a crash."""

    async def work(bookings: Bookings) -> None:
        one = SEALED_FIELDS["card"]
        for plaintext in (b"4111", b"[1]", b"\xff", b'["AAAAAA"]', b"7"):
            message = await bookings.core.encrypt(plaintext, purpose=one.purpose, context=one.context)
            with pytest.raises(MessageError):
                await bookings.open("AAAAAA", {"card": message})

    with_bookings(estate, "general,pii,payment", work)


def test_a_task_handles_the_fields_of_its_keys_alone(estate: FakeEstate) -> None:
    """The payment task seals cards, and says so to who comes with a passport."""

    async def work(bookings: Bookings) -> None:
        assert set(await bookings.seal("AAAAAA", {"card": "4111"})) == {"card"}
        with pytest.raises(UnknownFieldError, match="'passport' is not sealed here; card are"):
            await bookings.seal("AAAAAA", {"card": "4111", "passport": "X"})
        with pytest.raises(UnknownFieldError, match="'passport'"):
            await bookings.open("AAAAAA", {"passport": b""})

    with_bookings(estate, "payment", work)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "must be JSON", id="empty"),
        pytest.param(b"\xff\xfe", "must be JSON", id="no-text"),
        pytest.param(b"[" * 50_000, "must be JSON", id="too-deep"),
        pytest.param(b"null", "an object with reference and", id="null"),
        pytest.param(b'{"reference": "AAAAAA", "fields": {}, "sealed": {}, "x": 1}', "an object with", id="more"),
    ],
)
def test_a_body_that_cannot_be_meant_is_named(body: bytes, said: str) -> None:
    """For sealing and for opening alike."""
    for read in (to_seal, to_open):
        with pytest.raises(BadRequestError, match=said):
            read(body)


def test_health_is_the_guides_form() -> None:
    """Healthy 200, degraded 503, unhealthy 500; never looked is a state of its own, though no region is false then."""
    answers = {
        "all": health_answer(check(), CLOSED, NOW, detail=False),
        "half open": health_answer(check(), CLOSED | {"us-east-1": "half_open"}, NOW, detail=False),
        "open": health_answer(check(), CLOSED | {"us-east-1": "open"}, NOW, detail=False),
        "one": health_answer(check(pii_us_east_1="Deadline"), CLOSED, NOW, detail=True),
        "key": health_answer(check(pii_us_east_1="Deadline", pii_us_west_2="Deadline"), CLOSED, NOW, detail=False),
        "never": health_answer(None, CLOSED, NOW, detail=True),
    }

    assert {name: (code, document["status"]) for name, (code, document) in answers.items()} == {
        "all": (200, "healthy"),
        "half open": (200, "healthy"),
        "open": (503, "degraded"),
        "one": (503, "degraded"),
        "key": (500, "unhealthy"),
        "never": (500, "unhealthy"),
    }
    assert answers["open"][1] == {
        "status": "degraded",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "regions": {"us-east-1": True, "us-west-2": True},
        "circuitBreakers": {"us-east-1": {"state": "OPEN"}, "us-west-2": {"state": "CLOSED"}},
    }
    assert answers["one"][1]["regions"] == {"us-east-1": False, "us-west-2": True}
    assert answers["one"][1]["failed"] == [{"region": "us-east-1", "key": "pii", "code": "Deadline"}]
    assert "failed" not in answers["key"][1]


def test_readiness_is_one_region_for_each_key() -> None:
    """Different ones will do; and who ends is not ready."""
    crossed = check(general_us_east_1="Deadline", pii_us_west_2="Deadline")
    lost = check(pii_us_east_1="Deadline", pii_us_west_2="DisabledException")

    assert readiness_answer(crossed, draining=False)[0] == 200
    assert readiness_answer(crossed, draining=True)[0] == 503
    assert readiness_answer(lost, draining=False) == (
        503, {"ready": False, "draining": False, "keys": {"general": ["us-east-1", "us-west-2"], "pii": []}},
    )  # fmt: skip
    assert readiness_answer(None, draining=False)[0] == 503


def test_a_start_is_refused_where_nothing_is_allowed_and_not_in_an_outage() -> None:
    """Denied everywhere is for a person; one key or one region that is left, or silence among denials, is not."""
    silent = ALL_DENIED | {"pii_us_west_2": "Deadline"}

    assert denial(check(**ALL_DENIED)) == "no key can be used: AccessDeniedException in us-west-2"
    assert not denial(check(**silent))
    assert not denial(check(**{name: code for name, code in ALL_DENIED.items() if name != "general_us_east_1"}))
    assert not denial(check(**dict.fromkeys(ALL_DENIED, "KMSInternalException")))
    assert not denial(check())


class Looked:
    """What is looked at: says what it is told to."""

    def __init__(self) -> None:
        self.answer = check()

    def self_check(self, *, timeout_seconds: float | None = None) -> SelfCheck:
        return self.answer


def test_what_was_seen_too_long_ago_is_nothing_seen() -> None:
    """Were the thread to die, readiness would not stay what it was for ever."""
    clock, told = ManualClock(), list[SelfCheck]()
    watch = Watch(Looked(), clock, 30, told.append)
    before = watch.last()

    seen = watch.look()
    clock.advance(95)
    still = watch.last()
    clock.advance(1)

    assert (before, still, watch.last()) == (None, seen, None)
    assert told == [seen]


def test_a_look_that_fails_is_not_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails in it, of ours or of a library's, is said; the next look is made, and readiness returns."""
    seen = threading.Event()

    class Failing(Looked):
        """Fails at the first look."""

        looks = 0

        def self_check(self, *, timeout_seconds: float | None = None) -> SelfCheck:
            self.looks += 1
            if self.looks == 1:
                raise ZeroDivisionError
            return self.answer

    watch = Watch(Failing(), ManualClock(auto_advance=True), 30, lambda _: seen.set())
    watch.start()
    looked_again = seen.wait(WAIT_SECONDS)
    watch.close()

    assert looked_again
    assert [record.message for record in caplog.records] == ["readiness.failed: nothing was seen this time"]


def test_who_waits_in_vain_for_a_thread_is_told_so(estate: FakeEstate) -> None:
    """A crowd of slow requests does not stand in the core's queue until SIGKILL: 503, and when to come again."""
    config = dataclasses.replace(
        CoreConfig.from_env({"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "us-east-1"}), **QUICK
    )
    release = threading.Event()

    async def run() -> dict[str, Response]:
        blocking = core_over(estate, config)
        async with AsyncCore(blocking, workers=1) as core:
            clock = estate.clock
            watch, bookings = Watch(blocking, clock, 30, lambda _: None), Bookings.of(core, config.keys)
            api = Api(bookings, watch, Metrics(), clock, config=config, health_token="")
            sealed = await bookings.seal("AAAAAA", FIELDS)
            estate.clock.advance(2 * config.data_key_ttl_seconds)
            occupied = asyncio.create_task(core.run(release.wait, WAIT_SECONDS))
            texts = {name: base64.b64encode(message).decode() for name, message in sealed.items()}
            asked = {"seal": {"fields": FIELDS}, "open": {"sealed": texts}}
            answers = {
                route: await api.guarded(route, getattr(api, route))(posted({"reference": "AAAAAA", **body}))
                for route, body in asked.items()
            }
            release.set()
            await occupied
        return answers

    answers = asyncio.run(run())

    assert {route: answer.status_code for route, answer in answers.items()} == {"seal": 503, "open": 503}
    assert {answer.headers["retry-after"] for answer in answers.values()} == {"5"}


def posted(document: object) -> Request:
    """Return a request whose body has come."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": json.dumps(document).encode(), "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """Give the address of somebody who answers every POST with 200 and `body`."""

    class Handler(BaseHTTPRequestHandler):
        """As it says."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no member"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"sealed": "x"}', id="no object within"),
        pytest.param(b'{"sealed": {"card": 4111}}', id="no text within"),
        pytest.param(b"<html>", id="no JSON"),
    ],
)
def test_a_200_with_another_body_is_counted(body: bytes) -> None:
    """By name, as an answer that is a failure; none is lost, and its thread goes on to the next one."""
    with answering(body) as url:
        made = load.Load([url], ["card"], ManualClock(auto_advance=True), random.Random(7))
        report = made.run(Ending(), rate=10, seconds=1, clients=2)

    assert (report["requests"], report["failures"], report["outcomes"]) == (10, 10, {"AnotherBody": 10})
    assert load.exit_code(report) == 1


@pytest.mark.parametrize("opened", [pytest.param("x", id="another"), pytest.param(None, id="not-at-all")])
def test_what_does_not_come_out_as_it_went_in_is_lost(opened: str | None) -> None:
    """Whatever became of the requests: all that was sealed is opened once more, and compared."""
    answer = {"sealed": {"card": "c2VhbGVk"}} | ({"fields": {"card": opened}} if opened else {})
    with answering(json.dumps(answer).encode()) as url:
        made = load.Load([url], ["card"], ManualClock(auto_advance=True), random.Random(7))
        made.run(Ending(), rate=10, seconds=1, clients=1)
        again = made.open_all(clients=2)

    good = {"outcomes": {"200": 10}, "failures": 0}
    assert (again["sealed"], again["lost"]) == (6, 6)  # the first request has nothing to open yet
    assert load.exit_code(good | {"opened_again": again}) == 1
    assert load.exit_code(good | {"opened_again": again | {"lost": 0}}) == 0


def test_a_trace_has_a_line_for_each_request(tmp_path: Path) -> None:
    """When it ended, and what with: who holds the load against other clocks needs both."""
    path = tmp_path / "trace.ndjson"
    with answering(b"{}") as url:
        code = load.main(["--url", url, "--rate", "50", "--seconds", "0.2", "--trace", str(path), "--open-all"])

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert code == 1
    assert [line["outcome"] for line in lines] == ["AnotherBody"] * 10
    assert all(datetime.fromisoformat(line["at_utc"]).tzinfo and line["ms"] >= 0 for line in lines)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        pytest.param(["200", "200"], 0, id="all-good"),
        pytest.param(["200", "503"], 1, id="refused"),
        pytest.param(["200", "Mismatch"], 1, id="another-plaintext"),
        pytest.param(["Mismatch"], 1, id="nothing-but-another-plaintext"),
        pytest.param(["200", "RemoteDisconnected"], 1, id="cut"),
        pytest.param(["ConnectionRefusedError"] * 3, 3, id="nobody-there"),
        pytest.param([], 3, id="nothing-asked"),
    ],
)
def test_a_load_is_judged_by_its_outcomes(outcomes: list[str], code: int) -> None:
    """Nothing answered is nothing learnt."""
    tally = load.Tally()
    for outcome in outcomes:
        tally.add(outcome, 5.0, datetime(2026, 12, 1, tzinfo=UTC))

    report = tally.report()

    assert report["failures"] == sum(outcome != "200" for outcome in outcomes)
    assert load.exit_code(report) == code


def test_percentiles_are_of_values_that_were_measured() -> None:
    """The nearest rank, without interpolation; of nothing, nothing."""
    values = [float(number) for number in random.Random(7).sample(range(1, 201), 200)]

    assert [load.percentile(values, percent) for percent in (50, 99, 100)] == [100, 198, 200]
    assert [load.percentile([7.04], percent) for percent in (50, 99)] == [7.0, 7.0]
    assert load.percentile([], 99) is None


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--url", "https://127.0.0.1:1"], id="tls"),
        pytest.param(["--url", "127.0.0.1:3000"], id="no-scheme"),
        pytest.param(["--url", "http://127.0.0.1:http"], id="port"),
        pytest.param(["--rate", "0"], id="rate"),
        pytest.param(["--seconds", "inf"], id="for-ever"),
        pytest.param(["--clients", "0"], id="clients"),
    ],
)
def test_a_load_that_cannot_be_meant_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the option is named."""
    with pytest.raises(SystemExit) as ended:
        load.main(arguments)

    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
