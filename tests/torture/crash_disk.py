"""What a disk may hold after a crash: all that was written, or less.

A kill leaves everything: the kernel has it. A cut of power leaves what was synced, and of the rest anything: POSIX
promises a file's content from its `fsync` on and a name from its folder's, and nothing about the order of either
(Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). Within one folder names are taken to reach the
disk in their order, as they do where metadata are journalled. A rename within a folder happens or does not; one from
folder to folder is not modelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from crash_trace import Op

MODELS = ("kill", "cut", "names", "contents", "torn")
"""All is there; only what was synced; names reach the disk before what they name; contents before their names; all is
there, but for the end of what was written last and not synced."""
Tree = dict[str, bytes | None]
"""What is in a folder, by path; None: a folder."""


class DiskError(Exception):
    """The log does not fit what was there: it cannot be replayed."""


@dataclass(frozen=True, slots=True)
class _Write:
    at: int
    content: bytes

    def on(self, before: bytes) -> bytes:
        return before[: self.at].ljust(self.at, b"\0") + self.content + before[self.at + len(self.content) :]

    def torn(self, length: int) -> _Write:
        return _Write(self.at, self.content[:length])


@dataclass(frozen=True, slots=True)
class _Size:
    size: int

    def on(self, before: bytes) -> bytes:
        return before[: self.size].ljust(self.size, b"\0")


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    """Its content, as nothing can take it away any more."""
    unsynced: list[tuple[int, _Write | _Size]] = field(default_factory=list)
    """What was done to it since, each with its number."""

    def content(self, changes: list[_Write | _Size] | None = None) -> bytes:
        found = self.synced
        for change in [change for _, change in self.unsynced] if changes is None else changes:
            found = change.on(found)
        return found

    def sync(self, before: int) -> None:
        while self.unsynced and self.unsynced[0][0] < before:
            self.synced = self.unsynced.pop(0)[1].on(self.synced)


@dataclass(slots=True)
class _Folder:
    synced: dict[str, _File | _Folder] = field(default_factory=dict)
    unsynced: list[tuple[int, dict[str, _File | _Folder | None]]] = field(default_factory=list)
    """Names that came or went since (None: went), each change with its number."""

    def names(self, count: int | None = None) -> dict[str, _File | _Folder]:
        """Return what is there when the first `count` of the unsynced changes are; None: all."""
        found: dict[str, _File | _Folder | None] = dict(self.synced)
        for _, change in self.unsynced[:count]:
            found.update(change)
        return {name: node for name, node in found.items() if node is not None}

    def sync(self, before: int) -> None:
        while self.unsynced and self.unsynced[0][0] < before:
            self.synced, self.unsynced = self.names(1), self.unsynced[1:]


_Names = Callable[[_Folder], int | None]
_Contents = Callable[[_File], list[_Write | _Size] | None]


class Disk:
    """One folder, as an operation after the other leaves it."""

    def __init__(self, tree: Tree) -> None:
        """Begin with what is there, all of it synced."""
        self._root = _Folder()
        self._number = 0
        for path, content in sorted(tree.items()):
            above, name = self._above(path)
            above.synced[name] = _Folder() if content is None else _File(content)

    def do(self, op: Op) -> bool:
        """Do it; return whether it changed anything, or kept it: opening what is there does not.

        Raises:
            DiskError: what it speaks of is not there.
        """
        self._number += 1
        match op.kind:
            case "fsync":
                node = self._node(op.path)
                kept = len(node.unsynced) if node else 0
                if node is not None:
                    node.sync(op.began)
                return kept > 0
            case "write" | "truncate":
                return self._fill(op)
            case "request" | "said":
                return True
            case _:
                return self._rename(op)

    def _fill(self, op: Op) -> bool:
        node = self._node(op.path)
        if not isinstance(node, _File):
            if op.kind == "truncate":
                raise DiskError(f"{op.path} is not there to be cut")
            return False  # it has no name any more: nobody will find what is written to it
        before = node.content()
        at = len(before) if op.at < 0 else op.at
        change = _Write(at, op.content) if op.kind == "write" else _Size(op.at)
        node.unsynced.append((self._number - 1, change))
        return op.kind == "write" or change.on(before) != before

    def _rename(self, op: Op) -> bool:
        above, name = self._above(op.path)
        node = above.names().get(name)
        change: dict[str, _File | _Folder | None]
        match op.kind:
            case "create" | "mkdir":
                if node is not None:
                    return False
                change = {name: _File() if op.kind == "create" else _Folder()}
            case "unlink":
                change = {name: None}
            case _:
                to, new = self._above(op.to)
                if node is None or (op.kind == "rename" and to is not above):
                    raise DiskError(f"{op.kind} of {op.path} to {op.to}: not there, or to another folder")
                change = {new: node}
                if op.kind == "rename":
                    change[name] = None
                above = to
        above.unsynced.append((self._number - 1, change))
        return True

    def _above(self, path: str) -> tuple[_Folder, str]:
        parts = PurePosixPath(path).parts
        folder: _File | _Folder | None = self._root
        for part in parts[:-1]:
            folder = folder.names().get(part) if isinstance(folder, _Folder) else None
        if not isinstance(folder, _Folder):
            raise DiskError(f"{path}: the folder is not there")
        return folder, parts[-1] if parts else "."

    def _node(self, path: str) -> _File | _Folder | None:
        if path == ".":
            return self._root
        above, name = self._above(path)
        return above.names().get(name)

    def after(self, model: str) -> Tree:
        """Return what a crash now leaves, by one of `MODELS`."""
        last = max((each for each in self._writes()), default=-1)

        def torn(file: _File) -> list[_Write | _Size]:
            return [
                change.torn(len(change.content) // 2) if number == last and isinstance(change, _Write) else change
                for number, change in file.unsynced
            ]

        def nothing(_: _File) -> list[_Write | _Size]:
            return []

        return {
            "kill": lambda: self._tree(lambda _: None, lambda _: None),
            "cut": lambda: self._tree(lambda _: 0, nothing),
            "names": lambda: self._tree(lambda _: None, nothing),
            "contents": lambda: self._tree(lambda _: 0, lambda _: None),
            "torn": lambda: self._tree(lambda _: None, torn),
        }[model]()

    def drawn(self, rng: random.Random) -> Tree:
        """Return what a cut of power now may leave: of each file some writes, each whole, in part or not at all."""

        def some(file: _File) -> list[_Write | _Size]:
            kept = []
            for _, change in file.unsynced:
                chance = rng.random()
                if chance < 0.5:
                    kept.append(change)
                elif chance < 0.65 and isinstance(change, _Write):
                    kept.append(change.torn(rng.randrange(len(change.content) + 1)))
                elif chance < 0.75 and isinstance(change, _Write):
                    kept.append(_Write(change.at, bytes(len(change.content))))  # its size has come, it has not
            return kept

        return self._tree(lambda folder: rng.randint(0, len(folder.unsynced)), some)

    def _writes(self) -> Iterator[int]:
        waiting: list[_File | _Folder] = [self._root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, _Folder):
                waiting += node.names().values()
            else:
                yield from (number for number, change in node.unsynced if isinstance(change, _Write))

    def _tree(self, names: _Names, contents: _Contents) -> Tree:
        found: Tree = {}
        waiting: list[tuple[str, _Folder]] = [("", self._root)]
        while waiting:
            path, folder = waiting.pop()
            for name, node in sorted(folder.names(names(folder)).items()):
                if isinstance(node, _Folder):
                    found[f"{path}{name}"] = None
                    waiting.append((f"{path}{name}/", node))
                else:
                    found[f"{path}{name}"] = node.content(contents(node))
        return found


def tree_of(folder: Path) -> Tree:
    """Return what is in a folder now."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def put(tree: Tree, folder: Path) -> None:
    """Make `folder`, which must not exist, and what is to be in it."""
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
