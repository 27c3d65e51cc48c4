"""What is wrong with a role: with each statement of its policies, with all of them together, with its trust. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kms_watchdog.iam.catalogue import Finding, rule
from kms_watchdog.iam.documents import Condition, Document, RoleToCheck, Statement, matches
from kms_watchdog.iam.kms_actions import ACTIONS, CHANGING, ON_ALIASES, USE, WITH_CONTEXT

Found = Iterator[tuple[str, str]]
"""A rule's id, and the detail."""

_CONTEXT, _CONTEXT_KEYS, _VIA = "kms:encryptioncontext:", "kms:encryptioncontextkeys", "kms:viaservice"
_NAMES_KEYS = ("kms:resourcealiases", "kms:requestalias", "aws:resourcetag/")
_ACCOUNT_AT = 4
_EVERYTHING = ("kms:ScheduleKeyDeletion", "kms:Decrypt", "kms:PutKeyPolicy", "kms:CreateKey")
_ROLE_TRUSTS = (":role/", ":assumed-role/")


def check_role(role: RoleToCheck) -> Iterator[Finding]:
    """Find what is wrong with one role by itself."""
    for policy in role.policies:
        for statement in policy.statements:
            for identifier, detail in _of_statement(statement):
                yield _finding(identifier, role, policy, statement.at, detail)
    yield from _together(role)
    if role.trust is not None and (is_about_keys(role) or not role.policies):
        for statement in role.trust.statements:
            for identifier, detail in _of_trust(statement):
                yield _finding(identifier, role, role.trust, statement.at, detail)


def is_about_keys(role: RoleToCheck) -> bool:
    """Say whether a role may do anything with KMS."""
    return any(is_about_kms(statement) for policy in role.policies for statement in policy.statements)


def is_about_kms(statement: Statement) -> bool:
    """Say whether a statement is about any action of KMS."""
    return statement.not_action or any(matches(one.partition(":")[0], "kms") for one in statement.actions)


def uses_keys(statement: Statement) -> bool:
    """Say whether a statement allows to make or open ciphertexts."""
    return statement.allows and any(statement.covers(action) for action in USE)


def allows_everything(statement: Statement) -> bool:
    """Say whether a statement allows every action on keys, by a wildcard."""
    return statement.allows and not statement.not_action and all(statement.covers(action) for action in _EVERYTHING)


def _finding(identifier: str, role: RoleToCheck, policy: Document | None, at: str, detail: str) -> Finding:
    name = policy.name if policy else ""
    return Finding(
        rule=rule(identifier),
        subject=role.name or name,
        policy=name if role.name else "",
        statement=at,
        detail=detail,
    )


# -- one statement ------------------------------------------------------------------------------------------------


def _of_statement(statement: Statement) -> Found:
    if not is_about_kms(statement):
        yield from _open_namespaces(statement)
        return
    yield from unknown_actions(statement)
    yield from secure_transport(statement)
    yield from _alias_resources(statement)
    if not statement.allows:
        return
    if statement.not_action:
        yield "P2", f"NotAction {', '.join(statement.actions)}"
    elif allows_everything(statement):
        yield "P4", ", ".join(statement.actions)
    else:
        for look in (_not_resource, _any_key, _grants, _context_not_required, _context_misplaced, _open_namespaces):
            yield from look(statement)


def unknown_actions(statement: Statement) -> Found:
    """Find names that are no actions of KMS."""
    named = [one for one in statement.actions if one.lower().startswith("kms:")]
    if unknown := [one for one in named if not any(matches(one, action) for action in ACTIONS)]:
        yield "P5", ", ".join(unknown)


def secure_transport(statement: Statement) -> Found:
    """Find a condition that always holds."""
    if statement.asks_about("aws:securetransport"):
        yield "P7", ""


def _alias_resources(statement: Statement) -> Found:
    aliases = [one for one in statement.resources if is_alias(one)]
    if aliases and not any(statement.covers(action) for action in ON_ALIASES):
        effect = "allows" if statement.allows else "forbids"
        yield "B2", f"{effect} nothing on {', '.join(aliases)}"


def is_alias(resource: str) -> bool:
    """Say whether a Resource names aliases."""
    return resource.split(":", 5)[-1].startswith("alias/")


def _not_resource(statement: Statement) -> Found:
    if statement.not_resource:
        yield "P3", f"NotResource {', '.join(statement.resources)}"


def _any_key(statement: Statement) -> Found:
    if not uses_keys(statement) or statement.not_resource:
        return
    of_any_account = [one for one in statement.resources if _is_of_any_account(one)]
    in_account = any(
        c.is_positive and c.key in {"aws:resourceaccount", "kms:calleraccount"} for c in statement.conditions
    )
    if of_any_account and not in_account:
        yield "B4", ", ".join(of_any_account)
    elif (wide := [one for one in statement.resources if is_wide(one)]) and not statement.asks_about(*_NAMES_KEYS):
        yield "B4k", ", ".join(wide)


def _is_of_any_account(resource: str) -> bool:
    parts = resource.split(":", 5)
    return "*" in (parts[_ACCOUNT_AT] if len(parts) > _ACCOUNT_AT else resource)


def is_wide(resource: str) -> bool:
    """Say whether a Resource may be several keys of a region."""
    last = resource.split(":", 5)[-1]
    return not is_alias(resource) and ("*" in last or "?" in last)


def _grants(statement: Statement) -> Found:
    grants = [action for action in ("kms:CreateGrant", "kms:RevokeGrant") if statement.covers(action)]
    if grants and not statement.asks_about("kms:grantisforawsresource"):
        yield "B6", ", ".join(grants)


def _context_not_required(statement: Statement) -> Found:
    if not uses_keys(statement):
        return
    for_all = [c.key for c in statement.conditions if _is_for_all_values_on_context(c)]
    if any(_requires_context(c) for c in statement.conditions):
        return
    if for_all:
        yield "P8", ", ".join(for_all)
    elif not _is_via_service(statement):
        yield "P6", ", ".join(one for one in statement.actions if any(matches(one, action) for action in USE))


def _is_for_all_values_on_context(condition: Condition) -> bool:
    return condition.operator.lower().startswith("forallvalues:") and condition.key.startswith(_CONTEXT[:-1])


def _requires_context(condition: Condition) -> bool:
    if not condition.key.startswith((_CONTEXT, _CONTEXT_KEYS)):
        return False
    if condition.operator.lower() == "null":
        return condition.values == ("false",)
    return condition.is_positive and not condition.operator.lower().startswith("forallvalues:")


def _is_via_service(statement: Statement) -> bool:
    return any(c.is_positive and c.key == _VIA for c in statement.conditions)


def _context_misplaced(statement: Statement) -> Found:
    if not any(_requires_context(c) for c in statement.conditions):
        return
    without = sorted(action for action in ACTIONS - WITH_CONTEXT if statement.covers(action))
    if without:
        yield "P9", ", ".join(without)


def _open_namespaces(statement: Statement) -> Found:
    may_publish = statement.allows and not statement.not_action and statement.covers("cloudwatch:PutMetricData")
    if may_publish and not statement.asks_about("cloudwatch:namespace"):
        yield "B3n", ", ".join(statement.actions)


# -- all statements together --------------------------------------------------------------------------------------


def _together(role: RoleToCheck) -> Iterator[Finding]:
    placed = [(policy, statement) for policy in role.policies for statement in policy.statements]
    using = [(policy, statement) for policy, statement in placed if uses_keys(statement)]
    if not using:
        return
    if not any(_uses_directly(statement) for _, statement in using):
        for policy, statement in using:
            if _is_via_service(statement):
                services = [value for c in statement.conditions if c.key == _VIA for value in c.values]
                yield _finding("B1", role, policy, statement.at, f"only by {', '.join(services)}")
    if not any(statement.allows and statement.covers("cloudwatch:PutMetricData") for _, statement in placed):
        yield _finding("B3", role, None if role.name else role.policies[0], "", "")
    narrow = [statement for _, statement in placed if statement.allows and not allows_everything(statement)]
    changing = sorted(action for action in CHANGING if any(one.covers(action) for one in narrow))
    if changing and any(uses_keys(one) for one in narrow):
        yield _finding("P10", role, None if role.name else role.policies[0], "", ", ".join(changing))


def _uses_directly(statement: Statement) -> bool:
    """Say whether a statement lets somebody use a key by himself: no alias authorises that."""
    return not _is_via_service(statement) and (
        statement.not_resource or any(not is_alias(one) for one in statement.resources)
    )


# -- trust --------------------------------------------------------------------------------------------------------


def _of_trust(statement: Statement) -> Found:
    if not statement.allows or statement.principals is None or not statement.covers("sts:AssumeRole"):
        return
    services = statement.principals.get("Service", ())
    names = statement.principals.get("AWS", ())
    if ec2 := [one for one in services if one.startswith("ec2.")]:
        yield "B7", ", ".join(ec2)
    if any(one.startswith("ecs-tasks.") for one in services) and not statement.asks_about(*_SOURCES):
        yield "B7s", "ecs-tasks.amazonaws.com"
    if "*" in names and not statement.asks_about("aws:principal"):
        yield "B7p", ""
    if roles := [one for one in names if any(part in one for part in _ROLE_TRUSTS)]:
        yield "B8", ", ".join(roles)


_SOURCES = ("aws:sourceaccount", "aws:sourcearn", "aws:sourceorg")
