"""Composite alarms on made-up times: evaluation, actions, suppression, and what may be put, described and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alarm_desk import NOON, Desk

from kms_local.cloudwatch.alarm_requests import (
    delete_alarms,
    disable_alarm_actions,
    enable_alarm_actions,
    list_tags_for_resource,
    put_composite_alarm,
    put_metric_alarm,
    tag_resource,
    untag_resource,
)
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
Operation = Callable[[Any, Params, float], dict[str, Any]]


@pytest.fixture
def desk() -> Desk:
    """Alarms `a` and `b` on the same metric; without data they stay as they are set."""
    made = Desk()
    made.metric_alarm("a", TreatMissingData="ignore")
    made.metric_alarm("b", TreatMissingData="ignore")
    return made


def refusal(desk: Desk, operation: Operation, **members: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        operation(desk.book, Params(members), NOON)
    return f"{caught.value.code}: {caught.value.message}"


def test_a_composite_follows_its_children(desk: Desk) -> None:
    """It begins without data, looks at once, and then whenever a child has changed, in the same look."""
    desk.composite("both", f'ALARM(a) AND ALARM("{ARN}b")')
    assert desk.state("both") == "INSUFFICIENT_DATA"

    desk.book.evaluate_all(NOON)
    assert desk.state("both") == "OK"
    desk.datum(NOON, Value=9.0)
    desk.book.evaluate_all(NOON + 60)
    assert (desk.state("a"), desk.state("b"), desk.state("both")) == ("ALARM", "ALARM", "ALARM")
    desk.datum(NOON + 60, Value=1.0)
    desk.book.evaluate_all(NOON + 120)
    assert desk.state("both") == "OK"

    assert desk.told == [("both", "OK"), ("both", "ALARM"), ("both", "OK")]


def test_what_a_composite_says(desk: Desk) -> None:
    """The notification names rule and triggering child; reasons are in CloudWatch's words."""
    desk.composite("one", "ALARM(a)")
    desk.book.evaluate_all(NOON)
    desk.set_state("a", "ALARM", NOON + 1)
    desk.book.evaluate_all(NOON + 1)

    created, message = desk.published[0][2], desk.published[1][2]
    assert created["NewStateReason"] == f"{ARN}one was created and its alarm rule evaluates to OK"
    assert message["NewStateReason"] == f"{ARN}a transitioned to ALARM at Friday 15 January, 2027 08:00:01 UTC"
    assert (message["OldStateValue"], message["AlarmRule"]) == ("OK", "ALARM(a)")
    when = "2027-01-15T08:00:01.000+0000"
    assert message["StateChangeTime"] == when
    assert message["TriggeringChildren"] == [{"Arn": f"{ARN}a", "State": {"Value": "ALARM", "Timestamp": when}}]


def test_composites_of_composites_settle_in_one_look(desk: Desk) -> None:
    """Whoever rests on others is looked at after them, in whatever order they were put."""
    desk.composite("low", "ALARM(a)")
    desk.composite("middle", "ALARM(low)")
    desk.composite("top", "ALARM(middle) AND NOT OK(low)")
    desk.composite("middle", "ALARM(low) AND ALARM(a)", NOON + 1)
    desk.book.evaluate_all(NOON + 2)
    desk.published.clear()

    desk.set_state("a", "ALARM", NOON + 3)
    desk.book.evaluate_all(NOON + 3)

    assert desk.told == [("low", "ALARM"), ("middle", "ALARM"), ("top", "ALARM")]
    desk.set_state("a", "OK", NOON + 4)
    assert desk.told[3:] == [("low", "OK"), ("middle", "OK"), ("top", "OK")], "nobody sees a child of yesterday"


def test_a_circle_stops_evaluation_until_it_is_broken(desk: Desk) -> None:
    """As CloudWatch documents it: a circle may be put, nothing in it is evaluated or deleted, FALSE breaks it."""
    desk.composite("x", "ALARM(a)")
    desk.composite("y", "ALARM(x)")
    desk.book.evaluate_all(NOON)
    desk.composite("x", "ALARM(a) OR ALARM(y)", NOON + 1)

    desk.set_state("a", "ALARM", NOON + 2)
    desk.book.evaluate_all(NOON + 2)
    assert (desk.state("x"), desk.state("y")) == ("OK", "OK")
    for name in ("x", "y"):
        assert refusal(desk, delete_alarms, AlarmNames=[name]).startswith("ValidationError: Cannot delete")

    desk.composite("y", "false", NOON + 3)
    desk.set_state("a", "ALARM", NOON + 4)
    desk.book.evaluate_all(NOON + 4)
    assert (desk.state("x"), desk.state("y")) == ("ALARM", "OK")


def test_a_state_set_by_hand_stays_until_a_child_changes(desk: Desk) -> None:
    """SetAlarmState on a composite may not come back by itself; a child's change or a new rule makes it look."""
    desk.composite("one", "ALARM(a)")
    desk.book.evaluate_all(NOON)
    desk.set_state("one", "ALARM", NOON + 1)
    desk.book.evaluate_all(NOON + 600)
    assert desk.state("one") == "ALARM"

    desk.composite("one", "ALARM(a) OR ALARM(b)", NOON + 601)
    assert desk.state("one") == "ALARM", "an update keeps the state"
    desk.book.evaluate_all(NOON + 602)
    assert desk.state("one") == "OK"
    assert desk.published[-1][2]["NewStateReason"] == f"{ARN}one was updated and its alarm rule evaluates to OK"

    desk.set_state("one", "ALARM", NOON + 603)
    desk.set_state("b", "OK", NOON + 604)
    assert desk.state("one") == "OK"


def test_a_suppressor_holds_actions_back(desk: Desk) -> None:
    """Waiting, suppressed, extended: shown by DescribeAlarms, noted in the history, and told once at the end."""
    desk.metric_alarm("quiet", TreatMissingData="ignore")
    suppressed = {
        "ActionsSuppressor": f"{ARN}quiet",
        "ActionsSuppressorWaitPeriod": 20,
        "ActionsSuppressorExtensionPeriod": 30,
    }
    desk.composite("one", "ALARM(a)", **suppressed)
    desk.book.evaluate_all(NOON)
    assert desk.held_by("one") == "WaitPeriod", "the first state is held back, too"
    desk.book.evaluate_all(NOON + 20)
    assert desk.told == [("one", "OK")]

    desk.set_state("a", "ALARM", NOON + 30)
    desk.book.evaluate_all(NOON + 30)
    desk.set_state("quiet", "ALARM", NOON + 31)
    desk.book.evaluate_all(NOON + 31)
    shown = desk.describe(AlarmNames=["one"], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"][0]
    assert (shown["StateValue"], shown["ActionsSuppressedBy"]) == ("ALARM", "Alarm")
    assert shown["ActionsSuppressedReason"] == "Actions suppressed by Alarm"
    assert shown["ActionsSuppressorExtensionPeriod"] == 30

    desk.set_state("quiet", "OK", NOON + 40)
    desk.book.evaluate_all(NOON + 40)
    assert desk.held_by("one") == "ExtensionPeriod"
    desk.book.evaluate_all(NOON + 69)
    assert len(desk.told) == 1
    desk.book.evaluate_all(NOON + 70)
    desk.book.evaluate_all(NOON + 71)
    assert desk.told == [("one", "OK"), ("one", "ALARM")]
    asked = {"AlarmName": "one", "AlarmTypes": ["CompositeAlarm"], "HistoryItemType": "Action"}
    actions = [item["HistorySummary"].split(" arn:")[0] for item in desk.history(NOON + 71, **asked)]
    assert list(reversed(actions)) == [
        "Actions suppressed by WaitPeriod",
        "Successfully executed action",
        "Actions suppressed by WaitPeriod",
        "Actions suppressed by Alarm",
        "Actions suppressed by ExtensionPeriod",
        "Successfully executed action",
    ]


def test_another_suppressor_discards_what_was_held_back(desk: Desk) -> None:
    """Replacing the suppressor ends a running period, without actions."""
    desk.metric_alarm("quiet")
    waits = {"ActionsSuppressorWaitPeriod": 20, "ActionsSuppressorExtensionPeriod": 30}
    desk.composite("one", "TRUE", ActionsSuppressor="quiet", **waits)
    desk.book.evaluate_all(NOON)
    desk.composite("one", "TRUE", NOON + 1, ActionsSuppressor="b", **waits)

    desk.book.evaluate_all(NOON + 60)

    assert (desk.state("one"), desk.held_by("one"), desk.told) == ("ALARM", None, [])


def test_disabled_actions_stay_quiet(desk: Desk) -> None:
    """DisableAlarmActions and EnableAlarmActions work on composites as on metric alarms."""
    desk.composite("one", "ALARM(a)")
    disable_alarm_actions(desk.book, Params({"AlarmNames": ["one"]}), NOON)
    desk.book.evaluate_all(NOON)
    assert desk.told == []

    enable_alarm_actions(desk.book, Params({"AlarmNames": ["one", "nobody"]}), NOON + 1)
    desk.set_state("a", "ALARM", NOON + 2)
    desk.book.evaluate_all(NOON + 2)
    assert desk.told == [("one", "ALARM")]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(
            {"AlarmRule": "ALARM(a) OR ALARM(x) OR OK(y)"},
            "ValidationError: Could not save the composite alarm as alarms [x, y] in the alarm rule do not exist",
            id="unknown-alarms",
        ),
        pytest.param(
            {"AlarmRule": "ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a)"},
            "ValidationError: Could not save the composite alarm as alarms [arn:aws:cloudwatch:eu-west-1:",
            id="another-region",
        ),
        pytest.param({"AlarmRule": "()"}, "ValidationError: Error in AlarmRule [Unsupported token ')'", id="syntax"),
        pytest.param(
            {"AlarmRule": " TRUE"},
            "ValidationError: AlarmRule must not contain leading or trailing whitespace or be null",
            id="blank",
        ),
        pytest.param({"AlarmRule": None}, "MissingParameter: The parameter AlarmRule is required.", id="no-rule"),
        pytest.param({"ActionsSuppressor": "b"}, "ValidationError: ActionsSuppressorWaitPeriod and", id="no-periods"),
        pytest.param(
            {"ActionsSuppressor": "x", "ActionsSuppressorWaitPeriod": 1, "ActionsSuppressorExtensionPeriod": 1},
            "ValidationError: Could not save the composite alarm as the suppressor x does not exist",
            id="unknown-suppressor",
        ),
        pytest.param({"AlarmName": "a"}, "ValidationError: The alarm a exists already, and is a Metric", id="type"),
        pytest.param(
            {"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}, "ValidationError: The action", id="ec2-action"
        ),
        pytest.param({"AlarmActions": ["arn:x"] * 6}, "InvalidParameterValue: The collection Alarm", id="actions"),
        pytest.param({"AlarmDescription": "x" * 1025}, "InvalidParameterValue: The parameter Alarm", id="description"),
        pytest.param({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "InvalidParameterValue: The parameter Tags", id="tag"),
    ],
)
def test_composites_that_cannot_be_are_refused(desk: Desk, members: dict[str, Any], message: str) -> None:
    """PutCompositeAlarm checks what AWS checks, in AWS's words where they are known."""
    request = {"AlarmName": "new", "AlarmRule": "ALARM(a)", **members}
    given = {name: value for name, value in request.items() if value is not None}

    assert refusal(desk, put_composite_alarm, **given).startswith(message)
    assert sorted(desk.book.alarms) == ["a", "b"]


def test_a_metric_alarm_does_not_replace_a_composite(desk: Desk) -> None:
    """Names are unique among all alarms of a region."""
    desk.composite("one", "TRUE")

    with pytest.raises(ServiceError, match="is a CompositeAlarm"):
        desk.metric_alarm("one")


def test_an_alarm_is_in_150_rules_at_most(desk: Desk) -> None:
    """The 151st composite on one alarm is refused; an update of one of the 150 is not."""
    for number in range(150):
        desk.composite(f"c{number}", "ALARM(a)")

    assert refusal(desk, put_composite_alarm, AlarmName="c150", AlarmRule="ALARM(a)").startswith("LimitExceeded")
    desk.composite("c149", "ALARM(a) OR ALARM(b)")


def test_descriptions_tell_the_kinds_apart(desk: Desk) -> None:
    """Metric alarms alone unless composites are asked for; kin with the documented members and nothing else."""
    desk.composite("low", "ALARM(a)", AlarmDescription="below")
    desk.composite("top", "ALARM(low) OR OK(b)")

    def names(**members: Any) -> list[list[str]]:
        found = desk.describe(**members)
        return [[one["AlarmName"] for one in found[kind]] for kind in ("MetricAlarms", "CompositeAlarms")]

    assert names() == [["a", "b"], []]
    assert names(AlarmTypes=["CompositeAlarm"]) == [[], ["low", "top"]]
    assert names(AlarmTypes=["CompositeAlarm", "MetricAlarm"]) == [["a", "b"], ["low", "top"]]
    assert names(AlarmTypes=["LogAlarm"]) == [[], []]
    assert names(ChildrenOfAlarmName="top") == [["b"], ["low"]]
    assert names(ParentsOfAlarmName="a") == [[], ["low"]]
    assert names(ChildrenOfAlarmName="nobody") == [[], []]
    child = desk.describe(ChildrenOfAlarmName="top")["CompositeAlarms"][0]
    assert sorted(child) == ["AlarmArn", "AlarmName", "StateUpdatedTimestamp", "StateValue"]
    parent = desk.describe(ParentsOfAlarmName="low")["CompositeAlarms"][0]
    assert parent == {"AlarmName": "top", "AlarmArn": f"{ARN}top"}
    first = desk.describe(AlarmTypes=["CompositeAlarm", "MetricAlarm"], MaxRecords=3)
    rest = desk.describe(AlarmTypes=["CompositeAlarm", "MetricAlarm"], MaxRecords=3, NextToken=first["NextToken"])
    assert [one["AlarmName"] for one in rest["CompositeAlarms"]] == ["top"]
    assert "NextToken" not in rest
    with pytest.raises(ServiceError, match="ValidationError"):
        desk.describe(ChildrenOfAlarmName="top", StateValue="OK")


def test_what_others_rest_on_is_not_deleted(desk: Desk) -> None:
    """Children and suppressors stay, two composites do not go at once, and a wrong name spares nobody else."""
    waits = {"ActionsSuppressorWaitPeriod": 1, "ActionsSuppressorExtensionPeriod": 1}
    desk.composite("one", "ALARM(a)", ActionsSuppressor="b", **waits)
    desk.composite("two", "TRUE")

    single = "ValidationError: Cannot delete a as there are composite alarm(s) depending on it."
    assert refusal(desk, delete_alarms, AlarmNames=["a"]) == single
    both = "ValidationError: Cannot delete a,b as there are composite alarm(s) depending on them."
    assert refusal(desk, delete_alarms, AlarmNames=["a", "b"]) == both
    assert refusal(desk, delete_alarms, AlarmNames=["one", "two"]).startswith("ValidationError: Only one composite")
    assert refusal(desk, delete_alarms, AlarmNames=["x", "one"]).startswith("ResourceNotFound")
    assert sorted(desk.book.alarms) == ["a", "b", "two"]
    delete_alarms(desk.book, Params({"AlarmNames": ["two", "a", "b"]}), NOON)
    assert desk.book.alarms == {}


def test_history_outlives_the_alarm(desk: Desk) -> None:
    """Deleted alarms are still told of, by type, for 30 days."""
    desk.composite("one", "TRUE")
    desk.book.evaluate_all(NOON)
    delete_alarms(desk.book, Params({"AlarmNames": ["one"]}), NOON + 1)

    found = desk.history(NOON + 2, AlarmTypes=["CompositeAlarm"], ScanBy="TimestampAscending")
    assert [item["HistoryItemType"] for item in found] == [
        "ConfigurationUpdate",
        "StateUpdate",
        "Action",
        "ConfigurationUpdate",
    ]
    assert {item["AlarmType"] for item in found} == {"CompositeAlarm"}
    assert {item["AlarmName"] for item in desk.history(NOON + 2)} == {"a", "b"}
    assert desk.history(NOON + 31 * 86_400, AlarmTypes=["CompositeAlarm"]) == []


def test_tags_are_changed_by_their_own_operations(desk: Desk) -> None:
    """Tags come with the first Put, and later Puts leave them alone."""
    desk.composite("one", "TRUE", Tags=[{"Key": "team", "Value": "sre"}])
    desk.composite("one", "FALSE", Tags=[{"Key": "team", "Value": "other"}])
    where = {"ResourceARN": f"{ARN}one"}

    tag_resource(desk.book, Params({**where, "Tags": [{"Key": "tier", "Value": "1"}]}), NOON)
    untag_resource(desk.book, Params({**where, "TagKeys": ["none"]}), NOON)
    assert list_tags_for_resource(desk.book, Params(where), NOON)["Tags"] == [
        {"Key": "team", "Value": "sre"},
        {"Key": "tier", "Value": "1"},
    ]
    untag_resource(desk.book, Params({**where, "TagKeys": ["team", "tier"]}), NOON)
    assert list_tags_for_resource(desk.book, Params(where), NOON) == {"Tags": []}
    many = [{"Key": f"k{n}", "Value": ""} for n in range(51)]
    assert refusal(desk, tag_resource, **where, Tags=many).startswith("InvalidParameterValue")
    unknown = {"ResourceARN": f"{ARN}nobody"}
    assert refusal(desk, list_tags_for_resource, **unknown) == "ResourceNotFoundException: Unknown"


def test_times_of_updates_and_transitions_differ(desk: Desk) -> None:
    """Setting the state that is there already is an update and no transition, and runs no action."""
    desk.composite("one", "TRUE")
    desk.book.evaluate_all(NOON + 1)
    desk.set_state("one", "ALARM", NOON + 2)

    shown = desk.describe(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"][0]
    assert (shown["StateTransitionedTimestamp"], shown["StateUpdatedTimestamp"]) == (NOON + 1, NOON + 2)
    assert shown["StateReason"] == "by hand"
    assert len(desk.published) == 1


def test_five_thousand_alarms_are_enough(desk: Desk) -> None:
    """The documented quota: one alarm more is refused, an update is not."""
    for number in range(4998):
        desk.metric_alarm(f"m{number}")

    request = {**desk.book.alarms["a"].request, "AlarmName": "one-too-many"}
    assert refusal(desk, put_metric_alarm, **request).startswith("LimitExceeded")
    desk.metric_alarm("a", Threshold=6.0)
