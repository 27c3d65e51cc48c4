"""What is wrong with a key's policy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kms_watchdog.iam.catalogue import Finding, rule
from kms_watchdog.iam.documents import KeyToCheck, Statement
from kms_watchdog.iam.kms_actions import USE
from kms_watchdog.iam.role_rules import Found, secure_transport, unknown_actions

_ROOT = re.compile(r"(arn:[\w-]+:iam::)?(\d{12})(:root)?")
_WHO = ("aws:principal", "kms:calleraccount", "aws:sourceaccount", "aws:sourcearn", "aws:sourceorg")


def check_key(key: KeyToCheck) -> Iterator[Finding]:
    """Find what is wrong with one key's policy by itself."""
    statements = key.policy.statements
    for statement in statements:
        for identifier, detail in _of_statement(statement):
            yield _finding(identifier, key, statement.at, detail)
    delegating = [statement for statement in statements if _delegates(statement, key.account_id)]
    if not delegating:
        yield _finding("B9", key, "", "no statement allows kms:* to the account")
    elif not any(_narrows(statement) for statement in statements):
        yield _finding("B9d", key, delegating[0].at, "no statement denies its use to anybody")


def _finding(identifier: str, key: KeyToCheck, at: str, detail: str) -> Finding:
    policy = key.policy.name if key.policy.name != key.name else ""
    return Finding(rule=rule(identifier), subject=key.name, policy=policy, statement=at, detail=detail)


def _of_statement(statement: Statement) -> Found:
    yield from unknown_actions(statement)
    yield from secure_transport(statement)
    if not statement.allows:
        return
    if statement.not_action:
        yield "P2", f"NotAction {', '.join(statement.actions)}"
    if statement.not_principal or ("*" in _aws(statement) and not statement.asks_about(*_WHO)):
        yield "P11", ", ".join(statement.actions)
    elif (
        statement.covers("kms:CreateGrant")
        and not _names_account(statement, "")
        and not statement.asks_about("kms:grantisforawsresource")
    ):
        yield "B6", "kms:CreateGrant"


def _aws(statement: Statement) -> tuple[str, ...]:
    return (statement.principals or {}).get("AWS", ())


def _names_account(statement: Statement, account_id: str) -> bool:
    """Say whether the account itself is a principal: any account, where `account_id` is empty."""
    found = [match[2] for name in _aws(statement) if (match := _ROOT.fullmatch(name))]
    return account_id in found if account_id else bool(found)


def _delegates(statement: Statement, account_id: str) -> bool:
    """Say whether a statement lets the account's IAM policies decide about use and administration of the key."""
    needed = ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey", "kms:PutKeyPolicy")
    return (
        statement.allows
        and not statement.conditions
        and _names_account(statement, account_id)
        and all(statement.covers(action) for action in needed)
    )


def _narrows(statement: Statement) -> bool:
    """Say whether a statement takes the key's use from somebody."""
    return not statement.allows and any(statement.covers(action) for action in USE)
