"""What the core raises, sorted by what the caller can do about it.

Go elsewhere or later: `KmsUnavailableError`. Call a person: `KmsDeniedError`. Give up on these bytes: `MessageError`.
Key material is in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailure:
    """One attempt at one region that failed."""

    region: str
    operation: str
    """The KMS operation: `GenerateDataKey`, `Decrypt` or `DescribeKey`."""
    error_code: str
    """KMS's own code, or the core's name for a fault of the connection (`kms_core.taxonomy`)."""
    request_id: str
    """As KMS gave it; empty when no answer came."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.region}: {self.operation} {self.error_code} after {self.seconds * 1000:.0f} ms"


class KmsCoreError(Exception):
    """Everything the core raises knowingly."""

    def __init__(
        self, message: str = "", *, attempts: Sequence[AttemptFailure] = (), decisive: AttemptFailure | None = None
    ) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)
        """The attempts that failed, in order; empty when KMS was not asked."""
        self._decisive = decisive or (self.attempts[-1] if self.attempts else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)  # some have constructors without a text

    @property
    def error_code(self) -> str:
        """The code of the attempt that the call ended for; empty when KMS was not asked.

        The last failed one, but for a denial: there, the last that denied, whatever else failed after it.
        """
        return self._decisive.error_code if self._decisive is not None else ""


def _restored(kind: type[KmsCoreError], args: tuple[Any, ...], members: dict[str, Any]) -> KmsCoreError:
    """Return the error that another process pickled."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(members)
    return error


class KmsUnavailableError(KmsCoreError):
    """Every region that was tried failed for availability: the same call may succeed later."""


class KmsDeniedError(KmsCoreError):
    """A person must act: access, key state, configuration, or credentials."""


class ConfigurationError(KmsCoreError, ValueError):
    """The configuration, or a purpose asked for, cannot be right; nothing that happens later can heal it."""


class ClosedError(KmsCoreError, RuntimeError):
    """The core was closed before the call, or during it."""


class ForkedError(ClosedError):
    """The core was made before the process forked; its threads and connections stayed in the parent."""


class Step(StrEnum):
    """Where a message was refused: for tests and for the operator's own log, never for who sent the message."""

    BASE64 = "base64"
    HEADER = "header"
    SUITE = "suite"
    CONTEXT = "context"
    KEY = "key"
    """No wrapped key in the message belongs to the purpose that was asked for."""
    UNWRAP = "unwrap"
    """KMS refused the wrapped key, or the context that goes with it."""
    DATA_KEY = "data key"
    COMMITMENT = "commitment"
    HEADER_TAG = "header tag"
    FRAME = "frame"
    SIGNATURE = "signature"
    TRAILING = "trailing bytes"


class MessageError(KmsCoreError):
    """The bytes, or the context that goes with them, are bad. The text says no more: detail helps only an attacker."""

    def __init__(
        self,
        message: str = "the message cannot be opened",
        *,
        step: Step = Step.HEADER,
        attempts: Sequence[AttemptFailure] = (),
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.step = step


class ContextError(MessageError, ValueError):
    """The context that the caller itself gave is not usable; the text says why, since it tells nothing of a message."""

    def __init__(self, message: str = "the context is not usable") -> None:
        super().__init__(message, step=Step.CONTEXT)


class TruncatedStreamError(MessageError):
    """A stream ended before its message did: what was released is authentic, and is not the whole. Undo it."""

    def __init__(self) -> None:
        super().__init__("the stream ended before the message did: what was written is not the whole", step=Step.FRAME)


class NotStreamableError(MessageError):
    """A message of this kind may not be released piece by piece: `Core.decrypt` opens it, whole."""

    def __init__(self) -> None:
        super().__init__("this message cannot be opened as a stream: use decrypt", step=Step.SUITE)
