"""The Prometheus sink: every series there from the start, and what happened counted where it belongs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from daemon_kit import START, result

from kms_core.events import (
    Attempt,
    BreakerMoved,
    CacheLookup,
    Event,
    FailedOver,
    KeyQuarantined,
    OverridesUnreadable,
    StaleKeyUsed,
)
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Board, Health, Status, Subject, assess, board
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import ERROR_TYPES, Cardinality, all_series, error_type, result_label
from kms_watchdog.sinks.sink import AlarmMoved, DrillChange, Seen

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
SUBJECTS = tuple(Subject("round_trip", region, key) for region in REGIONS for key in ("general", "pii", "payment"))
INSTALLATION = Cardinality(
    subjects=SUBJECTS, regions=REGIONS, publish_regions=REGIONS[:2], job_kinds=("canary.round_trip", "heartbeat")
)


@pytest.fixture
def sink() -> PrometheusSink:
    exposition = Exposition()
    exposition.create(all_series(INSTALLATION))
    made = PrometheusSink(exposition, regions=REGIONS)
    made.begin()
    return made


def samples(sink: PrometheusSink) -> dict[str, float]:
    """Every series and its value."""
    text = sink.exposition.render("")[0].decode()
    return {name: float(value) for name, _, value in (li.rpartition(" ") for li in text.splitlines() if li[0] != "#")}


def value(sink: PrometheusSink, metric: str, **labels: str) -> float:
    inside = ",".join(f'{name}="{labels[name]}"' for name in sorted(labels))
    return samples(sink)[f"kms_watchdog_{metric}" + (f"{{{inside}}}" if inside else "")]


def drill_change(*, active: bool, verdict: Verdict | None = None, at: float = 0.0) -> DrillChange:
    at_utc = START + timedelta(seconds=at)
    return DrillChange(
        run_id="r", drill="region-blackhole", region="us-east-1", active=active, verdict=verdict, at_utc=at_utc
    )


def test_what_is_declared_is_exported_and_nothing_else(sink: PrometheusSink) -> None:
    """`metrics.py` is the one list of names."""
    text = sink.exposition.render("")[0].decode()

    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))

    assert kinds == {m.full_name: m.kind for m in metrics.PROMETHEUS}


def test_a_series_that_comes_back_is_shown(sink: PrometheusSink) -> None:
    """One that was removed and is set again: as after two reloads, away from a region and back to it."""
    of = ("gone-and-back",)
    sink.exposition.put(metrics.FAULTS_ACTIVE, *of, value=1)
    sink.exposition.remove(metrics.FAULTS_ACTIVE, *of)
    away = [name for name in samples(sink) if "gone-and-back" in name]

    sink.exposition.put(metrics.FAULTS_ACTIVE, *of, value=2)

    assert away == []
    assert [number for name, number in samples(sink).items() if "gone-and-back" in name] == [2]


def test_no_created_series(sink: PrometheusSink) -> None:
    """They cost a series for each counter and histogram, and nobody reads them."""
    assert not [name for name in samples(sink) if "_created" in name]


@pytest.mark.parametrize("mode", list(Mode))
def test_every_result_of_every_canary_is_there_at_zero(sink: PrometheusSink, mode: Mode) -> None:
    """A series that appears with its first failure hides it from `increase()`."""
    for s in SUBJECTS:
        for label in ("success", "blind", "error", "timeout", "throttled", "denied", "mismatch"):
            labels = {"canary": s.canary, "region": s.region, "key": s.key, "mode": str(mode), "result": label}
            assert value(sink, "canary_runs_total", **labels) == 0


def test_the_number_of_series_is_known(sink: PrometheusSink) -> None:
    """Round trips alone stay near a thousand series, whatever servers answer."""
    before = len(samples(sink))

    for code in ("SomethingNew", "Another", *ERROR_TYPES):
        sink.on_event(live(attempt(code)))

    assert before < 1200
    assert len(samples(sink)) == before


def attempt(code: str, **more: Any) -> Attempt:
    return Attempt(
        region="us-east-1",
        operation="Decrypt",
        purpose="pii",
        seconds=0.02,
        error_code=code,
        request_id="",
        pinned=True,
        **more,
    )


def live(event: Event, mode: Mode = Mode.LIVE) -> Seen:
    return Seen(event=event, mode=mode, at_utc=START)


@pytest.mark.parametrize(
    ("given", "label"),
    [
        pytest.param(result(), "success", id="ok"),
        pytest.param(result(Outcome.BLIND), "blind", id="blind"),
        pytest.param(result(Outcome.FAILED, reason=Reason.DENIED), "denied", id="denied"),
    ],
)
def test_a_look_is_counted_by_its_result(sink: PrometheusSink, given: CanaryResult, label: str) -> None:
    """Success, blind, or the reason."""
    labels = {"canary": "round_trip", "region": "us-east-1", "key": "general", "mode": "live"}

    sink.write(given)

    assert result_label(given) == label
    assert value(sink, "canary_runs_total", **labels, result=label) == 1
    assert value(sink, "canary_up", **labels) == (given.outcome is Outcome.OK)
    assert value(sink, "canary_duration_seconds_count", **labels) == 1


def test_times_are_told_not_ages(sink: PrometheusSink) -> None:
    """0 is never; last success stays when a failure follows."""
    labels = {"canary": "round_trip", "region": "us-east-1", "key": "general", "mode": "live"}
    assert value(sink, "canary_last_success_timestamp_seconds", **labels) == 0

    sink.write(result(at=10, seconds=0.5))
    sink.write(result(Outcome.FAILED, at=20, seconds=0.5))

    assert value(sink, "canary_last_success_timestamp_seconds", **labels) == START.timestamp() + 10.5
    assert value(sink, "canary_last_run_timestamp_seconds", **labels) == START.timestamp() + 20.5


def test_a_drills_looks_never_touch_the_live_numbers(sink: PrometheusSink) -> None:
    """Same names, mode="drill": they never burn the live budget."""
    before = {name: number for name, number in samples(sink).items() if 'mode="live"' in name}

    sink.write(result(Outcome.FAILED, mode=Mode.DRILL))
    sink.on_event(live(BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures"), Mode.DRILL))

    assert {name: number for name, number in samples(sink).items() if 'mode="live"' in name} == before
    assert value(sink, "circuit_breaker_state", region="us-east-1", state="open", mode="drill") == 1


def test_exactly_one_state_of_a_breaker_is_one(sink: PrometheusSink) -> None:
    """One series a state."""
    sink.on_event(live(BreakerMoved(region="us-east-1", old="closed", new="half_open", cause="cooldown_over")))

    states = [
        value(sink, "circuit_breaker_state", region="us-east-1", state=state, mode="live")
        for state in ("closed", "half_open", "open")
    ]
    assert states == [0, 1, 0]
    assert value(sink, "circuit_breaker_transitions_total", region="us-east-1", to="half_open", mode="live") == 1


def test_attempts_are_counted_by_error_type(sink: PrometheusSink) -> None:
    """Empty on success; what is not on the list is `_OTHER`; a drill's stay in its journal."""
    sink.on_event(live(attempt("")))
    sink.on_event(live(attempt("MadeUpException")))
    sink.on_event(live(attempt(""), Mode.DRILL))

    labels = {"region": "us-east-1", "operation": "Decrypt"}
    assert value(sink, "kms_requests_total", **labels, error_type="") == 1
    assert value(sink, "kms_requests_total", **labels, error_type="_OTHER") == 1
    assert error_type("Deadline") == "Deadline"


def test_failovers_are_counted_by_pair(sink: PrometheusSink) -> None:
    """From where to where."""
    sink.on_event(live(FailedOver(from_region="us-east-1", to_region="eu-west-1", operation="Decrypt", purpose="pii")))

    assert value(sink, "failovers_total", from_region="us-east-1", to_region="eu-west-1", mode="live") == 1


@pytest.mark.parametrize("mode", list(Mode))
def test_what_the_core_says_of_keys_and_orders_is_counted(sink: PrometheusSink, mode: Mode) -> None:
    """Of this daemon's own core; a drill's is in its journal."""
    for event in (
        StaleKeyUsed(purpose="pii", operation="encrypt", age_seconds=400.0),
        KeyQuarantined(region="us-east-1", purpose="pii", error_code="DisabledException", seconds=30.0),
        OverridesUnreadable(source="overrides.json", reason="torn"),
    ):
        sink.on_event(live(event, mode))

    told = float(mode is Mode.LIVE)
    assert value(sink, "stale_data_key_uses_total", key="pii") == told
    assert value(sink, "key_quarantines_total", region="us-east-1", key="pii") == told
    assert value(sink, "overrides_unreadable_total") == told


def test_an_orphaned_drill_does_not_run_and_has_not_ended(sink: PrometheusSink) -> None:
    """Its faults are leaked ones; how it ended is counted when somebody closes it."""
    over = drill_change(active=False, verdict=Verdict.BROKE)

    def shown() -> tuple[float, float]:
        return value(sink, "drill_active", drill=over.drill), value(
            sink, "drill_runs_total", drill=over.drill, result="broke"
        )

    told = []
    for change in (drill_change(active=True), replace(over, orphaned=True), over):
        sink.on_drill(change)
        told.append(shown())

    assert told == [(1, 0), (0, 0), (0, 1)]


def test_orders_that_cannot_be_read_show_as_long_as_it_is_so(sink: PrometheusSink) -> None:
    """Also those that could not be read at the start, of which no count would tell."""
    told = []
    for why in ("not a list of overrides", ""):
        sink.on_orders_unreadable(why)
        told.append(value(sink, "region_orders_unreadable"))

    assert told == [1.0, 0.0]


def health(standing: Board) -> Health:
    return assess(standing, {}, now=0, stale_after_seconds={"round_trip": 90})


def test_health_is_shown_as_one_of_three(sink: PrometheusSink) -> None:
    """Exactly one status is 1."""
    sink.on_health(health(board(SUBJECTS)))

    assert [value(sink, "health_status", status=str(status)) for status in Status] == [0, 0, 1]
    assert value(sink, "region_healthy", region="us-east-1", mode="live") == 0


def test_a_drills_region_goes_down_and_comes_back(sink: PrometheusSink) -> None:
    """Three failures in the journal; healthy again when the drill is over."""
    standing = board(SUBJECTS)
    for i in range(3):
        standing = standing.fold(result(Outcome.FAILED, mode=Mode.DRILL, at=i), now=i)

    sink.on_board(standing, Mode.DRILL)
    during = value(sink, "region_healthy", region="us-east-1", mode="drill")
    sink.on_board(board(SUBJECTS), Mode.DRILL)

    assert (during, value(sink, "region_healthy", region="us-east-1", mode="drill")) == (0, 1)
    assert value(sink, "region_healthy", region="us-east-1", mode="live") == 0


def test_failures_in_a_row_are_shown_until_an_ok(sink: PrometheusSink) -> None:
    """BLIND neither adds to them nor ends them."""
    labels = {"canary": "round_trip", "region": "us-east-1", "key": "general", "mode": "live"}
    seen = []

    for outcome in (Outcome.FAILED, Outcome.BLIND, Outcome.FAILED, Outcome.OK):
        sink.write(result(outcome))
        seen.append(value(sink, "canary_consecutive_failures", **labels))

    assert seen == [1, 1, 2, 0]


def test_a_drills_failures_in_a_row_end_with_it(sink: PrometheusSink) -> None:
    """The live ones do not."""
    labels = {"canary": "round_trip", "region": "us-east-1", "key": "general"}
    sink.write(result(Outcome.FAILED, mode=Mode.DRILL))
    sink.write(result(Outcome.FAILED))

    sink.on_drill(drill_change(active=False))

    assert value(sink, "canary_consecutive_failures", **labels, mode="drill") == 0
    assert value(sink, "canary_consecutive_failures", **labels, mode="live") == 1


def test_an_evacuated_region_shows_and_comes_back(sink: PrometheusSink) -> None:
    """There from the start, at 0; gone with the order, whatever region it was."""
    told = []
    for evacuated in ([], ["us-east-1"], ["mars"]):
        sink.on_evacuated(evacuated)
        told.append(tuple(value(sink, "region_evacuated", region=region) for region in ("us-east-1", "us-west-2")))

    assert told == [(0, 0), (1, 0), (0, 0)]


def test_cache_lookups_and_retries_are_counted(sink: PrometheusSink) -> None:
    """Live ones; a hit and a miss apart."""
    for hit in (True, True, False):
        sink.on_event(live(CacheLookup(purpose="pii", operation="encrypt", hit=hit)))
    sink.on_event(live(attempt("", retry=True)))
    sink.on_event(live(attempt("")))

    assert value(sink, "data_key_cache_requests_total", result="hit") == 2
    assert value(sink, "data_key_cache_requests_total", result="miss") == 1
    assert value(sink, "kms_retries_total", region="us-east-1", operation="Decrypt") == 1


def test_the_caches_own_counts_are_taken_over(sink: PrometheusSink) -> None:
    """It counts since the start; what was told before is not added again."""
    sink.on_core(5, {"expired": 2, "used_up": 0, "full": 1})
    sink.on_core(4, {"expired": 3, "used_up": 0, "full": 1})

    assert value(sink, "data_key_cache_entries") == 4
    assert value(sink, "data_key_cache_evictions_total", reason="expired") == 3
    assert value(sink, "data_key_cache_evictions_total", reason="full") == 1


@pytest.mark.parametrize(
    ("code", "wanted", "label"),
    [
        pytest.param("IncorrectKeyException", True, "", id="wanted"),
        pytest.param("IncorrectKeyException", False, "IncorrectKeyException", id="not-wanted"),
        pytest.param("ThrottlingException", True, "ThrottlingException", id="not-that-refusal"),
    ],
)
def test_a_refusal_that_was_asked_for_is_no_error(sink: PrometheusSink, code: str, wanted: bool, label: str) -> None:  # noqa: FBT001 - a parameter of the test
    """A must-fail canary in order would look like a KMS that fails."""
    sink.on_event(live(attempt(code, refusal_wanted=wanted)))

    assert value(sink, "kms_requests_total", region="us-east-1", operation="Decrypt", error_type=label) == 1


def test_a_drill_tells_what_it_measured(sink: PrometheusSink) -> None:
    """Seconds to detect and to recover, and when its alarms moved."""
    fired = AlarmMoved(fired_at=START.timestamp() + 30)
    cleared = AlarmMoved(fired_at=START.timestamp() + 40, cleared_at=START.timestamp() + 90)

    sink.on_drill(
        replace(
            drill_change(active=False, verdict=Verdict.HELD),
            detection_seconds=4.5,
            alarms={"fired": fired, "cleared": cleared},
        )
    )

    seen = samples(sink)
    assert value(sink, "drill_detection_seconds", drill="region-blackhole") == 4.5
    assert value(sink, "drill_recovery_seconds", drill="region-blackhole") == 0
    assert value(sink, "alarm_last_fired_timestamp_seconds", alarm="fired", system="cloudwatch") == fired.fired_at
    assert (
        value(sink, "alarm_last_cleared_timestamp_seconds", alarm="cleared", system="cloudwatch") == cleared.cleared_at
    )
    assert not [name for name in seen if 'alarm_last_cleared_timestamp_seconds{alarm="fired"' in name]


def test_a_reload_forgets_nothing_that_is_shown(sink: PrometheusSink) -> None:
    """Failures in a row go on; of a key whose state changes later, the old `key_info` goes."""
    labels = {"canary": "round_trip", "region": "us-east-1", "key": "general", "mode": "live"}
    facts = {"state": "Enabled", "key_id": "mrk-1", "primary": True}
    key_state = replace(result(), canary="key_state", facts=facts)
    sink.write(result(Outcome.FAILED))
    sink.write(key_state)

    after = PrometheusSink(sink.exposition, regions=REGIONS)
    after.begin(sink)
    after.write(result(Outcome.FAILED))
    after.write(replace(key_state, facts={**facts, "state": "Disabled"}))

    assert value(sink, "canary_consecutive_failures", **labels) == 2
    infos = [name for name in samples(sink) if "_key_info" in name]
    assert len(infos) == 1
    assert 'state="Disabled"' in infos[0]


def test_nothing_is_shown_before_it_begins() -> None:
    """A daemon that is built to take over, and then does not, disturbs no number."""
    exposition = Exposition()

    PrometheusSink(exposition, regions=REGIONS)

    assert b"circuit_breaker_state{" not in exposition.render("")[0]


@pytest.mark.parametrize(
    ("verdict", "label", "success"),
    [
        pytest.param(Verdict.HELD, "held", 60.0, id="held"),
        pytest.param(Verdict.BROKE, "broke", None, id="broke"),
        pytest.param(Verdict.INCONCLUSIVE, "inconclusive", None, id="inconclusive"),
        pytest.param(None, "inconclusive", None, id="nobody-judged"),
    ],
)
def test_a_drills_end_is_counted_by_verdict(
    sink: PrometheusSink, verdict: Verdict | None, label: str, success: float | None
) -> None:
    """Only what held is a success; what nobody judged is inconclusive."""
    drill = {"drill": "region-blackhole"}
    sink.on_drill(drill_change(active=True))
    assert value(sink, "drill_active", **drill) == 1

    sink.on_drill(drill_change(active=False, verdict=verdict, at=60))

    assert value(sink, "drill_active", **drill) == 0
    assert value(sink, "drill_runs_total", **drill, result=label) == 1
    assert value(sink, "drill_last_run_timestamp_seconds", **drill) == START.timestamp() + 60
    expected = 0 if success is None else START.timestamp() + success
    assert value(sink, "drill_last_success_timestamp_seconds", **drill) == expected


def test_a_drill_takes_its_breakers_along(sink: PrometheusSink) -> None:
    """Killed with an open breaker, it leaves none behind on the dashboards."""
    sink.on_event(live(BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures"), Mode.DRILL))

    sink.on_drill(drill_change(active=False))

    assert value(sink, "circuit_breaker_state", region="us-east-1", state="closed", mode="drill") == 1


def test_jobs_are_counted_by_kind(sink: PrometheusSink) -> None:
    """Kinds are a closed list; ids are not."""
    look = Job(id="x", kind="heartbeat", action=print, interval_seconds=1, pool="p")

    sink.on_job(look, "executed", 0.002)
    sink.on_job(look, "missed", None)

    assert value(sink, "scheduler_jobs_total", job="heartbeat", result="executed") == 1
    assert value(sink, "scheduler_jobs_total", job="heartbeat", result="missed") == 1
    assert value(sink, "scheduler_job_lag_seconds_count", job="heartbeat") == 1


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        pytest.param("", "text/plain; version=0.0.4", b"", id="text"),
        pytest.param(
            "application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n", id="om"
        ),
    ],
)
def test_the_scraper_gets_the_form_it_asks_for(
    sink: PrometheusSink, accept: str, content_type: str, end: bytes
) -> None:
    """Text, or OpenMetrics if that is what it accepts."""
    body, said = sink.exposition.render(accept)

    assert said.startswith(content_type)
    assert body.endswith(end)


def test_names_follow_the_conventions() -> None:
    """Prefix, base units, `_total` on counters and on nothing else."""
    for m in metrics.PROMETHEUS:
        assert m.full_name.startswith("kms_watchdog_")
        assert m.name.endswith("_total") == (m.kind == "counter")
        assert (m.kind == "histogram") == bool(m.buckets)
        assert m.help.endswith(".")
