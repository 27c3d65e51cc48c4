"""Alarms of keys and regions are made to fire and to clear, and their pages are followed as printed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from alarm_path import Situation, Stand, play_all
from alarm_path_account import ESTATE

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.minutes(28), pytest.mark.timeout(3000)]


@pytest.mark.parametrize("wave", [pytest.param(situations, id=name) for name, situations in ESTATE.items()])
def test_each_alarm_fires_is_looked_up_mended_and_clears(put_up: Stand, wave: Sequence[Situation]) -> None:
    """What is planted at once is told by both systems, its pages lead to its end, and both tell that it is over."""
    play_all(put_up, wave)
