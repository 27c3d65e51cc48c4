"""What goes to a terminal: words may come from a server, a journal or a drill's file, and must not act on the terminal.

Whoever can put an escape sequence into an error's text could hide a line, write over a verdict, or set what the next
paste runs. Colours pass, as ours are made of them; all else that is no printable text is spelt out.
What goes into a file or a pipe is left alone: it is data there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_ACTS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
"""Control characters but for tab and line feed, and what turns the direction of writing."""
_BARE = re.compile(_ACTS)
_COLOURED = re.compile(rf"(\x1b\[[0-9;]*m)|{_ACTS}")


def plain(text: str) -> str:
    """Return `text` with what would act on a terminal spelt out."""
    return _BARE.sub(lambda found: _spelt(found[0]), text)


def coloured(text: str) -> str:
    """As `plain`, but for colours."""
    return _COLOURED.sub(lambda found: found[1] or _spelt(found[0]), text)


def one_line(text: str) -> str:
    """As `plain`, without line feeds either: a line of a log is one line, whoever wrote what is in it."""
    return plain(text).replace("\n", "\\n")


def printable(text: str) -> str:
    """Return `text` with all that is not printable spelt out, blanks of other scripts too: for an error's one line."""
    return "".join(c if c.isprintable() else _spelt(c) for c in text)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Guarded:
    """A stream to a terminal that nothing but colours acts on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text` as `coloured` has it; return its own length, as whoever wrote it expects."""
        self.stream.write(coloured(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard() -> None:
    """Guard what this process writes to a terminal from now on; called once, before anything is written."""
    sys.stdout, sys.stderr = (Guarded(one) if one.isatty() else one for one in (sys.stdout, sys.stderr))
