"""Healing: what a dead drill left is undone and its journal finished; twice is harmless; a living one is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kms_chaos import heal, undo_record
from kms_chaos.drill import find
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.plans import ordered
from kms_chaos.faults.toxics import Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.testing import REGIONS, RUN_ID, STARTED, TARGET
from kms_core.testing import ManualClock
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecord

FAULTS = ordered(find("region-blackhole").faults, (TARGET,), REGIONS)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=STARTED)


@pytest.fixture
def where(tmp_path: Path) -> DrillFolder:
    found = folder(tmp_path, RUN_ID)
    found.path.mkdir(parents=True)
    return found


def record_for(url: str) -> UndoRecord:
    return undo_record.plan(
        run_id=RUN_ID,
        drill=find("region-blackhole"),
        faults=FAULTS,
        upstreams=dict.fromkeys(REGIONS, "127.0.0.1:9"),
        toxiproxy_url=url,
        now_utc=STARTED,
    )


@pytest.fixture
def server(toxiproxy_url: str) -> Iterator[Toxiproxy]:
    with Toxiproxy(toxiproxy_url) as found:
        yield found


@pytest.fixture
def dead_drill(where: DrillFolder, server: Toxiproxy, clock: ManualClock) -> UndoRecord:
    """A drill that was killed in the middle of its fault, in the middle of a line."""
    record = record_for(server.url)
    undo_record.write(where, record)
    with JournalWriter(where.journal, clock) as writer:
        writer.append("run-started", drill=record.drill)
        for proxy in record.proxies:
            server.create(proxy.name, upstream=proxy.upstream)
        hurt = record.proxies[0]
        for toxic in FAULTS[0].toxics:
            server.add(hurt.name, toxic)
        clock.advance(7.0)
        writer.append("fault-injected", region=hurt.region, proxy=hurt.name)
    with where.journal.open("ab") as file:
        file.write(b'{"at_utc":"2026-11-24T03:1')
    return record


def test_an_undo_record_is_read_back_as_it_was_written(where: DrillFolder) -> None:
    """What a drill may change, and until when."""
    record = record_for("http://127.0.0.1:8474")

    undo_record.write(where, record)

    assert undo.read(where.undo) == record
    assert record.expires_at_utc == STARTED + timedelta(seconds=45 + 75 + undo_record.MARGIN_SECONDS)
    assert [bool(proxy.toxics) for proxy in record.proxies] == [True, False, False]
    assert {proxy.name for proxy in record.proxies} == {f"kmswd.{RUN_ID}.{region}" for region in REGIONS}


def test_a_dead_drill_is_healed(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock, dead_drill: UndoRecord
) -> None:
    """Nothing is left on the server; the torn line is ended, and the chain goes on to `closed`."""
    clock.advance(5.0)

    done = heal.heal(where, clock)

    assert (done.reason, done.torn_line) == ("owner_dead", True)
    assert server.proxies() == {}
    found = journal.read(where.journal)
    assert found.torn == b""
    assert [r.event for r in found.records[2:]] == ["fault-removed", "restore-verified", "healed", "closed"]
    assert found.records[2].fields["proxy"] == dead_drill.proxies[0].name
    assert found.records[3].fields["proxies_left"] == []
    assert found.records[4].fields["torn_line"] is True
    assert found.records[-1].t == pytest.approx(12.0)
    assert found.closed


def test_healing_twice_is_harmless(where: DrillFolder, clock: ManualClock, dead_drill: UndoRecord) -> None:
    """The second time there is nothing to do, and nothing is written."""
    heal.heal(where, clock)
    before = where.journal.read_bytes()

    again = heal.heal(where, clock)

    assert again.reason == "closed"
    assert where.journal.read_bytes() == before
    assert heal.open_runs(where.path.parents[1]) == ()


def test_a_stranger_keeps_what_is_his(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock, dead_drill: UndoRecord
) -> None:
    """Other proxies, and their toxics, are not ours to take: never /reset."""
    server.create("theirs", upstream="127.0.0.1:9")
    server.add("theirs", Toxic(name="slow", type="latency", stream="downstream", attributes={"latency": 5}))

    heal.heal(where, clock)

    assert set(server.proxies()) == {"theirs"}
    assert server.proxies()["theirs"].toxic_names == ("slow",)


def test_a_drill_that_died_before_its_first_line_is_healed(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock
) -> None:
    """The undo record comes first, so it may be all there is."""
    undo_record.write(where, record_for(server.url))

    heal.heal(where, clock)

    assert [r.event for r in journal.read(where.journal).records] == ["restore-verified", "healed", "closed"]


def begun(where: DrillFolder, clock: ManualClock, **more: dict[str, object]) -> None:
    """Write the journal of a drill that died in its guards, or a few lines later."""
    with JournalWriter(where.journal, clock) as writer:
        writer.append("run-started", drill="region-blackhole")
        for event, fields in more.items():
            writer.append(event.replace("_", "-"), **fields)


def test_a_drill_that_died_before_its_undo_record_is_finished(where: DrillFolder, clock: ManualClock) -> None:
    """It broke nothing, so no server is asked; but its journal would say for ever that it runs."""
    begun(where, clock)
    state = where.path.parents[1]
    waiting = heal.open_runs(state)

    done = heal.heal(where, clock)

    assert waiting == (where,)
    assert (done.reason, "nothing had been broken" in done.finding) == ("owner_dead", True)
    assert [r.event for r in journal.read(where.journal).records] == ["run-started", "healed", "closed"]
    assert heal.open_runs(state) == ()


@pytest.mark.parametrize("written", [pytest.param(b"", id="nothing"), pytest.param(b'{"at_utc":"20', id="half-a-line")])
def test_a_journal_in_which_nothing_was_said_is_none(where: DrillFolder, clock: ManualClock, written: bytes) -> None:
    """The drill died as it began: there is no first line to which anything could be added."""
    where.journal.write_bytes(written)

    done = heal.heal(where, clock)

    assert done.reason == "closed"
    assert not where.journal.exists()
    assert heal.open_runs(where.path.parents[1]) == ()
    assert heal.heal(where, clock).reason == "closed"


def test_a_living_owner_that_has_broken_nothing_yet_is_left_alone(where: DrillFolder) -> None:
    """It has no undo record because it does not need one so far."""
    clock = ManualClock(start_utc=STARTED, auto_advance=True)
    begun(where, clock)
    before = where.journal.read_bytes()

    with where.owned(), pytest.raises(heal.OwnerLivesError, match="broken nothing yet"):
        heal.heal(where, clock)

    assert where.journal.read_bytes() == before


def test_an_undo_record_that_is_lost_is_taken_from_the_journal(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock
) -> None:
    """Somebody removed the file; the journal has a copy of it, and the proxies are there."""
    record = record_for(server.url)
    begun(where, clock, undo_recorded={"undo": record.to_json()})
    for proxy in record.proxies:
        server.create(proxy.name, upstream=proxy.upstream)

    heal.heal(where, clock)

    assert server.proxies() == {}
    assert journal.read(where.journal).closed


def test_a_broken_chain_without_anything_to_undo_is_nobodys_to_heal(where: DrillFolder, clock: ManualClock) -> None:
    """Nothing may be added to it, and nothing is broken."""
    begun(where, clock)
    where.journal.write_bytes(where.journal.read_bytes().replace(b"run-started", b"run-starteD", 1))

    assert heal.open_runs(where.path.parents[1]) == ()
    with pytest.raises(JournalError):
        heal.heal(where, clock)


@pytest.mark.parametrize("said", [pytest.param(None, id="died-before-it"), pytest.param("BROKE", id="died-after-it")])
def test_a_verdict_counts_only_if_the_journal_holds_it(
    where: DrillFolder, clock: ManualClock, free_port: int, said: str | None
) -> None:
    """The files are written a moment before: of a drill that died in between they would claim what nobody said."""
    undo_record.write(where, record_for(f"http://127.0.0.1:{free_port}"))
    begun(where, clock, **({"verdict": {"verdict": said}} if said else {}))
    for path in (where.verdict, where.report, where.path / ".report.html.4711"):
        path.write_text("what the drill was about to say")

    heal.heal(where, clock)

    assert journal.read(where.journal).records[-1].fields["verdict"] == said
    assert {where.verdict.exists(), where.report.exists()} == {said is not None}
    assert not (where.path / ".report.html.4711").exists()


def test_a_living_owner_with_time_left_is_left_alone(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock, dead_drill: UndoRecord
) -> None:
    """Somebody holds the lock: the drill is alive."""
    clock = ManualClock(start_utc=STARTED, auto_advance=True)

    with where.owned(), pytest.raises(heal.OwnerLivesError, match=RUN_ID):
        heal.heal(where, clock)

    assert len(server.proxies()) == 3


def test_past_its_time_a_fault_is_undone_even_if_its_owner_lives(
    where: DrillFolder, server: Toxiproxy, dead_drill: UndoRecord
) -> None:
    """The journal stays its owner's: not a line of the healer's goes into it."""
    before = where.journal.read_bytes()
    late = ManualClock(start_utc=dead_drill.expires_at_utc, auto_advance=True)

    with where.owned():
        done = heal.heal(where, late)

    assert done.reason == "expired"
    assert server.proxies() == {}
    assert where.journal.read_bytes() == before


def test_a_server_that_is_gone_has_no_faults(where: DrillFolder, clock: ManualClock, free_port: int) -> None:
    """Its state was in memory only; the journal says that this is why nothing had to be undone."""
    undo_record.write(where, record_for(f"http://127.0.0.1:{free_port}"))

    done = heal.heal(where, clock)

    assert "server gone" in done.finding
    assert journal.read(where.journal).closed


def test_a_server_that_refuses_is_not_healed(where: DrillFolder, clock: ManualClock) -> None:
    """Nothing is closed that is not undone: somebody must try again."""
    import http.server  # noqa: PLC0415 - beside its only use
    import threading  # noqa: PLC0415 - as above

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        undo_record.write(where, record_for(f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises(ToxiproxyError):
            heal.heal(where, clock)
        server.shutdown()
        thread.join()

    assert not where.journal.exists()


def test_a_broken_chain_is_not_continued_but_the_fault_is_undone(
    where: DrillFolder, server: Toxiproxy, clock: ManualClock, dead_drill: UndoRecord
) -> None:
    """The fault matters more than the journal."""
    raw = where.journal.read_bytes()
    where.journal.write_bytes(raw.replace(b"run-started", b"run-starteD", 1))

    with pytest.raises(JournalError):
        heal.heal(where, clock)

    assert server.proxies() == {}
