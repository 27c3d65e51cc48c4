"""What every request of a region passes, whatever its service: its signature, the policies, and the faults in force."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from kms_local.clock import Clock
from kms_local.cloudtrail import Trail
from kms_local.faults import Fate, Faults
from kms_local.identities import Identities, Identity
from kms_local.trails import Trails
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request
from kms_local.wire.signature import Credentials, verify
from kms_watchdog.estate.policy import Decision, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One region's gate."""

    account_id: str
    region: str
    identities: Identities
    enforce_policies: bool
    clock: Clock
    entropy: Callable[[int], bytes]
    faults: Faults
    changed: Callable[[], None]  # called before the answer to a request that changed what a restart must know
    roles_changed: Callable[[], None]  # the same, of IAM: clients find the credentials of roles in files
    trails: Trails  # the account's, all regions' alike
    trail: Trail = field(default_factory=Trail)

    def now(self) -> float:
        """Return POSIX time, in seconds."""
        return self.clock.now()

    def new_id(self) -> str:
        """Return a new random id: of a request, a message, a subscription."""
        raw = bytearray(self.entropy(16))  # by hand: uuid.UUID takes five times as long, on every request
        raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80  # version 4, variant 1
        text = raw.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def verify(self, request: Request, service: str, region: str | None = None) -> Identity:
        """Check that a request was signed for `service` and this region, or the one of a global service.

        Returns:
            Who signed it.

        Raises:
            ServiceError: it was not.
        """
        found: list[Identity] = []

        def lookup(access_key_id: str) -> Credentials | None:
            entry = self.identities.find(access_key_id)
            if entry is None:
                return None
            found.append(entry[1])
            return entry[0]

        verify(request, lookup, region=region or self.region, service=service, now=self.clock.now())
        return found[0]

    def authorize(
        self,
        caller: Identity,
        action: str,
        resource: str = "*",
        context: Mapping[str, str | tuple[str, ...]] | None = None,
        *,
        code: str = "AccessDenied",
    ) -> None:
        """Let the caller's own policies decide, where policies are enforced: for what has no policy of its own.

        Raises:
            ServiceError: with `code`: they do not allow it.
        """
        if self.enforce_policies:
            request = caller.request(action, resource, {**self.surroundings(), **(context or {})})
            decision = caller.decide(request)
            if not decision.allowed:
                raise ServiceError(code, refusal(caller, action, resource, decision), status=403)

    def surroundings(self) -> dict[str, str | tuple[str, ...]]:
        """Return the condition keys that every request of this region has."""
        return {
            "aws:RequestedRegion": self.region,
            "aws:SecureTransport": "true",
            "aws:SourceIp": "127.0.0.1",
            "aws:ViaAWSService": "false",
        }

    async def suffer(self, service: str, operation: str, key_names: Callable[[], Collection[str]] = tuple) -> Fate:
        """Let the faults that are on have their way, and return what the operation must know of them.

        Raises:
            ServiceError: the error that a fault asks for.
        """
        return await self.faults.suffer(service=service, region=self.region, operation=operation, key_names=key_names)


def refusal(caller: Identity, action: str, resource: str, decision: Decision) -> str:
    """Say in AWS's words why a request is denied."""
    if decision.outcome is Outcome.EXPLICIT_DENY:
        article = "an" if decision.source.startswith("i") else "a"
        because = f"with an explicit deny in {article} {decision.source}"
    else:
        kind = {
            Outcome.NOT_ALLOWED_BY_IDENTITY: "identity-based policy",
            Outcome.NOT_ALLOWED_BY_RESOURCE: "resource-based policy",
            Outcome.NOT_ALLOWED_BY_BOUNDARY: "permissions boundary",
        }[decision.outcome]
        because = f"because no {kind} allows the {action} action"
    return f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {because}"
