"""`python crash_faulty.py NAME FOLDER`: small writers, each with one mistake or none, for the torture to find."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crash_writer import Writer, main


def _replaced(*, content_is_synced: bool, folder_is_synced: bool) -> Callable[[Path], Iterator[Any]]:
    """Return a writer of a document that puts a draft in its place."""

    def steps(state: Path) -> Iterator[Any]:
        for text in ("first", "second"):
            with (state / "draft").open("w") as file:
                file.write(text)
                file.flush()
                if content_is_synced:
                    os.fsync(file.fileno())
            (state / "draft").replace(state / "document")
            if folder_is_synced:
                _sync(state)
            yield text

    return steps


def _in_place(state: Path) -> Iterator[Any]:
    for text in ("first", "second"):
        with (state / "document").open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _sync(state)
        yield text


def _document(state: Path) -> Any:
    return (state / "document").read_text()


def _lines(*, are_synced_first: bool) -> Callable[[Path], Iterator[Any]]:
    """Return a writer of lines that tells of each, before it is synced or after."""

    def steps(state: Path) -> Iterator[Any]:
        with (state / "lines").open("ab", buffering=0) as file:
            _sync(state)
            for number in range(3):
                file.write(f"line {number}\n".encode())
                if are_synced_first:
                    os.fsync(file.fileno())
                yield number + 1
                os.fsync(file.fileno())

    return steps


def _count(state: Path) -> Any:
    return (state / "lines").read_bytes().count(b"\n") if (state / "lines").exists() else 0


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


BEGINS_WITH = {"state": None, "state/document": b"first"}
FAULTY = {
    "replaced": Writer(
        steps=_replaced(content_is_synced=True, folder_is_synced=True), read=_document, begins_with=BEGINS_WITH
    ),
    "unsynced": Writer(
        steps=_replaced(content_is_synced=False, folder_is_synced=True), read=_document, begins_with=BEGINS_WITH
    ),
    "unnamed": Writer(
        steps=_replaced(content_is_synced=True, folder_is_synced=False), read=_document, begins_with=BEGINS_WITH
    ),
    "in-place": Writer(steps=_in_place, read=_document, begins_with=BEGINS_WITH),
    "appended": Writer(steps=_lines(are_synced_first=True), read=_count, grows=True),
    "hasty": Writer(steps=_lines(are_synced_first=False), read=_count, grows=True),
}


if __name__ == "__main__":
    main(FAULTY, *sys.argv[1:])
