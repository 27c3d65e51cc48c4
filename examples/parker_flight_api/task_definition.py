"""The ECS task definitions of one region, as JSON for `aws ecs register-task-definition --cli-input-json`. Pure.

Two tasks run the same image. `parker-flight-api` runs as the service's role, which the payment key's policy refuses;
`parker-flight-payment` runs as the payment role and handles cards alone: a key that every task may use is separated
from nothing. Everything a task needs is in its own region: image, logs, and the region that it asks first, which ECS
itself tells it as `AWS_REGION`.

Exit codes: 0 printed; 2 usage.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parker_flight_api.settings import MAX_SHUTDOWN_SECONDS, SHUTDOWN_SECONDS

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
PORT = 3000
STOP_MARGIN_SECONDS = 20
"""More than the end takes besides its requests: 2 s for the silent, 5 s for a look at the keys, 5 s for the metrics."""
_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_IMAGE = re.compile(r"[a-z0-9][\w.:/-]*@sha256:[0-9a-f]{64}")
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of task."""

    family: str
    role: str
    purposes: tuple[str, ...]


TASKS = {
    "api": Task(family="parker-flight-api", role="ParkerFlightServiceRole", purposes=("general", "pii")),
    "payment": Task(family="parker-flight-payment", role="ParkerFlightPaymentRole", purposes=("payment",)),
}


def stop_seconds(shutdown_seconds: int) -> int:
    """Return how long ECS must wait between SIGTERM and SIGKILL; Fargate allows 120."""
    return shutdown_seconds + STOP_MARGIN_SECONDS


def task_definition(
    task: Task, *, region: str, account_id: str, image: str, shutdown_seconds: int = SHUTDOWN_SECONDS
) -> dict[str, Any]:
    """Return the task definition for `region`; requests have `shutdown_seconds` at the end.

    Raises:
        ValueError: the region or the account cannot be one, the image has no digest or is in another region's ECR, or
            the service does not take `shutdown_seconds`.
    """
    _refuse(region, account_id, image)
    if not 1 <= shutdown_seconds <= MAX_SHUTDOWN_SECONDS:
        raise ValueError(f"--shutdown-seconds must be from 1 to {MAX_SHUTDOWN_SECONDS}, not {shutdown_seconds}")
    return {
        "family": task.family,
        "taskRoleArn": f"arn:aws:iam::{account_id}:role/{task.role}",
        "executionRoleArn": f"arn:aws:iam::{account_id}:role/ecsTaskExecutionRole",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [_container(task, region, account_id, image, shutdown_seconds)],
    }


def _container(task: Task, region: str, account_id: str, image: str, shutdown_seconds: int) -> dict[str, Any]:
    environment = {
        "NODE_ENV": "production",
        "AWS_ACCOUNT_ID": account_id,
        "KMS_REGIONS": ",".join(REGIONS),
        "KMS_PURPOSES": ",".join(task.purposes),
        "CLOUDWATCH_REGIONS": ",".join(REGIONS[:2]),  # one may be the one that is lost
        "SHUTDOWN_SECONDS": str(shutdown_seconds),
    }
    return {
        "name": task.family,
        "image": image,
        "essential": True,
        "portMappings": [{"containerPort": PORT, "protocol": "tcp"}],
        "environment": [{"name": name, "value": value} for name, value in environment.items()],
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True},
        "stopTimeout": stop_seconds(shutdown_seconds),
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"/ecs/{task.family}",
                "awslogs-region": region,
                "awslogs-stream-prefix": "ecs",
                "mode": "non-blocking",  # else a region's logs that are down stop the service from answering
                "max-buffer-size": "4m",
            },
        },
        "healthCheck": {
            "command": ["CMD", "python", "-m", "parker_flight_api", "healthcheck"],  # it asks /livez
            "interval": 30,
            "timeout": 5,
            "retries": 3,
            "startPeriod": 60,
        },
    }


def _refuse(region: str, account_id: str, image: str) -> None:
    if not _REGION.fullmatch(region):
        raise ValueError(f"--region must be named as AWS does, such as us-east-1, not {region!r}")
    if not _ACCOUNT.fullmatch(account_id):
        raise ValueError(f"--account-id must be 12 digits, not {account_id!r}")
    if not _IMAGE.fullmatch(image):
        raise ValueError(f"--image must end in @sha256: and 64 hex digits, since a tag may change, not {image!r}")
    if (found := _ECR.match(image)) and found["region"] != region:
        raise ValueError(f"--image is in {found['region']}: {region} must be able to start tasks without it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a task definition."""
    parser = argparse.ArgumentParser(
        prog="parker_flight_api.task_definition", description="Print the ECS task definition of one region."
    )
    parser.add_argument("--task", choices=sorted(TASKS), default="api", help="which one (default: %(default)s)")
    parser.add_argument("--region", required=True, help="where it runs")
    parser.add_argument("--account-id", required=True, help="of roles and keys")
    parser.add_argument("--image", required=True, help="in the region's own registry, by digest: NAME@sha256:…")
    parser.add_argument(
        "--shutdown-seconds", type=int, default=SHUTDOWN_SECONDS, help="for requests at the end (default: %(default)s)"
    )
    asked = parser.parse_args(arguments)
    try:
        made = task_definition(
            TASKS[asked.task],
            region=asked.region,
            account_id=asked.account_id,
            image=asked.image,
            shutdown_seconds=asked.shutdown_seconds,
        )
    except ValueError as e:
        parser.error(str(e))
    print(json.dumps(made, indent=2))  # noqa: T201 - a command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
