"""Leaving a region for a time, and coming back: which overrides there are afterwards. Pure.

An evacuated region is asked last by daemon and application, never not at all (`kms_core.overrides`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from kms_core.overrides import RegionOverride

LONGEST = timedelta(hours=24)
"""A process follows an override for a day at most (`RegionOverride.until_utc`): longer would promise too much."""
_FORGOTTEN_AFTER = timedelta(hours=1)
"""Expired orders are kept this long: clocks of other machines may be behind."""
_BY = re.compile(r"(.*) \(by (.+) at [-0-9]+T[0-9:]+Z\)")
"""What `order` writes as the reason."""


class LastRegionError(ValueError):
    """Every other region is evacuated already; the message says so in one line."""


def order(region: str, *, lasts: timedelta, reason: str, by: str, now_utc: datetime) -> RegionOverride:
    """Return the order to avoid `region`; who gave it and when stand in its reason.

    Raises:
        ValueError: it lasts longer than `LONGEST`, or there is no reason.
    """
    if lasts > LONGEST:
        raise ValueError("at most 24h: nobody follows an order for longer")
    said = " ".join(reason.split())
    if not said:
        raise ValueError("a reason is needed")
    return RegionOverride(
        region=region,
        kind="avoid",
        until_utc=(now_utc + lasts).replace(microsecond=0),
        reason=f"{said} (by {by} at {now_utc:%Y-%m-%dT%H:%M:%SZ})",
    )


def in_force(found: Sequence[RegionOverride], now_utc: datetime) -> tuple[RegionOverride, ...]:
    """Return those that have not ended."""
    return tuple(override for override in found if override.until_utc > now_utc)


def avoided(found: Sequence[RegionOverride], now_utc: datetime) -> frozenset[str]:
    """Return the regions that are evacuated now."""
    return frozenset(override.region for override in in_force(found, now_utc) if override.kind == "avoid")


def evacuated(in_force: Sequence[RegionOverride]) -> Mapping[str, RegionOverride]:
    """Return by region the order to avoid it; of several the one that ends last, for until then it is asked last."""
    avoiding = sorted((order for order in in_force if order.kind == "avoid"), key=lambda order: order.until_utc)
    return {order.region: order for order in avoiding}


def reason_and_by(override: RegionOverride) -> tuple[str, str | None]:
    """Return the reason and who gave the order; None: somebody wrote it by hand, without `order`."""
    found = _BY.fullmatch(override.reason)
    return (found[1], found[2]) if found else (override.reason, None)


def refuse_last(found: Sequence[RegionOverride], region: str, regions: Collection[str], now_utc: datetime) -> None:
    """Refuse to evacuate `region` where no other of `regions` is left.

    Raises:
        LastRegionError: none is.
    """
    gone = avoided(found, now_utc)
    if not set(regions) - gone - {region}:
        others = ", ".join(sorted(set(regions) & gone - {region}))
        first = f"; return one of {others} first" if others else ""
        raise LastRegionError(f"{region} is the last region that is not evacuated{first}")


def with_order(found: Sequence[RegionOverride], new: RegionOverride, now_utc: datetime) -> tuple[RegionOverride, ...]:
    """Return what is to be written: everybody's orders and the new one, without those that ended long ago."""
    return (*_remembered(found, now_utc), new)


def without(found: Sequence[RegionOverride], region: str, now_utc: datetime) -> tuple[RegionOverride, ...]:
    """Return what is to be written when nobody avoids `region` any more."""
    return tuple(o for o in _remembered(found, now_utc) if (o.region, o.kind) != (region, "avoid"))


def document(overrides: Sequence[RegionOverride]) -> str:
    """Return the text that `kms_core.overrides.parse_overrides` reads."""
    listed = [
        {"region": o.region, "kind": o.kind, "until_utc": o.until_utc.isoformat(), "reason": o.reason}
        for o in overrides
    ]
    return json.dumps({"overrides": listed}, ensure_ascii=False, indent=1) + "\n"


def _remembered(found: Sequence[RegionOverride], now_utc: datetime) -> tuple[RegionOverride, ...]:
    return tuple(o for o in found if o.until_utc > now_utc - _FORGOTTEN_AFTER)
