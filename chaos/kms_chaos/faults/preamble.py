"""How many bytes a new TLS connection gets before the first byte of an answer: where to cut inside the answer."""

from __future__ import annotations

import socket
import ssl
from typing import BinaryIO

from kms_chaos.faults.line import Address, Far, RouteError

_SECONDS = 5.0
_RECORD_HEAD = 5
"""Type, version and length of a TLS record (RFC 8446, section 5.1)."""


def bytes_before_answer(address: Address, far: Far) -> int:
    """Return the bytes that `far` sends on a new connection before those that hold its answer.

    Handshake and session tickets: the same for each connection of clients that greet in the same way, but for a few
    bytes of the signature. The server's certificate and name are verified.

    Raises:
        RouteError: it cannot be reached, is somebody else, or does not answer.
    """
    try:
        with socket.create_connection(address, timeout=_SECONDS) as connection, connection.makefile("rb") as stream:
            return _Conversation(connection, stream, far).bytes_before_answer()
    except (OSError, EOFError) as e:
        raise RouteError(f"the way to {far.host} cannot be measured: {e}") from e


class _Conversation:
    """One TLS connection, fed record by record."""

    def __init__(self, connection: socket.socket, stream: BinaryIO, far: Far) -> None:
        self._connection, self._stream, self._host = connection, stream, far.host
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = far.tls().wrap_bio(self._in, self._out, server_hostname=far.host)
        self._before = self._fed = 0

    def bytes_before_answer(self) -> int:
        while not self._try_handshake():
            self._feed()
        self._tls.write(f"GET / HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n".encode("ascii"))
        while not self._has_answer():
            self._feed()
        return self._before

    def _try_handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _has_answer(self) -> bool:
        try:
            return bool(self._tls.read(1))
        except ssl.SSLWantReadError:
            return False

    def _feed(self) -> None:
        """Send what is to be sent, and take in one record more."""
        self._connection.sendall(self._out.read())
        head = self._read(_RECORD_HEAD)
        record = head + self._read(int.from_bytes(head[3:], "big"))
        self._in.write(record)
        self._before, self._fed = self._fed, self._fed + len(record)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("it hung up")
        return data
