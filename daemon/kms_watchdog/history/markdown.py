"""The digest as Markdown, and what any sheet of tiles and tables is made of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kms_watchdog.history.digest import Digest
from kms_watchdog.history.sections import Section, Tile, sections, tiles

_NUMBER = re.compile(r"[$]?[\d.,]+( ms| s|%)?|n/a")


def render(d: Digest) -> str:
    """Return the whole document."""
    title = f"KMS of {d.estate}: {d.since_utc:%Y-%m-%d %H:%M} to {d.until_utc:%Y-%m-%d %H:%M} UTC"
    return sheet(title, tiles(d), sections(d))


def sheet(title: str, numbers: Iterable[Tile], tables: Iterable[Section]) -> str:
    """Return a document of key figures and tables."""
    return "\n".join(_lines(title, numbers, tables)) + "\n"


def _lines(title: str, numbers: Iterable[Tile], tables: Iterable[Section]) -> Iterator[str]:
    yield f"# {title}"
    yield ""
    for tile in numbers:
        note = f" ({tile.note})" if tile.note else ""
        yield f"- **{tile.value}** {tile.label}{note}"
    for section in tables:
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
