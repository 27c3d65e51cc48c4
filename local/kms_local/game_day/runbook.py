"""Follow a runbook: its commands as they are printed, run by bash where its reader sits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kms_core.clock import Clock
from kms_local.game_day.judging import Command

FIRST, FIX = "First three commands", "Fix"
SECONDS = 60.0
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(kms-watchdog [^`]+)`")
_PRINTED_REGION = "us-east-1"
"""Pages say: put the alert's region."""
_SAID_CHARACTERS = 400


class RunbookError(ValueError):
    """The page has no such section or command."""


def first_commands(page: str) -> list[str]:
    """Return the page's first three commands, as they stand there."""
    return [command for fence in _FENCE.finditer(section(page, FIRST)) for command in split(fence[1])]


def fix_command(page: str, beginning: str) -> str:
    """Return the fix's command that begins so.

    Raises:
        RunbookError: it prints none.
    """
    text = section(page, FIX)
    printed = [command for fence in _FENCE.finditer(text) for command in split(fence[1])]
    printed += [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]
    for command in printed:
        if command.startswith(beginning):
            return command
    raise RunbookError(f"the fix prints no command that begins with {beginning!r}")


def section(page: str, title: str) -> str:
    """Return the text of a page's section, of the first of that name.

    Raises:
        RunbookError: there is none.
    """
    parts = _SECTION.split(page)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name == title:
            return text
    raise RunbookError(f"the page has no section {title!r}")


def _in_a_line(command: str) -> str:
    """Return a command as it is told: without its comments, on one line."""
    return " ".join(re.sub(r"\s+#\s.*$|\\$", "", command, flags=re.MULTILINE).split())


def split(block: str) -> Iterator[str]:
    """Yield the commands of a block: what goes on in the next line is indented there, or ends in a backslash."""
    lines: list[str] = []
    for line in block.splitlines():
        if lines and not line.startswith((" ", "\t")) and not lines[-1].endswith("\\"):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    yield "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who was paged: a folder to sit in, an environment, and the region that the page is about."""

    folder: Path
    environment: Mapping[str, str]
    region: str
    clock: Clock

    def run(self, part: str, printed: str, *, shows: str, exit_codes: tuple[int, ...]) -> Command:
        """Run one printed command, with the alert's region put in; a question is answered with the region's name.

        Args:
            part: of the page, for the report.
            printed: as it stands there.
            shows: what its output must match, as a regular expression.
            exit_codes: with which it may end; empty: any.
        """
        text = printed.replace(_PRINTED_REGION, self.region)
        at_utc, began = self.clock.now_utc(), self.clock.monotonic()
        program = text.split()[0]
        if shutil.which(program, path=self.environment.get("PATH")) is None:
            return self._command(part, text, at_utc, None, 0.0, f"no {program} on PATH", good=False)
        code, said = self._bash(text)
        seconds = self.clock.monotonic() - began
        good = code is not None and (not exit_codes or code in exit_codes) and re.search(shows, said) is not None
        return self._command(part, text, at_utc, -1 if code is None else code, seconds, said, good=good)

    def _bash(self, text: str) -> tuple[int | None, str]:
        """Return exit code, None for one that did not end, and all that it said."""
        mine, theirs = os.openpty()  # the commands ask only where a person could answer
        os.write(mine, f"{self.region}\n".encode())
        try:
            done = subprocess.run(  # noqa: S603 - running what the runbook prints is its purpose
                ["bash", "-c", text],  # noqa: S607 - whichever the reader has
                cwd=self.folder,
                env=dict(self.environment),
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return None, f"it did not end within {SECONDS:.0f} s"
        finally:
            os.close(mine)
            os.close(theirs)
        return done.returncode, done.stdout

    @staticmethod
    def _command(
        part: str, text: str, at_utc: datetime, code: int | None, seconds: float, said: str, *, good: bool
    ) -> Command:
        words = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", said).split())
        return Command(
            at_utc=at_utc,
            section=part,
            text=_in_a_line(text),
            exit_code=code,
            seconds=seconds,
            said=words[:_SAID_CHARACTERS],
            good=good,
        )
