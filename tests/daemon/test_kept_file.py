"""Documents in the state folder that root's commands and the daemon share: neither keeps the other out."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kms_watchdog.preflight import record
from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.state_folder import StateError

DAEMON, GROUP = 4321, 4322
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder of the daemon's, in one that everybody may pass through."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        made = Path(parent) / "state"
        made.mkdir(mode=0o750)
        os.chown(made, DAEMON, GROUP)
        yield made


@contextmanager
def the_daemon() -> Iterator[None]:
    """Be its user inside."""
    os.setegid(GROUP)
    os.seteuid(DAEMON)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@as_root
def test_the_daemon_goes_on_with_what_root_wrote(folder: Path) -> None:
    """Whatever root's mask: it reads, locks and writes the file, also in a folder that root has made in its own."""
    file = KeptFile(folder / "audits" / "2026" / "x.json", schema=1)
    mask = os.umask(0o077)
    try:
        file.change(lambda _: {"by": "root"})
    finally:
        os.umask(mask)

    with the_daemon():
        found = file.read()
        file.change(lambda before: {**(before or {}), "then": "daemon"})

    assert found == {"schema": 1, "by": "root"}
    assert file.read() == {"schema": 1, "by": "root", "then": "daemon"}


@as_root
def test_a_draft_that_root_left_is_not_in_the_daemons_way(folder: Path) -> None:
    """It cannot be written by another user, but it can be taken away."""
    file = KeptFile(folder / "x.json", schema=1)
    (folder / "x.json.tmp").write_text("{")
    (folder / "x.json.tmp").chmod(0o600)

    with the_daemon():
        file.change(lambda _: {"by": "daemon"})

    assert file.read() == {"schema": 1, "by": "daemon"}
    assert [path.name for path in folder.glob("*.tmp")] == []


def test_a_changed_file_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever was let in stays in, and nobody else comes."""
    file = KeptFile(tmp_path / "x.json", schema=1)
    file.change(lambda _: {"by": "one"})
    file.path.chmod(0o640)

    file.change(lambda _: {"by": "another"})

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640


def planted(folder: Path) -> Path:
    roots = folder.parent / "roots"
    roots.write_text("root's own")
    return roots


@as_root
def test_root_follows_no_link_in_the_locks_place(folder: Path) -> None:
    """Whoever may write in the folder could have it given somebody else's file."""
    (folder / "x.json.lock").symlink_to(roots := planted(folder))

    with pytest.raises(StateError, match=r"x\.json: cannot be written"):
        KeptFile(folder / "x.json", schema=1).change(lambda _: {})

    assert owner(roots) == (0, 0)


@as_root
def test_root_gives_no_file_away_that_has_another_name(folder: Path) -> None:
    """As lock it does; its owner stays who it was. In the draft's place it is taken away."""
    roots = planted(folder)
    for name in ("x.json.lock", "x.json.tmp"):
        (folder / name).hardlink_to(roots)

    KeptFile(folder / "x.json", schema=1).change(lambda _: {})

    assert (owner(roots), roots.read_text()) == ((0, 0), "root's own")
    assert owner(folder / "x.json") == (DAEMON, GROUP)


@as_root
def test_a_preflight_of_roots_keeps_no_other_out(folder: Path) -> None:
    """Its lock is the folder's owner's."""
    with record.only_one(folder):
        pass

    with the_daemon(), record.only_one(folder):
        assert owner(record.folder(folder)) == (DAEMON, GROUP)
