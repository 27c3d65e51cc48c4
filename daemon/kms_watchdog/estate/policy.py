"""What IAM and key policies allow: pure functions of documents and one request. Standard library only.

Covers what policies of KMS, CloudWatch, SNS and STS in one account use: statements with Action or NotAction, Resource
or NotResource, Principal or NotPrincipal, and the condition operators of strings, ARNs, numbers, booleans and `Null`,
with `IfExists`, `ForAnyValue:` and `ForAllValues:`. What is not covered (policy variables, dates, addresses, binary
values) is refused when a document is read: a condition that is skipped in silence allows or denies the wrong thing.

Sources: AWS IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators"; AWS KMS
Developer Guide, "Key policies in AWS KMS" and "Troubleshooting key access".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from kms_watchdog.json_text import read_json

__all__ = [
    "Decision",
    "Effect",
    "Outcome",
    "Policy",
    "PolicyError",
    "Request",
    "Statement",
    "evaluate",
    "identity_allows",
    "parse_policy",
    "trust_allows",
]

Values = str | Sequence[str]
"""A condition key's value in a request: one, or several for a multivalued key."""


class PolicyError(ValueError):
    """A document that is not a policy, or uses what is not evaluated here; the text names the place."""


class Effect(StrEnum):
    """What a statement does."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One action on one resource by one principal."""

    action: str
    """`kms:Decrypt`."""
    resource: str
    """An ARN, or `*` for an action that has none."""
    principal: str
    """The ARN of the role or user, never of a session: what `aws:PrincipalArn` holds."""
    session: str = ""
    """The ARN of the role's session, if the caller is one."""
    context: Mapping[str, Values] = field(default_factory=dict)
    """Condition keys; their names are not case-sensitive."""

    @property
    def account_id(self) -> str:
        """The account of the principal."""
        return self.principal.split(":")[4]

    def values(self, key: str) -> tuple[str, ...] | None:
        """Return the values of a condition key, None when the request does not have it."""
        wanted = key.lower()
        for name, value in self.context.items():
            if name.lower() == wanted:
                return (value,) if isinstance(value, str) else tuple(value)
        return (self.principal,) if wanted == "aws:principalarn" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator on one key; a statement applies where all of its conditions hold."""

    operator: str
    key: str
    wanted: tuple[str, ...]
    quantifier: str = ""  # ForAnyValue or ForAllValues
    if_exists: bool = False

    def holds(self, request: Request) -> bool:
        """Say whether `request` meets this condition."""
        given = request.values(self.key)
        if self.operator == "Null":
            return any((given is None) == (value.lower() == "true") for value in self.wanted)
        if given is None:
            return self.if_exists or self.quantifier == "ForAllValues" or self._negated(absent=True)
        if self.quantifier == "ForAllValues":
            return all(self._matches(value) for value in given)
        if self.quantifier == "ForAnyValue" or not self._negated():
            return any(self._matches(value) for value in given)
        return all(self._matches(value) for value in given)

    def _negated(self, *, absent: bool = False) -> bool:
        """Say whether this operator is one that says "not"; an absent key meets it, unless any value is asked for."""
        return "Not" in self.operator and not (absent and self.quantifier == "ForAnyValue")

    def _matches(self, value: str) -> bool:
        """Compare one value of the request with the wanted ones: any of them, or none for a negated operator."""
        compare = _OPERATORS[self.operator.replace("Not", "", 1)]
        return any(compare(wanted, value) for wanted in self.wanted) != self._negated()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Whom a statement of a resource's policy is about."""

    aws: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    others: bool = False  # Federated or CanonicalUser, which nobody here is
    negated: bool = False

    def names(self, request: Request) -> bool:
        """Say whether the caller itself is named, or everybody is; the account alone is not enough."""
        return any(name in {"*", request.principal, request.session} for name in self.aws) != self.negated

    def has_account(self, account_id: str) -> bool:
        """Say whether the account is named: its administrators may delegate by IAM policies."""
        return any(re.fullmatch(rf"(arn:[\w-]+:iam::)?{account_id}(:root)?", name) for name in self.aws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; `principals` is None in an identity's policy."""

    sid: str
    effect: Effect
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    principals: Principals | None = None
    not_actions: bool = False
    not_resources: bool = False

    def applies(self, request: Request) -> bool:
        """Say whether action, resource and conditions match; who is asking is not looked at."""
        action = any(_like(pattern.lower(), request.action.lower()) for pattern in self.actions)
        resource = any(_resource_like(pattern, request.resource) for pattern in self.resources)
        return (
            action != self.not_actions
            and resource != self.not_resources
            and all(condition.holds(request) for condition in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed document."""

    statements: tuple[Statement, ...]


class Outcome(StrEnum):
    """How a request ends."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicit deny"
    NOT_ALLOWED_BY_IDENTITY = "no identity-based policy allows it"
    NOT_ALLOWED_BY_RESOURCE = "no resource-based policy allows it"
    NOT_ALLOWED_BY_BOUNDARY = "no permissions boundary allows it"


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of an evaluation, and the statement that decided, if one did."""

    outcome: Outcome
    source: str = ""
    """`identity-based policy`, `resource-based policy` or `permissions boundary`."""
    sid: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request is allowed."""
        return self.outcome is Outcome.ALLOWED


_IDENTITY, _RESOURCE, _BOUNDARY = "identity-based policy", "resource-based policy", "permissions boundary"


def evaluate(
    request: Request,
    *,
    identity: Iterable[Policy],
    resource: Policy | None = None,
    boundary: Policy | None = None,
) -> Decision:
    """Decide a request on a KMS key (with its key policy as `resource`), or on anything without a policy of its own.

    A Deny anywhere wins. A key's policy must allow the caller itself, or the account: then the caller's own policies
    must allow it too, which alone are never enough for a key.
    """
    policies = tuple(identity)
    if denied := _denied(request, policies, resource, boundary):
        return denied
    within = boundary is None or identity_allows(request, (boundary,)) is not None
    direct, delegated = (None, True) if resource is None else _resource_allow(request, resource)
    if direct is not None and (within or not _as_role(request, direct)):
        return Decision(Outcome.ALLOWED, _RESOURCE, direct.sid)
    allowing = identity_allows(request, policies)
    if direct is None and not delegated:
        return Decision(Outcome.NOT_ALLOWED_BY_RESOURCE)
    if direct is None and allowing is None:
        return Decision(Outcome.NOT_ALLOWED_BY_IDENTITY)
    if not within or allowing is None:
        return Decision(Outcome.NOT_ALLOWED_BY_BOUNDARY)
    return Decision(Outcome.ALLOWED, _IDENTITY, allowing.sid)


def _as_role(request: Request, statement: Statement) -> bool:
    """Say whether a resource's policy names the caller's role: that is limited by its boundary; its session is not."""
    who = statement.principals
    return bool(request.session) and who is not None and request.principal in who.aws and request.session not in who.aws


def identity_allows(request: Request, policies: Iterable[Policy]) -> Statement | None:
    """Return the first statement of identity policies that allows `request`, None if there is none."""
    return next(
        (
            statement
            for policy in policies
            for statement in policy.statements
            if statement.effect is Effect.ALLOW and statement.applies(request)
        ),
        None,
    )


def trust_allows(
    request: Request, trust: Policy, *, identity: Iterable[Policy] = (), boundary: Policy | None = None
) -> Decision:
    """Decide `sts:AssumeRole` in one account: a trust that names the caller suffices, one for the account does not.

    `request.resource` is the role's ARN; a trust policy itself has no Resource.
    """
    return evaluate(request, identity=identity, resource=trust, boundary=boundary)


def parse_policy(document: str | Mapping[str, Any], *, of_resource: bool = False) -> Policy:
    """Read a policy document.

    Args:
        document: JSON text, or what it decodes to.
        of_resource: whether it belongs to a resource (a key policy, a trust policy), whose statements name principals.

    Raises:
        PolicyError: it is no policy, or uses what is not evaluated here.
    """
    if isinstance(document, str):
        try:
            document = read_json(document)
        except ValueError as e:
            raise PolicyError(f"not JSON: {e}") from e
    if not isinstance(document, Mapping):
        raise PolicyError("a policy is a JSON object")
    if document.get("Version", "2008-10-17") not in ("2012-10-17", "2008-10-17"):  # no set: it may be a list
        raise PolicyError(f"unknown Version {document['Version']!r}")
    given = document.get("Statement")
    statements = [given] if isinstance(given, Mapping) else given
    if not isinstance(statements, Sequence) or isinstance(statements, str) or not statements:
        raise PolicyError("a policy has one Statement at least")
    return Policy(tuple(_statement(one, f"statement {n}", of_resource) for n, one in enumerate(statements, 1)))


def _denied(
    request: Request, identity: tuple[Policy, ...], resource: Policy | None, boundary: Policy | None
) -> Decision | None:
    sources = [(policy, _IDENTITY) for policy in identity]
    sources += [(resource, _RESOURCE)] if resource else []
    sources += [(boundary, _BOUNDARY)] if boundary else []
    for policy, source in sources:
        for statement in policy.statements:
            if statement.effect is Effect.DENY and _concerns(statement, request) and statement.applies(request):
                return Decision(Outcome.EXPLICIT_DENY, source, statement.sid)
    return None


def _concerns(statement: Statement, request: Request) -> bool:
    """Say whether a Deny is about the caller: named, or of an account that is; an identity's own policy always is."""
    who = statement.principals
    if who is None:
        return True
    return who.names(request) or (not who.negated and who.has_account(request.account_id))


def _resource_allow(request: Request, policy: Policy) -> tuple[Statement | None, bool]:
    """Return the statement that allows the caller directly, and whether one delegates to the caller's account."""
    delegated = False
    for statement in policy.statements:
        who = statement.principals
        if who is None or statement.effect is not Effect.ALLOW or not statement.applies(request):
            continue
        if who.names(request):
            return statement, delegated
        delegated = delegated or (not who.negated and who.has_account(request.account_id))
    return None, delegated


# -- reading ------------------------------------------------------------------------------------------------------

_ARN_COLONS = 5  # six parts, the last of which may have colons of its own
_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)


def _statement(given: Any, where: str, of_resource: bool) -> Statement:  # noqa: FBT001  passed on by the one caller
    if not isinstance(given, Mapping):
        raise PolicyError(f"{where} is not an object")
    where = f"{where} ({given['Sid']})" if given.get("Sid") else where
    if unknown := given.keys() - _ELEMENTS:
        raise PolicyError(f"{where} has an unknown element {min(unknown)}")
    if given.get("Effect") not in list(Effect):  # not a set: it may be a list
        raise PolicyError(f"{where}: Effect must be Allow or Deny")
    actions, not_actions = _either(given, "Action", where)
    resources, not_resources = _either(given, "Resource", where, default=("*",) if of_resource else None)
    return Statement(
        sid=str(given.get("Sid", "")),
        effect=Effect(given["Effect"]),
        actions=actions,
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        conditions=_conditions(given.get("Condition", {}), where),
        principals=_principals(given, where, of_resource),
    )


def _either(
    given: Mapping[str, Any], name: str, where: str, *, default: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], bool]:
    """Return `name` or `Not<name>`, and whether it was the second."""
    has, has_not = name in given, f"Not{name}" in given
    if not has and not has_not and default is not None:
        return default, False
    if has == has_not:
        raise PolicyError(f"{where} needs exactly one of {name} and Not{name}")
    values = _texts(given[name if has else f"Not{name}"], f"{where}: {name}")
    for value in values:
        if "${" in value:
            raise PolicyError(f"{where}: policy variables ({value}) are not evaluated here")
    return values, has_not


def _principals(given: Mapping[str, Any], where: str, of_resource: bool) -> Principals | None:  # noqa: FBT001  as above
    if not of_resource:
        if "Principal" in given or "NotPrincipal" in given:
            raise PolicyError(f"{where} names a Principal, which an identity's policy cannot")
        return None
    if ("Principal" in given) == ("NotPrincipal" in given):
        raise PolicyError(f"{where} needs exactly one of Principal and NotPrincipal")
    negated = "NotPrincipal" in given
    who = given["NotPrincipal" if negated else "Principal"]
    if who == "*":
        return Principals(aws=("*",), negated=negated)
    if not isinstance(who, Mapping) or not who or who.keys() - {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise PolicyError(f"{where}: Principal must be * or an object with AWS, Service or Federated")
    return Principals(
        aws=_texts(who["AWS"], f"{where}: Principal") if "AWS" in who else (),
        services=_texts(who["Service"], f"{where}: Principal") if "Service" in who else (),
        others=bool(who.keys() - {"AWS", "Service"}),
        negated=negated,
    )


def _conditions(given: Any, where: str) -> tuple[Condition, ...]:
    if not isinstance(given, Mapping):
        raise PolicyError(f"{where}: Condition must be an object")
    found: list[Condition] = []
    for written, block in given.items():
        if not isinstance(block, Mapping):
            raise PolicyError(f"{where}: {written} must be an object")
        found += [_condition(written, key, values, where) for key, values in block.items()]
    return tuple(found)


def _condition(written: str, key: str, values: Any, where: str) -> Condition:
    quantifier, colon, operator = written.rpartition(":")
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    known = operator in {"Null", *_OPERATORS} or operator in _NEGATED
    if not known or (colon and quantifier not in {"ForAnyValue", "ForAllValues"}) or (operator == "Null" and if_exists):
        raise PolicyError(f"{where}: the condition operator {written} is not evaluated here")
    wanted = _texts(values, f"{where}: {key}")
    if any("${" in value for value in wanted):
        raise PolicyError(f"{where}: policy variables in {key} are not evaluated here")
    if operator.startswith("Numeric") and any(_number(value) is None for value in wanted):
        raise PolicyError(f"{where}: {key} is compared with what is no number")
    return Condition(operator=operator, key=key, wanted=wanted, quantifier=quantifier, if_exists=if_exists)


def _texts(given: Any, where: str) -> tuple[str, ...]:
    """Return one value or a list of them as text; JSON's booleans and numbers are written as IAM compares them."""
    values = given if isinstance(given, list) else [given]
    if not values or not all(isinstance(value, str | bool | int | float) for value in values):
        raise PolicyError(f"{where} must be text or a list of texts")
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


# -- comparing ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)  # few patterns, asked on every request
def _pattern(text: str) -> re.Pattern[str]:
    first, *others = (_literal(part) for part in re.sub(r"\*+", "*", text).split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    # Between two stars the first match is as good as any: atomic groups keep the time linear, as fnmatch's do.
    middle = "".join(f"(?>.*?{part})" for part in others[:-1] if part)
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def _literal(text: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in text)


def _like(wanted: str, value: str) -> bool:
    return wanted == "*" or _pattern(wanted).fullmatch(value) is not None


def _resource_like(wanted: str, value: str) -> bool:
    """Compare a statement's Resource with a request's; missing parts of an ARN stand for any."""
    if wanted == "*" or value == "*":
        return wanted == "*"
    parts = wanted.split(":", _ARN_COLONS)
    return _arn_like(":".join(parts + ["*"] * (_ARN_COLONS + 1 - len(parts))), value)


def _arn_like(wanted: str, value: str) -> bool:
    """Compare ARNs part by part: a wildcard does not reach beyond its own colon, except in the last part."""
    parts, given = wanted.split(":", _ARN_COLONS), value.split(":", _ARN_COLONS)
    return len(parts) == len(given) and all(_like(one, other) for one, other in zip(parts, given, strict=True))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numeric(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def matches(wanted: str, value: str) -> bool:
        number, limit = _number(value), _number(wanted)
        return number is not None and limit is not None and compare(number, limit)

    return matches


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {  # (wanted, given); those of `_NEGATED` turn one around
    "StringEquals": lambda wanted, value: wanted == value,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.lower() == value.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
    "NumericEquals": _numeric(lambda number, limit: number == limit),
    "NumericLessThan": _numeric(lambda number, limit: number < limit),
    "NumericLessThanEquals": _numeric(lambda number, limit: number <= limit),
    "NumericGreaterThan": _numeric(lambda number, limit: number > limit),
    "NumericGreaterThanEquals": _numeric(lambda number, limit: number >= limit),
}
_NEGATED = frozenset(
    {
        "ArnNotEquals", "ArnNotLike", "NumericNotEquals", "StringNotEquals", "StringNotEqualsIgnoreCase",
        "StringNotLike",
    }
)  # fmt: skip
