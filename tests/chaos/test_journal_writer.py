"""The journal's writer: one chain, in order, on disk; and a healer that ends what a dead one left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms_chaos import durable
from kms_chaos.journal_writer import JournalWriteError, JournalWriter
from kms_chaos.testing import STARTED
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.drills import journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.ndjson"


def test_lines_are_chained_in_the_order_in_which_they_came(path: Path) -> None:
    """Whoever appends, and whoever waits for the disk."""
    with JournalWriter(path, SystemClock()) as writer:
        for number in range(100):
            writer.append("number", number=number)
        writer.append_now("last", text="ü")

        found = journal.read(path)  # before it is closed: append_now returned

    assert [r.fields.get("number") for r in found.records] == [*range(100), None]
    assert found.records[-1].fields == {"text": "ü"}
    assert found.torn == b""


def test_many_threads_make_one_chain(path: Path) -> None:
    """No line is lost, none is torn, and time does not go back."""
    with JournalWriter(path, SystemClock()) as writer:
        threads = [
            threading.Thread(target=lambda n=n: [writer.append("x", thread=n, number=i) for i in range(200)])  # type: ignore[misc]
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    records = journal.read(path).records
    assert len(records) == 800
    assert [r.t for r in records] == sorted(r.t for r in records)
    for n in range(4):
        assert [r.fields["number"] for r in records if r.fields["thread"] == n] == list(range(200))


def test_times_are_the_clocks(path: Path) -> None:
    """Seconds since the run began, and the date beside them."""
    clock = ManualClock(start_utc=STARTED)
    with JournalWriter(path, clock) as writer:
        clock.advance(2.5)
        writer.append_now("x")

    assert [(r.t, r.at_utc.second) for r in journal.read(path).records] == [(2.5, 2)]


def test_what_json_cannot_hold_is_told_to_every_later_writer(path: Path) -> None:
    """A journal that misses a line must not go on as if it were whole."""
    with JournalWriter(path, SystemClock()) as writer:
        with pytest.raises(JournalWriteError):
            writer.append_now("x", value=object())
        with pytest.raises(JournalWriteError):
            writer.append("y")
        with pytest.raises(JournalWriteError):
            writer.append_now("z")

    assert journal.read(path).records == ()


def test_a_full_disk_is_told(path: Path) -> None:
    """`append_now` never says that a line is there which is not."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    path.symlink_to(full)
    with pytest.raises(FileExistsError):
        JournalWriter(path, SystemClock())  # nor does it write where somebody put something


def test_a_closed_journal_takes_no_line(path: Path) -> None:
    """Closing twice is harmless."""
    writer = JournalWriter(path, SystemClock())
    writer.append("x")
    writer.close()
    writer.close()

    with pytest.raises(JournalWriteError, match="closed"):
        writer.append("y")
    assert len(journal.read(path).records) == 1


def test_a_journal_is_never_overwritten(path: Path) -> None:
    """Somebody else's evidence stays."""
    path.write_bytes(b"")

    with pytest.raises(FileExistsError):
        JournalWriter(path, SystemClock())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    """Whatever a power cut leaves: a prefix of the chain, and perhaps a torn end that is not believed."""
    path = tmp_path / f"{cut}.ndjson"
    path.unlink(missing_ok=True)
    with JournalWriter(path, SystemClock()) as writer:
        for number in range(5):
            writer.append("x", number=number)
    whole = path.read_bytes()

    found = journal.parse_all(whole[: cut % (len(whole) + 1)])

    assert [r.fields["number"] for r in found.records] == list(range(len(found.records)))


def test_a_durable_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """A failure leaves neither half a file nor a draft."""
    path = tmp_path / "verdict.json"
    durable.write(path, b"one")
    durable.write(path, b"two")

    with pytest.raises(TypeError):
        durable.write(path, "text")  # type: ignore[arg-type]

    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_folder_is_made_once(tmp_path: Path) -> None:
    """Two drills of one second do not share one."""
    durable.make_folder(tmp_path / "drills" / "one")

    with pytest.raises(FileExistsError):
        durable.make_folder(tmp_path / "drills" / "one")
