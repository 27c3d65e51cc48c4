"""People's word on regions: read from a file or SSM in the background, always for a time, never the end of service."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kms_core import Core, CoreConfig
from kms_core._override_watch import MAX_SECONDS
from kms_core.clock import SystemClock
from kms_core.events import OverridesChanged, OverridesUnreadable
from kms_core.overrides import (
    FileOverrides,
    OverridesUnreadableError,
    RegionOverride,
    SsmOverrides,
    parse_overrides,
)
from kms_core.testing import FakeEstate, InlineLane, ManualClock
from kms_core.testing.clock import EPOCH_UTC

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def override(**changes: Any) -> dict[str, Any]:
    until = (EPOCH_UTC + dt.timedelta(hours=1)).isoformat()
    return {"region": EAST, "kind": "avoid", "until_utc": until, "reason": "INC-7"} | changes


def written(*overrides: dict[str, Any]) -> str:
    return json.dumps({"overrides": list(overrides)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "overrides.json"


@pytest.fixture
def overridden(estate: FakeEstate, config: CoreConfig, recorder: Any, clock: ManualClock, file: Path) -> Iterator[Core]:
    """A core of one thread, whose overrides are read when the test says so."""
    core = Core(
        config,
        recorder,
        clock=clock,
        connect=estate.connect,
        lane=lambda _: InlineLane(clock),
        overrides=FileOverrides(file),
        override_interval_seconds=None,
    )
    estate.calls.clear()
    yield core
    core.close()


def seal(core: Core, number: int = 0) -> bytes:
    return core.encrypt(b"x", purpose="general", context={"number": str(number)})


def test_an_avoided_region_is_not_asked_until_the_time_is_over(
    overridden: Core, estate: FakeEstate, clock: ManualClock, file: Path, recorder: Any
) -> None:
    """Evacuated by hand, back by itself."""
    file.write_text(written(override()))
    overridden.read_overrides()
    seal(overridden)
    clock.advance(3600.0)
    seal(overridden, 1)

    assert estate.asked() == [WEST, EAST]
    (changed,) = recorder.of(OverridesChanged)
    assert [(each.region, each.reason) for each in changed.overrides] == [(EAST, "INC-7")]
    assert not overridden.overrides()


def test_a_preferred_region_comes_first(overridden: Core, estate: FakeEstate, file: Path) -> None:
    """Before the own one."""
    file.write_text(written(override(region=IRELAND, kind="prefer")))
    overridden.read_overrides()
    seal(overridden)
    assert estate.asked() == [IRELAND]


def test_avoiding_every_region_closes_none(overridden: Core, estate: FakeEstate, file: Path) -> None:
    """Nor when the only region that is not avoided is away."""
    file.write_text(written(*(override(region=region) for region in (EAST, WEST, IRELAND))))
    overridden.read_overrides()
    assert seal(overridden)

    file.write_text(written(override()))
    overridden.read_overrides()
    estate.fail("ConnectionRefused", regions=[WEST, IRELAND])
    estate.calls.clear()
    assert seal(overridden, 1)
    assert estate.asked() == [WEST, IRELAND, EAST]


def test_a_canary_is_not_overridden(overridden: Core, estate: FakeEstate, file: Path) -> None:
    """Somebody has to see when the region is well again."""
    file.write_text(written(override()))
    overridden.read_overrides()
    overridden.pinned(EAST).encrypt(b"x", purpose="general", context={"canary": "true"})
    assert estate.asked() == [EAST]


def test_what_cannot_be_read_leaves_the_last_word_in_force_until_it_expires(
    overridden: Core, estate: FakeEstate, clock: ManualClock, file: Path, recorder: Any
) -> None:
    """And is told once."""
    file.write_text(written(override()))
    overridden.read_overrides()
    file.write_text("{")
    overridden.read_overrides()
    overridden.read_overrides()

    seal(overridden)
    clock.advance(3601.0)
    overridden.read_overrides()
    seal(overridden, 1)

    assert estate.asked() == [WEST, EAST]
    (unreadable,) = recorder.of(OverridesUnreadable)
    assert unreadable.source == str(file)
    assert overridden.overrides_unreadable() == unreadable.reason
    file.write_text(written(override()))
    overridden.read_overrides()
    assert overridden.overrides_unreadable() == ""


def test_a_file_that_is_gone_takes_its_overrides_with_it(overridden: Core, estate: FakeEstate, file: Path) -> None:
    """Deleting it is how one takes them back."""
    file.write_text(written(override()))
    overridden.read_overrides()
    file.unlink()
    overridden.read_overrides()
    seal(overridden)
    assert estate.asked() == [EAST]


def test_no_override_holds_longer_than_a_day(
    overridden: Core, estate: FakeEstate, clock: ManualClock, file: Path
) -> None:
    """However far its end, and however often it is read."""
    file.write_text(written(override(until_utc="2099-01-01T00:00:00Z")))
    overridden.read_overrides()
    clock.advance(MAX_SECONDS - 1)
    overridden.read_overrides()
    assert overridden.overrides()
    clock.advance(1)
    overridden.read_overrides()
    assert not overridden.overrides()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"overrides": 1}',
        '{"overrides": ["x"]}',
        written(override(kind="close")),
        written(override(reason="")),
        written(override(region="")),
        written(override(until_utc="2026-01-01T12:00:00")),
        written(override(until_utc="soon")),
        written(override(until_utc=7)),
        written({"region": EAST, "kind": "avoid", "reason": "x"}),
        written(override(extra=1)),
        written(override(), override(kind="close")),
    ],
)
def test_an_override_that_cannot_be_right_is_unreadable(text: str) -> None:
    """All or none: half an order is worse than the last one."""
    with pytest.raises(OverridesUnreadableError):
        parse_overrides(text, "json")


def test_a_toml_file_says_the_same(tmp_path: Path) -> None:
    """TOML has dates of its own."""
    file = tmp_path / "overrides.toml"
    file.write_text(
        '[[overrides]]\nregion = "us-east-1"\nkind = "avoid"\nuntil_utc = 2026-01-01T01:00:00Z\nreason = "INC-7"\n'
    )
    assert FileOverrides(file).read() == parse_overrides(written(override()), "json")
    file.write_bytes(b"\xff")
    with pytest.raises(OverridesUnreadableError):
        FileOverrides(file).read()


def test_it_is_read_in_a_thread_and_no_call_waits_for_it(config: CoreConfig) -> None:
    """A source that hangs holds up neither the start nor a call; closing ends the thread."""
    estate, reading, go_on = FakeEstate(), threading.Event(), threading.Event()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    until = SystemClock().now_utc() + dt.timedelta(hours=1)
    seen = threading.Event()

    class Hanging:
        name = "hanging"

        def read(self) -> tuple[RegionOverride, ...]:
            reading.set()
            assert go_on.wait(10)
            return (RegionOverride(region=EAST, kind="avoid", until_utc=until, reason="x"),)

    class Watcher:
        def on_event(self, event: object) -> None:
            if isinstance(event, OverridesChanged):
                seen.set()

    with Core(
        config,
        Watcher(),
        clock=SystemClock(),
        connect=estate.connect,
        overrides=Hanging(),
        override_interval_seconds=0.01,
    ) as core:
        assert reading.wait(10)
        assert seal(core)
        go_on.set()
        assert seen.wait(10)
        estate.calls.clear()
        seal(core, 1)
        assert estate.asked() == [WEST]

    assert not [thread for thread in threading.enumerate() if thread.name == "kms-core-overrides"]


class Ssm:
    """An SSM with one parameter."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.broken = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["X-Amz-Target"] == "AmazonSSM.GetParameter"
                outer._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="ssm")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        status, document = 200, {"Parameter": {"Value": self.value}}
        if self.broken:
            status, document = 500, {"__type": "InternalServerError"}  # type: ignore[dict-item]
        elif self.value is None:
            status, document = 400, {"__type": "ParameterNotFound"}  # type: ignore[dict-item]
        body = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Ssm]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    made: list[Ssm] = []

    def make() -> Ssm:
        made.append(Ssm())
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_a_parameter_in_any_region_is_an_override(ssm: Callable[[], Ssm]) -> None:
    """Written where SSM still works; one region that can be read is enough, and none is loud."""
    east, west = ssm(), ssm()
    source = SsmOverrides("/kms/overrides", [EAST, WEST], endpoints={EAST: east.url, WEST: west.url})
    assert source.read() == ()

    west.value, east.broken = written(override()), True
    (found,) = source.read()
    assert dataclasses.replace(found, reason="x").region == EAST

    west.broken = True
    with pytest.raises(OverridesUnreadableError, match="us-east-1: InternalServerError; us-west-2"):
        source.read()
    assert source.name == "ssm:/kms/overrides"
