"""The watchdog on ECS Fargate: one CloudFormation template a region, with a task definition for drills beside it.

What the setup guide got wrong here is in aws.md, E1 to E7. The watchdog depends on nothing: not on Toxiproxy, which may
be missing, not on another region's registry or log group, and not on CloudWatch Logs taking what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kms_watchdog.config import Settings
from kms_watchdog.deploying import container, triggers
from kms_watchdog.deploying.container import Probing
from kms_watchdog.deploying.handed import Handed

HOME_REGION = ("estate", "home_region")
"""Fargate says where a task runs, in AWS_REGION: who sets it lies to every SDK in the container."""
PLACE = "KMS_WATCHDOG__REPLICAS__PLACE"
"""A region's service is one place of several; a drill's own watchdog looks at everything, and shares nothing."""
MOST_STOP_SECONDS = 120
"""The most that Fargate waits at a stop."""
KEEP_LOGS_DAYS = 365
WATCHDOG, DRILL, TOXIPROXY = "watchdog", "drill", "toxiproxy"
IMAGES = {WATCHDOG: "WatchdogImage", DRILL: "DrillImage", TOXIPROXY: "ToxiproxyImage"}
_VOLUMES = {"state": container.STATE_FOLDER, "scratch": container.SCRATCH_FOLDER}


def render(settings: Settings, given: Handed, *, region: str) -> str:
    """Return the template of what runs in `region`; `given` is without `HOME_REGION`.

    Where several places share the canaries, which of them this is becomes a parameter of the stack.

    Raises:
        ConfigError: Fargate cannot run what is configured.
    """
    return json.dumps(_Template(settings, given, region).whole(), indent=2) + "\n"


class _Template:
    """One region's template."""

    def __init__(self, settings: Settings, given: Handed, region: str) -> None:
        self._settings, self._given, self._region = settings, given, region
        self._port, self._listens = container.port(settings), container.listens_to_others(settings)
        self._stop_seconds = container.stop_seconds(settings, most=MOST_STOP_SECONDS)
        self._name = f"kms-watchdog-{settings.estate.name}"
        self._drill_family = f"kms-drill-{settings.estate.name}"

    def whole(self) -> dict[str, Any]:
        return {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": f"kms-watchdog of {self._settings.estate.name} on ECS in {self._region}. "
            "Rendered by kms-watchdog deploy render; not to be edited.",
            "Parameters": self._parameters(),
            "Rules": self._rules(),
            **({"Conditions": {triggers.CONDITION: triggers.condition()}} if triggers.asked(self._settings) else {}),
            "Resources": self._resources(),
            "Outputs": {
                "DrillTaskDefinition": {
                    "Description": "For aws ecs run-task: one drill, to its verdict",
                    "Value": {"Ref": "DrillTask"},
                },
                "SecurityGroup": {"Description": "Of both tasks", "Value": {"Ref": "SecurityGroup"}},
            },
        }

    def _parameters(self) -> dict[str, Any]:
        found = {
            "Cluster": _parameter("The ECS cluster, by name or ARN"),
            "Vpc": _parameter("Where the tasks run", type_="AWS::EC2::VPC::Id"),
            "Subnets": _parameter("With a way to AWS, in two zones or more", type_="List<AWS::EC2::Subnet::Id>"),
            "AssignPublicIp": _parameter(
                "ENABLED where the subnets have no NAT and no endpoints",
                Default="DISABLED",
                AllowedValues=["DISABLED", "ENABLED"],
            ),
            "Architecture": _parameter(
                "What the images are built for", Default="X86_64", AllowedValues=["X86_64", "ARM64"]
            ),
            "ExecutionRoleName": _parameter("Pulls images, writes logs, reads secrets", Default="ecsTaskExecutionRole"),
        }
        whose = {
            WATCHDOG: "daemon/Dockerfile's target drills, or watchdog where no drills are scheduled",
            DRILL: "daemon/Dockerfile's target drills",
            TOXIPROXY: "a copy of ghcr.io/shopify/toxiproxy",
        }
        found |= {IMAGES[name]: self._image_parameter(what) for name, what in whose.items()}
        if self._listens:
            found["ReaderSecurityGroup"] = _parameter("Who may read the page", type_="AWS::EC2::SecurityGroup::Id")
        if triggers.asked(self._settings):
            found[triggers.CLUSTER] = triggers.parameter(self._region)
        if members := self._settings.replicas.members:
            found["Place"] = _parameter(
                "Which of the places that share the canaries this is", AllowedValues=list(members)
            )
        for name, key in self._given.secrets.items():
            found[_parameter_name(name)] = self._secret_parameter(key)
        return found

    def _image_parameter(self, what: str) -> dict[str, Any]:
        return _parameter(
            f"{what}, by digest, in this region's own registry: a start must need no other region",
            AllowedPattern=rf"\d{{12}}\.dkr\.ecr\.{self._region}\.amazonaws\.com(\.cn)?/[^@:\s]+@sha256:[0-9a-f]{{64}}",
        )

    def _secret_parameter(self, key: str) -> dict[str, Any]:
        return _parameter(
            f"{key}: the ARN of its secret or SSM parameter, in this region",
            AllowedPattern=rf"arn:aws[a-z-]*:(secretsmanager|ssm):{self._region}:\d{{12}}:\S+",
        )

    def _rules(self) -> dict[str, Any]:
        """Refuse another account or region before anything is made."""
        account_id = self._settings.estate.account_id
        return {
            "ThisAccount": _rule({"Ref": "AWS::AccountId"}, account_id, f"It is for the account {account_id}"),
            "ThisRegion": _rule({"Ref": "AWS::Region"}, self._region, f"It is for {self._region}"),
        }

    def _resources(self) -> dict[str, Any]:
        logs = {"LogGroupName": f"/ecs/{self._name}", "RetentionInDays": KEEP_LOGS_DAYS}
        kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        return {
            "Logs": {"Type": "AWS::Logs::LogGroup", **kept, "Properties": logs},
            "SecurityGroup": {"Type": "AWS::EC2::SecurityGroup", "Properties": self._security_group()},
            "WatchdogTask": self._task(
                self._name,
                self._settings.estate.watchdog_role,
                (self._watchdog(self._values_of_the_watchdog()), self._toxiproxy()),
            ),
            "DrillTask": self._task(
                self._drill_family,
                self._settings.estate.drill_role,
                (self._drill(), self._companion(), self._toxiproxy()),
            ),
            "Service": {"Type": "AWS::ECS::Service", "Properties": self._service()},
            **self._triggers(),
        }

    def _triggers(self) -> dict[str, Any]:
        if not triggers.asked(self._settings):
            return {}
        return triggers.resources(
            self._settings, drill_container=DRILL, family=self._drill_family, network=self._network()
        )

    def _security_group(self) -> dict[str, Any]:
        asked = [_let_out(port) for port in container.egress_ports(self._settings)]
        readers = {
            "IpProtocol": "tcp",
            "FromPort": self._port,
            "ToPort": self._port,
            "SourceSecurityGroupId": {"Ref": "ReaderSecurityGroup"},
            "Description": "Status page and metrics",
        }
        return {
            "GroupDescription": "kms-watchdog: out to AWS alone",
            "VpcId": {"Ref": "Vpc"},
            "SecurityGroupEgress": asked,
            **({"SecurityGroupIngress": [readers]} if self._listens else {}),
        }

    def _service(self) -> dict[str, Any]:
        return {
            "ServiceName": self._name,
            "Cluster": {"Ref": "Cluster"},
            "TaskDefinition": {"Ref": "WatchdogTask"},
            "LaunchType": "FARGATE",
            "DesiredCount": 1,
            # The new one watches before the old one ends: two at once do no harm, none at all pages.
            "DeploymentConfiguration": {
                "MinimumHealthyPercent": 100,
                "MaximumPercent": 200,
                "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
            },
            "NetworkConfiguration": self._network(),
            "EnableECSManagedTags": True,
            "PropagateTags": "SERVICE",
        }

    def _network(self) -> dict[str, Any]:
        return {
            "AwsvpcConfiguration": {
                "Subnets": {"Ref": "Subnets"},
                "SecurityGroups": [{"Ref": "SecurityGroup"}],
                "AssignPublicIp": {"Ref": "AssignPublicIp"},
            }
        }

    def _task(self, family: str, role: str, containers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        properties = {
            "Family": family,
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": "512",
            "Memory": "1024",
            "RuntimePlatform": {"CpuArchitecture": {"Ref": "Architecture"}, "OperatingSystemFamily": "LINUX"},
            "TaskRoleArn": _role(role),
            "ExecutionRoleArn": _role("${ExecutionRoleName}"),
            "Volumes": [{"Name": name} for name in _VOLUMES],
            "ContainerDefinitions": list(containers),
        }
        return {"Type": "AWS::ECS::TaskDefinition", "Properties": properties}

    def _watchdog(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **self._ours(WATCHDOG, container.RUN, values),
            "HealthCheck": _health_check(container.probe(self._settings), Probing()),
            **({"PortMappings": [{"ContainerPort": self._port, "Protocol": "tcp"}]} if self._listens else {}),
        }

    def _companion(self) -> dict[str, Any]:
        """Watch for a drill: it asks for a daemon on its state folder, which publishes what its alarms read.

        It is healthy once every canary has looked: the drill begins then, not before.
        """
        quick = Probing(interval_seconds=5, retries=10)
        return {
            **self._watchdog(self._values_of_a_drill()),
            "Image": {"Ref": IMAGES[DRILL]},
            "Essential": False,
            "HealthCheck": _health_check(container.probe(self._settings, "/readyz"), quick),
            "StartTimeout": 120,
        }

    def _drill(self) -> dict[str, Any]:
        command = (*container.DRILL, container.DRILL_BY_DEFAULT)
        return {
            **self._ours(DRILL, command, self._values_of_a_drill()),
            "DependsOn": [
                {"ContainerName": WATCHDOG, "Condition": "HEALTHY"},
                {"ContainerName": TOXIPROXY, "Condition": "START"},
            ],
        }

    def _values_of_the_watchdog(self) -> Mapping[str, Any]:
        return (
            {**self._given.values, PLACE: {"Ref": "Place"}} if self._settings.replicas.members else self._given.values
        )

    def _values_of_a_drill(self) -> Mapping[str, str]:
        """Return the variables of one drill that somebody starts: none that starts itself, and eyes for everything."""
        alone = {name: value for name, value in self._given.values.items() if "__REPLICAS__" not in name}
        slots = [f"DRILLS__SLOTS__{name.replace('-', '_').upper()}" for name in self._settings.drills.slots]
        slots += ["CLOUDWATCH__PROOF__SLOT"] if self._settings.cloudwatch.proof.slot else []
        return {**alone, **{f"KMS_WATCHDOG__{slot}__ENABLED": "false" for slot in slots}}

    def _ours(self, name: str, command: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
        entry, *arguments = command
        secrets = {name: {"Ref": _parameter_name(name)} for name in self._given.secrets}
        return {
            "Name": name,
            "Image": {"Ref": IMAGES[name]},
            "Essential": True,
            "EntryPoint": [entry],
            "Command": arguments,
            "User": f"{container.USER}:{container.USER}",
            "ReadonlyRootFilesystem": True,
            "LinuxParameters": {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}},
            "StopTimeout": self._stop_seconds,
            "MountPoints": [
                {"SourceVolume": volume, "ContainerPath": path, "ReadOnly": False} for volume, path in _VOLUMES.items()
            ],
            "Environment": list(_pairs(values, "Value")),
            **({"Secrets": list(_pairs(secrets, "ValueFrom"))} if secrets else {}),
            "LogConfiguration": _logs(),
        }

    def _toxiproxy(self) -> dict[str, Any]:
        """Stand by for drills: nobody waits for it, and its end is nobody else's."""
        return {
            "Name": TOXIPROXY,
            "Image": {"Ref": IMAGES[TOXIPROXY]},
            "Essential": False,
            "Command": list(container.TOXIPROXY),
            "User": f"{container.USER}:{container.USER}",
            "ReadonlyRootFilesystem": True,
            "LinuxParameters": {"Capabilities": {"Drop": ["ALL"]}},
            "LogConfiguration": _logs(),
        }


def _parameter(description: str, *, type_: str = "String", **more: Any) -> dict[str, Any]:
    return {"Type": type_, "Description": description, **more}


def _parameter_name(variable: str) -> str:
    """Return the parameter of a variable: `KMS_WATCHDOG__HEALTH__DEADMAN_URL` is HealthDeadmanUrl."""
    return "".join(part.capitalize() for part in re.split("_+", variable.removeprefix("KMS_WATCHDOG__")))


def _rule(what: Any, value: str, otherwise: str) -> dict[str, Any]:
    return {"Assertions": [{"Assert": {"Fn::Equals": [what, value]}, "AssertDescription": otherwise}]}


def _let_out(port: int) -> dict[str, Any]:
    what = "AWS" if port == container.HTTPS else "As configured"
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "CidrIp": "0.0.0.0/0", "Description": what}


def _role(name: str) -> dict[str, str]:
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/{name}"}


def _health_check(command: Iterable[str], probing: Probing) -> dict[str, Any]:
    return {
        "Command": ["CMD", *command],
        "Interval": probing.interval_seconds,
        "Timeout": probing.timeout_seconds,
        "Retries": probing.retries,
        "StartPeriod": probing.start_seconds,
    }


def _logs() -> dict[str, Any]:
    """Log in the region itself, without waiting: else CloudWatch Logs would stop the watchdog that tells of it."""
    options = {
        "awslogs-group": {"Ref": "Logs"},
        "awslogs-region": {"Ref": "AWS::Region"},
        "awslogs-stream-prefix": "ecs",
        "mode": "non-blocking",
        "max-buffer-size": "4m",
    }
    return {"LogDriver": "awslogs", "Options": options}


def _pairs(values: Mapping[str, Any], called: str) -> Iterator[dict[str, Any]]:
    for name in sorted(values):
        yield {"Name": name, called: values[name]}
