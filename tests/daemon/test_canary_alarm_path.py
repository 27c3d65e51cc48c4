"""The alarm path: each way in which nobody would be woken, the gravest first; and what could not be seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    UnknownCredentialError,
)
from click.testing import CliRunner
from daemon_kit import LocalCloud

from kms_alarms import apply, cloudwatch
from kms_core import ConfigurationError, Core
from kms_core.clock import Clock
from kms_core.testing import ManualClock
from kms_local import admin_client
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.alarm_services import AwsAlarmServices
from kms_watchdog.canaries.alarm_path import AlarmPath
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.reading import from_aws_error
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

REGION = "us-east-1"
ALERTS, CRITICAL, DRILLS = "parker-flight-alerts", "parker-flight-critical-alerts", "parker-flight-drill-alerts"
ON = '[canaries]\nkinds = ["round_trip", "alarm_path"]\n'


def arn(topic: str) -> str:
    return f"arn:aws:sns:{REGION}:123456789012:{topic}"


def open_to(principal: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sns:Publish", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass
class FakeServices:
    """CloudWatch and SNS in memory: what is there, and what fails."""

    present: list[dict[str, Any]] = field(default_factory=list)
    topics: dict[str, dict[str, str]] = field(default_factory=dict)
    subscribers: dict[str, int] = field(default_factory=dict)
    failing: dict[str, Exception] = field(default_factory=dict)
    """By method, or by ARN or prefix asked about."""
    asked: Callable[[], None] = lambda: None

    def alarms(self, prefix: str) -> tuple[Mapping[str, Any], ...]:
        self._fail("alarms", prefix)
        return tuple(alarm for alarm in self.present if alarm["AlarmName"].startswith(prefix))

    def topic(self, arn: str) -> Mapping[str, str] | None:
        self._fail("topic", arn)
        return self.topics.get(arn)

    def confirmed_subscribers(self, arn: str) -> int:
        self._fail("confirmed_subscribers", arn)
        return self.subscribers.get(arn, 0)

    def _fail(self, *names: str) -> None:
        self.asked()
        for name in names:
            if name in self.failing:
                raise self.failing[name]


@pytest.fixture
def services(settings: Settings) -> FakeServices:
    """All as `kms-alarms apply` makes it, and somebody listening."""
    rendered = cloudwatch.render(settings, alarm_region=REGION)
    present = [{**one, "AlarmArn": f"arn:aws:cloudwatch:::alarm:{one['AlarmName']}"} for one in rendered]
    topics = {arn(name): {"Policy": open_to("*")} for name in (ALERTS, CRITICAL, DRILLS)}
    return FakeServices(present, topics, {arn(ALERTS): 1, arn(CRITICAL): 2})


@pytest.fixture
def definitions(settings: Settings, tmp_path: Path) -> Path:
    path = alarm_definitions.path_of(tmp_path, REGION)
    path.write_text(alarm_definitions.text_of(cloudwatch.render(settings, alarm_region=REGION)), encoding="utf-8")
    return path


@pytest.fixture
def canary(write_config: Callable[..., Path], services: FakeServices, settings: Settings) -> AlarmPath:
    """As the roster builds it, over services in memory."""

    class FakePorts(Ports):
        def alarm_services(self, region: str) -> FakeServices:
            return services

    built = live_canaries(FakePorts(load(write_config(ON)), ManualClock()))
    [first, second] = [one for one in built if isinstance(one, AlarmPath)]
    assert (first.region, second.region) == ("us-east-1", "us-west-2")
    return first


Look = Callable[..., CanaryResult]


@pytest.fixture
def look(canary: AlarmPath, core: Core) -> Look:
    def run(definitions: Path | None = None, clock: Clock | None = None) -> CanaryResult:
        return replace(canary, definitions=definitions).run(core, clock or ManualClock())

    return run


def test_all_as_it_should_be(look: Look, services: FakeServices, definitions: Path) -> None:
    """OK, with how many alarms there are, and that they were compared."""
    found = look(definitions)

    assert (found.outcome, found.canary, found.region, found.key) == (Outcome.OK, Kind.ALARM_PATH, REGION, "")
    assert found.facts == {"alarms": float(len(services.present)), "definitions_compared": True}
    assert list(found.steps) == ["alarms", "topics", "subscribers"]
    assert found.detail == ""


def test_without_definitions_nothing_is_compared(look: Look, services: FakeServices) -> None:
    """A threshold that was changed goes unseen, and the facts say so."""
    services.present[0]["Threshold"] = 99.0

    found = look()

    assert (found.outcome, found.facts["definitions_compared"]) == (Outcome.OK, False)


def test_an_alarm_that_is_missing(look: Look, services: FakeServices, definitions: Path) -> None:
    """By name, as rendered."""
    gone = services.present.pop(0)

    found = look(definitions)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.ALARM_MISSING)
    assert found.detail == f"alarm_missing: {gone['AlarmName']}"


def test_no_alarm_at_all(look: Look, services: FakeServices) -> None:
    """Without definitions the prefix is all there is to miss."""
    services.present.clear()

    found = look()

    assert (found.reason, found.detail) == (Reason.ALARM_MISSING, "alarm_missing: ParkerFlight-KMS*")


def test_an_alarm_that_differs(look: Look, services: FakeServices, definitions: Path) -> None:
    """With the parameters in which it does."""
    services.present[0] |= {"Threshold": 99.0, "AlarmActions": []}

    found = look(definitions)

    assert found.reason is Reason.ALARM_DIFFERS
    assert found.detail == f"alarm_differs: {services.present[0]['AlarmName']} (AlarmActions, Threshold)"


@pytest.mark.parametrize("compared", [pytest.param(True, id="compared"), pytest.param(False, id="not-compared")])
def test_actions_that_are_off(look: Look, services: FakeServices, definitions: Path, *, compared: bool) -> None:
    """An alarm that turns red in silence, said once however it is found."""
    services.present[0]["ActionsEnabled"] = False

    found = look(definitions if compared else None)

    assert found.reason is Reason.ALARM_DIFFERS
    assert found.detail == f"alarm_differs: {services.present[0]['AlarmName']} (its actions are off)"


def test_actions_that_are_rendered_off(look: Look, services: FakeServices, definitions: Path) -> None:
    """Off on purpose is as it should be, and on is then a difference like any other."""
    services.present[0]["ActionsEnabled"] = False
    wanted = [
        {**one, "ActionsEnabled": one["AlarmName"] != services.present[0]["AlarmName"]} for one in services.present
    ]
    definitions.write_text(alarm_definitions.text_of(wanted), encoding="utf-8")

    off = look(definitions)
    services.present[0]["ActionsEnabled"] = True
    on = look(definitions)

    assert off.outcome is Outcome.OK
    assert (on.reason, on.detail) == (
        Reason.ALARM_DIFFERS,
        f"alarm_differs: {services.present[0]['AlarmName']} (ActionsEnabled)",
    )


def test_an_alarm_that_tells_nobody(look: Look, services: FakeServices) -> None:
    """Its actions lead nowhere, unless a composite alarm acts in its place."""
    mute = next(one for one in services.present if "HighLatency" in one["AlarmName"])  # no composite names it
    name, mute["AlarmActions"] = mute["AlarmName"], []

    alone = look()
    services.present.append(
        {**services.present[1], "AlarmName": "ParkerFlight-KMS-All", "AlarmRule": f'ALARM("{name}")'}
    )
    spoken_for = look()

    assert (alone.reason, alone.detail) == (Reason.ALARM_DIFFERS, f"alarm_differs: {name} (tells nobody)")
    assert spoken_for.outcome is Outcome.OK


def test_a_rule_that_names_a_longer_name_speaks_for_nobody_else(look: Look, services: FakeServices) -> None:
    """Regression: part of another alarm's name was enough to be spoken for."""
    mute = next(one for one in services.present if "HighLatency" in one["AlarmName"])  # no composite names it
    name, mute["AlarmActions"] = mute["AlarmName"], []
    services.present.append(
        {**services.present[1], "AlarmName": "ParkerFlight-KMS-All", "AlarmRule": f'ALARM("{name}-2")'}
    )

    assert look().detail == f"alarm_differs: {name} (tells nobody)"


def test_topics_are_in_the_regions_own_partition(settings: Settings) -> None:
    """Regression: in China every topic was said to be missing."""
    regions = {"regions": ("cn-north-1",), "primary_region": "cn-north-1"}
    there = settings.model_copy(update={"estate": settings.estate.model_copy(update=regions)})

    assert alarm_definitions.topic_arn(there, "t", "cn-north-1") == "arn:aws-cn:sns:cn-north-1:123456789012:t"


@pytest.mark.parametrize("topic", [ALERTS, CRITICAL, DRILLS])
def test_a_topic_that_is_missing(look: Look, services: FakeServices, topic: str) -> None:
    """Each of the three; of a missing one nobody complains that it has no subscriber."""
    del services.topics[arn(topic)]
    services.subscribers.pop(arn(topic), None)

    found = look()

    assert (found.reason, found.detail) == (Reason.TOPIC_MISSING, f"topic_missing: {topic}")


def test_a_topic_that_refuses(look: Look, services: FakeServices) -> None:
    """Its policy keeps CloudWatch out."""
    services.topics[arn(CRITICAL)]["Policy"] = open_to({"AWS": "arn:aws:iam::123456789012:root"})

    found = look()

    assert found.reason is Reason.TOPIC_REFUSES
    assert found.detail == f"topic_refuses: {CRITICAL}: its policy does not let CloudWatch publish"


def test_a_topic_under_a_watched_key(look: Look, services: FakeServices) -> None:
    """The alarm that this key is broken would need this key."""
    services.topics[arn(CRITICAL)]["KmsMasterKeyId"] = "alias/payment"

    found = look()

    assert found.reason is Reason.TOPIC_REFUSES


def test_a_topic_open_to_some_alarms_alone(look: Look, services: FakeServices) -> None:
    """Each alarm that speaks to the topic is asked about, by its own ARN."""
    condition = {"ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:::alarm:*-us-east-1"}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "*", "Condition": condition}
    services.topics[arn(CRITICAL)]["Policy"] = json.dumps({"Statement": [statement]})

    refused = look()
    services.present = [one for one in services.present if one["AlarmName"].endswith("-us-east-1")]
    allowed = look()

    assert (refused.reason, allowed.outcome) == (Reason.TOPIC_REFUSES, Outcome.OK)


@pytest.mark.parametrize("topic", [ALERTS, CRITICAL])
def test_a_topic_without_a_subscriber(look: Look, services: FakeServices, topic: str) -> None:
    """Nobody listens; at the drills' topic nobody needs to."""
    services.subscribers[arn(topic)] = 0

    found = look()

    assert (found.reason, found.detail) == (Reason.NO_SUBSCRIBER, f"no_subscriber: {topic}")


def test_the_gravest_is_the_reason_and_the_detail_names_all(
    look: Look, services: FakeServices, definitions: Path
) -> None:
    """One look finds everything that is to be mended."""
    services.subscribers.clear()
    services.topics.pop(arn(DRILLS))
    services.topics[arn(ALERTS)]["Policy"] = open_to({"Service": "events.amazonaws.com"})
    services.present[0]["Threshold"] = 99.0
    services.present.pop()

    found = look(definitions)

    assert found.reason is Reason.ALARM_MISSING
    assert [part.partition(":")[0] for part in found.detail.split("; ")] == [
        "alarm_missing",
        "alarm_differs",
        "topic_missing",
        "topic_refuses",
        "no_subscriber",
    ]


def test_of_many_five_are_named(look: Look, services: FakeServices, definitions: Path) -> None:
    """A detail is a line, not a page."""
    all_of_them = len(services.present)
    services.present.clear()

    found = look(definitions)

    assert found.detail.endswith(f" and {all_of_them - 5} more")


def client_error(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "r-1"}}
    return ClientError(answer, "DescribeAlarms")


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        pytest.param(client_error("AccessDenied", 403), Reason.DENIED, "AccessDenied", id="denied"),
        pytest.param(client_error("Throttling"), Reason.THROTTLED, "Throttling", id="throttled"),
        pytest.param(client_error("InternalError", 500), Reason.ERROR, "InternalError", id="their-fault"),
        pytest.param(client_error("ValidationError"), Reason.UNREADABLE, "ValidationError", id="not-understood"),
        pytest.param(client_error("ExpiredToken", 403), Reason.NO_CREDENTIALS, "ExpiredToken", id="expired"),
        pytest.param(
            client_error("SignatureDoesNotMatch", 403),
            Reason.NO_CREDENTIALS,
            "SignatureDoesNotMatch",
            id="wrong-secret",
        ),
        pytest.param(NoCredentialsError(), Reason.NO_CREDENTIALS, "NoCredentialsError", id="none"),
        pytest.param(
            UnknownCredentialError(name="x"), Reason.NO_CREDENTIALS, "UnknownCredentialError", id="no-such-source"
        ),
        pytest.param(ReadTimeoutError(endpoint_url="x"), Reason.TIMEOUT, "ReadTimeoutError", id="timeout"),
        pytest.param(
            EndpointConnectionError(endpoint_url="x"), Reason.ERROR, "EndpointConnectionError", id="unreachable"
        ),
    ],
)
def test_what_cannot_be_read_is_blind(error: Exception, reason: Reason, code: str) -> None:
    """Whatever a reading canary asks: an error says nothing about what it would have read."""
    found = from_aws_error(error)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, reason, code)
    assert found.request_id == ("r-1" if isinstance(error, ClientError) else "")
    assert code in found.detail


@pytest.mark.parametrize("what", ["alarms", "topic", "confirmed_subscribers"])
def test_one_service_that_cannot_be_seen(look: Look, services: FakeServices, definitions: Path, what: str) -> None:
    """The look is blind, and says at what."""
    services.failing[what] = client_error("AccessDenied", 403)

    found = look(definitions)

    assert (found.outcome, found.reason, found.request_id) == (Outcome.BLIND, Reason.DENIED, "r-1")
    assert found.detail.endswith("DescribeAlarms: AccessDenied")
    assert found.facts["definitions_compared"] is (what != "alarms")


def test_what_is_wrong_outweighs_what_cannot_be_seen(look: Look, services: FakeServices) -> None:
    """A missing topic is certain, whatever else there may be."""
    services.failing["alarms"] = client_error("AccessDenied", 403)
    del services.topics[arn(DRILLS)]

    found = look()

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.TOPIC_MISSING)
    assert "not seen: ParkerFlight-KMS: DescribeAlarms: AccessDenied" in found.detail


def test_one_topic_that_cannot_be_seen(look: Look, services: FakeServices) -> None:
    """The others are judged; its subscribers are not missed, since nobody knows whether it is there."""
    services.failing[arn(ALERTS)] = client_error("AuthorizationError", 403)
    services.subscribers[arn(ALERTS)] = 0

    found = look()

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.DENIED)
    assert found.detail.startswith(ALERTS)


def test_a_policy_that_cannot_be_evaluated_is_blind(look: Look, services: FakeServices) -> None:
    """What is not evaluated here may allow or deny."""
    services.topics[arn(ALERTS)]["Policy"] = "{"

    found = look()

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.UNREADABLE)
    assert found.detail.startswith(f"policy of {ALERTS}: ")


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="gone"), pytest.param("{", id="torn"), pytest.param('[{"x": 1}]', id="others")]
)
def test_definitions_that_cannot_be_read_are_blind(
    look: Look, services: FakeServices, definitions: Path, content: str | None
) -> None:
    """The rest is looked at all the same, and the facts say that nothing was compared."""
    definitions.unlink()
    if content is not None:
        definitions.write_text(content, encoding="utf-8")

    found = look(definitions)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.UNREADABLE)
    assert str(definitions) in found.detail
    assert found.facts == {"alarms": float(len(services.present)), "definitions_compared": False}


def test_a_slow_service_ends_the_look(look: Look, services: FakeServices) -> None:
    """Past the deadline nothing more is asked: other looks need the thread."""
    clock = ManualClock()
    asked: list[float] = []

    def wait() -> None:
        asked.append(clock.monotonic())
        clock.advance(6.0)

    services.asked = wait

    found = look(None, clock)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.TIMEOUT, "Deadline")
    assert len(asked) == 2


def built(settings: Settings) -> tuple[Canary, ...]:
    return live_canaries(Ports(settings, ManualClock()))


def test_definitions_of_every_region_are_asked_for(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """A region's file that is missing is said at the start, not at three in the morning; so is one that is none."""
    settings = load(write_config(f'{ON}[canaries.alarm_path]\ndefinitions = "rendered"\n'))
    folder = settings.canaries.alarm_path.definitions
    assert folder == tmp_path / "rendered"
    folder.mkdir()
    (folder / "us-east-1.json").write_text("[]", encoding="utf-8")

    with pytest.raises(
        ConfigurationError, match=r"^canaries.alarm_path.definitions: .*us-west-2.json: cannot be read: No such"
    ):
        alarm_definitions.check(settings)
    with pytest.raises(ConfigurationError, match=r"us-west-2.json"):
        built(settings)
    (folder / "us-west-2.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"us-west-2.json: not a list of alarms"):
        built(settings)


def test_check_config_asks_for_them_too(write_config: Callable[..., Path]) -> None:
    """Exit code 2, and one line that names file, key and what is missing."""
    path = write_config(f'{ON}[canaries.alarm_path]\ndefinitions = "rendered"\n')

    done = CliRunner().invoke(command, ["check-config", "--config", str(path)])

    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"kms-watchdog: {path}: canaries.alarm_path.definitions: ")


def test_definitions_nobody_compares_are_not_asked_for(write_config: Callable[..., Path]) -> None:
    """Without the canary, or without CloudWatch, there is nothing to compare."""
    table = '[canaries.alarm_path]\ndefinitions = "rendered"\n'
    without_canary = load(write_config(f'[canaries]\nkinds = ["round_trip"]\n{table}'))
    without_cloudwatch = load(write_config(f"{ON}{table}[cloudwatch]\nenabled = false\n"))

    assert all(one.kind != Kind.ALARM_PATH for one in built(without_canary))
    assert all(one.kind != Kind.ALARM_PATH for one in built(without_cloudwatch))


@pytest.mark.parametrize("service", ["cloudwatch", "sns"])
def test_half_an_answer_tells_of_nothing(cloud_here: LocalCloud, tmp_path: Path, service: str) -> None:
    """Regression: cut off, CloudWatch's was "there are no alarms", which pages; SNS's crashed the look."""
    settings = load(cloud_here.config(tmp_path, prefix="half"))
    services = AwsAlarmServices(settings, REGION)
    topic = aws.client(settings, "sns", REGION).create_topic(Name="half")["TopicArn"]
    asking: dict[str, list[Callable[[], object]]] = {
        "cloudwatch": [lambda: services.alarms("Half")],
        "sns": [lambda: services.topic(topic), lambda: services.confirmed_subscribers(topic)],
    }
    whole = [ask() for ask in asking[service]]
    fault = admin_client.ask(cloud_here.directory, "POST", "/faults", {"service": service, "truncate_at": 5})

    try:
        for ask in asking[service]:
            with pytest.raises(aws.AwsError) as caught:
                ask()
            assert from_aws_error(caught.value).outcome is Outcome.BLIND
    finally:
        admin_client.ask(cloud_here.directory, "DELETE", f"/faults/{fault['id']}")

    assert whole[0] is not None


def test_from_nothing_to_ok_in_a_local_aws(cloud_here: LocalCloud, tmp_path: Path, core: Core) -> None:
    """Each step of setting the path up is the one thing that is then no longer wrong."""
    more = '[canaries.alarm_path]\ndefinitions = "rendered"\n'
    kinds = (Kind.ROUND_TRIP, Kind.ALARM_PATH)
    path = cloud_here.config(tmp_path, f"{more}[canaries.round_trip]\n", prefix="alarmpath", kinds=kinds)
    text = path.read_text(encoding="utf-8")
    topics = 'alerts_topic = "ap-1"\ncritical_topic = "ap-2"\ndrills_topic = "ap-3"'
    names = f'[cloudwatch]\nalarm_prefix = "AlarmPath"\n{topics}'
    path.write_text(text.replace("[cloudwatch]", names, 1), encoding="utf-8")
    settings = load(path)
    (tmp_path / "rendered").mkdir()
    for region in settings.publish_regions:
        rendered = alarm_definitions.text_of(cloudwatch.render(settings, alarm_region=region))
        alarm_definitions.path_of(tmp_path / "rendered", region).write_text(rendered, encoding="utf-8")
    [canary, _] = [one for one in built(settings) if isinstance(one, AlarmPath)]
    sns, seen = aws.client(settings, "sns", REGION), []

    nothing = canary.run(core, ManualClock())
    apply.apply(settings, apply.plan(settings))
    seen.append(canary.run(core, ManualClock()).reason)
    for topic in ("ap-1", "ap-2"):
        asking = {"Protocol": "http", "Endpoint": "http://127.0.0.1:9/", "Attributes": {"PendingConfirmation": "true"}}
        sns.subscribe(TopicArn=arn(topic), ReturnSubscriptionArn=True, **asking)
    seen.append(canary.run(core, ManualClock()).reason)
    waiting = apply.subscribe(settings, "http://127.0.0.1:9/there")
    found = canary.run(core, ManualClock())

    assert waiting == ()
    assert (nothing.outcome, nothing.reason) == (Outcome.FAILED, Reason.ALARM_MISSING)
    assert nothing.detail.endswith("; topic_missing: ap-1, ap-2, ap-3")
    assert seen == [Reason.NO_SUBSCRIBER, Reason.NO_SUBSCRIBER]
    assert (found.outcome, found.detail) == (Outcome.OK, "")
    wanted = cloudwatch.render(settings, alarm_region=REGION)
    assert found.facts == {"alarms": float(len(wanted)), "definitions_compared": True}
