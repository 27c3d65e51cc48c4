"""A game day is judged from what was written: each step against its promise, and one that does not hold is enough."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_alarms import bounds
from kms_alarms.table import alarm
from kms_local.demo.configuration import DemoFolder, configuration
from kms_local.game_day import alerting, moments, report
from kms_local.game_day.command import command as command_line
from kms_local.game_day.judging import Command, Record, Step, Verdict, found, judge, verdict
from kms_local.game_day.moments import Moment, Request
from kms_local.game_day.promises import Plan, Since, plan
from kms_local.game_day.runbook import first_commands, fix_command
from kms_watchdog.config import Settings, load

ROOT = Path(__file__).parents[2]
LOST = datetime(2026, 12, 1, 3, tzinfo=UTC)
BEGAN: dict[Since, datetime] = {
    "lost": LOST,
    "ordered": LOST + timedelta(seconds=40),
    "back": LOST + timedelta(seconds=60),
    "taken back": LOST + timedelta(seconds=130),
}
REGION, REGIONS = "us-east-1", ("us-east-1", "us-west-2", "eu-west-1")
SCALE = 1 / 6
ALL = frozenset({"prometheus"})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The configuration that a game day writes."""
    folder = DemoFolder.create(tmp_path_factory.mktemp("game-day"), LOST)
    urls = dict.fromkeys(("kms", "cloudwatch", "sns", "sts"), "https://127.0.0.1:9")
    endpoints: dict[str, Any] = {
        "account_id": "123456789012",
        "ca_bundle": "",
        "regions": dict.fromkeys(REGIONS, urls),
        "toxiproxy": {"url": "http://127.0.0.1:8474"},
    }
    text = configuration(endpoints, folder).replace('ca_bundle = ""\n', "")
    folder.configuration.write_text(text, encoding="utf-8")
    return load(folder.configuration)


@pytest.fixture(scope="module")
def promised(settings: Settings) -> Plan:
    return plan(settings, REGION, rate=10.0, scale=SCALE)


def seen(key: str, promised: Plan, *, after: float) -> tuple[Moment, ...]:
    """Return what makes a step's sight true `after` seconds from its beginning."""
    [timed] = [one for one in promised.timed if one.key == key]
    at_utc = BEGAN[timed.since] + timedelta(seconds=after)
    sight = timed.sight
    names = sight.all_of or (sight.name.replace(".*", "general"),)
    return tuple(
        Moment(at_utc=at_utc, what=sight.what, who=sight.who, name=name, state=sight.state)  # type: ignore[arg-type]
        for name in names
    )


def good_record(promised: Plan) -> Record:
    """Return a day on which everything came in half of its time."""
    return Record(
        began=BEGAN,
        moments=tuple(m for one in promised.timed for m in seen(one.key, promised, after=one.within_seconds / 2)),
        requests=tuple(Request(LOST + timedelta(seconds=n), "200", 20.0) for n in range(-10, 150)),
        load={"opened_again": {"sealed": 80, "lost": 0, "outcomes": {"200": 80}}},
        runbook="region-unhealthy.md",
        commands=(command(),),
    )


def command(**changes: Any) -> Command:
    usual: dict[str, Any] = {
        "at_utc": LOST + timedelta(seconds=30),
        "section": "First three commands",
        "text": "kms-watchdog status",
        "exit_code": 1,
        "seconds": 1.2,
        "said": "us-east-1 down",
        "good": True,
    }
    return Command(**usual | changes)


def without(key: str, promised: Plan, record: Record) -> Record:
    gone = seen(key, promised, after=0)
    left = tuple(m for m in record.moments if not any((m.what, m.who, m.name, m.state) == _of(one) for one in gone))
    return dataclasses.replace(record, moments=left)


def _of(moment: Moment) -> tuple[str, str, str, str]:
    return moment.what, moment.who, moment.name, moment.state


def bad(steps: tuple[Step, ...]) -> dict[str, Verdict]:
    return {step.key: step.verdict for step in steps if not step.good}


def test_a_day_on_which_all_came_in_time_held(promised: Plan) -> None:
    """Every step held, and so did the whole."""
    steps = judge(promised, good_record(promised), installed=ALL)

    assert bad(steps) == {}
    assert verdict(steps) is Verdict.HELD


def test_each_alarms_time_is_the_tables_own(settings: Settings, promised: Plan) -> None:
    """CloudWatch's as it stands; Prometheus's with its waits shortened, its looks not."""
    within = {one.key: one.within_seconds for one in promised.timed}
    row = alarm("RegionUnhealthy")
    looks = bounds.seen_seconds(settings, row)
    whole = bounds.prometheus(settings, row, row.prometheus[0])  # type: ignore[index]

    assert within["page-sns-HighErrorRate"] == bounds.cloudwatch(settings, alarm("HighErrorRate"))
    assert within["page-alertmanager-RegionUnhealthy"] == pytest.approx(looks + (whole - looks) * SCALE)


@pytest.mark.parametrize("key", ["attempt-failed", "page-sns-HighErrorRate", "breaker-closed", "order-application"])
def test_a_step_that_is_too_late_breaks_the_day(promised: Plan, key: str) -> None:
    """By a tenth of a second."""
    [timed] = [one for one in promised.timed if one.key == key]
    record = without(key, promised, good_record(promised))
    late = seen(key, promised, after=timed.within_seconds + 0.1)

    steps = judge(promised, dataclasses.replace(record, moments=(*record.moments, *late)), installed=ALL)

    assert bad(steps) == {key: Verdict.LATE}
    assert verdict(steps) is Verdict.BROKE


def test_a_page_that_did_not_come_breaks_the_day(promised: Plan) -> None:
    """Though the alarm itself was ALARM in time."""
    steps = judge(promised, without("page-sns-HighErrorRate", promised, good_record(promised)), installed=ALL)

    assert bad(steps) == {"page-sns-HighErrorRate": Verdict.MISSING}
    assert verdict(steps) is Verdict.BROKE


def test_what_came_before_the_loss_is_no_answer_to_it(promised: Plan) -> None:
    """A page of a minute ago is another trouble's."""
    record = without("page-sns-HighErrorRate", promised, good_record(promised))
    early = seen("page-sns-HighErrorRate", promised, after=-60)

    steps = judge(promised, dataclasses.replace(record, moments=(*record.moments, *early)), installed=ALL)

    assert bad(steps) == {"page-sns-HighErrorRate": Verdict.MISSING}


@pytest.mark.parametrize("after", [-5.0, 30.0, 100.0])
def test_a_request_that_failed_breaks_the_day(promised: Plan, after: float) -> None:
    """Before, during or after."""
    record = good_record(promised)
    failed = Request(LOST + timedelta(seconds=after), "503", 8000.0)

    steps = judge(promised, dataclasses.replace(record, requests=(*record.requests, failed)), installed=ALL)

    assert bad(steps) == {"requests-failed": Verdict.BROKE}
    assert verdict(steps) is Verdict.BROKE


def test_too_few_requests_show_nothing(promised: Plan) -> None:
    """An application that nobody asked has failed nobody, and has proven nothing."""
    record = dataclasses.replace(good_record(promised), requests=(Request(LOST + timedelta(seconds=1), "200", 5.0),))

    assert bad(judge(promised, record, installed=ALL)) == {"requests-failed": Verdict.BROKE}


@pytest.mark.parametrize(
    ("milliseconds", "broken"),
    [
        pytest.param(3100.0, {"p99"}, id="p99"),
        pytest.param(8100.0, {"p99", "longest"}, id="longest"),
    ],
)
def test_a_slow_application_breaks_the_day(promised: Plan, milliseconds: float, broken: set[str]) -> None:
    """The drill's objective for p99, and the core's own deadline."""
    record = good_record(promised)
    slow = tuple(Request(LOST + timedelta(seconds=n), "200", milliseconds) for n in range(10, 20))

    steps = judge(promised, dataclasses.replace(record, requests=(*record.requests, *slow)), installed=ALL)

    assert bad(steps) == dict.fromkeys(broken, Verdict.LATE)


@pytest.mark.parametrize(
    ("load", "measured"),
    [
        pytest.param({"opened_again": {"sealed": 80, "lost": 1}}, "1 of 80 lost", id="one-is-lost"),
        pytest.param({}, "", id="nobody-looked"),
        pytest.param({"opened_again": {"sealed": 0, "lost": 0}}, "0 of 0 lost", id="nothing-was-sealed"),
    ],
)
def test_data_that_are_lost_break_the_day(promised: Plan, load: dict[str, Any], measured: str) -> None:
    """And so does nobody having looked."""
    record = dataclasses.replace(good_record(promised), load=load)
    steps = {step.key: step for step in judge(promised, record, installed=ALL)}

    assert (steps["data-lost"].verdict, steps["data-lost"].measured) == (Verdict.BROKE, measured)


def test_a_page_for_what_is_not_so_breaks_the_day(promised: Plan) -> None:
    """One region was lost, not two."""
    record = good_record(promised)
    wrong = Moment(
        at_utc=LOST + timedelta(seconds=30), what="page", who="pager", name="KmsTwoRegionsDown", state="ALARM"
    )

    steps = judge(promised, dataclasses.replace(record, moments=(*record.moments, wrong)), installed=ALL)

    assert bad(steps) == {"no-other-page": Verdict.BROKE}


@pytest.mark.parametrize(
    ("commands", "broken"),
    [
        pytest.param((), {"runbook": Verdict.BROKE}, id="nobody-followed-it"),
        pytest.param((command(good=False),), {"runbook-1": Verdict.BROKE}, id="a-command-failed"),
        pytest.param((command(exit_code=None, good=False, said="no aws on PATH"),), {}, id="its-program-is-not-there"),
    ],
)
def test_the_runbook_is_a_step(promised: Plan, commands: tuple[Command, ...], broken: dict[str, Verdict]) -> None:
    """A command that fails breaks the day; one whose program is not installed is said."""
    record = dataclasses.replace(good_record(promised), commands=commands)

    assert bad(judge(promised, record, installed=ALL)) == broken


def test_without_prometheus_its_steps_are_not_run(promised: Plan) -> None:
    """They are said, and break nothing."""
    steps = judge(promised, good_record(promised), installed=frozenset())
    not_run = {step.key for step in steps if step.verdict is Verdict.NOT_RUN}

    assert not_run == {one.key for one in promised.timed if one.needs}
    assert verdict(steps) is Verdict.HELD


def test_every_key_must_be_well_again(promised: Plan) -> None:
    """The last one counts."""
    [timed] = [one for one in promised.timed if one.key == "canary-ok"]
    some = seen("canary-ok", promised, after=1)[:2]
    last = dataclasses.replace(seen("canary-ok", promised, after=7)[2])

    assert found(timed, Record(began=BEGAN, moments=some)) is None
    assert found(timed, Record(began=BEGAN, moments=(*some, last))) == last


APPLICATION = """\
2026-12-01 03:00:01,250 WARNING kms_core kms_core.Attempt region=us-east-1 operation=Decrypt error_code=ReadTimeout \
request_id= pinned=False cross_region=False retry=False
2026-12-01 03:00:01,250 WARNING kms_core kms_core.Attempt region=us-west-2 operation=Decrypt error_code=ReadTimeout \
request_id= pinned=True cross_region=True retry=False
2026-12-01 03:00:01,250 WARNING kms_core kms_core.BreakerMoved region=us-east-1 old=closed new=open cause=failures
2026-12-01 03:00:01,250 INFO kms_core kms_core.OverridesChanged source=/x overrides=({'region': 'us-east-1', \
'kind': 'avoid', 'until_utc': datetime.datetime(2026, 12, 1, 3, 30), 'reason': 'INC-7'},)
2026-12-01 03:00:01,250 INFO kms_core kms_core.OverridesChanged source=/x overrides=()
2026-12-01 03:00:01,250 INFO httpx something else
"""
WATCHDOG = """\
{"at_utc": "2026-12-01T03:00:01.250+00:00", "event": "canary.failed", "canary": "round_trip", "region": "us-east-1", \
"key": "pii", "error_code": "ReadTimeout"}
{"at_utc": "2026-12-01T03:00:01.250+00:00", "event": "canary.failed", "canary": "clock_offset", "region": "us-east-1"}
{"at_utc": "2026-12-01T03:00:01.250+00:00", "event": "health.changed", "new": "degraded", \
"reasons": ["down"]}
{"at_utc": "2026-12-01T03:00:01.250+00:00", "event": "overrides.changed", \
"orders": ["avoid us-east-1 until 2026-12-01T03:30:00+00:00: INC-7"]}
{"at_utc": "2026-12-01T03:00:01.250+00:00", "event": "hea"""
PAGER = """\
listening on http://127.0.0.1:1
2026-12-01T03:00:01.250Z parker-flight-critical-alerts: ALARM: "ParkerFlight-KMS-HighErrorRate-us-east-1" in US West \
(Oregon)
2026-12-01T03:00:01.250Z pager: FIRING: KmsRegionUnhealthy: us-east-1 cannot be used
"""
ALARMS = """\
{"at_utc": "2026-12-01T03:00:01.250+00:00", "system": "CloudWatch", "name": "A", "state": "OK", "detail": "x"}
"""


@pytest.mark.parametrize(
    ("read", "written", "meant"),
    [
        pytest.param(
            moments.of_application,
            APPLICATION,
            [
                ("attempt", "application", "us-east-1", "failed", "ReadTimeout"),
                ("breaker", "application", "us-east-1", "open", "failures"),
                ("orders", "application", "", "avoid us-east-1", ""),
                ("orders", "application", "", "", ""),
            ],
            id="application",
        ),
        pytest.param(
            moments.of_watchdog,
            WATCHDOG,
            [
                ("canary", "watchdog", "us-east-1:pii", "failed", "ReadTimeout"),
                ("health", "watchdog", "", "degraded", "down"),
                ("orders", "watchdog", "", "avoid us-east-1", ""),
            ],
            id="watchdog",
        ),
        pytest.param(
            moments.of_pager,
            PAGER,
            [
                ("page", "SNS", "ParkerFlight-KMS-HighErrorRate-us-east-1", "ALARM", "in US West (Oregon)"),
                ("page", "pager", "KmsRegionUnhealthy", "ALARM", "us-east-1 cannot be used"),
            ],
            id="pager",
        ),
        pytest.param(moments.of_alarms, ALARMS, [("alarm", "CloudWatch", "A", "OK", "x")], id="alarms"),
    ],
)
def test_what_was_written_is_read_back(
    read: Callable[[str], Iterator[Moment]], written: str, meant: list[tuple[str, ...]]
) -> None:
    """Each log's lines, beside others and a half one; the application's readiness check is no customer."""
    at_utc = datetime(2026, 12, 1, 3, 0, 1, 250_000, tzinfo=UTC)

    assert [dataclasses.astuple(moment) for moment in read(written)] == [(at_utc, *one) for one in meant]


@pytest.mark.parametrize("page", ["region-unhealthy.md", "high-error-rate.md", "circuit-breaker-open.md"])
def test_the_pages_print_what_is_run(page: str) -> None:
    """Three commands to look, one to leave the region, one to return."""
    text = (ROOT / "alarms" / "runbooks" / page).read_text(encoding="utf-8")

    assert [command.split()[0] for command in first_commands(text)] == ["kms-watchdog", "kms-watchdog", "aws"]
    assert fix_command(text, "kms-watchdog evacuate us-east-1 --for").endswith('"')
    assert fix_command(text, "kms-watchdog return").startswith("kms-watchdog return us-east-1")


def test_the_shipped_routes_lead_to_the_pager_in_a_sixth_of_the_time() -> None:
    """Receivers' addresses and waits alone are changed."""
    shipped = (ROOT / "alarms" / "prometheus" / "alertmanager.example.yml").read_text(encoding="utf-8")

    routes = alerting.routes(shipped, "http://127.0.0.1:4711/", scale=SCALE)

    assert "http://127.0.0.1:4711/pager" in routes
    assert "127.0.0.1:9/" not in routes
    assert "group_wait: 1s667ms" in routes


def test_the_report_says_each_step_and_loads_nothing(promised: Plan) -> None:
    """JSON, Markdown and HTML speak of the same steps; the page needs no script and no network."""
    record = without("page-sns-HighErrorRate", promised, good_record(promised))
    steps = judge(promised, record, installed=ALL)

    document = json.loads(json.dumps(report.document(record, steps, promised)))
    markdown, page = report.markdown(steps, promised, record), report.html(record, steps, promised)

    assert document["verdict"] == "BROKE"
    assert {step["key"]: step["verdict"] for step in document["steps"]}["page-sns-HighErrorRate"] == "MISSING"
    assert all(step.where in markdown for step in steps)
    assert "**Did not hold**: SNS tells of it" in markdown
    assert all(
        found in page for found in ("BROKE", "Did not hold: SNS", "it did not come", "<svg", "kms-watchdog status")
    )
    assert not any(word in page for word in ("<script", 'src="', "url(http"))


def test_without_a_checkout_it_says_what_it_needs(tmp_path: Path) -> None:
    """The application and the runbooks are not in the wheel: one line, exit code 2, and nothing is started."""
    done = CliRunner().invoke(command_line, ["--source", str(tmp_path), "--dir", str(tmp_path / "days")])

    assert done.exit_code == 2
    assert "it has no examples/parker_flight_api (see --source)" in done.output
    assert not (tmp_path / "days").exists()
