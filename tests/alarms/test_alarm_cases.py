"""`kms-alarms test`: the shipped cases hold, every alarm has some, and an alarm that is made worse turns them red."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_alarms import alarm_tests, cloudwatch
from kms_alarms.alarm_tests import AlarmTestError, Case, history, read, run
from kms_alarms.cli import cli
from kms_alarms.evaluate import AlarmState
from kms_alarms.parts import Alarm, MetricAlarm
from kms_alarms.table import ALARMS
from kms_watchdog.config import Settings, load

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "daemon" / "watchdog.example.toml"
FILES = tuple(sorted((ROOT / "alarms" / "cloudwatch" / "tests").glob("*.toml")))
REGION = "us-east-1"
SLOT = '\n[drills.slots.failover]\ndrill = "region-blackhole"\nday = 3\nat = "03:00"\n'


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The example's estate, with a scheduled drill: without one there is no alarm of its failure."""
    config = tmp_path_factory.mktemp("config") / "watchdog.toml"
    config.write_text(EXAMPLE.read_text(encoding="utf-8").replace("\n[drills.evidence]", SLOT + "\n[drills.evidence]"))
    return load(config)


def shipped() -> tuple[Case, ...]:
    return tuple(case for path in FILES for case in read(path))


def metric_rows() -> list[Alarm]:
    return [row for row in ALARMS if isinstance(row.cloudwatch, MetricAlarm)]


def cases_of(row: Alarm, cases: tuple[Case, ...]) -> list[Case]:
    """Those of the row's own alarms, not of the composites over them."""
    begin = f"ParkerFlight-KMS-{row.name}-" if row.name != "FaultLeaked" else "ParkerFlight-KMS-FaultLeaked"
    return [case for case in cases if case.alarm.startswith(begin)]


def test_the_shipped_cases_hold() -> None:
    """By the command that an operator runs."""
    done = CliRunner().invoke(cli, ["test", "--config", str(EXAMPLE), *map(str, FILES)], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    assert done.output == f"{len(shipped())} of {len(shipped())} cases are as expected\n"


@pytest.mark.parametrize("row", [row for row in metric_rows() if row.name != "DrillFailed"], ids=lambda row: row.name)
def test_every_alarm_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(row: Alarm) -> None:
    """What no case makes fire may never fire: the setup guide's two are the example."""
    found = cases_of(row, shipped())

    assert any(one.state == "ALARM" for case in found for one in case.expect), row.name
    assert any(one.state == "OK" for case in found for one in case.expect), row.name


def test_a_drill_that_broke_is_told(settings: Settings) -> None:
    """Of each drill that is scheduled; the example schedules none, so the shipped files cannot speak of it."""
    rendered = {one["AlarmName"]: one for one in cloudwatch.render(settings, alarm_region=REGION)}
    name = "ParkerFlight-KMS-DrillFailed-region-blackhole"
    told = [
        alarm_tests.Data(metric="DrillFailed", dimensions={"Drill": "region-blackhole"}, values="0*2 1 0*2"),
        alarm_tests.Data(metric="DrillFailed", dimensions={"Drill": "dns-failure"}, values="1*5"),
    ]

    states = history(name, rendered, told, periods=5)

    assert [str(state) for state in states[1:]] == ["OK", "OK", "ALARM", "OK", "OK"]


def test_every_composite_has_them_too() -> None:
    """Any two regions, and the setup guide's names."""
    for name in ("TwoRegionsDown", "HighErrorRate", "CircuitBreakerOpen"):
        found = [case for case in shipped() if case.alarm == f"ParkerFlight-KMS-{name}"]
        assert {one.state for case in found for one in case.expect} == {"OK", "ALARM"}, name


def worse(watch: MetricAlarm) -> Iterator[tuple[str, MetricAlarm]]:
    """Return the alarm with one thing changed each."""
    sign = -1 if watch.comparison.startswith("Less") else 1
    yield "it never fires", replace(watch, threshold=watch.threshold + sign * 1e9)
    yield "it always fires", replace(watch, threshold=watch.threshold - sign * 1e9)
    turned: Any = "GreaterThanThreshold" if sign < 0 else "LessThanThreshold"
    yield "it compares the other way", replace(watch, comparison=turned)
    if watch.datapoints_to_alarm > 1:
        yield "one period is enough", replace(watch, datapoints_to_alarm=1)
    more = watch.datapoints_to_alarm + 1
    periods = max(more, watch.evaluation_periods)
    yield "one period more is needed", replace(watch, datapoints_to_alarm=more, evaluation_periods=periods)
    if watch.missing == "breaching":
        yield "silence is fine", replace(watch, missing="notBreaching")
    if watch.missing == "ignore":
        yield "silence is fine", replace(watch, missing="notBreaching")


MUTANTS = [
    pytest.param(row, what, changed, id=f"{row.name}: {what}")
    for row in metric_rows()
    if row.name != "DrillFailed"
    for what, changed in worse(row.cloudwatch)  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("row", "what", "changed"), MUTANTS)
def test_an_alarm_that_is_made_worse_turns_a_case_red(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, row: Alarm, what: str, changed: MetricAlarm
) -> None:
    """Threshold, comparison, how many periods, what silence means."""
    table = tuple(replace(one, cloudwatch=changed) if one.name == row.name else one for one in ALARMS)
    monkeypatch.setattr(cloudwatch, "ALARMS", table)
    monkeypatch.setattr(cloudwatch, "alarm", {one.name: one for one in table}.__getitem__)
    monkeypatch.setattr(cloudwatch, "by_region", lambda: table)

    outcomes = run(cases_of(row, shipped()), settings, alarm_region=REGION)

    assert any(one.wrong for one in outcomes), what


# ------------------------------------------------------------------------------------------------------- the tool


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "case.toml"
    path.write_text(text, encoding="utf-8")
    return path


OF_A_BREAKER = """
[[case]]
name = "a case"
alarm = "ParkerFlight-KMS-CircuitBreakerOpen-us-east-1"
expect = [{{ after = 3, state = "{state}" }}]
{more}
data = [{{ metric = "CircuitBreakerState", dimensions = {{ Region = "us-east-1" }}, values = "2*3" }}]
"""


def test_a_wrong_expectation_is_told(tmp_path: Path) -> None:
    """Which case, which alarm, when, and what it was."""
    path = written(tmp_path, OF_A_BREAKER.format(state="OK", more='never = "ALARM"'))

    done = CliRunner().invoke(cli, ["test", "--config", str(EXAMPLE), str(path)], catch_exceptions=False)

    assert done.exit_code == 1
    assert done.output == (
        "FAILED  a case  (ParkerFlight-KMS-CircuitBreakerOpen-us-east-1)\n"
        "    after 3 periods: ALARM, not OK\n"
        "    ALARM after 2 periods, which must never be\n"
        "0 of 1 cases are as expected\n"
    )


def test_an_alarm_that_is_not_there_is_told(tmp_path: Path, settings: Settings) -> None:
    """A case of an alarm that was renamed must not be green."""
    text = OF_A_BREAKER.format(state="OK", more="").replace("CircuitBreakerOpen", "NoSuchAlarm")

    [outcome] = run(read(written(tmp_path, text)), settings, alarm_region=REGION)

    assert outcome.wrong == ("there is no alarm ParkerFlight-KMS-NoSuchAlarm-us-east-1",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[[case", "case.toml: ", id="no-toml"),
        pytest.param("", "case: Field required", id="empty"),
        pytest.param('[[case]]\nname = "x"\nexpect = [{ after = 1, state = "OK" }]', "either `alarm` or", id="neither"),
        pytest.param(OF_A_BREAKER.format(state="RED", more=""), "case.0.expect.0.state", id="no-state"),
        pytest.param(OF_A_BREAKER.format(state="OK", more="color = 1"), "case.0.color", id="unknown-key"),
        pytest.param(OF_A_BREAKER.format(state="OK", more="").replace("2*3", "2*"), "'2*' is no number", id="values"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    """With its name, and where in it."""
    path = written(tmp_path, text)
    with pytest.raises(AlarmTestError) as refused:
        read(path)
    done = CliRunner().invoke(cli, ["test", "--config", str(EXAMPLE), str(path)], catch_exceptions=False)

    assert says in str(refused.value)
    assert done.exit_code == 2
    assert str(path) in done.stderr


def test_without_a_file_there_is_nothing_to_be_green_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without tests the command fails, and says where it looked."""
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(cli, ["test", "--config", str(EXAMPLE)], catch_exceptions=False)

    assert (done.exit_code, "alarms/cloudwatch/tests" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("statistic", "value"),
    [
        ("Sum", 10.0),
        ("Average", 2.5),
        ("Minimum", 1.0),
        ("Maximum", 4.0),
        ("SampleCount", 4.0),
        ("p50", 2.0),
        ("p99", 4.0),
    ],
)
def test_statistics_are_of_one_period(statistic: str, value: float) -> None:
    """Of all that was published in it."""
    data = alarm_tests.Data(metric="M", namespace="N", values="1+2 _ 3*1")
    more = alarm_tests.Data(metric="M", namespace="N", values="3+4")
    definition = {
        "Namespace": "N", "MetricName": "M", "Statistic": statistic, "Period": 60, "EvaluationPeriods": 1,
        "Threshold": value, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }  # fmt: skip
    above = {**definition, "Threshold": value + 0.01}

    reached = history("a", {"a": definition}, (data, more), periods=1)
    missed = history("a", {"a": above}, (data, more), periods=1)

    assert (reached[1], missed[1]) == (AlarmState.ALARM, AlarmState.OK)
