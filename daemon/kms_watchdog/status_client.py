"""Ask a running daemon for its status document, over HTTP, and read it whichever version wrote it."""

from __future__ import annotations

import http.client
import ipaddress
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kms_watchdog import durations
from kms_watchdog.json_text import read_json

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 32 * 1024 * 1024
PATH = "/api/v1/status"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_OK = 200


class NoAnswerError(RuntimeError):
    """Nobody answers, or not with a status document; the message is one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing and how it is, in words."""

    cells: tuple[str, ...]
    good: bool
    because: str = ""
    """The region that is down and explains it; empty: nothing else explains it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is shown of a status document."""

    status: str
    """`healthy`, `degraded`, `unhealthy`, or what a newer daemon says."""
    headline: str
    reasons: tuple[str, ...]
    regions: tuple[Row, ...]
    """Region, health, breaker, p50, p99."""
    keys: tuple[Row, ...]
    """Purpose, alias, whether it is usable."""
    troubles: tuple[Row, ...]
    """Canaries that are not up: how each is, id, since, failures in a row, why, detail."""
    canaries: int
    drills: tuple[str, ...]
    """Those that run now."""

    @property
    def healthy(self) -> bool:
        """Whether all is well."""
        return self.status == "healthy"


def fetch(url: str, token: str | None) -> dict[str, Any]:
    """Return the document of the daemon at `url`. The token goes out over TLS or to this machine alone.

    Raises:
        NoAnswerError: there is none.
    """
    address = urlsplit(url)
    host = address.hostname or ""
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if address.scheme not in kinds or not host:
        raise NoAnswerError(f"{url}: not an http:// or https:// address")
    headers = {"Authorization": f"Bearer {token}"} if token and may_carry_token(url) else {}
    connection = kinds[address.scheme](host, address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", address.path.rstrip("/") + PATH, headers=headers)
        with connection.getresponse() as response:
            body = response.read(MAX_BYTES)
    except (OSError, http.client.HTTPException) as e:
        raise NoAnswerError(f"no answer from {url}: {str(e) or type(e).__name__}") from e
    finally:
        connection.close()
    if response.status != _OK:
        raise NoAnswerError(f"{url} answers {response.status} {response.reason}")
    try:
        document = read_json(body)
        view(document)
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        raise NoAnswerError(f"{url} answers, but not with a status document") from e
    return dict(document)


def may_carry_token(url: str) -> bool:
    """Return whether what is sent to `url` cannot be read on a network."""
    address = urlsplit(url)
    return address.scheme == "https" or address.hostname in _LOOPBACK


def running_url(http_json: Path) -> str | None:
    """Return where the daemon of this state folder answers; None: none runs.

    It answers on an address of this machine. A file that leads elsewhere is not the daemon's, and is not believed:
    whoever reads it would send a request, and over TLS the token, to whoever wrote it.
    """
    try:
        url = str(read_json(http_json.read_text(encoding="utf-8"))["url"])
        address = urlsplit(url)
        ours = address.scheme == "http" and address.port and is_of_this_machine(address.hostname or "")
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return url if ours else None


def is_of_this_machine(host: str) -> bool:
    """Return whether `host`, an IP address in digits, is one of this machine's own. Sends nothing."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IP's own number
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.bind((host, 0))  # the kernel lends nobody else's address
        except OSError:
            return False
    return not address.is_multicast


def view(document: Mapping[str, Any]) -> View:
    """Return what is shown of a status document, of any schema so far. Pure.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    now_utc = _time(document["now_utc"])
    canaries = _list(document, "canaries")
    since = _ago(document.get("since_utc"), now_utc)
    told = [str(document["status"]), f"for {since}" if since else ""]
    told += [f"({document.get('estate', '')}, version {document.get('version', '')})"]
    return View(
        status=str(document["status"]),
        headline=" ".join(part for part in told if part),
        reasons=tuple(dict.fromkeys(_reason(reason) for reason in _list(document, "reasons"))),
        regions=tuple(_region(region) for region in _list(document, "regions")),
        keys=tuple(
            Row(
                (str(key.get("purpose", "")), str(key.get("alias", "")), _usable(key)),
                key.get("usable", False) is not False,
            )
            for key in _list(document, "keys")
        ),
        troubles=tuple(_trouble(canary, now_utc) for canary in canaries if _troubled(canary)),
        canaries=len(canaries),
        drills=tuple(_drills(document)),
    )


def _list(document: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _reason(reason: Mapping[str, Any]) -> str:
    parts = (reason.get(name) for name in ("code", "canary", "region", "key"))
    return ":".join(str(part) for part in parts if part)


def _region(region: Mapping[str, Any]) -> Row:
    healthy, breaker = bool(region.get("healthy")), str(region.get("breaker", ""))
    elsewhere = region.get("watched") is False  # other places look at it, and this one cannot tell
    said = "healthy" if healthy else "looked at elsewhere" if elsewhere else "down"
    cells = (str(region.get("region", "")), said, f"breaker {breaker}")
    times = (f"{name} {_milliseconds(region.get(f'{name}_seconds'))}" for name in ("p50", "p99"))
    return Row((*cells, *times), (healthy or elsewhere) and breaker == "closed")


def _usable(key: Mapping[str, Any]) -> str:
    if key.get("usable"):
        return "usable"
    return "not usable where this place looks" if key.get("watched") is False else "usable nowhere"


def _troubled(canary: Mapping[str, Any]) -> bool:
    return canary.get("state") != "up" or (canary.get("last") or {}).get("outcome") not in {None, "OK"}


def _trouble(canary: Mapping[str, Any], now_utc: datetime) -> Row:
    last = canary.get("last") or {}
    name = ":".join(str(canary[part]) for part in ("canary", "region", "key") if canary.get(part))
    in_a_row = canary.get("failures_in_a_row") or 0
    return Row(
        (
            str(canary.get("shown") or canary.get("state", "")),
            name,
            _ago(canary.get("not_ok_since_utc") or canary.get("since_utc"), now_utc),
            f"{in_a_row} in a row" if in_a_row else "",
            " ".join(str(last[part]) for part in ("outcome", "reason", "error_code", "request_id") if last.get(part)),
            str(last.get("detail") or ""),
        ),
        good=False,
        because=str(canary.get("because") or ""),
    )


def _drills(document: Mapping[str, Any]) -> Iterator[str]:
    for drill in _list(document, "drills"):
        if drill.get("active"):
            yield " ".join(str(drill[part]) for part in ("drill", "region", "phase", "run_id") if drill.get(part))
        elif drill.get("killed"):
            words = " ".join(str(drill[part]) for part in ("drill", "region", "run_id") if drill.get(part))
            yield f"{words}: killed, not yet undone"


def _milliseconds(seconds: object) -> str:
    return f"{seconds * 1000:.1f}ms" if isinstance(seconds, int | float) else "n/a"


def _time(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def _ago(text: object, now_utc: datetime) -> str:
    return durations.spoken(now_utc - _time(text)) if text else ""
