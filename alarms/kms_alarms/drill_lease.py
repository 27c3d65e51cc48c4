"""Whether a drill runs somewhere in the estate, by the lease that all drills share. Read only.

The table is `kms_chaos.lease_dynamo`'s: `lease#NAME` has `owner` (empty: nobody), `rvn` (new with each renewal) and
`ttl`. A holder that has not renewed within its ttl is dead; clocks of two machines are not compared.
"""

from __future__ import annotations

import threading
from typing import Any

from kms_alarms.prove_aws import DoorError
from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings


class LeaseHeldError(RuntimeError):
    """A drill runs, on this machine or another; the message names its run."""


def no_drill_in_the_estate(settings: Settings, clock: Clock, *, client: Any = None) -> None:
    """Return if nobody holds the drill lease, where drills have one; else after waiting whether it is renewed.

    Args:
        settings: say where the lease is kept.
        clock: for the waiting.
        client: DynamoDB's; None: the one that `settings` lead to. For tests.

    Raises:
        LeaseHeldError: it is renewed: a drill runs.
        DoorError: it cannot be read.
    """
    lease = settings.drills.lease
    if lease is None:
        return  # the lock on the state folder says it
    client = client or aws.client(settings, "dynamodb", lease.region)
    first = _row(client, lease.table, settings.estate.name, lease.region)
    if not first.get("owner"):
        return
    clock.wait(threading.Event(), float(first["ttl"]))
    second = _row(client, lease.table, settings.estate.name, lease.region)
    if second.get("owner") and second["rvn"] != first["rvn"]:
        raise LeaseHeldError(f"{second.get('run', 'unknown')} holds the lease in DynamoDB table {lease.table}")


def _row(client: Any, table: str, name: str, region: str) -> dict[str, str]:
    try:
        answer = client.get_item(TableName=table, Key={"pk": {"S": f"lease#{name}"}}, ConsistentRead=True)
    except aws.AwsError as e:
        raise DoorError(f"{region}: the drill lease: {aws.error_code(e)}") from e
    return {key: next(iter(value.values())) for key, value in answer.get("Item", {}).items()}
