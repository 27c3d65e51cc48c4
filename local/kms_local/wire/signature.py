"""Verification of AWS Signature Version 4, header form, with whatever credentials the access key names.

Source: AWS General Reference, "Create a signed AWS API request".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote

from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request,\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_MAX_SKEW_SECONDS = 300.0
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client signs with; those of a role's session carry a token, and may end."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None  # POSIX seconds; None: as long as the run


def verify(
    request: Request, lookup: Callable[[str], Credentials | None], *, region: str, service: str, now: float
) -> str:
    """Check that `request` was signed with known credentials for this region and service, within five minutes of `now`.

    Args:
        request: what came.
        lookup: returns the credentials of an access key, None for an unknown one.
        region: where it came.
        service: for whom it is: the name in the signature's scope.
        now: POSIX seconds.

    Returns:
        The access key it was signed with.

    Raises:
        ServiceError: MissingAuthenticationTokenException (unsigned), IncompleteSignatureException (malformed),
            UnrecognizedClientException (unknown access key or token), ExpiredTokenException (a session that is over),
            InvalidSignatureException (everything else).
    """
    header = request.headers.get("authorization")
    if not header:
        raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
    given = _AUTHORIZATION.fullmatch(header.strip())
    if given is None:
        raise ServiceError("IncompleteSignatureException", "Authorization header is not a valid AWS4-HMAC-SHA256 one.")
    credentials = lookup(given["access_key"])
    if credentials is None or not _has_token(request, credentials):
        raise ServiceError("UnrecognizedClientException", "The security token included in the request is invalid.")
    _check_scope(given, region=region, service=service)
    stamp = request.headers.get("x-amz-date", "")
    _check_age(stamp, now=now)
    key = _signing_key(credentials.secret_access_key, given["day"], region, service)
    expected = hmac.new(key, _string_to_sign(request, given, stamp), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, given["signature"]) or not stamp.startswith(given["day"]):
        raise _invalid(_MISMATCH)
    if credentials.expires_at is not None and now >= credentials.expires_at:
        raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")
    return credentials.access_key_id


def _has_token(request: Request, credentials: Credentials) -> bool:
    given = request.headers.get("x-amz-security-token", "")
    return hmac.compare_digest(given.encode(), (credentials.session_token or "").encode())


def _check_scope(given: re.Match[str], *, region: str, service: str) -> None:
    if given["region"] != region:
        raise _invalid("Credential should be scoped to a valid region. ")
    if given["service"] != service:
        raise _invalid(f"Credential should be scoped to correct service: '{service}'. ")


def _check_age(stamp: str, *, now: float) -> None:
    try:
        signed_at = _posix_seconds(stamp)
    except ValueError as e:
        raise ServiceError("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.") from e
    if abs(now - signed_at) > _MAX_SKEW_SECONDS:
        side = "Signature expired" if now > signed_at else "Signature not yet current"
        raise _invalid(f"{side}: {stamp} is not within 5 min. of the server's time")


@lru_cache(maxsize=64)  # what is signed in one second has one stamp
def _posix_seconds(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _string_to_sign(request: Request, given: re.Match[str], stamp: str) -> bytes:
    scope = f"{given['day']}/{given['region']}/{given['service']}/aws4_request"
    digest = hashlib.sha256(_canonical_request(request, given["headers"]).encode()).hexdigest()
    return f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode()


def _canonical_request(request: Request, signed_headers: str) -> str:
    headers = "".join(f"{name}:{_collapse(request.headers.get(name, ''))}\n" for name in signed_headers.split(";"))
    body = hashlib.sha256(request.body).hexdigest()
    path = quote(request.path or "/", safe="/~-._")
    return f"{request.method}\n{path}\n{_canonical_query(request.query)}\n{headers}\n{signed_headers}\n{body}"


def _canonical_query(query: str) -> str:
    pairs = sorted((quote(k, safe="~-._"), quote(v, safe="~-._")) for k, v in parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _collapse(value: str) -> str:
    return " ".join(value.split())


@lru_cache(maxsize=256)  # four HMACs saved on every request of a day; roles, regions and services are few
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidSignatureException", message)
