"""A runbook's commands as they are printed: found in its sections, filled in, and run by bash."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kms_local.game_day import runbook

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "alarms" / "runbooks"
PROGRAMS = ("aws", "curl", "kill", "kms-alarms", "kms-chaos", "kms-watchdog")
"""With what a code span begins that is a command; all else between backticks is a word, a file or an answer."""
FIRST, FIX, OVER = "First three commands", "Fix", "It is over when"
SECONDS = 300.0
_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_AT_ONCE = threading.BoundedSemaphore(6)
"""So many commands of all pages run at a time: each is a process that imports much, on a machine that is busy."""


def section(page: str, title: str) -> str:
    """Return the text of a page's section, of the first of that name."""
    return runbook.section((RUNBOOKS / page).read_text(encoding="utf-8"), title)


def printed(page: str, title: str) -> list[str]:
    """Return the commands of a section, blocks and code spans, in the order in which they stand there."""
    text, found = section(page, title), []
    for fence in _FENCE.finditer(text):
        found += [(fence.start(), command) for command in runbook.split(fence[1])]
    without = _FENCE.sub(lambda fence: " " * len(fence[0]), text)
    for span in _SPAN.finditer(without):
        words = " ".join(span[1].split())
        if words.split()[0] in PROGRAMS and " " in words:
            found.append((span.start(), words))
    return [command for _, command in sorted(found, key=lambda one: one[0])]


def first(page: str) -> list[str]:
    """Return the page's first three commands; the text below them may speak of others."""
    return [command for fence in _FENCE.finditer(section(page, FIRST)) for command in runbook.split(fence[1])]


def named(page: str, title: str, beginning: str) -> str:
    """Return the one command of a section that begins so, or the first of several."""
    found = [command for command in printed(page, title) if command.startswith(beginning)]
    assert found, f"{page}, {title!r} prints no command that begins with {beginning!r}: {printed(page, title)}"
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Where a page's reader sits: his folder, his environment, and what stands there for what is printed."""

    folder: Path
    environment: Mapping[str, str]
    installation: Mapping[str, str]
    """Addresses and paths that every installation has of its own, by those that pages print."""

    def sitting(self, name: str) -> Shell:
        """Return the same in a folder of its own: several pages may be followed at a time, and all write files."""
        folder = self.folder / re.sub(r"\W+", "-", name)
        folder.mkdir(exist_ok=True)
        return replace(self, folder=folder)

    def run(self, command: str, put: Mapping[str, str], answer: str = "y") -> Ran:
        """Run one command with bash, as printed but for what is put in; a question is answered."""
        for printed_text, meant in {**put, **self.installation}.items():
            command = command.replace(printed_text, meant)
        mine, theirs = os.openpty()
        os.write(mine, f"{answer}\n".encode())
        try:
            with _AT_ONCE:
                done = subprocess.run(
                    ["bash", "-c", command],  # noqa: S607 - whichever the reader has
                    cwd=self.folder,
                    env=dict(self.environment),
                    stdin=theirs,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                    timeout=SECONDS,
                )
        finally:
            os.close(mine)
            os.close(theirs)
        return Ran(command, done.returncode, done.stdout)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended, and all that it said."""

    command: str
    exit_code: int
    said: str

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.said}exit code {self.exit_code}"
