"""TLS between a socket and HTTP, on OpenSSL's memory buffers.

asyncio's own TLS keeps 256 KiB of buffer a connection, tells nobody of a connection before its handshake is over, and
cannot end one without a last word; here a handshake counts as a connection with a time limit, and an answer can be cut.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from kms_local.wire.protocol import HttpProtocol

_BUFFER_BYTES = 64 * 1024


class ReadBuffer:
    """Where sockets are read into: one for all connections of a loop, for each piece is taken at once."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BUFFER_BYTES))


class TlsChannel(asyncio.BufferedProtocol):
    """The TLS of one connection: to asyncio its protocol, to HTTP its channel."""

    def __init__(self, context: ssl.SSLContext, http: HttpProtocol, buffer: ReadBuffer) -> None:
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._http = http
        self._buffer = buffer.view
        self._shaken = False

    # -- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: from here on the client has its time limit."""
        self._transport = cast("asyncio.Transport", transport)
        self._http.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._http.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next piece goes."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt what has come, and hand it on."""
        if self._transport.is_closing():
            return
        self._incoming.write(self._buffer[:nbytes])
        try:
            self._advance()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:  # no TLS, none that is spoken here, or a client that does not trust us
            self._flush()  # the alert
            self._transport.close()

    def eof_received(self) -> bool:
        """Take the end of the stream, with or without TLS's own word for it."""
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the client does not read."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it does again."""
        self._http.resume_writing()

    # -- a channel ------------------------------------------------------------------------------------------------

    def write(self, data: bytes, /) -> None:
        """Send bytes as a record, or several if they are many."""
        if not self._transport.is_closing():
            self._tls.write(data)
            self._flush()

    def write_eof(self) -> None:
        """Say that nothing more will be sent; what still comes is not looked at."""
        self._take_leave()
        self._transport.write_eof()

    def close(self) -> None:
        """Close when everything has been sent, with TLS's own word for it."""
        self._take_leave()
        self._transport.close()

    def abort(self) -> None:
        """Close now, without a word."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Say whether it is closed or about to be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Leave further bytes where they are."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, /) -> Any:
        """Return what is known about the connection."""
        return self._transport.get_extra_info(name)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if not self._shaken:
            self._tls.do_handshake()
            self._shaken = True
            self._flush()
        while self._incoming.pending or self._tls.pending():
            data = self._tls.read(_BUFFER_BYTES)
            if not data:  # the client's last word
                if not self._http.eof_received():
                    self.close()
                return
            self._http.data_received(data)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _take_leave(self) -> None:
        if self._shaken and not self._transport.is_closing():
            with suppress(ssl.SSLError):  # the client has not taken leave yet, and need not
                self._tls.unwrap()
            self._flush()
