"""Which guards let a run in, and which end it: each refuses for its own reason, with AWS and the daemon played."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon_answer import all_well, seen
from daemon_in_process import Answers, daemon_in_process
from guard_kit import ACCOUNT, NOW, moto_aws, settings_of

from kms_chaos import halting
from kms_chaos.alarms import Reading
from kms_chaos.drill import find
from kms_chaos.guards import RefusedError
from kms_chaos.guards.admission import Admission
from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote
from kms_chaos.lease_file import FileLease
from kms_chaos.run import Run, plan
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.drills.copies import all_folders
from kms_watchdog.drills.folder import folder
from kms_watchdog.evidence.store import DirStore, StoreError
from kms_watchdog.results import Kind, Reason

pytestmark = pytest.mark.slow  # each makes clients of AWS

__all__ = ["moto_aws"]

PLAYED = "[drills]\nproduction = false\n"
BEFORE = [
    "not-halted", "window-open", "nothing-left-over", "earlier-fault-over", "regions-armed", "held-on-general",
    "account-allowed", "endpoints-allowed", "approved", "mine", "daemon-watches", "estate-healthy", "keys-enabled",
    "estate-not-drifted", "survivors-unthrottled", "alarms-quiet", "live-alarms-quiet",
]  # fmt: skip
DURING = ["not-halted", "window-open", "daemon-watches", "survivors-unthrottled", "survivors-alarms-quiet"]


class Board:
    """An alarm board on which all is quiet, or one fires."""

    region = "us-west-2"
    state = "OK"

    def read(self) -> dict[tuple[str, str, str], Reading]:
        return {("HighErrorRate", "us-east-1", "drill"): Reading(state=self.state, reason="why")}


class Played:
    """A run at the door: all is well, and each part of it can be spoilt."""

    def __init__(self, folder_: Path, daemon: Answers, settings: Settings) -> None:
        self.folder, self.daemon, self.settings = folder_, daemon, settings
        self.clock, self.board, self.lease = ManualClock(start_utc=NOW), Board(), FileLease(settings.state.dir)
        self.lease.acquire(Halt())
        self.run = plan(settings, find("region-blackhole"), region=None, clock=self.clock)
        self.upstreams = {region: f"kms.{region}.amazonaws.com:443" for region in settings.estate.regions}
        self.says()

    def says(self, **change: Any) -> None:
        document = all_well(self.settings, self.clock.now_utc(), **change)
        self.daemon.answers["/api/v1/status"] = (200, json.dumps(document).encode())

    def admission(self) -> Admission:
        board: Any = self.board
        return Admission(self.run, board, self.lease, self.upstreams)

    def refused_before(self) -> list[str]:
        admission = self.admission()
        try:
            return [one.guard for one in admission.ask({"mine": lambda: "seen"}) if not one.held]
        finally:
            admission.close()

    def refused_during(self) -> list[str]:
        admission, refused = self.admission(), []
        for name, guard in admission.during().items():
            try:
                guard()
            except Exception:  # noqa: BLE001 - any way to say no
                refused.append(name)
        admission.close()
        return refused


@pytest.fixture
def played(tmp_path: Path, moto_aws: None) -> Iterator[Played]:
    settings = settings_of(tmp_path, PLAYED)
    with daemon_in_process(settings.state.dir) as daemon:
        yield Played(tmp_path, daemon, settings)


def put_alarm(settings: Settings, region: str) -> None:
    """A live alarm of `region` fires, in the region where a drill on the first one reads."""
    client = aws.client(settings, "cloudwatch", "us-west-2")
    name = f"ParkerFlight-KMS-HighErrorRate-{region}"
    client.put_metric_alarm(
        AlarmName=name, MetricName="CanaryFailures", Namespace="ParkerFlight/KMS", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="made up")
    client.close()


def halt(played: Played) -> None:
    halting.engage(played.settings.state.dir, played.clock, by="ann", reason="an outage")


def leave_a_run_open(played: Played) -> None:
    where = folder(played.settings.state.dir, "20261124T031500Z-x")
    where.path.mkdir(parents=True)
    where.undo.write_text("{}", encoding="utf-8")


def note_a_fault_elsewhere(played: Played) -> None:
    until = NOW + timedelta(hours=1)
    played.lease.record_fault(FaultNote(run_id="r", host="there", token=played.lease.token, expires_at_utc=until))
    played.lease.release()
    played.lease.acquire(Halt())


def spoil_looks(kind: Kind, region: str, why: Reason) -> Callable[[Played], None]:
    def spoil(played: Played) -> None:
        def look(subject: Any) -> Any:
            hit = (subject.canary, subject.region) == (kind, region)
            return seen(subject, at_utc=NOW, why=why if hit else None)

        played.says(look=look)

    return spoil


def configured(text: str) -> Callable[[Played], None]:
    def spoil(played: Played) -> None:
        played.settings = settings_of(played.folder, f"{PLAYED}{text}")
        played.run = replace(played.run, settings=played.settings)

    return spoil


def set_board(played: Played) -> None:
    played.board.state = "ALARM"


def go_elsewhere(played: Played) -> None:
    played.upstreams["us-west-2"] = "kms.example.com:443"


def hurt_two(played: Played) -> None:
    played.run = plan(played.settings, find("two-regions-lost"), region=None, clock=played.clock)


@pytest.mark.parametrize(
    ("spoil", "before", "during"),
    [
        pytest.param(lambda _: None, [], [], id="all-is-well"),
        pytest.param(halt, ["not-halted"], ["not-halted"], id="halted"),
        pytest.param(configured('blocked_dates = ["2026-11-25"]'), ["window-open"], ["window-open"], id="blocked"),
        pytest.param(
            configured('windows = [{from = "09:00", to = "10:01"}]'), ["window-open"], [], id="would-outlast-its-window"
        ),
        pytest.param(configured('windows = [{from = "09:00", to = "10:10"}]'), [], [], id="fits-its-window"),
        pytest.param(leave_a_run_open, ["nothing-left-over"], [], id="left-over"),
        pytest.param(note_a_fault_elsewhere, ["earlier-fault-over"], [], id="a-fault-elsewhere"),
        pytest.param(hurt_two, ["regions-armed"], [], id="two-regions"),
        pytest.param(configured('accounts = ["210987654321"]'), ["account-allowed"], [], id="account"),
        pytest.param(go_elsewhere, ["endpoints-allowed"], [], id="endpoint"),
        pytest.param(
            lambda p: p.daemon.answers.pop("/livez"), ["daemon-watches"], ["daemon-watches"], id="daemon-not-well"
        ),
        pytest.param(lambda p: p.says(breakers={"us-east-1": "open"}), ["estate-healthy"], [], id="breaker"),
        pytest.param(spoil_looks(Kind.KEY_STATE, "us-east-1", Reason.TIMEOUT), ["keys-enabled"], [], id="keys"),
        pytest.param(
            spoil_looks(Kind.REPLICA_DRIFT, "us-east-1", Reason.TIMEOUT), ["estate-not-drifted"], [], id="drift"
        ),
        pytest.param(
            spoil_looks(Kind.HEADROOM, "eu-west-1", Reason.HEADROOM_LOW),
            ["survivors-unthrottled"], ["survivors-unthrottled"], id="a-survivor-throttles",
        ),
        pytest.param(spoil_looks(Kind.HEADROOM, "us-east-1", Reason.HEADROOM_LOW), [], [], id="the-target-throttles"),
        pytest.param(set_board, ["alarms-quiet"], [], id="alarm-of-the-drill"),
        pytest.param(
            lambda p: put_alarm(p.settings, "eu-west-1"), ["live-alarms-quiet"], ["survivors-alarms-quiet"],
            id="live-alarm-of-a-survivor",
        ),
        pytest.param(
            lambda p: put_alarm(p.settings, "us-east-1"), ["live-alarms-quiet"], [], id="live-alarm-of-the-target"
        ),
    ],
)  # fmt: skip
def test_each_guard_refuses_for_its_own_reason(
    played: Played, spoil: Callable[[Played], None], before: list[str], during: list[str]
) -> None:
    """Before the start, and while the drill runs; the others hold."""
    spoil(played)

    assert played.refused_before() == before
    assert played.refused_during() == during


def test_every_guard_is_asked_in_its_order_and_says_what_it_saw(played: Played) -> None:
    """The caller's own between those of the machine and those of the estate; and who agreed is known afterwards."""
    admission = played.admission()

    found = {one.guard: one.detail for one in admission.ask({"mine": lambda: "seen"})}

    assert list(found) == BEFORE
    assert list(admission.during()) == DURING
    assert found["mine"] == "seen"
    assert found["held-on-general"] == "not in production: any key may be drilled"
    assert admission.leave is not None
    assert found["approved"] == str(admission.leave)
    assert ACCOUNT in found["account-allowed"]
    admission.close()


class Noting:
    """Live alarms of which only the end is of interest."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self._name, self._closed = name, closed

    def close(self) -> None:
        self._closed.append(self._name)


def test_both_clients_of_live_alarms_are_let_go_of(played: Played) -> None:
    """A catalogue of drills in one process would else keep the connections of each."""
    admission, closed = played.admission(), list[str]()
    admission.close()
    of_all: Any = Noting("of all", closed)
    of_survivors: Any = Noting("of survivors", closed)
    admission._live, admission._survivors_live = of_all, of_survivors

    admission.close()

    assert sorted(closed) == ["of all", "of survivors"]


class Untouchable:
    """A Toxiproxy that must not be reached."""

    def __init__(self, url: str) -> None:
        pytest.fail(f"{url} was reached")


class Reached(Untouchable):
    """A Toxiproxy that is reached, and has no way."""

    def __init__(self, url: str) -> None:
        raise OSError(f"{url} has no way")


def test_toxiproxy_is_reached_when_all_else_holds(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its probe is the only thing that a guard makes; and its refusal counts."""
    monkeypatch.setattr("kms_chaos.guards.admission.Toxiproxy", Reached)
    with pytest.raises(RefusedError, match=r"^toxiproxy-leads-to-kms: could not be checked: OSError: .* has no way$"):
        played.admission().check({})

    monkeypatch.setattr("kms_chaos.guards.admission.Toxiproxy", Untouchable)
    halt(played)
    set_board(played)
    with pytest.raises(RefusedError, match=r"^not-halted: .*; alarms-quiet: drill alarm HighErrorRate of us-east-1"):
        played.admission().check({})


class Led:
    """A Toxiproxy that is reached."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_: object) -> None: ...


def test_what_every_guard_saw_is_returned_when_all_hold(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through Toxiproxy last."""
    monkeypatch.setattr("kms_chaos.guards.admission.Toxiproxy", Led)
    monkeypatch.setattr("kms_chaos.guards.place.toxiproxy_leads_to_kms", lambda server, *_: f"a way by {server}")

    found = played.admission().check({"mine": lambda: "seen"})

    assert [one.guard for one in found] == [*BEFORE, "toxiproxy-leads-to-kms"]
    assert all(one.held for one in found)
    assert found[-1].detail == "a way by http://127.0.0.1:8474"


def test_a_twin_of_an_earlier_drill_is_waited_for_at_the_door(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has cleared when the guards are asked again, and who waits was told; one guard more, and nobody waits."""
    monkeypatch.setattr("kms_chaos.guards.admission.Toxiproxy", Led)
    monkeypatch.setattr("kms_chaos.guards.place.toxiproxy_leads_to_kms", lambda *_: "a way")
    said: list[str] = []
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    played.run = replace(played.run, clock=clock, say=said.append)
    fires_until = clock.monotonic() + 20.0
    played.board.read = lambda: {  # type: ignore[method-assign]
        ("HighErrorRate", "us-east-1", "drill"): Reading(state="ALARM" if clock.monotonic() < fires_until else "OK")
    }

    found = played.admission().check({"mine": lambda: "seen"})
    fires_until += 1e9
    with pytest.raises(RefusedError, match="alarms-quiet"):
        played.admission().check({"mine": lambda: 1 / 0})  # type: ignore[dict-item]

    assert all(one.held for one in found)
    assert len(said) == 1
    assert said[0].startswith("waiting, at most 480 s, for what an earlier drill made fire to clear: HighErrorRate")
    assert clock.monotonic() < fires_until - 1e9 + 20


def test_in_production_payment_comes_last_and_somebody_else_agrees(played: Played) -> None:
    """Elsewhere neither is asked for."""
    configured("")(played)
    played.settings = settings_of(played.folder, "[drills]\nproduction = true")
    played.run = replace(played.run, settings=played.settings)
    general: Run = replace(
        played.run,
        drill=played.run.drill.model_copy(
            update={"workload": played.run.drill.workload.model_copy(update={"purposes": ("general",)})}
        ),
    )

    assert played.refused_before() == ["held-on-general", "approved"]
    (told,) = [one.detail for one in played.admission().ask({}) if one.guard == "held-on-general"]
    assert told.endswith("none has")
    played.run = general
    assert played.refused_before() == ["approved"]


def test_what_other_machines_drilled_is_copied_before_payment_is_judged(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that a trigger starts has an empty disk; a store out of reach is named where nothing else counts.

    What can have ended within 35 days is copied: what began within 36.
    """
    now_utc = played.run.clock.now_utc()
    borders = {days: f"{now_utc - timedelta(days=days, seconds=second):%Y%m%dT%H%M%SZ}-x" for days, second in _BORDERS}
    for run_id in borders.values():
        (lines := played.folder / "store" / "runs" / run_id / "segments").mkdir(parents=True)
        (lines / "00000.ndjson").write_bytes(b"{}\n")
    evidence = f'[drills]\nproduction = true\n[drills.evidence]\nstore = "dir:{played.folder / "store"}"'
    played.settings = settings_of(played.folder, evidence)
    said: list[str] = []
    played.run = replace(played.run, settings=played.settings, say=said.append)

    def refused() -> str:
        (one,) = [one.detail for one in played.admission().ask({}) if one.guard == "held-on-general"]
        return one

    general = played.run.drill.workload.model_copy(update={"purposes": ("general",)})
    with_payment = played.run
    played.run = replace(with_payment, drill=with_payment.drill.model_copy(update={"workload": general}))
    assert refused() == "payment is not among general"
    assert said == []
    played.run = with_payment
    not_believed = refused()
    monkeypatch.setattr(DirStore, "folders", lambda *_: (_ for _ in ()).throw(StoreError("ConnectTimeoutError")))
    out_of_reach = refused()

    assert said == [f"copying 1 run of other machines from dir:{played.folder / 'store'}"]
    assert [one.run_id for one in all_folders(played.settings.state.dir)] == [borders[35]]
    assert not_believed.endswith("none has")
    assert out_of_reach.endswith("none has (drills of other machines are not known: ConnectTimeoutError)")


_BORDERS = ((35, 86_000), (36, 60))
