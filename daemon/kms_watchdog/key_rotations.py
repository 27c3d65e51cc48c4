"""When keys were rotated, as KMS lists it in the primary region; asked seldom, and remembered."""

from __future__ import annotations

import threading
from typing import Any

import structlog

from kms_core.clock import Clock
from kms_watchdog.aws import AwsError, TruncatedAnswerError, error_code

log = structlog.get_logger("rotations")

ASK_SECONDS = 3600.0
AGAIN_SECONDS = 300.0
"""After a list that could not be read."""
_MOST = 1000  # as many as KMS lists at once


class KeyRotations:
    """Any thread may call any method. What is not known is None, never an empty list."""

    def __init__(self, client: Any, clock: Clock) -> None:
        """`client` is a KMS client of the primary region."""
        self._client, self._clock = client, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, ...]] = {}
        self._due: dict[str, float] = {}

    def known(self, purpose: str) -> tuple[float, ...] | None:
        """Return the Unix times of the rotations of the key of `purpose`, oldest first; None: nobody could ask yet."""
        return self._known.get(purpose)

    def refresh(self, purpose: str, key_id: str) -> None:
        """Ask KMS when the last answer is an hour old; an error leaves what is known, and is asked about again soon."""
        now = self._clock.monotonic()
        with self._lock:
            if now < self._due.get(purpose, now):
                return
            self._due[purpose] = now + AGAIN_SECONDS
        try:
            answer = self._client.list_key_rotations(KeyId=key_id, Limit=_MOST)
            if "Rotations" not in answer:
                raise TruncatedAnswerError
        except AwsError as e:
            log.debug("rotations.unreadable", key=purpose, error_code=error_code(e))
            return
        dates = (one["RotationDate"] for one in answer["Rotations"] if "RotationDate" in one)
        self._known[purpose] = tuple(sorted(date.timestamp() for date in dates))
        self._due[purpose] = now + ASK_SECONDS
