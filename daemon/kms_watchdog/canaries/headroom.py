"""How far is this region from throttling us, and what do the canaries themselves take up and cost?"""

from __future__ import annotations

from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.estate_look import Answer, Budget, look, one_line
from kms_watchdog.canaries.finding import Finding, failed
from kms_watchdog.config import HeadroomLook
from kms_watchdog.results import CanaryResult, Kind, Reason
from kms_watchdog.traffic import Load, Traffic

SECONDS_PER_MONTH = 365.25 * 86_400 / 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Read what was counted of our own traffic with one region; asks nobody, so it is never blind.

    Facts: `throttles` (refusals for load in the window), `requests_per_second` (of all kinds), `quota_share` (of the
    shared quota for the use of keys, 0 to 1), `cost_usd_month` (at this rate and the configured price).
    """

    region: str
    limits: HeadroomLook
    traffic: Traffic = field(repr=False, compare=False)
    round_seconds: float
    """A round of canaries takes so long: less is no time to tell a rate from."""
    deadline_seconds: float = 10.0
    purpose: str = ""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.HEADROOM

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Look once."""
        del core
        return look(self, clock, self._ask)

    def _ask(self, budget: Budget) -> Answer:
        del budget
        return judge(self.traffic.load(self.region), self.limits, self.round_seconds)


def judge(load: Load, limits: HeadroomLook, round_seconds: float) -> Answer:
    """Return what a region's traffic means."""
    seconds = max(load.seconds, round_seconds)
    per_second = (load.cryptographic + load.management) / seconds
    share = load.cryptographic / seconds / limits.quota_requests_per_second
    details: list[str] = []
    if load.throttled:
        details.append(f"KMS throttled {load.throttled} of our requests in {limits.window_seconds:g} s")
    if share > limits.max_quota_share:
        details.append(f"we use {share:.1%} of {limits.quota_requests_per_second:g} requests/s")
    return Answer(
        finding=failed(Reason.HEADROOM_LOW) if details else Finding(),
        facts={
            "throttles": float(load.throttled),
            "requests_per_second": per_second,
            "quota_share": share,
            "cost_usd_month": per_second * SECONDS_PER_MONTH * limits.usd_per_10000_requests / 10_000,
        },
        detail=one_line(tuple(details)),
    )
