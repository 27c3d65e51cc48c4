"""Whether the running watchdog's health checks answer."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from kms_watchdog.readiness.items import Evidence, State

TIMEOUT_SECONDS = 5.0
WANTED: Mapping[str, frozenset[int]] = {
    "/livez": frozenset({200}),
    "/readyz": frozenset({200}),
    "/health": frozenset({200, 503}),  # 503 is an answer: of what is not well there are alarms
}


def look(url: str | None, now_utc: datetime) -> Iterator[Evidence]:
    """Yield what the watchdog at `url` answers; None: nobody knows where it would be."""
    if url is None:
        seen = "no watchdog runs on this state folder; --url names one that runs elsewhere"
        yield Evidence(what="health checks", seen=seen, at_utc=now_utc, state=State.BAD)
        return
    for path, wanted in WANTED.items():
        code, said = _ask(url, path)
        state = State.UNKNOWN if code is None else State.GOOD if code in wanted else State.BAD
        yield Evidence(what=f"GET {path}", seen=said, at_utc=now_utc, state=state)


def _ask(url: str, path: str) -> tuple[int | None, str]:
    address = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if address.scheme not in kinds or not address.hostname:
        return None, f"{url} is not an http:// or https:// address"
    connection = kinds[address.scheme](address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", address.path.rstrip("/") + path)
        return (code := connection.getresponse().status), f"{code}"
    except (OSError, http.client.HTTPException) as e:
        return None, f"no answer from {url}: {str(e) or type(e).__name__}"
    finally:
        connection.close()
