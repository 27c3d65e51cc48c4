"""Streams and files: bounded memory, no frame before it is authentic, and no silence about an early end."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import pytest

from kms_core import (
    ContextError,
    Core,
    KmsUnavailableError,
    MessageError,
    NotStreamableError,
    TruncatedStreamError,
)
from kms_core.errors import Step
from kms_core.message import encrypted_data_keys, parse_header
from kms_core.suites import WRITTEN, derive_keys
from kms_core.testing import FakeEstate, encode

CONTEXT = {"file": "manifest"}
FRAME = 64


class Trickle(io.RawIOBase):
    """A source that gives at most `most` bytes at a time."""

    def __init__(self, whole: bytes, most: int) -> None:
        self._rest = io.BytesIO(whole)
        self._most = most

    def read(self, size: int = -1, /) -> bytes:
        return self._rest.read(min(size, self._most))


class Narrow:
    """A sink that takes at most three bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, piece: bytes | memoryview, /) -> int:
        self.taken += bytes(piece[:3])
        return len(piece[:3])


class Endless:
    """A source of `size` zero bytes that holds none of them."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int, /) -> bytes:
        given = min(size, self._left)
        self._left -= given
        return bytes(given)


class Counter:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, piece: bytes | memoryview, /) -> None:
        self.length += len(piece)


def sealed(core: Core, plaintext: bytes, frame_length: int = FRAME) -> bytes:
    sink = io.BytesIO()
    core.encrypt_stream(io.BytesIO(plaintext), sink, purpose="general", context=CONTEXT, frame_length=frame_length)
    return sink.getvalue()


def opened(core: Core, message: bytes) -> bytes:
    sink = io.BytesIO()
    core.decrypt_stream(io.BytesIO(message), sink, purpose="general", context=CONTEXT)
    return sink.getvalue()


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 1000])
def test_a_stream_is_the_same_message_as_any_other(core: Core, size: int) -> None:
    """What `encrypt_stream` writes `decrypt` opens, and what `encrypt` returns `decrypt_stream` does."""
    plaintext = bytes(index % 251 for index in range(size))
    message = sealed(core, plaintext)

    assert core.decrypt(message, purpose="general", context=CONTEXT) == plaintext
    assert opened(core, message) == plaintext
    assert opened(core, core.encrypt(plaintext, purpose="general", context=CONTEXT)) == plaintext
    assert parse_header(message).frame_length == FRAME


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_short_reads_and_short_writes_are_taken(core: Core, most: int) -> None:
    """Pipes and sockets give and take what they like."""
    message, plaintext = Narrow(), Narrow()

    core.encrypt_stream(Trickle(b"abc" * 100, most), message, purpose="general", context=CONTEXT, frame_length=FRAME)
    length = core.decrypt_stream(Trickle(message.taken, most), plaintext, purpose="general", context=CONTEXT)

    assert (plaintext.taken, length) == (b"abc" * 100, 300)


def test_every_early_end_is_loud_and_releases_whole_authentic_frames_only(core: Core) -> None:
    """At whatever byte a stream ends: TruncatedStreamError, and a prefix of the plaintext in whole frames."""
    plaintext = bytes(range(200))
    message = sealed(core, plaintext)

    for length in range(len(message)):
        sink = io.BytesIO()
        with pytest.raises(TruncatedStreamError):
            core.decrypt_stream(io.BytesIO(message[:length]), sink, purpose="general", context=CONTEXT)
        released = sink.getvalue()
        assert plaintext.startswith(released)
        assert len(released) % FRAME == 0
        assert len(released) < len(plaintext)


def test_no_flipped_bit_is_ever_released(core: Core) -> None:
    """A stream with a flip anywhere raises, and what was written before is the true beginning."""
    plaintext = bytes(range(200))
    message = sealed(core, plaintext)

    for position in range(len(message)):
        flipped = bytearray(message)
        flipped[position] ^= 1 << position % 8
        sink = io.BytesIO()
        with pytest.raises(MessageError):
            core.decrypt_stream(io.BytesIO(flipped), sink, purpose="general", context=CONTEXT)
        assert plaintext.startswith(sink.getvalue())
        assert len(sink.getvalue()) < len(plaintext)


def test_bytes_after_the_message_are_refused_before_its_end_is_released(core: Core) -> None:
    """The final frame is held back until the source has ended."""
    sink = io.BytesIO()

    with pytest.raises(MessageError) as refused:
        core.decrypt_stream(io.BytesIO(sealed(core, bytes(100)) + b"x"), sink, purpose="general", context=CONTEXT)

    assert refused.value.step is Step.TRAILING
    assert sink.getvalue() == bytes(FRAME)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"\x02\x05\x78", id="signed"),
        pytest.param(b"\x01\x80\x03\x78", id="version 1, signed"),
        pytest.param(b"\x01\x80\x01\x78", id="version 1"),
    ],
)
def test_what_must_be_opened_whole_says_so(core: Core, estate: FakeEstate, start: bytes) -> None:
    """A signature stands at the end, so nothing before it may be released."""
    with pytest.raises(NotStreamableError, match="use decrypt"):
        opened(core, start + bytes(500))
    assert not estate.calls


def unframed(estate: FakeEstate) -> bytes:
    """Return the header of a message that is authentic, of our suite, and not framed."""
    arn = estate.arn(estate["us-east-1"].aliases["alias/general"], "us-east-1")
    made = estate["us-east-1"].generate_data_key(arn, CONTEXT)
    framed = encode(
        b"", made.plaintext, encrypted_data_keys(_with_key(arn, made.wrapped)), CONTEXT, message_id=bytes(32)
    )
    header = parse_header(framed)
    body = header.body[:-37] + b"\x01" + bytes(4) + header.body[-32:]
    return resealed(body, made.plaintext)


def _with_key(arn: str, wrapped: bytes) -> bytes:
    from kms_core.message import EncryptedDataKey  # noqa: PLC0415 - used here alone

    key = EncryptedDataKey(provider_id="aws-kms", provider_info=arn.encode(), ciphertext=wrapped)
    return encode(b"", bytes(32), [key], CONTEXT, message_id=bytes(32))


def resealed(body: bytes, data_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - used here alone

    key, _ = derive_keys(WRITTEN, data_key, bytes(32))
    return body + AESGCM(key).encrypt(bytes(12), b"", body)


def test_a_single_block_is_not_streamed(core: Core, estate: FakeEstate) -> None:
    """Its one tag stands at its end, however long it is."""
    with pytest.raises(NotStreamableError):
        opened(core, unframed(estate) + bytes(100))


@pytest.mark.parametrize("junk", [b"\x03\x04\x78\x00", b"hello world", b"\x02\xff\xff\xff"])
def test_what_is_no_message_is_refused(core: Core, junk: bytes) -> None:
    """As by `decrypt`."""
    with pytest.raises(MessageError):
        opened(core, junk)


def test_base64_is_named_as_such(core: Core) -> None:
    """As by `decrypt`."""
    with pytest.raises(MessageError, match="base64"):
        opened(core, b"AgR4AAAA")


def test_another_context_or_purpose_is_refused_before_kms_is_asked(core: Core, estate: FakeEstate) -> None:
    """A stream is no way around the rules."""
    message = sealed(core, b"x")
    estate.calls.clear()

    with pytest.raises(MessageError) as wrong_context:
        core.decrypt_stream(io.BytesIO(message), io.BytesIO(), purpose="general", context={"file": "other"})
    with pytest.raises(MessageError) as wrong_purpose:
        core.decrypt_stream(io.BytesIO(message), io.BytesIO(), purpose="payment", context=CONTEXT)
    with pytest.raises(ContextError):
        core.decrypt_stream(io.BytesIO(message), io.BytesIO(), purpose="general", context={})

    assert (wrong_context.value.step, wrong_purpose.value.step) == (Step.CONTEXT, Step.KEY)
    assert not estate.calls


def test_memory_is_bounded_by_the_frame_and_not_by_the_stream(core: Core) -> None:
    """32 MiB pass in both directions in less than 1 MiB."""
    message, plaintext, size = io.BytesIO(), Counter(), 2**25
    core.encrypt_stream(Endless(size), message, purpose="general", context=CONTEXT)
    message.seek(0)
    counted = Counter()

    tracemalloc.start()
    try:
        core.decrypt_stream(message, plaintext, purpose="general", context=CONTEXT)
        core.encrypt_stream(Endless(size), counted, purpose="general", context=CONTEXT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert plaintext.length == size
    assert counted.length == len(message.getvalue())
    assert peak < 2**20


@pytest.mark.parametrize("frame_length", [0, -1, 2**24 + 1])
def test_a_frame_that_cannot_be_is_refused(core: Core, frame_length: int) -> None:
    """Each frame is held in memory, here and by whoever reads it."""
    with pytest.raises(ValueError, match="frame_length must be"):
        sealed(core, b"x", frame_length)


def test_a_source_of_text_or_of_nothing_yet_is_refused(core: Core) -> None:
    """Files opened in text mode, and sockets that do not wait, are mistakes that should not look like an end."""
    with pytest.raises(TypeError, match="binary mode"):
        core.encrypt_stream(io.StringIO("x"), io.BytesIO(), purpose="general", context=CONTEXT)  # type: ignore[arg-type]

    class Nothing:
        def read(self, size: int, /) -> bytes | None:
            return None

        def write(self, piece: bytes | memoryview, /) -> int:
            return 0

    with pytest.raises(BlockingIOError, match="source"):
        core.encrypt_stream(Nothing(), io.BytesIO(), purpose="general", context=CONTEXT)
    with pytest.raises(BlockingIOError, match="sink"):
        core.encrypt_stream(io.BytesIO(b"x"), Nothing(), purpose="general", context=CONTEXT)


def test_files_go_there_and_back(core: Core, tmp_path: Path) -> None:
    """And what remains is exactly the three files."""
    plain, message, back = tmp_path / "plain", tmp_path / "message", tmp_path / "back"
    plain.write_bytes(b"manifest" * 20_000)

    written = core.encrypt_file(plain, message, purpose="general", context=CONTEXT)
    read = core.decrypt_file(str(message), str(back), purpose="general", context=CONTEXT)

    assert back.read_bytes() == plain.read_bytes()
    assert written == read == 160_000
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "message", "back"}
    assert back.stat().st_mode & 0o777 == 0o600


def test_the_source_may_be_deleted_once_a_file_is_sealed(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content first, then the name: a crash after that loses neither."""
    (plain := tmp_path / "plain").write_bytes(b"x")
    synced: list[tuple[str, bool]] = []
    really = os.fsync

    def note(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), (tmp_path / "message").exists()))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    core.encrypt_file(plain, tmp_path / "message", purpose="general", context=CONTEXT)

    (part, early), folder = synced
    assert (Path(part).suffix, early) == (".part", False)
    assert folder == (str(tmp_path), True)


@pytest.mark.parametrize(
    "damage", [pytest.param(lambda m: m[:-1], id="cut"), pytest.param(lambda m: m + b"x", id="more")]
)
def test_a_file_that_does_not_verify_leaves_nothing_and_replaces_nothing(
    core: Core, tmp_path: Path, damage: object
) -> None:
    """The target keeps what it held; no part of the plaintext stays on the disk."""
    message, target = tmp_path / "message", tmp_path / "target"
    target.write_bytes(b"before")
    message.write_bytes(damage(sealed(core, bytes(1000))))  # type: ignore[operator]

    with pytest.raises(MessageError):
        core.decrypt_file(message, target, purpose="general", context=CONTEXT)

    assert target.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"message", "target"}


def test_a_file_that_cannot_be_sealed_leaves_nothing(core: Core, estate: FakeEstate, tmp_path: Path) -> None:
    """No half message under the target's name."""
    (tmp_path / "plain").write_bytes(b"x")
    estate.fail("ConnectionRefused")

    with pytest.raises(KmsUnavailableError):
        core.encrypt_file(tmp_path / "plain", tmp_path / "message", purpose="general", context=CONTEXT)

    assert {path.name for path in tmp_path.iterdir()} == {"plain"}
