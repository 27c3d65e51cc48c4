"""Build wheel and sdist of one tree twice, each time in a folder, under a umask and at a time of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

UMASKS = (0o022, 0o077)
WITHOUT_GIT_EPOCH = 1577836800  # 2020-01-01 UTC: what hatchling itself takes, said here so that both agree
SUMS = "SHA256SUMS"
NOT_SOURCE = (
    ".git",
    ".venv",
    ".state",
    "dist",
    "build",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    ".coverage*",
    "*.egg-info",
)


class DifferentBuildsError(Exception):
    """One tree gave two results."""


class BuildFailedError(Exception):
    """The build backend, or git, said no."""


def export(source: Path, target: Path) -> None:
    """Put what is to be built into `target`: the last commit where there is git, else the files as they are."""
    if is_checkout(source):
        with tarfile.open(fileobj=BytesIO(git(source, "archive", "HEAD"))) as opened:
            opened.extractall(target, filter="data")
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_SOURCE))


def is_checkout(source: Path) -> bool:
    """Tell whether `source` is the top of a git checkout, and git is here to read it."""
    return (source / ".git").exists() and shutil.which("git") is not None


def git(source: Path, *argv: str) -> bytes:
    """Return what git prints about `source`."""
    done = subprocess.run([shutil.which("git") or "git", "-C", source, *argv], capture_output=True, check=False)
    if done.returncode:
        raise BuildFailedError(f"git {argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def epoch_of(source: Path) -> int:
    """Return the time that every file of the release bears, in seconds since 1970: that of the last commit."""
    if not is_checkout(source):
        return WITHOUT_GIT_EPOCH
    return int(git(source, "log", "-1", "--format=%ct"))


def build(tree: Path, epoch: int, umask: int) -> dict[str, bytes]:
    """Return the content of wheel and sdist by file name."""
    made = tree.with_name(f"{tree.name}.dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", made],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildFailedError(f"hatchling: {done.stderr.strip()}")
    return {path.name: path.read_bytes() for path in sorted(made.iterdir())}


def build_twice(source: Path, workplace: Path) -> dict[str, bytes]:
    """Return wheel and sdist, when both builds gave the same bytes.

    Raises:
        DifferentBuildsError: they did not.
        BuildFailedError: there is nothing to compare.
    """
    results = []
    for number, umask in enumerate(UMASKS):
        tree = workplace / f"{number}{'-deeper' * number}" / "tree"  # a path that gets in is of another length, too
        tree.parent.mkdir(parents=True)
        export(source, tree)
        results.append(build(tree, epoch_of(source), umask))
    return same(*results)


def same(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files when both builds made the same."""
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    if differing:
        raise DifferentBuildsError(f"two builds of one tree differ: {', '.join(differing)}")
    return dict(first)


def write(files: Mapping[str, bytes], into: Path) -> None:
    """Put a release into a folder, in the place of an earlier one; what else is in there stays."""
    into.mkdir(parents=True, exist_ok=True)
    for earlier in into.glob("kms_watchdog-*"):
        earlier.unlink()
    for name, content in files.items():
        (into / name).write_bytes(content)
    (into / SUMS).write_text(sums(files), encoding="utf-8")


def sums(files: Mapping[str, bytes]) -> str:
    """Return what `sha256sum --check` reads."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
