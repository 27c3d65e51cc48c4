"""What every canary is: one question about one thing, asked through the crypto core."""

from __future__ import annotations

from typing import Protocol

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.results import CanaryResult


class Canary(Protocol):
    """One question; frozen, so it may be asked from any thread. It holds nothing of the daemon's."""

    @property
    def kind(self) -> str:
        """Name from the closed list of canaries; the metrics' `canary` label."""

    @property
    def region(self) -> str:
        """The region it asks."""

    @property
    def purpose(self) -> str:
        """The key it asks about, by purpose."""

    @property
    def deadline_seconds(self) -> float:
        """How long one look may take; longer is a failure even if it ends well."""

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; the result is live and names no drill (the runner adds both).

        Raises nothing that the crypto core declares: its errors become results.
        """


def canary_id(canary: Canary) -> str:
    """Return the canary's name in logs, jobs and pages, e.g. `round_trip:us-east-1:pii`."""
    return f"{canary.kind}:{canary.region}:{canary.purpose}"
