"""What a drill file may order: one class a kind of fault, with its numbers and what shows that it bites.

Pure: nothing here touches anything. `faults.apply` does what is ordered, the judge looks for the evidence. Numbers are
bounded, since the real Toxiproxy checks none, and some values end its process. The kinds are sorted by layer:
`network_plans` and `cut_plans` (toxics), `client_plans` (the clients' end), `api_plans` (KMS itself).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, get_args

from pydantic import Field

from kms_chaos.faults.api_plans import (
    AccessDenied,
    ApiFault,
    DependencyTimeout,
    Disabled,
    ExpiredCredentials,
    KeyRevoked,
    KeyUnavailable,
    KmsInternal,
    PendingDeletion,
    Throttling,
)
from kms_chaos.faults.client_plans import ClockSkew, DnsFailure, SlowOperation, StalePool, SynDrop
from kms_chaos.faults.cut_plans import Reset, SlowClose, Truncated
from kms_chaos.faults.network_plans import (
    Bandwidth,
    Blackhole,
    Drip,
    Flapping,
    Intermittent,
    Latency,
    Refused,
)
from kms_chaos.faults.operator_plans import Evacuation
from kms_chaos.faults.ordering import (
    CONNECTION,
    NO_ANSWER,
    Bite,
    FaultPlan,
    Ordered,
    Span,
    Where,
    bite,
    toxic_name,
    toxics,
    unlike,
)

__all__ = [
    "CONNECTION",
    "KINDS",
    "NO_ANSWER",
    "AccessDenied",
    "AnyFault",
    "ApiFault",
    "Bandwidth",
    "Bite",
    "Blackhole",
    "ClockSkew",
    "DependencyTimeout",
    "Disabled",
    "DnsFailure",
    "Drip",
    "Evacuation",
    "ExpiredCredentials",
    "FaultPlan",
    "Flapping",
    "Intermittent",
    "KeyRevoked",
    "KeyUnavailable",
    "KmsInternal",
    "Latency",
    "Ordered",
    "PendingDeletion",
    "Refused",
    "Reset",
    "SlowClose",
    "SlowOperation",
    "Span",
    "StalePool",
    "SynDrop",
    "Throttling",
    "Truncated",
    "Where",
    "bite",
    "ordered",
    "toxic_name",
    "toxics",
    "unlike",
]

_OfTheNetwork = (
    Blackhole | Refused | Latency | Bandwidth | Drip | Truncated | SlowClose | Reset | Intermittent | Flapping
)
_OfTheClients = SynDrop | StalePool | DnsFailure | SlowOperation | ClockSkew
_OfKms = (
    Throttling
    | KmsInternal
    | DependencyTimeout
    | KeyUnavailable
    | Disabled
    | PendingDeletion
    | AccessDenied
    | ExpiredCredentials
    | KeyRevoked
)
_Every = _OfTheNetwork | _OfTheClients | _OfKms | Evacuation
AnyFault = Annotated[_Every, Field(discriminator="kind")]
"""Any kind; the file's `kind` tells which."""

KINDS: Mapping[str, type[FaultPlan]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(_Every)
}
"""Every kind by its name."""


def ordered(plans: tuple[FaultPlan, ...], targets: tuple[str, ...], regions: tuple[str, ...]) -> tuple[Ordered, ...]:
    """Return every fault in every region that it hits, in the file's order."""
    return tuple(_ordered(plans, targets, regions))


def _ordered(plans: tuple[FaultPlan, ...], targets: tuple[str, ...], regions: tuple[str, ...]) -> Iterator[Ordered]:
    for number, plan in enumerate(plans):
        for region in plan.regions(targets, regions):
            kind, service = getattr(plan, "kind", "fault"), getattr(plan, "service", "kms")
            place = region if service == "kms" else f"{service}-{region}"
            yield Ordered(id=f"{number}-{kind}-{place}", region=region, plan=plan)
