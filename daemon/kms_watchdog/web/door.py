"""Who asks, and whether they may: strangers, those who show the token, and a browser in which somebody signed in."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kms_watchdog.web.access import GUESSES_SECONDS, Access, Answer

COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with `no-referrer` a browser says `Origin: null` of our own forms
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LATER = {"Retry-After": f"{GUESSES_SECONDS:.0f}"}
IN_THE_CLEAR = "over plain HTTP a token can be read on its way here: come over TLS, or set [http] token_over_plain_http"
BEARER = {"WWW-Authenticate": 'Bearer realm="kms-watchdog"'}


class Visitor(Enum):
    """Who asks."""

    STRANGER = auto()
    WRONG = auto()
    """Showed a token that is none."""
    TOO_OFTEN = auto()
    IN_THE_CLEAR = auto()
    """Showed a token or a session where others can read it on the way: it is not looked at."""
    BEARER = auto()
    SESSION = auto()

    @property
    def known(self) -> bool:
        """Whether detail may be told."""
        return self in {Visitor.BEARER, Visitor.SESSION}


class Door:
    """Tells visitors apart; a browser's requests count only if our own page made them."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def visitor(self, request: Request) -> Visitor:
        """Return who asks; a shown token decides, else the session."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        secret = request.cookies.get(cookie_name(request), "")
        if (scheme.lower() == "bearer" or secret) and self.in_the_clear(request):
            return Visitor.IN_THE_CLEAR
        if scheme.lower() == "bearer":
            answer = self.access.check(shown.strip(), address_of(request))
            return {Answer.RIGHT: Visitor.BEARER, Answer.WRONG: Visitor.WRONG}.get(answer, Visitor.TOO_OFTEN)
        return Visitor.SESSION if secret and self.access.has_session(secret) else Visitor.STRANGER

    def in_the_clear(self, request: Request) -> bool:
        """Return whether what `request` shows can be read on its way: plain HTTP from another machine."""
        return not (self.access.over_plain_http or request.url.scheme == "https" or is_local(address_of(request)))

    def refusal(self, request: Request, visitor: Visitor) -> Response | None:
        """Return why `visitor` may change nothing; None: it may."""
        if not self.access.configured:
            return refuse(403, "no_token_configured", "set [http] token_file first: nobody can be told from a stranger")
        if visitor is Visitor.TOO_OFTEN:
            return refuse(429, "too_many_wrong_tokens", "wait a minute", headers=LATER)
        if visitor is Visitor.IN_THE_CLEAR:
            return refuse(403, "tls_needed", IN_THE_CLEAR)
        if not visitor.known:
            return refuse(401, "token_needed", "Authorization: Bearer TOKEN, or sign in on the page", headers=BEARER)
        if visitor is Visitor.SESSION and not from_our_page(request):
            return refuse(403, "cross_site", "a session counts on our own page alone")
        return None


def address_of(request: Request) -> str:
    """Return where a request comes from, for the limit of wrong guesses."""
    return request.client.host if request.client else ""


def is_local(address: str) -> bool:
    """Return whether `address` is this machine's loopback: what comes from there was on no wire."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def cookie_name(request: Request) -> str:
    """Return the session cookie's name; browsers share cookies among the ports of a host, where others may listen."""
    return f"kms_watchdog_{request.url.port or request.url.scheme}"


def from_our_page(request: Request) -> bool:
    """Return whether a browser says that our own page made this request: no other site's can say so."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    return request.headers.get("origin", "") == f"{request.url.scheme}://{request.url.netloc}"


def refuse(code: int, error: str, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Return a refusal that a program can read and a person too."""
    return JSONResponse({"error": error, "message": message, **more}, code, {**COMMON_HEADERS, **(headers or {})})
