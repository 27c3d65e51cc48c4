"""Guards that look at this machine and at the daemon, with a daemon of a few lines in this process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon_answer import all_well
from daemon_in_process import Answers, daemon_in_process
from guard_kit import ACCOUNT, NOW, settings_of, write_config
from tls_endpoint import certificate, rude, tls_server
from waiting import wait_until

from kms_chaos import halting
from kms_chaos.alarms import UNREADABLE, Reading
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.guards import (
    CannotTellError,
    NotHeldError,
    RefusedError,
    alarms_are_quiet,
    check,
    daemon_watches,
    nobody_halts,
    nothing_is_left_over,
    only_drill,
    window_is_open,
)
from kms_chaos.guards.estate import Watchdog, of_now
from kms_chaos.guards.place import account_is_allowed, endpoints_are_allowed, toxiproxy_leads_to_kms
from kms_chaos.testing import held_story
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.windows import Calendar
from kms_watchdog.identity import Identity


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture
def daemon(settings: Settings) -> Iterator[Answers]:
    with daemon_in_process(settings.state.dir) as found:
        yield found


# --------------------------------------------------------------------------------------------------- the daemon


def test_a_daemon_that_says_it_lives_watches(settings: Settings, daemon: Answers) -> None:
    """And is asked once, at the one path that needs no token."""
    assert daemon_watches(settings).endswith("/livez says 200")
    assert daemon.asked == [("/livez", "")]


@pytest.mark.parametrize("status", [199, 201, 404, 500, 503])
def test_any_other_answer_tells_nothing(settings: Settings, daemon: Answers, status: int) -> None:
    """Something else may listen there."""
    daemon.answers["/livez"] = (status, b"")

    with pytest.raises(CannotTellError, match=f"says {status}"):
        daemon_watches(settings)


def test_the_daemon_is_hung_up_on_whatever_it_says(settings: Settings) -> None:
    """Looked at every two seconds, one that keeps connections open would else soon have no more of them."""
    hung_up: list[bytes] = []

    def keep_open(connection: socket.socket) -> None:
        connection.settimeout(5.0)
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        hung_up.append(connection.recv(1))

    with rude(keep_open) as port:
        (settings.state.dir / "http.json").write_text(f'{{"url": "http://127.0.0.1:{port}"}}', encoding="utf-8")

        with pytest.raises(CannotTellError, match="says 503") as refused:
            daemon_watches(settings)
        wait_until(lambda: hung_up, says="it is hung up on", seconds=10.0)

    assert hung_up == [b""]
    assert refused.traceback  # which keeps what was not closed from being closed by itself


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "no readable http.json", id="absent"),
        pytest.param("{", "no readable http.json", id="torn"),
        pytest.param("{}", "no readable http.json", id="without-address"),
        pytest.param("[]", "no readable http.json", id="of-another-shape"),
        pytest.param('{"url": "nonsense"}', "no readable http.json", id="nonsense"),
        pytest.param('{"url": "http://127.0.0.1:1"}', "does not answer at http://127.0.0.1:1", id="dead"),
    ],
)
def test_without_a_daemon_nobody_can_tell(settings: Settings, content: str | None, says: str) -> None:
    """A stale address is no daemon, and an unreadable one is none either."""
    if content is not None:
        (settings.state.dir / "http.json").write_text(content, encoding="utf-8")

    with pytest.raises(CannotTellError, match=says):
        daemon_watches(settings)


def test_the_daemons_document_is_believed_when_it_is_of_this_estate_and_of_now(
    settings: Settings, daemon: Answers
) -> None:
    """It is asked anew each time."""
    document = json.dumps(all_well(settings, NOW)).encode()
    daemon.answers["/api/v1/status"] = (200, document)
    watchdog = Watchdog(settings, ManualClock(start_utc=NOW))

    assert watchdog.document() == json.loads(document)
    assert watchdog.document()["now_utc"]
    assert [path for path, _ in daemon.asked] == ["/api/v1/status"] * 2


def test_the_daemon_is_shown_the_token_where_there_is_one(tmp_path: Path) -> None:
    """Else it keeps to itself who throttles."""
    token = "0123456789abcdef0123456789abcdef"
    settings = settings_of(tmp_path, f'[http]\ntoken = "{token}"')
    with daemon_in_process(settings.state.dir) as daemon:
        daemon.answers["/api/v1/status"] = (200, json.dumps(all_well(settings, NOW)).encode())

        Watchdog(settings, ManualClock(start_utc=NOW)).document()

    assert daemon.asked == [("/api/v1/status", f"Bearer {token}")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"estate": "another"}, "watches another estate: another of", id="another-estate"),
        pytest.param({"now_utc": "2026-11-25T09:59:29+00:00"}, "is 31 s old", id="old"),
    ],
)
def test_a_document_of_elsewhere_or_of_another_time_tells_nothing(
    settings: Settings, daemon: Answers, change: dict[str, Any], says: str
) -> None:
    """All is well in it."""
    daemon.answers["/api/v1/status"] = (200, json.dumps({**all_well(settings, NOW), **change}).encode())

    with pytest.raises(CannotTellError, match=says):
        Watchdog(settings, ManualClock(start_utc=NOW)).document()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="silent"),
        pytest.param({"now_utc": "noon"}, id="no-time"),
        pytest.param({"now_utc": "2026-11-25T10:00:00"}, id="no-zone"),
    ],
)
def test_a_document_without_a_time_tells_nothing(document: dict[str, Any]) -> None:
    """It may be of any time."""
    with pytest.raises(CannotTellError, match="does not say what time it is"):
        of_now(document, NOW)


@pytest.mark.parametrize(("seconds", "good"), [(30, True), (30.5, False), (-30, True), (-30.5, False)])
def test_a_document_is_of_now_for_half_a_minute(seconds: float, *, good: bool) -> None:
    """In both directions: it is the same machine's clock."""
    document = {"now_utc": NOW.isoformat()}

    if good:
        of_now(document, NOW + timedelta(seconds=seconds))
    else:
        with pytest.raises(CannotTellError, match="s old"):
            of_now(document, NOW + timedelta(seconds=seconds))


# ------------------------------------------------------------------------------------------------- this machine


class Board:
    """An alarm board with made-up readings."""

    region = "us-west-2"

    def __init__(self, *states: str) -> None:
        self._states = states

    def read(self) -> dict[tuple[str, str, str], Reading]:
        return {
            ("HighErrorRate", f"r{n}", "drill"): Reading(state=s, reason=f"why {n}")
            for n, s in reversed([*enumerate(self._states)])
        }


def test_alarms_are_quiet_when_all_can_be_read_and_none_fires() -> None:
    """One without data does not fire; that nothing comes is the judge's to say."""
    board: Any = Board("OK", "INSUFFICIENT_DATA")

    assert alarms_are_quiet(board) == "2 alarms read in us-west-2, none in ALARM"


@pytest.mark.parametrize(
    ("states", "says"),
    [
        pytest.param(("OK", "ALARM"), "drill alarm HighErrorRate of r1 is in ALARM already: why 1", id="fires"),
        pytest.param(("OK", UNREADABLE), "why 1", id="unreadable"),
        pytest.param((UNREADABLE, "ALARM"), "why 0", id="the-first-by-name-is-told"),
    ],
)
def test_an_alarm_that_fires_or_cannot_be_read_refuses(states: tuple[str, ...], says: str) -> None:
    """Which of them, and why."""
    board: Any = Board(*states)

    with pytest.raises(NotHeldError, match=f"^{says}$"):
        alarms_are_quiet(board)


def test_what_is_not_closed_is_left_over(tmp_path: Path) -> None:
    """A run with an undo record and an open journal, or none; a broken journal is the reader's alarm, not ours."""
    where = folder(tmp_path, "20261124T031500Z-x")
    assert nothing_is_left_over(tmp_path) == "no drill is open"
    where.path.mkdir(parents=True)
    where.journal.write_bytes(held_story().raw())
    assert nothing_is_left_over(tmp_path)  # it has made nothing that could be left
    where.undo.write_text("{}")

    with pytest.raises(NotHeldError, match="20261124T031500Z-x is not closed"):
        nothing_is_left_over(tmp_path)

    where.journal.write_bytes(held_story().add(90, "closed", by="drill", verdict="HELD").raw())
    assert nothing_is_left_over(tmp_path)
    where.journal.write_bytes(b"not a journal\nat all\n")
    assert nothing_is_left_over(tmp_path)


def test_a_halt_refuses_and_one_that_cannot_be_read_does_too(tmp_path: Path) -> None:
    """With its reason, and how it is ended."""
    assert nobody_halts(tmp_path) == "no halt is engaged"
    halting.engage(tmp_path, ManualClock(start_utc=NOW), by="ann", reason="an outage")
    with pytest.raises(NotHeldError, match=r"an outage.*`kms-chaos resume` ends it"):
        nobody_halts(tmp_path)

    [order] = [path for path in tmp_path.rglob("*") if path.is_file()]
    order.write_text("{", encoding="utf-8")
    with pytest.raises(NotHeldError, match="a halt is engaged: "):
        nobody_halts(tmp_path)


def test_without_windows_any_time_will_do() -> None:
    """And it says so."""
    calendar = Calendar(windows=(), blocked=())

    assert window_is_open(calendar, ManualClock(start_utc=NOW), for_seconds=3600) == "no windows are set"


def test_a_drill_may_end_with_its_window_and_not_after(tmp_path: Path) -> None:
    """The end of a window is outside of it."""
    office = settings_of(tmp_path, '[drills]\nwindows = [{from = "09:00", to = "16:00"}]').drills.calendar
    clock = ManualClock(start_utc=datetime(2026, 11, 25, 15, 50, tzinfo=UTC))

    assert window_is_open(office, clock, for_seconds=599.0) == "2026-11-25 15:50 UTC is not blocked and in a window"
    with pytest.raises(NotHeldError, match="may last 600 s"):
        window_is_open(office, clock, for_seconds=600.0)


def test_while_a_drill_runs_only_the_moment_counts(tmp_path: Path) -> None:
    """Half a second before the end of a window it is open, and half a second after its beginning."""
    office = settings_of(tmp_path, '[drills]\nwindows = [{from = "09:00", to = "16:00"}]').drills.calendar

    for second in (datetime(2026, 11, 25, 15, 59, 59, 500_000, UTC), datetime(2026, 11, 25, 9, 0, 0, 500_000, UTC)):
        assert window_is_open(office, ManualClock(start_utc=second))


def test_the_first_drill_on_a_machine_makes_its_folder(tmp_path: Path) -> None:
    """With those above it."""
    with only_drill(tmp_path / "var" / "state"):
        assert (tmp_path / "var/state/drills").is_dir()


def test_the_name_of_that_folder_is_on_disk_before_a_drill_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else undo records, however well written, might be gone with it after a crash of the machine."""
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_ino))

    with only_drill(tmp_path):
        assert set(synced) == {tmp_path.stat().st_ino}


def test_one_drill_at_a_time_on_a_folder(tmp_path: Path) -> None:
    """The lock is the kernel's: let go of with the block, also by one that fails."""
    with only_drill(tmp_path), pytest.raises(RefusedError, match="another drill runs"), only_drill(tmp_path):
        pytest.fail("two drills at a time")
    with pytest.raises(ZeroDivisionError), only_drill(tmp_path):
        raise ZeroDivisionError
    with only_drill(tmp_path):
        pass


# ---------------------------------------------------------------------------------------------------- the place


class Prober:
    """A Toxiproxy whose proxies are the server behind them; `fails` is raised instead of making one."""

    def __init__(self, port: int, *left_behind: str, fails: ToxiproxyError | None = None) -> None:
        self._port, self._fails = port, fails
        self.there = {name: self._state(name) for name in left_behind}
        self.did: list[tuple[str, str]] = []

    def _state(self, name: str) -> ProxyState:
        return ProxyState(name=name, listen=f"127.0.0.1:{self._port}", upstream="", enabled=True)

    def create(self, name: str, *, upstream: str) -> ProxyState:
        if self._fails:
            raise self._fails
        assert name not in self.there
        self.did.append(("create", f"{name} to {upstream}"))
        self.there[name] = self._state(name)
        return self.there[name]

    def proxy(self, name: str) -> ProxyState | None:
        return self.there.get(name)

    def delete(self, name: str) -> None:
        self.did.append(("delete", name))
        del self.there[name]


PROBE = "kmswd-probe.production.us-east-1"
WAY = {"us-east-1": "kms.us-east-1.amazonaws.com:443"}


def trusting(folder: Path, pem: Path) -> Settings:
    path = write_config(folder)
    path.write_text(path.read_text(encoding="utf-8").replace("[keys.general]", f'ca_bundle = "{pem}"\n[keys.general]'))
    return load(path)


def test_a_way_to_kms_is_seen_by_its_certificate_and_nothing_is_left_of_the_probe(tmp_path: Path) -> None:
    """Nor of one that a crash left behind, by the same name; others are not touched."""
    pem = certificate(tmp_path)
    with rude(tls_server(pem)) as port:
        server = Prober(port, PROBE, "somebody-elses")

        assert toxiproxy_leads_to_kms(server, trusting(tmp_path, pem), WAY) == (
            "TLS through Toxiproxy to us-east-1, certificates checked"
        )

    assert server.did == [("delete", PROBE), ("create", f"{PROBE} to {WAY['us-east-1']}"), ("delete", PROBE)]
    assert list(server.there) == ["somebody-elses"]


def test_somebody_elses_certificate_is_no_way(tmp_path: Path) -> None:
    """And the probe is gone."""
    with rude(tls_server(certificate(tmp_path))) as port:
        server = Prober(port)

        with pytest.raises(
            NotHeldError, match=f"^Toxiproxy has no way to {WAY['us-east-1']}: SSLCertVerificationError"
        ):
            toxiproxy_leads_to_kms(server, settings_of(tmp_path), WAY)

    assert server.there == {}


def test_a_toxiproxy_that_refuses_tells_nothing(tmp_path: Path) -> None:
    """It is not known whether there is a way."""
    server = Prober(1, fails=ToxiproxyError("HTTP 500"))

    with pytest.raises(CannotTellError, match="cannot be asked for a way to us-east-1: HTTP 500"):
        toxiproxy_leads_to_kms(server, settings_of(tmp_path), WAY)


STRANGER = "210987654321"


def who(account: str) -> Identity:
    return Identity(account_id=account, arn=f"arn:aws:sts::{account}:assumed-role/KmsDrillRole/x")


def test_every_account_that_a_drill_acts_in_must_be_allowed(tmp_path: Path) -> None:
    """Who starts it, the role that its cores take, and the estate's own."""
    role = '[core]\nrole_arn = "arn:aws:iam::{}:role/App"\n'
    both = f'[drills]\naccounts = ["{STRANGER}", "{ACCOUNT}"]'
    other = f'[drills]\naccounts = ["{STRANGER}"]'

    assert account_is_allowed(settings_of(tmp_path, role.format(ACCOUNT)), who(ACCOUNT)) == (
        f"arn:aws:sts::{ACCOUNT}:assumed-role/KmsDrillRole/x in {ACCOUNT}"
    )
    assert account_is_allowed(settings_of(tmp_path, role.format(STRANGER) + both), who(ACCOUNT))
    with pytest.raises(NotHeldError, match=f"account {STRANGER} .* is not one where drills may run: {ACCOUNT}"):
        account_is_allowed(settings_of(tmp_path, role.format(STRANGER)), who(ACCOUNT))
    with pytest.raises(NotHeldError, match=f"the estate's account {ACCOUNT} is not one"):
        account_is_allowed(settings_of(tmp_path, role.format(STRANGER) + other), who(STRANGER))


def test_an_endpoint_of_another_service_says_nothing_of_kms(tmp_path: Path) -> None:
    """AWS's own name counts there."""
    settings = settings_of(tmp_path, '[endpoints.us-east-1]\ncloudwatch = "https://monitoring.example.com"')

    assert endpoints_are_allowed(settings, WAY) == f"Toxiproxy 127.0.0.1:8474; KMS {WAY['us-east-1']}"
    with pytest.raises(NotHeldError, match="not on the list"):
        endpoints_are_allowed(settings, {"us-east-1": "monitoring.example.com:443"})


# ----------------------------------------------------------------------------------------------------- checking


def test_a_guard_holds_when_it_returns_and_only_then() -> None:
    """What it says stands in the journal, whichever way it ended."""

    def ends(error: Exception) -> Any:
        def guard() -> str:
            raise error

        return guard

    found = check(
        {
            "a": lambda: "seen",
            "b": ends(NotHeldError("no")),
            "c": ends(CannotTellError("dark")),
            "d": ends(OSError("e")),
        }
    )

    assert [(one.guard, one.held, one.detail) for one in found] == [
        ("a", True, "seen"),
        ("b", False, "no"),
        ("c", False, "dark"),
        ("d", False, "could not be checked: OSError: e"),
    ]
