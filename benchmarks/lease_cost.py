"""What holding a drill lease costs in requests to DynamoDB, counted at the wire of a moto server.

An hour is held with the defaults, through the same loop that a drill's thread runs; the clock is moved to each next
renewal, so that the hour takes as long as its requests. A second holder waits meanwhile, as a refused drill does.
"""

from __future__ import annotations

import statistics
import threading
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.aws_servers import AwsServer, motos
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from kms_chaos.halt import Halt
from kms_chaos.lease import keep
from kms_chaos.lease_dynamo import DynamoLease
from kms_core.clock import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.configuring.drill_safety import LeaseTable

GOAL = 1.0
"""Requests a second, less than."""
REGION, TABLE = "us-west-1", "kms-drills"
_CLOCK = SystemClock()
TTL_SECONDS = float(LeaseTable.model_fields["ttl_seconds"].default)
BENCHMARK = Benchmark(
    title="The drill lease",
    section=Section.DRILLS,
    goals=(f"less than {GOAL:g} request a second",),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=3, title="requests a second"),),
)


class HourClock(ManualClock):
    """A clock that whoever waits moves on, and that ends the loop when its time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__(auto_advance=True)
        self._over_at = self.monotonic() + seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move on by `seconds`; say that the event is set once the time is over."""
        if self.monotonic() + seconds > self._over_at:
            event.set()
        return super().wait(event, seconds)


class Requests:
    """Counts what a client sends, and how long the answers took."""

    def __init__(self, client: Any) -> None:
        self.began: list[float] = []
        self.took: list[float] = []
        client.meta.events.register("before-send.dynamodb", self._note)
        client.meta.events.register("after-call.dynamodb", self._end)

    def _note(self, **_: Any) -> None:
        self.began.append(_CLOCK.monotonic())

    def _end(self, **_: Any) -> None:
        self.took.append(_CLOCK.monotonic() - self.began[-1])


def run(size: Size) -> tuple[Table, ...]:
    """Hold it for ten minutes or an hour, and wait for it for its time to live."""
    seconds = size.pick(quick=600.0, normal=3600.0, full=3600.0)
    with motos() as server:
        _make_table(server)
        rows = (_holder(server, seconds), _follower(server))
    missed = [
        f"{row[0]}: {row[3]:.2f} requests a second; the goal is less than {GOAL:g}" for row in rows if row[3] >= GOAL
    ]
    return (
        Table(
            title="Requests to DynamoDB",
            columns=("who", "seconds", "requests", "requests a second", "ms each, median"),
            rows=tuple(rows),
            notes=(
                f"`ttl_seconds` {TTL_SECONDS:g}: renewed every {TTL_SECONDS / 3:g} s; the clock was moved.",
                "Taking and giving back are counted; a drill's own notes are some five more, once.",
            ),
            missed=tuple(missed),
        ),
    )


def _holder(server: AwsServer, seconds: float) -> tuple[Any, ...]:
    client, clock, stop = _client(server), HourClock(seconds), threading.Event()
    requests, lease = Requests(client), _lease(client, clock, "holder")
    began = clock.monotonic()
    lease.acquire(Halt())
    keep(lease, Halt(), clock, stop)
    held = clock.monotonic() - began
    lease.check()
    lease.release()
    return _row("holds it", held, requests)


def _follower(server: AwsServer) -> tuple[Any, ...]:
    """Wait for the lease of a holder that has died: until its time to live is over, and taken."""
    client, clock = _client(server), HourClock(float("inf"))
    dead = _lease(client, ManualClock(), "dead")
    if not dead.try_acquire():
        raise RuntimeError("the lease was not given back")
    requests, lease = Requests(client), _lease(client, clock, "follower")
    began = clock.monotonic()
    lease.acquire(Halt())
    return _row("waits for a dead holder's", clock.monotonic() - began, requests)


def _row(who: str, seconds: float, requests: Requests) -> tuple[Cell, ...]:
    count = len(requests.began)
    return (who, seconds, count, count / seconds, statistics.median(requests.took) * 1000)


def _lease(client: Any, clock: ManualClock, run_id: str) -> DynamoLease:
    return DynamoLease(client, clock, table=TABLE, name="production", ttl_seconds=TTL_SECONDS, run_id=run_id)


def _client(server: AwsServer) -> Any:
    return boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=next(iter(server.urls.values())),
        verify=server.ca_bundle,
        config=Config(retries={"total_max_attempts": 1}),
        **server.credentials,
    )


def _make_table(server: AwsServer) -> None:
    client = _client(server)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    client.close()
