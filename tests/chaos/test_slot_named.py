"""Which slot a run fills, where a trigger knows but the time for which it was scheduled."""

from __future__ import annotations

from pathlib import Path

import pytest
from guard_kit import settings_of

from kms_chaos.drill import DrillError
from kms_chaos.run import slot_named

SLOTS = """
[drills.slots.failover]
drill = "region-blackhole"
day = 3
at = "03:00"
"""


@pytest.mark.parametrize(
    ("given", "slot"),
    [
        pytest.param("failover/2026-12", "failover/2026-12", id="by-its-id"),
        pytest.param("by-hand", "by-hand", id="any-other"),
        pytest.param("", "", id="none"),
        pytest.param("failover@2026-12-03T03:00:00Z", "failover/2026-12", id="eventbridge"),
        pytest.param("failover@2026-12-03T04:00:00+01:00", "failover/2026-12", id="another-offset"),
        pytest.param("failover@2026-12-03T02:59:59Z", "failover/2026-11", id="just-before"),
    ],
)
def test_a_time_names_the_turn_that_was_due(tmp_path: Path, given: str, slot: str) -> None:
    """The id that every daemon's ledger gives it, so that it is run once."""
    assert slot_named(settings_of(tmp_path, SLOTS), given) == slot


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param("failovers@2026-12-03T03:00:00Z", "drills.slots has no failovers: failover", id="no-slot"),
        pytest.param("failover@<aws.scheduler.scheduled-time>", "is no moment of ISO 8601", id="not-filled-in"),
        pytest.param("failover@2026-12-03T03:00:00", "says no offset from UTC", id="no-offset"),
    ],
)
def test_what_names_no_turn_is_refused(tmp_path: Path, given: str, why: str) -> None:
    """Else it would be a slot of its own, and the drill would run twice."""
    with pytest.raises(DrillError, match=why):
        slot_named(settings_of(tmp_path, SLOTS), given)
