"""`kms-chaos list`, `check` and `plan`: they tell what there is and what it would touch, and touch nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guard_kit import settings_of

from kms_chaos import drill, halting
from kms_chaos.alarms import AlarmBoard
from kms_chaos.cli import cli
from kms_chaos.drill import SHIPPED
from kms_chaos.engine import more_guards
from kms_chaos.guards.admission import Admission
from kms_chaos.guards.outlook import LEASE, outlook
from kms_chaos.lease_file import FileLease
from kms_chaos.run import plan
from kms_chaos.stage import upstreams
from kms_core import SystemClock

OWN = (SHIPPED / "region-blackhole.toml").read_text(encoding="utf-8")
CONFIG = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/test-general"
[endpoints.eu-west-1]
kms = "https://kms.of-ours.invalid:8443"
[state]
dir = "state"
[drills]
toxiproxy_url = "http://127.0.0.1:9"
folder = "own"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    path = tmp_path / "watchdog.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def ask(config: Path) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, [*arguments, "--config", str(config)], env={"COLUMNS": "200"})
        return result.exit_code, result.stdout, result.stderr

    return run


Ask = Callable[..., tuple[int, str, str]]


def test_the_operators_own_drills_are_listed_beside_the_shipped(config: Path, ask: Ask) -> None:
    """By name, mode, faults and title."""
    (config.parent / "own" / "our-own.toml").write_text(OWN, encoding="utf-8")

    code, told, _ = ask("list", "--json")

    listed = {one["name"]: one for one in json.loads(told)}
    assert code == 0
    assert set(listed) == {*drill.shipped_names(), "our-own"}
    assert listed["our-own"]["faults"] == ["blackhole"]
    assert "our-own" in ask("list")[1]


def test_the_shipped_ones_are_listed_without_any_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who only looks has none yet; but a wrong one is told, and one that is not where it should be."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[estat]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KMS_WATCHDOG_CONFIG", raising=False)

    listed = CliRunner().invoke(cli, ["list"])
    assert listed.exit_code == 0
    for one in drill.every():  # whole, also where there is no terminal to fit
        assert one.name in listed.stdout
        assert one.title in listed.stdout
    assert CliRunner().invoke(cli, ["list", "--config", str(wrong)]).exit_code == 2
    assert CliRunner().invoke(cli, ["list", "--config", str(tmp_path / "absent.toml")]).exit_code == 2
    assert CliRunner().invoke(cli, ["list"], env={"KMS_WATCHDOG_CONFIG": "absent.toml"}).exit_code == 2


def test_every_shipped_drill_is_good(ask: Ask) -> None:
    """And the operator's are checked with them."""
    code, told, _ = ask("check")

    assert code == 0
    assert told.splitlines() == [f"{name}: good" for name in drill.shipped_names()]


def test_all_that_is_wrong_is_told_at_once(config: Path, ask: Ask) -> None:
    """One line each, exit code 2; the good ones are told, too."""
    own = config.parent / "own"
    (own / "odd.toml").write_text(OWN.replace("rto_seconds = ", "rto_second = ", 1), encoding="utf-8")
    (own / "hasty.toml").write_text(
        OWN.replace("hold_at_most_seconds = 75", "hold_at_most_seconds = 71"), encoding="utf-8"
    )
    (own / "big.toml").write_text("#" * 70_000, encoding="utf-8")
    (own / "region-blackhole.toml").write_text(OWN, encoding="utf-8")

    code, told, wrong = ask(
        "check", "odd", "big", "region-blackhole", "hasty", "nosuch", str(own / "region-blackhole.toml")
    )

    assert code == 2
    assert "odd.toml: objectives.rto_second: unknown key; did you mean rto_seconds?" in wrong
    assert "big.toml: larger than 65536 bytes" in wrong
    assert "a drill of that name is shipped" in wrong
    assert "no drill is called 'nosuch'" in wrong
    assert told.splitlines() == ["hasty: good", "region-blackhole: good"]


def test_a_plan_shows_what_would_be_touched_and_asks_nobody(ask: Ask) -> None:
    """Toxiproxy is not there, no credentials are, and the estate is made up: it shows all the same."""
    code, told, _ = ask("plan", "two-regions-lost", "--region", "us-west-2", "--json")

    planned = json.loads(told)
    assert code == 0
    assert planned["targets"] == ["us-west-2", "eu-west-1"]
    assert [fault["region"] for fault in planned["faults"]] == ["us-west-2", "eu-west-1"]
    assert [toxic["type"] for toxic in planned["faults"][0]["toxics"]] == ["timeout", "timeout"]
    assert {proxy["region"]: proxy["upstream"] for proxy in planned["proxies"]} == {
        "us-east-1": "kms.us-east-1.amazonaws.com:443",
        "us-west-2": "kms.us-west-2.amazonaws.com:443",
        "eu-west-1": "kms.of-ours.invalid:8443",
    }
    assert [(alarm["must"], len(alarm["names"])) for alarm in planned["alarms"]] == [
        ("fire", 1),
        ("fire", 2),
        ("clear", 1),
        ("clear", 2),
        ("not fire", 3),
    ]
    assert planned["alarms"][0]["names"] == ["ParkerFlight-KMS-Drill-TwoRegionsDown"]


def test_a_plan_can_be_read(ask: Ask) -> None:
    """By a person, before he dares."""
    _, told, _ = ask("plan", "region-blackhole")

    assert "region-blackhole on us-east-1" in told
    assert "kmswd.RUN.us-east-1" in told
    assert "0-blackhole-us-east-1" in told
    assert "proxy disabled, toxics removed, enabled, read back" in told
    assert "within" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("plan", "region-blackhole", "--region", "mars-north-1"), "not a region of this estate"),
        (("plan", "region-blackhol"), "did you mean region-blackhole?"),
    ],
)
def test_what_cannot_be_planned_is_one_line(ask: Ask, arguments: tuple[str, ...], says: str) -> None:
    """With exit code 2."""
    code, told, wrong = ask(*arguments)

    assert (code, told) == (2, "")
    assert says in wrong
    assert wrong.count("\n") == 1


def test_a_plan_shows_every_guard_and_asks_none(tmp_path: Path, ask: Ask) -> None:
    """Those that the engine asks, by its own names and in its order; which go on while the drill runs, too."""
    settings = settings_of(tmp_path)
    run = plan(settings, drill.find("region-blackhole"), region=None, clock=SystemClock())
    board = AlarmBoard(settings, "us-west-2", frozenset())
    admission = Admission(run, board, FileLease(settings.state.dir), upstreams(settings))
    before = [*admission._of_this_machine(), *more_guards(run, {}), *admission._of_the_estate()]

    code, told, _ = ask("plan", "region-blackhole", "--json")

    guards = {guard["guard"]: guard for guard in json.loads(told)["guards"]}
    assert code == 0
    assert [name for name, guard in guards.items() if guard["when"] != "during"] == [*before, "toxiproxy-leads-to-kms"]
    assert {name for name, guard in guards.items() if guard["when"] != "before"} == set(admission.during())
    assert {guard["held"] for guard in guards.values()} == {None}
    assert all(guard["looks_at"] for guard in guards.values())
    admission.close()
    board.close()


@pytest.mark.parametrize(
    ("more", "guard", "says"),
    [
        pytest.param("", "approved", "in production, so --reason, and --approval", id="approval"),
        pytest.param("", "held-on-general", "the same drill HELD on general without payment within 35 days", id="keys"),
        pytest.param("[drills]\nproduction = false", "approved", "nobody need approve", id="no-production"),
        pytest.param("[drills]\nproduction = false", "held-on-general", "any key may be drilled", id="any-key"),
        pytest.param(
            '[drills]\nblocked_dates = ["2026-12-24"]\nwindows = [{ days = ["mon"], from = "09:00", to = "10:00" }]',
            "window-open",
            "495 s later: within mon 09:00-10:00 UTC, not on 2026-12-24",
            id="window",
        ),
        pytest.param('[drills]\nlease = { table = "t-1", region = "us-west-2" }', LEASE, "DynamoDB t-1 in us-west-2"),
        pytest.param('[drills]\naccounts = ["210987654321"]', "account-allowed", "account 210987654321", id="account"),
        pytest.param('[drills]\nendpoints = ["x:1"]', "endpoints-allowed", "by drills.endpoints", id="endpoints"),
        pytest.param("", "survivors-unthrottled", "headroom: us-west-2, eu-west-1", id="survivors"),
    ],
)
def test_a_guard_tells_what_it_would_look_at(tmp_path: Path, more: str, guard: str, says: str) -> None:
    """As this estate is configured."""
    settings = settings_of(tmp_path, more)
    run = plan(settings, drill.find("region-blackhole"), region=None, clock=SystemClock())

    looks = {look.guard: look.looks_at for look in outlook(run, {"us-east-1": "kms.us-east-1.amazonaws.com:443"})}

    assert says in looks[guard]


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_plan_can_ask_its_guards(
    local_aws: Any, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, short_drill: Path
) -> None:
    """All that only look, each with what it found; exit code 4 when one does not hold, and Toxiproxy is not needed."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    config = make_config(toxiproxy_url="http://127.0.0.1:9")
    arguments = [str(short_drill), "--ask", "--config", str(config)]

    held = CliRunner().invoke(cli, ["plan", *arguments, "--json"])
    halting.engage(config.parent / "state", SystemClock(), by="ann", reason="an outage")
    refused = CliRunner().invoke(cli, ["plan", *arguments], env={"COLUMNS": "250"})

    guards = {guard["guard"]: guard for guard in json.loads(held.stdout)["guards"]}
    assert held.exit_code == 0, held.output
    assert {name for name, guard in guards.items() if guard["held"] is None} == {
        LEASE,
        "toxiproxy-leads-to-kms",
        "survivors-alarms-quiet",
    }
    assert guards["approved"]["detail"].startswith("started by arn:aws")
    assert refused.exit_code == 4
    assert "all drills are halted" in refused.stdout
    assert not (config.parent / "state" / "drills" / "lease.json").exists()
