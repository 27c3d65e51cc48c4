"""A release is a function of the commit: neither folder, umask nor time of day are in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from bill import TOOL
from twice import (
    NOT_SOURCE,
    SUMS,
    UMASKS,
    WITHOUT_GIT_EPOCH,
    BuildFailedError,
    DifferentBuildsError,
    build,
    build_twice,
    export,
    sums,
    write,
)

ROOT = Path(__file__).parents[2]
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "1.0"
"""
HOOK = """\
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Told(BuildHookInterface):
    def initialize(self, version, build_data):
        Path(self.root, "small", "told.py").write_text(f"WHERE = {self.root!r}")
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return wheel and sdist of this tree as it is now, without git."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    return build_twice(folder / "tree", folder / "work")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a project of one module, which is no checkout."""
    folder = tmp_path / "small-project"
    (folder / "small").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "small/__init__.py").write_text("")
    return folder


def git(folder: Path, *argv: str) -> None:
    program = shutil.which("git")
    if program is None:
        pytest.skip("no git here")
    who = {
        f"GIT_{role}_{what}": "someone@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    dates = {"GIT_COMMITTER_DATE": "2026-03-01T12:00:00+00:00", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00+00:00"}
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run([program, "-C", folder, *argv], env={**os.environ, **who, **dates, **settings}, check=True)


def dates_of(wheel: bytes) -> set[datetime]:
    with zipfile.ZipFile(BytesIO(wheel)) as opened:
        return {datetime(*one.date_time, tzinfo=UTC) for one in opened.infolist()}


def names_in(sdist: bytes) -> set[str]:
    with tarfile.open(fileobj=BytesIO(sdist)) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def test_this_tree_is_built_to_the_byte(release: dict[str, bytes]) -> None:
    """Two folders, two umasks: one wheel, one sdist, with the one time of a tree without git."""
    wheel, sdist = sorted(release)

    assert (wheel.endswith("-py3-none-any.whl"), sdist.endswith(".tar.gz")) == (True, True)
    assert {date.timestamp() for date in dates_of(release[wheel])} == {WITHOUT_GIT_EPOCH}
    with tarfile.open(fileobj=BytesIO(release[sdist])) as opened:
        assert {one.mtime for one in opened.getmembers()} == {WITHOUT_GIT_EPOCH}
        assert {one.mode & ~0o111 for one in opened.getmembers()} == {0o644}
        assert {(one.uid, one.gid, one.uname, one.gname) for one in opened.getmembers()} == {(0, 0, "", "")}


def test_the_sdist_gives_the_same_wheel(release: dict[str, bytes], tmp_path: Path) -> None:
    """Whoever builds from source has what was released."""
    wheel, sdist = sorted(release)
    with tarfile.open(fileobj=BytesIO(release[sdist])) as opened:
        opened.extractall(tmp_path, filter="data")

    built = build(tmp_path / sdist.removesuffix(".tar.gz"), WITHOUT_GIT_EPOCH, UMASKS[0])

    assert built[wheel] == release[wheel]


def test_the_sdist_is_the_source_and_nothing_that_lay_about(release: dict[str, bytes]) -> None:
    """Tests and documents are in it; environments, state and caches are not."""
    names = names_in(release[sorted(release)[1]])

    assert {"Makefile", "requirements-dev.lock", "docs/release.md", "tests/release/twice.py"} <= names
    unwanted = (".venv/", ".state/", ".git/", "dist/", "build/")
    assert not [n for n in names if n.startswith(unwanted) or "__pycache__" in n or "_cache/" in n]


def test_of_a_checkout_the_last_commit_is_built(small: Path, tmp_path: Path) -> None:
    """With its committer's time; what is not committed is not released."""
    git(small, "init", "--quiet")
    git(small, "add", ".")
    git(small, "commit", "--quiet", "--message", "First")
    (small / "small/draft.py").write_text("DRAFT = True")
    (small / "small/__init__.py").write_text("CHANGED = True")

    release = build_twice(small, tmp_path / "work")

    wheel, sdist = sorted(release)
    assert names_in(release[sdist]) == {"pyproject.toml", "small/__init__.py", "PKG-INFO"}
    assert dates_of(release[wheel]) == {datetime(2026, 3, 1, 12, tzinfo=UTC)}
    with zipfile.ZipFile(BytesIO(release[wheel])) as opened:
        assert opened.read("small/__init__.py") == b""


def test_a_build_that_tells_where_it_was_made_is_refused(small: Path, tmp_path: Path) -> None:
    """A path in one generated file is enough; the files that differ are named."""
    with (small / "pyproject.toml").open("a") as project:
        project.write('[tool.hatch.build.hooks.custom]\npath = "hook.py"\n')
    (small / "hook.py").write_text(HOOK)

    with pytest.raises(DifferentBuildsError, match=r"small-1\.0-py.*\.whl, small-1\.0\.tar\.gz"):
        build_twice(small, tmp_path / "work")


def test_a_build_that_fails_says_why(small: Path, tmp_path: Path) -> None:
    """In the build backend's words."""
    (small / "pyproject.toml").write_text(PROJECT.replace("1.0", "one"))

    with pytest.raises(BuildFailedError, match="one"):
        build_twice(small, tmp_path / "work")


def test_a_release_takes_the_place_of_the_last(tmp_path: Path) -> None:
    """An old wheel beside new sums would be handed on; what is not ours stays."""
    (tmp_path / "kms_watchdog-0.0.1-py3-none-any.whl").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    files = {"kms_watchdog-0.1.0-py3-none-any.whl": b"wheel", "kms_watchdog-0.1.0.tar.gz": b"sdist"}

    write(files, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {*files, SUMS, "notes.txt"}
    for line in (tmp_path / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert (tmp_path / SUMS).read_text() == sums(files)


def test_without_git_caches_are_left_behind(small: Path, tmp_path: Path) -> None:
    """A tree from a tarball in which somebody worked."""
    for folder in (".venv", ".state", "small/__pycache__", ".mypy_cache"):
        (small / folder).mkdir()
        (small / folder / "file").write_text("")

    export(small, tmp_path / "copy")

    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    assert found == {"pyproject.toml", "small", "small/__init__.py"}


@pytest.mark.slow
def test_make_release_writes_the_files_and_their_sums(tmp_path: Path) -> None:
    """What `make release` runs, on this tree; without the bill of materials where CycloneDX is not here."""
    bare = [] if TOOL.exists() else ["--without-bill"]
    argv = [sys.executable, ROOT / "tests/release", "build", "--into", tmp_path, *bare]

    # In a container the checkout may be another user's, which git would refuse to read.
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    done = subprocess.run(argv, env={**os.environ, **trust}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / SUMS).read_text() in done.stdout
    assert len(list(tmp_path.iterdir())) == 4 - len(bare)
