"""What a process does to a folder, to Toxiproxy and to its stdout, in order: strace's log, read.

`strace -f` stops every thread at its system calls and writes them down whole, in hexadecimal. A call counts as done
when it returned; a request to Toxiproxy when the last of it was being handed over, since it may be obeyed before the
call that sends it returns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["write", "truncate", "fsync", "create", "mkdir", "rename", "link", "unlink", "request", "said"]
_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\w+|\?)")
_ARGUMENT = re.compile(r'("(?:\\x[0-9a-f]{2})*")|(\[\{.*\}\]|\{.*\})|((?:<(?:->|[^>])*>|[^,<])+)')
_DESCRIPTOR = re.compile(r"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})+)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PIECE = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')
_PEER = re.compile(r"TCP:\[.*->127\.0\.0\.1:(\d+)\]")
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n(.*?\r\n)\r\n", re.DOTALL)
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)\r\n")
_SENDING = ("sendto(", "sendmsg(")
_COMMON = ("open(", "openat(", "close(", "lseek(", "mmap(", "fcntl(")
_MAKING = ("clone", "fork", "vfork")
_MAPPED = "-shm"
"""SQLite's index of its log is written through memory, and made anew by whoever opens the file first."""


class TraceError(Exception):
    """The log shows what this reader does not know: nothing that it says could be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One thing that was done; paths are relative to the folder."""

    kind: Kind
    path: str = ""
    to: str = ""
    """Where a `rename` or `link` leads."""
    at: int = 0
    """The offset of a `write`, -1 for the file's end; the size of a `truncate`."""
    content: bytes = b""
    """Of a `write` and of what was `said`; the body of a `request`."""
    method: str = ""
    """Of a `request`, whose `path` is what was asked for."""
    began: int = 0
    """How many were done when it began: an `fsync` keeps those."""


@dataclass(slots=True)
class _Position:
    """Where the next plain `write` to an open file goes."""

    at: int = 0
    """-1: to its end, whatever is there."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, with what its line says."""

    name: str
    arguments: list[str]
    """Strings in hexadecimal, as strace wrote them, with their quotes."""
    result: str
    process: str
    began: int

    def key(self) -> tuple[str, str]:
        """Return whose descriptor the first argument is, and its number."""
        return self.process, self.arguments[0].partition("<")[0]

    def descriptor(self, index: int = 0) -> bytes | None:
        """Return the path of what a descriptor leads to; None: to no file."""
        found = _DESCRIPTOR.match(self.arguments[index])
        return _bytes(found[1]) if found else None

    def path(self, index: int) -> bytes | None:
        """Return the path that an argument names; None: it names none. A folder given before it is taken up."""
        if not self.arguments[index].startswith('"'):
            return None
        named = _bytes(self.arguments[index].strip('"'))
        above = self.descriptor(index - 1) if index else None
        return named if above is None else os.fsencode(Path(os.fsdecode(above)) / os.fsdecode(named))

    def content(self) -> bytes:
        """Return what was handed over in the second argument, in one piece or in several."""
        pieces = _PIECE.findall(self.arguments[1]) or _STRING.findall(self.arguments[1])
        return b"".join(map(_bytes, pieces))


@dataclass(slots=True)
class Reader:
    """Reads one log. `read` may be called once."""

    folder: Path
    cwd: Path = field(default_factory=Path.cwd)
    ports: Sequence[int] = ()
    ops: list[Op] = field(default_factory=list)
    _main: str = ""
    _marks: str = ""
    """How the folder's name looks in the log."""
    _processes: dict[str, str] = field(default_factory=dict)
    """Each thread's process."""
    _begun: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What each thread has begun, and how much was done then."""
    _positions: dict[tuple[str, str], _Position] = field(default_factory=dict)
    _sent: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> list[Op]:
        """Return all that was done.

        Raises:
            TraceError: a line is not understood, or says what cannot be modelled.
        """
        self._marks = "".join(f"\\x{each:02x}" for each in os.fsencode(self.folder))
        for line in lines:
            found = _LINE.match(line)
            if found is None:
                raise TraceError(f"not a line of strace's: {line[:200]!r}")
            self._line(found[1], found[2])
        return self.ops

    def _line(self, thread: str, text: str) -> None:
        self._main = self._main or thread
        self._process_of(thread)
        if text.startswith(("+++", "---")):
            return
        if text.startswith(_COMMON) and self._marks not in text:
            return  # of a file elsewhere: a run opens thousands before it begins
        began = len(self.ops)
        if text.endswith("<unfinished ...>"):
            text = text.removesuffix("<unfinished ...>").rstrip()
            self._begun[thread] = (text, began)
            if text.startswith(_SENDING):  # the other side may have it, and obey, before this call returns
                self._sends(self._call(thread, f"{text}) = 0", began))
            return
        if resumed := _RESUMED.match(text):
            if thread not in self._begun:
                return  # its beginning was of a file elsewhere
            first, began = self._begun.pop(thread)
            text = first + resumed[1]
            if text.startswith(_SENDING):
                return
        call = self._call(thread, text, began)
        if call.result not in {"-1", "?"}:
            self._do(call)

    def _process_of(self, thread: str) -> str:
        """Return a thread's process; one that speaks before the call that made it has returned is found by that."""
        if thread not in self._processes:
            making = [(each, text) for each, (text, _) in self._begun.items() if text.startswith(_MAKING)]
            maker, text = making[-1] if making else (thread, "")
            self._processes[thread] = self._processes.get(maker, thread) if "CLONE_THREAD" in text else thread
        return self._processes[thread]

    def _call(self, thread: str, text: str, began: int) -> _Call:
        found = _CALL.match(text)
        if found is None:
            raise TraceError(f"not a call: {text[:200]!r}")
        arguments = [next(filter(None, each.groups()), "").strip() for each in _ARGUMENT.finditer(found[2])]
        return _Call(found[1], arguments, found[3], self._process_of(thread), began)

    def _do(self, call: _Call) -> None:
        doing: Mapping[str, Callable[[_Call], None]] = {
            **dict.fromkeys(("clone", "clone3", "fork", "vfork"), self._parts),
            **dict.fromkeys(("open", "openat", "creat"), self._opens),
            **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), self._copies),
            **dict.fromkeys(("sendto", "sendmsg"), self._sends),
            **dict.fromkeys(("write", "writev", "pwrite64"), self._writes),
            **dict.fromkeys(("fsync", "fdatasync"), lambda call: self._add(call, "fsync", call.descriptor())),
            "ftruncate": lambda call: self._add(call, "truncate", call.descriptor(), at=int(call.arguments[1])),
            "close": self._closes,
            "lseek": self._seeks,
            "connect": self._closes,
            "mmap": self._maps,
        }
        doing.get(call.name, self._changes_names)(call)

    def _parts(self, call: _Call) -> None:
        same = "CLONE_THREAD" in " ".join(call.arguments)
        self._processes[call.result] = call.process if same else call.result

    def _closes(self, call: _Call) -> None:
        """Forget what a descriptor was; of one that is connected anew, what was sent before."""
        self._sent.pop(call.key(), None)
        if call.name == "close":
            self._positions.pop(call.key(), None)

    def _seeks(self, call: _Call) -> None:
        if (position := self._positions.get(call.key())) is not None and position.at >= 0:
            position.at = int(call.result)

    def _inside(self, path: bytes | None) -> str | None:
        """Return a path relative to the folder; None: it is not of it, or of memory that only looks like a file."""
        if path is None:
            return None
        full = Path(os.path.normpath(self.cwd / os.fsdecode(path)))
        if not full.is_relative_to(self.folder) or full.name.endswith(_MAPPED):
            return None
        return str(full.relative_to(self.folder))

    def _add(self, call: _Call, kind: Kind, path: bytes | None, **more: Any) -> None:
        inside = self._inside(path)
        if inside is not None:
            self.ops.append(Op(kind=kind, path=inside, began=call.began, **more))

    def _opens(self, call: _Call) -> None:
        first = 1 if call.name == "openat" else 0
        path, flags = call.path(first), call.arguments[first + 1] if call.name != "creat" else "O_CREAT|O_TRUNC"
        self._positions[call.process, call.result] = _Position(-1 if "O_APPEND" in flags else 0)
        if "O_CREAT" in flags:
            self._add(call, "create", path)
        if "O_TRUNC" in flags:
            self._add(call, "truncate", path)

    def _copies(self, call: _Call) -> None:
        if call.name != "fcntl" or "F_DUPFD" in call.arguments[1]:
            self._positions[call.process, call.result] = self._positions.get(call.key(), _Position())

    def _writes(self, call: _Call) -> None:
        path, count = call.descriptor(), int(call.result)
        content = call.content()[:count]
        if call.name == "pwrite64":
            self._add(call, "write", path, at=int(call.arguments[3]), content=content)
            return
        if self._inside(path) is not None:
            position = self._positions.setdefault(call.key(), _Position())
            self._add(call, "write", path, at=position.at, content=content)
            if position.at >= 0:
                position.at += count
        elif call.process == self._main and call.key()[1] == "1":
            self.ops.append(Op(kind="said", content=content, began=call.began))

    def _sends(self, call: _Call) -> None:
        peer = _PEER.search(call.arguments[0])
        if peer is None or int(peer[1]) not in self.ports:
            return
        waiting = self._sent.get(call.key(), b"") + call.content()
        while (head := _REQUEST.match(waiting)) is not None:
            length = _LENGTH.search(head[3])
            end = head.end() + (int(length[1]) if length else 0)
            if len(waiting) < end:
                break
            method, asked, body = head[1].decode(), head[2].decode(), waiting[head.end() : end]
            self.ops.append(Op(kind="request", path=asked, method=method, content=body, began=call.began))
            waiting = waiting[end:]
        self._sent[call.key()] = waiting

    def _maps(self, call: _Call) -> None:
        if "MAP_SHARED" in call.arguments[3] and "PROT_WRITE" in call.arguments[2] and self._inside(call.descriptor(4)):
            raise TraceError(f"{call.descriptor(4)!r} is written through memory: nobody sees when")

    def _changes_names(self, call: _Call) -> None:
        paths = [path for index in range(len(call.arguments)) if (path := call.path(index)) is not None]
        inside = [self._inside(path) for path in paths]
        if inside == [None] * len(inside):
            return
        kind = {"unlinkat": "unlink", "linkat": "link", "mkdirat": "mkdir"}.get(call.name, call.name)
        kind = "rename" if kind.startswith("rename") else kind
        if inside == ["."]:
            return  # the folder itself is there before anything else
        if kind not in {"rename", "link", "unlink", "mkdir"} or None in inside or "AT_REMOVEDIR" in call.arguments:
            raise TraceError(f"{call.name} {paths}: not modelled")
        self.ops.append(Op(kind=kind, path=inside[0] or "", to=(inside[1:] or [""])[0] or "", began=call.began))  # type: ignore[arg-type] # one of four


def _bytes(argument: str) -> bytes:
    return bytes.fromhex(argument.replace("\\x", ""))
