"""The roles there should be and those there are, and what is to be done: pure.

A role is made before the keys, for whoever is to assume it; its policy is put after them, for it names the keys' ARNs.
What differs is told and left, unless the `policies` are asked for: somebody may have had a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kms_watchdog.config import Settings
from kms_watchdog.estate.diff import canonical_policy
from kms_watchdog.estate.plan import Group
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.iam.estate_roles import EXECUTION_ROLE, EstateRole, boundary_policies, estate_roles, role_details

RoleStepKind = Literal["create_boundary", "create_role", "put_boundary", "put_trust", "put_role_policy"]

BEFORE_KEYS: frozenset[RoleStepKind] = frozenset({"create_boundary", "create_role", "put_boundary", "put_trust"})
AFTER_KEYS: frozenset[RoleStepKind] = frozenset({"put_role_policy"})
_WORDS: Mapping[RoleStepKind, str] = {
    "create_boundary": "create the managed policy that is a boundary of roles",
    "create_role": "create the role, with its trust policy",
    "put_boundary": "put its permissions boundary",
    "put_trust": "put its trust policy",
    "put_role_policy": "put its policy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredRole:
    """One role with its one inline policy."""

    name: str
    trust: Mapping[str, Any]
    policy_name: str
    policy: Mapping[str, Any] | None
    """None before the keys exist that it names."""
    boundary: str = ""
    """The ARN of the managed policy that says what it may at most; empty: none."""
    compared: bool = True
    """Whether it is ours alone. What an account has for ECS itself is used by others too: it is made where missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredBoundary:
    """A managed policy that says what roles may at most."""

    arn: str
    policy: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As CreatePolicy takes it."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRole:
    """What there is of a role."""

    trust: Any
    policy: Any | None
    """The inline policy of the name it should have; None: there is none."""
    boundary: str = ""
    """The ARN of its permissions boundary; empty: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStep:
    """One change of a role or a boundary."""

    kind: RoleStepKind
    name: str

    def __str__(self) -> str:
        return f"{self.name}: {_WORDS[self.kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePlan:
    """What to do about one role or boundary."""

    wanted: DesiredRole | DesiredBoundary
    steps: tuple[RoleStep, ...]
    differences: tuple[str, ...]
    """What is not as it should be and is left so."""


def desired_roles(settings: Settings, key_ids: Mapping[str, str]) -> tuple[DesiredRole, ...]:
    """Return the roles that `settings` asks for; those whose keys have no id yet without their policies."""
    return tuple(_desired(settings, role, key_ids) for role in estate_roles(settings))


def desired_boundaries(settings: Settings) -> tuple[DesiredBoundary, ...]:
    """Return the managed policies that are boundaries of those roles."""
    given = Rendering(settings=settings, key_ids={})
    return tuple(
        DesiredBoundary(arn=given.arn("iam", f"policy/{name}"), policy=policy)
        for name, policy in boundary_policies(given).items()
    )


def _desired(settings: Settings, role: EstateRole, key_ids: Mapping[str, str]) -> DesiredRole:
    known = role.purposes <= key_ids.keys()
    ids = key_ids if known else dict.fromkeys(settings.keys, "")
    details = role_details(Rendering(settings=settings, key_ids=ids), role)
    [policy] = details["RolePolicyList"]
    return DesiredRole(
        name=role.name,
        trust=details["AssumeRolePolicyDocument"],
        policy_name=policy["PolicyName"],
        policy=policy["PolicyDocument"] if known else None,
        boundary=details.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""),
        compared=role.name != EXECUTION_ROLE,
    )


def plan_boundary(wanted: DesiredBoundary, found: Any | None, groups: frozenset[Group]) -> RolePlan:
    """Return what to do about a boundary; one that differs is left: a new version may mean the end of an old one."""
    missing = found is None and "roles" in groups
    differs = found is not None and canonical_policy(found) != canonical_policy(wanted.policy)
    return RolePlan(
        wanted=wanted,
        steps=(RoleStep(kind="create_boundary", name=wanted.name),) if missing else (),
        differences=(f"{wanted.name}: it is not the policy rendered here",) if differs else (),
    )


def plan_role(wanted: DesiredRole, found: ObservedRole | None, groups: frozenset[Group]) -> RolePlan:
    """Return what is missing and what differs; only steps of `groups`."""
    kinds = tuple(_missing(found)) if "roles" in groups else ()
    different = tuple(_different(wanted, found)) if found and wanted.compared else ()
    if "policies" in groups:
        kinds += tuple(kind for kind, _ in different)
    return RolePlan(
        wanted=wanted,
        steps=tuple(RoleStep(kind=kind, name=wanted.name) for kind in kinds),
        differences=() if "policies" in groups else tuple(f"{wanted.name}: {what}" for _, what in different),
    )


def _missing(found: ObservedRole | None) -> Iterator[RoleStepKind]:
    if found is None:
        yield "create_role"
    if found is None or found.policy is None:
        yield "put_role_policy"


def _different(wanted: DesiredRole, found: ObservedRole) -> Iterator[tuple[RoleStepKind, str]]:
    if wanted.boundary and found.boundary != wanted.boundary:
        yield "put_boundary", f"its permissions boundary is not {wanted.boundary}"
    if canonical_policy(found.trust) != canonical_policy(wanted.trust):
        yield "put_trust", "its trust policy is not the one rendered here"
    if found.policy is not None and canonical_policy(found.policy) != canonical_policy(wanted.policy):
        yield "put_role_policy", f"its policy {wanted.policy_name} is not the one rendered here"
