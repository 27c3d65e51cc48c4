"""How many Prometheus series a configuration makes: counted as a scrape sees them, refused when they are too many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from daemon_kit import REGIONS, result

from kms_core import ConfigurationError
from kms_core.testing import ManualClock
from kms_watchdog import metrics
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command
from kms_watchdog.config import load
from kms_watchdog.installed_series import series_of
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import Series, samples

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration with so many keys; `prometheus` are that table's lines."""

    def write_it(keys: int, prometheus: str = "", kinds: str = '["round_trip"]') -> Path:
        path = tmp_path / "watchdog.toml"
        lines = ["[estate]", 'account_id = "123456789012"', f'primary_region = "{REGIONS[0]}"']
        lines += [f"regions = {list(REGIONS)}".replace("'", '"')]
        for number in range(keys):
            lines += [f"[keys.k{number}]", f'alias = "alias/k{number}"']
        lines += ["[canaries]", f"kinds = {kinds}", "[state]", 'dir = "state"', "[prometheus]", prometheus]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write_it


def made(path: Path) -> frozenset[Series]:
    settings = load(path, environ={})
    return series_of(settings, live_canaries(Ports(settings, ManualClock())))


@pytest.mark.parametrize("by_key", ["true", "false"])
def test_what_is_counted_is_what_a_scrape_sees(write: Write, by_key: str) -> None:
    """Every line of the exposition that is no comment is one series, and the count says how many there will be."""
    series = made(write(3, f"counted_by_key = {by_key}", kinds='["round_trip", "cross_region", "golden", "key_state"]'))
    exposition = Exposition(metric for metric in metrics.PROMETHEUS if metric.labels)
    exposition.create(one for one in series if one[0].labels)

    lines = [line for line in exposition.render("")[0].splitlines() if not line.startswith(b"#")]

    assert len(lines) == samples(one for one in series if one[0].labels)


def test_a_hundred_thousand_series_are_refused(write: Write) -> None:
    """By every command that would make them, in one line that says how many they would be and what to do."""
    path = write(700)

    refused = CliRunner().invoke(command, ["check-config", "--config", str(path)])

    assert refused.exit_code == 2
    assert "prometheus.max_series: 700 keys would make 120," in refused.stderr
    assert "more than 100,000: set prometheus.counted_by_key = false (20," in refused.stderr
    assert refused.stderr.count("\n") == 1
    with pytest.raises(ConfigurationError, match="watch fewer keys"):
        made(path)


@pytest.mark.parametrize(
    "prometheus",
    [pytest.param("counted_by_key = false", id="together"), pytest.param("max_series = 200000", id="raised")],
)
def test_what_the_refusal_says_helps(write: Write, prometheus: str) -> None:
    """Either way out of it is one."""
    found = CliRunner().invoke(command, ["check-config", "--config", str(write(700, prometheus))])

    assert found.exit_code == 0, found.output
    assert "series, at most" in found.stdout


def test_where_nothing_can_be_counted_together_nothing_is_advised(write: Write) -> None:
    """The advice is not repeated to who has taken it."""
    with pytest.raises(ConfigurationError, match=r"more than 1,000: watch fewer keys") as refused:
        made(write(700, "counted_by_key = false\nmax_series = 1000"))

    assert "counted_by_key" not in str(refused.value)


def test_counted_together_each_key_still_shows_whether_it_is_well(write: Write) -> None:
    """Gauges by key, which alarms name a key by; one counter and one histogram for all keys of a region; none new."""
    series = made(write(3, "counted_by_key = false"))
    exposition = Exposition()
    exposition.create(series)
    sink = PrometheusSink(exposition, regions=REGIONS, counted_by_key=False)
    sink.begin()
    before = len(exposition.render("")[0].splitlines())

    for key in ("k0", "k1"):
        sink.write(result(region=REGIONS[0], key=key))
    text = exposition.render("")[0].decode()

    labels = f'canary="round_trip",key="{{}}",mode="live",region="{REGIONS[0]}"'
    assert f"kms_watchdog_canary_up{{{labels.format('k0')}}} 1.0" in text
    assert f"kms_watchdog_canary_up{{{labels.format('k2')}}} 0.0" in text
    assert f'kms_watchdog_canary_runs_total{{{labels.format("")},result="success"}} 2.0' in text
    assert f"kms_watchdog_canary_duration_seconds_count{{{labels.format('')}}} 2.0" in text
    assert len(text.splitlines()) == before
