"""The CloudWatch sink: counted per period, zeros said out loud, a drill's numbers apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from daemon_kit import START, result
from hypothesis import given
from hypothesis import strategies as st

from kms_core.events import Attempt, BreakerMoved
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Subject
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.sinks.cloudwatch import DRILL_TAIL_PERIODS, CloudWatchSink, Publishing
from kms_watchdog.sinks.datum import MAX_VALUES, Datum, datums
from kms_watchdog.sinks.sink import DrillChange, Seen

REGIONS = ("us-east-1", "us-west-2")
SUBJECTS = [Subject("round_trip", region, "general") for region in REGIONS]
KINDS = ("clock_offset", "round_trip")
NOW = START.timestamp()
PERIOD = 10
LIVE, DRILL = "ParkerFlight/KMS", "ParkerFlight/KMS/Drill"


def publishing(period_seconds: int = PERIOD) -> Publishing:
    return Publishing(
        namespaces={Mode.LIVE: LIVE, Mode.DRILL: DRILL},
        period_seconds=period_seconds,
        regions=REGIONS,
        monitor="test-us-east-1",
    )


@pytest.fixture
def faults() -> list[str]:
    """What nobody has undone yet."""
    return []


@pytest.fixture
def sink(faults: list[str]) -> CloudWatchSink:
    subjects = [*SUBJECTS, Subject("clock_offset", "us-east-1", "")]
    return CloudWatchSink(publishing(), subjects=subjects, now=NOW, faults=lambda: len(faults))


def find(found: Iterable[Datum], name: str, *dimensions: str, namespace: str = LIVE) -> list[Datum]:
    return [
        d for d in found if (d.namespace, d.name, tuple(v for _, v in d.dimensions)) == (namespace, name, dimensions)
    ]


def total(found: Iterable[Datum], name: str, *dimensions: str, namespace: str = LIVE) -> float:
    (datum,) = find(found, name, *dimensions, namespace=namespace)
    return sum(v * c for v, c in zip(datum.values, datum.counts, strict=True))


def change(*, active: bool, at: float, verdict: Verdict | None = None) -> DrillChange:
    at_utc = START + timedelta(seconds=at)
    return DrillChange(run_id="r", drill="d", region="us-east-1", active=active, verdict=verdict, at_utc=at_utc)


def seen(event: Attempt | BreakerMoved, *, mode: Mode = Mode.LIVE, at: float = 0.0) -> Seen:
    return Seen(event=event, mode=mode, at_utc=START + timedelta(seconds=at))


def opened(region: str = "us-east-1") -> BreakerMoved:
    return BreakerMoved(region=region, old="closed", new="open", cause="failures")


def test_looks_are_counted_per_region(sink: CloudWatchSink) -> None:
    """Runs are OK and FAILED; BLIND is counted apart, for neither side."""
    for outcome in (Outcome.OK, Outcome.FAILED, Outcome.BLIND):
        sink.write(result(outcome, at=1))

    found = sink.close(NOW + PERIOD)

    assert total(found, "CanaryRuns", "us-east-1") == 2
    assert total(found, "CanaryFailures", "us-east-1") == 1
    assert total(found, "CanaryBlind", "us-east-1") == 1


def test_a_clock_set_back_silences_nothing(sink: CloudWatchSink) -> None:
    """It spoke for no period before its first one: for a day after a step of a day, no zero and no state was told."""
    sink.close(NOW + PERIOD)

    sink.close(NOW - 86_400 + PERIOD)
    found = sink.close(NOW - 86_400 + 2 * PERIOD)

    assert total(found, "CanaryFailures", "us-east-1") == 0
    assert len(find(found, "CircuitBreakerState", "us-east-1")) == 1


def of(kind: str, outcome: Outcome = Outcome.OK, **more: Any) -> CanaryResult:
    return replace(result(outcome, **more), canary=kind)


def test_regions_and_all_count_round_trips_alone(sink: CloudWatchSink) -> None:
    """They are the objective's; CloudWatch makes no sum of its own, so that of all is published."""
    sink.write(result(Outcome.FAILED, at=1))
    sink.write(result(at=1, region="us-west-2"))
    sink.write(result(Outcome.BLIND, at=1))
    sink.write(of("clock_offset", Outcome.FAILED, at=1))

    found = sink.close(NOW + PERIOD)

    assert (total(found, "CanaryRuns"), total(found, "CanaryFailures")) == (2, 1)
    assert total(found, "CanaryFailures", "us-east-1") == 1


def test_each_kind_counts_its_failures_and_its_blindness(sink: CloudWatchSink) -> None:
    """So that an alarm can stand on must-fail canaries, and on each other kind."""
    sink.write(of("must_fail_kms", Outcome.FAILED, at=1, reason=Reason.ACCEPTED_MUST_REFUSE))
    sink.write(of("clock_offset", Outcome.BLIND, at=1))

    found = sink.close(NOW + PERIOD)

    assert total(found, "CanaryFailures", "must_fail_kms") == 1
    assert total(found, "CanaryBlind", "clock_offset") == 1
    assert total(found, "CanaryFailures", "clock_offset") == 0


def test_a_key_is_told_usable_or_not_until_nobody_could_look(sink: CloudWatchSink) -> None:
    """In each period anew, since alarms read periods; after a blind look nothing, which is not "usable"."""
    where = ("us-east-1", "general")
    sink.write(of("key_state", at=1, facts={"usable": 1.0}))
    first, second = sink.close(NOW + 10), sink.close(NOW + 20)
    sink.write(of("key_state", Outcome.FAILED, at=21, facts={"usable": 0.0}))
    third = sink.close(NOW + 30)
    sink.write(of("key_state", Outcome.BLIND, at=31, facts={"usable": 1.0}))
    fourth = sink.close(NOW + 40)

    told = [find(found, "KeyUsable", *where) for found in (first, second, third, fourth)]

    assert [each[0].values for each in told[:3]] == [(1.0,), (1.0,), (0.0,)]
    assert told[3] == []


def test_drift_is_told_as_the_number_of_regions_that_differ(sink: CloudWatchSink) -> None:
    """Of each key; a failure of another kind is not drift, and a blind look is not agreement."""
    sink.write(of("replica_drift", Outcome.FAILED, at=1, reason=Reason.DRIFT))
    sink.write(of("replica_drift", Outcome.FAILED, at=1, reason=Reason.DRIFT, region="us-west-2"))
    sink.write(of("replica_drift", Outcome.FAILED, at=1, reason=Reason.TIMEOUT, region="eu-west-1"))
    first = sink.close(NOW + 10)
    sink.write(of("replica_drift", at=11))
    sink.write(of("replica_drift", Outcome.BLIND, at=11, region="us-west-2"))
    second = sink.close(NOW + 20)

    assert total(first, "ReplicaDrift", "general") == 2
    assert total(second, "ReplicaDrift", "general") == 0


def test_drills_that_run_and_that_broke_are_told_live(sink: CloudWatchSink) -> None:
    """Also one that began and ended within a period; once it is known, its zeros are told too."""
    sink.on_drill(change(active=True, at=1))
    sink.on_drill(change(active=False, at=5, verdict=Verdict.BROKE))
    sink.on_drill(change(active=False, at=6, verdict=Verdict.INCONCLUSIVE))

    first, second = sink.close(NOW + 10), sink.close(NOW + 20)

    assert max(find(first, "DrillActive")[0].values) == 1
    assert max(find(second, "DrillActive")[0].values) == 0
    assert (total(first, "DrillFailed", "d"), total(second, "DrillFailed", "d")) == (1, 0)


def test_a_drill_that_broke_before_the_start_is_not_counted_again(sink: CloudWatchSink) -> None:
    """What a restart reads from old journals was told by the process before it."""
    sink.on_drill(change(active=False, at=-3600, verdict=Verdict.BROKE))

    assert total(sink.close(NOW + 10), "DrillFailed", "d") == 0


def test_an_orphaned_drill_does_not_run(sink: CloudWatchSink) -> None:
    """So that its faults are leaked ones; when somebody closes it, that is its end."""
    sink.on_drill(change(active=True, at=0))
    running = total(sink.close(NOW + 10), "DrillActive")
    sink.on_drill(replace(change(active=False, at=0), orphaned=True))
    orphaned = total(sink.close(NOW + 20), "DrillActive")
    sink.on_drill(change(active=False, at=25, verdict=Verdict.BROKE))

    assert (running > 0, orphaned) == (True, 0)
    assert total(sink.close(NOW + 30), "DrillFailed", "d") == 1


def test_faults_left_behind_are_counted(sink: CloudWatchSink, faults: list[str]) -> None:
    """As many as there are when the period is closed."""
    faults += ["kmswd.r.us-east-1", "kmswd.r.us-west-2"]

    assert total(sink.close(NOW + 10), "FaultsActive") == 2


def test_a_refusal_that_was_asked_for_is_a_success(sink: CloudWatchSink) -> None:
    """Must-fail canaries want it; else the setup guide's metric would show failures for ever."""
    usual: dict[str, Any] = {"region": "us-east-1", "operation": "Decrypt", "purpose": "general", "seconds": 0.02}
    sink.on_event(
        seen(
            Attempt(**usual, error_code="IncorrectKeyException", request_id="", pinned=True, refusal_wanted=True), at=1
        )
    )

    found = sink.close(NOW + 10)

    assert total(found, "KMSOperationDuration", "us-east-1", "Decrypt", "true") == 20
    assert find(found, "KMSOperationDuration", "us-east-1", "Decrypt", "false") == []


@pytest.mark.parametrize("reason", [Reason.MISMATCH, Reason.ACCEPTED_MUST_REFUSE, Reason.TIMEOUT])
@pytest.mark.parametrize("region", ["us-east-1", "us-west-2:us-east-1"])
def test_what_must_never_happen_is_counted_apart(sink: CloudWatchSink, reason: Reason, region: str) -> None:
    """In each region that had a part in it, whatever the kind of canary; a timeout is another matter."""
    sink.write(result(Outcome.FAILED, reason=reason, at=1, region=region))

    found = sink.close(NOW + 10)

    told = {where: total(found, "IntegrityFailures", where) for where in REGIONS}
    assert told == {where: float(reason is not Reason.TIMEOUT and where in region.split(":")) for where in REGIONS}


def test_a_quiet_period_is_told_in_zeros(sink: CloudWatchSink) -> None:
    """Every count of every region and kind, of all, breakers, drills, heartbeat: it takes silence for "no data"."""
    found = sink.close(NOW + PERIOD)

    names = {(d.name, *(value for _, value in d.dimensions)) for d in found}
    counts = {"CanaryRuns", "CanaryFailures", "CanaryBlind", "IntegrityFailures", "CircuitBreakerState"}
    by_region = {(name, region) for name in counts for region in REGIONS}
    by_kind = {(name, kind) for name in ("CanaryFailures", "CanaryBlind") for kind in KINDS}
    of_all = {("CanaryRuns",), ("CanaryFailures",), ("DrillActive",), ("FaultsActive",)}
    assert names == {*by_region, *by_kind, *of_all, ("CanaryHeartbeat", "test-us-east-1")}
    assert all(d.values == (0.0,) for d in found)


def test_a_datum_is_stamped_with_its_periods_start(sink: CloudWatchSink) -> None:
    """Not with the time of sending; in the resolution that its period needs."""
    sink.write(result(at=13))

    found = sink.close(NOW + 20)

    assert {d.period_start for d in find(found, "CanaryRuns", "us-east-1")} == {int(NOW) + 10}
    assert {d.resolution for d in found} == {1}
    assert publishing(60).resolution == 60


def test_a_look_counts_where_it_ended(sink: CloudWatchSink) -> None:
    """Begun in one period and ended in the next: the first may be gone already."""
    sink.write(result(at=9.9, seconds=0.5))

    sink.close(NOW + 10.5)
    found = sink.close(NOW + 20.5)

    assert total(found, "CanaryRuns", "us-east-1") == 1


def test_a_running_period_waits_but_not_at_exit(sink: CloudWatchSink) -> None:
    """Half a period would be told as a whole one; at the end it is all there is."""
    sink.write(result(at=11))

    assert find(sink.close(NOW + 15), "CanaryDuration", "us-east-1") == []
    assert total(sink.close(NOW + 15, unfinished_too=True), "CanaryRuns", "us-east-1") == 1


def test_nothing_is_said_of_the_time_before_the_start(sink: CloudWatchSink) -> None:
    """Zeros for a period in which nobody was there would be a lie."""
    assert sink.close(NOW + 3) == ()


def test_late_numbers_come_without_zeros(sink: CloudWatchSink) -> None:
    """What arrives for a closed period is added to it; CloudWatch sums both."""
    sink.close(NOW + 10)
    sink.write(result(Outcome.FAILED, at=5))

    found = sink.close(NOW + 20)
    late = [d for d in found if d.period_start == int(NOW)]

    assert total(late, "CanaryFailures", "us-east-1") == 1
    assert find(late, "CanaryFailures", "us-west-2") == []


def test_equal_latencies_share_an_entry(sink: CloudWatchSink) -> None:
    """Milliseconds to a tenth, and how often each came."""
    for seconds in (0.02, 0.02001, 0.5):
        sink.write(result(at=1, seconds=seconds))

    (datum,) = find(sink.close(NOW + 10), "CanaryDuration", "us-east-1")

    assert (datum.values, datum.counts, datum.unit) == ((20.0, 500.0), (2.0, 1.0), "Milliseconds")


def test_the_heartbeat_counts_whole_rounds(sink: CloudWatchSink) -> None:
    """Each round trip once, whatever it saw; half a round is none; kinds that look seldom are not waited for."""
    sink.write(result(at=1))
    sink.write(result(at=2))
    sink.write(result(Outcome.FAILED, at=3, region="us-west-2"))
    sink.write(result(at=4, region="us-west-2"))

    assert total(sink.close(NOW + 10), "CanaryHeartbeat", "test-us-east-1") == 1


def test_operations_are_published_as_the_setup_guide_has_them(sink: CloudWatchSink) -> None:
    """Region, Operation, Success, in ms."""
    for code in ("", "ThrottlingException"):
        sink.on_event(
            seen(
                Attempt(
                    region="us-east-1",
                    operation="Decrypt",
                    purpose="general",
                    seconds=0.0123,
                    error_code=code,
                    request_id="",
                    pinned=True,
                ),
                at=1,
            )
        )

    found = sink.close(NOW + 10)

    assert total(found, "KMSOperationDuration", "us-east-1", "Decrypt", "true") == 12.3
    assert total(found, "KMSOperationDuration", "us-east-1", "Decrypt", "false") == 12.3


def test_a_breaker_that_was_open_for_an_instant_is_seen(sink: CloudWatchSink) -> None:
    """All states of the period are told, so the Maximum finds it; later only the standing one."""
    sink.on_event(seen(opened(), at=1))
    sink.on_event(seen(BreakerMoved(region="us-east-1", old="open", new="closed", cause="forced"), at=2))

    first, second = sink.close(NOW + 10), sink.close(NOW + 20)

    assert find(first, "CircuitBreakerState", "us-east-1")[0].values == (0.0, 2.0)
    assert find(second, "CircuitBreakerState", "us-east-1")[0].values == (0.0,)


def test_a_drills_numbers_go_to_its_own_namespace(sink: CloudWatchSink) -> None:
    """Same names and dimensions, so an alarm's twin differs in the namespace alone; live ones stay untouched."""
    sink.on_drill(change(active=True, at=0))
    sink.write(result(Outcome.FAILED, mode=Mode.DRILL, at=1))
    sink.on_event(seen(opened(), mode=Mode.DRILL, at=1))

    found = sink.close(NOW + 10)

    assert total(found, "CanaryFailures", "us-east-1", namespace=DRILL) == 1
    assert total(found, "CanaryFailures", "us-west-2", namespace=DRILL) == 0
    assert 2.0 in find(found, "CircuitBreakerState", "us-east-1", namespace=DRILL)[0].values
    assert total(found, "CanaryFailures", "us-east-1") == 0
    assert find(found, "CircuitBreakerState", "us-east-1")[0].values == (0.0,)


def test_a_drills_zeros_go_on_until_its_alarms_can_clear(sink: CloudWatchSink) -> None:
    """Its breakers closed, counts zero, for some periods; then nothing."""
    sink.on_drill(change(active=True, at=0))
    sink.on_event(seen(opened(), mode=Mode.DRILL, at=1))
    sink.close(NOW + 10)
    sink.on_drill(change(active=False, at=11))

    tail = [sink.close(NOW + 20 + i * PERIOD) for i in range(DRILL_TAIL_PERIODS + 2)]

    spoken = [bool(find(found, "CanaryRuns", "us-east-1", namespace=DRILL)) for found in tail]
    assert spoken == [True] * (DRILL_TAIL_PERIODS + 1) + [False]
    assert find(tail[0], "CircuitBreakerState", "us-east-1", namespace=DRILL)[0].values == (0.0,)


def test_without_a_drill_its_namespace_is_silent(sink: CloudWatchSink) -> None:
    """Metrics cost money, and nobody looks there."""
    assert not [d for d in sink.close(NOW + 10) if d.namespace == DRILL]


def test_every_metric_that_is_declared_is_published(sink: CloudWatchSink) -> None:
    """With its exact dimensions, since CloudWatch never sums over them."""
    sink.write(result(at=1))
    sink.write(of("key_state", at=1, facts={"usable": 1.0}))
    sink.write(of("replica_drift", at=1))
    sink.on_drill(change(active=False, at=-60))
    sink.on_event(
        seen(
            Attempt(
                region="us-east-1",
                operation="Decrypt",
                purpose="g",
                seconds=0.1,
                error_code="",
                request_id="",
                pinned=True,
            )
        )
    )

    found = {(d.name, d.unit, tuple(name for name, _ in d.dimensions)) for d in sink.close(NOW + 10)}

    assert found == {(m.name, m.unit, m.dimensions) for m in metrics.CLOUDWATCH}


@given(st.dictionaries(st.floats(), st.integers(1, 5)))
def test_datums_keep_every_number_within_the_limits(tally: dict[float, int]) -> None:
    """At most 150 values each, what is no number left out, nothing lost else."""
    found = list(
        datums(
            metrics.CW_CANARY_DURATION,
            namespace=LIVE,
            dimensions=["us-east-1"],
            period_start=0,
            resolution=60,
            tally=tally,
        )
    )

    told = {v: c for d in found for v, c in zip(d.values, d.counts, strict=True)}
    assert told == {v: c for v, c in tally.items() if abs(v) != float("inf") and v == v}  # noqa: PLR0124 - NaN
    assert all(len(d.values) <= MAX_VALUES for d in found)


def test_many_values_are_split() -> None:
    """151 values are two datums of one series and period."""
    found = list(
        datums(
            metrics.CW_CANARY_DURATION,
            namespace=LIVE,
            dimensions=["us-east-1"],
            period_start=0,
            resolution=60,
            tally=dict.fromkeys(range(151), 1),
        )
    )

    assert [len(d.values) for d in found] == [150, 1]


USUAL: dict[str, Any] = {
    "namespace": LIVE,
    "name": "CanaryRuns",
    "unit": "Count",
    "dimensions": (("Region", "us-east-1"),),
    "period_start": 1_767_225_600,
    "resolution": 60,
    "values": (1.0, 2.0),
    "counts": (1.0, 3.0),
}


def test_a_datum_survives_the_queue() -> None:
    """What lies on disk is the whole datum."""
    datum = Datum(**USUAL)

    assert Datum.from_json(datum.to_json()) == datum
    assert datum.to_api()["Timestamp"] == START


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"values": (float("nan"), 1.0)}, "NaN", id="nan"),
        pytest.param({"values": ()}, "1 to 150", id="empty"),
        pytest.param({"counts": (1.0,)}, "a count for each", id="counts"),
        pytest.param({"dimensions": (("Region", " "),)}, "blank", id="blank-dimension"),
    ],
)
def test_what_cloudwatch_would_refuse_is_refused_at_birth(wrong: dict[str, Any], says: str) -> None:
    """One bad datum fails a whole request."""
    with pytest.raises(ValueError, match=says):
        Datum(**{**USUAL, **wrong})
