"""Drill leases on a DynamoDB of moto's: in this process, and for processes of their own over HTTP."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from kms_chaos.lease_dynamo import DynamoLease
from kms_core.clock import Clock

TABLE, ESTATE = "kms-drills", "production"
TTL = 30.0


def make_table(client: Any) -> None:
    """Make the table as it must be."""
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )


def row(client: Any, pk: str) -> dict[str, str]:
    """Return a row, its types left out; empty: there is none."""
    found = client.get_item(TableName=TABLE, Key={"pk": {"S": pk}}, ConsistentRead=True).get("Item", {})
    return {name: next(iter(value.values())) for name, value in found.items()}


def dynamo(client: Any, clock: Clock, run_id: str = "run-1", ttl_seconds: float = TTL) -> DynamoLease:
    """Return a lease that is not acquired."""
    return DynamoLease(client, clock, table=TABLE, name=ESTATE, ttl_seconds=ttl_seconds, run_id=run_id)


def client_of() -> Any:
    """Return a client of the table that is served: short waits, and nothing is tried again."""
    once = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1})
    return boto3.client("dynamodb", region_name="us-west-1", config=once)
