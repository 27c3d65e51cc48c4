"""The whole checklist, answered: what a program can see is looked at now, the rest is what people have signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.copies import copy_configured
from kms_watchdog.evidence.store import StoreError
from kms_watchdog.readiness import alarm_evidence, drill_evidence, estate_evidence, health_evidence, items
from kms_watchdog.readiness.items import ITEMS, Answer, Evidence, Item, State
from kms_watchdog.readiness.measurement import Measurement, MeasurementFile
from kms_watchdog.readiness.sign_offs import SignOffs
from kms_watchdog.readiness.timeouts import Timeouts, too_few, too_short
from kms_watchdog.state_folder import StateError


class Checklist:
    """Looks at everything once. Main thread."""

    def __init__(self, settings: Settings, clock: Clock, *, url: str | None, not_asked: str = "") -> None:
        """Look at nothing yet.

        Args:
            settings: whose estate.
            clock: the time.
            url: where the watchdog answers; None: nobody knows.
            not_asked: why AWS cannot be asked at all; empty: it can.
        """
        self._settings, self._clock, self._url, self._not_asked = settings, clock, url, not_asked

    def answers(self) -> tuple[Answer, ...]:
        """Return the answer to each item, in the guide's order.

        Raises:
            StateError: what people have signed cannot be read.
        """
        book, now_utc = SignOffs(self._settings.state.dir, self._clock).read(), self._clock.now_utc()
        return tuple(
            items.asked(item, book.last(item.id), now_utc)
            if item.asked
            else items.answer(item, self._evidence(item, now_utc), now_utc)
            for item in ITEMS
        )

    def _evidence(self, item: Item, now_utc: datetime) -> Iterator[Evidence]:
        match item.id:
            case items.ROLES | items.KEYS | items.ROTATION:
                yield from self._of_aws(now_utc) or self._estate[item.id]
            case items.HEALTH:
                yield from health_evidence.look(self._url, now_utc)
            case items.ALERTING:
                yield from self._of_aws(now_utc)
                yield from alarm_evidence.look(self._settings, now_utc, ask=not self._not_asked)
            case items.PERFORMANCE:
                yield self._performance(now_utc)
            case _:
                yield from self._of_others
                runs = drill_evidence.judged_runs(self._settings.state.dir, now_utc - item.lasts)
                yield from drill_evidence.evidence(item, runs, now_utc)

    def _of_aws(self, now_utc: datetime) -> list[Evidence]:
        """Return that nobody could ask AWS; nothing if somebody can."""
        if not self._not_asked:
            return []
        return [Evidence(what="AWS", seen=self._not_asked, at_utc=now_utc, state=State.UNKNOWN)]

    @cached_property
    def _of_others(self) -> list[Evidence]:
        """Copy the drills of other machines, and return that this could not be done; nothing if it could."""
        now_utc = self._clock.now_utc()
        longest = max(items.BY_ID[each].lasts for each in (items.BREAKERS, items.FAILOVER))
        if self._not_asked and (self._settings.drills.evidence.store or "").startswith("s3://"):
            return self._of_aws(now_utc)
        try:
            copy_configured(self._settings, self._clock, now_utc - longest)
        except StoreError as e:
            return [Evidence(what="evidence store", seen=str(e), at_utc=now_utc, state=State.UNKNOWN)]
        return []

    @cached_property
    def _estate(self) -> Mapping[str, list[Evidence]]:
        return estate_evidence.evidence(estate_evidence.look(self._settings, self._clock), self._clock.now_utc())

    def _performance(self, now_utc: datetime) -> Evidence:
        try:
            measurement = MeasurementFile(self._settings.state.dir).read()
        except StateError as e:
            return Evidence(what="measurement", seen=str(e), at_utc=now_utc, state=State.UNKNOWN)
        return of_measurement(measurement, self._settings, now_utc)


def of_measurement(measurement: Measurement | None, settings: Settings, now_utc: datetime) -> Evidence:
    """Return what the last measurement shows. Pure."""

    def bad(seen: str) -> Evidence:
        return Evidence(what="measurement", seen=seen, at_utc=now_utc, state=State.BAD)

    if measurement is None:
        return bad("there is none: kms-watchdog measure")
    estate = settings.estate
    if (measurement.estate, measurement.account_id) != (estate.name, estate.account_id):
        return bad(f"it is of estate {measurement.estate} in account {measurement.account_id}: kms-watchdog measure")
    if missing := sorted(set(estate.regions) - measurement.regions):
        return bad(f"it is without {', '.join(missing)}: kms-watchdog measure")
    if few := too_few(measurement.figures):
        more = f"; and {len(few) - 1} more" if len(few) > 1 else ""
        return bad(f"too few to tell: {few[0]}{more}: kms-watchdog measure")
    if short := too_short(Timeouts.configured(settings.core), measurement.figures):
        return bad("; ".join(short))
    longest = max(measurement.figures, key=lambda one: one.p99_seconds)
    seen = (
        f"{len(measurement.regions)} regions from {measurement.host}; the longest p99 is {longest.p99_seconds:.3f} s, "
        f"of {longest.operation} in {longest.region}, {longest.connection}"
    )
    return Evidence(what="measurement", seen=seen, at_utc=measurement.measured_at_utc)
