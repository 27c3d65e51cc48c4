"""What changed, as log events: transitions only, never every success."""

from __future__ import annotations

import threading

import structlog

from kms_core.events import BreakerMoved, KeyQuarantined, OverridesChanged, OverridesUnreadable
from kms_watchdog.health import Health, Subject
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.sinks.sink import Seen


class LogSink:
    """Logs a canary when its answer or its reason changes; the first OK is not news."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("watchdog")
        self._lock = threading.Lock()
        self._last: dict[tuple[Subject, Mode], tuple[str, str]] = {}
        self._status = ""

    def write(self, result: CanaryResult) -> None:
        """Log one look if it changes anything."""
        answer = (str(result.outcome), str(result.reason or ""))
        subject = (Subject(result.canary, result.region, result.key), result.mode)
        with self._lock:
            before = self._last.get(subject, (str(Outcome.OK), ""))
            self._last[subject] = answer
        if before != answer:
            self._transition(result)

    def on_event(self, seen: Seen) -> None:
        """Log moves of breakers, quarantined keys and people's orders."""
        mode = str(seen.mode)
        match seen.event:
            case BreakerMoved(region=region, old=old, new=new, cause=cause):
                log = self._log.info if new == "closed" else self._log.warning
                log("breaker.moved", region=region, old=old, new=new, cause=cause, mode=mode)
            case KeyQuarantined(region=region, purpose=key, error_code=code, seconds=seconds):
                self._log.warning(
                    "key.quarantined", region=region, key=key, error_code=code, seconds=round(seconds, 3), mode=mode
                )
            case OverridesChanged(source=source, overrides=overrides):
                orders = [f"{o.kind} {o.region} until {o.until_utc.isoformat()}: {o.reason}" for o in overrides]
                self._log.warning("overrides.changed", source=source, orders=orders, mode=mode)
            case OverridesUnreadable(source=source, reason=reason):
                self._log.error("overrides.unreadable", source=source, reason=reason, mode=mode)
            case _:
                pass

    def on_health(self, health: Health) -> None:
        """Log a change of the whole."""
        with self._lock:
            before, self._status = self._status, str(health.status)
        if before == health.status:
            return
        log = self._log.info if health.status == "healthy" else self._log.warning
        log("health.changed", old=before or "starting", new=str(health.status), reasons=_codes(health))

    def _transition(self, result: CanaryResult) -> None:
        names = {Outcome.OK: "canary.recovered", Outcome.FAILED: "canary.failed", Outcome.BLIND: "canary.blind"}
        log = self._log.info if result.outcome is Outcome.OK else self._log.warning
        log(
            names[result.outcome],
            canary=result.canary,
            region=result.region,
            key=result.key,
            mode=str(result.mode),
            reason=str(result.reason) if result.reason else None,
            error_code=result.error_code or None,
            request_id=result.request_id or None,
            detail=result.detail or None,
            duration_seconds=round(result.duration_seconds, 4),
            run_id=result.run_id or None,
        )


def _codes(health: Health) -> list[str]:
    return [":".join(part for part in (r.code, r.region, r.key) if part) for r in health.reasons]
