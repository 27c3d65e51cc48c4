"""A small installation and all that can happen to it once, as `/metrics` tells it: the golden file's content.

Renew it with:  .venv/bin/python tests/support/metrics_story.py > tests/daemon/golden/metrics.txt
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kms_core.events import Attempt, BreakerMoved, CacheLookup, FailedOver
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Subject, assess, board
from kms_watchdog.results import CanaryResult, Kind, Mode, Outcome, Reason, pair
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import Cardinality, all_series
from kms_watchdog.sinks.sink import AlarmMoved, DrillChange, Seen

START = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS, KEYS = ("us-east-1", "us-west-2"), ("pii",)
_OF_A_REGION_AND_KEY = (
    Kind.ROUND_TRIP,
    Kind.GOLDEN,
    Kind.MUST_FAIL_KMS,
    Kind.APPLICATION_ACCESS,
    Kind.KEY_STATE,
    Kind.REPLICA_DRIFT,
)
_OF_A_REGION = (Kind.COLD_CONNECTION, Kind.CLOCK_OFFSET, Kind.HEADROOM)
_OF_A_KEY = (Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE)


def all_subjects(regions: Sequence[str], keys: Sequence[str]) -> Iterator[Subject]:
    """Return what the canaries of every kind look at, as `canaries/roster.py` builds them."""
    for kind, region, key in itertools.product(_OF_A_REGION_AND_KEY, regions, keys):
        yield Subject(kind, region, key)
    for (sealed_in, opened_in), key in itertools.product(itertools.permutations(regions, 2), keys):
        yield Subject(Kind.CROSS_REGION, pair(sealed_in, opened_in), key)
    for kind, key in itertools.product(_OF_A_KEY, keys):
        yield Subject(kind, regions[0], key)
    for kind, region in itertools.product(_OF_A_REGION, regions):
        yield Subject(kind, region, "")
    for region in regions[:2]:
        yield Subject(Kind.ALARM_PATH, region, "")


def installation(regions: Sequence[str], keys: Sequence[str]) -> Cardinality:
    """Return every kind of canary, CloudWatch and OpenTelemetry."""
    subjects = tuple(all_subjects(regions, keys))
    kinds = sorted({f"canary.{subject.canary}" for subject in subjects})
    jobs = (*kinds, "cloudwatch.close", "cloudwatch.send", "drills.follow", "drills.watch", "heartbeat", "otel.export")
    return Cardinality(subjects=subjects, regions=regions, publish_regions=regions[:2], job_kinds=jobs, otel=True)


def look(kind: Kind, *, reason: Reason | None = None, at: float = 0.0, **more: Any) -> CanaryResult:
    """Return a look of `kind`; FAILED when there is a reason."""
    usual: dict[str, Any] = {
        "region": REGIONS[0],
        "key": "" if kind in (*_OF_A_REGION, Kind.ALARM_PATH) else KEYS[0],
        "mode": Mode.LIVE,
        "outcome": Outcome.OK if reason is None else Outcome.FAILED,
        "started_at_utc": START + timedelta(seconds=at),
        "duration_seconds": 0.04,
    }
    return CanaryResult(canary=kind, reason=reason, **{**usual, **more})


LOOKS = (
    look(Kind.ROUND_TRIP),
    look(Kind.ROUND_TRIP, reason=Reason.TIMEOUT, at=30, region=REGIONS[1], duration_seconds=10.0),
    look(Kind.ROUND_TRIP, reason=Reason.NO_CREDENTIALS, at=60, outcome=Outcome.BLIND),
    look(Kind.CROSS_REGION, region=pair(*REGIONS)),
    look(Kind.FAILOVER_PATH),
    look(Kind.GOLDEN, facts={"messages": 12.0, "oldest_age_seconds": 86_400.0, "rotations_spanned": 1.0}),
    look(Kind.MUST_FAIL_KMS, reason=Reason.ACCEPTED_MUST_REFUSE),
    look(
        Kind.KEY_STATE,
        facts={
            "state": "Enabled",
            "key_id": "mrk-1",
            "primary": True,
            "usable": 1.0,
            "deletion_timestamp": 0.0,
            "rotation_enabled": 1.0,
        },
    ),
    look(Kind.REPLICA_DRIFT, reason=Reason.DRIFT, facts={"drift_policy": 1.0, "drift_tags": 0.0}),
    look(
        Kind.COLD_CONNECTION,
        steps={"dns": 0.001, "tcp": 0.002, "tls": 0.02},
        facts={"certificate_days_left": 90.0, "tls_version": "TLSv1.3"},
    ),
    look(Kind.CLOCK_OFFSET, facts={"offset_seconds": -0.5}),
    look(
        Kind.HEADROOM,
        facts={"throttles": 0.0, "requests_per_second": 2.0, "quota_share": 0.0004, "cost_usd_month": 15.6},
    ),
    look(Kind.ALARM_PATH, facts={"definitions_compared": True}),
    look(Kind.ROUND_TRIP, reason=Reason.TIMEOUT, at=90, mode=Mode.DRILL, run_id="r"),
)


def attempt(code: str = "", **more: Any) -> Attempt:
    """Return one attempt at Decrypt in the first region."""
    usual: dict[str, Any] = {
        "region": REGIONS[0],
        "operation": "Decrypt",
        "purpose": KEYS[0],
        "seconds": 0.02,
        "error_code": code,
        "request_id": "",
        "pinned": True,
    }
    return Attempt(**{**usual, **more})


EVENTS = (
    attempt(),
    attempt("ReadTimeout", seconds=2.0),
    attempt("IncorrectKeyException", refusal_wanted=True),
    attempt("SomethingNew", retry=True),
    CacheLookup(purpose=KEYS[0], operation="encrypt", hit=True),
    FailedOver(from_region=REGIONS[0], to_region=REGIONS[1], operation="Decrypt", purpose=KEYS[0]),
    BreakerMoved(region=REGIONS[0], old="closed", new="open", cause="failures"),
)
ENDED = DrillChange(
    run_id="r",
    drill="region-blackhole",
    region=REGIONS[0],
    active=False,
    verdict=Verdict.HELD,
    at_utc=START + timedelta(seconds=300),
    detection_seconds=4.2,
    recovery_seconds=31.0,
    alarms={"ParkerFlight-KMS-Drill-HighErrorRate-us-east-1": AlarmMoved(fired_at=START.timestamp() + 100)},
)


def told() -> Exposition:
    """Return the exposition after the whole story."""
    exposition = Exposition()
    exposition.create(all_series(installation(REGIONS, KEYS)))
    sink = PrometheusSink(exposition, regions=REGIONS)
    sink.begin()
    for result in LOOKS:
        sink.write(result)
    for event in EVENTS:
        sink.on_event(Seen(event=event, mode=Mode.LIVE, at_utc=START))
    sink.on_health(assess(board(all_subjects(REGIONS, KEYS)), {}, now=0, stale_after_seconds=dict.fromkeys(Kind, 90.0)))
    sink.on_drill(ENDED)
    sink.on_evacuated({REGIONS[1]})
    sink.on_orders_unreadable("")
    sink.on_job(Job(id="x", kind="heartbeat", action=print, interval_seconds=1, pool="p"), "executed", 0.002)
    sink.heartbeat(START)
    sink.on_core(3, {"expired": 2, "used_up": 0, "full": 0})
    exposition.put(metrics.FAULTS_ACTIVE, "kmswd.r.us-east-1", value=1)
    exposition.put(metrics.CANARY_INTERVAL, Kind.ROUND_TRIP, value=30)
    exposition.put(metrics.BUILD_INFO, "1.2.3", "0123456789ab", value=1)
    return exposition


if __name__ == "__main__":
    sys.stdout.buffer.write(told().render("")[0])
