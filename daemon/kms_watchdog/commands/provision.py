"""`kms-watchdog provision`: the keys, replicas, aliases and rotation that the configuration asks for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, get_args

import click

from kms_core import SystemClock
from kms_watchdog import aws
from kms_watchdog.commands import policies
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, REFUSED, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.plan import Group, KeyPlan, Step
from kms_watchdog.estate.provision import apply_all, make_plans

ALL_GROUPS: tuple[Group, ...] = get_args(Group)


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
    default=",".join(ALL_GROUPS),
    show_default=True,
    help="What to look after, joined by commas.",
)


@click.group(
    "provision",
    epilog="""\b
Examples:
  kms-watchdog provision plan --config watchdog.toml
  kms-watchdog provision apply --yes --steps keys,aliases,rotation --config watchdog.toml
  kms-watchdog provision policies --into policies --config watchdog.toml""",
)
def command() -> None:
    """Make the keys that are asked for, and tell what policies their users need.

    Deletes nothing, ever, and never makes a second key.
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
    with _Estate(settings) as estate:
        plans = estate.plans(groups)
    show(plans)
    refuse_if_needed(plans)
    sys.exit(GOOD if not any(each.steps or each.differences for each in plans) else BAD_FOUND)


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
    with _Estate(settings) as estate:
        plans = estate.plans(groups)
        show(plans)
        refuse_if_needed(plans)
        if any(each.steps for each in plans):
            if not yes:
                confirm(settings)
            estate.apply(plans)
            plans = estate.plans(groups)
    left = [str(item) for each in plans for item in (*each.steps, *each.differences)]
    for line in left:
        click.echo(f"still different: {line}", err=True)
    if not left:
        click.echo("read back: every key, replica, alias and policy is as configured")
    sys.exit(BAD_FOUND if left else GOOD)


class _Estate:
    """The regions, asked and changed; errors become one line."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._clock = settings, SystemClock()
        self._wanted = desired_keys(settings)
        self._admin = KmsAdmin(settings, self._clock)
        self._keys = ThreadPoolExecutor(len(self._wanted))
        self._regions = ThreadPoolExecutor(min(32, len(self._wanted) * len(settings.estate.regions)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._keys.shutdown()
        self._regions.shutdown()

    def plans(self, groups: frozenset[Group]) -> tuple[KeyPlan, ...]:
        try:
            self._check_account()
            return make_plans(self._wanted, self._admin, self._regions, groups)
        except EstateError as e:
            raise Stop(str(e), COULD_NOT_TELL) from e

    def apply(self, plans: Sequence[KeyPlan]) -> None:
        lock = threading.Lock()

        def tell(step: Step) -> None:
            with lock:
                click.echo(f"done: {step}")

        try:
            apply_all(plans, self._admin, self._clock, keys=self._keys, regions=self._regions, tell=tell)
        except EstateError as e:
            raise Stop(str(e), COULD_NOT_TELL if e.unreachable else BAD_FOUND) from e

    def _check_account(self) -> None:
        """Refuse to touch another account than the configured one."""
        region = self._settings.estate.primary_region
        try:
            account_id = aws.client(self._settings, "sts", region).get_caller_identity()["Account"]
        except aws.AwsError as e:
            unreachable = aws.trouble(e) == "unreachable"
            raise EstateError(region, "GetCallerIdentity", aws.error_code(e), unreachable=unreachable) from e
        if account_id != self._settings.estate.account_id:
            raise Stop(
                f"the credentials are of account {account_id}, the configuration of {self._settings.estate.account_id}",
                REFUSED,
            )


def show(plans: Sequence[KeyPlan]) -> None:
    """Print what is to be done and what differs."""
    for each in plans:
        for step in each.steps:
            click.echo(f"+ {step}")
        for difference in each.differences:
            click.echo(f"! {difference} (left as it is)")
    if not any(each.steps or each.differences or each.refusals for each in plans):
        click.echo("nothing to do")


def refuse_if_needed(plans: Sequence[KeyPlan]) -> None:
    """End with exit code 4 if a person must decide first."""
    if refusals := [refusal for each in plans for refusal in each.refusals]:
        raise Stop("refused: " + "; ".join(refusals), REFUSED)


def confirm(settings: Settings) -> None:
    """Ask for the estate's name; end with exit code 4 without it."""
    if not sys.stdin.isatty():
        raise Stop("refused: not a terminal, so nobody can confirm; --yes goes without asking", REFUSED)
    name = settings.estate.name
    if click.prompt(f"Type the name of the estate ({name}) to make these changes", default="") != name:
        raise Stop("refused: not confirmed; nothing was changed", REFUSED)
