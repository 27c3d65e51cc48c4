"""Who may use which key in which region, as policies say: pure, from what was read of roles and of one key there.

Two answers are not enough. A policy may ask for what no policy tells, such as the address a request comes from: where
the decision depends on it, it is neither allowed nor denied here, but not to be judged. Policies of organisations, of
sessions and of endpoints are not seen at all.

Whoever asks chooses the encryption context. So a role may too much if any context opens the key to it, also one that
only a policy names; and where its own key opens under such a context alone, whether it sends that is not known.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from kms_watchdog.estate.kms_admin import Grant, KeyInRegion
from kms_watchdog.estate.policy import (
    Condition,
    Decision,
    Effect,
    Policy,
    PolicyError,
    Request,
    Statement,
    evaluate,
    parse_policy,
)

Pairs = tuple[tuple[str, str], ...]
"""An encryption context, or tags: names and values."""

OWN_ACTIONS = ("GenerateDataKey", "Decrypt", "DescribeKey")
"""What whoever uses a key needs."""
USE_ACTIONS = (
    "Encrypt",
    "Decrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
)
"""What nobody else may: all that makes or opens a ciphertext."""
ALIASES, KEY_TAGS = "kms:resourcealiases", "aws:resourcetag/"
_CONTEXT, _CONTEXT_KEYS = "kms:encryptioncontext:", "kms:encryptioncontextkeys"
_ABSENT = frozenset(
    {
        "aws:calledvia",
        "aws:calledviafirst",
        "aws:calledvialast",
        "aws:principalservicename",
        "aws:tagkeys",
        "kms:requestalias",
        "kms:viaservice",
    }
)
"""Condition keys that a direct use of a key by its id never has."""
_ABSENT_FAMILIES = (
    "aws:principaltag/",
    "aws:requesttag/",
    _CONTEXT,
    _CONTEXT_KEYS,
    "kms:grant",
    "kms:recipientattestation:",
)
"""As above, by how they begin; those of a role's tags and of the context stand in the request where it has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAccess:
    """One role, and what its own policies say about KMS."""

    name: str
    arn: str
    role_id: str
    policies: tuple[Policy, ...]
    boundary: Policy | None
    tags: Pairs = ()


@dataclass(frozen=True, slots=True)
class UnreadableRole:
    """A role that is there, or may be, but whose policies cannot be judged; `why` says it in a few words."""

    why: str


Role = RoleAccess | UnreadableRole | None
"""None: there is no such role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One role, and how it should be able to use one key."""

    role: str
    uses: bool
    """An application's: under any context."""
    watches: bool = False
    """The watchdog's or the drills': under the canary's context alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAccess:
    """What one region says about access to one key."""

    key: KeyInRegion
    policy: Policy
    grants: tuple[Grant, ...]
    aliases: tuple[str, ...] = ()
    """Needed only where a policy asks for them (`asks_for`); likewise `tags`."""
    tags: Pairs = ()


class Wrong(StrEnum):
    """What is wrong with a role's access."""

    MISSING = "missing"
    EXCESS = "excess"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFault:
    """One thing that is wrong; `text` names role, actions and region."""

    wrong: Wrong
    text: str


@lru_cache(maxsize=1024)  # policies seldom change: a hundred evaluations are spared a look
def judge(
    key: KeyAccess, callers: tuple[tuple[Caller, Role], ...], *, normal: Pairs, canary: Pairs
) -> tuple[AccessFault, ...]:
    """Return what is wrong with the access to one key in one region.

    Args:
        key: the key there.
        callers: the roles to look at, and what IAM says of them.
        normal: an encryption context as the application sends it.
        canary: one as the watchdog sends it.
    """
    faults: list[AccessFault] = []
    for caller, found in callers:
        match found:
            case None:
                faults.append(AccessFault(wrong=Wrong.MISSING, text=f"there is no role {caller.role}"))
            case UnreadableRole(why):
                faults.append(AccessFault(wrong=Wrong.UNREADABLE, text=f"{caller.role} cannot be judged: {why}"))
            case RoleAccess() as role:
                faults += _of_role(key, caller, role, normal=normal, canary=canary)
    faults += _of_grants(key)
    return tuple(faults)


def asks_for(name: str, policies: Iterable[Policy]) -> bool:
    """Say whether a policy has a condition key that begins with `name`, which is in lower case."""
    return any(
        condition.key.lower().startswith(name)
        for policy in policies
        for statement in policy.statements
        for condition in statement.conditions
    )


def parse_about_kms(document: Mapping[str, Any], where: str) -> Policy:
    """Return an identity's policy without the statements that say nothing about KMS.

    What else a role may is not judged here, and may use what the evaluator does not know.

    Raises:
        PolicyError: what it says about KMS is not evaluated here; the text names `where`.
    """
    if not isinstance(document, Mapping):
        raise PolicyError(f"{where}: a policy is an object")
    given = document.get("Statement")
    statements = given if isinstance(given, list) else [given]
    about_kms = [one for one in statements if _may_be_about_kms(one)]
    if not about_kms:
        return Policy(())
    try:
        return parse_policy({**document, "Statement": about_kms})
    except PolicyError as e:
        raise PolicyError(f"{where}: {e}") from e


def _may_be_about_kms(statement: Any) -> bool:
    actions = statement.get("Action") if isinstance(statement, Mapping) else None
    if actions is None:  # NotAction, or what the parser shall refuse
        return True
    patterns = actions if isinstance(actions, list) else [actions]
    return any(fnmatch.fnmatchcase("kms", str(pattern).lower().partition(":")[0]) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _Unknown:
    """What is asked for that no policy tells: the names of condition keys."""

    names: tuple[str, ...]


def _of_role(
    key: KeyAccess, caller: Caller, role: RoleAccess, *, normal: Pairs, canary: Pairs
) -> Iterator[AccessFault]:
    asker = _Asker(key, role)
    others = [context for context in asker.contexts if not set(canary) & set(context)]
    if caller.uses:
        yield from asker.must(OWN_ACTIONS, normal, others)
    elif caller.watches:
        yield from asker.must(OWN_ACTIONS, canary)
        yield from asker.must_not(USE_ACTIONS, [normal, (), *others])
    else:
        yield from asker.must_not(USE_ACTIONS, [normal, (), canary, *asker.contexts])


def _of_grants(key: KeyAccess) -> Iterator[AccessFault]:
    """Our policies deny CreateGrant to everybody: whoever holds a grant got it behind their back."""
    for grant in key.grants:
        what = f"{grant.grantee} may {', '.join(grant.operations)} in {key.key.region}, by a grant"
        yield AccessFault(wrong=Wrong.EXCESS, text=what)


class _Asker:
    """Asks the policies of one role and one key."""

    def __init__(self, key: KeyAccess, role: RoleAccess) -> None:
        self._key, self._role = key, role
        policies = (*role.policies, key.policy, *([role.boundary] if role.boundary else []))
        self._surroundings = _surroundings(key, role)
        self._unknown = _unknown_names(policies, self._surroundings)
        self.contexts = _contexts_named(policies)
        """Those that the policies themselves ask for."""

    def must(self, actions: Sequence[str], context: Pairs, others: Sequence[Pairs] = ()) -> Iterator[AccessFault]:
        """Find what the role may not, though it should; whether it sends one of `others` is not known."""
        denied: dict[str, list[str]] = {}
        for action in actions:
            match self._decide(action, context):
                case _Unknown(names):
                    yield self._unreadable(action, names)
                case Decision(allowed=False) if opening := self._opening(action, others):
                    yield self._unreadable(action, [f"kms:EncryptionContext:{name}" for name, _ in opening])
                case Decision(allowed=False) as decision:
                    denied.setdefault(_because(decision), []).append(action)
                case _:
                    pass
        for because, which in denied.items():
            text = f"{self._role.name} may not {', '.join(which)} in {self._key.key.region}: {because}"
            yield AccessFault(wrong=Wrong.MISSING, text=text)

    def must_not(self, actions: Sequence[str], contexts: Sequence[Pairs]) -> Iterator[AccessFault]:
        """Find what the role may, though it should not."""
        allowed: list[str] = []
        for action in actions:
            decisions = [self._decide(action, context) for context in contexts]
            if any(isinstance(one, Decision) and one.allowed for one in decisions):
                allowed.append(action)
            elif unknown := [one for one in decisions if isinstance(one, _Unknown)]:
                yield self._unreadable(action, unknown[0].names)
        if allowed:
            text = f"{self._role.name} may {', '.join(allowed)} in {self._key.key.region}, and should not"
            yield AccessFault(wrong=Wrong.EXCESS, text=text)

    def _opening(self, action: str, contexts: Sequence[Pairs]) -> Pairs:
        """Return the first of `contexts` under which `action` is allowed; empty: none."""
        decisions = ((context, self._decide(action, context)) for context in contexts)
        return next((context for context, one in decisions if isinstance(one, Decision) and one.allowed), ())

    def _unreadable(self, action: str, names: Sequence[str]) -> AccessFault:
        asked = ", ".join(names)
        text = f"{self._role.name} and {action} in {self._key.key.region} cannot be judged: it depends on {asked}"
        return AccessFault(wrong=Wrong.UNREADABLE, text=text)

    def _decide(self, action: str, context: Pairs) -> Decision | _Unknown:
        request = self._request(action, context)
        if not self._unknown:
            return self._evaluate(request)
        strict, generous = (self._evaluate(request, favourable=favourable) for favourable in (False, True))
        return strict if strict.allowed == generous.allowed else _Unknown(self._unknown)

    def _evaluate(self, request: Request, *, favourable: bool | None = None) -> Decision:
        def seen(policy: Policy) -> Policy:
            return policy if favourable is None else _assume(policy, self._unknown, favourable=favourable)

        boundary = self._role.boundary
        return evaluate(
            request,
            identity=[seen(policy) for policy in self._role.policies],
            resource=seen(self._key.policy),
            boundary=seen(boundary) if boundary else None,
        )

    def _request(self, action: str, context: Pairs) -> Request:
        more: dict[str, str | tuple[str, ...]] = {}
        if action != "DescribeKey" and context:
            more = {f"kms:EncryptionContext:{name}": value for name, value in context}
            more["kms:EncryptionContextKeys"] = tuple(name for name, _ in context)
        account_id = self._role.arn.split(":")[4]
        return Request(
            action=f"kms:{action}",
            resource=self._key.key.arn,
            principal=self._role.arn,
            session=f"{self._role.arn.split(':iam:')[0]}:sts::{account_id}:assumed-role/{self._role.name}/any",
            context={**self._surroundings, **more},
        )


def _surroundings(key: KeyAccess, role: RoleAccess) -> dict[str, str | tuple[str, ...]]:
    """Return the condition keys of any use of `key` by `role`, whatever its action and context."""
    account_id = role.arn.split(":")[4]
    return {
        "aws:PrincipalAccount": account_id,
        "aws:PrincipalArn": role.arn,
        "aws:PrincipalIsAWSService": "false",
        "aws:PrincipalType": "AssumedRole",
        "aws:RequestedRegion": key.key.region,
        "aws:ResourceAccount": key.key.arn.split(":")[4],
        "aws:SecureTransport": "true",
        "aws:ViaAWSService": "false",
        "aws:userid": f"{role.role_id}:any",
        "kms:CallerAccount": account_id,
        "kms:EncryptionAlgorithm": key.key.spec,
        "kms:KeyOrigin": "AWS_KMS",
        "kms:KeySpec": key.key.spec,
        "kms:KeyUsage": key.key.usage,
        "kms:MultiRegion": "true" if key.key.multi_region_type else "false",
        "kms:MultiRegionKeyType": key.key.multi_region_type,
        "kms:ResourceAliases": key.aliases,
        **{f"aws:PrincipalTag/{name}": value for name, value in role.tags},
        **{f"aws:ResourceTag/{name}": value for name, value in key.tags},
    }


def _unknown_names(policies: Iterable[Policy], known: Mapping[str, Any]) -> tuple[str, ...]:
    names = {name.lower() for name in known} | _ABSENT
    asked = {
        condition.key
        for policy in policies
        for statement in policy.statements
        for condition in statement.conditions
        if condition.key.lower() not in names and not condition.key.lower().startswith((*_ABSENT_FAMILIES, KEY_TAGS))
    }
    return tuple(sorted(asked))


def _contexts_named(policies: Iterable[Policy]) -> tuple[Pairs, ...]:
    """Return encryption contexts that `policies` ask for: one for each statement that does, and all in one."""
    found = [_context_named(statement) for policy in policies for statement in policy.statements]
    together = {name: value for context in found for name, value in context.items()}
    return tuple(dict.fromkeys(tuple(sorted(context.items())) for context in (*found, together) if context))


def _context_named(statement: Statement) -> dict[str, str]:
    """Return the smallest context with which the conditions of `statement` on it hold, or are escaped if negated."""
    named: dict[str, str] = {}
    for condition in statement.conditions:
        key, first = condition.key.lower(), condition.wanted[0]
        if "Like" in condition.operator:
            first = first.replace("*", "any").replace("?", "x")
        if key.startswith(_CONTEXT):
            named[condition.key[len(_CONTEXT) :]] = "any" if condition.operator == "Null" else first
        elif key == _CONTEXT_KEYS and condition.operator != "Null":
            named.setdefault(first, "any")
    return named


def _assume(policy: Policy, unknown: Sequence[str], *, favourable: bool) -> Policy:
    """Return `policy` as if all that is unknown spoke for the request, or against it."""
    statements: list[Statement] = []
    for statement in policy.statements:
        open_ones = [condition for condition in statement.conditions if condition.key in unknown]
        applies = favourable == (statement.effect is Effect.ALLOW)
        if not open_ones or applies:
            known: tuple[Condition, ...] = tuple(c for c in statement.conditions if c.key not in unknown)
            statements.append(replace(statement, conditions=known))
    return Policy(tuple(statements))


def _because(decision: Decision) -> str:
    if decision.source:
        return f"{decision.outcome} in the {decision.source}" + (f" ({decision.sid})" if decision.sid else "")
    return str(decision.outcome)
