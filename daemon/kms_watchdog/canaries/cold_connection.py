"""Is the way there open: does a new connection to this region's KMS come about, and is its certificate renewed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.finding import Finding, answer, failed
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.new_connection import DNS, TCP, TLS, Budget, ConnectionFault, Connector, Opened
from kms_watchdog.results import CanaryResult, Fact, Kind, Outcome, Reason

_REASONS: Mapping[str, Reason] = {DNS: Reason.DNS, TCP: Reason.CONNECT, TLS: Reason.TLS}
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class ColdConnection:
    """Connect anew to one region's KMS; nothing is asked there.

    Steps: `dns`, `tcp` (to the proxy and through it, where there is one), `tls`.
    Facts: `address` (the IP address connected to), `tls_version`, `certificate_issuer` (common name),
    `certificate_days_left` (of the server's own certificate, by this machine's clock).
    """

    region: str
    connector: Connector = field(repr=False, compare=False)
    certificate_days: float
    """Fewer days left than these are a failure: the renewal is overdue."""
    deadline_seconds: float = 10.0
    purpose: str = field(default="", init=False)

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.COLD_CONNECTION

    def run(self, core: Core, clock: Clock) -> CanaryResult:  # noqa: ARG002  the core keeps its connections: not these
        """Ask once; a machine that cannot even try is blind."""
        steps = Steps(clock)
        facts: dict[str, Fact] = {}
        try:
            with self.connector.open(Budget(steps, self.deadline_seconds)) as opened:
                facts = _facts(opened, clock)
        except ConnectionFault as e:
            return answer(self, steps, what_it_means(e))
        return answer(self, steps, self._judge(float(facts["certificate_days_left"])), facts)

    def _judge(self, days_left: float) -> Finding:
        if days_left < self.certificate_days:
            detail = f"the certificate of {self.connector.server.host} ends in {days_left:.1f} days"
            return failed(Reason.CERTIFICATE_EXPIRES, detail=detail)
        return Finding()


def what_it_means(fault: ConnectionFault) -> Finding:
    """Return the finding that a connection which did not come about stands for. Pure."""
    if fault.ours:
        return Finding(Outcome.BLIND, Reason.ERROR, fault.code, detail=fault.detail)
    if fault.timed_out:
        return failed(Reason.TIMEOUT, fault.code, fault.detail)
    if fault.expired:
        return failed(Reason.CERTIFICATE_EXPIRES, fault.code, fault.detail)
    return failed(_REASONS.get(fault.step, Reason.ERROR), fault.code, fault.detail)


def _facts(opened: Opened, clock: Clock) -> dict[str, Fact]:
    return {
        "address": opened.address,
        "tls_version": opened.tls.version() or "",
        "certificate_issuer": opened.certificate_issuer,
        "certificate_days_left": (opened.certificate_ends_at - clock.now_utc().timestamp()) / _DAY_SECONDS,
    }
