"""The simulator's table says what moto's DynamoDB says, to whatever the drill lease may ask in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_kit import TABLE, dynamo, make_table
from moto import mock_aws
from sim_table import Expression, Table

from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError
from kms_core.testing import ManualClock
from kms_watchdog import aws

WHO = ("a", "b")
DID = ("try", "renew", "claim", "claim-again", "finish", "note", "open", "settle", "state", "release", "minute")


class Both:
    """The same holders on both tables, by one clock each; what each says is kept."""

    def __init__(self, client: Any) -> None:
        self.clocks = {"moto": ManualClock(auto_advance=True), "ours": ManualClock(auto_advance=True)}
        self.table = Table()
        clients = {"moto": client, "ours": self.table.client(lambda _what: None)}
        self.holders = {
            (which, who): dynamo(clients[which], self.clocks[which], f"run-{who}") for which in clients for who in WHO
        }

    def do(self, who: str, what: str) -> tuple[Any, Any]:
        """Have `who` do something on each, and return what came of it."""
        return self._do("moto", who, what), self._do("ours", who, what)

    def _do(self, which: str, who: str, what: str) -> Any:
        lease, clock, run = self.holders[which, who], self.clocks[which], f"run-{who}"
        note = FaultNote(run_id=run, host="h", token=lease.token, expires_at_utc=clock.now_utc())
        acts: dict[str, Callable[[], Any]] = {
            "try": lambda: (lease.try_acquire(), lease.token),
            "renew": lease.renew,
            "claim": lambda: lease.claim_slot("s/1"),
            "claim-again": lambda: lease.claim_slot("s/1", again=True),
            "finish": lambda: lease.finish_slot("s/1"),
            "note": lambda: lease.record_fault(note),
            "open": lease.open_fault,
            "settle": lambda: lease.settle_fault(run),
            "state": lambda: lease.slot_state("s/1"),
            "release": lease.release,
            "minute": lambda: clock.advance(61.0),
        }
        assert acts.keys() == set(DID)
        try:
            return acts[what]()
        except (FencedError, LeaseUnreachableError) as e:
            return type(e).__name__


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(st.tuples(st.sampled_from(WHO), st.sampled_from(DID)), max_size=30))
def test_it_says_what_motos_says(acts: list[tuple[str, str]]) -> None:
    """Of two holders, whatever they do."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-west-2", config=Config(retries={"total_max_attempts": 1}))
        make_table(client)
        both = Both(client)
        said = [both.do(who, what) for who, what in (("a", "try"), *acts)]

        assert [ours for _, ours in said] == [motos for motos, _ in said], acts
        kept = {row["pk"]["S"]: row for row in client.scan(TableName=TABLE)["Items"]}
        assert {pk: sorted(row) for pk, row in both.table.rows.items()} == {pk: sorted(row) for pk, row in kept.items()}


def test_a_condition_that_does_not_hold_is_refused_by_its_code() -> None:
    """As DynamoDB does, item by item."""
    client = Table().client(lambda _what: None)
    put = {"TableName": TABLE, "Item": {"pk": {"S": "x"}}, "ConditionExpression": "tok = :one"}
    with pytest.raises(ClientError) as refused:
        client.transact_write_items(
            TransactItems=[{"Put": {**put, "ExpressionAttributeValues": {":one": {"N": "1"}}}}], ClientRequestToken="t"
        )

    assert aws.error_code(refused.value) == "TransactionCanceledException"
    assert refused.value.response["CancellationReasons"] == [{"Code": "ConditionalCheckFailed"}]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param("attribute_not_exists(pk)", False, id="is-there"),
        pytest.param("attribute_not_exists(other)", True, id="is-not"),
        pytest.param("tok <= :two AND #s <> :done", True, id="and"),
        pytest.param("tok < :one OR (tok = :one AND #s = :done)", False, id="or"),
        pytest.param("attribute_not_exists(pk) OR tok < :two AND #s <> :done", True, id="and-before-or"),
        pytest.param("other = :one", False, id="what-is-not-there-is-equal-to-nothing"),
        pytest.param("other <> :one", True, id="and-is-not-equal-to-anything"),
        pytest.param("tok <> #s", True, id="of-another-type"),
    ],
)
def test_conditions(text: str, *, holds: bool) -> None:
    """The part of the language that the lease speaks."""
    row = {"pk": {"S": "x"}, "tok": {"N": "1"}, "state": {"S": "OPEN"}}
    values = {":one": {"N": "1"}, ":two": {"N": "2"}, ":done": {"S": "DONE"}}

    assert Expression(text, row, {"#s": "state"}, values).holds() is holds


def test_what_is_not_understood_is_no_condition() -> None:
    """The lease may come to say more than this table knows; then its tests say so."""
    with pytest.raises(AssertionError, match="not understood"):
        Expression("a = :b c", {"a": {"S": "x"}}, {}, {":b": {"S": "x"}}).holds()
