"""Which drill lease a configuration asks for."""

from __future__ import annotations

from collections.abc import Collection

from kms_chaos.guards.checking import RefusedError
from kms_chaos.lease import DrillLease
from kms_chaos.lease_dynamo import DynamoLease
from kms_chaos.lease_file import FileLease
from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings


def lease_of(settings: Settings, clock: Clock, *, run_id: str, hurt: Collection[str] = ()) -> DrillLease:
    """Return the drill lease of `settings` for the drill `run_id`, not acquired. Main thread.

    Raises:
        RefusedError: it is kept in a region that the drill hurts, so it would be lost with it.
    """
    table = settings.drills.lease
    if table is None:
        return FileLease(settings.state.dir)
    if table.region in hurt:
        raise RefusedError(f"the drill hurts {table.region}, where the drill lease is kept (drills.lease.region)")
    return DynamoLease(
        aws.client(settings, "dynamodb", table.region),
        clock,
        table=table.table,
        name=settings.estate.name,
        ttl_seconds=table.ttl_seconds,
        run_id=run_id,
    )
