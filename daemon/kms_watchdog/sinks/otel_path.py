"""The way to OpenTelemetry: an export again and again, counted, in a pool of its own so that it never holds up others.

`otel.py`, and with it the SDK, is imported only where it is enabled.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Protocol

import structlog

from kms_core.clock import Clock
from kms_core.errors import ConfigurationError
from kms_watchdog import metrics
from kms_watchdog.config import Settings
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.prometheus import Exposition, Family

log = structlog.get_logger("otel")

EXPORT_KIND = "otel.export"
OTEL_POOL = "otel"


class Exporter(Protocol):
    """Sends metrics; `otel.OtlpExporter` is one."""

    def export(self, families: Iterable[Family], now: float) -> str:
        """Send them as they are at Unix time `now`; return why that failed, empty when it did not."""

    def close(self) -> None:
        """Give up what is under way."""


class OtelPath:
    """Exports; called from one thread at a time."""

    def __init__(self, exporter: Exporter, exposition: Exposition, clock: Clock, *, interval_seconds: float) -> None:
        self._exporter, self._exposition, self._clock = exporter, exposition, clock
        self._interval_seconds = interval_seconds
        self._failing = False

    def jobs(self) -> tuple[Job, ...]:
        """Return what is to be done again and again."""
        return (
            Job(
                id=EXPORT_KIND,
                kind=EXPORT_KIND,
                action=self.export,
                interval_seconds=self._interval_seconds,
                first_within_seconds=None,
                pool=OTEL_POOL,
            ),
        )

    def export(self) -> None:
        """Export once; a failure is counted, and said when it begins: cumulative numbers lose nothing by it."""
        error = self._exporter.export(self._exposition.families(), self._clock.now_utc().timestamp())
        self._exposition.add(metrics.OTEL_EXPORTS, "failure" if error else "success")
        was_failing, self._failing = self._failing, bool(error)
        if error and not was_failing:
            log.warning("otel.failed", error=error)
        elif was_failing and not error:
            log.info("otel.recovered")

    def flush(self, deadline_seconds: float) -> None:
        """Export the last numbers, at most this long, and close."""
        last = threading.Thread(target=self.export, name="otel-flush", daemon=True)
        last.start()
        last.join(deadline_seconds)
        self._exporter.close()

    def close(self) -> None:
        """Give up what is under way, as when another takes over."""
        self._exporter.close()


def open_otel(
    settings: Settings, exposition: Exposition, clock: Clock, *, version: str, started_at: float
) -> OtelPath | None:
    """Return the way there; None: it is not enabled. `started_at` is Unix time: since when the counters count.

    Raises:
        ConfigurationError: it is enabled, and the extra is not installed.
    """
    if not settings.otel.enabled:
        return None
    try:
        from kms_watchdog.sinks.otel import OtlpExporter  # noqa: PLC0415 - an extra: 90 modules that few want
    except ModuleNotFoundError as e:
        raise ConfigurationError(
            f"otel.enabled: {e.name} is not installed; it comes with: pip install 'kms-watchdog[otel]'"
        ) from e
    exporter = OtlpExporter(settings.otel, instance=settings.monitor, version=version, started_at=started_at)
    return OtelPath(exporter, exposition, clock, interval_seconds=settings.otel.interval_seconds)
