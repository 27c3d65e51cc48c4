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
        """One of `results.Kind`; the metrics' `canary` label."""

    @property
    def region(self) -> str:
        """The region it asks; of two, both (`results.pair`)."""

    @property
    def purpose(self) -> str:
        """The key it asks about, by purpose; empty when it asks about a region alone."""

    @property
    def deadline_seconds(self) -> float:
        """How long one look may take; longer is a failure even if it ends well."""

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; the result is live and names no drill (the runner adds both).

        Raises nothing that the crypto core declares: its errors become results.
        """


def canary_id(canary: Canary) -> str:
    """Return the canary's name in logs, jobs and pages: `round_trip:us-east-1:pii`, `clock_offset:us-east-1`."""
    return ":".join(part for part in (canary.kind, canary.region, canary.purpose) if part)
