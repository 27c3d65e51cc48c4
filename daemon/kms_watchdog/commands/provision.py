"""`kms-watchdog provision`: the roles, keys, replicas, aliases and rotation that the configuration asks for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

import click

from kms_core import SystemClock
from kms_watchdog import aws
from kms_watchdog.commands import policies
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.options import (
    BAD_FOUND,
    COULD_NOT_TELL,
    GOOD,
    REFUSED,
    USAGE,
    Stop,
    config_option,
    load_settings,
)
from kms_watchdog.config import Settings
from kms_watchdog.estate import cloudformation
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.plan import Group, KeyPlan, Step
from kms_watchdog.estate.provision import apply_all, apply_roles, make_plans, make_role_plans
from kms_watchdog.estate.role_admin import RoleAdmin
from kms_watchdog.estate.role_plan import AFTER_KEYS, BEFORE_KEYS, RolePlan, RoleStep
from kms_watchdog.estate.roles import IAM
from kms_watchdog.estate.trails import TrailAdmin, TrailPlan, TrailStep, desired_trail, plan_trail

ALL_GROUPS: tuple[Group, ...] = get_args(Group)
USUAL_GROUPS = tuple(group for group in ALL_GROUPS if group != "policies")
"""What is looked after unasked: policies that differ are told and left, for somebody may have had a reason."""


class Groups(click.ParamType[frozenset[Group]]):
    """A list of steps, joined by commas."""

    name = "steps"

    def convert(
        self, value: str | frozenset[Group], param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[Group]:
        """Return the named groups."""
        if isinstance(value, frozenset):
            return value
        asked = [part.strip() for part in value.split(",")]
        if unknown := [part for part in asked if part not in ALL_GROUPS]:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(ALL_GROUPS)}", param, ctx)
        return frozenset(group for group in ALL_GROUPS if group in asked)


steps_option = click.option(
    "--steps",
    "groups",
    type=Groups(),
    default=",".join(USUAL_GROUPS),
    show_default=True,
    help="What to look after, joined by commas; with `policies`, those that differ are put right.",
)


@click.group(
    "provision",
    epilog="""\b
Examples:
  kms-watchdog provision plan --config watchdog.toml
  kms-watchdog provision apply --yes --steps keys,aliases,rotation --config watchdog.toml
  kms-watchdog provision apply --steps policies --config watchdog.toml
  kms-watchdog provision policies --into policies --config watchdog.toml
  kms-watchdog provision render --format cloudformation --into stacks --config watchdog.toml""",
)
def command() -> None:
    """Make the estate's roles and keys, or render them.

    Deletes nothing, ever, and never makes a second key. Roles are made by whoever may use IAM; `--steps
    keys,aliases,rotation,tags` leaves them out. A trail is made where [estate] trail_bucket says where to.
    """


command.add_command(policies.command)


@command.command("plan")
@config_option
@steps_option
def plan_command(config_path: Path, groups: frozenset[Group]) -> None:
    """Show what is missing; change nothing.

    Exit code 0: all is there; 1: something is missing or differs; 3: AWS did not tell; 4: a person must decide.
    """
    settings = load_settings(config_path)
    _check_trail(settings, groups)
    with _Estate(settings) as estate:
        plans = estate.plans(groups)
    show(plans)
    refuse_if_needed(plans)
    sys.exit(BAD_FOUND if plans.left else GOOD)


@command.command("apply")
@config_option
@steps_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply_command(config_path: Path, groups: frozenset[Group], *, yes: bool) -> None:
    """Make what is missing, then read it back.

    May be run again at any time: it goes on where it was. Exit code 0: all is there; 1: something failed or differs;
    3: AWS did not tell; 4: refused.
    """
    settings = load_settings(config_path)
    _check_trail(settings, groups)
    with only_one(settings), _Estate(settings) as estate:
        plans = estate.plans(groups)
        show(plans)
        refuse_if_needed(plans)
        if plans.steps:
            if not yes:
                confirm(settings)
            done = estate.apply(plans, groups)
            plans = estate.read_back(groups, done)
    for line in plans.left:
        click.echo(f"still different: {line}", err=True)
    if not plans.left:
        more = ("role, " if plans.roles else "") + ("trail, " if plans.trail else "")
        click.echo(f"read back: every {more}key, replica, alias and policy is as configured")
    sys.exit(BAD_FOUND if plans.left else GOOD)


def _check_trail(settings: Settings, groups: frozenset[Group]) -> None:
    """End with exit code 2 where somebody asks for a trail by name, and nothing says where it should write."""
    if "trail" in groups and groups != frozenset(USUAL_GROUPS) and not settings.estate.trail_bucket:
        raise Stop("--steps trail: [estate] trail_bucket does not say where it should write")


AnyStep = RoleStep | TrailStep | Step

_VISIBLE_SECONDS, _LOOK_SECONDS = 30.0, 2.0
"""So long what was made may take to be seen by every question; AWS names no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plans:
    """What is to be done about the whole estate."""

    roles: tuple[RolePlan, ...]
    """Empty where nobody asked for them."""
    trail: TrailPlan | None
    """None where nobody asked for one."""
    keys: tuple[KeyPlan, ...]

    @property
    def steps(self) -> tuple[AnyStep, ...]:
        of_roles = (step for each in self.roles for step in each.steps)
        of_trail = self.trail.steps if self.trail else ()
        return (*of_roles, *of_trail, *(step for each in self.keys for step in each.steps))

    @property
    def differences(self) -> tuple[str, ...]:
        of_roles = (one for each in self.roles for one in each.differences)
        of_trail = self.trail.differences if self.trail else ()
        return (*of_roles, *of_trail, *(str(one) for each in self.keys for one in each.differences))

    @property
    def left(self) -> tuple[str, ...]:
        """What is not as it should be."""
        return (*map(str, self.steps), *self.differences)


@command.command("render")
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["cloudformation", "terraform"]),
    default="cloudformation",
    show_default=True,
    help="Templates alone, or with a configuration of Terraform's that owns their stacks.",
)
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Write estate-REGION.json there, and for Terraform main.tf.json beside them.",
)
def render_command(config_path: Path, form: str, folder: Path) -> None:
    """Write the estate as CloudFormation templates, for whoever lets a stack own it; ask nobody, change nothing.

    Besides keys, replicas, aliases and roles: a trail, tripwires that tell the critical topic of changes to keys, and
    private endpoints where a VPC is named. The stack of the primary region comes first: the others take its outputs.
    With `terraform`, a configuration that owns these stacks.

    Exit code 0: written; 2: usage or configuration.
    """
    settings = load_settings(config_path)
    documents = {cloudformation.file_name(region): one for region, one in cloudformation.templates(settings).items()}
    if form == "terraform":
        documents["main.tf.json"] = cloudformation.terraform(settings)
    policies.write_documents(folder, documents, as_text=cloudformation.text_of)


class _Estate:
    """The regions, asked and changed; errors become one line."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._clock = settings, SystemClock()
        self._wanted = desired_keys(settings)
        self._admin = KmsAdmin(settings, self._clock)
        self._roles = RoleAdmin(settings, self._clock)
        self._trails = TrailAdmin(settings, self._admin.pause)
        self._keys = ThreadPoolExecutor(len(self._wanted))
        self._regions = ThreadPoolExecutor(min(32, len(self._wanted) * len(settings.estate.regions)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._keys.shutdown()
        self._regions.shutdown()

    def plans(self, groups: frozenset[Group]) -> _Plans:
        try:
            check_account(self._settings)
            keys = make_plans(self._wanted, self._admin, self._regions, groups)
            roles = make_role_plans(self._settings, keys, self._roles, groups)
            trail = desired_trail(self._settings) if "trail" in groups else None
            return _Plans(
                roles=roles, trail=plan_trail(trail, self._trails.observe()) if trail is not None else None, keys=keys
            )
        except EstateError as e:
            raise Stop(f"{e}{_hint(e)}", COULD_NOT_TELL) from e

    def read_back(self, groups: frozenset[Group], done: frozenset[str]) -> _Plans:
        """Look at all again, for a while as long as only what was done a moment ago is not to be seen yet."""
        until = self._clock.monotonic() + _VISIBLE_SECONDS
        while True:
            plans = self.plans(groups)
            left = frozenset(map(str, plans.steps))
            if not left or not left <= done or self._clock.monotonic() >= until:
                return plans
            self._admin.pause(_LOOK_SECONDS)

    def apply(self, plans: _Plans, groups: frozenset[Group]) -> frozenset[str]:
        """Do what is to be done; return what was, in words."""
        lock, done = threading.Lock(), set[str]()

        def tell(step: AnyStep) -> None:
            with lock:
                done.add(str(step))
                click.echo(f"done: {step}")

        try:
            apply_roles(plans.roles, self._roles, BEFORE_KEYS, tell)
            if plans.trail is not None:  # before the keys, so that it has written down how they were made
                self._trails.apply(plans.trail, tell)
            apply_all(plans.keys, self._admin, self._clock, keys=self._keys, regions=self._regions, tell=tell)
            if plans.roles:  # their policies name keys that may have been made this very moment
                named = self.plans(groups).roles
                apply_roles(named, self._roles, AFTER_KEYS, tell)
        except EstateError as e:
            raise Stop(f"{e}{_hint(e)}", COULD_NOT_TELL if e.unreachable else BAD_FOUND) from e
        return frozenset(done)


def _hint(error: EstateError) -> str:
    """Return what a code means here that says little by itself."""
    if error.region == IAM and error.code in _DENIED:
        return ": who may not use IAM leaves roles out, with --steps keys,aliases,rotation,tags"
    if error.operation == "CreateTrail" and error.code in _NO_BUCKET:
        return ": is [estate] trail_bucket there, and does its policy let CloudTrail write? (docs/estate.md)"
    if error.code in _NOT_ENABLED:
        return ": is the region enabled in this account, and do the credentials hold there?"
    return ""


_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
_NO_BUCKET = frozenset({"S3BucketDoesNotExistException", "InsufficientS3BucketPolicyException"})
_NOT_ENABLED = frozenset({"UnrecognizedClientException", "InvalidClientTokenId", "OptInRequired", "AuthFailure"})


def show(plans: _Plans) -> None:
    """Print what is to be done and what differs."""
    for step in plans.steps:
        click.echo(f"+ {step}")
    for difference in plans.differences:
        click.echo(f"! {difference} (left as it is)")
    if not plans.left and not any(each.refusals for each in plans.keys):
        click.echo("nothing to do")


def refuse_if_needed(plans: _Plans) -> None:
    """End with exit code 4 if a person must decide first."""
    if refusals := [refusal for each in plans.keys for refusal in each.refusals]:
        raise Stop("refused: " + "; ".join(refusals), REFUSED)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Let this user apply to the same estate once at a time on this machine; end with exit code 4 otherwise.

    CreateKey cannot be made to succeed once. Between users or machines the alias decides, and one of them is told.
    """
    estate = (settings.estate.account_id, settings.estate.name, _where_keys_are(settings))
    name = f"kms-watchdog-provision-{os.getuid()}-{hashlib.sha256(json.dumps(estate).encode()).hexdigest()[:16]}.lock"
    try:
        handle = os.open(Path(tempfile.gettempdir()) / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise Stop(f"{name}: cannot be locked in {tempfile.gettempdir()}: {e.strerror}", USAGE) from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            said = f"somebody else is applying to {settings.estate.name}: wait until it is over"
            raise Stop(f"refused: {said}", REFUSED) from e
        yield
    finally:
        os.close(handle)


def _where_keys_are(settings: Settings) -> str:
    """Return whose KMS it is: on one machine, many a local AWS has an estate of the same account and name."""
    return aws.way_to_kms(settings, settings.estate.primary_region).url


def confirm(settings: Settings) -> None:
    """Ask for the estate's name; end with exit code 4 without it."""
    if not sys.stdin.isatty():
        raise Stop("refused: not a terminal, so nobody can confirm; --yes goes without asking", REFUSED)
    name = settings.estate.name
    if click.prompt(f"Type the name of the estate ({name}) to make these changes", default="") != name:
        raise Stop("refused: not confirmed; nothing was changed", REFUSED)
