"""A DynamoDB table in memory: what the drill lease asks of one, in its own words, and nothing else.

`test_sim_table.py` holds it against moto's, request by request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NoReturn

from botocore.exceptions import ClientError, EndpointConnectionError

Item = dict[str, dict[str, str]]
_TOKEN = re.compile(r"\s*(<=|<>|[<=(),+]|[#:]?\w+)")
_FAILED = "ConditionalCheckFailed"


class Table:
    """The rows, whoever asks; `step` is called before and after each request takes effect."""

    def __init__(self) -> None:
        self.rows: dict[str, Item] = {}
        self.away = False
        """Whether it answers nobody."""
        self.requests = 0

    def client(self, step: Callable[[str], None]) -> Client:
        """Return a client; `step` may let time go by, or never come back."""
        return Client(self, step)


class Client:
    """Three operations of boto3's client."""

    def __init__(self, table: Table, step: Callable[[str], None]) -> None:
        self._table, self._step = table, step

    def get_item(self, *, TableName: str, Key: Item, ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Return a row."""
        del TableName
        assert ConsistentRead, "an old answer would let two holders in"

        def effect() -> dict[str, Any]:
            found = self._table.rows.get(Key["pk"]["S"])
            return {"Item": deepcopy(found)} if found is not None else {}

        return self._ask("GetItem", effect)

    def update_item(self, **request: Any) -> dict[str, Any]:
        """Change a row, if its condition holds."""

        def effect() -> dict[str, Any]:
            pk = request["Key"]["pk"]["S"]
            row, values = self._table.rows.get(pk), request["ExpressionAttributeValues"]
            names = request.get("ExpressionAttributeNames", {})
            if not Expression(request["ConditionExpression"], row, names, values).holds():
                _refuse("UpdateItem", "ConditionalCheckFailedException")
            changed = {"pk": {"S": pk}, **(row or {})}
            changed |= Expression(request["UpdateExpression"], row, names, values).assigned()
            self._table.rows[pk] = changed
            return {"Attributes": deepcopy(changed)} if request.get("ReturnValues") == "ALL_NEW" else {}

        return self._ask("UpdateItem", effect)

    def transact_write_items(self, *, TransactItems: Sequence[Any], ClientRequestToken: str) -> dict[str, Any]:  # noqa: N803 - as above
        """Change rows, if all conditions hold."""
        del ClientRequestToken

        def effect() -> dict[str, Any]:
            codes = ["None" if self._holds(one) else _FAILED for one in TransactItems]
            if _FAILED in codes:
                _refuse("TransactWriteItems", "TransactionCanceledException", codes)
            for one in TransactItems:
                if put := one.get("Put"):
                    self._table.rows[put["Item"]["pk"]["S"]] = deepcopy(put["Item"])
            return {}

        return self._ask("TransactWriteItems", effect)

    def close(self) -> None:
        """Close the connections, of which there are none."""

    def _holds(self, one: Mapping[str, Any]) -> bool:
        check = one.get("ConditionCheck") or one["Put"]
        pk = (check.get("Key") or check["Item"])["pk"]["S"]
        names, values = check.get("ExpressionAttributeNames", {}), check.get("ExpressionAttributeValues", {})
        return Expression(check["ConditionExpression"], self._table.rows.get(pk), names, values).holds()

    def _ask(self, operation: str, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self._step(f"{operation} goes out")
        self._table.requests += 1
        if self._table.away:
            raise EndpointConnectionError(endpoint_url="https://dynamodb.example")
        answer = effect()
        self._step(f"{operation} was answered")
        if self._table.away:  # it took effect, and nobody is told
            raise EndpointConnectionError(endpoint_url="https://dynamodb.example")
        return answer


def _refuse(operation: str, code: str, reasons: Sequence[str] = ()) -> NoReturn:
    answer: dict[str, Any] = {"Error": {"Code": code, "Message": code}}
    if reasons:
        answer["CancellationReasons"] = [{"Code": one} for one in reasons]
    raise ClientError(answer, operation)


class Expression:
    """An expression of DynamoDB's, as far as the lease speaks that language.

    condition = term { ("AND" | "OR") term }, from left to right, AND before OR; term = "(" condition ")" |
    attribute_not_exists(name) | operand ("=" | "<>" | "<" | "<=") operand. assigned = "SET" name "=" sum {"," …}.
    """

    def __init__(self, text: str, row: Item | None, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._row, self._names, self._values = row or {}, names, values

    def holds(self) -> bool:
        """Return whether the condition holds."""
        holds = self._any()
        assert not self._tokens, f"this is not understood: {self._tokens}"
        return holds

    def assigned(self) -> Item:
        """Return the attributes that it sets."""
        self._take("SET")
        found: Item = {}
        while True:
            name = self._name(self._tokens.pop(0))
            self._take("=")
            found[name] = self._sum()
            if not self._next(","):
                return found

    def _any(self) -> bool:
        holds = self._all()
        while self._next("OR"):
            other = self._all()
            holds = holds or other
        return holds

    def _all(self) -> bool:
        holds = self._term()
        while self._next("AND"):
            other = self._term()
            holds = holds and other
        return holds

    def _term(self) -> bool:
        if self._next("("):
            holds = self._any()
            self._take(")")
            return holds
        if self._next("attribute_not_exists"):
            self._take("(")
            name = self._name(self._tokens.pop(0))
            self._take(")")
            return name not in self._row
        left, operator, right = self._operand(), self._tokens.pop(0), self._operand()
        if left is None or right is None:
            return operator == "<>" and left is not right  # what is not there is equal to nothing
        ((kind, a),), ((other, b),) = left.items(), right.items()
        if kind != other:
            return bool(operator == "<>")
        if kind == "N":
            return _compared(operator, float(a), float(b))
        return _compared(operator, a, b)

    def _sum(self) -> dict[str, str]:
        if self._next("if_not_exists"):
            self._take("(")
            name = self._name(self._tokens.pop(0))
            self._take(",")
            otherwise = self._operand()
            self._take(")")
            left = self._row.get(name, otherwise)
        else:
            left = self._operand()
        assert left is not None
        if not self._next("+"):
            return left
        right = self._operand()
        assert right is not None
        return {"N": str(int(left["N"]) + int(right["N"]))}

    def _operand(self) -> dict[str, str] | None:
        token = self._tokens.pop(0)
        if token.startswith(":"):
            found: dict[str, str] = self._values[token]
            return found
        return self._row.get(self._name(token))

    def _name(self, token: str) -> str:
        return self._names[token] if token.startswith("#") else token

    def _next(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False

    def _take(self, token: str) -> None:
        assert self._next(token), f"{token} was expected: {self._tokens}"


def _compared(operator: str, a: Any, b: Any) -> bool:
    return bool({"=": a == b, "<>": a != b, "<": a < b, "<=": a <= b}[operator])
