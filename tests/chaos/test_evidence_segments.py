"""Segments: whole lines, in order, none twice, sent beside the drill and never in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from evidence_kit import STARTED, MoodyStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms_chaos.evidence.segments import Cut, Segments, Streaming, folder, segment_name
from kms_chaos.journal_writer import JournalWriter
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.drills import journal
from kms_watchdog.evidence.store import StoreError

pytestmark = pytest.mark.slow  # each streams a journal

RUN = "20261124T031500Z-x"


@pytest.fixture
def store(tmp_path: Path) -> MoodyStore:
    return MoodyStore(tmp_path / "kept")


def write(path: Path, count: int, *, seq: int = 0, prev: str = journal.GENESIS, size: int = 10) -> str:
    """Append lines, and return the last one's hash."""
    with path.open("ab") as file:
        for number in range(seq, seq + count):
            raw, prev = journal.line(
                seq=number, at_utc=STARTED, t=number, event="x", fields={"text": "x" * size}, prev=prev
            )
            file.write(raw)
    return prev


def stored(store: MoodyStore) -> bytes:
    return b"".join(store.get(name) for name in store.sizes(folder(RUN)))


def names(store: MoodyStore) -> list[str]:
    return [name.rpartition("/")[2] for name in store.sizes(folder(RUN))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    steps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 400), st.booleans(), st.booleans()), max_size=8),
    size_bytes=st.integers(200, 2000),
)
def test_segments_are_the_journal_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool, bool]], size_bytes: int
) -> None:
    """Lines of any size, a store that comes and goes, processes that end: put together they are the journal."""
    home = tmp_path_factory.mktemp("x")
    path, store, cut = home / "journal.ndjson", MoodyStore(home / "kept"), Cut(seconds=1, size_bytes=size_bytes)
    path.write_bytes(b"")
    segments, seq, prev = Segments(store, RUN, path, cut), 0, journal.GENESIS
    for count, size, down, anew in steps:
        prev, seq = write(path, count, seq=seq, prev=prev, size=size), seq + count
        store.down = down
        try:
            if anew:
                segments = Segments.resumed(store, RUN, path, cut)
            segments.send(path.stat().st_size, all_of_it=size % 2 == 0)
        except StoreError:
            assert down

    store.down = False
    Segments.resumed(store, RUN, path, cut).send(path.stat().st_size, all_of_it=True)

    assert stored(store) == path.read_bytes()
    for number, name in enumerate(names(store)):
        content = store.get(folder(RUN) + name)
        assert content.endswith(b"\n")
        assert name == segment_name(number, content)


def test_a_full_segment_goes_at_once_and_the_rest_waits(tmp_path: Path, store: MoodyStore) -> None:
    """By size; a line is never cut."""
    path, segments = tmp_path / "j", Segments(store, RUN, tmp_path / "j", Cut(seconds=60, size_bytes=1000))
    write(path, 7)
    segments.send(path.stat().st_size, all_of_it=False)

    (only,) = names(store)
    line_bytes = path.stat().st_size // 7
    assert only.startswith("000000-00000000-")
    assert 1000 <= segments.sent_bytes < 1000 + line_bytes


def test_only_what_is_on_disk_is_sent(tmp_path: Path, store: MoodyStore) -> None:
    """What a power cut could still take away would make a segment that no healer's journal holds."""
    path, segments = tmp_path / "j", Segments(store, RUN, tmp_path / "j", Cut(seconds=60, size_bytes=1 << 20))
    write(path, 2)
    one = len(path.read_bytes().splitlines(keepends=True)[0])

    segments.send(one, all_of_it=True)

    assert stored(store) == path.read_bytes()[:one]


def test_the_writer_says_what_is_on_disk(tmp_path: Path) -> None:
    """Whole lines, up to the last that was waited for."""
    path = tmp_path / "journal.ndjson"
    with JournalWriter(path, SystemClock()) as writer:
        before = writer.bytes_on_disk
        writer.append("x")
        writer.append_now("y")

        assert (before, writer.bytes_on_disk) == (0, path.stat().st_size)


def test_a_line_larger_than_a_segment_is_one(tmp_path: Path, store: MoodyStore) -> None:
    """It goes alone."""
    path, segments = tmp_path / "j", Segments(store, RUN, tmp_path / "j", Cut(seconds=60, size_bytes=100))
    write(path, 2, size=5000)

    segments.send(path.stat().st_size, all_of_it=True)

    assert len(names(store)) == 2
    assert stored(store) == path.read_bytes()


class Told(list[tuple[str, str]]):
    """What was told."""

    def __call__(self, what: str, error: str) -> None:
        self.append((what, error))


def streaming(path: Path, store: MoodyStore, clock: ManualClock, told: Told, seconds: float = 10) -> Streaming:
    segments = Segments(store, RUN, path, Cut(seconds=seconds, size_bytes=1 << 20))
    return Streaming(segments, upto=lambda: path.stat().st_size, seconds=seconds, clock=clock, tell=told)


def test_an_old_segment_goes_though_it_is_small(tmp_path: Path, store: MoodyStore) -> None:
    """By age."""
    path, clock, told = tmp_path / "j", ManualClock(start_utc=STARTED), Told()
    write(path, 1)
    stream = streaming(path, store, clock, told)
    stream.look()
    early = names(store)
    clock.advance(10)
    stream.look()

    assert (early, len(names(store)), told) == ([], 1, [])


def test_an_outage_of_the_store_is_told_once_and_its_end_too(tmp_path: Path, store: MoodyStore) -> None:
    """And nothing is lost by it."""
    path, clock, told = tmp_path / "j", ManualClock(start_utc=STARTED), Told()
    prev = write(path, 1)
    stream, store.down = streaming(path, store, clock, told), True
    for _ in range(3):
        clock.advance(10)
        stream.look()
    write(path, 1, seq=1, prev=prev)
    store.down = False
    clock.advance(10)
    stream.look()

    assert [(what, bool(error)) for what, error in told] == [("segment", True), ("segment", False)]
    assert "ConnectTimeoutError" in told[0][1]
    assert stored(store) == path.read_bytes()


def test_a_thread_sends_while_the_block_runs(
    tmp_path: Path, store: MoodyStore, wait_until: Callable[[Callable[[], bool], float, str], None]
) -> None:
    """And ends with it."""
    path, told = tmp_path / "j", Told()
    write(path, 3)
    segments = Segments(store, RUN, path, Cut(seconds=0.2, size_bytes=1 << 20))
    with Streaming(segments, upto=lambda: path.stat().st_size, seconds=0.2, clock=SystemClock(), tell=told) as stream:
        wait_until(lambda: bool(names(store)), 20.0, "a segment")

    assert stream.is_over
    assert told == []


def test_nothing_is_told_once_the_block_is_left(tmp_path: Path, store: MoodyStore) -> None:
    """A request that was under way may fail later: a closed journal takes no more lines."""
    path, clock, told = tmp_path / "j", ManualClock(start_utc=STARTED), Told()
    write(path, 1)
    with streaming(path, store, clock, told) as stream:
        store.down = True
    clock.advance(10)
    stream.look()

    assert told == []
