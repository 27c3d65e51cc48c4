"""Make the keys: found by alias or tag, made where missing, read back and compared. Nothing is ever deleted.

Every step is found by its result, so a run that ended anywhere is continued by the next one, and a second run changes
nothing. CreateKey has no idempotency token: what keeps it from making a second key is that the first carries tags from
its first moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future

from kms_core.clock import Clock
from kms_watchdog.estate.desired import DesiredKey
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.observed import observe
from kms_watchdog.estate.plan import Group, KeyPlan, Step, plan

AWAIT_SECONDS = 60.0
FIRST_LOOK_SECONDS = 0.1
SLOWEST_LOOK_SECONDS = 2.0

Tell = Callable[[Step], None]


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
    wanted = each.wanted
    key_id = each.key_id
    for step in _of_region(each.steps, wanted.primary_region):
        if step.kind == "create_key":
            key_id = admin.create(wanted)
        else:
            _do(step, wanted, _known(key_id), admin, clock)
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
            admin.create_alias(step.region, wanted.alias, key_id)
        case "enable_rotation":
            admin.enable_rotation(step.region, key_id)
        case "replicate":
            admin.replicate(wanted, key_id, step.region)
        case "await_enabled":
            await_enabled(admin, step.region, key_id, clock)
        case "create_key":
            raise AssertionError("a key is created before anything else is done to it")


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
