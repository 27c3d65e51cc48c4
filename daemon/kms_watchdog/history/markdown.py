"""The digest as Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kms_watchdog.history.digest import Digest
from kms_watchdog.history.sections import Section, sections, tiles

_NUMBER = re.compile(r"[$]?[\d.,]+( ms| s|%)?|n/a")


def render(digest: Digest) -> str:
    """Return the whole document."""
    return "\n".join(_lines(digest)) + "\n"


def _lines(d: Digest) -> Iterator[str]:
    yield f"# KMS of {d.estate}: {d.since_utc:%Y-%m-%d %H:%M} to {d.until_utc:%Y-%m-%d %H:%M} UTC"
    yield ""
    for tile in tiles(d):
        note = f" ({tile.note})" if tile.note else ""
        yield f"- **{tile.value}** {tile.label}{note}"
    for section in sections(d):
        yield from ("", f"## {section.title}", "")
        yield from _table(section)
        if section.note and section.rows:
            yield from ("", section.note)


def _table(section: Section) -> Iterator[str]:
    if not section.rows:
        yield section.nothing
        return
    yield _row(section.heads)
    columns = zip(*section.rows, strict=True)
    yield _row(["---:" if all(_NUMBER.fullmatch(cell) for cell in column) else "---" for column in columns])
    for row in section.rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
