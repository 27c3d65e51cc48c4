"""Faults of KMS itself, answered in its place within the drill's own clients: what TLS hides from Toxiproxy.

Codes and HTTP statuses are those of KMS's own errors. Source: AWS KMS API Reference, "Errors" of GenerateDataKey and
Decrypt, and "Common Errors".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Annotated, Any, Literal

from pydantic import Field

from kms_chaos.faults.client_plans import Operation, line_of
from kms_chaos.faults.ordering import Bite, FaultPlan, Ordered, bite, unlike

Purpose = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error as KMS answers it."""

    code: str
    status: int
    message: str


class ApiFault(FaultPlan):
    """KMS answers a share of some operations with an error."""

    operations: Annotated[tuple[Operation, ...], Field(strict=False, max_length=3)] = ()
    """Those that it hits; empty: all."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class Throttling(ApiFault):
    """The account's quota of requests in the region is used up."""

    kind: Literal["throttling"]


class KmsInternal(ApiFault):
    """KMS fails inside."""

    kind: Literal["kms_internal"]


class DependencyTimeout(ApiFault):
    """Something that KMS depends on does not answer it."""

    kind: Literal["dependency_timeout"]


class KeyUnavailable(ApiFault):
    """The key's material cannot be used at present."""

    kind: Literal["key_unavailable"]


class Disabled(ApiFault):
    """The key is disabled."""

    kind: Literal["disabled"]


class PendingDeletion(ApiFault):
    """The key waits for its deletion."""

    kind: Literal["pending_deletion"]


class AccessDenied(ApiFault):
    """A policy denies the key's use."""

    kind: Literal["access_denied"]


class ExpiredCredentials(ApiFault):
    """The credentials' time is over."""

    kind: Literal["expired_credentials"]


class KeyRevoked(ApiFault):
    """Somebody took the keys of some purposes away: by disabling them, or by a policy."""

    kind: Literal["key_revoked"]
    answer: Literal["disabled", "access_denied"] = "disabled"
    purposes: Annotated[tuple[Purpose, ...], Field(strict=False, max_length=50)] = ()
    """Those whose requests are refused, by the key that a request names; empty: all."""


_DENIED = Refusal(
    code="AccessDeniedException",
    status=400,
    message="User is not authorized to perform this operation because no resource-based policy allows it",
)
_DISABLED = Refusal(code="DisabledException", status=400, message="The key is disabled.")


@singledispatch
def refusal(plan: FaultPlan) -> Refusal:
    """Return the error that KMS answers.

    Raises:
        NotImplementedError: the kind is none of KMS itself.
    """
    raise NotImplementedError(type(plan).__name__)


@refusal.register
def _(_plan: Throttling) -> Refusal:
    message = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
    return Refusal(code="ThrottlingException", status=400, message=message)


@refusal.register
def _(_plan: KmsInternal) -> Refusal:
    return Refusal(code="KMSInternalException", status=500, message="An internal error occurred.")


@refusal.register
def _(_plan: DependencyTimeout) -> Refusal:
    return Refusal(code="DependencyTimeoutException", status=503, message="A dependency timed out.")


@refusal.register
def _(_plan: KeyUnavailable) -> Refusal:
    return Refusal(code="KeyUnavailableException", status=500, message="The key is not available at present.")


@refusal.register
def _(_plan: Disabled) -> Refusal:
    return _DISABLED


@refusal.register
def _(_plan: PendingDeletion) -> Refusal:
    return Refusal(code="KMSInvalidStateException", status=400, message="The key is pending deletion.")


@refusal.register
def _(_plan: AccessDenied) -> Refusal:
    return _DENIED


@refusal.register
def _(_plan: ExpiredCredentials) -> Refusal:
    message = "The security token included in the request is expired"
    return Refusal(code="ExpiredTokenException", status=400, message=message)


@refusal.register
def _(plan: KeyRevoked) -> Refusal:
    return _DISABLED if plan.answer == "disabled" else _DENIED


def purposes_of(plan: ApiFault) -> tuple[str, ...]:
    """Return the purposes that alone are hit; empty: all."""
    return plan.purposes if isinstance(plan, KeyRevoked) else ()


def shown_of(plan: ApiFault) -> dict[str, Any]:
    """Return how a line shows that it answers as `plan` orders."""
    answer = refusal(plan)
    return {
        "what": "refused",
        "code": answer.code,
        "status": answer.status,
        "operations": list(plan.operations),
        "purposes": list(purposes_of(plan)),
        "share": plan.share,
    }


@bite.register
def _(plan: ApiFault) -> Bite:
    whole = plan.share == 1 and not purposes_of(plan)
    return Bite(codes=frozenset({refusal(plan).code}), whole=whole, operations=frozenset(plan.operations))


@unlike.register
def _(plan: ApiFault, _order: Ordered, shown: Mapping[str, Any]) -> str:
    wanted = shown_of(plan)
    return "" if wanted in line_of(shown).get("answers", ()) else f"requests are not answered with {wanted['code']}"
