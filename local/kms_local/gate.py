"""What every request of a region passes, whatever its service: the check of its signature, and the faults in force."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from kms_local.clock import Clock
from kms_local.faults import Faults
from kms_local.wire.exchange import Request
from kms_local.wire.signature import Credentials, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One region's gate."""

    account_id: str
    region: str
    credentials: Credentials
    clock: Clock
    entropy: Callable[[int], bytes]
    faults: Faults

    def now(self) -> float:
        """Return POSIX time, in seconds."""
        return self.clock.now()

    def new_id(self) -> str:
        """Return a new random id: of a request, a message, a subscription."""
        return str(uuid.UUID(bytes=self.entropy(16), version=4))

    def verify(self, request: Request, service: str) -> None:
        """Check that a request was signed for this region and `service`.

        Raises:
            ServiceError: it was not.
        """
        verify(request, self.credentials, region=self.region, service=service, now=self.clock.now())

    async def suffer(self, service: str, operation: str, key_id: str = "") -> None:
        """Let the faults that are on have their way.

        Raises:
            ServiceError: the error that a fault asks for.
        """
        await self.faults.suffer(service=service, region=self.region, operation=operation, key_id=key_id)
