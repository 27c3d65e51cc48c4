"""Write down each change of the alarms' states, in CloudWatch and in Prometheus, as it is seen.

`python -m kms_local.game_day.watching CONFIGURATION REGION FILE [PORT]`: a process of its own, since the local AWS's
credentials are in the environment of what the game day starts, and nowhere else. It goes on until it is told to end.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

from kms_alarms.parts import NoneBecause
from kms_alarms.table import alarm
from kms_chaos.alarms import AlarmBoard, reading_region
from kms_core.clock import Clock, SystemClock
from kms_local.game_day import alerting
from kms_local.game_day.promises import ROWS
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Mode

LOOK_SECONDS = 0.5


class AlarmLog:
    """Looks at the alarms of `region`'s loss, from a region that is not lost; `file` gets a line for each change."""

    def __init__(
        self, settings: Settings, region: str, file: TextIO, clock: Clock, *, prometheus_port: int | None
    ) -> None:
        keys = frozenset(
            (row, one, str(Mode.LIVE))
            for row in ROWS
            if not isinstance(alarm(row).cloudwatch, NoneBecause)
            for one in settings.estate.regions
        )
        self._board = AlarmBoard(settings, reading_region(settings, (region,)), keys)
        self._file, self._clock, self._port = file, clock, prometheus_port
        self._known: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        """Look once."""
        self._cloudwatch()
        if self._port is not None:
            self._prometheus(self._port)

    def _cloudwatch(self) -> None:
        """Note what changed, at the time that CloudWatch itself gives."""
        for key, reading in self._board.read().items():
            at_utc = datetime.fromisoformat(reading.since_utc) if reading.since_utc else self._clock.now_utc()
            where = f"read in {self._board.region}: {reading.reason}"
            self._note("CloudWatch", self._board.names[key], reading.state, at_utc, where)

    def _prometheus(self, port: int) -> None:
        """Note what fires and what does not any more, at the time of this look."""
        try:
            found = {f"{name} {region}".strip() for name, region in alerting.firing(port)}
        except (OSError, http.client.HTTPException, ValueError):
            return  # the next look tells; an alert that is never seen is MISSING
        fired = {name for (system, name), state in self._known.items() if (system, state) == ("Prometheus", "firing")}
        for name in sorted(found | fired):
            state = "firing" if name in found else "over"
            self._note("Prometheus", name, state, self._clock.now_utc(), "")

    def _note(self, system: str, name: str, state: str, at_utc: datetime, detail: str) -> None:
        if self._known.get((system, name)) == state:
            return
        self._known[system, name] = state
        line: Mapping[str, str] = {
            "at_utc": at_utc.isoformat(),
            "system": system,
            "name": name,
            "state": state,
            "detail": detail[:200],
        }
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()


def main(arguments: list[str]) -> None:
    """Look again and again, until this process is ended."""
    configuration, region, path, *port = arguments
    clock, never = SystemClock(), threading.Event()
    with Path(path).open("a", encoding="utf-8") as file:
        prometheus_port = int(port[0]) if port else None
        log = AlarmLog(load(Path(configuration)), region, file, clock, prometheus_port=prometheus_port)
        while not clock.wait(never, LOOK_SECONDS):
            log.look()


if __name__ == "__main__":
    main(sys.argv[1:])
