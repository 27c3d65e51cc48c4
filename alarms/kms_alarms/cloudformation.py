"""The table as a CloudFormation template for one region: topics, who may speak to them, alarms."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kms_alarms import cloudwatch
from kms_watchdog.alarm_definitions import Parameters, topic_arn, topics
from kms_watchdog.config import Settings
from kms_watchdog.estate.topic_policy import who_may_publish

_ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")


def render(settings: Settings, *, alarm_region: str) -> str:
    """Return the template of what lives in `alarm_region`.

    Topics are not encrypted: an alarm must not need the keys that it tells about, and with AWS's own key for SNS
    CloudWatch may not speak to a topic.
    """
    names = topics(settings)
    refs = {topic_arn(settings, name, alarm_region): {"Ref": _logical(name)} for name in names}
    resources: dict[str, Any] = {
        _logical(name): {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": name}} for name in names
    }
    resources["TopicPolicy"] = _topic_policy(names)
    alarms = cloudwatch.render(settings, alarm_region=alarm_region)
    logical = {alarm["AlarmName"]: _logical(alarm["AlarmName"]) for alarm in alarms}
    for alarm in alarms:
        resources[logical[alarm["AlarmName"]]] = _alarm(alarm, refs, logical)
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Alarms of kms-watchdog in {alarm_region}. Rendered by kms-alarms render; not to be edited.",
        "Resources": resources,
        "Outputs": {
            f"{_logical(name)}Arn": {"Description": f"Topic {name}", "Value": {"Ref": _logical(name)}} for name in names
        },
    }
    return json.dumps(template, indent=2) + "\n"


def _alarm(alarm: Parameters, refs: Mapping[str, dict[str, str]], logical: Mapping[str, str]) -> dict[str, Any]:
    actions = {name: [refs[arn] for arn in alarm[name]] for name in _ACTIONS if alarm.get(name)}
    properties = {**{name: value for name, value in alarm.items() if name not in _ACTIONS}, **actions}
    if "AlarmRule" not in alarm:
        return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
    children = [logical[name] for name in dict.fromkeys(re.findall(r'ALARM\("([^"]+)"\)', alarm["AlarmRule"]))]
    return {"Type": "AWS::CloudWatch::CompositeAlarm", "DependsOn": children, "Properties": properties}


def _topic_policy(names: tuple[str, ...]) -> dict[str, Any]:
    """Let the account's alarms and tripwires speak to the topics, and nobody else's."""
    topics = [{"Ref": _logical(name)} for name in names]
    return {
        "Type": "AWS::SNS::TopicPolicy",
        "Properties": {"Topics": topics, "PolicyDocument": who_may_publish(topics)},
    }


def _logical(name: str) -> str:
    """Return a resource's logical id: letters and digits alone, and the same for the same name."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]", name))
