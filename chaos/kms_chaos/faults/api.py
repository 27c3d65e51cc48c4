"""Answer in KMS's place, spoil its answer, or sign for another time: what TLS hides from Toxiproxy.

An answer is a real HTTP response in KMS's own form, so botocore's own parser makes of it what it makes of KMS's. A
clock that is off is KMS's own to refuse: requests are really signed so, by botocore's own hooks (the event
`choose-signer`, `signers.RequestSigner`, `auth.SigV4Auth`).
"""

from __future__ import annotations

import io
import json
import random
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from urllib3.response import HTTPResponse

from kms_chaos.faults.api_plans import ApiFault, Refusal, purposes_of, refusal, shown_of
from kms_chaos.faults.asked import Asked
from kms_chaos.faults.client_plans import SlowOperation
from kms_chaos.faults.cut_plans import Truncated, cut_shown
from kms_chaos.faults.line import Send
from kms_core.clock import Clock

REQUEST_ID = "drill-"
"""How the request id of every answer of ours begins: nobody shall look for it at AWS."""
_USUAL = "v4"
_OURS = "kms-chaos-skewed-v4"
_SECONDS = "kms_chaos_off_seconds"
"""Where a request's context says how far off."""


class Refusing:
    """Answers what `plan` orders with its error. Safe from any thread."""

    def __init__(self, plan: ApiFault, rng: random.Random) -> None:
        self._plan, self._rng = plan, rng
        self._answer = refusal(plan)
        self._purposes = frozenset(purposes_of(plan))

    def __call__(self, asked: Asked, send: Send) -> Any:
        """Return the error, when the request is one of those that it hits."""
        return _refused(asked.url, self._answer, self._rng) if self._hits(asked) else send()

    def _hits(self, asked: Asked) -> bool:
        if self._plan.operations and asked.operation not in self._plan.operations:
            return False
        if self._purposes and asked.purpose not in self._purposes:
            return False
        return self._rng.random() < self._plan.share

    def shown(self) -> Mapping[str, Any]:
        """Return what it does, in JSON's types."""
        return shown_of(self._plan)


def _refused(url: str, answer: Refusal, rng: random.Random) -> Any:
    body = json.dumps({"__type": answer.code, "message": answer.message}, separators=(",", ":")).encode()
    headers = {
        "x-amzn-RequestId": f"{REQUEST_ID}{uuid.UUID(int=rng.getrandbits(128), version=4)}",
        "Cache-Control": "no-cache, no-store, must-revalidate, private",
        "Content-Type": "application/x-amz-json-1.1",
        "Content-Length": str(len(body)),
    }
    return _response(url, answer.status, headers, body)


def _response(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    raw = HTTPResponse(
        body=io.BytesIO(body), headers=headers, status=status, preload_content=False, enforce_content_length=False
    )
    return AWSResponse(url, status, headers, raw)


class Cutting:
    """Cuts the body of every answer short, the head being whole, as botocore lets a connection end there."""

    def __init__(self, plan: Truncated) -> None:
        self._plan = plan

    def __call__(self, asked: Asked, send: Send) -> Any:
        """Return KMS's answer without the end of its body."""
        whole = send()
        kept = min(self._plan.after_bytes, len(whole.content) - 1)
        return _response(asked.url, whole.status_code, whole.headers, whole.content[: max(kept, 0)])

    def shown(self) -> Mapping[str, Any]:
        """Return what it does, in JSON's types."""
        return cut_shown(self._plan)


class Late:
    """Holds back the answers to one operation; a client that does not wait so long gets its own timeout."""

    def __init__(self, plan: SlowOperation, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self._over = threading.Event()

    def __call__(self, asked: Asked, send: Send) -> Any:
        """Return KMS's answer as late as is ordered.

        Raises:
            ReadTimeoutError: the client does not wait so long. KMS has answered, as it may have in an outage.
        """
        answer = send()
        if asked.operation == self._plan.operation:
            seconds = min(self._plan.delay_seconds, asked.read_timeout_seconds)
            if not self._clock.wait(self._over, seconds) and seconds < self._plan.delay_seconds:
                raise ReadTimeoutError(endpoint_url=asked.url, error=TimeoutError("held back by a drill"))
        return answer

    def shown(self) -> Mapping[str, Any]:
        """Return what it does, in JSON's types."""
        return {"what": "late", "operation": self._plan.operation, "seconds": self._plan.delay_seconds}

    def end(self) -> None:
        """Let go of all that is held back."""
        self._over.set()


class SkewedAuth(SigV4Auth):  # type: ignore[misc] # botocore has no types
    """Signature version 4 by a clock that is off by what the request's context says."""

    def _modify_request_before_signing(self, request: Any) -> None:
        now = datetime.strptime(request.context["timestamp"], SIGV4_TIMESTAMP)  # noqa: DTZ007 - UTC, as it came
        then = now + timedelta(seconds=request.context[_SECONDS])
        request.context["timestamp"] = then.strftime(SIGV4_TIMESTAMP)  # the scope of the signature follows it, too
        super()._modify_request_before_signing(request)


def signature_version(context: dict[str, Any], usual: Any, off_seconds: float) -> str | None:
    """Return the signature version to use, or None for botocore's own choice; `context` is the request's."""
    if not off_seconds or usual != _USUAL:
        return None
    context[_SECONDS] = off_seconds
    return _OURS


AUTH_TYPE_MAPS[_OURS] = SkewedAuth
