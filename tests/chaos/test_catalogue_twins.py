"""Every drill of the catalogue can be red: each is conducted whole, and again on a system that is broken in one way.

The drills are the shipped ones, made short; what is broken is what that drill is for. Without the sabotage all is HELD,
or the twin would be red for another reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import sabotaged
from twin_kit import HOLD_SECONDS, Conduct, claim_of, conducting, not_held, shortened

from kms_alarms.cloudwatch import alarm_name, slowest_seconds
from kms_chaos import drill
from kms_chaos.alarms import reading_region
from kms_chaos.drill import Drill
from kms_chaos.drill_parts import AlarmPlan, AlarmRule
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.own_process import OwnProcess
from kms_core import Core
from kms_watchdog import aws
from kms_watchdog import config as configuration
from kms_watchdog.config import Settings
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.results import Mode

pytestmark = [pytest.mark.catalogue, pytest.mark.timeout(300), pytest.mark.usefixtures("daemon_lives")]

BROKE, INCONCLUSIVE = Verdict.BROKE, Verdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """One drill of a system that is broken in one way, and what must be red of it."""

    drill: str
    broken: str
    """In a word, for the test's name."""
    red: Mapping[str, Verdict]
    """The claims that must show it, and how."""
    core: Callable[..., Core] = Core
    reach: Callable[[str], Toxiproxy] = Toxiproxy
    watchdog: Callable[..., OwnProcess] = OwnProcess


def core(drill: str, broken: str, make_core: Callable[..., Core], *claims: str) -> Twin:
    """A core that is broken, and the claims that break with it."""
    return Twin(drill=drill, broken=broken, core=make_core, red=dict.fromkeys(claims, BROKE))


def watchdog(drill: str, broken: str, start: Callable[..., OwnProcess], verdict: Verdict) -> Twin:
    """A watchdog of the drill's own that is broken."""
    return Twin(drill=drill, broken=broken, watchdog=start, red={"watchdog-goes-on": verdict})


CALLERS_NOTICE = ("workload-objective", "warm-and-cold")
NOTHING_SEEN = {"fault-was-real": INCONCLUSIVE}

TWINS = (
    core("access-denied", "goes-round", sabotaged.follows_no_refusal, "reaction", "warm-and-cold"),
    core("all-regions-lost", "cache-off", sabotaged.cache_off, "warm-and-cold"),
    core("bandwidth-crawl", "breaker-off", sabotaged.breaker_off, "breaker-moves"),
    core("clock-skew", "goes-round", sabotaged.GoesRound, "reaction", "warm-and-cold"),
    core("cold-start", "asks-the-primary-first", sabotaged.AsksThePrimaryFirst, "cold-start"),
    core("dependency-timeout", "breaker-off", sabotaged.breaker_off, "breaker-moves"),
    core("dns-failure", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("dns-failure", "context-ignored", sabotaged.CarelessKms, "nothing-lost"),
    core("drip", "patient", sabotaged.patient, "workload-objective"),
    core("expired-credentials", "mumbles", sabotaged.Mumbler, "reaction"),
    core("flapping-region", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("gray-latency", "slow-is-well", sabotaged.slow_is_well, "breaker-moves"),
    core("intermittent-connections", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("key-disabled", "every-key-strict", sabotaged.with_strict_keys(strict=True), *CALLERS_NOTICE),
    core("key-pending-deletion", "touchy-breaker", sabotaged.TouchyBreaker, "breaker-moves"),
    core("key-revoked", "cache-for-ever", sabotaged.cache_for_ever, "revocation-bounded"),
    core("key-unavailable", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("kms-internal", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("payment-key-disabled", "no-key-strict", sabotaged.with_strict_keys(strict=False), "reaction"),
    Twin(drill="planned-evacuation", broken="deaf", core=sabotaged.deaf, red=NOTHING_SEEN),
    core("region-blackhole", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    Twin(
        drill="region-blackhole",
        broken="cache-hides-it",
        core=sabotaged.Hoarder,
        red={"warm-and-cold": INCONCLUSIVE, "reaction": INCONCLUSIVE},
    ),
    core("region-refused", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    Twin(drill="region-refused", broken="restore-fails", reach=sabotaged.Stubborn, red={"restored": BROKE}),
    core("region-syn-drop", "patient", sabotaged.patient, "workload-objective"),
    Twin(drill="reset-mid-response", broken="toothless", reach=sabotaged.Toothless, red=NOTHING_SEEN),
    core("reset-new", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    Twin(drill="reset-pooled", broken="retries-unseen", core=sabotaged.retries_unseen, red=NOTHING_SEEN),
    core("slow-close", "patient", sabotaged.patient, "workload-objective"),
    Twin(drill="stale-pool", broken="retries-unseen", core=sabotaged.retries_unseen, red=NOTHING_SEEN),
    core("throttling", "no-retry", sabotaged.no_retry, *CALLERS_NOTICE),
    core("throttling", "touchy-breaker", sabotaged.TouchyBreaker, "breaker-moves"),
    core("truncated-response", "failover-off", sabotaged.failover_off, *CALLERS_NOTICE),
    core("two-regions-lost", "one-way-out", sabotaged.one_way_out, *CALLERS_NOTICE),
    watchdog("cloudwatch-unreachable", "untold", sabotaged.watchdog_untold, INCONCLUSIVE),
    watchdog("sts-dark", "asks-nobody", sabotaged.watchdog_asks_nobody, INCONCLUSIVE),
    watchdog("watchdog-cold-start", "looks-elsewhere", sabotaged.watchdog_elsewhere, BROKE),
    watchdog("watchdog-killed", "forgetful", sabotaged.Forgetful, BROKE),
)

HOLD = {"all-regions-lost": 11.0, "cold-start": 8.0, "flapping-region": 9.0, "gray-latency": 7.0}
"""Seconds, for drills whose fault takes time to be what it is, or whose operations take all theirs to fail."""
CORE = {
    "gray-latency": {"read_timeout_seconds": 2.0},  # else its latency is an error, which any core counts
    "key-revoked": {"data_key_ttl_seconds": 3},  # the drill is held past it
}
"""Settings of the core that all drills of a name have, the broken ones too."""


@pytest.fixture(scope="module")
def payment_key(local_aws: Any) -> None:
    """The key that is strict, which the other tests' estate has not."""
    session = boto3.session.Session(**local_aws.endpoints["credentials"])
    ca, urls = local_aws.endpoints["ca_bundle"], {region: of["kms"] for region, of in local_aws.regions.items()}
    clients = [session.client("kms", region_name=r, endpoint_url=url, verify=ca) for r, url in urls.items()]
    primary, *others = clients
    key = primary.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    for client in others:
        primary.replicate_key(KeyId=key, ReplicaRegion=client.meta.region_name)
    for client in clients:
        client.create_alias(AliasName="alias/test-payment", TargetKeyId=key)
        client.close()


@pytest.fixture
def settings_for(
    local_aws: Any, payment_key: None, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Settings]:
    """What writes the configuration that a drill runs with, and reads it."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)

    def settings(name: str) -> Settings:
        path = make_config()
        if "payment" in drill.find(name).workload.purposes:
            with path.open("a", encoding="utf-8") as config:
                config.write('\n[keys.payment]\nalias = "alias/test-payment"\n')
        found = configuration.load(path)
        patience = {"connect_timeout_seconds": 1.0, "read_timeout_seconds": 1.5}  # of a machine that has much to do
        core = found.core.model_copy(update={**patience, **CORE.get(name, {})})
        return found.model_copy(update={"core": core})

    return settings


@pytest.fixture
def conduct() -> Iterator[Conduct]:
    """What runs a drill with something broken, or nothing."""
    with conducting() as conduct:
        yield conduct


def short(name: str) -> Drill:
    return shortened(name, hold_seconds=HOLD.get(name, HOLD_SECONDS))


def test_each_shipped_drill_has_a_twin() -> None:
    """And no twin is of a drill that is not shipped."""
    shipped, twinned = set(drill.shipped_names()), {twin.drill for twin in TWINS}

    alone = ", ".join(sorted(shipped - twinned))

    assert not alone, f"nothing shows that these drills can be red: add a row to TWINS for each of {alone}"
    assert twinned <= shipped


@pytest.mark.parametrize("name", sorted({twin.drill for twin in TWINS}))
def test_without_sabotage_all_but_the_alarms_is_held(
    conduct: Conduct, settings_for: Callable[[str], Settings], name: str
) -> None:
    """Else its twin would be red for another reason; of alarms a short drill does not speak."""
    judgement = conduct(settings_for(name), short(name))

    assert not_held(judgement) == {}


@pytest.mark.parametrize("twin", [pytest.param(twin, id=f"{twin.drill}-{twin.broken}") for twin in TWINS])
def test_a_broken_system_is_not_held(conduct: Conduct, settings_for: Callable[[str], Settings], twin: Twin) -> None:
    """What is broken is seen, by the claims that it breaks, and with the fault on: else anything would be unclear."""
    judgement = conduct(
        settings_for(twin.drill), short(twin.drill), make_core=twin.core, reach=twin.reach, make_watchdog=twin.watchdog
    )

    print(not_held(judgement))
    assert {name: claim_of(judgement, name).verdict for name in twin.red} == twin.red
    assert judgement.verdict is not Verdict.HELD
    assert "no fault was injected" not in claim_of(judgement, "steady-state-before").finding


ALARM = "HighErrorRate"
PERIOD_SECONDS = 10


@pytest.fixture
def with_alarm(settings_for: Callable[[str], Settings]) -> Iterator[tuple[Settings, Drill, Any, str]]:
    """The short black hole with an alarm that must fire; its twin is in CloudWatch, and moves when it is told to."""
    settings = settings_for("region-blackhole")
    slowest = float(slowest_seconds(ALARM, "target", PERIOD_SECONDS))
    rule = AlarmRule(alarm=ALARM, region="target", within_seconds=slowest)
    whole = short("region-blackhole")
    timing = whole.timing.model_copy(update={"hold_at_most_seconds": slowest + 1.0})
    plan = AlarmPlan(must_fire=(rule,), must_clear=(rule,))
    target = settings.estate.primary_region
    cloudwatch = aws.client(settings, "cloudwatch", reading_region(settings, (target,)))
    name = alarm_name(settings, ALARM, target, Mode.DRILL)
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="Test", MetricName="Nothing", Statistic="Sum", Period=PERIOD_SECONDS,
        EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold", TreatMissingData="ignore",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="all is well")
    yield settings, whole.model_copy(update={"timing": timing, "alarms": plan}), cloudwatch, name
    with contextlib.suppress(cloudwatch.exceptions.ResourceNotFound):
        cloudwatch.delete_alarms(AlarmNames=[name])
    cloudwatch.close()


def test_a_drill_whose_alarm_fires_and_clears_is_held(
    conduct: Conduct, with_alarm: tuple[Settings, Drill, Any, str]
) -> None:
    """Every claim, that of the alarms too: so the next test is red for the deleted alarm alone."""
    settings, whole, cloudwatch, name = with_alarm

    def move(state: str) -> None:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="as a breaker says")

    judgement = conduct(
        settings, whole, make_core=sabotaged.heard(opened=lambda: move("ALARM"), closed=lambda: move("OK"))
    )

    assert {claim.name: claim.finding for claim in judgement.claims if claim.verdict is not Verdict.HELD} == {}
    assert judgement.verdict is Verdict.HELD


def test_a_drill_whose_alarm_was_deleted_is_not_held(
    conduct: Conduct, with_alarm: tuple[Settings, Drill, Any, str]
) -> None:
    """Somebody deletes it while the fault is on: an alarm that nobody can read is neither quiet nor loud."""
    settings, whole, cloudwatch, name = with_alarm

    judgement = conduct(
        settings, whole, make_core=sabotaged.heard(opened=lambda: cloudwatch.delete_alarms(AlarmNames=[name]))
    )

    assert not_held(judgement) == {}
    assert claim_of(judgement, "alarms").verdict is INCONCLUSIVE
    assert judgement.verdict is INCONCLUSIVE
