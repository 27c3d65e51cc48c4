"""May each role use its own keys in this region, and no others? Policies are judged; nobody's role is assumed.

A round trip proves what the watchdog may. That the application may is another question: a Deny for its role in one
region's key policy shows nowhere else until a failover needs that region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.estate_look import Answer, Budget, OutOfTimeError, TimedReader, look, one_line
from kms_watchdog.canaries.finding import Finding, failed
from kms_watchdog.config import CANARY_CONTEXT, Settings
from kms_watchdog.estate.access import (
    ALIASES,
    KEY_TAGS,
    AccessFault,
    Caller,
    KeyAccess,
    RoleAccess,
    Wrong,
    asks_for,
    judge,
)
from kms_watchdog.estate.observed import KeyReader, alias_target_of, key_of
from kms_watchdog.estate.policy import Policy, PolicyError, parse_policy
from kms_watchdog.estate.role_policies import purposes_by_role, watched_roles
from kms_watchdog.estate.roles import RoleBook
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

NORMAL_CONTEXT = (("tenant", "any"),)
"""Stands for every context that an application sends: one pair, not the canary's."""
_REASONS = {Wrong.MISSING: Reason.ACCESS_MISSING, Wrong.EXCESS: Reason.ACCESS_EXCESS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationAccess:
    """Judge the policies of one key in one region together with those of every role in the configuration.

    Facts: `access_missing`, `access_excess`, `access_unreadable`: how many of each were found.
    """

    region: str
    purpose: str
    alias: str
    callers: tuple[Caller, ...] = field(repr=False)
    reader: KeyReader = field(repr=False, compare=False)
    roles: RoleBook = field(repr=False, compare=False)
    deadline_seconds: float = 10.0

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.APPLICATION_ACCESS

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Look once."""
        key_id = core.health().keys.get(self.purpose)
        return look(self, clock, lambda budget: self._ask(budget, key_id))

    def _ask(self, budget: Budget, key_id: str | None) -> Answer:
        with budget.step("roles"):
            roles = self.roles.roles(wait_seconds=budget.left_seconds)
        if roles is None:
            raise OutOfTimeError
        policies = [policy for role in roles.values() if isinstance(role, RoleAccess) for policy in _all_of(role)]
        try:
            key = self._key(TimedReader(self.reader, budget), key_id, policies)
        except PolicyError as e:
            return _blind(f"the key policy in {self.region} cannot be judged: {e}")
        if key is None:
            return _blind(f"there is no key {key_id or self.alias} in {self.region}")
        found = tuple((caller, roles.get(caller.role)) for caller in self.callers)
        return answer(judge(key, found, normal=NORMAL_CONTEXT, canary=tuple(CANARY_CONTEXT.items())))

    def _key(self, reader: TimedReader, key_id: str | None, of_roles: Sequence[Policy]) -> KeyAccess | None:
        target = None if key_id else alias_target_of(reader, self.region, self.alias)
        name = key_id or (target.key_id if target else None)
        key = key_of(reader, self.region, name, target) if name else None
        if key is None:
            return None
        policy = parse_policy(reader.policy(self.region, key.key_id), of_resource=True)
        asked = (*of_roles, policy)
        return KeyAccess(
            key=key,
            policy=policy,
            grants=reader.grants(self.region, key.key_id),
            aliases=reader.aliases(self.region, key.key_id) if asks_for(ALIASES, asked) else (),
            tags=tuple(reader.tags(self.region, key.key_id).items()) if asks_for(KEY_TAGS, asked) else (),
        )


def callers(settings: Settings, purpose: str) -> tuple[Caller, ...]:
    """Return every role that the configuration names, and how it should be able to use the key of `purpose`."""
    own, estate = purposes_by_role(settings), settings.estate
    watchers = {estate.watchdog_role, estate.drill_role}
    return tuple(
        Caller(role=role, uses=purpose in own.get(role, ()), watches=role in watchers)
        for role in watched_roles(settings)
    )


def answer(faults: Sequence[AccessFault]) -> Answer:
    """Return what `faults` mean: what is known to be wrong outweighs what cannot be judged; a lack outweighs excess."""
    texts = {wrong: tuple(fault.text for fault in faults if fault.wrong is wrong) for wrong in Wrong}
    facts = {f"access_{wrong}": float(len(texts[wrong])) for wrong in Wrong}
    bad = (*texts[Wrong.MISSING], *texts[Wrong.EXCESS])
    reason = next((reason for wrong, reason in _REASONS.items() if texts[wrong]), None)
    if reason is not None:
        return Answer(finding=failed(reason), facts=facts, detail=one_line(bad))
    if texts[Wrong.UNREADABLE]:
        return Answer(finding=_UNREADABLE, facts=facts, detail=one_line(texts[Wrong.UNREADABLE]))
    return Answer(facts=facts)


_UNREADABLE = Finding(Outcome.BLIND, Reason.UNREADABLE)


def _blind(why: str) -> Answer:
    return Answer(finding=_UNREADABLE, detail=why)


def _all_of(role: RoleAccess) -> tuple[Policy, ...]:
    return (*role.policies, role.boundary) if role.boundary else role.policies
