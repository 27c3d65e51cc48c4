"""`kms-chaos list`, `check` and `plan`: they tell what there is and what it would touch, and touch nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kms_chaos import drill
from kms_chaos.cli import cli
from kms_chaos.drill import SHIPPED

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


def test_the_shipped_ones_are_listed_without_any_configuration(tmp_path: Path) -> None:
    """Somebody who only looks has none yet; but a wrong one is told."""
    absent, wrong = tmp_path / "absent.toml", tmp_path / "wrong.toml"
    wrong.write_text("[estat]\n")

    assert "region-blackhole" in CliRunner().invoke(cli, ["list", "--config", str(absent)]).stdout
    assert CliRunner().invoke(cli, ["list", "--config", str(wrong)]).exit_code == 2


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
    assert [alarm["must"] for alarm in planned["alarms"]] == ["not fire"]


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
