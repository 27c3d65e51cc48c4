"""Make roles and keys: found by name, alias or tag, made where missing, read back and compared. Nothing is deleted.

Every step is found by its result, so a run that ended anywhere is continued by the next one, and a second run changes
nothing. CreateKey has no idempotency token: what keeps it from making a second key is that the first carries tags from
its first moment. Two runs that see the same nothing at the same moment both make one: the alias in the primary region,
of which there can be one alone, says whose it is, and the other run disowns its own and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import PURPOSE_TAG, DesiredKey
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.observed import observe
from kms_watchdog.estate.plan import Group, KeyPlan, Step, plan
from kms_watchdog.estate.role_admin import RoleAdmin
from kms_watchdog.estate.role_plan import (
    DesiredBoundary,
    DesiredRole,
    RolePlan,
    RoleStep,
    RoleStepKind,
    desired_boundaries,
    desired_roles,
    plan_boundary,
    plan_role,
)

AWAIT_SECONDS = 60.0
FIRST_LOOK_SECONDS = 0.1
SLOWEST_LOOK_SECONDS = 2.0

_ALREADY_EXISTS = "AlreadyExistsException"

Tell = Callable[[Step | RoleStep], None]


class AliasTakenError(EstateError):
    """Somebody else made the alias since we looked."""

    def __init__(self, region: str, what: str) -> None:
        super().__init__(region, "CreateAlias", _ALREADY_EXISTS, unreachable=False)
        self.what = what

    def __str__(self) -> str:
        return f"{self.region}: somebody else is provisioning: {self.what}"


class NotEnabledError(EstateError):
    """A replica was not enabled in time; running again goes on waiting."""

    def __init__(self, region: str) -> None:
        super().__init__(region, "DescribeKey", f"not Enabled within {AWAIT_SECONDS:g} s", unreachable=False)


def make_plans(
    wanted: Sequence[DesiredKey], admin: KmsAdmin, pool: Executor, groups: frozenset[Group]
) -> tuple[KeyPlan, ...]:
    """Look at every key and return what is to be done; keys one after the other, their regions at once.

    Raises:
        EstateError: a region did not answer, or refused.
    """
    return tuple(plan(key, observe(key, admin, pool), groups) for key in wanted)


def make_role_plans(
    settings: Settings, keys: Iterable[KeyPlan], admin: RoleAdmin, groups: frozenset[Group]
) -> tuple[RolePlan, ...]:
    """Look at every role and return what is to be done; where nobody asks for roles or policies, IAM is not asked.

    Raises:
        EstateError: IAM did not answer, or refused.
    """
    if not groups & {"roles", "policies"}:
        return ()
    key_ids = {each.wanted.purpose: each.key_id for each in keys if each.key_id}
    boundaries = desired_boundaries(settings)
    return (
        *(plan_boundary(one, admin.observe_boundary(one), groups) for one in boundaries),
        *(plan_role(role, admin.observe(role), groups) for role in desired_roles(settings, key_ids)),
    )


def apply_roles(plans: Iterable[RolePlan], admin: RoleAdmin, kinds: frozenset[RoleStepKind], tell: Tell) -> None:
    """Do those steps of `plans` that are of `kinds`.

    Raises:
        EstateError: a call failed.
    """
    do: Mapping[RoleStepKind, Callable[[DesiredRole], None]] = {
        "create_role": admin.create,
        "put_boundary": admin.put_boundary,
        "put_trust": admin.put_trust,
        "put_role_policy": admin.put_policy,
    }
    for each in plans:
        for step in each.steps:
            if step.kind not in kinds:
                continue
            if isinstance(each.wanted, DesiredBoundary):
                admin.create_boundary(each.wanted)
            elif step.kind == "put_role_policy" and each.wanted.policy is None:
                continue  # its keys are not there, or not seen yet: the next run puts it
            else:
                do[step.kind](each.wanted)
            tell(step)


def apply_all(
    plans: Iterable[KeyPlan], admin: KmsAdmin, clock: Clock, *, keys: Executor, regions: Executor, tell: Tell
) -> None:
    """Do what `plans` say, each key in a thread of `keys` and its replicas in threads of `regions`.

    Raises:
        EstateError: a call failed; the first error, after every key has come as far as it could.
    """
    running = [keys.submit(apply_plan, each, admin, clock, regions, tell) for each in plans]
    _all_or_first_error(running)


def apply_plan(each: KeyPlan, admin: KmsAdmin, clock: Clock, regions: Executor, tell: Tell) -> None:
    """Do what the plan for one key says: the primary in order, then the replicas at the same time.

    Raises:
        EstateError: a call failed.
    """
    if not each.steps:
        return
    wanted = each.wanted
    key_id = each.key_id
    for step in _of_region(each.steps, wanted.primary_region):
        if step.kind == "create_key":
            key_id = admin.create(wanted)
        else:
            try:
                _do(step, wanted, _known(key_id), admin, clock)
            except AliasTakenError:
                if each.key_id is None:  # made a moment ago, and nobody has used it
                    admin.untag(wanted.primary_region, _known(key_id), (PURPOSE_TAG,))
                raise
        tell(step)
    _all_or_first_error(
        [
            regions.submit(_do_region, _of_region(each.steps, region), wanted, _known(key_id), admin, clock, tell)
            for region in wanted.replica_regions
        ]
    )


def _do_region(
    steps: Sequence[Step], wanted: DesiredKey, key_id: str, admin: KmsAdmin, clock: Clock, tell: Tell
) -> None:
    for step in steps:
        _do(step, wanted, key_id, admin, clock)
        tell(step)


def _do(step: Step, wanted: DesiredKey, key_id: str, admin: KmsAdmin, clock: Clock) -> None:
    match step.kind:
        case "create_alias":
            _create_alias(step.region, wanted, key_id, admin)
        case "enable_rotation":
            admin.enable_rotation(step.region, key_id)
        case "replicate":
            _replicate(wanted, key_id, step.region, admin)
        case "await_enabled":
            await_enabled(admin, step.region, key_id, clock)
        case "tag_key":
            admin.tag(step.region, key_id, wanted.tags)
        case "describe_key":
            admin.describe_as(step.region, key_id, wanted.description_in(step.region))
        case "put_key_policy":
            admin.put_policy(step.region, key_id, wanted.policy_text)
        case "create_key":
            raise AssertionError("a key is created before anything else is done to it")


def _create_alias(region: str, wanted: DesiredKey, key_id: str, admin: KmsAdmin) -> None:
    try:
        admin.create_alias(region, wanted.alias, key_id)
    except EstateError as e:
        if e.code != _ALREADY_EXISTS:
            raise
        found = admin.describe(region, wanted.alias)
        if found is None or found.key_id != key_id:
            theirs = found.key_id if found else "a key that is gone"
            raise AliasTakenError(
                region,
                f"{wanted.alias} leads to {theirs} by now, not to {key_id}: run again; what was made here and never"
                " used, nothing deletes by itself",
            ) from e


def _replicate(wanted: DesiredKey, key_id: str, region: str, admin: KmsAdmin) -> None:
    try:
        admin.replicate(wanted, key_id, region)
    except EstateError as e:
        if e.code != _ALREADY_EXISTS:  # somebody else has made it since we looked, as a key of ours
            raise


def await_enabled(admin: KmsAdmin, region: str, key_id: str, clock: Clock) -> None:
    """Wait until the replica can be used: ReplicateKey returns while it is still Creating.

    Raises:
        NotEnabledError: it was not within AWAIT_SECONDS.
        EstateError: the region did not answer.
    """
    until = clock.monotonic() + AWAIT_SECONDS
    pause_seconds = FIRST_LOOK_SECONDS
    while clock.monotonic() < until:
        key = admin.describe(region, key_id)  # just after ReplicateKey it may not be known there yet
        if key is not None and key.state == "Enabled":
            return
        admin.pause(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, SLOWEST_LOOK_SECONDS)
    raise NotEnabledError(region)


def _of_region(steps: Sequence[Step], region: str) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.region == region)


def _known(key_id: str | None) -> str:
    if key_id is None:
        raise AssertionError("a plan without a key begins with create_key")
    return key_id


def _all_or_first_error(running: Sequence[Future[None]]) -> None:
    errors = [error for each in running if (error := each.exception())]
    if errors:
        raise errors[0]
