"""The files of docs/api: what each is made from, and what keeps it from being written anew."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import command_api
import public_api

from kms_alarms.cli import cli as alarms
from kms_chaos.cli import cli as chaos
from kms_dashboards.cli import cli as dashboards
from kms_local.__main__ import group as local
from kms_watchdog.cli import command as watchdog

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/api"
PROGRAMS = {
    "kms-alarms": alarms,
    "kms-chaos": chaos,
    "kms-dashboards": dashboards,
    "kms-local": local,
    "kms-watchdog": watchdog,
}
HEAD = """\
# {title}, version {version}: what others may rely on.
# Made by `.venv/bin/python tests/release api`; a test compares it with the code. What begins with _ is not in it.
"""


@dataclass(frozen=True, slots=True)
class ApiFile:
    """One file of docs/api."""

    name: str
    title: str
    made: Callable[[], str]
    breaking_changes: Callable[[str, str], list[str]]

    def text(self, version: str) -> str:
        """Return what it says of the code as it is now."""
        return HEAD.format(title=self.title, version=version) + "\n" + self.made()


FILES = (
    ApiFile(
        "kms_core.txt", "kms_core", lambda: public_api.listing(["kms_core"], ROOT / "core"), public_api.breaking_changes
    ),
    ApiFile(
        "kms_local.txt",
        "kms_local for other people's tests",
        lambda: public_api.listing(["kms_local.testing", "kms_local.pytest_plugin"], ROOT / "local"),
        public_api.breaking_changes,
    ),
    ApiFile("commands.txt", "The commands", lambda: command_api.listing(PROGRAMS), command_api.breaking_changes),
)


def project_version() -> str:
    """Return the version that the next release has."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def version_of(text: str) -> str:
    """Return the version that a file of docs/api was made for."""
    return text.partition(", version ")[2].partition(":")[0]


def may_break(before: str, now: str) -> bool:
    """Tell whether version `now` may take away what `before` had (SemVer; below 1.0 the second number decides)."""
    old, new = (tuple(int(part) for part in version.split(".")[:2]) for version in (before, now))
    return new > old if old[0] == 0 else new[0] > old[0]


def refusal(file: ApiFile, committed: str, current: str, version: str) -> str:
    """Return why `current` may not take the place of `committed` under that version, or an empty text."""
    broken = file.breaking_changes(committed, current)
    before = version_of(committed)
    if not broken or may_break(before, version):
        return ""
    return "\n  ".join([f"docs/api/{file.name}: incompatible with {before}, so {version} will not do:", *broken])
