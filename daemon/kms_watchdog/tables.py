"""Tables on a terminal: the words in them act on nothing, whoever wrote them (see `terminal`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from kms_watchdog.terminal import plain


class _Tables(Console):
    """Draws with cursor and colours of its own; what it is given is text, and no markup."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield what is drawn."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def console(*, stderr: bool = False, **options: Any) -> Console:
    """Return what tables are drawn with."""
    stream = sys.stderr if stderr else sys.stdout
    return _Tables(file=getattr(stream, "stream", stream), markup=False, emoji=False, **options)
