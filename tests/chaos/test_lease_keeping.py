"""The drill lease of a folder, and its keeping: tokens, slots and notes on disk, to the dot."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kms_chaos.guards import RefusedError
from kms_chaos.halt import Halt, HaltedError
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError, before_acting, held, keep
from kms_chaos.lease_file import FileLease
from kms_core.testing import ManualClock

SLOT = "failover/2026-12"
UNTIL = datetime(2026, 11, 25, 10, 10, tzinfo=UTC)


def acquired(folder: Path) -> FileLease:
    lease = FileLease(folder)
    lease.acquire(Halt())
    return lease


def on_disk(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "drills/lease.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def put(folder: Path, **values: Any) -> None:
    where = folder / "drills/lease.json"
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(json.dumps({"schema": 1, "token": 3, "slots": {}, "fault": None, **values}), encoding="utf-8")


def note(token: int, run_id: str = "run-1") -> FaultNote:
    return FaultNote(run_id=run_id, host="here", token=token, expires_at_utc=UNTIL)


# ------------------------------------------------------------------------------------------------------- a file


def test_the_first_token_is_one_and_stands_on_disk(tmp_path: Path) -> None:
    """Before anything is done under it."""
    lease = FileLease(tmp_path)
    assert (lease.token, lease.where) == (0, str(tmp_path / "drills/lease.json"))

    lease.acquire(Halt())

    assert lease.token == 1
    assert on_disk(tmp_path) == {"schema": 1, "token": 1, "slots": {}, "fault": None}
    assert lease.renew_seconds == 5.0


def test_a_new_token_keeps_slots_and_notes(tmp_path: Path) -> None:
    """What earlier holders did is not forgotten with them."""
    put(tmp_path, slots={SLOT: {"state": "DONE", "token": 2}}, fault={"run_id": "x"})

    acquired(tmp_path)

    assert on_disk(tmp_path) == {
        "schema": 1, "token": 4, "slots": {SLOT: {"state": "DONE", "token": 2}}, "fault": {"run_id": "x"},
    }  # fmt: skip


def test_what_was_let_go_of_is_held_no_more(tmp_path: Path) -> None:
    """The lock is free, and the token is 0, which nothing on disk ever is."""
    lease = acquired(tmp_path)
    lease.release()

    assert lease.token == 0
    put(tmp_path, token=0)
    with pytest.raises(FencedError, match="has token 0, ours is 0"):
        lease.check()
    assert acquired(tmp_path).token == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"{", "cannot be read: JSONDecodeError", id="torn"),
        pytest.param(b"\xff", "cannot be read: UnicodeDecodeError", id="not-text"),
        pytest.param(b"[]", "cannot be read: TypeError", id="a-list"),
        pytest.param(b"{}", "cannot be read: KeyError", id="empty"),
        pytest.param(b'{"schema": 2, "token": 1, "slots": {}, "fault": null}', "another schema than 1", id="schema"),
        pytest.param(b'{"schema": 1, "token": true, "slots": {}, "fault": null}', "another schema", id="no-number"),
        pytest.param(b'{"schema": 1, "token": 1.0, "slots": {}, "fault": null}', "another schema", id="a-float"),
        pytest.param(b'{"schema": 1, "token": 1, "fault": null}', "cannot be read: KeyError", id="without-slots"),
    ],
)
def test_a_file_that_cannot_be_read_refuses_and_fences(tmp_path: Path, content: bytes, says: str) -> None:
    """To begin anew would use a token twice."""
    lease = acquired(tmp_path)
    (tmp_path / "drills/lease.json").write_bytes(content)

    with pytest.raises(FencedError, match=says):
        lease.renew()
    with pytest.raises(LeaseUnreachableError, match=says):
        lease.open_fault()
    lease.release()
    with pytest.raises(RefusedError, match=f"the drill lease: .*{says}"):
        FileLease(tmp_path).acquire(Halt())


def test_a_file_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    """Whatever the system says."""
    (tmp_path / "drills/lease.json").mkdir(parents=True)

    with pytest.raises(RefusedError, match="cannot be read: IsADirectoryError"):
        FileLease(tmp_path).acquire(Halt())


def test_a_file_that_cannot_be_written_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token would not be used up; and the lock is let go of."""

    def full(*_: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("kms_chaos.durable.write", full)
        with pytest.raises(RefusedError, match="cannot be written: the disk is full"):
            FileLease(tmp_path).acquire(Halt())

    assert acquired(tmp_path).token == 1


def test_a_slot_stands_on_disk_with_its_holder(tmp_path: Path) -> None:
    """Started with the claim, done with the verdict; another slot is left alone."""
    lease = acquired(tmp_path)
    assert lease.claim_slot("restore/2026-11")
    assert lease.claim_slot(SLOT)
    assert on_disk(tmp_path)["slots"][SLOT] == {"state": "STARTED", "token": 1}

    lease.finish_slot(SLOT)

    assert on_disk(tmp_path)["slots"] == {
        SLOT: {"state": "DONE", "token": 1}, "restore/2026-11": {"state": "STARTED", "token": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "token", "again", "ours"),
    [
        pytest.param("STARTED", 3, True, True, id="an-earlier-holder-began-it"),
        pytest.param("STARTED", 3, False, False, id="and-its-plan-does-not-say-again"),
        pytest.param("DONE", 3, True, False, id="done"),
        pytest.param("STARTED", 4, True, False, id="ours-already"),
    ],
)
def test_a_slot_is_run_again_only_by_a_later_holder_of_one_that_was_not_done(
    tmp_path: Path, state: str, token: int, *, again: bool, ours: bool
) -> None:
    """And only where its plan says so."""
    put(tmp_path, slots={SLOT: {"state": state, "token": token}})
    lease = acquired(tmp_path)

    assert lease.claim_slot(SLOT, again=again) is ours

    assert on_disk(tmp_path)["slots"][SLOT] == {
        "state": state if not ours else "STARTED",
        "token": 4 if ours else token,
    }


def test_nothing_is_done_under_a_token_that_is_not_ours(tmp_path: Path) -> None:
    """Neither a slot claimed or finished, nor a fault noted; the file stays as it is."""
    lease = acquired(tmp_path)
    put(tmp_path, token=9)
    before = on_disk(tmp_path)

    for act in (lambda: lease.claim_slot(SLOT), lambda: lease.finish_slot(SLOT), lambda: lease.record_fault(note(1))):
        with pytest.raises(FencedError, match="has token 9, ours is 1"):
            act()
    lease.settle_fault("run-1")

    assert on_disk(tmp_path) == before


def test_a_note_is_settled_by_its_owner_alone(tmp_path: Path) -> None:
    """Of its own run; who has let go of the lease leaves it, and so does who never had it."""
    lease = acquired(tmp_path)
    lease.settle_fault("run-1")
    lease.record_fault(note(1))
    kept = on_disk(tmp_path)["fault"]
    assert kept == {"run_id": "run-1", "host": "here", "token": 1, "expires_at_utc": UNTIL.isoformat()}

    lease.settle_fault("run-0")
    FileLease(tmp_path).settle_fault("run-1")
    assert on_disk(tmp_path)["fault"] == kept

    lease.settle_fault("run-1")
    assert on_disk(tmp_path)["fault"] is None


def test_who_never_had_the_lease_settles_nothing_whatever_stands_on_disk(tmp_path: Path) -> None:
    """Its token is 0, and so may be that of a file which somebody wrote by hand: that does not make it the owner."""
    put(tmp_path, token=0, fault={"run_id": "run-1"})
    lease = FileLease(tmp_path)

    lease.settle_fault("run-1")

    assert on_disk(tmp_path)["fault"] == {"run_id": "run-1"}


def test_the_file_can_be_read_by_people_too(tmp_path: Path) -> None:
    """Whoever looks for what an abandoned drill may have broken finds a value to a line, and a whole last line."""
    acquired(tmp_path)

    text = (tmp_path / "drills/lease.json").read_text(encoding="utf-8")

    assert text == '{\n "schema": 1,\n "token": 1,\n "slots": {},\n "fault": null\n}\n'


def test_who_has_lost_the_lease_settles_nothing(tmp_path: Path) -> None:
    """The note is its successor's to read, of whatever run."""
    lease = acquired(tmp_path)
    lease.record_fault(note(1))
    put(tmp_path, token=9, fault=on_disk(tmp_path)["fault"])

    lease.settle_fault("run-1")

    assert on_disk(tmp_path)["fault"]["run_id"] == "run-1"


def test_a_lease_that_was_never_taken_may_be_let_go_of(tmp_path: Path) -> None:
    """Whoever was refused does."""
    FileLease(tmp_path).release()

    assert acquired(tmp_path).token == 1


def test_a_note_of_an_earlier_holder_is_open_and_ones_own_is_not(tmp_path: Path) -> None:
    """Nor is there one where none was written."""
    first = acquired(tmp_path)
    assert first.open_fault() is None
    first.record_fault(note(1))
    assert first.open_fault() is None
    first.release()

    assert acquired(tmp_path).open_fault() == note(1)


# ---------------------------------------------------------------------------------------------------- its keeping


class Script:
    """A lease whose renewals go as they are written down, at a quarter of its time when nobody answers."""

    where, token, renew_seconds = "here", 1, 8.0

    def __init__(self, clock: ManualClock, stop: threading.Event, left: float, *renewals: Exception | None) -> None:
        self._clock, self._stop, self._left, self._renewals = clock, stop, left, list(renewals)
        self.renewed_at: list[float] = []
        self.checked: list[float] = []
        self.released = 0

    def acquire(self, halt: Halt) -> None:
        halt.pause(self._clock, 0.0)

    def release(self) -> None:
        self.released += 1

    def renew(self) -> None:
        self.renewed_at.append(self._clock.monotonic() - 1000.0)
        if not self._renewals[1:]:
            self._stop.set()
        if answer := self._renewals.pop(0):
            raise answer

    def check(self, seconds: float = 0.0) -> None:
        self.checked.append(seconds)
        if self._left < seconds:
            raise FencedError("too little is left")


def kept(left: float, *renewals: Exception | None) -> tuple[Script, Halt]:
    clock, stop, halt = ManualClock(auto_advance=True), threading.Event(), Halt()
    lease = Script(clock, stop, left, *renewals)
    keep(lease, halt, clock, stop)  # type: ignore[arg-type]
    return lease, halt


SILENT = LeaseUnreachableError("no answer")


def test_a_lease_is_renewed_in_its_rhythm_and_four_times_as_often_while_nobody_answers() -> None:
    """And in its own rhythm again when somebody does."""
    lease, halt = kept(99.0, None, SILENT, SILENT, None, None)

    assert lease.renewed_at == [8.0, 16.0, 18.0, 20.0, 28.0]
    assert halt.reason == ""


def test_with_less_left_than_lifting_and_the_next_try_take_the_drill_ends() -> None:
    """Ten seconds to lift the fault, and the two until the next try."""
    enough, halt = kept(12.0, SILENT, None)
    assert (enough.checked, halt.reason) == ([12.0], "")

    short, halt = kept(11.9, SILENT, None)
    assert (short.renewed_at, halt.reason) == ([8.0], "the drill lease runs out: no answer")


def test_a_lease_that_is_lost_is_not_renewed_any_more() -> None:
    """Its new holder is left in peace."""
    lease, halt = kept(99.0, FencedError("taken"), None)

    assert (lease.renewed_at, halt.reason) == ([8.0], "the drill lease is lost: taken")


def test_right_before_acting_the_lease_is_renewed_and_has_time_to_lift() -> None:
    """Either may say no."""
    clock, stop = ManualClock(), threading.Event()
    lease = Script(clock, stop, 10.0, None)
    before_acting(lease)  # type: ignore[arg-type]
    assert (lease.renewed_at, lease.checked) == ([0.0], [10.0])

    with pytest.raises(FencedError, match="too little"):
        before_acting(Script(clock, stop, 9.9, None))  # type: ignore[arg-type]
    with pytest.raises(LeaseUnreachableError):
        before_acting(Script(clock, stop, 99.0, SILENT))  # type: ignore[arg-type]


def test_a_lease_is_kept_for_the_block_and_given_back_when_nobody_renews_it_any_more() -> None:
    """By a thread that does not keep the process alive, and is gone before the lease is."""
    clock, stop = ManualClock(), threading.Event()
    lease, halt = Script(clock, stop, 99.0, None), Halt()

    with held(lease, halt, clock):  # type: ignore[arg-type]
        [keeper] = [one for one in threading.enumerate() if one.name == "drill-lease"]
        assert keeper.daemon
        assert lease.released == 0

    assert lease.released == 1
    assert not keeper.is_alive()


def test_a_lease_that_is_not_to_be_had_is_neither_kept_nor_given_back() -> None:
    """It is somebody else's."""
    clock, halt = ManualClock(auto_advance=True), Halt()
    lease = Script(clock, threading.Event(), 99.0)
    halt.call("SIGINT")

    with pytest.raises(HaltedError), held(lease, halt, clock):  # type: ignore[arg-type]
        pytest.fail("the block ran")

    assert lease.released == 0
