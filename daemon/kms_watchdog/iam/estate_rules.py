"""What is wrong between roles, and against what is rendered for the estate. Pure."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kms_watchdog.estate.diff import canonical_policy
from kms_watchdog.iam.catalogue import Finding, rule
from kms_watchdog.iam.documents import RoleToCheck, Statement, ToCheck, document
from kms_watchdog.iam.key_rules import check_key
from kms_watchdog.iam.role_rules import check_role, is_about_keys, is_about_kms, is_alias, is_wide, uses_keys

_NAMES = ("kms:resourcealiases", "kms:requestalias")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRole:
    """One role as it is rendered."""

    name: str
    details: Mapping[str, Any]
    """In the form of `aws iam get-account-authorization-details`."""
    foreign_keys: Mapping[str, tuple[str, ...]]
    """By purpose what names a key that is not its own: its ARNs, and its alias."""
    is_ours: bool
    """Whether it does nothing but what is rendered; an application's may do more that is not ours to judge."""
    compares_policies: bool = True
    """Whether its policies should be those rendered: ECS's own managed policy does as well as ours."""
    boundary: Mapping[str, Any] | None = None
    """What its boundary says; None: it has none."""
    writes_policies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The estate as it is rendered."""

    roles: tuple[WantedRole, ...]
    key_policies: Mapping[str, Mapping[str, Any]]
    """By a key's name in `ToCheck`."""


def check(read: ToCheck, wanted: Wanted | None = None) -> tuple[Finding, ...]:
    """Return all that is wrong with what was read, and, if the estate is known, where it differs from that."""
    found: list[Finding] = []
    for role in read.roles:
        found += check_role(role)
    for key in read.keys:
        found += check_key(key)
    if wanted is None:
        found += _shared(read.roles)
        found += _without_key_policies(read)
    else:
        found += _against(read, wanted)
    return tuple(found)


# -- without knowing the estate -----------------------------------------------------------------------------------


def _shared(roles: Sequence[RoleToCheck]) -> Iterator[Finding]:
    """Find roles whose policies on keys are one and the same text, and do not name the keys: nothing separates them."""
    groups: dict[str, list[str]] = {}
    for role in roles:
        using = [s for policy in role.policies for s in policy.statements if uses_keys(s)]
        if role.name and any(is_wide(one) or is_alias(one) for s in using for one in s.resources):
            groups.setdefault(_text(_raw(role)), []).append(role.name)
    for names in groups.values():
        if len(names) > 1:
            detail = f"{', '.join(names)} have the same statements about keys"
            yield Finding(rule=rule("B5"), subject=" and ".join(names), detail=detail)


def _without_key_policies(read: ToCheck) -> Iterator[Finding]:
    if read.whole and not read.keys and any(is_about_keys(role) for role in read.roles):
        yield Finding(rule=rule("B9m"), subject="all keys")


def _raw(role: RoleToCheck) -> list[Any]:
    return [one for policy in role.policies for one in _kms_statements(policy.body)]


def _kms_statements(body: Mapping[str, Any]) -> list[Any]:
    parsed = document("", body).statements
    return [raw for raw, statement in zip(_listed(body), parsed, strict=True) if is_about_kms(statement)]


def _listed(body: Mapping[str, Any]) -> list[Any]:
    given = body["Statement"]
    return given if isinstance(given, list) else [given]


def _text(statements: Iterable[Any]) -> str:
    """Return statements in a form in which those of equal wording are equal, whatever their order and Sids."""
    return json.dumps(sorted(map(_one, statements)))


def _one(statement: Any) -> str:
    nameless = {name: value for name, value in statement.items() if name != "Sid"}
    return json.dumps(canonical_policy(nameless), sort_keys=True)


# -- against what is rendered -------------------------------------------------------------------------------------


def _against(read: ToCheck, wanted: Wanted) -> Iterator[Finding]:
    there = {role.name: role for role in read.roles}
    for one in wanted.roles:
        role = there.get(one.name)
        if role is None:
            if one.name not in read.not_read:
                yield Finding(rule=rule("B10"), subject=one.name)
            continue
        yield from _foreign_keys(role, one)
        yield from _different(role, one)
        yield from _boundary(role, one)
    for key in read.keys:
        policy = wanted.key_policies.get(key.name)
        if policy is not None and canonical_policy(key.policy.body) != canonical_policy(policy):
            yield Finding(rule=rule("P1"), subject=key.name, detail=_difference(_listed(key.policy.body), policy))


def _foreign_keys(role: RoleToCheck, wanted: WantedRole) -> Iterator[Finding]:
    for policy in role.policies:
        for statement in policy.statements:
            if not uses_keys(statement):
                continue
            open_ = [purpose for purpose, names in wanted.foreign_keys.items() if _reaches(statement, names)]
            if open_:
                yield Finding(
                    rule=rule("B5"),
                    subject=role.name,
                    policy=policy.name,
                    statement=statement.at,
                    detail=f"may use the keys of {', '.join(open_)}",
                )


def _reaches(statement: Statement, names: Collection[str]) -> bool:
    """Say whether a statement's Resource holds one of a key's ARNs, and no condition on its alias keeps it out."""
    arns = [name for name in names if name.startswith("arn:")]
    among = any(fnmatch.fnmatchcase(arn, pattern) for arn in arns for pattern in statement.resources)
    named = [c for c in statement.conditions if c.key in _NAMES and c.is_positive]
    allowed = all(any(fnmatch.fnmatchcase(n, v) for n in names for v in condition.values) for condition in named)
    return among != statement.not_resource and allowed


def _different(role: RoleToCheck, wanted: WantedRole) -> Iterator[Finding]:
    if wanted.compares_policies and (detail := _different_policies(role, wanted)):
        yield Finding(rule=rule("P1"), subject=role.name, detail=detail)
    trust = wanted.details["AssumeRolePolicyDocument"]
    if role.trust is not None and _text(_listed(role.trust.body)) != _text(_listed(trust)):
        yield Finding(rule=rule("P1"), subject=role.name, policy=role.trust.name, detail="trusts others than it should")


def _different_policies(role: RoleToCheck, wanted: WantedRole) -> str:
    rendered = [one for policy in wanted.details["RolePolicyList"] for one in _listed(policy["PolicyDocument"])]
    there = [one for policy in role.policies for one in _listed(policy.body)]
    if not wanted.is_ours:  # what else an application may is its own affair; about keys there is to be nothing else
        about_kms = {_one(raw) for policy in role.policies for raw in _kms_statements(policy.body)}
        known = {_one(one) for one in rendered}
        there = [one for one in there if _one(one) in known | about_kms]
    return _difference(there, {"Statement": rendered})


def _difference(there: Sequence[Any], policy: Mapping[str, Any]) -> str:
    """Return in words which statements are missing and which are too many."""
    wanted = {_one(one): _called(one) for one in _listed(policy)}
    found = {_one(one): _called(one) for one in there}
    missing = [name for text, name in wanted.items() if text not in found]
    surplus = [name for text, name in found.items() if text not in wanted]
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has besides {', '.join(surplus)}"] if surplus else []
    return "; ".join(parts)


def _called(statement: Mapping[str, Any]) -> str:
    if statement.get("Sid"):
        return str(statement["Sid"])
    actions = statement.get("Action", statement.get("NotAction", ""))
    return f"a statement about {actions if isinstance(actions, str) else ', '.join(map(str, actions))}"


def _boundary(role: RoleToCheck, wanted: WantedRole) -> Iterator[Finding]:
    rendered = wanted.details.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
    if not rendered or wanted.boundary is None:
        return
    if role.boundary != rendered:
        detail = f"has {role.boundary or 'none'}, should have {rendered}"
        yield Finding(rule=rule("P1a" if wanted.writes_policies else "P1b"), subject=role.name, detail=detail)
    elif role.boundary_body is not None and (detail := _difference(_listed(role.boundary_body), wanted.boundary)):
        yield Finding(rule=rule("P1"), subject=role.name, policy=rendered, detail=detail)
