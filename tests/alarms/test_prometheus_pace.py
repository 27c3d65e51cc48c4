"""Rules whose times are shortened, for tests that wait for them: alike, and then none beyond the longest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kms_alarms import prometheus
from kms_alarms.prometheus import Pace
from kms_watchdog.config import Settings, load

ROOT = Path(__file__).parents[2]
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(ROOT / "daemon" / "watchdog.example.toml")


def seconds(duration: str) -> float:
    found = DURATION.fullmatch(duration)
    assert found, duration
    days, hours, minutes, whole, thousandths = (int(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + whole + thousandths / 1000


def rules(text: str) -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_no_time_is_longer_than_the_longest(settings: Settings) -> None:
    """Neither how long a rule waits, nor how far it looks back, nor what it compares an age with."""
    found = rules(prometheus.render(settings, scale=0.25, at_most_seconds=60.0))

    waits = [rule[name] for rule in found for name in ("for", "keep_firing_for") if name in rule]
    looks_back = [one for rule in found for one in re.findall(r"\[(\w+)\]", rule["expr"])]
    assert max(map(seconds, waits)) == max(map(seconds, looks_back)) == 60
    [unproven] = [rule for rule in found if rule.get("alert") == "KmsAlarmUnproven"]
    assert unproven["expr"].endswith("> 60")


def test_short_times_are_scaled_and_not_stretched(settings: Settings) -> None:
    """The longest is a limit, not a floor."""
    by_name = {rule.get("alert"): rule for rule in rules(prometheus.render(settings, scale=0.25, at_most_seconds=60.0))}

    assert by_name["KmsReloadFailed"]["for"] == "15s"
    assert by_name["KmsDrillsHalted"]["for"] == "1m"


@pytest.mark.parametrize(
    ("pace", "shortened"),
    [
        pytest.param(Pace(), 604_800, id="as-written"),
        pytest.param(Pace(0.1), 60_480, id="scaled"),
        pytest.param(Pace(0.1, 60.0), 60, id="cut-off"),
        pytest.param(Pace(1.0, 60.0), 60, id="cut-off-alone"),
    ],
)
def test_a_week_becomes(pace: Pace, shortened: float) -> None:
    """First shorter by the scale, then no longer than the longest."""
    assert pace.of(604_800) == pytest.approx(shortened)
