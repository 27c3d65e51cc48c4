"""`kms-watchdog iam`: write the estate's roles and key policies, and explain what is wrong with those there are."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kms_core import SystemClock
from kms_watchdog.commands.account import check_account
from kms_watchdog.commands.options import (
    BAD_FOUND,
    COULD_NOT_TELL,
    GOOD,
    USAGE,
    Stop,
    config_option,
    load_settings,
)
from kms_watchdog.commands.policies import as_text, find_key_id, key_files, write_documents
from kms_watchdog.config import Settings
from kms_watchdog.configuring.refusal import nearest
from kms_watchdog.estate.kms_admin import KmsAdmin
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.iam.account import read_account, wanted_estate
from kms_watchdog.iam.catalogue import RULES, Finding, Severity
from kms_watchdog.iam.documents import ToCheck
from kms_watchdog.iam.estate_roles import EstateRole, account_details, estate_roles
from kms_watchdog.iam.estate_rules import check
from kms_watchdog.iam.files import read_files

SCHEMA = 1
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}")


class KeyIds(click.ParamType[tuple[str, str]]):
    """A purpose and its key's id, as PURPOSE=ID."""

    name = "PURPOSE=ID"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return both."""
        if isinstance(value, tuple):
            return value
        purpose, equals, key_id = value.partition("=")
        if not equals or not _KEY_ID.fullmatch(key_id):
            self.fail(f"{value!r} is not PURPOSE=mrk- and 32 hex digits", param, ctx)
        return purpose, key_id


roles_option = click.option("--role", "names", metavar="NAME", multiple=True, help="This role alone; may be repeated.")


@click.group(
    "iam",
    epilog="""\b
Examples:
  kms-watchdog iam render --into iam --config watchdog.toml
  kms-watchdog iam render --role KmsAuditRole --config watchdog.toml
  kms-watchdog iam check --config watchdog.toml
  kms-watchdog iam check --files iam
  kms-watchdog iam check --files account.json --json
  kms-watchdog iam rules""",
)
def command() -> None:
    """Write the policies of roles and keys; tell what is wrong with others.

    Changes nothing in the account.
    """


# -- render -------------------------------------------------------------------------------------------------------


@command.command("render")
@config_option
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write ROLE.POLICY.json and ROLE.trust.json for each role there, NAME.boundary.json for each permissions "
    "boundary, and key-PURPOSE.json for each key.",
)
@roles_option
@click.option(
    "--key",
    "given_ids",
    type=KeyIds(),
    multiple=True,
    help="The id of a purpose's key; may be repeated.  [default: as configured, else where its alias leads]",
)
def render_command(
    config_path: Path, folder: Path | None, names: tuple[str, ...], given_ids: tuple[tuple[str, str], ...]
) -> None:
    """Print or write every role of the estate, with trust, boundary and key policies; change nothing.

    Printed in the form of `aws iam get-account-authorization-details`. Policies that name keys can be written once the
    keys exist: until then the other roles are, and what is left out is told.

    Exit code 0: all is there; 1: a key is missing, so its users' policies are; 3: AWS did not tell; 4: the keys are of
    another account.
    """
    settings = load_settings(config_path)
    chosen = _chosen(settings, names)
    given = Rendering(settings=settings, key_ids=_key_ids(settings, chosen, _checked(settings, dict(given_ids))))
    ready = tuple(role for role in chosen if role.purposes <= given.key_ids.keys())
    details = account_details(given, ready)
    if folder is None:
        click.echo(as_text(details), nl=False)
    else:
        of_keys = {} if names else dict(key_files(settings))
        write_documents(folder, {**_files(details), **of_keys})
    for role in chosen:
        if role not in ready:
            missing = ", ".join(sorted(role.purposes - given.key_ids.keys()))
            click.echo(f"left out: {role.name}: its policy names the keys of {missing}, which are not there", err=True)
    sys.exit(GOOD if len(ready) == len(chosen) else BAD_FOUND)


def _chosen(settings: Settings, names: Sequence[str]) -> tuple[EstateRole, ...]:
    roles = estate_roles(settings)
    known = [role.name for role in roles]
    for name in names:
        if name not in known:
            raise Stop(f"--role {name}: the estate has no such role{nearest(name, known)}")
    return tuple(role for role in roles if not names or role.name in names)


def _checked(settings: Settings, key_ids: dict[str, str]) -> dict[str, str]:
    for purpose in key_ids:
        if purpose not in settings.keys:
            raise Stop(f"--key {purpose}: the configuration has no such purpose{nearest(purpose, settings.keys)}")
    return key_ids


def _key_ids(settings: Settings, roles: Collection[EstateRole], given: Mapping[str, str]) -> dict[str, str]:
    """Return by purpose the ids of the keys that `roles` need and that there are; AWS is asked only where it must."""
    needed = {purpose for role in roles for purpose in role.purposes}
    found = {
        purpose: given.get(purpose) or settings.keys[purpose].key_id for purpose in settings.keys if purpose in needed
    }
    if None in found.values():
        admin = KmsAdmin(settings, SystemClock())
        found = {purpose: key_id or find_key_id(admin, settings, purpose) for purpose, key_id in found.items()}
    return {purpose: key_id for purpose, key_id in found.items() if key_id}


def _files(details: Mapping[str, Any]) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for role in details["RoleDetailList"]:
        for policy in role["RolePolicyList"]:
            files[f"{role['RoleName']}.{policy['PolicyName']}.json"] = policy["PolicyDocument"]
        files[f"{role['RoleName']}.trust.json"] = role["AssumeRolePolicyDocument"]
    for managed in details["Policies"]:
        [version] = managed["PolicyVersionList"]
        files[f"{managed['PolicyName']}.boundary.json"] = version["Document"]
    return files


# -- check --------------------------------------------------------------------------------------------------------


@command.command("check")
@config_option
@click.option(
    "--files",
    "paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Files or folders instead of the account: policies, or what `aws iam get-account-authorization-details` "
    "prints. No configuration is read, and AWS is not asked.",
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@roles_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_command(
    config_path: Path, paths: tuple[Path, ...], more: tuple[Path, ...], names: tuple[str, ...], *, as_json: bool
) -> None:
    """Find what is wrong with policies, and say what it means and what to do.

    Of the estate's roles and keys in the account, which are also compared with what `iam render` writes; or of files.

    Exit code 0: nothing is wrong; 1: something is (information alone is not); 3: something could not be read; 4: the
    credentials are of another account.
    """
    if more and not paths:
        raise Stop(f"{more[0]}: files are named after --files")
    read, found = _of_files((*paths, *more), names) if paths else _of_account(load_settings(config_path), names)
    if as_json:
        click.echo(json.dumps(_to_json(read, found), indent=2))
    else:
        _show(read, found)
    for what, why in read.not_read.items():
        click.echo(f"kms-watchdog: could not be read: {what}: {' '.join(why.split())}", err=True)
    bad = any(one.rule.severity is not Severity.INFORMATION for one in found)
    sys.exit(BAD_FOUND if bad else COULD_NOT_TELL if read.not_read else GOOD)


def _of_files(paths: Sequence[Path], names: Collection[str]) -> tuple[ToCheck, tuple[Finding, ...]]:
    read = read_files(paths)
    if names:
        roles = tuple(role for role in read.roles if role.name in names)
        if missing := sorted(set(names) - {role.name for role in roles}):
            raise Stop(f"--role {missing[0]}: no such role in these files", USAGE)
        read = ToCheck(roles=roles, not_read=read.not_read)
    return read, check(read)


def _of_account(settings: Settings, names: Collection[str]) -> tuple[ToCheck, tuple[Finding, ...]]:
    chosen = _chosen(settings, tuple(names))
    check_account(settings)
    given = Rendering(settings=settings, key_ids=_key_ids(settings, estate_roles(settings), {}))
    read = read_account(settings, given.key_ids, SystemClock(), names)
    missing = {f"key {p}": f"there is no {key.alias}" for p, key in settings.keys.items() if p not in given.key_ids}
    needed = {f"key {purpose}" for role in chosen for purpose in role.purposes}
    not_read = {**read.not_read, **{name: why for name, why in missing.items() if name in needed}}
    read = ToCheck(roles=read.roles, keys=read.keys, not_read=not_read, whole=read.whole)
    return read, check(read, wanted_estate(given, names))


def _show(read: ToCheck, found: Sequence[Finding]) -> None:
    explained: set[str] = set()
    for one in sorted(found, key=lambda finding: list(Severity).index(finding.rule.severity)):
        rule = one.rule
        click.echo(
            f"{rule.severity.upper()} {rule.id} {rule.name}: {one.where}" + (f": {one.detail}" if one.detail else "")
        )
        if rule.id not in explained:
            explained.add(rule.id)
            click.echo(f"    {rule.means}\n    To do: {rule.remedy}")
    looked = f"{len(read.roles)} roles or policies and {len(read.keys)} key policies"
    click.echo(f"{len(found)} findings in {looked}" if found else f"nothing wrong in {looked}")


def _to_json(read: ToCheck, found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "roles": [role.name or next(iter(_names(role))) for role in read.roles],
        "keys": [key.name for key in read.keys],
        "not_read": dict(read.not_read),
        "findings": [
            {
                "id": one.rule.id,
                "name": one.rule.name,
                "severity": str(one.rule.severity),
                "subject": one.subject,
                "policy": one.policy,
                "statement": one.statement,
                "detail": one.detail,
                "means": one.rule.means,
                "remedy": one.rule.remedy,
            }
            for one in found
        ],
    }


def _names(role: Any) -> list[str]:
    return [policy.name for policy in (*role.policies, *([role.trust] if role.trust else []))]


# -- rules --------------------------------------------------------------------------------------------------------


@command.command("rules")
@click.option("--json", "as_json", is_flag=True, help="Print the rules as JSON.")
def rules_command(*, as_json: bool) -> None:
    """List what `iam check` finds: id, name, what it means and what to do.

    Exit code 0: listed.
    """
    if as_json:
        listed = [
            {"id": r.id, "name": r.name, "severity": str(r.severity), "means": r.means, "remedy": r.remedy}
            for r in RULES
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    for each in RULES:
        click.echo(f"{each.id} {each.name} ({each.severity})\n    {each.means}\n    To do: {each.remedy}")
