"""Both drill leases keep one promise: one holder, a token that only grows, a slot that is started once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guard_kit import NOW, moto_aws, settings_of, write_config
from lease_kit import ESTATE, dynamo, make_table, row
from waiting import wait_until

from kms_chaos.cli import cli
from kms_chaos.guards import NotHeldError, RefusedError
from kms_chaos.guards.admission import earlier_fault_is_over
from kms_chaos.halt import Halt, HaltedError
from kms_chaos.lease import (
    LIFT_SECONDS,
    DrillLease,
    FaultNote,
    FencedError,
    LeaseUnreachableError,
    before_acting,
    held,
    keep,
)
from kms_chaos.lease_choice import lease_of
from kms_chaos.lease_dynamo import DynamoLease
from kms_chaos.lease_file import FileLease
from kms_chaos.run import plan
from kms_chaos.testing import RUN_ID, drill, held_story
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.config import load
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.undo import UndoRecord
from kms_watchdog.estate.role_policies import Rendering, drill_statements

pytestmark = pytest.mark.slow  # each on two kinds of lease

__all__ = ["moto_aws"]

Make = Callable[[str], DrillLease]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=NOW, auto_advance=True)


@pytest.fixture(params=["file", "dynamo"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Make:
    """Return what makes a lease for a run, of one kind."""
    if request.param == "file":
        return lambda _run_id: FileLease(tmp_path)
    request.getfixturevalue("moto_aws")
    client = aws.client(settings_of(tmp_path), "dynamodb", "us-west-1")
    make_table(client)
    return lambda run_id: dynamo(client, clock, run_id)


def acquired(make: Make, run_id: str = "run-1") -> DrillLease:
    lease = make(run_id)
    lease.acquire(Halt())
    return lease


def note_of(lease: DrillLease, run_id: str = "run-1") -> FaultNote:
    return FaultNote(run_id=run_id, host="here", token=lease.token, expires_at_utc=NOW + timedelta(minutes=10))


def test_the_token_only_grows(make: Make) -> None:
    """Also over releases: it is never used twice."""
    tokens = []
    for number in range(3):
        lease = acquired(make, f"run-{number}")
        tokens.append(lease.token)
        lease.release()

    assert tokens == [1, 2, 3]


def test_what_is_released_is_not_held(make: Make) -> None:
    """Nothing may be done any more; twice is harmless."""
    lease = acquired(make)
    lease.check(5.0)

    lease.release()
    lease.release()

    with pytest.raises(FencedError):
        lease.check()
    with pytest.raises(FencedError):
        lease.renew()
    with pytest.raises(FencedError):
        lease.claim_slot("failover/2026-12")


def test_a_lease_that_was_never_taken_is_not_held(make: Make) -> None:
    """Who forgets to acquire breaks nothing."""
    lease = make("run-1")

    for act in (lease.check, lease.renew, lambda: lease.record_fault(note_of(lease))):
        with pytest.raises(FencedError):
            act()


def test_a_slot_is_claimed_once(make: Make) -> None:
    """For ever: by this holder, and by any that comes later."""
    first = acquired(make)
    assert first.claim_slot("failover/2026-12")
    assert not first.claim_slot("failover/2026-12")
    assert first.claim_slot("failover/2027-01")
    first.release()

    later = acquired(make, "run-2")

    assert not later.claim_slot("failover/2026-12")
    assert not later.claim_slot("failover/2027-01")


def test_what_is_known_of_a_slot(make: Make) -> None:
    """By anybody, whoever had it, without claiming it."""
    first = acquired(make)
    assert first.slot_state("failover/2026-12") == ""
    assert first.claim_slot("failover/2026-12")
    assert make("run-2").slot_state("failover/2026-12") == "STARTED"
    first.finish_slot("failover/2026-12")

    assert make("run-2").slot_state("failover/2026-12") == "DONE"
    assert first.claim_slot("failover/2027-01")


def test_a_slot_may_be_run_again_where_its_plan_says_so(make: Make) -> None:
    """By a later holder, unless it came to its verdict."""
    first = acquired(make)
    assert first.claim_slot("failover/2026-12", again=True)
    assert not first.claim_slot("failover/2026-12", again=True)
    first.release()
    second = acquired(make, "run-2")

    assert second.claim_slot("failover/2026-12", again=True)
    second.finish_slot("failover/2026-12")
    second.release()

    third = acquired(make, "run-3")
    assert not third.claim_slot("failover/2026-12", again=True)


def test_the_next_holder_learns_what_the_last_may_have_broken(make: Make) -> None:
    """Until it is settled; its own note says nothing of others."""
    first = acquired(make)
    first.record_fault(note_of(first))
    assert first.open_fault() is None
    first.release()

    second = acquired(make, "run-2")

    assert second.open_fault() == FaultNote(
        run_id="run-1", host="here", token=1, expires_at_utc=NOW + timedelta(minutes=10)
    )


def test_what_is_settled_is_not_open(make: Make) -> None:
    """And a note of another run is left alone."""
    first = acquired(make)
    first.record_fault(note_of(first))
    first.settle_fault("run-0")
    first.release()
    second = acquired(make, "run-2")
    assert second.open_fault() is not None
    second.record_fault(note_of(second, "run-2"))
    second.settle_fault("run-2")
    second.release()

    assert acquired(make, "run-3").open_fault() is None


def test_a_lease_is_held_for_a_block_and_given_back(make: Make, clock: ManualClock) -> None:
    """Whatever happens in it."""
    lease = make("run-1")

    def block() -> None:
        with held(lease, Halt(), SystemClock()):
            before_acting(lease)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()

    assert acquired(make, "run-2").token == 2


# ------------------------------------------------------------------------------------------------- a file


def test_another_drill_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """The token is not spent."""
    first = FileLease(tmp_path)
    first.acquire(Halt())

    with pytest.raises(RefusedError, match="another drill runs"):
        FileLease(tmp_path).acquire(Halt())

    first.check()
    first.release()
    again = FileLease(tmp_path)
    again.acquire(Halt())
    assert again.token == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 9, "token": 1, "slots": {}, "fault": null}'])
def test_a_token_that_cannot_be_read_refuses(tmp_path: Path, content: str) -> None:
    """To begin at 1 again would use a token twice; the lock is let go of."""
    lease = FileLease(tmp_path)
    lease.acquire(Halt())
    lease.release()
    where = tmp_path / "drills/lease.json"
    kept = where.read_text()
    where.write_text(content)

    with pytest.raises(RefusedError, match=r"lease\.json"):
        FileLease(tmp_path).acquire(Halt())

    where.write_text(kept)
    FileLease(tmp_path).acquire(Halt())


def test_a_token_that_changed_under_the_holder_fences_it(tmp_path: Path) -> None:
    """Somebody put another state folder in its place."""
    lease = FileLease(tmp_path)
    lease.acquire(Halt())
    where = tmp_path / "drills/lease.json"
    where.write_text(json.dumps({**json.loads(where.read_text()), "token": 7}))

    for act in (lease.check, lease.renew, lambda: lease.claim_slot("failover/2026-12")):
        with pytest.raises(FencedError, match="token 7, ours is 1"):
            act()


# --------------------------------------------------------------------------------------------- the keeper


class Script:
    """A lease whose renewals go as they are written down."""

    where, token, renew_seconds = "here", 1, 4.0

    def __init__(self, left_seconds: float, *renewals: Exception | None) -> None:
        self._left, self._renewals, self.renewed = left_seconds, list(renewals), 0

    def renew(self) -> None:
        self.renewed += 1
        if answer := self._renewals.pop(0):
            raise answer

    def check(self, seconds: float = 0.0) -> None:
        if self._left < seconds:
            raise FencedError("too little is left")


def kept(lease: Script) -> str:
    halt, stop = Halt(), threading.Event()

    def end() -> None:
        if not lease._renewals:
            stop.set()

    clock = ManualClock(auto_advance=True)
    renew = lease.renew

    def renew_and_end() -> None:
        try:
            renew()
        finally:
            end()

    lease.renew = renew_and_end  # type: ignore[method-assign]
    keep(lease, halt, clock, stop)  # type: ignore[arg-type]
    return halt.reason


def test_a_lease_that_is_lost_ends_the_drill() -> None:
    """At the very next renewal."""
    assert kept(Script(99.0, None, FencedError("taken"), None)) == "the drill lease is lost: taken"


def test_a_renewal_without_an_answer_is_tried_again_while_there_is_time() -> None:
    """Sooner than usual; nobody is told."""
    lease = Script(99.0, LeaseUnreachableError("no answer"), LeaseUnreachableError("no answer"), None)

    assert kept(lease) == ""
    assert lease.renewed == 3


def test_a_lease_that_runs_out_ends_the_drill_in_time_to_restore() -> None:
    """With what lifting a fault takes still left."""
    assert "runs out" in kept(Script(LIFT_SECONDS + 0.9, LeaseUnreachableError("no answer"), None))
    assert kept(Script(LIFT_SECONDS + 1.1, LeaseUnreachableError("no answer"), None)) == ""


def test_a_lost_lease_is_noticed_by_a_thread(tmp_path: Path) -> None:
    """While the drill does other things."""
    lease, halt = FileLease(tmp_path), Halt()
    lease.renew_seconds = 0.01  # type: ignore[misc]

    with held(lease, halt, SystemClock()):
        (tmp_path / "drills/lease.json").unlink()
        wait_until(halt.event.is_set, says="the loss is noticed")

    assert "lost" in halt.reason


# ------------------------------------------------------------------------------------------- which, and who


def test_which_lease_the_configuration_asks_for(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table where there is one; never one in a region that the drill hurts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with_table = settings_of(tmp_path, '[drills.lease]\ntable = "kms-drills"\nregion = "us-west-2"')

    chosen = lease_of(with_table, clock, run_id="r", hurt=("us-east-1",))

    assert isinstance(chosen, DynamoLease)
    assert (chosen.where, chosen.renew_seconds) == ("DynamoDB table kms-drills", 20.0)
    assert chosen._client.meta.region_name == "us-west-2"
    assert chosen._client.meta.config.retries["total_max_attempts"] == 1
    with pytest.raises(RefusedError, match="hurts us-west-2"):
        lease_of(with_table, clock, run_id="r", hurt=("us-east-1", "us-west-2"))
    assert isinstance(lease_of(settings_of(tmp_path), clock, run_id="r"), FileLease)


@pytest.mark.usefixtures("moto_aws")
def test_heal_tells_the_lease_that_a_run_is_undone(tmp_path: Path, clock: ManualClock) -> None:
    """So that drills on other machines need not wait until its time is up; a lease out of reach is told."""
    path = write_config(tmp_path, '[drills.lease]\ntable = "kms-drills"\nregion = "us-west-2"')
    settings = load(path)
    client = aws.client(settings, "dynamodb", "us-west-2")
    where = folder(settings.state.dir, RUN_ID)
    where.path.mkdir(parents=True)
    where.journal.write_bytes(held_story().add(90, "closed", by="healer", verdict=None).raw())
    record = UndoRecord(
        run_id=RUN_ID, drill="d", toxiproxy_url="http://127.0.0.1:1", created_at_utc=NOW, expires_at_utc=NOW, proxies=()
    )
    where.undo.write_text(json.dumps(record.to_json()), encoding="utf-8")
    heal = ["heal", "--run", RUN_ID, "--config", str(path)]

    untold = CliRunner().invoke(cli, heal)
    make_table(client)
    lease = dynamo(client, clock, RUN_ID)
    lease.acquire(Halt())
    lease.record_fault(note_of(lease, RUN_ID))
    told = CliRunner().invoke(cli, heal)

    assert untold.exit_code == 1
    assert "the drill lease does not know" in untold.output
    assert told.exit_code == 0, told.output
    assert row(client, f"fault#{ESTATE}")["state"] == "CLOSED"


def test_the_drills_role_may_keep_the_lease_and_delete_nothing(tmp_path: Path) -> None:
    """Its policy names the one table, where there is one."""
    table = '[drills.lease]\ntable = "kms-drills"\nregion = "us-west-2"'
    ids = dict.fromkeys(("general", "pii", "payment"), "mrk-1")

    def statements(more: str) -> list[dict[str, Any]]:
        rendered = drill_statements(Rendering(settings=settings_of(tmp_path, more), key_ids=ids))
        return [dict(one) for one in rendered if one["Sid"] == "TakeTheDrillLease"]

    [found] = statements(table)
    assert found["Resource"] == "arn:aws:dynamodb:us-west-2:123456789012:table/kms-drills"
    assert not [action for action in found["Action"] if "Delete" in action or "*" in action]
    assert statements("") == []


class Noted:
    """A lease that knows of one fault."""

    def __init__(self, note: FaultNote | None) -> None:
        self._note = note

    def open_fault(self) -> FaultNote | None:
        return self._note


def test_a_fault_on_another_machine_is_waited_for(tmp_path: Path, clock: ManualClock) -> None:
    """Until its time is up, which somebody there enforces; one of this folder is looked at here."""
    run: Any = plan(settings_of(tmp_path), drill(), region=None, clock=clock)
    note = FaultNote(run_id="run-1", host="there", token=1, expires_at_utc=NOW + timedelta(seconds=100))
    lease: Any = Noted(note)

    with pytest.raises(NotHeldError, match="run-1 on there may still have a fault on, until 2026-11-25 10:02:10 UTC"):
        earlier_fault_is_over(lease, run, clock)
    clock.advance(129.0)
    with pytest.raises(NotHeldError):
        earlier_fault_is_over(lease, run, clock)
    clock.advance(1.0)
    assert "never said that it was over" in earlier_fault_is_over(lease, run, clock)

    assert "no earlier holder" in earlier_fault_is_over(Noted(None), run, clock)  # type: ignore[arg-type]
    folder(run.settings.state.dir, "run-2").path.mkdir(parents=True)
    here: Any = Noted(FaultNote(run_id="run-2", host="here", token=1, expires_at_utc=NOW + timedelta(days=1)))
    assert "in this state folder" in earlier_fault_is_over(here, run, clock)


def test_a_halt_ends_the_waiting_for_a_lease(make: Make) -> None:
    """An abandoned lease is waited for; Ctrl-C is not."""
    first, halt = acquired(make), Halt()
    halt.call("SIGINT")

    with pytest.raises((HaltedError, RefusedError)):
        make("run-2").acquire(halt)

    first.renew()
