"""The lease in DynamoDB where it turns: what is believed of a row, who is asked, and what is told when it is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from guard_kit import NOW, moto_aws
from lease_kit import ESTATE, TABLE, TTL, dynamo, row
from lossy_table import LossyClient, acquired, lossy_table

from kms_chaos.guards import RefusedError
from kms_chaos.halt import Halt
from kms_chaos.lease import FencedError, LeaseUnreachableError
from kms_core.testing import ManualClock

pytestmark = pytest.mark.slow  # each with a table of its own

__all__ = ["moto_aws"]

LEASE, FAULT, SLOT = f"lease#{ESTATE}", f"fault#{ESTATE}", "failover/2026-12"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=NOW, auto_advance=True)


@pytest.fixture
def client(tmp_path: Path, moto_aws: None) -> LossyClient:
    return lossy_table(tmp_path)


def written(client: LossyClient, pk: str, **attributes: str) -> None:
    """Change a row behind everybody's back."""
    before = client.client.get_item(TableName=TABLE, Key={"pk": {"S": pk}}, ConsistentRead=True).get("Item", {})
    changed = {name: {"N" if name in {"tok", "ttl"} else "S": value} for name, value in attributes.items()}
    client.client.put_item(TableName=TABLE, Item={**before, "pk": {"S": pk}, **changed})


def test_what_is_read_is_what_was_written_last(client: LossyClient, clock: ManualClock) -> None:
    """A read that may be a second old would show a lease that was taken meanwhile as free."""
    lease = acquired(client, clock)
    lease.slot_state(SLOT)
    lease.open_fault()

    reads = [asked for name, asked in zip(client.calls, client.asked, strict=True) if name == "get_item"]
    assert [asked.get("ConsistentRead") for asked in reads] == [True, True, True]


def test_nobody_holds_it_before_it_is_taken(client: LossyClient, clock: ManualClock) -> None:
    """No token is nobody's, so none is above it; and what was never taken is not given back."""
    lease = dynamo(client, clock)

    assert lease.token == 0
    with pytest.raises(FencedError, match=r"^it is not held, 0\.0 s are needed$"):
        lease.check()
    lease.release()
    assert client.calls == []


def test_it_lasts_until_its_last_moment(client: LossyClient, clock: ManualClock) -> None:
    """And what is needed is told beside what is left; of a time that is over none is left."""
    lease = acquired(client, clock)
    clock.advance(TTL - 0.25)
    lease.check()
    lease.check(0.25)
    with pytest.raises(FencedError, match=r"^0\.2 s of it are left, 0\.5 s are needed$"):
        lease.check(0.5)
    clock.advance(0.25)
    with pytest.raises(FencedError, match=r"^0\.0 s of it are left, 0\.0 s are needed$"):
        lease.check()
    clock.advance(5)
    with pytest.raises(FencedError, match=r"^0\.0 s of it are left"):
        lease.check()


def test_who_waits_looks_twelve_times_in_the_holders_time(client: LossyClient, clock: ManualClock) -> None:
    """Often enough to learn soon that it lives, seldom enough to cost a request every few seconds."""
    acquired(client, clock)
    client.calls.clear()

    dynamo(client, clock, "run-2").acquire(Halt())

    assert client.calls == ["get_item"] * 13 + ["update_item"]


def test_who_waits_is_refused_at_the_first_renewal_that_it_sees(client: LossyClient, clock: ManualClock) -> None:
    """Whatever it saw before that: the same number twice is no renewal."""
    holder, looks = acquired(client, clock), [0]

    def renewed_before_the_fourth(name: str) -> None:
        if name == "get_item":
            looks[0] += 1
            if looks[0] == 4:
                holder.renew()

    waiting = LossyClient(client.client)
    waiting.before = renewed_before_the_fourth
    with pytest.raises(RefusedError, match="was renewed just now"):
        dynamo(waiting, clock, "run-2").acquire(Halt())
    assert looks == [4]


def test_who_loses_the_race_for_an_abandoned_one_waits_for_the_winner(client: LossyClient, clock: ManualClock) -> None:
    """Its time is counted from when it is first seen, as anybody's: not from that of the one before."""
    acquired(client, clock)
    second, third = dynamo(client, clock, "run-2"), dynamo(client, clock, "run-3")
    assert (second.try_acquire(), third.try_acquire()) == (False, False)
    clock.advance(TTL)

    def jump_in(name: str) -> None:
        if name == "update_item":
            client.before = lambda _: None
            assert second.try_acquire()

    client.before = jump_in
    assert not third.try_acquire()
    assert (third.try_acquire(), row(client, LEASE)["run"]) == (False, "run-2")
    clock.advance(TTL - 0.1)
    assert not third.try_acquire()
    clock.advance(0.1)
    assert third.try_acquire()


def test_who_waits_and_loses_the_race_is_refused_by_the_winner(client: LossyClient, clock: ManualClock) -> None:
    """At the next look, which sees another number: somebody drills."""
    acquired(client, clock)
    other = LossyClient(client.client)

    def jump_in(name: str) -> None:
        if name == "update_item":
            other.before = lambda _: None
            second = dynamo(client, clock, "run-2")
            assert not second.try_acquire()
            clock.advance(TTL)
            assert second.try_acquire()

    other.before = jump_in
    with pytest.raises(RefusedError, match="was renewed just now"):
        dynamo(other, clock, "run-3").acquire(Halt())

    assert other.calls[-2:] == ["update_item", "get_item"]
    assert row(client, LEASE)["run"] == "run-2"


def test_a_row_that_is_as_it_was_before_a_lost_race_is_looked_at_anew(client: LossyClient, clock: ManualClock) -> None:
    """A table that was restored may show the old number again: what was counted for it then is over."""
    acquired(client, clock)
    before = row(client, LEASE)
    later = dynamo(client, clock, "run-2")
    assert not later.try_acquire()
    clock.advance(TTL)
    client.before = lambda name: written(client, LEASE, rvn="another") if name == "update_item" else None
    assert not later.try_acquire()
    client.before = lambda _: None
    written(client, LEASE, rvn=before["rvn"])

    assert not later.try_acquire()


@pytest.mark.parametrize("how", [{"owner": "somebody"}, {"tok": "7"}, {"rvn": "unknown"}])
def test_a_renewal_that_was_refused_is_ours_only_if_all_says_so(
    client: LossyClient, clock: ManualClock, how: dict[str, str]
) -> None:
    """Owner, token, and a number that we ourselves have sent."""
    lease = acquired(client, clock)
    client.lose = lambda name: "answer" if name == "update_item" else ""
    with pytest.raises(LeaseUnreachableError):
        lease.renew()
    client.lose = lambda _: ""
    written(client, LEASE, **how)

    with pytest.raises(FencedError, match="another holder took it"):
        lease.renew()
    with pytest.raises(FencedError, match="it is not held"):
        lease.check()


def test_who_is_refused_again_after_all_was_settled_has_lost_it(client: LossyClient, clock: ManualClock) -> None:
    """Between the reading and the second renewal somebody took it."""
    lease = acquired(client, clock)
    client.lose = lambda name: "answer" if name == "update_item" else ""
    with pytest.raises(LeaseUnreachableError):
        lease.renew()
    client.lose = lambda _: ""
    renewals = [0]

    def taken_before_the_second(name: str) -> None:
        if name == "update_item":
            renewals[0] += 1
            if renewals[0] == 2:
                written(client, LEASE, owner="somebody")

    client.before = taken_before_the_second
    with pytest.raises(FencedError, match="another holder took it"):
        lease.renew()
    with pytest.raises(FencedError, match="it is not held"):
        lease.check()


def test_a_number_from_before_the_last_renewal_is_not_ours_any_more(client: LossyClient, clock: ManualClock) -> None:
    """One whose answer was lost, and that another one followed: who sees it again sees an old table."""
    lease = acquired(client, clock)
    client.lose = lambda name: "answer" if name == "update_item" else ""
    with pytest.raises(LeaseUnreachableError):
        lease.renew()
    lost = row(client, LEASE)["rvn"]
    client.lose = lambda _: ""
    lease.renew()
    written(client, LEASE, rvn=lost)

    with pytest.raises(FencedError, match="another holder took it"):
        lease.renew()


def broken(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "UpdateItem")


def test_a_slot_that_could_not_be_finished_is_said_by_its_reason(client: LossyClient, clock: ManualClock) -> None:
    """A later holder's is one thing, a table that does not answer another."""
    lease = acquired(client, clock)
    lease.claim_slot(SLOT)
    client.refuse = lambda name: broken("InternalServerError") if name == "update_item" else None
    with pytest.raises(LeaseUnreachableError, match="InternalServerError"):
        lease.finish_slot(SLOT)
    client.refuse = lambda _: None
    written(client, f"slot#{ESTATE}#{SLOT}", run="run-2")

    with pytest.raises(FencedError, match="later holder"):
        lease.finish_slot(SLOT)


@pytest.mark.parametrize(
    ("attributes", "open_for_us"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"state": "OPEN", "tok": "2"}, True, id="an-earlier-holders"),
        pytest.param({"state": "OPEN", "tok": "3"}, False, id="our-own"),
        pytest.param({"state": "OPEN", "tok": "4"}, False, id="a-later-holders"),
        pytest.param({"state": "CLOSED", "tok": "2"}, False, id="settled"),
    ],
)
def test_an_open_fault_is_an_earlier_holders(
    client: LossyClient, clock: ManualClock, attributes: dict[str, str], *, open_for_us: bool
) -> None:
    """Our own is no reason to refuse ourselves."""
    for number in range(2):
        acquired(client, clock, f"run-{number}").release()
    lease = acquired(client, clock, "run-3")
    if attributes:
        written(client, FAULT, run="run-x", host="h", expires=NOW.isoformat(), **attributes)

    found = lease.open_fault()

    assert (found is not None) == open_for_us
    assert found is None or (found.run_id, found.token, found.expires_at_utc) == ("run-x", 2, NOW)


def test_what_is_in_the_way_is_tried_four_times_with_a_pause(client: LossyClient, clock: ManualClock) -> None:
    """A quarter of a second between two: a conflict is over by then, and the lease is not."""
    lease = acquired(client, clock)
    client.calls.clear()
    began = clock.monotonic()
    in_the_way: Any = broken("ThrottlingException")
    client.refuse = lambda name: in_the_way if name == "transact_write_items" else None

    with pytest.raises(LeaseUnreachableError, match="ThrottlingException"):
        lease.claim_slot(SLOT)

    assert client.calls == ["transact_write_items"] * 4
    assert clock.monotonic() - began == pytest.approx(0.75)
