"""EventBridge Scheduler starts scheduled drills as ECS tasks: beside the daemons' own schedule, or in its place.

It starts a task at least once (EventBridge Scheduler User Guide, "What is EventBridge Scheduler"), and so may the
daemons: the row of the slot in the lease's table lets one of them drill. Without such a table nothing is rendered, for
each task has a state folder of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kms_watchdog.config import Settings
from kms_watchdog.configuring.slot import Slot
from kms_watchdog.deploying import container

CLUSTER = "DrillClusterArn"
CONDITION = "StartsDrills"
SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
"""EventBridge Scheduler puts the time for which it was scheduled here, whenever it gets round to it."""
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_ROLE = "DrillTriggerRole"
_RETRY_SECONDS = 3600


def asked(settings: Settings) -> Mapping[str, Any]:
    """Return the drills that can be started so, by the name of their slot; none without a table for the lease."""
    if settings.drills.lease is None:
        return {}
    return {name: slot for name, slot in settings.drills.slots.items() if slot.enabled}


def parameter(region: str) -> dict[str, Any]:
    """Return the parameter that turns it on."""
    return {
        "Type": "String",
        "Description": "The ECS cluster's ARN, where EventBridge Scheduler is to start drills too; empty: it is not",
        "Default": "",
        "AllowedPattern": rf"(arn:aws[a-z-]*:ecs:{region}:\d{{12}}:cluster/\S+)?",
    }


def condition() -> dict[str, Any]:
    """Return the condition of all that is rendered here."""
    return {"Fn::Not": [{"Fn::Equals": [{"Ref": CLUSTER}, ""]}]}


def resources(settings: Settings, *, drill_container: str, family: str, network: Mapping[str, Any]) -> dict[str, Any]:
    """Return one schedule a slot, and the role that starts their tasks."""
    found: dict[str, Any] = {_ROLE: _role(settings, family)}
    for name, slot in asked(settings).items():
        found[_logical(name)] = {
            "Type": "AWS::Scheduler::Schedule",
            "Condition": CONDITION,
            "Properties": {
                "Description": f"kms-watchdog of {settings.estate.name}: the drill of slot {name}",
                "ScheduleExpression": expression(slot),
                "ScheduleExpressionTimezone": "UTC",
                "FlexibleTimeWindow": {"Mode": "OFF"},
                "Target": {
                    "Arn": {"Ref": CLUSTER},
                    "RoleArn": {"Fn::GetAtt": [_ROLE, "Arn"]},
                    "Input": json.dumps(_overrides(name, slot, drill_container)),
                    "RetryPolicy": {"MaximumEventAgeInSeconds": _RETRY_SECONDS, "MaximumRetryAttempts": 5},
                    "EcsParameters": {
                        "TaskDefinitionArn": {"Ref": "DrillTask"},
                        "TaskCount": 1,
                        "LaunchType": "FARGATE",
                        "NetworkConfiguration": dict(network),
                        "PropagateTags": "TASK_DEFINITION",
                    },
                },
            },
        }
    return found


def expression(slot: Slot) -> str:
    """Return when `slot` is due, in UTC, as EventBridge Scheduler writes it."""
    hour, minute = (int(part) for part in slot.at.split(":"))
    if slot.every == "week":
        return f"cron({minute} {hour} ? * {_DAYS[slot.day - 1]} *)"
    return f"cron({minute} {hour} {slot.day} * ? *)"


def _overrides(name: str, slot: Any, drill_container: str) -> dict[str, Any]:
    """Return what the task is to do: the one-shot drill, and of which turn of the slot."""
    _, *run = container.DRILL
    region = ("--region", slot.region) if slot.region else ()
    command = [*run, slot.drill, *region, "--slot", f"{name}@{SCHEDULED_TIME}"]
    return {"containerOverrides": [{"name": drill_container, "command": command}]}


def _role(settings: Settings, family: str) -> dict[str, Any]:
    of_account = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/"
    task = f"arn:${{AWS::Partition}}:ecs:${{AWS::Region}}:${{AWS::AccountId}}:task-definition/{family}:*"
    return {
        "Type": "AWS::IAM::Role",
        "Condition": CONDITION,
        "Properties": {
            "AssumeRolePolicyDocument": _policy(
                Principal={"Service": "scheduler.amazonaws.com"},
                Action="sts:AssumeRole",
                Condition={"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
            ),
            "Policies": [
                {
                    "PolicyName": "RunDrillTask",
                    "PolicyDocument": _policy(
                        Action="ecs:RunTask",
                        Resource={"Fn::Sub": task},
                        Condition={"ArnEquals": {"ecs:cluster": {"Ref": CLUSTER}}},
                    ),
                },
                {
                    "PolicyName": "PassItsRoles",
                    "PolicyDocument": _policy(
                        Action="iam:PassRole",
                        Resource=[
                            {"Fn::Sub": f"{of_account}{settings.estate.drill_role}"},
                            {"Fn::Sub": f"{of_account}${{ExecutionRoleName}}"},
                        ],
                        Condition={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
                    ),
                },
            ],
        },
    }


def _policy(**statement: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}


def _logical(name: str) -> str:
    return "DrillOf" + "".join(part.capitalize() for part in name.split("-"))
