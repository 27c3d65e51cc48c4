"""`requests.ndjson`: one line a KMS request, for whoever wants to compare what was asked with what was claimed.

A line holds region, operation, key id, a fingerprint of the encryption context, result, peer port, request id and
time; never plaintext, ciphertext, context or credentials.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from kms_local.clock import iso_utc
from kms_local.kms.ciphertext import context_digest

_MAX_BYTES = 64 * 1024 * 1024  # then the file becomes `requests.ndjson.1`: a soak of days may not fill a disk
_encode = json.JSONEncoder(check_circular=False).encode


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request, as far as it is known."""

    region: str
    request_id: str
    peer_port: int
    operation: str = ""
    key_id: str = ""
    context_sha256: str = ""
    result: str = ""
    at_utc: str = ""

    def describe(self, members: dict[str, Any]) -> None:
        """Take from the request what may be logged."""
        key_id, context = members.get("KeyId"), members.get("EncryptionContext")
        self.key_id = key_id if isinstance(key_id, str) else ""
        if isinstance(context, dict) and all(isinstance(value, str) for value in context.values()):
            self.context_sha256 = context_digest(context)

    def describe_answer(self, members: dict[str, Any]) -> None:
        """Prefer the key's ARN, which most answers carry, over what the request called it."""
        self.key_id = str(members.get("KeyId", self.key_id))

    def ended(self, result: str, now: float) -> Entry:
        """Return the entry with its end: `ok` or an error code, and when."""
        self.result, self.at_utc = result, iso_utc(now)
        return self


class RequestLog:
    """Appends entries to a file, a line each, written before the request is answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None  # opened at the first request: a server that cannot start leaves no file
        self._size = 0

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        line = _encode({name: getattr(entry, name) for name in Entry.__slots__}).encode() + b"\n"
        file = self._file or self._open()
        file.write(line)  # unbuffered: one system call
        self._size += len(line)
        if self._size > _MAX_BYTES:
            self._roll()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()
        return self._file

    def _roll(self) -> None:
        self.close()
        self._path.replace(self._path.with_suffix(".ndjson.1"))
