"""`kms-alarms prove` against a local CloudWatch and SNS: alarms go off, somebody is told, and all is as before."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ports
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from daemon_kit import LocalCloud, clock, cloud, cloud_here, write_config
from http_subscriber import Subscriber, subscriber
from waiting import wait_until

from kms_alarms.apply import OWNER_TAG
from kms_alarms.cli import cli
from kms_alarms.cloudwatch import render
from kms_alarms.prove_aws import Door, DoorError
from kms_alarms.receipts import MARK, Confirmation, Inbox, Receipt, listening, parse
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import alarm_definitions, alarm_proofs, aws
from kms_watchdog.alarm_proofs import ProofRun
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.folder import DrillFolder, drills_dir

__all__ = ["clock", "cloud", "cloud_here", "write_config"]

pytestmark = pytest.mark.timeout(300)

HERE = "us-east-1"
PATIENCE = 120.0


class Site:
    """An estate whose alarms are in CloudWatch, in states that nothing changes: nobody publishes what they read."""

    def __init__(self, config: Path, environment: dict[str, str]) -> None:
        self.config, self.settings, self.environment = config, load(config), environment
        self.cloudwatch: Any = aws.client(self.settings, "cloudwatch", HERE)
        self.sns: Any = aws.client(self.settings, "sns", HERE)

    def name(self, row: str, *members: str) -> str:
        return "-".join((self.settings.cloudwatch.alarm_prefix, row, *members))

    @property
    def breaker(self) -> str:
        """An alarm that keeps its state while there are no data."""
        return self.name("CircuitBreakerOpen", "us-west-2")

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--config", str(self.config)], catch_exceptions=False)

    def prove(self, *arguments: str, within: float = PATIENCE) -> tuple[int, dict[str, dict[str, Any]]]:
        """Prove alarms of one region; return the exit code, and what became of each by its name."""
        done = self.run("prove", *arguments, "--region", HERE, "--yes", "--json", "--within", str(within))
        assert done.stdout, done.output
        return done.exit_code, {one["name"]: one for one in json.loads(done.stdout)}

    def state(self, name: str) -> tuple[str, str]:
        found = self.cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        [alarm] = (*found["MetricAlarms"], *found["CompositeAlarms"])
        return alarm["StateValue"], alarm["StateReason"]

    def set(self, name: str, state: str, reason: str = "by hand") -> None:
        self.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)

    def changes(self, name: str) -> int:
        """Return how often the alarm's state has changed."""
        found = self.cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate")
        return len(found["AlarmHistoryItems"])

    def topic(self, name: str) -> str:
        return alarm_definitions.topic_arn(self.settings, name, HERE)

    def subscriptions(self) -> list[str]:
        """Return the end points of all topics for people."""
        found = [
            self.sns.list_subscriptions_by_topic(TopicArn=self.topic(name))["Subscriptions"]
            for name in alarm_definitions.topics_to_people(self.settings)
        ]
        return [one["Endpoint"] for some in found for one in some]

    def runs(self) -> tuple[ProofRun, ...]:
        return alarm_proofs.read_all(self.settings.state.dir)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start it as a process of its own, which the test ends."""
        command = [sys.executable, "-m", "kms_alarms", "prove", *arguments, "--region", HERE, "--yes", "--json"]
        process = subprocess.Popen(
            [*command, "--config", str(self.config)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def site(cloud_here: LocalCloud, tmp_path: Path) -> Site:
    """A few of the alarms and their topics, of its own, none of which fires; nobody listens yet."""
    config, own = cloud_here.config(tmp_path, prefix="prove"), tmp_path.name.replace("_", "-")[-40:].strip("-")
    topics = "".join(f'{kind}_topic = "{own}-{kind}"\n' for kind in ("alerts", "critical", "drills"))
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[cloudwatch]", f'[cloudwatch]\nalarm_prefix = "{own}"\n{topics}', 1), "utf-8")
    made = Site(config, cloud_here.environment)
    for topic in alarm_definitions.topics(made.settings):
        made.sns.create_topic(Name=topic)
    rows = tuple(made.name(row) for row in ("CircuitBreakerOpen", "HighErrorRate", "TwoRegionsDown"))
    for one in render(made.settings, alarm_region=HERE):
        put = made.cloudwatch.put_composite_alarm if "AlarmRule" in one else made.cloudwatch.put_metric_alarm
        if one["AlarmName"].startswith(rows):
            put(**one, Tags=[OWNER_TAG])
    made.set(made.breaker, "OK")
    return made


@pytest.fixture
def people(site: Site) -> Iterator[Subscriber]:
    """Somebody who listens at the topics for people."""
    with subscriber() as listener:
        for name in alarm_definitions.topics_to_people(site.settings):
            site.sns.subscribe(TopicArn=site.topic(name), Protocol="http", Endpoint=listener.url)
        yield listener


def told(listener: Subscriber, name: str) -> list[tuple[str, str]]:
    """Return the states that somebody was told of an alarm, with the reasons, from the first ALARM on."""
    said = [json.loads(one["Message"]) for one in listener.messages()]
    states = [(one["NewStateValue"], one["NewStateReason"]) for one in said if one["AlarmName"] == name]
    return list(itertools.dropwhile(lambda one: one[0] != "ALARM", states))


def test_an_alarm_is_told_and_put_back(site: Site, people: Subscriber) -> None:
    """On call hears ALARM and OK, both say PROOF; the record says who, when, and how soon; nobody else listens on."""
    code, came = site.prove(site.breaker)

    assert code == 0
    [one] = [one for one in came.values() if one["name"] == site.breaker]
    assert (one["outcome"], one["restored"], one["finding"]) == ("proven", True, "")
    assert one["told_after_seconds"] >= 0
    assert site.state(site.breaker)[0] == "OK"
    wait_until(lambda: len(told(people, site.breaker)) > 1, says="the end is told too", seconds=PATIENCE)
    (fired, why), (over, why_over) = told(people, site.breaker)
    assert (fired, over) == ("ALARM", "OK")
    assert why.startswith("PROOF ")
    assert "arn:aws:" in why
    assert "nothing is wrong" in why
    assert why_over.startswith("PROOF ")
    assert site.subscriptions() == [people.url, people.url]
    [run] = site.runs()
    assert (run.closed, run.left, run.broken) == (True, (), "")
    [proof] = [proof for proof in run.proofs if proof.name == site.breaker]
    assert (proof.alarm, proof.region, proof.system) == ("CircuitBreakerOpen", HERE, "cloudwatch")
    assert proof.by.startswith("arn:aws:")
    assert proof.told_at_utc is not None
    assert proof.restored_at_utc is not None
    assert proof.fired_at_utc <= proof.told_at_utc


def test_a_composite_is_proven_through_those_it_rests_on(site: Site, people: Subscriber) -> None:
    """Never set off itself, for it might not come back; two regions go off together, and it must follow."""
    both = site.name("TwoRegionsDown")

    code, came = site.prove("TwoRegionsDown")

    assert (code, list(came)) == (0, [both])
    wait_until(lambda: len(told(people, both)) > 1, says="the end is told too", seconds=PATIENCE)
    (fired, why), *_, (over, _) = told(people, both)
    assert (fired, over) == ("ALARM", "OK")
    assert not why.startswith("PROOF")  # it is CloudWatch's own reason
    assert site.state(both)[0] == "OK"
    [run] = site.runs()
    assert {proof.alarm for proof in run.proofs} >= {"TwoRegionsDown", "HighErrorRate"}
    assert {proof.told_at_utc is not None for proof in run.proofs} == {True}


def test_an_alarm_without_data_goes_back_to_that_by_way_of_ok(site: Site, people: Subscriber) -> None:
    """Who was told of ALARM is told of its end, and the state is what it was."""
    site.set(site.breaker, "INSUFFICIENT_DATA", "there were none")

    code, _ = site.prove(site.breaker)

    assert code == 0
    wait_until(lambda: len(told(people, site.breaker)) > 1, says="the end is told too", seconds=PATIENCE)
    assert [state for state, _ in told(people, site.breaker)] == ["ALARM", "OK"]
    state, why = site.state(site.breaker)
    assert state == "INSUFFICIENT_DATA"
    assert why.endswith("Before: there were none")


def test_what_is_not_received_is_not_proven_and_put_back(site: Site, people: Subscriber) -> None:
    """SNS takes the endpoint, and delivers nothing there."""
    code, came = site.prove(site.breaker, "--url", f"http://127.0.0.1:{ports.free()}/", within=0.5)

    assert code == 1
    assert (came[site.breaker]["outcome"], came[site.breaker]["restored"]) == ("not told", True)
    assert site.state(site.breaker)[0] == "OK"
    [run] = site.runs()
    assert {proof.told_at_utc for proof in run.proofs} == {None}
    assert people.url in site.subscriptions()


def test_where_nobody_else_listens_nothing_is_proven(site: Site) -> None:
    """The proof's own ear is nobody's pager."""
    code, came = site.prove(site.breaker)

    alerts = site.settings.cloudwatch.alerts_topic
    assert code == 1
    assert came[site.breaker]["outcome"] == "not told"
    assert came[site.breaker]["finding"] == f"nobody listens at {alerts} but this proof"
    assert came[site.breaker]["restored"]
    assert site.subscriptions() == []


@pytest.mark.usefixtures("people")
def test_an_alarm_that_fires_is_left_alone(site: Site) -> None:
    """A real one: to put it back would hide it."""
    site.set(site.breaker, "ALARM", "the breaker is open")
    before = site.changes(site.breaker)

    code, came = site.prove(site.breaker)

    assert code == 4
    assert (came[site.breaker]["outcome"], came[site.breaker]["finding"]) == ("refused", "it is in ALARM now")
    assert site.state(site.breaker) == ("ALARM", "the breaker is open")
    assert (site.changes(site.breaker), site.runs()) == (before, ())


@pytest.mark.usefixtures("people")
def test_somebody_elses_alarm_is_left_alone(site: Site) -> None:
    """Though it is called like ours."""
    arn = site.cloudwatch.describe_alarms(AlarmNames=[site.breaker])["MetricAlarms"][0]["AlarmArn"]
    site.cloudwatch.tag_resource(ResourceARN=arn, Tags=[{**OWNER_TAG, "Value": "terraform"}])
    before = site.changes(site.breaker)

    code, came = site.prove(site.breaker)

    assert code == 4
    assert (came[site.breaker]["outcome"], came[site.breaker]["finding"]) == ("refused", "it belongs to terraform")
    assert site.changes(site.breaker) == before


@pytest.mark.usefixtures("people")
def test_nothing_goes_off_with_it_that_is_somebody_elses(site: Site) -> None:
    """His composite rests on our alarm: he was not asked."""
    other = f"his-own-{site.settings.cloudwatch.alarm_prefix}"
    site.cloudwatch.put_composite_alarm(AlarmName=other, AlarmRule=f'ALARM("{site.breaker}")')
    wait_until(lambda: site.state(other)[0] == "OK", says="it was looked at", seconds=PATIENCE)

    code, came = site.prove(site.breaker)

    assert code == 4
    assert came[site.breaker]["finding"] == f"{other} would fire with it, and belongs to somebody else"
    assert site.state(other)[0] == "OK"


def test_an_alarm_that_is_missing_is_bad(site: Site) -> None:
    """It would tell nobody of anything."""
    latency = site.name("HighLatency", "eu-west-1")

    code, came = site.prove(latency)

    assert (code, came[latency]["outcome"], came[latency]["restored"]) == (1, "missing", None)


def test_nobody_is_paged_unasked(site: Site) -> None:
    """Without --yes it says who would be told, and does nothing."""
    before = site.changes(site.breaker)

    asked = site.run("prove", site.breaker, "--region", HERE)

    assert asked.exit_code == 4
    assert site.settings.cloudwatch.alerts_topic in asked.stdout
    assert "nothing was set off" in asked.stderr
    assert (site.changes(site.breaker), site.runs()) == (before, ())


def test_not_while_a_drill_runs(site: Site) -> None:
    """Its must_not_fire looks at the live alarms."""
    before = site.changes(site.breaker)
    drills_dir(site.settings.state.dir).mkdir(parents=True)

    with DrillFolder(drills_dir(site.settings.state.dir)).owned():
        done = site.run("prove", site.breaker, "--region", HERE, "--yes")

    assert (done.exit_code, site.changes(site.breaker)) == (4, before)
    assert "a drill or another proof runs" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_puts_it_back(site: Site, people: Subscriber, number: signal.Signals) -> None:
    """Whatever ends it: the state first."""
    deaf = f"http://127.0.0.1:{ports.free()}/"
    with site.started(site.breaker, "--url", deaf, "--within", "3600") as process:
        wait_until(lambda: site.state(site.breaker)[0] == "ALARM", says="it goes off", seconds=PATIENCE)
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 3, errors
    [one] = [one for one in json.loads(output) if one["name"] == site.breaker]
    assert (one["outcome"], one["restored"], one["finding"]) == ("unclear", True, "it was interrupted")
    assert site.state(site.breaker)[0] == "OK"
    assert site.subscriptions() == [people.url, people.url]
    [run] = site.runs()
    assert (run.closed, run.left) == (True, ())


@pytest.mark.usefixtures("people")
def test_what_a_killed_proof_left_the_next_one_puts_back(site: Site) -> None:
    """What it set off was on disk before: the alarm is not taken for a real one."""
    deaf = f"http://127.0.0.1:{ports.free()}/"
    with site.started(site.breaker, "--url", deaf, "--within", "3600") as process:
        wait_until(lambda: site.state(site.breaker)[0] == "ALARM", says="it goes off", seconds=PATIENCE)
        process.kill()
        process.communicate(timeout=PATIENCE)
    [killed] = site.runs()

    done = site.run("prove", site.breaker, "--region", HERE, "--yes", "--json", "--within", str(PATIENCE))

    assert [one.name for one in killed.left] == [site.breaker]
    assert done.exit_code == 0, done.output
    assert f"{HERE} {site.breaker}: put back, as {killed.run_id} had not" in done.stderr
    assert site.state(site.breaker)[0] == "OK"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["NoSuchAlarm"], "there is no live alarm NoSuchAlarm", id="name"),
        pytest.param(["--region", "eu-west-1"], "eu-west-1 has no alarms", id="region"),
        pytest.param(["--listen", "everywhere"], "--listen is HOST:PORT", id="listen"),
        pytest.param(["--url", "ftp://x"], "--url is http:// or https://", id="url"),
    ],
)
def test_what_is_typed_wrong_is_told_in_a_line(
    write_config: Callable[..., Path], arguments: list[str], said: str
) -> None:
    """Before anybody is asked anything."""
    done = CliRunner().invoke(cli, ["prove", "--yes", *arguments, "--config", str(write_config())])

    assert done.exit_code == 2
    assert said in done.stderr


def test_aws_cannot_reach_an_address_of_this_machine(write_config: Callable[..., Path]) -> None:
    """Said before anything goes off, as a subscriber that hears nothing would say nothing."""
    done = CliRunner().invoke(cli, ["prove", "--yes", "--config", str(write_config())])

    assert done.exit_code == 2
    assert "SNS in us-east-1 cannot reach 127.0.0.1:0: name the URL" in done.stderr


class AsksFirst:
    """SNS as AWS has it: who subscribes must confirm."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def subscribe(self, **given: Any) -> Any:
        return self._client.subscribe(**given, Attributes={"PendingConfirmation": "true"})


@pytest.fixture
def door(site: Site) -> Door:
    made = Door(site.settings, HERE, SystemClock())
    made._sns = AsksFirst(made._sns)  # the local SNS confirms by itself, unless it is asked not to
    return made


def test_the_handshake(site: Site, door: Door) -> None:
    """SNS asks the endpoint, which hands the token back by our own credentials; afterwards it is gone."""
    topic = site.topic(site.settings.cloudwatch.alerts_topic)
    with listening("127.0.0.1", 0, None, SystemClock(), entropy=os.urandom) as endpoint:
        with door.subscribed([topic], endpoint, threading.Event(), within_seconds=PATIENCE):
            [one] = site.sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
            listeners = door.listeners(topic)
        after = site.sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]

    assert one["SubscriptionArn"].startswith("arn:")  # confirmed
    assert one["Endpoint"].rpartition("/")[2].startswith(MARK)
    assert listeners == 0  # a proof's ear is nobody
    assert after == []


class Keeps:
    """SNS that takes no subscription away."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def unsubscribe(self, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AuthorizationError", "Message": "no"}}, "Unsubscribe")


def test_a_subscription_that_cannot_be_taken_away_is_told(site: Site, door: Door) -> None:
    """Whoever reads the topic's list would wonder whose it is."""
    door._sns = Keeps(door._sns)
    topic = site.topic(site.settings.cloudwatch.alerts_topic)
    with (
        listening("127.0.0.1", 0, None, SystemClock(), entropy=os.urandom) as endpoint,
        door.subscribed([topic], endpoint, threading.Event(), within_seconds=PATIENCE),
    ):
        [one] = site.sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]

    [left] = door.left
    assert "Unsubscribe: AuthorizationError" in left
    assert one["SubscriptionArn"] in left


def test_an_endpoint_that_sns_does_not_reach_is_told(site: Site, door: Door) -> None:
    """Before an alarm goes off, and without waiting for ever."""
    topic, nowhere = site.topic(site.settings.cloudwatch.alerts_topic), f"http://127.0.0.1:{ports.free()}"
    with (
        listening("127.0.0.1", 0, nowhere, SystemClock(), entropy=os.urandom) as endpoint,
        pytest.raises(DoorError, match="SNS has not reached the endpoint of the proof"),
        door.subscribed([topic], endpoint, threading.Event(), within_seconds=0.3),
    ):
        pytest.fail("it was not subscribed")


def post(url: str, body: bytes) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    try:
        connection.request("POST", parts.path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def notification(**message: str) -> bytes:
    told = {"AlarmArn": "arn:alarm", "NewStateValue": "ALARM", "NewStateReason": "PROOF 1 by x", **message}
    return json.dumps({"Type": "Notification", "TopicArn": "arn:topic", "Message": json.dumps(told)}).encode()


def test_only_who_knows_the_secret_is_heard() -> None:
    """Anybody may call; SNS alone knows where."""
    with listening("127.0.0.1", 0, None, SystemClock(), entropy=os.urandom) as endpoint:
        forged = post(endpoint.url.rpartition("/")[0] + f"/{MARK}{'0' * 32}", notification())
        heard_forged = endpoint.inbox.since(0)
        real = post(endpoint.url, notification())
        noise = post(endpoint.url, b"{}")
        [receipt] = endpoint.inbox.since(0)

    assert (forged, heard_forged, real, noise) == (404, (), 200, 400)
    assert (receipt.topic, receipt.alarm, receipt.state) == ("arn:topic", "arn:alarm", "ALARM")


def test_secrets_do_not_repeat() -> None:
    """Each proof has an address of its own, behind the address that it was given."""
    clock = SystemClock()
    with ExitStack() as stack:
        urls = [
            stack.enter_context(listening("127.0.0.1", 0, "https://x.example/sns/", clock, entropy=os.urandom)).url
            for _ in range(2)
        ]

    assert len(set(urls)) == 2
    assert all(url.startswith(f"https://x.example/sns/{MARK}") for url in urls)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no-text"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"Type": "Notification", "TopicArn": "t", "Message": "hello"}', id="no-alarm"),
        pytest.param(b'{"Type": "Notification", "TopicArn": "t", "Message": "[1]"}', id="no-alarm-but-json"),
    ],
)
def test_what_is_no_notification_is_not_taken(body: bytes) -> None:
    """Nor does it hurt."""
    assert parse(body, ManualClock().now_utc(), 0.0) is None


def test_an_inbox_hands_out_each_confirmation_once(clock: ManualClock) -> None:
    """And receipts from a place on."""
    inbox = Inbox(clock)
    asked = {"Type": "SubscriptionConfirmation", "TopicArn": "arn:topic", "Token": "abc"}

    assert inbox.take(json.dumps(asked).encode())
    assert inbox.take(notification())
    mark = inbox.mark()
    assert inbox.take(notification(NewStateValue="OK"))

    assert inbox.confirmations() == (Confirmation(topic="arn:topic", token="abc"),)
    assert inbox.confirmations() == ()
    [late] = inbox.since(mark)
    assert isinstance(late, Receipt)
    assert late.state == "OK"


def test_settings_say_how(write_config: Callable[..., Path]) -> None:
    """The schedule's proof has no arguments of its own."""
    found: Settings = load(
        write_config('[cloudwatch.proof]\nlisten = "0.0.0.0:8088"\nurl = "https://x.example/sns"\n'), environ={}
    )

    assert found.cloudwatch.proof.listen == "0.0.0.0:8088"
    assert found.cloudwatch.proof.url == "https://x.example/sns"
    assert found.plans == ()
