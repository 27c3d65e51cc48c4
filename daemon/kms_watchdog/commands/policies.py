"""`kms-watchdog provision policies`: what roles and keys are to be given, as AWS takes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from kms_core import SystemClock
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
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.role_policies import Rendering, account_details


@click.command(
    "policies",
    epilog="""\b
Examples:
  kms-watchdog provision policies --config watchdog.toml
  kms-watchdog provision policies --into policies --config watchdog.toml
  aws iam create-role --role-name KmsWatchdogRole \\
    --assume-role-policy-document file://policies/KmsWatchdogRole.trust.json
  aws iam put-role-policy --role-name KmsWatchdogRole --policy-name KmsWatchdogEstate \\
    --policy-document file://policies/KmsWatchdogRole.policy.json""",
)
@config_option
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write ROLE.policy.json and ROLE.trust.json for each role there, and key-PURPOSE.json for each key.",
)
def command(config_path: Path, folder: Path | None) -> None:
    """Print the roles' policies; change nothing.

    In the form of `aws iam get-account-authorization-details`. The keys must exist, since policies name them by their
    ARNs. ECS tasks are trusted; where something else takes the roles on, write trust policies of your own.

    Exit code 0: printed; 1: a key is missing; 3: AWS did not tell; 4: the keys are of another account.
    """
    settings = load_settings(config_path)
    details = account_details(Rendering(settings=settings, key_ids=_key_ids(settings)))
    if folder is None:
        click.echo(as_text(details), nl=False)
    else:
        write_documents(folder, {**dict(_role_files(details)), **dict(key_files(settings))})
    sys.exit(GOOD)


def _key_ids(settings: Settings) -> Mapping[str, str]:
    """Return by purpose the key's id: as configured, else where its alias leads in the primary region."""
    admin = KmsAdmin(settings, SystemClock())
    return {purpose: key.key_id or _known(admin, settings, purpose) for purpose, key in settings.keys.items()}


def _known(admin: KmsAdmin, settings: Settings, purpose: str) -> str:
    key_id = find_key_id(admin, settings, purpose)
    if key_id is None:
        alias, primary = settings.keys[purpose].alias, settings.estate.primary_region
        raise Stop(f"{purpose}: no {alias} in {primary}: `kms-watchdog provision apply` makes it", BAD_FOUND)
    return key_id


def find_key_id(admin: KmsAdmin, settings: Settings, purpose: str) -> str | None:
    """Return the id of the key where the alias of `purpose` leads in the primary region, None if there is none.

    Raises:
        Stop: AWS did not tell, or it is a key of another account.
    """
    alias, primary = settings.keys[purpose].alias, settings.estate.primary_region
    try:
        key = admin.describe(primary, alias)
    except EstateError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    if key is None:
        return None
    if (account_id := key.arn.split(":")[4]) != settings.estate.account_id:
        raise Stop(f"{alias} is of account {account_id}, the configuration of {settings.estate.account_id}", REFUSED)
    return key.key_id


def _role_files(details: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for role in details["RoleDetailList"]:
        [policy] = role["RolePolicyList"]
        yield f"{role['RoleName']}.policy.json", policy["PolicyDocument"]
        yield f"{role['RoleName']}.trust.json", role["AssumeRolePolicyDocument"]


def key_files(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Return each key's policy, and the name of its file."""
    for key in desired_keys(settings):
        yield f"key-{key.purpose}.json", key.policy


def as_text(document: Any) -> str:
    """Return a document as it is printed and written."""
    return json.dumps(document, indent=2) + "\n"


def write_documents(
    folder: Path, documents: Mapping[str, Any], as_text: Callable[[Mapping[str, Any]], str] = as_text
) -> None:
    """Write each document into its file, and print where.

    Raises:
        Stop: a file cannot be written.
    """
    for name, document in documents.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(as_text(document), encoding="utf-8")
        except OSError as e:
            raise Stop(f"{path}: cannot be written: {e.strerror}", USAGE) from e
        click.echo(path)
