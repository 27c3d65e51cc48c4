"""What a release is made of, as a CycloneDX bill of materials: every package of `requirements.lock`, with its hashes.

Made by CycloneDX's own tool, from an environment of its own (`make release` puts it up). It reads the lock of the very
tree that is built, and asks no network.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

from twice import BuildFailedError, same

TOOL = Path(__file__).parents[2] / ".state/interop/supply/bin/cyclonedx-py"
LOCK = "requirements.lock"


def bill_of(tree: Path, epoch: int, tool: Path = TOOL) -> dict[str, bytes]:
    """Return the bill of what is in `tree` by its file's name; made twice, and the same to the byte.

    Raises:
        BuildFailedError: the tool is not here, or says no.
        DifferentBuildsError: it made two.
    """
    if not tool.exists():
        raise BuildFailedError("no CycloneDX here: make .state/interop/supply/.made puts it up")
    version = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    name = f"kms_watchdog-{version}.cdx.json"
    return same(*({name: _made(tree, epoch, tool)} for _ in range(2)))


def _made(tree: Path, epoch: int, tool: Path) -> bytes:
    command = [tool, "requirements", LOCK, "--pyproject", "pyproject.toml", "--mc-type", "application"]
    done = subprocess.run(
        [*command, "--output-reproducible", "--of", "JSON", "-o", "-"],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise BuildFailedError(f"CycloneDX: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def locked(lock: str) -> dict[str, frozenset[str]]:
    """Return the SHA-256 hashes of each `name==version` in the text of a lock."""
    found: dict[str, frozenset[str]] = {}
    for entry in re.split(r"\n(?=\S)", lock):
        if pinned := re.match(r"([A-Za-z0-9_.-]+==[^\s;\\]+)", entry):
            found[pinned[1]] = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found
