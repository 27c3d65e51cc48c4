"""The watchdog's own canaries, asked through the drill's own core: the eyes that watch production."""

from __future__ import annotations

import threading

from kms_chaos.tape import Tape
from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog import runner
from kms_watchdog.canaries.round_trip import RoundTrip
from kms_watchdog.results import Mode

_END_SECONDS = 15.0


class CanaryRounds:
    """A round trip per region and key, again and again, each region in its own thread: a dead one delays none."""

    def __init__(
        self,
        core: Core,
        tape: Tape,
        clock: Clock,
        *,
        regions: tuple[str, ...],
        purposes: tuple[str, ...],
        interval_seconds: float,
        run_id: str,
    ) -> None:
        self._core, self._tape, self._clock = core, tape, clock
        self._interval_seconds, self._run_id = interval_seconds, run_id
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._go_round,
                args=([RoundTrip(region=region, purpose=purpose) for purpose in purposes],),
                name=f"canaries-{region}",
                daemon=True,
            )
            for region in regions
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the look that each region is at."""
        self._stop.set()
        until = self._clock.monotonic() + _END_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - self._clock.monotonic()))

    def _go_round(self, canaries: list[RoundTrip]) -> None:
        due = self._clock.monotonic()
        while not self._stop.is_set():
            for canary in canaries:
                if self._stop.is_set():
                    return
                result = runner.run(canary, self._core, self._clock, mode=Mode.DRILL, run_id=self._run_id)
                self._tape.record("canary-result", result=result.to_json())
            due = max(due + self._interval_seconds, self._clock.monotonic())
            self._clock.wait(self._stop, due - self._clock.monotonic())
