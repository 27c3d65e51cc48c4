"""Which policy refuses, by the words in which AWS says so. Pure.

Source of the words: IAM User Guide, "Troubleshoot access denied error messages". The judge of policies here
(`estate.access`) uses the same names for the kinds of policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kms_watchdog.doctor.causes import CauseId


class PolicyKind(StrEnum):
    """The kinds of policies that AWS names in a refusal."""

    ENDPOINT = "VPC endpoint policy"
    SERVICE_CONTROL = "service control policy"
    RESOURCE_CONTROL = "resource control policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    RESOURCE = "resource-based policy"
    IDENTITY = "identity-based policy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Who refuses."""

    kind: PolicyKind | None
    """None: the words do not say."""
    explicit: bool
    """Whether a Deny says so, and not the lack of an Allow."""

    def __str__(self) -> str:
        if self.kind is None:
            return "the answer does not say by which policy"
        return f"an explicit deny in a {self.kind}" if self.explicit else f"no {self.kind} allows it"


DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
"""Codes of a refusal by policy."""

_CAUSES: Mapping[PolicyKind, CauseId] = {
    PolicyKind.ENDPOINT: CauseId.ENDPOINT_POLICY_REFUSES,
    PolicyKind.SERVICE_CONTROL: CauseId.ORGANIZATION_REFUSES,
    PolicyKind.RESOURCE_CONTROL: CauseId.ORGANIZATION_REFUSES,
    PolicyKind.BOUNDARY: CauseId.BOUNDARY_REFUSES,
    PolicyKind.SESSION: CauseId.SESSION_POLICY_REFUSES,
    PolicyKind.RESOURCE: CauseId.KEY_POLICY_REFUSES,
    PolicyKind.IDENTITY: CauseId.IDENTITY_POLICY_REFUSES,
}


def refusal(words: str) -> Refusal:
    """Return who refuses, by AWS's message or by what the judge of policies says."""
    low = words.lower()
    kind = next((kind for kind in PolicyKind if kind.lower() in low), None)
    return Refusal(kind, "explicit deny" in low)


def cause_of(kind: PolicyKind | None) -> CauseId:
    """Return the cause that a refusal by this kind of policy is."""
    return CauseId.ACCESS_REFUSED if kind is None else _CAUSES[kind]
