"""Which series there are: all that can be, few enough, and each canary's answers in them; facts become gauges."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from daemon_kit import START
from metrics_story import KEYS, REGIONS, all_subjects, installation, look, told

from kms_watchdog import metrics
from kms_watchdog.results import Kind, Mode, Outcome, Reason, pair
from kms_watchdog.sinks import facts
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import DRILL_KINDS, TIMED_KINDS, all_series, result_label, results_of

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PARKER_FLIGHT = (("us-east-1", "us-west-2", "eu-west-1"), ("general", "pii", "payment"))
MOST_SERIES = 3100
"""In daemon/README.md too."""


@pytest.fixture
def sink() -> PrometheusSink:
    """Of the small installation, every series at 0."""
    exposition = Exposition()
    exposition.create(all_series(installation(REGIONS, KEYS)))
    made = PrometheusSink(exposition, regions=REGIONS)
    made.begin()
    return made


def lines(exposition: Exposition) -> list[str]:
    return [line for line in exposition.render("")[0].decode().splitlines() if not line.startswith("#")]


def value(sink: PrometheusSink, series: str) -> float:
    (found,) = [line for line in lines(sink.exposition) if line.startswith(f"kms_watchdog_{series} ")]
    return float(found.rpartition(" ")[2])


def test_the_exposition_is_the_golden_one() -> None:
    """Whoever changes a name, a label or a help text sees it in the diff, and so does who reviews it."""
    assert told().render("")[0].decode() == GOLDEN.read_text(encoding="utf-8")


def test_promtool_finds_no_fault_with_it() -> None:
    """Prometheus's own linter, where Debian's package is installed; in CI it is."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "CI installs prometheus, which has promtool"
        pytest.skip("no promtool here: it comes with Debian's prometheus")

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=told().render("")[0], capture_output=True, check=False
    )

    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


def test_openmetrics_tells_units() -> None:
    """Where the name ends with one, as the format demands."""
    body = told().render(OPENMETRICS)[0].decode()

    assert "# UNIT kms_watchdog_canary_duration_seconds seconds" in body
    assert "# UNIT kms_watchdog_headroom_quota_ratio ratio" in body
    assert "# UNIT kms_watchdog_canary_runs" not in body


def test_the_number_of_series_is_bounded() -> None:
    """Every kind of canary over three regions and three keys; what is said of them adds a handful."""
    exposition = Exposition()
    exposition.create(all_series(installation(*PARKER_FLIGHT)))

    assert len(list(all_subjects(*PARKER_FLIGHT))) == 89
    assert 2000 < len(lines(exposition)) < MOST_SERIES
    assert f"under {MOST_SERIES:,} series" in (GOLDEN.parents[3] / "daemon" / "README.md").read_text(encoding="utf-8")


def test_what_happens_adds_only_what_nobody_can_know_before(sink: PrometheusSink) -> None:
    """Names of drills, alarms, proxies and key ids; all else is there at 0."""
    before = {line.rpartition(" ")[0] for line in lines(sink.exposition)}

    after = {line.rpartition(" ")[0] for line in lines(told())}

    added = {name.partition("{")[0].removeprefix("kms_watchdog_").removesuffix("_total") for name in after - before}
    unknown = {
        "alarm_last_fired_timestamp_seconds",
        "build_info",
        "canary_interval_seconds",
        "faults_active",
        "key_info",
    }
    assert before <= after
    assert {name for name in added if not name.startswith(("drill_", "faults_healed"))} == unknown


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kinds_reasons_are_its_own(kind: Kind) -> None:
    """Success, blind, error and timeout always; no reason twice, and none that means BLIND."""
    found = results_of(kind)

    assert found[:4] == ("success", "blind", "error", "timeout")
    assert len(set(found)) == len(found)
    assert not {Reason.NO_CREDENTIALS, Reason.OWN_DEADLINE, Reason.CRASHED, Reason.UNREADABLE} & set(found)


def test_every_reason_of_a_failure_is_some_kinds() -> None:
    """One that stands nowhere would be counted as an error for ever."""
    blind_only = {Reason.NO_CREDENTIALS, Reason.OWN_DEADLINE, Reason.CRASHED, Reason.UNREADABLE}

    assert {result for kind in Kind for result in results_of(kind)} == {"success", "blind", *(set(Reason) - blind_only)}


def test_a_reason_that_its_kind_does_not_declare_is_an_error_and_said_once(sink: PrometheusSink) -> None:
    """A canary's slip makes no series that alarms do not know."""
    slip = look(Kind.CLOCK_OFFSET, reason=Reason.DRIFT)

    with structlog.testing.capture_logs() as logs:
        sink.write(slip)
        sink.write(slip)

    assert result_label(slip) == "error"
    labels = 'canary="clock_offset",key="",mode="live",region="us-east-1",result="error"'
    assert value(sink, f"canary_runs_total{{{labels}}}") == 2
    assert [entry["event"] for entry in logs] == ["metrics.reason_undeclared"]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_drills_series_are_those_of_what_drills_run(sink: PrometheusSink, kind: Kind) -> None:
    """Others would stand at 0 for ever; and a histogram is only where a duration says something."""
    up = [line for line in lines(sink.exposition) if f'canary_up{{canary="{kind}"' in line]
    timed = [line for line in lines(sink.exposition) if f'canary_duration_seconds_count{{canary="{kind}"' in line]

    assert any('mode="live"' in line for line in up)
    assert any('mode="drill"' in line for line in up) is (kind in DRILL_KINDS)
    assert bool(timed) is (kind in TIMED_KINDS)


def test_a_message_over_two_regions_is_counted_by_both(sink: PrometheusSink) -> None:
    """Where it was sealed, where it was opened; and in `canary_runs_total` with both in one label."""
    sink.write(look(Kind.CROSS_REGION, region=pair(*REGIONS), reason=Reason.MISMATCH))

    where = 'decrypt_region="us-west-2",encrypt_region="us-east-1",key="pii",mode="live",result="mismatch"'
    assert value(sink, f"cross_region_decrypt_runs_total{{{where}}}") == 1
    labels = 'canary="cross_region",key="pii",mode="live",region="us-east-1:us-west-2",result="mismatch"'
    assert value(sink, f"canary_runs_total{{{labels}}}") == 1


def test_facts_become_gauges_and_ages_become_times(sink: PrometheusSink) -> None:
    """An age would stand still while nobody looks."""
    ended_at = START.timestamp() + 0.04
    sink.write(look(Kind.GOLDEN, facts={"messages": 3.0, "oldest_age_seconds": 60.0}))
    sink.write(look(Kind.COLD_CONNECTION, facts={"certificate_days_left": 2.0}, steps={"tls": 0.2}))
    sink.write(look(Kind.CLOCK_OFFSET, facts={"offset_seconds": -3.0}))

    assert value(sink, 'golden_messages{key="pii",region="us-east-1"}') == 3
    assert value(sink, 'golden_oldest_message_timestamp_seconds{key="pii",region="us-east-1"}') == ended_at - 60
    assert value(sink, 'certificate_expiry_timestamp_seconds{region="us-east-1"}') == ended_at + 172_800
    assert value(sink, 'connection_step_seconds{region="us-east-1",step="tls"}') == 0.2
    assert value(sink, 'clock_offset_seconds{region="us-east-1"}') == -3


def test_a_blind_look_leaves_what_was_known(sink: PrometheusSink) -> None:
    """It saw nothing: neither that the key is well nor that it is not; the time of the last check tells."""
    where = '{key="pii",region="us-east-1"}'
    sink.write(look(Kind.KEY_STATE, facts={"usable": 1.0}))

    sink.write(look(Kind.KEY_STATE, reason=Reason.UNREADABLE, outcome=Outcome.BLIND, at=600, facts={"usable": 0.0}))

    assert value(sink, f"key_usable{where}") == 1
    assert value(sink, 'metadata_last_check_timestamp_seconds{region="us-east-1"}') == START.timestamp() + 0.04


def test_a_drills_look_changes_no_gauge_of_the_live_keys(sink: PrometheusSink) -> None:
    """Its fault touches its own clients alone."""
    sink.write(look(Kind.KEY_STATE, facts={"usable": 1.0}))

    sink.write(look(Kind.KEY_STATE, facts={"usable": 0.0, "state": "x", "key_id": "y"}, mode=Mode.DRILL))

    assert value(sink, 'key_usable{key="pii",region="us-east-1"}') == 1
    assert not [line for line in lines(sink.exposition) if "_key_info" in line]


def test_a_key_has_one_info_at_a_time(sink: PrometheusSink) -> None:
    """Two would make every join with it fail."""
    seen = look(Kind.KEY_STATE, facts={"state": "Enabled", "key_id": "mrk-1", "primary": True})
    sink.write(seen)

    sink.write(replace(seen, facts={**seen.facts, "state": "PendingDeletion"}))

    infos = [line for line in lines(sink.exposition) if "_key_info" in line]
    assert len(infos) == 1
    assert 'key_id="mrk-1",primary="true",region="us-east-1",state="PendingDeletion"' in infos[0]


def test_every_field_of_drift_has_a_series(sink: PrometheusSink) -> None:
    """Each at 0 from the start."""
    for field in facts.DRIFT_FIELDS:
        assert value(sink, f'replica_drift{{field="{field}",key="pii",region="us-west-2"}}') == 0


@pytest.mark.parametrize("metric", metrics.PROMETHEUS, ids=lambda metric: metric.name)
def test_a_unit_is_the_names_end(metric: metrics.Metric) -> None:
    """So that text, OpenMetrics and OpenTelemetry agree on it."""
    bare = metric.name.removesuffix("_total")

    assert metric.unit in {"seconds", "ratio", ""}
    assert bare.endswith(f"_{metric.unit}") if metric.unit else not bare.endswith(("_seconds", "_ratio"))
