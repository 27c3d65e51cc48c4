"""What a month costs: right counts, by a table of prices that anybody can replace; what nobody saw has no price."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import LocalCloud
from moto.server import ThreadedMotoServer
from ports import nobody
from readiness_kit import without_credentials
from rich.console import Console

from kms_core import SystemClock
from kms_watchdog import aws
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command
from kms_watchdog.commands import cost
from kms_watchdog.commands.once import ask
from kms_watchdog.config import Settings, load
from kms_watchdog.costs import account, prices
from kms_watchdog.costs.estimate import Account, AlarmMetrics, Line, Trouble, estimate, series, total
from kms_watchdog.costs.prices import SHIPPED, Priced, PricesError
from kms_watchdog.costs.requests import kms_requests_per_month, looks, per_look
from kms_watchdog.results import Kind

__all__ = ["without_credentials"]

MONTH_TURNS = 730 * 3600 / 30
"""Looks of one canary in a month, every 30 seconds."""


def metric(period: int) -> dict[str, Any]:
    return {"Id": "m", "MetricStat": {"Metric": {}, "Period": period, "Stat": "Sum"}}


SINGLE = {"AlarmName": "a", "MetricName": "m", "Period": 60}
FAST = {"AlarmName": "b", "MetricName": "m", "Period": 10}
MATH = {"AlarmName": "c", "Metrics": [metric(60), metric(60), {"Id": "e", "Expression": "m+n"}]}
FAST_MATH = {"AlarmName": "d", "Metrics": [metric(60), metric(10), {"Id": "e", "Expression": "m+n"}]}
COMPOSITE = {"AlarmName": "e", "AlarmRule": "ALARM(a)"}


# -- the table ----------------------------------------------------------------------------------------------------


def test_the_shipped_table_has_every_price_with_its_source() -> None:
    """And says of each that nobody has verified it: the numbers are second-hand (aws.md §3, monitoring.md §5.3)."""
    table = prices.read()

    assert table.by_name.keys() == set(Priced)
    assert all(price.source.startswith("aws.amazon.com/") and not price.verified for price in table.by_name.values())
    assert table.dated > date(2026, 1, 1)
    assert table.of(Priced.KMS_KEY, 9) == 9.0
    assert table.of(Priced.KMS_REQUEST, 10_000) == pytest.approx(0.03)
    assert table.of(Priced.METRIC, 10) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("schema = 1", "schema = 2", "schema 2, this version reads 1", id="newer"),
        pytest.param("schema = 1", "schema = ", "not TOML", id="torn"),
        pytest.param('currency = "USD"', 'currency = "EUR"', "currency must be USD", id="euros"),
        pytest.param("dated = 2026-11-30", 'dated = "today"', "dated must be a date", id="no-date"),
        pytest.param("[prices.metric]", "[prices.metrics]", "prices.metrics: unknown", id="misspelt"),
        pytest.param("usd = 3.00", "usd = -3.00", "prices.dashboard: usd must be 0 or more", id="negative"),
        pytest.param("usd = 3.00", "usd = inf", "prices.dashboard: usd must be 0 or more", id="infinite"),
        pytest.param("usd = 3.00", "usd = true", "prices.dashboard.usd: missing, or not float", id="no-number"),
        pytest.param("per = 10_000", "per = 0", "prices.kms_request: usd must be 0 or more, and per 1", id="per-none"),
        pytest.param("per = 10_000", "", "prices.kms_request.per: missing, or not int", id="no-per"),
    ],
)
def test_a_table_that_is_none_is_refused_in_a_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """With the file and what is wrong."""
    path = tmp_path / "prices.toml"
    path.write_text(SHIPPED.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    with pytest.raises(PricesError) as refused:
        prices.read(path)

    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_table_with_a_price_missing_is_refused(tmp_path: Path) -> None:
    """Rather than taken for free."""
    path = tmp_path / "prices.toml"
    path.write_text(SHIPPED.read_text(encoding="utf-8").partition("[prices.dashboard]")[0], encoding="utf-8")

    with pytest.raises(PricesError, match=r"prices\.dashboard is missing"):
        prices.read(path)


# -- counting -----------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(settings: Settings) -> Callable[..., dict[str, Line]]:
    def of(found: Account | None = None, defined: Any = None) -> dict[str, Line]:
        return {line.what: line for line in estimate(settings, prices.read(), found, defined or {})}

    return of


def test_offline_all_comes_from_the_configuration(lines: Callable[..., dict[str, Line]], settings: Settings) -> None:
    """Two keys in three regions, canaries every 30 s, metrics in two regions every minute."""
    found = lines()

    keys = found["KMS keys: 2 in 3 regions"]
    trips = found["KMS requests of round_trip: 6 canaries every 30 s"]
    metrics = found["CloudWatch metrics in us-east-1"]
    puts = found["CloudWatch PutMetricData every 60 s"]
    assert (keys.count, keys.usd) == (6, 6.0)
    assert (trips.count, trips.usd) == (6 * 2 * MONTH_TURNS, pytest.approx(6 * 2 * MONTH_TURNS * 0.03 / 10_000))
    assert (metrics.count, metrics.usd) == (series(settings), pytest.approx(series(settings) * 0.3))
    assert (puts.count, puts.usd) == (2 * 730 * 60, pytest.approx(0.876))
    assert {line.basis for line in found.values()} == {"configuration"}
    assert total(found.values()) == pytest.approx(sum(line.usd or 0 for line in found.values()))


def test_what_was_found_in_the_account_counts(lines: Callable[..., dict[str, Line]]) -> None:
    """Two rotations of each key resource at the most; alarms by their metrics; dashboards of ours."""
    found = lines(
        Account(
            rotations={"general": 1, "payment": 7},
            metrics={"us-east-1": 50, "us-west-2": 40},
            alarms={"us-east-1": [SINGLE, MATH, COMPOSITE], "us-west-2": [FAST]},
            dashboards=2,
        )
    )

    counts = {what: line.count for what, line in found.items() if line.basis == "account"}
    assert counts == {
        "KMS rotated versions of general": 3,
        "KMS rotated versions of payment": 6,
        "CloudWatch metrics in us-east-1": 50,
        "CloudWatch metrics in us-west-2": 40,
        "CloudWatch alarms in us-east-1": 3,
        "CloudWatch composite alarms in us-east-1": 1,
        "CloudWatch alarms of high resolution in us-west-2": 1,
        "CloudWatch dashboards": 2,
    }
    assert found["CloudWatch dashboards"].usd == 6.0
    assert found["CloudWatch composite alarms in us-east-1"].usd == 0.5


@pytest.mark.parametrize(
    ("alarm", "priced", "count"),
    [
        pytest.param(SINGLE, Priced.ALARM, 1, id="one-metric"),
        pytest.param(FAST, Priced.HIGH_RESOLUTION_ALARM, 1, id="below-a-minute"),
        pytest.param(MATH, Priced.ALARM, 2, id="each-metric-of-a-math-alarm"),
        pytest.param(FAST_MATH, Priced.HIGH_RESOLUTION_ALARM, 2, id="one-of-them-fast"),
        pytest.param(COMPOSITE, Priced.COMPOSITE_ALARM, 1, id="composite"),
    ],
)
def test_an_alarm_is_billed_by_its_kind_and_metrics(alarm: dict[str, Any], priced: Priced, count: int) -> None:
    """An expression is no metric."""
    counts = AlarmMetrics.of([alarm]).counts

    assert {kind: billed for kind, billed in counts.items() if billed} == {priced: count}


def test_what_nobody_could_count_has_no_price(lines: Callable[..., dict[str, Line]]) -> None:
    """Each by itself, with why; the rest is told, and the sum leaves it out."""
    trouble = Trouble(why="us-east-1: AccessDenied")
    found = lines(
        Account(
            rotations={"general": trouble, "payment": 0},
            metrics={"us-east-1": trouble, "us-west-2": 40},
            alarms={"us-east-1": trouble, "us-west-2": []},
            dashboards=trouble,
        )
    )

    unknown = {what: line.note for what, line in found.items() if line.usd is None}
    assert unknown == dict.fromkeys(
        (
            "KMS rotated versions of general",
            "CloudWatch metrics in us-east-1",
            "CloudWatch alarms in us-east-1",
            "CloudWatch dashboards",
        ),
        trouble.why,
    )
    assert found["CloudWatch metrics in us-west-2"].usd == pytest.approx(12.0)


def test_there_are_so_many_canaries(settings: Settings) -> None:
    """As the daemon builds them, kind by kind."""
    built = [canary.kind for canary in live_canaries(Ports(settings, SystemClock()))]

    assert {kind: looks(settings, kind) for kind in Kind} == {kind: built.count(kind) for kind in Kind}


def test_a_cache_is_asked_through_once_in_its_time(write_config: Callable[..., Path]) -> None:
    """Of the kinds that go by it; a look that is rarer than that asks each time."""
    often = load(write_config("[core]\ndata_key_ttl_seconds = 60\n[canaries]\ninterval_seconds = 30\n"))
    seldom = load(write_config("[core]\ndata_key_ttl_seconds = 60\n[canaries]\ninterval_seconds = 600\n"))

    assert kms_requests_per_month(often)[Kind.FAILOVER_PATH] == pytest.approx(2 * 2 * 730 * 60)
    assert kms_requests_per_month(seldom)[Kind.FAILOVER_PATH] == pytest.approx(2 * 2 * 730 * 6)


def _requests(cloud: LocalCloud) -> int:
    return len((cloud.directory / "requests.ndjson").read_text(encoding="utf-8").splitlines())


def _of_kind(canaries: tuple[Canary, ...], kind: Kind) -> list[Canary]:
    return [canary for canary in canaries if canary.kind == kind]


@pytest.fixture(scope="module")
def provisioned(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of every kind of canary, with its keys."""
    kinds = [kind for kind in Kind if kind not in (Kind.ALARM_PATH, Kind.APPLICATION_ACCESS)]
    patient = "".join(
        f"{name}_seconds = 30\n" for name in ("connect_timeout", "read_timeout", "attempt_timeout", "deadline")
    )
    folder = tmp_path_factory.mktemp("cost")
    path = cloud.config(folder, f"[core]\n{patient}", prefix="cost", kinds=kinds, interval_seconds=60.0)
    made = cloud.run("provision", "apply", "--yes", "--steps", "keys,aliases,rotation", config=path)
    assert made.returncode == 0, made.stderr
    return path


@pytest.mark.parametrize(
    "kind", [Kind.ROUND_TRIP, Kind.CROSS_REGION, Kind.MUST_FAIL_KMS, Kind.KEY_STATE, Kind.REPLICA_DRIFT]
)
def test_a_look_asks_as_much_as_is_counted(cloud_here: LocalCloud, provisioned: Path, kind: Kind) -> None:
    """Counted at the server: what the core asks at its start, to find its keys, apart."""
    settings = load(provisioned)
    ask(settings, [Kind.COLD_CONNECTION], SystemClock(), 30.0)
    before = _requests(cloud_here)
    ask(settings, [Kind.COLD_CONNECTION], SystemClock(), 30.0)
    at_start = _requests(cloud_here) - before

    before = _requests(cloud_here)
    found = ask(settings, [kind], SystemClock(), 30.0)

    assert {result.outcome for result in found.results} == {"OK"}
    assert _requests(cloud_here) - before - at_start == looks(settings, kind) * per_look(settings)[kind]


# -- the command --------------------------------------------------------------------------------------------------


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["cost", *arguments, "--config", str(config)])


def test_brackets_in_a_note_are_shown_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Why something could not be counted is in AWS's words."""
    line = Line(what="[keys]", priced=Priced.KMS_KEY, basis="account", count=None, usd=None, note="see [/keys/12]")

    cost.show([line], prices.read(), Console(force_terminal=True, width=200))

    told = capsys.readouterr().out
    assert "[keys]" in told
    assert "see [/keys/12]" in told


@pytest.mark.usefixtures("without_credentials")
def test_offline_asks_nobody(write_config: Callable[..., Path]) -> None:
    """A line each, the sum last; the document says the same, with each price's source. Asking would be 3 here."""
    config = write_config()
    printed, told = run(config, "--offline"), json.loads(run(config, "--offline", "--json").stdout)

    rows = [line.split("\t") for line in printed.stdout.splitlines()]
    assert (printed.exit_code, run(config).exit_code) == (0, 3)
    assert rows[0] == ["KMS keys: 2 in 3 regions", "6", "6.00"]
    assert rows[-1] == ["in all", f"{told['usd_per_month']:.2f}"]
    assert "not verified: alarm" not in printed.stderr
    assert "not verified: cloudwatch_request, kms_key" in printed.stderr
    assert (told["schema"], told["offline"], told["complete"]) == (1, True, True)
    assert told["lines"][0]["price"]["source"] == "aws.amazon.com/kms/pricing"
    assert told["lines"][0]["price"]["verified"] is False


def test_another_table_is_used(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """And its date is told; one that is none is 2, in one line."""
    own = tmp_path / "own.toml"
    text = SHIPPED.read_text(encoding="utf-8")
    own.write_text(text.replace("usd = 1.00", "usd = 2.00", 1).replace("2026-11-30", "2026-12-24"), encoding="utf-8")

    told = json.loads(run(write_config(), "--offline", "--json", "--prices", str(own)).stdout)
    missing = run(write_config(), "--offline", "--prices", str(tmp_path / "none.toml"))

    assert (told["prices"]["dated"], told["lines"][0]["usd_per_month"]) == ("2026-12-24", 12.0)
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "none.toml: cannot be read" in missing.stderr


def test_offline_takes_the_rendered_alarms(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Where the configuration names them; a file that is missing is 2."""
    (tmp_path / "alarms").mkdir()
    for region in ("us-east-1", "us-west-2"):
        (tmp_path / "alarms" / f"{region}.json").write_text(json.dumps([SINGLE, MATH]))
    config = write_config('[canaries.alarm_path]\ndefinitions = "alarms"\n')
    told = json.loads(run(config, "--offline", "--json").stdout)
    (tmp_path / "alarms" / "us-west-2.json").unlink()

    counts = {line["what"]: line["count"] for line in told["lines"]}
    refused = run(config, "--offline")
    assert counts["CloudWatch alarms in us-west-2"] == 3
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@pytest.fixture
def moto(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration whose CloudWatch is moto's; KMS does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    aws._session.cache_clear()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{nobody()}")
    yield write_config()
    server.stop()
    aws._session.cache_clear()


def test_metrics_alarms_and_dashboards_of_ours_are_counted(moto: Path) -> None:
    """Those of other namespaces, prefixes and dashboards are not; KMS, which nobody answers for, is in trouble."""
    settings = load(moto)
    for region in settings.publish_regions:
        cloudwatch = aws.client(settings, "cloudwatch", region)
        for namespace in ("ParkerFlight/KMS", "ParkerFlight/KMS/Drill", "Other"):
            cloudwatch.put_metric_data(Namespace=namespace, MetricData=[{"MetricName": region, "Value": 1}])
    for name, period in (("ParkerFlight-KMS-X", 60), ("ParkerFlight-KMS-Y", 10), ("Other-Z", 60)):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            MetricName="m",
            Namespace="n",
            Period=period,
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=1.0,
            Statistic="Sum",
        )
    body = json.dumps({"widgets": [{"properties": {"metrics": [["ParkerFlight/KMS", "CanaryRuns"]]}}]})
    east = aws.client(settings, "cloudwatch", "us-east-1")
    east.put_dashboard(DashboardName="ours", DashboardBody=body)
    east.put_dashboard(DashboardName="theirs", DashboardBody=body.replace("ParkerFlight", "Theirs"))

    found = account.look(settings, SystemClock())

    assert found.metrics == {"us-east-1": 2, "us-west-2": 2}
    assert {r: [a["AlarmName"] for a in found.alarms[r]] for r in found.alarms} == {
        "us-east-1": [],
        "us-west-2": ["ParkerFlight-KMS-X", "ParkerFlight-KMS-Y"],
    }
    assert found.dashboards == 1
    trouble = Trouble(why="us-east-1: DescribeKey: EndpointConnectionError")
    assert found.rotations == {"general": trouble, "payment": trouble}


def test_an_account_is_asked_and_what_it_does_not_tell_is_said(cloud_here: LocalCloud, provisioned: Path) -> None:
    """The local CloudWatch has no dashboards: one line could not be told, so the command ends with 3."""
    told = run(provisioned, "--json")

    found = json.loads(told.stdout)
    by_what = {line["what"]: line for line in found["lines"]}
    assert (told.exit_code, found["complete"]) == (3, False)
    assert [what for what, line in by_what.items() if line["usd_per_month"] is None] == ["CloudWatch dashboards"]
    assert by_what["KMS rotated versions of pii"]["count"] == 0
    assert by_what["KMS keys: 3 in 3 regions"]["usd_per_month"] == 9.0


def test_another_accounts_credentials_are_refused(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """4: its metrics would be counted for ours; and 3 where nobody says whose they are."""
    config = cloud_here.config(tmp_path, prefix="cost-other")
    sts = cloud_here.endpoints["regions"]["us-east-1"]["sts"]
    text = config.read_text()
    config.write_text(text.replace("123456789012", "210987654321"))
    refused = run(config)
    config.write_text(text.replace(f'sts = "{sts}"', 'sts = "https://127.0.0.1:1"', 1))
    silent = run(config)

    assert (refused.exit_code, refused.stderr.count("\n")) == (4, 1)
    assert "of account 123456789012, the configuration of 210987654321" in refused.stderr
    assert (silent.exit_code, silent.stderr.count("\n")) == (3, 1)
