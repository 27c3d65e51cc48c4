"""A drill's own watchdog: what it is told, where its connections go, and what is done to it when."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from kms_chaos import undo_record
from kms_chaos.drill import Drill, DrillError, find, parse
from kms_chaos.drill_parts import WatchdogPlan
from kms_chaos.faults.line import RouteError
from kms_chaos.faults.plans import ordered
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.guards.checking import NotHeldError
from kms_chaos.guards.services import services_are_allowed
from kms_chaos.own_process import read
from kms_chaos.own_watchdog import Look, NoWatchdog, OwnWatchdog
from kms_chaos.own_watchdog_process import on_ways
from kms_chaos.own_watchdog_settings import document, environment, toml
from kms_chaos.scene import Scene
from kms_chaos.stage import ways
from kms_chaos.testing import REGIONS, RUN_ID, STARTED
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Kind

CONFIG = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/general"
description = "of \\"all\\" sorts"
[endpoints.us-east-1]
sts = "https://sts.example:8443"
[canaries]
interval_seconds = 60.0
deadline_seconds = 20.0
[canaries.alarm_path]
definitions = "alarms"
[http]
listen = "0.0.0.0:9464"
token = "0123456789abcdef0123"
[health]
deadman_url = "https://switch.example/secret"
[prometheus]
push_url = "https://user:secret@gateway.example"
[otel]
enabled = true
headers = { key = "secret" }
[drills]
toxiproxy_url = "http://127.0.0.1:8474"
[drills.slots.monthly]
drill = "region-blackhole"
day = 1
at = "03:00"
[state]
dir = "state"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "watchdog.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return load(path, environ={})


def told(settings: Settings, tmp_path: Path, *, publishes: bool = False) -> Settings:
    """What its process reads."""
    path = tmp_path / "own.toml"
    path.write_text(toml(document(settings, tmp_path / "own", publishes=publishes)), encoding="utf-8")
    return load(path, environ=environment(settings, {}))


def test_it_watches_the_same_estate_and_has_nothing_of_the_live_one(settings: Settings, tmp_path: Path) -> None:
    """Neither its port, its switch, its gateway, its exporter, its token, its slots of drills nor its state."""
    own = told(settings, tmp_path)

    assert (own.keys, own.endpoints, own.core) == (settings.keys, settings.endpoints, settings.core)
    assert own.estate == settings.estate.model_copy(update={"home_region": settings.home_region})
    assert own.http.address == ("127.0.0.1", 0)
    assert (own.http.token, own.health.deadman_url, own.prometheus.push_url) == (None, None, None)
    assert not own.otel.enabled
    assert own.drills.slots == {}
    assert own.state.dir == tmp_path / "own"
    assert own.canaries.kinds == (Kind.ROUND_TRIP, Kind.FAILOVER_PATH)
    assert own.canaries.interval_seconds == 5.0
    assert own.canaries.deadline_seconds < own.canaries.interval_seconds
    assert "secret" not in toml(document(settings, tmp_path, publishes=True))


def test_it_publishes_where_no_alarm_reads(settings: Settings, tmp_path: Path) -> None:
    """And only when the drill file says so."""
    silent, publishing = told(settings, tmp_path), told(settings, tmp_path, publishes=True)

    assert (silent.cloudwatch.enabled, publishing.cloudwatch.enabled) == (False, True)
    assert publishing.cloudwatch.namespace not in {settings.cloudwatch.namespace, settings.cloudwatch.drill_namespace}


def test_the_environment_has_no_say_in_its_configuration_or_its_ways(settings: Settings) -> None:
    """Credentials stay; what would lead past the drill's proxies goes."""
    given = {
        "AWS_ACCESS_KEY_ID": "id",
        "KMS_WATCHDOG_ESTATE": "x",
        "KMS_WATCHDOG__STATE__DIR": "/live",
        "https_proxy": "http://proxy",
        "HTTPS_PROXY": "http://proxy",
    }

    assert environment(settings, given) == {
        "AWS_ACCESS_KEY_ID": "id",
        "NO_PROXY": "*",
        "KMS_WATCHDOG__ESTATE__HOME_REGION": "us-east-1",
    }


def test_only_the_end_points_of_the_drill_are_answered_otherwise() -> None:
    """As in a hosts file, with ports; each such answer is noted."""
    noted: list[str] = []
    look_up = on_ways({"kms.example:443": ("127.0.0.1", 7)}, lambda *asked, **_: asked, noted.append)

    ours = look_up(b"kms.example", 443, 0, socket.SOCK_STREAM)
    others = look_up("kms.example", 8443, type=socket.SOCK_STREAM)

    assert [(family, address) for family, _, _, _, address in ours] == [(socket.AF_INET, ("127.0.0.1", 7))]
    assert others == ("kms.example", 8443)
    assert noted == ["kms.example:443"]


def proxy(port: int) -> ProxyState:
    return ProxyState(name=f"p{port}", listen=f"127.0.0.1:{port}", upstream="kms:443", enabled=True, toxics=())


def test_end_points_that_are_one_cannot_be_told_apart() -> None:
    """A fault of STS would be one of CloudWatch too, and nobody would know."""
    where = {("kms", "a"): "kms.a:443", ("sts", "a"): "sts.a:443"}
    proxies = {("kms", "a"): proxy(1), ("sts", "a"): proxy(2)}

    found = ways(where, proxies)

    assert found.addresses == {"kms.a:443": ("127.0.0.1", 1), "sts.a:443": ("127.0.0.1", 2)}
    assert found.names == {"kms.a:443": "kms a", "sts.a:443": "sts a"}
    with pytest.raises(RouteError, match=r"sts a and kms a are both at kms\.a:443"):
        ways({**where, ("sts", "a"): "kms.a:443"}, proxies)


STATUS: dict[str, Any] = {
    "status": "degraded",
    "regions": [{"region": "us-east-1", "healthy": False}, {"region": "us-west-2", "healthy": True}],
    "keys": [{"usable": True}],
    "canaries": [
        {"canary": "round_trip", "state": "down", "runs": [{"first_at_utc": "2026-11-24T03:15:07.000Z"}]},
        {"canary": "failover_path", "state": "up", "runs": [{"first_at_utc": "2026-11-24T03:15:05.000Z"}]},
    ],
}
EXPOSITION = """# HELP x
kms_watchdog_cloudwatch_queue_length{region="us-east-1"} 31.0
kms_watchdog_cloudwatch_datums_total{region="us-east-1"} 6.2e+01
kms_watchdog_cloudwatch_datums_dropped_total{reason="too_old",region="us-east-1"} 2.0
kms_watchdog_cloudwatch_datums_dropped_total{reason="refused",region="us-east-1"} 1.0
"""


def test_a_look_is_what_it_says_at_its_addresses() -> None:
    """Codes, the status document, and the numbers of its way to CloudWatch."""
    answers = {
        "/readyz": (503, b""),
        "/health": (503, b""),
        "/api/v1/status": (200, json.dumps(STATUS).encode()),
        "/metrics": (200, EXPOSITION.encode()),
    }

    look = read(answers.__getitem__)

    assert look == Look(
        answers=True,
        ready=False,
        health_code=503,
        status="degraded",
        regions={"us-east-1": False, "us-west-2": True},
        keys_usable=True,
        failover_up=True,
        history_since_utc="2026-11-24T03:15:05.000Z",
        queued={"us-east-1": 31},
        accepted={"us-east-1": 62},
        dropped=3,
    )


GOOD = Look(
    answers=True, ready=True, status="healthy", regions=dict.fromkeys(REGIONS, True), keys_usable=True, failover_up=True
)  # fmt: skip
DARK = replace(GOOD, status="degraded", regions={**GOOD.regions, REGIONS[0]: False})


@dataclass
class FakeProcess:
    pid: int
    says: Look = GOOD
    ended: str = ""

    def look(self) -> Look:
        return self.says

    def looked_up(self) -> Mapping[str, int]:
        return {"kms us-east-1": 1}

    def kill(self) -> int:
        self.ended = "killed"
        return -9

    def stop(self) -> int:
        self.ended = "stopped"
        return 0


@dataclass
class Bench:
    """A watchdog whose processes are fakes, and the tape."""

    plan: WatchdogPlan
    up: frozenset[str] = frozenset(REGIONS[1:])
    clock: ManualClock = field(default_factory=ManualClock)
    started: list[FakeProcess] = field(default_factory=list)
    told: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watchdog = OwnWatchdog(self.plan, self._start, self, self.clock, up=self.up)

    def _start(self) -> FakeProcess:
        self.started.append(FakeProcess(pid=len(self.started) + 1))
        return self.started[-1]

    def record(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields["pid"]))

    record_now = record

    def look(self, says: Look) -> None:
        self.started[-1].says = says
        self.watchdog.look()


def test_it_is_killed_once_and_starts_again() -> None:
    """What the first one said counts for nothing any more."""
    bench = Bench(WatchdogPlan(killed_after_seconds=8.0))

    bench.watchdog.begin()
    assert not bench.watchdog.ready()
    bench.look(GOOD)
    assert bench.watchdog.ready()
    for elapsed in (0.0, 7.9, 8.0, 9.0):
        bench.watchdog.turn(elapsed)
    killed_and_new = [process.ended for process in bench.started]
    assert (killed_and_new, bench.watchdog.settled()) == (["killed", ""], False)
    bench.look(DARK)
    assert bench.watchdog.settled()
    bench.watchdog.stop()

    assert bench.told == [
        ("watchdog-started", 1), ("watchdog-looked", 1), ("watchdog-killed", 1), ("watchdog-started", 2),
        ("watchdog-looked", 2), ("watchdog-ended", 2),
    ]  # fmt: skip


def test_one_that_starts_in_the_fault_is_not_waited_for_before_it() -> None:
    """Nor is the hold over before it sees what is so."""
    bench = Bench(WatchdogPlan(starts_after_seconds=3.0))

    bench.watchdog.begin()
    bench.watchdog.turn(2.9)
    assert (bench.started, bench.watchdog.ready(), bench.watchdog.settled()) == ([], True, False)
    bench.watchdog.turn(3.0)
    settled = []
    unlooked = replace(DARK, status="healthy")  # its regions are right, its status is of what it has not looked at yet
    for says in (Look(), replace(DARK, ready=False), GOOD, replace(DARK, keys_usable=False), unlooked, DARK):
        bench.look(says)
        settled.append(bench.watchdog.settled())
    bench.watchdog.stop()

    assert settled == [False, False, False, False, False, True]


def test_it_is_well_by_a_look_that_began_after_the_fault() -> None:
    """One that publishes also has nothing left to send; in the fault something must wait."""
    bench = Bench(WatchdogPlan(publishes=True), up=frozenset(REGIONS))
    bench.watchdog.begin()
    bench.look(GOOD)
    since = bench.clock.monotonic() + 1

    stale = bench.watchdog.well(since=since)
    bench.clock.advance(2)
    bench.look(replace(GOOD, queued={"us-east-1": 3, "us-west-2": 0}))
    half = bench.watchdog.well(since=since), bench.watchdog.settled()
    bench.look(replace(GOOD, queued={"us-east-1": 3, "us-west-2": 4}))
    waiting = bench.watchdog.settled()
    bench.look(replace(GOOD, queued={"us-east-1": 0, "us-west-2": 0}))
    bench.watchdog.stop()

    assert (stale, half, waiting, bench.watchdog.well(since=since)) == (False, (False, False), True, True)


def test_a_drill_without_one_waits_for_none() -> None:
    """Whatever the conductor asks."""
    none = NoWatchdog()

    assert (none.ready(), none.settled(), none.well(since=0.0)) == (True, True, True)


TEXT = (Path(__file__).parents[2] / "chaos/kms_chaos/drills/cloudwatch-unreachable.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("[watchdog]\npublishes = true", "[workload]", "there must be a [watchdog]", id="none"),
        pytest.param("publishes = true", "", "watchdog.publishes", id="silent"),
        pytest.param("hold_at_most_seconds = 80", "hold_at_most_seconds = 60", "raise timing.hold_at_most", id="hold"),
        pytest.param("publishes = true", "publish = true", "did you mean publishes", id="key"),
        pytest.param('service = "cloudwatch"', 'service = "s3"', "faults.0.blackhole.service", id="service"),
        pytest.param(
            "publishes = true",
            "publishes = true\nstarts_after_seconds = 1\nkilled_after_seconds = 2",
            "starts before it",
            id="killed",
        ),
        pytest.param(
            "[watchdog]", '[[faults]]\nkind = "refused"\nservice = "sts"\n\n[watchdog]', "one service", id="two"
        ),
    ],
)
def test_what_is_wrong_with_a_watchdog_is_refused(old: str, new: str, says: str) -> None:
    """In one line, before anything is touched."""
    text = TEXT.replace("ready_within_seconds = 60\n", "") if new == "[workload]" else TEXT
    assert old in text

    with pytest.raises(DrillError) as refused:
        parse(text.replace(old, new, 1), name="x", where="x.toml")

    assert says in str(refused.value)


def test_a_fault_of_a_service_is_on_a_proxy_of_its_own() -> None:
    """Its toxics are undone there, and KMS's proxies have none."""
    drill = find("sts-dark")
    services = {("sts", region): f"sts.{region}:443" for region in REGIONS}

    record = undo_record.plan(
        run_id=RUN_ID,
        drill=drill,
        faults=ordered(drill.faults, REGIONS[:1], REGIONS),
        upstreams={region: f"kms.{region}:443" for region in REGIONS},
        services=services,
        toxiproxy_url="http://127.0.0.1:8474",
        now_utc=STARTED,
    )

    hurt = [proxy for proxy in record.proxies if proxy.toxics]
    assert [(proxy.name, proxy.upstream) for proxy in hurt] == [(f"kmswd.{RUN_ID}.us-east-1.sts", "sts.us-east-1:443")]
    assert len({proxy.name for proxy in record.proxies}) == 6


def test_a_home_region_is_where_this_process_runs() -> None:
    """STS is asked there first, wherever the keys' primary is."""
    drill = find("sts-dark")

    assert drill.targets(primary="us-east-1", regions=REGIONS, home="eu-west-1") == ("eu-west-1",)


@pytest.mark.parametrize(
    ("service", "region", "upstream", "held"),
    [
        ("sts", "us-west-2", "sts.us-west-2.amazonaws.com:443", True),
        ("cloudwatch", "us-west-2", "monitoring.us-west-2.amazonaws.com:443", True),
        ("sts", "us-west-2", "sts.us-east-1.amazonaws.com:443", False),
        ("sts", "us-west-2", "sts.example:443", False),
        ("sts", "us-east-1", "sts.example:8443", True),
        ("sts", "us-east-1", "sts.us-east-1.amazonaws.com:443", False),
    ],
)
def test_a_service_elsewhere_is_refused(
    settings: Settings, service: str, region: str, upstream: str, *, held: bool
) -> None:
    """AWS's own names, or what `[endpoints]` says."""
    where = {(service, region): upstream}

    if held:
        assert upstream in services_are_allowed(settings, where)
    else:
        with pytest.raises(NotHeldError, match="not on the list"):
            services_are_allowed(settings, where)


def test_a_list_of_end_points_decides_alone(settings: Settings) -> None:
    """As for KMS."""
    listed = settings.model_copy(
        update={"drills": settings.drills.model_copy(update={"endpoints": ("sts.example:443",)})}
    )

    assert "sts.example" in services_are_allowed(listed, {("sts", "us-west-2"): "sts.example:443"})
    with pytest.raises(NotHeldError):
        services_are_allowed(listed, {("sts", "us-west-2"): "sts.us-west-2.amazonaws.com:443"})


def test_a_fault_of_a_service_is_seen_to_bite_by_requests_to_it_alone() -> None:
    """A request to KMS that times out meanwhile shows another thing."""
    drill: Drill = find("sts-dark")
    (order,) = ordered(drill.faults, REGIONS[:1], REGIONS)
    scene = Scene(REGIONS)
    bite = {"codes": ["ReadTimeout"], "slower_than_seconds": None, "whole": True, "operations": ["sts"], "quiet": False}
    scene.take("fault-injected", 1.0, {"fault_id": order.id, "region": order.region, "bite": bite})
    late = {"region": order.region, "seconds": 0.5, "error_code": "ReadTimeout"}

    bitten = []
    for event, fields in (
        ("attempt", {**late, "operation": "Decrypt"}),
        ("service-attempt", {**late, "service": "cloudwatch"}),
        ("service-attempt", {**late, "service": "sts"}),
    ):
        scene.take(event, 3.0, fields)
        bitten.append(scene.view(4.0).every_fault_bit)

    assert bitten == [False, False, True]
