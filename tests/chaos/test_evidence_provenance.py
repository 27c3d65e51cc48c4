"""Where a drill comes from: the drill before it, the code's revision, the clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from evidence_kit import STARTED, MoodyStore, make_run, write_config

from kms_chaos.evidence import sending
from kms_chaos.evidence.provenance import clock_source, previous, revision
from kms_chaos.evidence.segments import Cut
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.config import Endpoint, load
from kms_watchdog.drills import journal

CUT = Cut(seconds=10, size_bytes=1000)
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_the_first_drill_has_none_before_it(state: Path) -> None:
    """And says where it looked."""
    assert previous(state, None, but="x") == (None, ("state",))


def test_the_one_that_began_last_counts_whatever_it_is_called(state: Path) -> None:
    """By the time of its first line; `--run-id` may be anything. This run itself is not before it."""
    make_run(state / "drills", "20261124T031500Z-a")
    last = make_run(state / "drills", "000-by-hand", started=STARTED + timedelta(days=1))
    make_run(state / "drills", "20261201T000000Z-me", started=STARTED + timedelta(days=7))

    found, _ = previous(state, None, but="20261201T000000Z-me")

    assert found is not None
    assert found.to_json() == {"run_id": "000-by-hand", "head": journal.read(last.journal).head, "state": "closed"}


def test_one_that_nobody_finished_is_named_as_open(state: Path) -> None:
    """With the last line that it has; a torn line is none."""
    where = make_run(state / "drills", closed=False)
    head = journal.read(where.journal).head
    with where.journal.open("ab") as file:
        file.write(b'{"torn')

    found, _ = previous(state, None, but="x")

    assert found is not None
    assert (found.state, found.head) == ("open", head)


def test_one_that_was_edited_is_named_as_broken(state: Path) -> None:
    """With the last line up to which its chain holds."""
    where = make_run(state / "drills", more=3)
    head = journal.read(where.journal).records[1].hash
    lines = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(b"".join([*lines[:2], *lines[3:]]))

    found, _ = previous(state, None, but="x")

    assert found is not None
    assert (found.state, found.head) == ("broken", head)


@pytest.mark.parametrize("closed", [True, False])
def test_a_new_machine_finds_it_in_the_store(state: Path, tmp_path: Path, *, closed: bool) -> None:
    """The container's disk is gone; of a drill that died with it, the segments are left."""
    old, store = make_run(tmp_path / "old" / "drills", closed=closed, more=20), MoodyStore(tmp_path / "kept")
    sending.finish(old, store, None, ManualClock(start_utc=STARTED), CUT)

    found, sought = previous(state, store, but="x")

    assert found is not None
    assert (found.run_id, found.head) == (old.run_id, journal.read(old.journal).head)
    assert found.state == ("closed" if closed else "open")
    assert sought == ("state", store.place)


def test_a_store_out_of_reach_is_not_claimed_to_be_searched(state: Path, tmp_path: Path) -> None:
    """The journal shows that nobody looked there."""
    store = MoodyStore(tmp_path / "kept")
    store.down = True

    assert previous(state, store, but="x") == (None, ("state",))


def checkout(folder: Path, head: str) -> Path:
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text(head + "\n")
    return folder / "chaos" / "kms_chaos" / "__init__.py"


def test_the_revision_is_the_builders_or_the_checkouts(tmp_path: Path) -> None:
    """What is no revision is none."""
    detached, branch = checkout(tmp_path / "a", SHA), checkout(tmp_path / "b", "ref: refs/heads/main")
    packed, empty = checkout(tmp_path / "c", "ref: refs/heads/main"), checkout(tmp_path / "d", "ref: refs/heads/main")
    (tmp_path / "b" / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "b" / ".git" / "refs" / "heads" / "main").write_text(SHA + "\n")
    (tmp_path / "c" / ".git" / "packed-refs").write_text(f"# pack-refs\n{SHA} refs/heads/main\n")

    assert [revision({}, code) for code in (detached, branch, packed)] == [SHA, SHA, SHA]
    assert revision({}, empty) is None
    assert revision({"KMS_WATCHDOG_REVISION": SHA.upper()}, empty) == SHA
    assert revision({"KMS_WATCHDOG_REVISION": "v1.2"}, detached) is None


def test_a_worktrees_revision_is_its_own_branchs(tmp_path: Path) -> None:
    """`.git` is a file there, and branches are the main checkout's."""
    main = tmp_path / "main" / ".git"
    (main / "refs" / "heads").mkdir(parents=True)
    (main / "refs" / "heads" / "topic").write_text(SHA)
    (main / "worktrees" / "w").mkdir(parents=True)
    (main / "worktrees" / "w" / "HEAD").write_text("ref: refs/heads/topic\n")
    (main / "worktrees" / "w" / "commondir").write_text("../..\n")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".git").write_text(f"gitdir: {main}/worktrees/w\n")

    assert revision({}, tmp_path / "w" / "chaos" / "x.py") == SHA


def test_an_unreachable_kms_says_nothing_of_the_clock(tmp_path: Path) -> None:
    """Null, and the drill goes on."""
    settings = load(write_config(tmp_path))
    dark = settings.model_copy(update={"endpoints": {"us-east-1": Endpoint(kms="https://127.0.0.1:1")}})

    assert clock_source(dark, SystemClock())["kms_offset"] is None
