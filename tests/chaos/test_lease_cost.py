"""What the drill lease costs: less than one request a second, held or waited for, at any time to live."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from guard_kit import NOW, moto_aws, settings_of
from lease_kit import dynamo, make_table

from kms_chaos.guards import RefusedError
from kms_chaos.halt import Halt
from kms_chaos.lease import keep
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.configuring.drill_safety import LeaseTable

pytestmark = pytest.mark.slow  # each with a table of its own

__all__ = ["moto_aws"]

SHORTEST, USUAL, LONGEST = 20.0, LeaseTable.model_fields["ttl_seconds"].default, 3600.0
TEN_MINUTES = 600.0


class Counted:
    """DynamoDB's client, and how often it was asked."""

    def __init__(self, client: Any) -> None:
        self.client, self.calls = client, 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self.client, name)


class Until(threading.Event):
    """Set from a moment of the clock on."""

    def __init__(self, clock: ManualClock, at: float) -> None:
        super().__init__()
        self._clock, self._at = clock, at

    def is_set(self) -> bool:
        return self._clock.monotonic() >= self._at


@pytest.fixture
def client(tmp_path: Path, moto_aws: None) -> Counted:
    found = Counted(aws.client(settings_of(tmp_path), "dynamodb", "us-west-1"))
    make_table(found.client)
    return found


def test_the_shortest_and_the_longest_are_what_the_configuration_takes() -> None:
    """Else what follows would be about another."""
    limits = {type(one).__name__: one for one in LeaseTable.model_fields["ttl_seconds"].metadata}

    assert (limits["Ge"].ge, limits["Le"].le, USUAL) == (SHORTEST, LONGEST, 60.0)


@pytest.mark.parametrize(
    ("ttl_seconds", "at_most"),
    [pytest.param(USUAL, 0.051, id="usual"), pytest.param(SHORTEST, 0.151, id="shortest")],
)
def test_a_holder_asks_thrice_in_its_time(client: Counted, ttl_seconds: float, at_most: float) -> None:
    """For ten minutes: 0.05 requests a second, at the shortest time to live 0.15."""
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    lease = dynamo(client, clock, ttl_seconds=ttl_seconds)
    assert lease.try_acquire()
    client.calls, began, halt = 0, clock.monotonic(), Halt()

    keep(lease, halt, clock, Until(clock, began + TEN_MINUTES))

    rate = client.calls / (clock.monotonic() - began)
    assert not halt.event.is_set()
    assert 1 / ttl_seconds < rate <= at_most < 1


@pytest.mark.parametrize("ttl_seconds", [USUAL, SHORTEST])
def test_who_waits_for_a_dead_holder_asks_less_than_once_a_second(client: Counted, ttl_seconds: float) -> None:
    """Until the lease is taken over: a dozen looks at the row."""
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    assert dynamo(client, clock, "dead", ttl_seconds=ttl_seconds).try_acquire()
    client.calls, began = 0, clock.monotonic()
    lease = dynamo(client, clock, "next", ttl_seconds=ttl_seconds)

    lease.acquire(Halt())

    assert lease.token == 2
    assert client.calls <= 15
    assert client.calls / (clock.monotonic() - began) < 1


def test_a_drill_that_finds_another_asks_thrice(client: Counted) -> None:
    """And is refused as soon as the other has renewed."""
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    first, second = (
        dynamo(client, clock, "first", ttl_seconds=USUAL),
        dynamo(client, clock, "second", ttl_seconds=USUAL),
    )
    assert first.try_acquire()
    assert not second.try_acquire()
    first.renew()
    client.calls = 0

    with pytest.raises(RefusedError, match="another drill runs in this estate"):
        _acquire_beside(second, first, clock)

    assert client.calls <= 5


def _acquire_beside(lease: Any, holder: Any, clock: ManualClock) -> None:
    """Acquire while the holder renews at each of its turns."""

    class Renewing(Halt):
        def pause(self, of: Any, seconds: float) -> None:
            holder.renew()
            super().pause(of, seconds)

    lease.acquire(Renewing())
