"""The drill lease of a whole estate: rows of one DynamoDB table, by the protocol of AWS's own DynamoDB Lock Client.

No two clocks are ever compared: a holder counts from before its request, a follower from after the reply, each on a
monotonic clock of its own. Rows, where NAME is the estate's:

    lease#NAME        owner, rvn (new with every renewal), ttl, tok (the fencing token), run, host; never deleted, and
                      without DynamoDB's TTL, or tokens would begin again
    slot#NAME#SLOT    state, tok, run
    fault#NAME        tok, run, host, state, expires

Nothing here is tried again by botocore: a renewal that is repeated meets its own first success and looks lost. One
whose answer was lost is settled by a consistent read instead.
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kms_chaos.guards.checking import RefusedError
from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError, SlotState
from kms_chaos.lease_dynamo_errors import may_pass, reasons
from kms_core.clock import Clock
from kms_watchdog import aws

_CONDITION, _ITEM_CONDITION = "ConditionalCheckFailedException", "ConditionalCheckFailed"
_TRIES = 4
_PAUSE_SECONDS = 0.25
_LOOKS_A_TTL = 12
_NAMES = {"#owner": "owner", "#ttl": "ttl", "#state": "state", "#run": "run", "#host": "host"}  # some are reserved
_STARTED: SlotState = "STARTED"
_DONE: SlotState = "DONE"
_OPEN, _CLOSED = "OPEN", "CLOSED"
_LOST = float("-inf")

Row = Mapping[str, Mapping[str, str]]


class DynamoLease:
    """One lease; see `DrillLease`. Make it in the main thread."""

    def __init__(self, client: Any, clock: Clock, *, table: str, name: str, ttl_seconds: float, run_id: str) -> None:
        """`table` has the string key `pk`; `name` is the estate's; who is silent for `ttl_seconds` loses the lease."""
        self._client, self._clock, self._table, self._name = client, clock, table, name
        self._ttl, self._run = ttl_seconds, run_id
        self._lock = threading.Lock()
        self._owner = uuid.uuid4().hex
        self._rvn = ""
        self._unsure: dict[str, float] = {}
        self._seen: tuple[str, float] | None = None
        self._deadline = _LOST
        self.where = f"DynamoDB table {table}"
        self.token = 0
        self.renew_seconds = ttl_seconds / 3

    def acquire(self, halt: Halt) -> None:
        """Take the lease, after waiting for a holder that no longer renews; see `DrillLease`."""
        first = ""
        while True:
            try:
                if self.try_acquire():
                    return
            except LeaseUnreachableError as e:
                raise RefusedError(f"the drill lease: {e}") from e
            rvn = self._seen[0] if self._seen else ""
            if rvn and first and rvn != first:
                raise RefusedError(f"another drill runs in this estate: its lease in {self.where} was renewed just now")
            first = first or rvn
            halt.pause(self._clock, self._ttl / _LOOKS_A_TTL)

    def try_acquire(self) -> bool:
        """Take the lease if it is free, or if its `rvn` stood still for its holder's whole ttl on our own clock.

        Raises:
            LeaseUnreachableError: DynamoDB does not answer.
        """
        asked_at = self._clock.monotonic()
        row = self._get(f"lease#{self._name}")
        if row and row["owner"]["S"] and row["owner"]["S"] != self._owner:
            rvn, now = row["rvn"]["S"], self._clock.monotonic()
            if self._seen is None or self._seen[0] != rvn:
                self._seen = (rvn, now)  # counted from the reply: never shorter than the holder's own time
                return False
            if now - self._seen[1] < float(row["ttl"]["N"]):
                return False
            asked_at = now
        return self._take(row, asked_at)

    def _take(self, row: Row | None, asked_at: float) -> bool:
        rvn = uuid.uuid4().hex
        values = {
            ":owner": {"S": self._owner},
            ":rvn": {"S": rvn},
            ":ttl": {"N": str(self._ttl)},
            ":run": {"S": self._run},
            ":host": {"S": socket.gethostname()},
            ":one": {"N": "1"},
            ":zero": {"N": "0"},
            **({":old": row["rvn"]} if row else {}),
        }
        try:
            reply = self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"lease#{self._name}"}},
                UpdateExpression="SET #owner = :owner, rvn = :rvn, #ttl = :ttl, #run = :run, #host = :host, "
                "tok = if_not_exists(tok, :zero) + :one",
                ConditionExpression="rvn = :old" if row else "attribute_not_exists(pk)",
                ExpressionAttributeNames=_names("#owner", "#ttl", "#run", "#host"),
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except aws.AwsError as e:
            if aws.error_code(e) == _CONDITION:
                self._seen = None
                return False
            raise self._unreachable(e) from e  # if it was taken all the same, it runs out: nobody acts on it
        self.token, self._rvn = int(reply["Attributes"]["tok"]["N"]), rvn
        self._deadline = asked_at + self._ttl
        return True

    def renew(self) -> None:
        """Keep the lease; see `DrillLease`."""
        with self._lock:
            if not self._renewed():
                self._settle()
                if not self._renewed():
                    raise self._lost("another holder took it")

    def _renewed(self) -> bool:
        asked_at, rvn = self._clock.monotonic(), uuid.uuid4().hex
        self._unsure[rvn] = asked_at
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"lease#{self._name}"}},
                UpdateExpression="SET rvn = :new",
                ConditionExpression="rvn = :old AND tok = :tok AND #owner = :me",
                ExpressionAttributeNames=_names("#owner"),
                ExpressionAttributeValues={
                    ":me": {"S": self._owner},
                    ":new": {"S": rvn},
                    ":old": {"S": self._rvn},
                    ":tok": {"N": str(self.token)},
                },
            )
        except aws.AwsError as e:
            if aws.error_code(e) == _CONDITION:
                del self._unsure[rvn]
                return False
            raise self._unreachable(e) from e
        self._rvn, self._deadline = rvn, asked_at + self._ttl
        self._unsure.clear()
        return True

    def _settle(self) -> None:
        """Find out whether the lease is ours by a renewal whose answer was lost.

        Raises:
            FencedError: it is not.
        """
        row = self._get(f"lease#{self._name}")
        rvn = row["rvn"]["S"] if row else ""
        ours = row and row["owner"]["S"] == self._owner and row["tok"]["N"] == str(self.token)
        if not ours or rvn not in self._unsure:
            raise self._lost("another holder took it")
        self._rvn, self._deadline = rvn, self._unsure[rvn] + self._ttl

    def check(self, seconds: float = 0.0) -> None:
        """See that the lease lasts so long by our own clock, which is an economy: only a transaction is the fence."""
        left = self._deadline - self._clock.monotonic()
        if left < seconds or left <= 0:
            told = "it is not held" if self._deadline == _LOST else f"{max(left, 0):.1f} s of it are left"
            raise FencedError(f"{told}, {seconds:.1f} s are needed")

    def claim_slot(self, slot: str, *, again: bool = False) -> bool:
        """Claim a slot; see `DrillLease`."""
        free, values = "attribute_not_exists(pk)", {}
        if again:
            free += " OR (tok < :tok AND #state <> :done)"
            values = {":tok": {"N": str(self.token)}, ":done": {"S": _DONE}}
        return self._write(self._slot(slot), {"state": _STARTED, "run": self._run}, free, values)

    def slot_state(self, slot: str) -> SlotState:
        """Return what is known of a slot."""
        row = self._get(self._slot(slot))
        return "" if not row else _DONE if row["state"]["S"] == _DONE else _STARTED

    def finish_slot(self, slot: str) -> None:
        """Note that the slot's drill came to its verdict: unless somebody has claimed it since, lease or no lease.

        A drill that stood still past its lease when all was restored is no less a drill; a healer may say it for a
        dead one.
        """
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": self._slot(slot)}},
                UpdateExpression="SET #state = :done",
                ConditionExpression="#run = :run",
                ExpressionAttributeNames=_names("#state", "#run"),
                ExpressionAttributeValues={":done": {"S": _DONE}, ":run": {"S": self._run}},
            )
        except aws.AwsError as e:
            if aws.error_code(e) == _CONDITION:
                raise FencedError(f"slot {slot} is a later holder's") from e
            raise self._unreachable(e) from e

    def record_fault(self, note: FaultNote) -> None:
        """Note what this drill may break."""
        told = {"run": note.run_id, "host": note.host, "state": _OPEN, "expires": note.expires_at_utc.isoformat()}
        self._write_ours(f"fault#{self._name}", told)

    def open_fault(self) -> FaultNote | None:
        """Return what an earlier holder noted and nobody settled."""
        row = self._get(f"fault#{self._name}")
        if not row or row["state"]["S"] != _OPEN or int(row["tok"]["N"]) >= self.token:
            return None
        return FaultNote(
            run_id=row["run"]["S"],
            host=row["host"]["S"],
            token=int(row["tok"]["N"]),
            expires_at_utc=datetime.fromisoformat(row["expires"]["S"]),
        )

    def settle_fault(self, run_id: str) -> None:
        """Note that everything of `run_id` is undone. A healer's, too: a later holder's note is of another run."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"fault#{self._name}"}},
                UpdateExpression="SET #state = :closed",
                ConditionExpression="#run = :run",
                ExpressionAttributeNames=_names("#state", "#run"),
                ExpressionAttributeValues={":closed": {"S": _CLOSED}, ":run": {"S": run_id}},
            )
        except aws.AwsError as e:
            if aws.error_code(e) != _CONDITION:
                raise self._unreachable(e) from e

    def release(self) -> None:
        """Give the lease back; the row stays, with its token."""
        with self._lock:
            held, self._deadline = self._deadline != _LOST, _LOST
            if held:
                self._give_back()

    def _give_back(self) -> None:
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"lease#{self._name}"}},
                UpdateExpression="SET #owner = :nobody",
                ConditionExpression="#owner = :me AND tok = :tok",
                ExpressionAttributeNames=_names("#owner"),
                ExpressionAttributeValues={
                    ":nobody": {"S": ""},
                    ":me": {"S": self._owner},
                    ":tok": {"N": str(self.token)},
                },
            )
        except aws.AwsError:
            return  # somebody else's already, or it runs out by itself

    def _slot(self, slot: str) -> str:
        return f"slot#{self._name}#{slot}"

    def _write_ours(self, pk: str, attributes: Mapping[str, str]) -> None:
        values = {":tok": {"N": str(self.token)}}
        if not self._write(pk, attributes, "attribute_not_exists(pk) OR tok <= :tok", values):
            raise self._lost(f"{pk} carries a later token")

    def _write(self, pk: str, attributes: Mapping[str, str], condition: str, values: Mapping[str, Any]) -> bool:
        """Write a row as the present holder; return False when `condition` on the row itself does not hold.

        What is merely in the way (a conflict, throttling, a lost answer) is tried again under the same request token,
        which DynamoDB takes once, while the lease lasts.
        """
        request = self._transaction(pk, attributes, condition, values)
        for attempt in range(1, _TRIES + 1):
            self.check()
            try:
                self._client.transact_write_items(**request)
            except aws.AwsError as e:
                if self._is_taken(e):
                    return False
                if attempt == _TRIES or not may_pass(e):
                    raise self._unreachable(e) from e
            else:
                return True
            self._clock.wait(threading.Event(), _PAUSE_SECONDS)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _transaction(
        self, pk: str, attributes: Mapping[str, str], condition: str, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        token = {"N": str(self.token)}
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": {"pk": {"S": pk}, "tok": token, **{name: {"S": value} for name, value in attributes.items()}},
            "ConditionExpression": condition,
        }
        if values:
            put["ExpressionAttributeValues"] = dict(values)
        if "#state" in condition:
            put["ExpressionAttributeNames"] = _names("#state")
        still_ours = {
            "TableName": self._table,
            "Key": {"pk": {"S": f"lease#{self._name}"}},
            "ConditionExpression": "tok = :tok AND #owner = :me",
            "ExpressionAttributeNames": _names("#owner"),
            "ExpressionAttributeValues": {":tok": token, ":me": {"S": self._owner}},
        }
        return {"TransactItems": [{"ConditionCheck": still_ours}, {"Put": put}], "ClientRequestToken": uuid.uuid4().hex}

    def _is_taken(self, error: Exception) -> bool:
        """Return whether the row's own condition did not hold.

        Raises:
            FencedError: the table says that the lease is not ours, which counts first.
        """
        lease, row = (*reasons(error), "", "")[:2]
        if lease == _ITEM_CONDITION:
            raise self._lost("the table says so") from error
        return row == _ITEM_CONDITION

    def _get(self, pk: str) -> Row | None:
        try:
            answer = self._client.get_item(TableName=self._table, Key={"pk": {"S": pk}}, ConsistentRead=True)
        except aws.AwsError as e:
            raise self._unreachable(e) from e
        row: Row | None = answer.get("Item")
        return row

    def _lost(self, why: str) -> FencedError:
        self._deadline = _LOST
        return FencedError(f"the lease in {self.where} is not ours any more: {why}")

    def _unreachable(self, error: Exception) -> LeaseUnreachableError:
        return LeaseUnreachableError(f"{self.where}: {aws.error_code(error)}")


def _names(*names: str) -> dict[str, str]:
    return {name: _NAMES[name] for name in names}
