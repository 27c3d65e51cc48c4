"""Policies in files: what `iam render` writes, what a guide shows, what the AWS CLI prints of an account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kms_watchdog.iam.documents import Document, DocumentError, KeyToCheck, RoleToCheck, ToCheck, document
from kms_watchdog.iam.role_rules import is_about_keys, is_about_kms
from kms_watchdog.json_text import read_json

_TRUST, _BOUNDARY = "trust", "boundary"
TRUST_NAME = "trust policy"


def read_files(paths: Iterable[Path]) -> ToCheck:
    """Read files, and all that end in `.json` of folders; what is no policy is told of as not read."""
    found = _Found()
    for path in paths:
        if path.is_dir():
            found.whole = True
            inside = sorted(path.glob("*.json"))
            if not inside:
                found.not_read[str(path)] = "no file here ends in .json"
            for each in inside:
                found.read(each)
        else:
            found.read(path)
    roles = (*found.roles.values(), *found.lone)
    return ToCheck(roles=roles, keys=tuple(found.keys), not_read=found.not_read, whole=found.whole)


def of_details(details: Mapping[str, Any]) -> Iterator[RoleToCheck]:
    """Return the roles of what `aws iam get-account-authorization-details` prints.

    Raises:
        DocumentError: it is not of that form; the text names the role.
    """
    managed = {}
    for policy in _objects(details, "Policies"):
        for version in _objects(policy, "PolicyVersionList"):
            if version.get("IsDefaultVersion"):
                managed[policy.get("Arn")] = version.get("Document")
    for role in _objects(details, "RoleDetailList"):
        try:
            yield _role(role, managed)
        except DocumentError as e:
            raise DocumentError(f"role {role.get('RoleName', '?')}: {e}") from e


@dataclass
class _Found:
    roles: dict[str, RoleToCheck] = field(default_factory=dict)
    lone: list[RoleToCheck] = field(default_factory=list)
    keys: list[KeyToCheck] = field(default_factory=list)
    not_read: dict[str, str] = field(default_factory=dict)
    whole: bool = False

    def read(self, path: Path) -> None:
        try:
            self._take(path, read_json(path.read_text(encoding="utf-8")))
        except OSError as e:
            self.not_read[str(path)] = f"cannot be read: {e.strerror}"
        except DocumentError as e:
            self.not_read[str(path)] = str(e)
        except ValueError as e:  # UnicodeDecodeError too
            self.not_read[str(path)] = f"not JSON: {e}"

    def _take(self, path: Path, body: Any) -> None:
        if isinstance(body, Mapping) and "RoleDetailList" in body:
            for role in of_details(body):
                if is_about_keys(role):  # an account has many others
                    self.roles[role.name] = role
            return
        self._take_document(path, document(str(path), body))

    def _take_document(self, path: Path, policy: Document) -> None:
        role, _, kind = path.stem.rpartition(".")
        if kind == _BOUNDARY:  # it grants nothing
            return
        if policy.statements[0].principals is None:
            self._add(role, RoleToCheck(name=role, policies=(replace(policy, name=kind if role else str(path)),)))
        elif any(statement.covers("sts:AssumeRole") for statement in policy.statements):
            name = TRUST_NAME if role else str(path)
            self._add(role, RoleToCheck(name=role, policies=(), trust=replace(policy, name=name)))
        elif any(is_about_kms(statement) for statement in policy.statements):
            self.keys.append(KeyToCheck(name=str(path), policy=policy))
        else:
            raise DocumentError("neither a role's policy, nor a role's trust policy, nor a key's policy")

    def _add(self, name: str, part: RoleToCheck) -> None:
        if not name:
            self.lone.append(part)
            return
        before = self.roles.get(name, RoleToCheck(name=name, policies=()))
        self.roles[name] = replace(
            before, policies=(*before.policies, *part.policies), trust=part.trust or before.trust
        )


def _role(role: Mapping[str, Any], managed: Mapping[Any, Any]) -> RoleToCheck:
    policies = [
        document(str(one.get("PolicyName")), decoded(one.get("PolicyDocument")))
        for one in _objects(role, "RolePolicyList")
    ]
    for one in _objects(role, "AttachedManagedPolicies"):
        arn = str(one.get("PolicyArn"))
        if arn not in managed:
            raise DocumentError(f"the text of {arn} is not in the file")
        policies.append(document(arn, decoded(managed[arn])))
    trust, boundary = role.get("AssumeRolePolicyDocument"), role.get("PermissionsBoundary")
    arn = str(boundary.get("PermissionsBoundaryArn", "")) if isinstance(boundary, Mapping) else ""
    return RoleToCheck(
        name=str(role.get("RoleName", "")),
        policies=tuple(policies),
        trust=document(TRUST_NAME, decoded(trust)) if trust else None,
        boundary=arn,
        boundary_body=decoded(managed[arn]) if arn in managed else None,
    )


def decoded(given: Any) -> Any:
    """Return a policy that may be percent-encoded text, as IAM's API has it, as what that decodes to.

    Raises:
        DocumentError: it is text, and no JSON.
    """
    if not isinstance(given, str):
        return given
    try:
        return read_json(unquote(given))
    except ValueError as e:
        raise DocumentError(f"a policy is not JSON: {e}") from e


def _objects(given: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = given.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise DocumentError(f"{name} must be a list of objects")
    return found
