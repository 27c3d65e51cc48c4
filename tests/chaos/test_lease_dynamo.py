"""The lease in DynamoDB: no clock is compared, a stale holder is refused by the table, and reasons are told apart."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from guard_kit import NOW, moto_aws, settings_of
from lease_kit import ESTATE, TABLE, TTL, dynamo, row
from lossy_table import LossyClient, acquired, lossy_table

from kms_alarms.drill_lease import LeaseHeldError, no_drill_in_the_estate
from kms_chaos.guards import RefusedError
from kms_chaos.halt import Halt, HaltedError
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError
from kms_chaos.lease_dynamo import DynamoLease
from kms_core.testing import ManualClock
from kms_watchdog.config import LeaseTable

pytestmark = pytest.mark.slow  # each with a table of its own

__all__ = ["moto_aws"]

LEASE, SLOT = f"lease#{ESTATE}", "failover/2026-12"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=NOW)


@pytest.fixture
def client(tmp_path: Path, moto_aws: None) -> LossyClient:
    return lossy_table(tmp_path)


def taken_over(client: LossyClient, clock: ManualClock, run_id: str = "run-2") -> DynamoLease:
    """Return a later holder's lease, who saw the earlier one silent for its whole time."""
    later = dynamo(client, clock, run_id)
    assert not later.try_acquire()
    clock.advance(TTL)
    assert later.try_acquire()
    return later


def note_of(lease: DynamoLease, run_id: str) -> FaultNote:
    return FaultNote(run_id=run_id, host="h", token=lease.token, expires_at_utc=NOW + timedelta(minutes=9))


def test_the_rows_are_as_they_are_written_down(client: LossyClient, clock: ManualClock) -> None:
    """One format for all versions and all machines."""
    lease = acquired(client, clock)
    lease.claim_slot(SLOT)
    lease.record_fault(note_of(lease, "run-1"))

    found = row(client, LEASE)
    assert found.keys() == {"pk", "owner", "rvn", "ttl", "tok", "run", "host"}
    assert (found["tok"], found["ttl"], found["run"]) == ("1", "30.0", "run-1")
    assert row(client, f"slot#{ESTATE}#{SLOT}") == {
        "pk": f"slot#{ESTATE}#{SLOT}", "tok": "1", "state": "STARTED", "run": "run-1",
    }  # fmt: skip
    assert row(client, f"fault#{ESTATE}") == {
        "pk": f"fault#{ESTATE}", "tok": "1", "run": "run-1", "host": "h", "state": "OPEN",
        "expires": "2026-11-25T10:09:00+00:00",
    }  # fmt: skip


def test_a_living_holder_keeps_everybody_out(client: LossyClient, clock: ManualClock) -> None:
    """As long as it renews, however long that is; whoever waits learns it at the first renewal."""
    lease, other = acquired(client, clock), dynamo(client, clock, "run-2")

    for _ in range(12):
        assert not other.try_acquire()
        clock.advance(TTL / 3)
        lease.renew()
        lease.check(TTL - 0.1)

    def renew_now_and_then(name: str) -> None:
        if name == "get_item":
            lease.renew()

    waiting = ManualClock(start_utc=NOW, auto_advance=True)
    began, second = waiting.monotonic(), LossyClient(client.client)
    second.before = renew_now_and_then
    with pytest.raises(RefusedError, match="renewed just now"):
        dynamo(second, waiting, "run-3").acquire(Halt())
    assert waiting.monotonic() - began < TTL


def test_a_proof_of_the_alarms_reads_the_same_rows(client: LossyClient, clock: ManualClock, tmp_path: Path) -> None:
    """While the holder renews, no proof begins; once it has given the lease back, one may."""
    settings = settings_of(tmp_path)
    table = LeaseTable(table=TABLE, region="us-west-1", ttl_seconds=TTL)
    estate = settings.estate.model_copy(update={"name": ESTATE})
    drills = settings.drills.model_copy(update={"lease": table})
    leased = settings.model_copy(update={"estate": estate, "drills": drills})
    lease, second = acquired(client, clock), LossyClient(client.client)
    second.before = lambda _: lease.renew()

    with pytest.raises(LeaseHeldError, match="run-1 holds the lease"):
        no_drill_in_the_estate(leased, ManualClock(start_utc=NOW, auto_advance=True), client=second)
    lease.release()
    no_drill_in_the_estate(leased, ManualClock(start_utc=NOW, auto_advance=True), client=client)


def test_a_silent_holder_is_taken_over_after_its_whole_time(client: LossyClient, clock: ManualClock) -> None:
    """Counted from when it was first seen on the follower's own clock, and not a moment sooner."""
    first, later = acquired(client, clock), dynamo(client, clock, "run-2")
    clock.advance(20.0)

    assert not later.try_acquire()
    clock.advance(TTL - 0.01)
    assert not later.try_acquire()
    clock.advance(0.01)
    assert later.try_acquire()

    assert (first.token, later.token) == (1, 2)


def test_acquire_waits_for_a_silent_holder(client: LossyClient, clock: ManualClock) -> None:
    """A machine that died costs the next drill one time to live, not a person's night."""
    acquired(client, clock)
    waiting = ManualClock(start_utc=NOW, auto_advance=True)
    before = waiting.monotonic()
    later = dynamo(client, waiting, "run-2")

    later.acquire(Halt())

    assert later.token == 2
    assert TTL <= waiting.monotonic() - before < TTL + 5


def test_the_holders_time_ends_before_a_followers_begins(client: LossyClient, clock: ManualClock) -> None:
    """A slow answer costs the holder, not the follower: each counts from its own careful side."""

    def slow(name: str) -> None:
        if name == "update_item":
            clock.advance(5.0)

    client.before = slow
    lease = acquired(client, clock)
    lease.check(TTL - 5.0)
    with pytest.raises(FencedError):
        lease.check(TTL - 4.9)
    lease.renew()

    lease.check(TTL - 5.0)
    with pytest.raises(FencedError, match=r"25\.0 s of it are left"):
        lease.check(TTL - 4.9)


def test_past_its_time_a_holder_refuses_to_act(client: LossyClient, clock: ManualClock) -> None:
    """By its own clock, without asking; nothing is written."""
    lease = acquired(client, clock)
    clock.advance(TTL)

    with pytest.raises(FencedError):
        lease.check()
    with pytest.raises(FencedError):
        lease.claim_slot(SLOT)
    assert row(client, f"slot#{ESTATE}#{SLOT}") == {}


def test_a_holder_that_wakes_between_check_and_act_is_refused_by_the_table(
    client: LossyClient, clock: ManualClock
) -> None:
    """Frozen at the worst instant, its own clock having stood still: only the transaction is the fence."""
    frozen = acquired(client, clock)
    frozen.renew()
    frozen.check(5.0)
    later = taken_over(client, clock)
    later.record_fault(note_of(later, "run-2"))
    frozen._deadline = float("inf")  # the machine was suspended, and its monotonic clock with it
    frozen.check(5.0)

    for act in (lambda: frozen.record_fault(note_of(frozen, "run-1")), lambda: frozen.claim_slot(SLOT)):
        frozen._deadline = float("inf")
        with pytest.raises(FencedError, match="the table says so"):
            act()
        with pytest.raises(FencedError):
            frozen.check()  # it knows now

    assert row(client, f"fault#{ESTATE}")["run"] == "run-2"
    assert row(client, f"slot#{ESTATE}#{SLOT}") == {}


def test_a_holder_that_was_taken_over_cannot_renew_or_give_back(client: LossyClient, clock: ManualClock) -> None:
    """What it does to its own lease does not touch the next one's."""
    first = acquired(client, clock)
    later = taken_over(client, clock)
    before = row(client, LEASE)

    with pytest.raises(FencedError, match="another holder"):
        first.renew()
    first._deadline = float("inf")
    first.release()

    assert row(client, LEASE) == before
    later.renew()


def test_a_row_of_a_later_holder_is_not_written_over(client: LossyClient, clock: ManualClock) -> None:
    """Even by somebody who holds the lease row again after a restore of the table."""
    lease = acquired(client, clock)
    client.client.put_item(
        TableName="kms-drills",
        Item={"pk": {"S": f"fault#{ESTATE}"}, "tok": {"N": "9"}, "run": {"S": "x"}, "state": {"S": "OPEN"}},
    )

    with pytest.raises(FencedError, match="later token"):
        lease.record_fault(note_of(lease, "run-1"))


def test_two_who_want_a_free_lease_do_not_both_get_it(client: LossyClient, clock: ManualClock) -> None:
    """The second write finds another row than the one that was read."""
    for free in ("no row", "released"):
        first, second = dynamo(client, clock, "run-1"), dynamo(client, clock, "run-2")
        won: list[bool] = []

        def jump_in(name: str, first: DynamoLease = first, won: list[bool] = won) -> None:
            if name == "update_item" and not won:
                won.append(True)
                assert first.try_acquire()

        client.before = jump_in
        assert not second.try_acquire(), free
        client.before = lambda _: None
        first.release()


def test_a_released_lease_is_free_at_once(client: LossyClient, clock: ManualClock) -> None:
    """Nobody waits for what was given back; the row stays, and with it the token."""
    lease = acquired(client, clock)
    lease.release()

    assert row(client, LEASE)["owner"] == ""
    assert acquired(client, clock, "run-2").token == 2


@pytest.mark.parametrize("lost", ["answer", "request"])
def test_a_renewal_whose_answer_was_lost_does_not_look_like_a_lost_lease(
    client: LossyClient, clock: ManualClock, lost: str
) -> None:
    """The next one settles by a consistent read which of the two it was."""
    lease = acquired(client, clock)
    clock.advance(10.0)
    client.lose = lambda name: lost if name == "update_item" else ""
    with pytest.raises(LeaseUnreachableError, match="ReadTimeoutError"):
        lease.renew()
    lease.check(TTL - 10.0)
    with pytest.raises(FencedError):
        lease.check(TTL - 9.0)  # an answer that nobody saw gives no time

    client.lose = lambda _: ""
    clock.advance(5.0)
    lease.renew()

    lease.check(TTL)
    lease.claim_slot(SLOT)


def test_a_settled_renewal_counts_from_when_it_was_asked(client: LossyClient, clock: ManualClock) -> None:
    """Not from when somebody found out: a follower has been counting since."""
    lease = acquired(client, clock)
    clock.advance(10.0)
    client.lose = lambda name: "answer" if name == "update_item" else ""
    with pytest.raises(LeaseUnreachableError):
        lease.renew()
    clock.advance(5.0)
    answers = ["", "request"]  # the next is refused, its row having changed; the one after that is lost
    client.lose = lambda name: answers.pop(0) if name == "update_item" else ""

    with pytest.raises(LeaseUnreachableError):
        lease.renew()

    lease.check(TTL - 5.0)
    with pytest.raises(FencedError):
        lease.check(TTL - 4.9)


def test_no_call_is_repeated_behind_our_back(client: LossyClient, clock: ManualClock) -> None:
    """One renewal, one request."""
    lease = acquired(client, clock)
    client.calls.clear()
    client.lose = lambda _: "request"

    with pytest.raises(LeaseUnreachableError):
        lease.renew()

    assert client.calls == ["update_item"]


def canceled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    answer = {"Error": {"Code": "TransactionCanceledException", "Message": ""}, "CancellationReasons": reasons}
    return ClientError({**answer, "ResponseMetadata": {"HTTPStatusCode": 400}}, "TransactWriteItems")  # type: ignore[arg-type]


FAILED, CONFLICT = "ConditionalCheckFailed", "TransactionConflict"


def test_why_a_transaction_was_canceled_is_told_apart(client: LossyClient, clock: ManualClock) -> None:
    """The lease's item first: to lump them together calls a lost lease a slot that is taken."""
    lease = acquired(client, clock)

    client.refuse = lambda name: canceled("None", FAILED) if "transact" in name else None
    assert not lease.claim_slot(SLOT)
    for codes in ((FAILED, "None"), (FAILED, FAILED), (FAILED, CONFLICT)):
        lease = dynamo(client, clock, uuid.uuid4().hex)
        lease._deadline = float("inf")
        client.refuse = lambda name, codes=codes: canceled(*codes) if "transact" in name else None
        with pytest.raises(FencedError, match="the table says so"):
            lease.claim_slot(SLOT)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(canceled("None", CONFLICT), id="conflict"),
        pytest.param(canceled(CONFLICT, "None"), id="conflict-with-a-renewal"),
        pytest.param(canceled("ThrottlingError", "None"), id="throttled-item"),
        pytest.param(ReadTimeoutError(endpoint_url="x"), id="no-answer"),
        pytest.param(
            ClientError({"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "x"),  # type: ignore[typeddict-item]
            id="throttled",
        ),
    ],
)
def test_what_is_merely_in_the_way_is_tried_again_while_the_lease_lasts(client: LossyClient, error: Exception) -> None:
    """Under one request token, so that an answer that was lost does not count against us."""
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    lease = acquired(client, clock)
    errors: list[Exception] = [error, error]
    client.refuse = lambda name: errors.pop() if "transact" in name and errors else None

    assert lease.claim_slot(SLOT)

    client.calls.clear()
    client.refuse = lambda name: error if "transact" in name else None
    with pytest.raises(LeaseUnreachableError):
        lease.claim_slot("failover/2027-01")
    assert client.calls.count("transact_write_items") == 4


def test_the_same_request_token_is_used_again(client: LossyClient) -> None:
    """DynamoDB takes it once (API reference, TransactWriteItems, ClientRequestToken)."""
    lease = acquired(client, ManualClock(start_utc=NOW, auto_advance=True))
    tokens: list[str] = []

    class Listening:
        def transact_write_items(self, **arguments: Any) -> None:
            tokens.append(arguments["ClientRequestToken"])
            if len(tokens) < 3:
                raise ReadTimeoutError(endpoint_url="x")

    lease._client = Listening()
    lease.claim_slot(SLOT)
    lease.claim_slot("failover/2027-01")

    assert tokens[0] == tokens[1] == tokens[2] != tokens[3]


def test_what_will_not_pass_is_not_tried_again(client: LossyClient, clock: ManualClock) -> None:
    """A missing right stays missing."""
    lease = acquired(client, clock)
    denied = ClientError(
        {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        "TransactWriteItems",
    )
    client.calls.clear()
    client.refuse = lambda name: denied if "transact" in name else None

    with pytest.raises(LeaseUnreachableError, match="AccessDeniedException"):
        lease.claim_slot(SLOT)

    assert client.calls == ["transact_write_items"]


def test_a_conflict_is_not_waited_for_longer_than_the_lease_lasts(client: LossyClient) -> None:
    """A holder whose time is over does not get its write in after all."""
    clock = ManualClock(start_utc=NOW, auto_advance=True)
    lease = acquired(client, clock)

    def slow_conflict(name: str) -> Exception | None:
        if "transact" not in name:
            return None
        clock.advance(TTL)
        return canceled(CONFLICT, "None")

    client.refuse = slow_conflict

    with pytest.raises(FencedError):
        lease.claim_slot(SLOT)


def test_a_table_that_does_not_answer_refuses_a_drill(client: LossyClient, clock: ManualClock) -> None:
    """Drills fail closed, canaries do not even ask."""
    client.lose = lambda _: "request"

    with pytest.raises(RefusedError, match=r"DynamoDB table kms-drills: ReadTimeoutError"):
        dynamo(client, clock).acquire(Halt())


def test_a_take_over_whose_answer_was_lost_is_not_acted_on(client: LossyClient, clock: ManualClock) -> None:
    """Nobody knows whether it is ours: not held, and nothing is written with it."""
    lease = dynamo(client, clock)
    client.lose = lambda name: "answer" if name == "update_item" else ""

    with pytest.raises(LeaseUnreachableError):
        lease.try_acquire()
    with pytest.raises(FencedError):
        lease.check()

    client.lose = lambda _: ""
    assert lease.try_acquire()
    assert lease.token == 2


def test_who_lost_the_lease_may_still_say_that_his_slots_drill_is_over(client: LossyClient, clock: ManualClock) -> None:
    """Until somebody has claimed the slot again: a drill that stood still at its end is no less a drill."""
    frozen, later = dynamo(client, clock, "run-1"), dynamo(client, clock, "run-2")
    assert frozen.try_acquire()
    assert frozen.claim_slot(SLOT)
    assert not later.try_acquire()
    clock.advance(TTL + 1)
    assert later.try_acquire()
    frozen.finish_slot(SLOT)
    assert later.slot_state(SLOT) == "DONE"

    assert later.claim_slot("other/1")
    clock.advance(TTL + 1)
    third = dynamo(client, clock, "run-3")
    assert not third.try_acquire()
    clock.advance(TTL + 1)
    assert third.try_acquire()
    assert third.claim_slot("other/1", again=True)
    with pytest.raises(FencedError, match="a later holder's"):
        later.finish_slot("other/1")
    assert third.slot_state("other/1") == "STARTED"


def test_a_healer_settles_its_own_run_alone(client: LossyClient, clock: ManualClock) -> None:
    """It holds no lease; the note of a later holder is of another run, and stays."""
    first = acquired(client, clock)
    first.record_fault(note_of(first, "run-1"))
    later = taken_over(client, clock)
    healer = dynamo(client, clock, "run-1")
    assert later.open_fault() is not None

    healer.settle_fault("run-1")
    assert later.open_fault() is None
    later.record_fault(note_of(later, "run-2"))
    healer.settle_fault("run-1")

    assert row(client, f"fault#{ESTATE}")["state"] == "OPEN"
    dynamo(client, clock).settle_fault("never-noted")


def test_ctrl_c_ends_the_wait_for_an_abandoned_lease(client: LossyClient, clock: ManualClock) -> None:
    """Nothing was taken."""
    acquired(client, clock)
    halt = Halt()
    halt.call("SIGINT")

    with pytest.raises(HaltedError, match="SIGINT"):
        dynamo(client, clock, "run-2").acquire(halt)

    assert row(client, LEASE)["run"] == "run-1"
