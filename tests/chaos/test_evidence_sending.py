"""A run is sealed and sent whole; what does not work stays on disk, is told, and is done later."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from evidence_kit import SIGNED, STARTED, MoodyStore, make_run, private_key_file

from kms_chaos.evidence import sending
from kms_chaos.evidence.finding import Result
from kms_chaos.evidence.run_checks import Trust
from kms_chaos.evidence.sealing import NotClosedError, seal
from kms_chaos.evidence.segments import Cut, Segments
from kms_chaos.evidence.signing import FileSigner, SigningError
from kms_chaos.evidence.verifying import verify
from kms_core.testing import ManualClock
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.evidence.store import DirStore

pytestmark = pytest.mark.slow  # each with a store of its own

CUT = Cut(seconds=10, size_bytes=700)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(tmp_path: Path) -> MoodyStore:
    return MoodyStore(tmp_path / "kept")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=STARTED + timedelta(hours=1))


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner(private_key_file(tmp_path))


class Reluctant(FileSigner):
    """A key that cannot be had while `away`."""

    away = True

    def sign(self, message: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as its parent
        if self.away:
            raise SigningError("KMS in us-west-2 does not sign: ConnectTimeoutError")
        return super().sign(message)


def run_in(state: Path, run_id: str = "20261124T031500Z-x", **more: object) -> DrillFolder:
    return make_run(state / "drills", run_id, **more)  # type: ignore[arg-type]


def contents(where: DrillFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in where.path.iterdir() if path.name != "stored.json"}


def test_everything_is_in_the_store_at_the_end(
    state: Path, store: MoodyStore, signer: FileSigner, clock: ManualClock
) -> None:
    """Every file of the folder, whatever its name, the manifest, and the segments; and all of it verifies."""
    where = run_in(state, signing=signer.about(), more=9)
    (where.path / "approval.json").write_text("{}")

    sent = sending.finish(where, store, signer, clock, CUT)

    assert (sent.error, sent.finished) == ("", True)
    kept = {name.removeprefix(f"runs/{where.run_id}/"): store.get(name) for name in store.sizes()}
    assert {name: content for name, content in kept.items() if "/" not in name} == contents(where)
    assert {"journal.ndjson", "verdict.json", "report.html", "undo.json", "signature.json", "manifest.json"} < set(kept)
    assert "approval.json" in json.loads(kept["manifest.json"])["files"]
    assert b"".join(kept[name] for name in sorted(kept) if "/" in name) == kept["journal.ndjson"]
    assert verify(store, Trust()).result is Result.UNCLEAR  # nobody said whose signature is right
    assert list(sending.waiting(state, store)) == []


def test_what_the_store_did_not_take_is_sent_later(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """By the next run or by hand; the store is asked once, not once a run."""
    first, second = run_in(state, "20261124T031500Z-a"), run_in(state, "20261224T031500Z-b")
    store.down = True
    told = sending.finish(first, store, None, clock, CUT)
    asked = store.asked
    stuck = list(sending.send_waiting(state, store, None, clock, CUT))

    assert "ConnectTimeoutError" in told.error
    assert told.store_failed
    assert first.manifest.exists()
    assert [sent.run_id for sent in stuck] == [first.run_id]
    assert store.asked == asked + 1

    store.down = False
    done = list(sending.send_waiting(state, store, None, clock, CUT))

    assert [(sent.run_id, sent.error) for sent in done] == [(first.run_id, ""), (second.run_id, "")]
    assert list(sending.send_waiting(state, store, None, clock, CUT)) == []
    assert verify(store, Trust(unsigned_will_do=True)).result is not Result.BAD


def test_a_store_that_stops_in_the_middle_is_gone_on_with(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """Segments that were streamed stay as they are."""
    where = run_in(state, more=9)
    segments = Segments(store, where.run_id, where.journal, CUT)
    segments.send(where.journal.stat().st_size, all_of_it=False)
    streamed = dict(store.sizes())
    assert streamed

    sending.finish(where, store, None, clock, CUT)

    assert streamed.items() <= store.sizes().items()
    assert verify(store, Trust(unsigned_will_do=True)).result is Result.GOOD


def test_another_store_gets_everything_anew(state: Path, store: MoodyStore, tmp_path: Path, clock: ManualClock) -> None:
    """What is whole in one is waiting for the other."""
    where = run_in(state)
    sending.finish(where, store, None, clock, CUT)
    other = DirStore(tmp_path / "other")

    assert [each.run_id for each in sending.waiting(state, other)] == [where.run_id]
    assert [sent.error for sent in sending.send_waiting(state, other, None, clock, CUT)] == [""]
    assert other.sizes() == store.sizes()


def test_a_key_that_cannot_be_had_signs_later(
    state: Path, store: MoodyStore, tmp_path: Path, clock: ManualClock
) -> None:
    """Nothing goes to the store unsigned that was to be signed, but for its lines; the time of signing says it."""
    by = Reluctant(private_key_file(tmp_path))
    where = run_in(state, signing=by.about())

    told = sending.finish(where, store, by, clock, CUT)

    assert told.error.startswith("not signed: KMS")
    assert not where.manifest.exists()
    assert all("/segments/" in name for name in store.sizes())

    by.away = False
    clock.advance(3600)
    (sent,) = sending.send_waiting(state, store, by, clock, CUT)

    assert sent.error == ""
    stated = json.loads(json.loads(where.signature.read_text())["statement"])
    assert stated["signed_at_utc"] == (STARTED + timedelta(hours=2)).isoformat()


def test_a_promised_signature_is_not_dropped_silently(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """Somebody took the key out of the configuration between run and push."""
    where = run_in(state, signing=SIGNED)

    assert "no key is configured now" in sending.finish(where, store, None, clock, CUT).error
    assert not where.manifest.exists()


def test_a_run_that_was_not_to_be_signed_is_not_signed_later(
    state: Path, signer: FileSigner, clock: ManualClock
) -> None:
    """Nobody knows what became of it meanwhile."""
    where = run_in(state)

    seal(where, signer, clock)

    assert not where.signature.exists()
    assert where.manifest.exists()


def test_sealing_twice_changes_nothing(state: Path, signer: FileSigner, clock: ManualClock) -> None:
    """What was signed stays signed, at its time."""
    where = run_in(state, signing=signer.about())
    seal(where, signer, clock)
    before = contents(where)
    clock.advance(60)
    seal(where, signer, clock)

    assert contents(where) == before


def test_an_open_run_is_not_sealed_but_its_lines_are_sent(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """Until somebody heals it."""
    where = run_in(state, closed=False)

    with pytest.raises(NotClosedError):
        seal(where, None, clock)
    sent = sending.finish(where, store, None, clock, CUT)

    assert (sent.error, sent.finished) == ("", False)
    assert [name.rpartition("/")[0] for name in store.sizes()] == [f"runs/{where.run_id}/segments"] * len(store.sizes())
    assert [each.run_id for each in sending.waiting(state, store)] == [where.run_id]


def test_a_torn_end_is_not_vouched_for(state: Path, clock: ManualClock) -> None:
    """Somebody wrote behind `closed`."""
    where = run_in(state)
    with where.journal.open("ab") as file:
        file.write(b'{"more')

    with pytest.raises(NotClosedError, match="not closed"):
        seal(where, None, clock)


def test_an_edited_journal_is_not_vouched_for(state: Path, signer: FileSigner, clock: ManualClock) -> None:
    """A signature over what somebody edited would make it true."""
    where = run_in(state, signing=signer.about())
    where.journal.write_bytes(where.journal.read_bytes().replace(b"1.25", b"0.25"))

    with pytest.raises(NotClosedError, match="edited"):
        seal(where, signer, clock)
    assert not where.signature.exists()


def test_one_bad_run_does_not_keep_the_others_back(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """Something else is in the store under its name: told, and the next one is sent."""
    bad, good = run_in(state, "20261124T031500Z-a"), run_in(state, "20261224T031500Z-b")
    store.put(f"runs/{bad.run_id}/verdict.json", b"somebody else's")

    done = list(sending.send_waiting(state, store, None, clock, CUT))

    assert [(sent.run_id, bool(sent.error)) for sent in done] == [(bad.run_id, True), (good.run_id, False)]
    assert "something else is there" in done[0].error


def test_a_run_whose_owner_lives_is_left_alone(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """It sends its own."""
    where = run_in(state)

    with where.owned():
        assert list(sending.send_waiting(state, store, None, clock, CUT)) == []


def test_a_full_disk_is_told_and_raises_nothing(state: Path, store: MoodyStore, clock: ManualClock) -> None:
    """The verdict stands, whatever becomes of the manifest."""
    where = run_in(state)
    (where.path / f".manifest.json.{os.getpid()}").mkdir()  # no draft can be written there

    told = sending.finish(where, store, None, clock, CUT)

    assert told.error.startswith("not sealed")
    assert all("/segments/" in name for name in store.sizes())


def test_without_a_store_runs_are_sealed_all_the_same(state: Path, clock: ManualClock) -> None:
    """A manifest beside the journal."""
    where = run_in(state)

    assert sending.finish(where, None, None, clock, CUT).error == ""
    assert where.manifest.exists()
    assert list(sending.waiting(state, None)) == []
