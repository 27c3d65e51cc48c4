"""Who may see errors in detail and run canaries: whoever shows the token, by header or, in a browser, by a session.

The token is compared in constant time, never logged, and read from its file each time, so that it can be changed
without a restart. Guesses are limited by address: an address that guessed wrong too often is not listened to for a
while, though sessions it already has go on.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import structlog

from kms_core import ConfigurationError
from kms_core.clock import Clock
from kms_watchdog.config import TOKEN, TOKEN_IS, Http

log = structlog.get_logger("http")

SESSION_SECONDS = 12 * 3600.0
"""A night on call."""
MAX_SESSIONS = 64
WRONG_GUESSES = 10
GUESSES_SECONDS = 60.0
MAX_ADDRESSES = 1024
"""Whose wrong guesses are remembered; the address longest quiet is forgotten first."""

Token = Callable[[], str | None]


class Answer(Enum):
    """What came of showing a token."""

    RIGHT = auto()
    WRONG = auto()
    TOO_OFTEN = auto()


def token_of(settings: Http) -> Token | None:
    """Return what gives the configured token, None if none is configured.

    A file that has become unreadable or unfit gives None: nobody is let in.

    Raises:
        kms_core.errors.ConfigurationError: the file cannot be read now, or holds no token.
    """
    if settings.token is not None:
        return settings.token.get_secret_value
    if settings.token_file is None:
        return None
    file = TokenFile(settings.token_file)
    if problem := file.problem():
        raise ConfigurationError(f"http.token_file: {problem}")
    return file


def access_of(settings: Http, clock: Clock) -> Access:
    """Return who may see detail, as configured; raises as `token_of`."""
    return Access(token_of(settings), clock, entropy=os.urandom, over_plain_http=settings.token_over_plain_http)


class TokenFile:
    """A token in a file of its own, as secret stores mount it; white space around it does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = False

    def __call__(self) -> str | None:
        """Return the token that is in the file now; None and a line in the log if there is none."""
        problem = self.problem()
        if problem and not self._told:
            log.error("http.token_file_unfit", problem=problem)
        self._told = bool(problem)
        return None if problem else self._read()

    def problem(self) -> str:
        """Return what is wrong with the file in one line without its content; empty if nothing is."""
        try:
            found = self._read()
        except (OSError, UnicodeDecodeError) as e:
            return f"{self._path} cannot be read: {type(e).__name__}"
        return "" if re.fullmatch(TOKEN, found) else f"{self._path} should hold {TOKEN_IS}"

    def _read(self) -> str:
        return self._path.read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True)
class _Session:
    token_digest: bytes
    ends_at: float


class Access:
    """Checks tokens and sessions; any thread may call any method."""

    def __init__(
        self, token: Token | None, clock: Clock, *, entropy: Callable[[int], bytes], over_plain_http: bool = False
    ) -> None:
        """`entropy` gives that many bytes that nobody can guess."""
        self.over_plain_http = over_plain_http
        """Whether tokens and sessions count that came from another machine without TLS."""
        self._token, self._clock, self._entropy = token, clock, entropy
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def configured(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def check(self, shown: str, address: str) -> Answer:
        """Return what somebody at `address` who shows this token is to be told."""
        now = self._clock.monotonic()
        with self._lock:
            if self._too_often(address, now):
                return Answer.TOO_OFTEN
        right = self._digest()
        if right is not None and hmac.compare_digest(_digest(shown), right):
            return Answer.RIGHT
        with self._lock:
            self._count(address, now)
        log.warning("http.wrong_token", address=address)
        return Answer.WRONG

    def begin_session(self) -> str:
        """Return the secret of a new session; call after the right token was shown."""
        secret = self._entropy(32).hex()
        digest = self._digest()
        with self._lock:
            if digest is not None:
                ends_at = self._clock.monotonic() + SESSION_SECONDS
                self._sessions[_digest(secret)] = _Session(digest, ends_at)
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return secret

    def has_session(self, secret: str) -> bool:
        """Return whether `secret` is of a session that has not ended, and was begun under the token of today."""
        now = self._clock.monotonic()
        with self._lock:
            session = self._sessions.get(_digest(secret))
        if session is None or now >= session.ends_at:
            return False
        token = self._digest()
        return token is not None and hmac.compare_digest(session.token_digest, token)

    def end_session(self, secret: str) -> None:
        """Forget a session."""
        with self._lock:
            self._sessions.pop(_digest(secret), None)

    def _digest(self) -> bytes | None:
        token = self._token() if self._token else None
        return None if token is None else _digest(token)

    def _too_often(self, address: str, now: float) -> bool:
        guesses = self._wrong.get(address)
        while guesses and now - guesses[0] >= GUESSES_SECONDS:
            guesses.popleft()
        return guesses is not None and len(guesses) >= WRONG_GUESSES

    def _count(self, address: str, now: float) -> None:
        self._wrong.setdefault(address, deque(maxlen=WRONG_GUESSES)).append(now)
        self._wrong.move_to_end(address)
        while len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def _digest(secret: str) -> bytes:
    """Return what is compared and kept instead of `secret`: of one length, and nothing that lets anybody in."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
