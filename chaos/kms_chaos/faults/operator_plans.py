"""What people do to a region, not what befalls it: an evacuation that was planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kms_chaos.faults.ordering import Bite, FaultPlan, Ordered, bite, unlike


class Evacuation(FaultPlan):
    """The drill's core is told to ask the region last, by the same kind of order as `kms-watchdog evacuate` gives.

    Nothing is broken: canaries, which are pinned, go on asking the region, and must be answered.
    """

    kind: Literal["evacuation"]


@bite.register
def _(_plan: Evacuation) -> Bite:
    return Bite(quiet=True, whole=False)


@unlike.register
def _(_plan: Evacuation, order: Ordered, shown: Mapping[str, Any]) -> str:
    return "" if order.region in shown.get("avoided", ()) else f"the core does not avoid {order.region}"
