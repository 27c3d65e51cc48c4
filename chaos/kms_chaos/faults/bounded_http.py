"""What toxiproxy-python speaks HTTP through: bounded in time, and strict about every status."""

from __future__ import annotations

from typing import Any

import requests

CONNECT_SECONDS = 0.5
READ_SECONDS = 2.0

_SWALLOWED = frozenset({403, 405})  # besides 5xx: the library raises on 400, 404 and 409 only


class ToxiproxyError(RuntimeError):
    """Toxiproxy refused, or did what nobody asked for; the message names the server and the call."""


class ToxiproxyUnreachableError(ToxiproxyError):
    """Nobody answers at Toxiproxy's address in time. Its state is in memory only: a dead server has no faults."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused
        """Whether the connection was refused: then there is no server; else one may be there and hang."""


class BoundedHttp:
    """The part of `requests` that the library uses, bounded in time and strict about status codes."""

    def __init__(self) -> None:
        self._http = requests.Session()
        self._http.trust_env = False  # HTTP_PROXY and .netrc are not for an admin port on loopback

    def get(self, url: str, **options: Any) -> requests.Response:
        """Ask, as `requests.get` does.

        Raises:
            ToxiproxyUnreachableError: no answer in time.
            ToxiproxyError: an answer that the library would let pass for success.
        """
        return self._send("GET", url, options)

    def post(self, url: str, **options: Any) -> requests.Response:
        """Send, as `requests.post` does; raises as `get`."""
        return self._send("POST", url, options)

    def delete(self, url: str, **options: Any) -> requests.Response:
        """Delete, as `requests.delete` does; raises as `get`."""
        return self._send("DELETE", url, options)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _send(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        call = f"{method} {url}"
        try:
            reply = self._http.request(
                method, url, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False, **options
            )
        except requests.ConnectionError as e:
            raise ToxiproxyUnreachableError(_unreachable(call, e), refused=_is_refusal(e)) from e
        except requests.Timeout as e:
            raise ToxiproxyUnreachableError(f"{call}: no answer in {READ_SECONDS:g} s", refused=False) from e
        except requests.RequestException as e:
            raise ToxiproxyError(f"{call}: {type(e).__name__}") from e
        if reply.status_code >= 500 or reply.status_code in _SWALLOWED:  # noqa: PLR2004 - HTTP's own number
            raise ToxiproxyError(f"{call}: HTTP {reply.status_code}: {first_words(reply.content)}")
        return reply


def _unreachable(call: str, error: requests.ConnectionError) -> str:
    if _is_refusal(error):
        return f"{call}: connection refused"
    return f"{call}: no connection in {CONNECT_SECONDS:g} s"


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a chain of causes, urllib3's and requests' wrappers included, ends in a refused connection."""
    for _ in range(10):
        if error is None or isinstance(error, ConnectionRefusedError):
            return error is not None
        reason = getattr(error, "reason", None)
        inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = reason if isinstance(reason, BaseException) else inner or error.__cause__ or error.__context__
    return False


def first_words(content: bytes) -> str:
    """Return the beginning of an answer as one line of text."""
    return " ".join(content[:200].decode("utf-8", "replace").split())
