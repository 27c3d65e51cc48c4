"""Measuring: what was asked is what was announced, cold is cold, and the proposal follows its own rule."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import REGIONS, START, LocalCloud
from readiness_kit import without_credentials

from kms_core.kms import DECRYPT, GENERATE_DATA_KEY
from kms_watchdog.cli import command
from kms_watchdog.config import Core, Settings, load
from kms_watchdog.readiness.measurement import Measurement, MeasurementFile
from kms_watchdog.readiness.measuring import Plan, measured, patient
from kms_watchdog.readiness.timeouts import CONNECTIONS, OPERATIONS, RULE, Figures, Timeouts, propose, too_short
from kms_watchdog.state_folder import StateError

__all__ = ["without_credentials"]

ALL = list(itertools.product(OPERATIONS, CONNECTIONS))
PLAN = Plan(regions=("us-east-1", "eu-west-1"), purpose="general", warm=4, cold=2)


def figures(region: str, *, warm: tuple[float, float], cold: tuple[float, float]) -> tuple[Figures, ...]:
    """The p50 and p99 of both operations."""
    times = {"warm": warm, "cold": cold}
    return tuple(
        Figures(
            region=region,
            operation=operation,
            connection=kind,
            count=100,
            p50_seconds=times[kind][0],
            p99_seconds=times[kind][1],
        )
        for operation, kind in ALL
    )


# -- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "p50", "p99"),
    [
        pytest.param(1, 1, 1, id="one"),
        pytest.param(2, 1, 2, id="two"),
        pytest.param(100, 50, 99, id="a-hundred"),
        pytest.param(20, 10, 20, id="below-a-hundred-the-longest"),
        pytest.param(1000, 500, 990, id="a-thousand"),
    ],
)
def test_percentiles_are_by_nearest_rank(count: int, p50: float, p99: float) -> None:
    """Of 1 to `count` seconds, in any order."""
    found = Figures.of("us-east-1", DECRYPT, "warm", [float(n) for n in range(count, 0, -1)])

    assert (found.count, found.p50_seconds, found.p99_seconds) == (count, p50, p99)


def test_nothing_measured_has_no_figures() -> None:
    """Not zeros."""
    with pytest.raises(ValueError, match="nothing was measured"):
        Figures.of("us-east-1", DECRYPT, "warm", [])


# -- the proposal -------------------------------------------------------------------------------------------------


def test_the_proposal_follows_the_rule() -> None:
    """By the slowest region: 3 x (0.41 - 0.10) to connect, 3 x 0.25 to read; both for an attempt, one a region."""
    found = propose(
        (
            *figures("us-east-1", warm=(0.01, 0.02), cold=(0.05, 0.06)),
            *figures("eu-west-1", warm=(0.10, 0.25), cold=(0.20, 0.41)),
        )
    )

    assert found == Timeouts(
        connect_timeout_seconds=1.0, read_timeout_seconds=0.8, attempt_timeout_seconds=1.8, deadline_seconds=4.6
    )
    for part in ("3 times", "at least 0.5 s", "connect plus read", "1 s for the pauses", "up to 0.1 s"):
        assert part in RULE


def test_a_fast_network_does_not_make_it_hasty() -> None:
    """A millisecond measured today is no promise: half a second at least."""
    found = propose(figures("us-east-1", warm=(0.001, 0.002), cold=(0.002, 0.003)))

    assert (found.connect_timeout_seconds, found.read_timeout_seconds) == (0.5, 0.5)
    assert (found.attempt_timeout_seconds, found.deadline_seconds) == (1.0, 2.0)


def test_a_cold_connection_faster_than_a_warm_one_is_no_negative_time() -> None:
    """As noise makes it at times."""
    assert propose(figures("us-east-1", warm=(2.0, 2.0), cold=(1.0, 1.0))).connect_timeout_seconds == 0.5


def test_time_outs_below_what_was_measured_are_named() -> None:
    """Each with the figure that it cuts off; those of the guide are long enough for a quick network."""
    configured = Timeouts.configured(Core())
    slow = figures("eu-west-1", warm=(1.0, 2.0), cold=(2.0, 9.0))

    assert too_short(configured, figures("us-east-1", warm=(0.01, 0.02), cold=(0.1, 0.2))) == ()
    assert too_short(configured, slow) == (
        "core.connect_timeout_seconds is 1 s, the p99 of a new connection is 8.000 s",
        "core.read_timeout_seconds is 2 s, the p99 of a warm request is 2.000 s",
        "core.attempt_timeout_seconds is 2.5 s, the p99 of a cold request is 9.000 s",
        "core.deadline_seconds is 8 s, the p99 of a cold request is 9.000 s",
    )


# -- what was measured --------------------------------------------------------------------------------------------


def taken(plan: Plan) -> dict[str, dict[Any, list[float]]]:
    return {
        region: {(operation, kind): [0.01] * getattr(plan, kind) for operation, kind in ALL} for region in plan.regions
    }


def test_a_whole_measurement_has_all_figures() -> None:
    """Four of each region; the requests are those that were announced."""
    found = measured(PLAN, taken(PLAN), {})

    assert (found.complete, len(found.figures), found.failures) == (True, 8, {})
    assert PLAN.requests == 2 * (2 * (4 + 2 + 1) + 1)


@pytest.mark.parametrize(
    ("failed", "missing", "failures"),
    [
        pytest.param({"ReadTimeout": 1}, None, {"ReadTimeout": 1}, id="one-failed"),
        pytest.param({}, (DECRYPT, "cold"), {"Unanswered": 1}, id="one-not-seen"),
    ],
)
def test_a_region_that_failed_anything_has_no_figures(
    failed: dict[str, int], missing: Any, failures: dict[str, int]
) -> None:
    """A p99 without the slowest is none; the other region's stand."""
    seconds = taken(PLAN)
    if missing:
        seconds["eu-west-1"][missing].pop()

    found = measured(PLAN, seconds, {"eu-west-1": failed})

    assert (found.complete, found.failures) == (False, {"eu-west-1": failures})
    assert {one.region for one in found.figures} == {"us-east-1"}


def test_measuring_is_patient_and_uses_one_key(settings: Settings) -> None:
    """The configured time-outs would cut off what is to be measured."""
    config = patient(settings, "payment")

    assert set(config.keys) == {"payment"}
    assert config.read_timeout_seconds > settings.core.read_timeout_seconds
    assert config.attempt_timeout_seconds > settings.core.attempt_timeout_seconds


# -- what is kept -------------------------------------------------------------------------------------------------


def kept(**more: Any) -> Measurement:
    values: dict[str, Any] = {
        "estate": "test",
        "account_id": "123456789012",
        "measured_at_utc": START,
        "host": "here",
        "purpose": "general",
        "requests": 726,
        "usd": 0.002,
        "figures": figures("us-east-1", warm=(0.01, 0.02), cold=(0.1, 0.2)),
    }
    values |= more
    return Measurement(**values, proposed=propose(values["figures"]))


def test_it_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """The newest alone; with its rule and its schema's number in the file."""
    file = MeasurementFile(tmp_path)
    file.keep(kept(host="before"))
    file.keep(kept())

    document = json.loads((tmp_path / "measurement.json").read_text())
    assert MeasurementFile(tmp_path).read() == kept()
    assert (document["schema"], document["rule"]) == (1, RULE)
    assert kept().regions == {"us-east-1"}
    assert replace(kept(), figures=kept().figures[1:]).regions == frozenset()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda d: d.pop("host"), "not as it was written", id="a-member-missing"),
        pytest.param(lambda d: d["figures"][0].update(operation="Encrypt"), "not as it was written", id="another-call"),
        pytest.param(lambda d: d.update(measured_at_utc="2026-01-01"), "not as it was written", id="no-zone"),
        pytest.param(lambda d: d.update(schema=2), "schema 2, this version reads 1", id="newer"),
    ],
)
def test_a_file_that_is_none_is_said(tmp_path: Path, spoil: Callable[[Any], object], said: str) -> None:
    """In one line; it is not taken for a measurement."""
    MeasurementFile(tmp_path).keep(kept())
    path = tmp_path / "measurement.json"
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))

    with pytest.raises(StateError, match=said):
        MeasurementFile(tmp_path).read()


# -- the command --------------------------------------------------------------------------------------------------


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["measure", *arguments, "--config", str(config)])


def test_the_price_is_told_before_anything_is_asked(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Where nobody can confirm, it is refused: 4, and nothing was asked or kept."""
    told = run(write_config(), "--warm", "100", "--cold", "20")

    assert told.exit_code == 4
    assert told.stderr.splitlines() == [
        "at most 729 requests to KMS in 3 regions, about $0.0022 by list price",
        "kms-watchdog: refused: not a terminal, so nobody can confirm; --yes goes without asking",
    ]
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--key", "nobodys"), "no key 'nobodys'; there are general, payment", id="no-such-key"),
        pytest.param(("--warm", "0"), "0 is not in the range", id="none"),
    ],
)
def test_what_cannot_be_measured_is_2(write_config: Callable[..., Path], arguments: tuple[str, ...], said: str) -> None:
    """Usage."""
    told = run(write_config(), *arguments)

    assert (told.exit_code, said in told.stderr) == (2, True)


@pytest.fixture(scope="module")
def provisioned(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with its keys."""
    path = cloud.config(tmp_path_factory.mktemp("measure"), prefix="measure")
    made = cloud.run("provision", "apply", "--yes", "--steps", "keys,aliases,rotation", config=path)
    assert made.returncode == 0, made.stderr
    return path


def _requests(cloud: LocalCloud) -> list[dict[str, Any]]:
    lines = (cloud.directory / "requests.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_asked_is_what_was_announced_and_cold_is_cold(cloud_here: LocalCloud, provisioned: Path) -> None:
    """Counted at the server: so many requests, warm ones over one connection, each cold one over its own."""
    before = len(_requests(cloud_here))

    told = run(provisioned, "--yes", "--json", "--key", "pii", "--warm", "5", "--cold", "4")

    document = json.loads(told.stdout)
    asked = [r for r in _requests(cloud_here)[before:] if r["operation"] in (GENERATE_DATA_KEY, DECRYPT)]
    assert told.exit_code == 0, told.stderr
    assert (document["schema"], document["complete"], document["purpose"]) == (1, True, "pii")
    assert len(_requests(cloud_here)) - before <= document["requests"] == 3 * (2 * 10 + 1)
    assert len({request["context_sha256"] for request in asked}) == 3
    for region in REGIONS:
        here = [r for r in asked if r["region"] == region]
        ports = [r["peer_port"] for r in here]
        assert [r["operation"] for r in here] == [GENERATE_DATA_KEY, DECRYPT] * 10
        assert len(set(ports[2:12])) == 1, "warm: the connection stays"
        assert len(set(ports[12:])) == 8, "cold: one for each request"
    assert {(f["region"], f["operation"], f["connection"], f["count"]) for f in document["figures"]} == {
        (region, operation, kind, 5 if kind == "warm" else 4) for region in REGIONS for operation, kind in ALL
    }
    assert all(0 < f["p50_seconds"] <= f["p99_seconds"] for f in document["figures"])
    found = MeasurementFile(load(provisioned).state.dir).read()
    assert found is not None
    assert found.regions == set(REGIONS)
    assert document["proposed"] == found.proposed.to_json() == propose(found.figures).to_json()


def test_a_dark_region_keeps_the_last_measurement(cloud_here: LocalCloud, provisioned: Path, tmp_path: Path) -> None:
    """Could not tell: 3, with the region and why; what was kept before stays, and asking ends after a few failures."""
    config = tmp_path / "watchdog.toml"
    kms = cloud_here.endpoints["regions"]["eu-west-1"]["kms"]
    config.write_text(provisioned.read_text().replace(kms, "https://127.0.0.1:1"))
    MeasurementFile(load(config).state.dir).keep(kept(host="before"))

    told = run(config, "--yes", "--warm", "2", "--cold", "1")

    last = MeasurementFile(load(config).state.dir).read()
    assert (told.exit_code, told.stderr.splitlines()[-1]) == (
        3,
        "kms-watchdog: nothing is kept: eu-west-1: ConnectionRefused 3 times",
    )
    assert (last and last.host, "us-east-1\tDecrypt\twarm" in told.stdout) == ("before", True)
    assert "core.read_timeout_seconds" not in told.stdout


def test_another_accounts_credentials_are_refused(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """4, before KMS is asked."""
    config = cloud_here.config(tmp_path, prefix="measure-other")
    config.write_text(config.read_text().replace("123456789012", "210987654321"))

    told = run(config, "--yes")

    assert (told.exit_code, "of account 123456789012" in told.stderr) == (4, True)


@pytest.mark.usefixtures("without_credentials")
def test_a_person_who_says_no_is_obeyed(write_config: Callable[..., Path]) -> None:
    """On a terminal: nobody is asked anything, not even whose credentials these are."""
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")

    arguments = [sys.executable, "-m", "kms_watchdog", "measure", "--config", str(write_config())]
    told = subprocess.run(arguments, stdin=theirs, capture_output=True, text=True, check=False, timeout=60)

    os.close(ours)
    os.close(theirs)
    assert (told.returncode, told.stdout) == (4, "")
    assert told.stderr.startswith("at most 729 requests to KMS")
    assert told.stderr.endswith("refused: not confirmed; nothing was asked\n")
