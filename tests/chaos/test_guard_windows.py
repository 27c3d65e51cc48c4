"""Windows and blocked dates: in UTC, impossible ones refused with the configuration, leaving one is noticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from guard_kit import settings_of

from kms_chaos.guards import NotHeldError, window_is_open
from kms_core.testing import ManualClock
from kms_watchdog.config import ConfigError
from kms_watchdog.drills.windows import Calendar

OFFICE = 'windows = [{days = ["mon", "tue", "wed", "thu", "fri"], from = "09:00", to = "16:00"}]'
HOLIDAYS = 'blocked_dates = ["2026-12-24/2027-01-02", "2026-11-26"]'


def calendar(folder: Path, drills: str) -> Calendar:
    return settings_of(folder, f"[drills]\n{drills}").drills.calendar


def at(day: int, hour: int, minute: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        pytest.param(at(25, 9), "", id="first-minute"),
        pytest.param(at(25, 8, 59), "in no window", id="before"),
        pytest.param(at(25, 15, 59), "", id="last-minute"),
        pytest.param(at(25, 16), "in no window", id="end-is-outside"),
        pytest.param(at(28, 12), "in no window", id="saturday"),
        pytest.param(at(26, 12), "is blocked (2026-11-26)", id="blocked-day"),
        pytest.param(at(24, 12, month=12), "is blocked", id="first-blocked-day"),
        pytest.param(datetime(2027, 1, 2, 23, 59, tzinfo=UTC), "is blocked", id="last-blocked-day"),
        pytest.param(datetime(2027, 1, 4, 12, tzinfo=UTC), "", id="after-blocked-days"),
    ],
)
def test_a_moment_is_allowed_or_not(tmp_path: Path, moment: datetime, says: str) -> None:
    """Both ends of blocked dates count, the end of a window does not."""
    why = calendar(tmp_path, f"{OFFICE}\n{HOLIDAYS}").why_not(moment)

    assert (says in why) if says else why == ""


def test_moments_are_compared_in_utc(tmp_path: Path) -> None:
    """17:30 in Berlin is 16:30 in UTC, after the window; 00:30 there is still the blocked day before."""
    berlin = timezone(timedelta(hours=1))

    assert calendar(tmp_path, OFFICE).why_not(datetime(2026, 11, 25, 17, 30, tzinfo=berlin))
    assert "blocked" in calendar(tmp_path, HOLIDAYS).why_not(datetime(2026, 11, 27, 0, 30, tzinfo=berlin))


def test_without_windows_any_time_will_do_but_a_blocked_one(tmp_path: Path) -> None:
    """Blocked dates need no window."""
    only_holidays = calendar(tmp_path, HOLIDAYS)

    assert only_holidays.why_not(at(28, 3)) == ""
    assert only_holidays.why_not(at(26, 3))


def test_a_window_may_last_until_midnight(tmp_path: Path) -> None:
    """24:00 is the end of the day, and no other time."""
    late = calendar(tmp_path, 'windows = [{from = "22:00", to = "24:00"}]')

    assert late.why_not(at(25, 23, 59)) == ""
    assert late.why_not(at(26, 0))


@pytest.mark.parametrize(
    ("drills", "says"),
    [
        pytest.param('windows = [{from = "16:00", to = "09:00"}]', "over midnight it is two", id="backwards"),
        pytest.param('windows = [{from = "09:00", to = "09:00"}]', "ends after it begins", id="empty"),
        pytest.param('windows = [{from = "24:00", to = "24:00"}]', "ends after it begins", id="at-the-end"),
        pytest.param('windows = [{from = "09:00", to = "09:05"}]', "admits no drill", id="too-short"),
        pytest.param('windows = [{from = "9:00", to = "16:00"}]', "HH:MM", id="time"),
        pytest.param('windows = [{from = "09:00", to = "16:00", days = []}]', "at least 1", id="no-days"),
        pytest.param('windows = [{from = "09:00", to = "16:00", days = ["mon", "mon"]}]', "repeat", id="twice"),
        pytest.param('windows = [{from = "09:00", to = "16:00", days = ["monday"]}]', "'mon'", id="day"),
        pytest.param('windows = [{from = "09:00", to = "16:00", day = ["mon"]}]', "unknown key", id="misspelt"),
        pytest.param('blocked_dates = ["2026-02-30"]', "YYYY-MM-DD", id="no-such-day"),
        pytest.param('blocked_dates = ["2027-01-02/2026-12-24"]', "before it begins", id="dates-backwards"),
    ],
)
def test_what_cannot_be_is_refused_with_the_configuration(tmp_path: Path, drills: str, says: str) -> None:
    """Before any drill, by `check-config`."""
    with pytest.raises(ConfigError, match=says):
        calendar(tmp_path, drills)


def test_windows_are_shown_as_they_are_written(tmp_path: Path) -> None:
    """What `dump-config` prints can be read again."""
    shown = settings_of(tmp_path, f"[drills]\n{OFFICE}").drills.model_dump(mode="json")["windows"]

    assert shown == [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "16:00"}]


def test_a_drill_that_would_outlast_its_window_is_refused(tmp_path: Path) -> None:
    """It would be aborted for certain; during the drill only the moment counts."""
    office, clock = calendar(tmp_path, OFFICE), ManualClock(start_utc=at(25, 15, 50))

    assert "in a window" in window_is_open(office, clock)
    with pytest.raises(NotHeldError, match=r"may last 900 s, and then: Wed 16:05 UTC is in no window"):
        window_is_open(office, clock, for_seconds=900)
    clock.advance(600)
    with pytest.raises(NotHeldError, match="no drill now"):
        window_is_open(office, clock)
