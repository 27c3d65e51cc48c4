"""Guards fail closed: what cannot be checked does not hold, and nothing is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kms_chaos import guards
from kms_chaos.alarms import UNREADABLE, Reading
from kms_chaos.faults import undo
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.guards import NotHeldError, RefusedError
from kms_chaos.heal import open_runs
from kms_chaos.testing import held_story
from kms_watchdog import config
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord


class FakeBoard:
    """An alarm board with made-up states."""

    region = "us-west-2"

    def __init__(self, *states: str) -> None:
        self._states = states

    def read(self) -> dict[tuple[str, str, str], Reading]:
        return {("HighErrorRate", f"r{n}", "drill"): Reading(state=s, reason="why") for n, s in enumerate(self._states)}


def test_a_guard_that_crashes_has_not_held() -> None:
    """Whatever goes wrong in it."""

    def crash() -> str:
        raise ZeroDivisionError("oops")

    (good, bad) = guards.check({"good": lambda: "seen", "bad": crash})

    assert (good.held, good.detail) == (True, "seen")
    assert (bad.held, bad.detail) == (False, "could not be checked: ZeroDivisionError: oops")


@pytest.mark.parametrize("state", ["ALARM", UNREADABLE])
def test_an_alarm_that_fires_or_cannot_be_read_refuses(state: str) -> None:
    """A drill on top of an outage proves nothing, and neither does one without eyes."""
    with pytest.raises(NotHeldError, match="why"):
        guards.alarms_are_quiet(FakeBoard("OK", state))  # type: ignore[arg-type]

    assert "none in ALARM" in guards.alarms_are_quiet(FakeBoard("OK", "OK"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="absent"),
        pytest.param("{", id="torn"),
        pytest.param('{"url": "http://127.0.0.1:1"}', id="dead"),
        pytest.param('{"url": "nonsense"}', id="nonsense"),
    ],
)
def test_a_daemon_that_does_not_answer_refuses(make_config: Callable[..., Path], content: str | None) -> None:
    """A stale address is no daemon."""
    settings = config.load(make_config())
    if content is not None:
        (settings.state.dir / "http.json").write_text(content, encoding="utf-8")

    with pytest.raises(NotHeldError):
        guards.daemon_watches(settings)


@pytest.mark.usefixtures("daemon_lives")
def test_a_daemon_that_lives_is_named(make_config: Callable[..., Path]) -> None:
    """With the address at which it says so."""
    assert "/livez says 200" in guards.daemon_watches(config.load(make_config()))


@pytest.mark.usefixtures("daemon_lives")
def test_a_daemon_that_is_not_well_refuses(make_config: Callable[..., Path]) -> None:
    """It answers, but not with 200."""
    settings = config.load(make_config())
    path = settings.state.dir / "http.json"
    path.write_text(json.dumps({"url": "http://127.0.0.1:1"}), encoding="utf-8")

    with pytest.raises(NotHeldError, match="does not answer"):
        guards.daemon_watches(settings)


def test_an_open_run_refuses_and_a_closed_one_does_not(tmp_path: Path) -> None:
    """A fault that nobody has undone yet comes first."""
    where = folder(tmp_path, "20261124T031500Z-x")
    where.path.mkdir(parents=True)
    assert guards.nothing_is_left_over(tmp_path)  # without an undo record there is nothing to undo
    where.undo.write_text("{}")

    with pytest.raises(NotHeldError, match="heal --run 20261124T031500Z-x"):
        guards.nothing_is_left_over(tmp_path)
    assert open_runs(tmp_path) == (where,)

    where.journal.write_bytes(held_story().add(90, "closed", by="drill", verdict="HELD").raw())
    assert guards.nothing_is_left_over(tmp_path) == "no drill is open"


def test_one_drill_at_a_time(tmp_path: Path) -> None:
    """The lock is another process's; it is free when that one is dead, however it died."""
    hold = (
        "import sys, pathlib; from kms_chaos.guards import only_drill\n"
        "with only_drill(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RefusedError, match="another drill"), guards.only_drill(tmp_path):
            pytest.fail("two drills at a time")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
        other.stdin.close()

    with guards.only_drill(tmp_path):
        pass


class StubbornServer:
    """A Toxiproxy that says yes and does nothing, or says no."""

    def __init__(self, *, deaf: bool) -> None:
        self._deaf = deaf
        self.deleted: list[str] = []

    def proxies(self) -> dict[str, ProxyState]:
        return {name: self._state(name) for name in ("a", "b") if name not in self.deleted}

    def proxy(self, name: str) -> ProxyState | None:
        return self.proxies().get(name)

    def _state(self, name: str) -> ProxyState:
        return ProxyState(name=name, listen="127.0.0.1:1", upstream="x", enabled=True, toxics=({"name": "t"},))

    def disable(self, name: str) -> None:
        if self._deaf and name == "a":
            raise ToxiproxyError("no")

    def enable(self, name: str) -> None: ...

    def remove_toxic(self, name: str, toxic: str) -> None: ...

    def delete(self, name: str) -> None:
        self.deleted.append(name)


def record_of(*, made_by_drill: bool) -> UndoRecord:
    at: Any = None
    return UndoRecord(
        run_id="r", drill="d", toxiproxy_url="", created_at_utc=at, expires_at_utc=at,
        proxies=tuple(
            ProxyUndo(name=n, region=n, listen="", upstream="x", made_by_drill=made_by_drill, toxics=("t",))
            for n in ("a", "b")
        ),
    )  # fmt: skip


def test_every_proxy_is_tried_also_when_one_fails() -> None:
    """And the failure is told, not swallowed."""
    server = StubbornServer(deaf=True)

    with pytest.raises(ToxiproxyError, match="a: no"):
        undo.undo(server, record_of(made_by_drill=True))

    assert server.deleted == ["b"]


def test_a_toxic_that_stays_is_told() -> None:
    """A server that says yes is not believed: what is read back counts."""
    with pytest.raises(ToxiproxyError, match="not as it was"):
        undo.undo(StubbornServer(deaf=False), record_of(made_by_drill=False))
