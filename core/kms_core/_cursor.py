"""A position in bytes that were not yet authenticated: it never reads past their end."""

from __future__ import annotations

from kms_core.errors import MessageError, Step


class Cursor:
    """Reads big-endian fields one after the other; what is not there is a `MessageError` at `step`.

    A length is believed only if that many bytes are there, so no length, however large, allocates anything.
    """

    __slots__ = ("_buffer", "_end", "position", "step")

    def __init__(self, buffer: bytes, position: int = 0, *, step: Step) -> None:
        self._buffer = buffer
        self._end = len(buffer)
        self.position = position
        self.step = step

    def skip(self, count: int) -> int:
        """Move past `count` bytes that must be there, and return where they begin."""
        start = self.position
        if count > self._end - start:
            raise MessageError(step=self.step)
        self.position = start + count
        return start

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self.position
        end = start + count  # written out, and not by `skip`: this is called some twenty times a message
        if end > self._end:
            raise MessageError(step=self.step)
        self.position = end
        return self._buffer[start:end]

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as a number."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Return the next eight bytes as a number."""
        return int.from_bytes(self.take(8), "big")

    def text(self) -> str:
        """Return the next string: its length in two bytes, then UTF-8."""
        try:
            return self.take(self.u16()).decode()
        except UnicodeDecodeError:
            raise MessageError(step=self.step) from None  # its text would quote the bytes
