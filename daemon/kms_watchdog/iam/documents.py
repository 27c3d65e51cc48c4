"""Policy documents as they are written, taken apart for reading: nothing is evaluated here. Pure.

Unlike `estate.policy`, which refuses what it cannot evaluate, this takes any condition: a review should speak about all
there is.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class DocumentError(ValueError):
    """What was read is no policy; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator on one key."""

    operator: str
    """As written, with its quantifier and `IfExists`."""
    key: str
    """In lower case: AWS compares keys so."""
    values: tuple[str, ...]

    @property
    def is_positive(self) -> bool:
        """Whether it holds only if the key is there and has one of the values."""
        operator = self.operator.lower()
        return "not" not in operator and operator != "null" and not operator.endswith("ifexists")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement."""

    at: str
    """Its Sid, or `statement 2`."""
    allows: bool
    actions: tuple[str, ...]
    """As written; those of NotAction if `not_action`."""
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    conditions: tuple[Condition, ...]
    principals: Mapping[str, tuple[str, ...]] | None
    """By kind, `*` for everybody; None: it names none, as in a policy of a role."""
    not_principal: bool = False

    def covers(self, action: str) -> bool:
        """Say whether `action` is among its actions."""
        return any(matches(pattern, action) for pattern in self.actions) != self.not_action

    def asks_about(self, *beginnings: str) -> bool:
        """Say whether it has a condition on a key that begins with one of these, in lower case."""
        return any(condition.key.startswith(beginnings) for condition in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy, and what it is called."""

    name: str
    statements: tuple[Statement, ...]
    body: Mapping[str, Any]
    """As it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleToCheck:
    """A role's documents; or, with an empty `trust` and one policy, a document that no role is known for."""

    name: str
    policies: tuple[Document, ...]
    trust: Document | None = None
    boundary: str = ""
    """Its boundary's ARN."""
    boundary_body: Mapping[str, Any] | None = None
    """What that says; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToCheck:
    """A key's policy."""

    name: str
    policy: Document
    account_id: str = ""
    """The key's; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToCheck:
    """All that was read, and what could not be."""

    roles: tuple[RoleToCheck, ...] = ()
    keys: tuple[KeyToCheck, ...] = ()
    not_read: Mapping[str, str] = field(default_factory=dict)
    """By a role's, key's or file's name, why it could not be read."""
    whole: bool = False
    """Whether the policies of the keys belong to it: a folder of an estate, or an account."""


def matches(pattern: str, action: str) -> bool:
    """Say whether an action's pattern, of any case, matches an action."""
    return fnmatch.fnmatchcase(action.lower(), pattern.lower())


def document(name: str, body: Any) -> Document:
    """Take a policy apart.

    Raises:
        DocumentError: it is none.
    """
    if not isinstance(body, Mapping) or "Statement" not in body:
        raise DocumentError("no policy: a JSON object with Statement")
    given = body["Statement"]
    statements = given if isinstance(given, list) else [given]
    if not statements:
        raise DocumentError("it has no statement")
    return Document(name=name, statements=tuple(_statement(one, n) for n, one in enumerate(statements, 1)), body=body)


def _statement(given: Any, number: int) -> Statement:
    at = f"statement {number}"
    if not isinstance(given, Mapping):
        raise DocumentError(f"{at} is not an object")
    at = str(given.get("Sid") or at)
    if given.get("Effect") not in ("Allow", "Deny"):
        raise DocumentError(f"{at}: Effect must be Allow or Deny")
    actions, not_action = _either(given, "Action", at)
    resources, not_resource = _either(given, "Resource", at)
    principals, not_principal = _principals(given, at)
    if not actions:
        raise DocumentError(f"{at} has no Action")
    if not resources and principals is None:
        raise DocumentError(f"{at} has neither Resource nor Principal")
    return Statement(
        at=at,
        allows=given["Effect"] == "Allow",
        actions=actions,
        not_action=not_action,
        resources=resources,
        not_resource=not_resource,
        conditions=_conditions(given.get("Condition", {}), at),
        principals=principals,
        not_principal=not_principal,
    )


def _either(given: Mapping[str, Any], name: str, at: str) -> tuple[tuple[str, ...], bool]:
    negated = f"Not{name}"
    if name in given and negated in given:
        raise DocumentError(f"{at} has both {name} and {negated}")
    return _texts(given.get(name, given.get(negated, [])), f"{at}: {name}"), negated in given


def _principals(given: Mapping[str, Any], at: str) -> tuple[Mapping[str, tuple[str, ...]] | None, bool]:
    negated = "NotPrincipal" in given
    if not negated and "Principal" not in given:
        return None, False
    who = given["NotPrincipal" if negated else "Principal"]
    if isinstance(who, str):
        who = {"AWS": who}
    if not isinstance(who, Mapping):
        raise DocumentError(f"{at}: Principal must be * or an object")
    return {str(kind): _texts(names, f"{at}: Principal") for kind, names in who.items()}, negated


def _conditions(given: Any, at: str) -> tuple[Condition, ...]:
    if not isinstance(given, Mapping) or not all(isinstance(block, Mapping) for block in given.values()):
        raise DocumentError(f"{at}: Condition must be an object of objects")
    return tuple(
        Condition(operator=str(operator), key=str(key).lower(), values=_texts(values, f"{at}: {key}"))
        for operator, block in given.items()
        for key, values in block.items()
    )


def _texts(given: Any, where: str) -> tuple[str, ...]:
    values: Sequence[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(value, str | bool | int | float) for value in values):
        raise DocumentError(f"{where} must be text or a list of texts")
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
