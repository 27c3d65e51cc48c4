"""The part of `Core` for much at once: streams, files, and many messages in one call."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from kms_core import _batches, _stream
from kms_core._seal import check_frame_length, reframed
from kms_core._stream import Sink, Source
from kms_core.batch import Opened, Refused, Sealed, ToOpen, ToSeal
from kms_core.context import checked
from kms_core.suites import WRITTEN

if TYPE_CHECKING:
    from kms_core._envelope import Envelope
    from kms_core.config import CoreConfig


class Bulk:
    """What `Core` does with much at once; not to be used by itself."""

    _config: CoreConfig
    _envelope: Envelope

    if TYPE_CHECKING:
        _refuse_if_closed: Callable[[], None]

        def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
            """See `Core.encrypt`."""
            ...

        def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
            """See `Core.decrypt`."""
            ...

    def encrypt_many(self, items: Iterable[ToSeal]) -> list[Sealed | Refused]:
        """Do as `encrypt` for each item; return what came of each, in their order.

        One GenerateDataKey for a purpose and context, and another where `max_encryptions_per_key` is reached. What
        KMS refused for one item is not asked again for others like it.

        Raises:
            ClosedError: the core is closed. Nothing else: a bad item is `Refused`.
        """
        self._refuse_if_closed()
        batch = list(items)
        groups = [_batches.sealing_group(item) for item in batch]
        results = _batches.Batch().results(batch, groups, self._sealed)
        return cast("list[Sealed | Refused]", results)

    def decrypt_many(self, items: Iterable[ToOpen]) -> list[Opened | Refused]:
        """Do as `decrypt` for each item; return what came of each, in their order.

        One Decrypt for a wrapped key, however many messages it is in.

        Raises:
            ClosedError: the core is closed. Nothing else: a bad item is `Refused`.
        """
        self._refuse_if_closed()
        batch = list(items)
        groups = [_batches.opening_group(item, self._config.max_encrypted_data_keys) for item in batch]
        results = _batches.Batch().results(batch, groups, self._opened)
        return cast("list[Opened | Refused]", results)

    def encrypt_stream(
        self, source: Source, sink: Sink, *, purpose: str, context: Mapping[str, str], frame_length: int = 65_536
    ) -> int:
        """Read `source` to its end and write the message that holds it to `sink`; return the plaintext's length.

        Holds two frames in memory. Has a data key of its own, since its length is not known before. What was written
        when this raises is no message; `encrypt_file` removes it.

        Raises:
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            ValueError: `frame_length` is not 1 to 16 MiB, or `source` gave more than it was asked for.
            KmsUnavailableError, KmsDeniedError: there is no data key to be had. What `source` and `sink` raise.
        """
        self._refuse_if_closed()
        check_frame_length(frame_length)
        reader, writer = _stream.Reader(source), _stream.Writer(sink)
        key = reframed(self._envelope.fresh_sealing_key(purpose, context), frame_length)
        return _stream.seal_stream(reader, writer, key, message_id=os.urandom(WRITTEN.message_id_bytes))

    def decrypt_stream(self, source: Source, sink: Sink, *, purpose: str, context: Mapping[str, str]) -> int:
        """Read a message from `source`, which must end with it, and write its plaintext to `sink`; return its length.

        Holds one frame in memory. Every frame is authenticated before it is written, yet **what was written is only
        the whole, once this returned**: when it raises, undo what the frames caused, as `decrypt_file` does.

        Raises:
            TruncatedStreamError: the message ends too early.
            NotStreamableError: signed, not framed, or of format version 1: `decrypt` opens these, whole.
            MessageError: it is not of `purpose` or `context`, or no message, or somebody changed it.
            ContextError, ConfigurationError: the context or the purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: no region could open its data key. What `source` and `sink` raise.
        """
        self._refuse_if_closed()
        wanted = checked(context)
        reader, writer = _stream.Reader(source), _stream.Writer(sink)
        raw = _stream.read_header(reader, max_encrypted_data_keys=self._config.max_encrypted_data_keys)
        header = self._envelope.expected_header(raw, wanted)
        return _stream.open_stream(reader, writer, header, self._envelope.data_key(header, purpose))

    def encrypt_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        purpose: str,
        context: Mapping[str, str],
        frame_length: int = 65_536,
    ) -> int:
        """Do as `encrypt_stream`, from file to file; `target` appears, or is replaced, only when it is whole.

        Content and name are on disk when this returns, so that `source` may be deleted. Its mode is 0600. A symbolic
        link in its place is itself replaced.

        Raises:
            As `encrypt_stream`, and OSError: a file cannot be used; `target` is a directory, a pipe or a device.
        """
        with Path(source).open("rb") as plaintext, _appearing(Path(target)) as message:
            return self.encrypt_stream(plaintext, message, purpose=purpose, context=context, frame_length=frame_length)

    def decrypt_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        purpose: str,
        context: Mapping[str, str],
    ) -> int:
        """Do as `decrypt_stream`, from file to file; `target` appears, or is replaced, only when all is authentic.

        Until then the plaintext is in a file beside it that only its owner may read, and that is removed on failure.
        The mode of `target` is 0600. A symbolic link in its place is itself replaced.

        Raises:
            As `decrypt_stream`, and OSError: a file cannot be used; `target` is a directory, a pipe or a device.
        """
        with Path(source).open("rb") as message, _appearing(Path(target)) as plaintext:
            return self.decrypt_stream(message, plaintext, purpose=purpose, context=context)

    def _sealed(self, item: ToSeal) -> Sealed:
        if not isinstance(item, ToSeal):
            raise TypeError(f"encrypt_many takes ToSeal, not {type(item).__name__}")
        return Sealed(self.encrypt(item.plaintext, purpose=item.purpose, context=item.context))

    def _opened(self, item: ToOpen) -> Opened:
        if not isinstance(item, ToOpen):
            raise TypeError(f"decrypt_many takes ToOpen, not {type(item).__name__}")
        return Opened(self.decrypt(item.message, purpose=item.purpose, context=item.context))


@contextlib.contextmanager
def _synced(folder: Path) -> Iterator[None]:
    """Have the names in `folder` on disk after the block: who deletes the source next could else lose both to a crash.

    A folder that cannot be synced is refused before the block.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[IO[bytes]]:
    """Yield a file beside `target` that takes its name at the end, and is removed on failure. Mode 0600."""
    if target.exists() and not target.is_file():  # a name taken from a pipe or a device is not given back
        raise FileExistsError(errno.EEXIST, "is there, and is no regular file", str(target))
    with _synced(target.parent):
        descriptor, name = tempfile.mkstemp(prefix=".kms-core-", suffix=".part", dir=target.parent)
        part = Path(name)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor, which a Path cannot open
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
