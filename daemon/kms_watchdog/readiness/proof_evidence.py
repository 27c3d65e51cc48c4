"""Which proofs of alarms count: of each alarm in each region the newest alone, if all of it went well. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.sinks.sink import AlarmMoved

Wanted = Mapping[str, Collection[str]]
"""Alarms, each with the regions that it lives in."""


def standing(proofs: Iterable[AlarmProof], wanted: Wanted) -> dict[str, AlarmMoved]:
    """Return when each alarm of `wanted` was last proven; one whose newest proof in a region failed is left out.

    That it once reached somebody (`alarm_proofs.standing`) is no evidence that it does now.
    """
    return alarm_proofs.standing((one for one in _newest(proofs) if _went_well(one)), wanted)


def failed(proofs: Iterable[AlarmProof], wanted: Wanted) -> tuple[AlarmProof, ...]:
    """Return the newest proofs that did not go well, of alarms that are wanted where they are wanted."""
    return tuple(
        one for one in _newest(proofs) if one.region in wanted.get(one.name, ()) and not _went_well(one)
    )  # fmt: skip


def _newest(proofs: Iterable[AlarmProof]) -> Collection[AlarmProof]:
    return {(one.name, one.region): one for one in sorted(proofs, key=lambda one: one.fired_at_utc)}.values()


def _went_well(proof: AlarmProof) -> bool:
    return proof.told_at_utc is not None and proof.restored_at_utc is not None
