"""A table of the drill lease in an account of moto's, behind a network that loses what it is told to lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ReadTimeoutError
from guard_kit import settings_of
from lease_kit import dynamo, make_table

from kms_chaos.lease_dynamo import DynamoLease
from kms_core.clock import Clock
from kms_watchdog import aws


class LossyClient:
    """DynamoDB behind a network that loses what it is told to lose: the answer (the request arrived), or all of it."""

    def __init__(self, client: Any) -> None:
        self.client, self.calls = client, list[str]()
        self.asked: list[dict[str, Any]] = []
        self.lose: Callable[[str], str] = lambda _: ""
        self.refuse: Callable[[str], Exception | None] = lambda _: None
        self.before: Callable[[str], None] = lambda _: None

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            self.asked.append(arguments)
            self.before(name)
            if error := self.refuse(name):
                raise error
            lost = self.lose(name)
            answer = None if lost == "request" else getattr(self.client, name)(**arguments)
            if lost:
                raise ReadTimeoutError(endpoint_url="https://dynamodb")
            return answer

        return call


def acquired(client: Any, clock: Clock, run_id: str = "run-1") -> DynamoLease:
    """Return a lease that is."""
    lease = dynamo(client, clock, run_id)
    assert lease.try_acquire()
    return lease


def lossy_table(folder: Path) -> LossyClient:
    """Return a client of a new table, in an account of moto's, that loses and refuses what it is told to."""
    found = LossyClient(aws.client(settings_of(folder), "dynamodb", "us-west-1"))
    make_table(found.client)
    return found
