"""Spans of time as people write them: `30m`, `1h30m`, `7d`. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_SPAN = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")


def parse(text: str) -> timedelta:
    """Return the span that `text` says: days, hours, minutes and seconds, in this order, each at most once.

    Raises:
        ValueError: it says none, or nothing at all.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f"a time such as 30m, 2h or 1h30m, not {text!r}")
    span = timedelta(
        **{_UNITS[unit]: int(number) for unit, number in zip("dhms", found.groups(), strict=True) if number}
    )
    if not span:
        raise ValueError("a time above zero")
    return span


def spoken(span: timedelta) -> str:
    """Return `span` as `parse` reads it, rounded to whole seconds; the two largest units alone."""
    left = round(span.total_seconds())
    parts = []
    for unit, seconds in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"
