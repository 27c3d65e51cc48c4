"""IAM: the roles as they were handed over or changed since, by IAM's API. Global: signed for us-east-1."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from kms_local.clock import iso_utc
from kms_local.identities import Identities
from kms_local.wire.errors import ServiceError
from kms_local.wire.query_front import Form, ListOf, Shape, XmlValue, members_of
from kms_watchdog.estate.policy import PolicyError

NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
VERSION = "2010-05-08"
SIGNING_REGION = "us-east-1"
"""For which requests are signed, wherever they arrive."""
_MAX_PAGE, _PAGE, _MAX_DIGITS = 1000, 100, 4
_NOT_FOUND, _CONFLICT = 404, 409
_MARKER = re.compile(rb"from:(\d{1,9})")
_FILTER: Mapping[str, Shape] = {"Filter": ListOf(str)}
_AWS_POLICIES = "arn:aws:iam::aws:policy/"
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
READING = ("Get", "List")
"""How operations begin that change nothing."""


def get_role(identities: Identities, form: Form) -> XmlValue:
    """Return a role with its trust policy and the ARN of its boundary."""
    return {"Role": _role(identities, _named(identities, form))}


def list_role_policies(identities: Identities, form: Form) -> XmlValue:
    """Return the names of a role's inline policies."""
    names = [str(one.get("PolicyName", "")) for one in _inline(_named(identities, form))]
    return _page(form, "PolicyNames", names)


def get_role_policy(identities: Identities, form: Form) -> XmlValue:
    """Return an inline policy of a role."""
    role, wanted = _named(identities, form), _required(form, "PolicyName")
    for one in _inline(role):
        if one.get("PolicyName") == wanted:
            document = _encoded(one.get("PolicyDocument"))
            return {"RoleName": role["RoleName"], "PolicyName": wanted, "PolicyDocument": document}
    raise _no_such_policy(wanted)


def list_attached_role_policies(identities: Identities, form: Form) -> XmlValue:
    """Return the managed policies of a role."""
    attached = _attached(_named(identities, form))
    return _page(form, "AttachedPolicies", attached)


def get_policy(identities: Identities, form: Form) -> XmlValue:
    """Return a managed policy, without its text."""
    return {"Policy": _managed(identities, _policy(identities, form))}


def get_policy_version(identities: Identities, form: Form) -> XmlValue:
    """Return the text of a managed policy in one version."""
    policy, wanted = _policy(identities, form), _required(form, "VersionId")
    for version in policy["PolicyVersionList"]:
        if _version_id(version) == wanted:
            return {"PolicyVersion": _version(version)}
    raise _no_such(f"Policy {policy['Arn']} version {wanted} does not exist or is not attachable.")


def get_account_authorization_details(identities: Identities, form: Form) -> XmlValue:
    """Return all roles and managed policies, in one page."""
    asked = set(members_of(form, _FILTER).get("Filter", []))
    roles = _roles(identities) if not asked or "Role" in asked else []
    policies = [one for one in _policies(identities) if not asked or _policy_kind(one) in asked]
    return {
        "UserDetailList": [],
        "GroupDetailList": [],
        "RoleDetailList": [_detail(identities, role) for role in roles],
        "Policies": [
            {
                **_managed(identities, one),
                "PolicyVersionList": [_version(version) for version in one["PolicyVersionList"]],
            }
            for one in policies
        ],
        "IsTruncated": "false",
    }


def put_role_policy(identities: Identities, form: Form) -> XmlValue:
    """Put an inline policy in a role, in the place of one of that name; the role's sessions live by it at once.

    AWS takes some seconds until every region knows it.
    """
    role, name = _named(identities, form), _required(form, "PolicyName")
    if not _POLICY_NAME.fullmatch(name):
        raise ServiceError("ValidationError", "The specified value for policyName is invalid.")
    others = [one for one in _inline(role) if one.get("PolicyName") != name]
    document = _json(_required(form, "PolicyDocument"))
    _replace_inline(identities, role, [*others, {"PolicyName": name, "PolicyDocument": document}])
    return {}


def delete_role_policy(identities: Identities, form: Form) -> XmlValue:
    """Take an inline policy out of a role."""
    role, name = _named(identities, form), _required(form, "PolicyName")
    others = [one for one in _inline(role) if one.get("PolicyName") != name]
    if len(others) == len(_inline(role)):
        raise _no_such_policy(name)
    _replace_inline(identities, role, others)
    return {}


def create_role(identities: Identities, form: Form) -> XmlValue:
    """Make a role with a trust policy and no other; it gets credentials, as if a task ran under it."""
    name, trust = _required(form, "RoleName"), _required(form, "AssumeRolePolicyDocument")
    if name in identities.roles:
        raise ServiceError("EntityAlreadyExists", f"Role with name {name} already exists.", status=_CONFLICT)
    if not _ROLE_NAME.fullmatch(name):
        raise ServiceError("ValidationError", "The specified value for roleName is invalid.")
    if (path := form.optional("Path") or "/") != "/" or form.optional("Tags.member.1.Key"):
        raise ServiceError("ValidationError", f"no tags of roles and no path but / are served here: {path}")
    made: dict[str, Any] = {"RoleName": name, "AssumeRolePolicyDocument": _json(trust)}
    if boundary := form.optional("PermissionsBoundary"):
        _policy(identities, form, "PermissionsBoundary")
        made["PermissionsBoundary"] = {"PermissionsBoundaryArn": boundary}
    _replace_all(identities, [*_roles(identities), made])
    return {"Role": _role(identities, made)}


def put_role_permissions_boundary(identities: Identities, form: Form) -> XmlValue:
    """Let a role do at most what a managed policy says."""
    role = _named(identities, form)
    _policy(identities, form, "PermissionsBoundary")
    boundary = {"PermissionsBoundaryArn": form.optional("PermissionsBoundary")}
    changed = {**role, "PermissionsBoundary": boundary}
    _replace_all(identities, [changed if one is role else one for one in _roles(identities)])
    return {}


def create_policy(identities: Identities, form: Form) -> XmlValue:
    """Make a managed policy, in its first version."""
    name, document = _required(form, "PolicyName"), _json(_required(form, "PolicyDocument"))
    if not _POLICY_NAME.fullmatch(name) or (form.optional("Path") or "/") != "/":
        raise ServiceError("ValidationError", "The specified value for policyName or path is invalid.")
    arn = f"arn:aws:iam::{identities.account_id}:policy/{name}"
    if any(one["Arn"] == arn for one in _policies(identities)):
        message = f"A policy called {name} already exists. Duplicate names are not allowed."
        raise ServiceError("EntityAlreadyExists", message, status=_CONFLICT)
    version = {"VersionId": "v1", "IsDefaultVersion": True, "Document": document}
    made = {"PolicyName": name, "Arn": arn, "PolicyVersionList": [version]}
    _replace(identities, {"Policies": [*_policies(identities), made]})
    return {"Policy": _managed(identities, made)}


def update_assume_role_policy(identities: Identities, form: Form) -> XmlValue:
    """Let others assume a role than before."""
    role = _named(identities, form)
    changed = {**role, "AssumeRolePolicyDocument": _json(_required(form, "PolicyDocument"))}
    _replace_all(identities, [changed if one is role else one for one in _roles(identities)])
    return {}


Operation = Callable[[Identities, Form], XmlValue]

OPERATIONS: Mapping[str, Operation] = {
    "GetRole": get_role,
    "ListRolePolicies": list_role_policies,
    "GetRolePolicy": get_role_policy,
    "ListAttachedRolePolicies": list_attached_role_policies,
    "GetPolicy": get_policy,
    "GetPolicyVersion": get_policy_version,
    "GetAccountAuthorizationDetails": get_account_authorization_details,
    "CreateRole": create_role,
    "CreatePolicy": create_policy,
    "PutRolePermissionsBoundary": put_role_permissions_boundary,
    "UpdateAssumeRolePolicy": update_assume_role_policy,
    "PutRolePolicy": put_role_policy,
    "DeleteRolePolicy": delete_role_policy,
}


def resource(identities: Identities, form: Form) -> str:
    """Return the ARN that policies are asked about."""
    if role := form.optional("RoleName"):
        return identities.role_arn(role)
    return form.optional("PolicyArn") or "*"


# -- what was handed over -----------------------------------------------------------------------------------------


def _roles(identities: Identities) -> list[Mapping[str, Any]]:
    return list(identities.document["RoleDetailList"])


def _policies(identities: Identities) -> list[Mapping[str, Any]]:
    return list(identities.document.get("Policies", []))


def _named(identities: Identities, form: Form) -> Mapping[str, Any]:
    name = _required(form, "RoleName")
    for role in _roles(identities):
        if role["RoleName"] == name:
            return role
    raise _no_such(f"The role with name {name} cannot be found.")


def _policy(identities: Identities, form: Form, member: str = "PolicyArn") -> Mapping[str, Any]:
    arn = _required(form, member)
    for policy in _policies(identities):
        if policy["Arn"] == arn:
            return policy
    raise _no_such(f"Policy {arn} was not found.")


def _inline(role: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(role.get("RolePolicyList", []))


def _replace_inline(identities: Identities, role: Mapping[str, Any], policies: Sequence[Mapping[str, Any]]) -> None:
    changed = {**role, "RolePolicyList": list(policies)}
    _replace_all(identities, [changed if one is role else one for one in _roles(identities)])


def _replace_all(identities: Identities, roles: Sequence[Mapping[str, Any]]) -> None:
    _replace(identities, {"RoleDetailList": list(roles)})


def _replace(identities: Identities, members: Mapping[str, Any]) -> None:
    try:
        identities.replace_roles({**identities.document, **members})
    except PolicyError as e:
        raise ServiceError("MalformedPolicyDocument", str(e)) from e


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise ServiceError("MalformedPolicyDocument", str(e)) from e


def _attached(role: Mapping[str, Any]) -> list[XmlValue]:
    return [
        {"PolicyName": one.get("PolicyName") or _name(str(one["PolicyArn"])), "PolicyArn": one["PolicyArn"]}
        for one in role.get("AttachedManagedPolicies", [])
    ]


def _required(form: Form, name: str) -> str:
    value = form.optional(name)
    if not value:
        member = name[0].lower() + name[1:]
        message = f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
        raise ServiceError("ValidationError", f"1 validation error detected: {message}")
    return value


def _no_such_policy(name: str) -> ServiceError:
    return _no_such(f"The role policy with name {name} cannot be found.")


def _no_such(message: str) -> ServiceError:
    return ServiceError("NoSuchEntity", message, status=_NOT_FOUND)


# -- answers ------------------------------------------------------------------------------------------------------


def _role(identities: Identities, role: Mapping[str, Any]) -> dict[str, XmlValue]:
    boundary = role.get("PermissionsBoundary")
    trust = role.get("AssumeRolePolicyDocument")
    return {
        "Path": "/",
        "RoleName": role["RoleName"],
        "RoleId": identities.roles[role["RoleName"]].role_id,
        "Arn": identities.role_arn(role["RoleName"]),
        "CreateDate": _date(role),
        "AssumeRolePolicyDocument": None if trust is None else _encoded(trust),
        "MaxSessionDuration": str(role.get("MaxSessionDuration", 3600)),
        "PermissionsBoundary": None
        if not isinstance(boundary, Mapping)
        else {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary["PermissionsBoundaryArn"]},
    }


def _detail(identities: Identities, role: Mapping[str, Any]) -> XmlValue:
    shown = _role(identities, role)
    del shown["MaxSessionDuration"]
    inline: list[XmlValue] = [
        {"PolicyName": one.get("PolicyName", ""), "PolicyDocument": _encoded(one.get("PolicyDocument"))}
        for one in _inline(role)
    ]
    return {**shown, "InstanceProfileList": [], "RolePolicyList": inline, "AttachedManagedPolicies": _attached(role)}


def _managed(identities: Identities, policy: Mapping[str, Any]) -> dict[str, XmlValue]:
    arn = str(policy["Arn"])
    attached = sum(
        arn == one.get("PolicyArn") for role in _roles(identities) for one in role.get("AttachedManagedPolicies", [])
    )
    default = next(one for one in policy["PolicyVersionList"] if one.get("IsDefaultVersion"))
    return {
        "PolicyName": policy.get("PolicyName") or _name(arn),
        "PolicyId": policy.get("PolicyId") or "ANPA" + base64.b32encode(_name(arn).encode())[:16].decode().strip("="),
        "Arn": arn,
        "Path": policy.get("Path", "/"),
        "DefaultVersionId": _version_id(default),
        "AttachmentCount": str(attached),
        "IsAttachable": "true",
        "CreateDate": _date(policy),
        "UpdateDate": _date(policy),
    }


def _version(version: Mapping[str, Any]) -> XmlValue:
    return {
        "Document": _encoded(version.get("Document")),
        "VersionId": _version_id(version),
        "IsDefaultVersion": str(bool(version.get("IsDefaultVersion"))).lower(),
        "CreateDate": _date(version),
    }


def _version_id(version: Mapping[str, Any]) -> str:
    return str(version.get("VersionId", "v1"))


def _policy_kind(policy: Mapping[str, Any]) -> str:
    return "AWSManagedPolicy" if str(policy["Arn"]).startswith(_AWS_POLICIES) else "LocalManagedPolicy"


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _date(given: Mapping[str, Any]) -> str:
    """Return when it was made, if whoever handed it over said so."""
    return str(given.get("CreateDate") or iso_utc(0.0))


def _encoded(document: Any) -> str:
    """Return a policy as IAM answers with it: JSON, percent-encoded as RFC 3986 has it."""
    return quote(unquote(document) if isinstance(document, str) else json.dumps(document), safe="")


def _page(form: Form, name: str, items: Sequence[XmlValue]) -> XmlValue:
    size = form.optional("MaxItems") or str(_PAGE)
    if not (size.isascii() and size.isdecimal() and len(size) <= _MAX_DIGITS and 1 <= int(size) <= _MAX_PAGE):
        message = f"Value '{size}' at 'maxItems' failed to satisfy constraint: Member must be between 1 and {_MAX_PAGE}"
        raise ServiceError("ValidationError", f"1 validation error detected: {message}")
    start = _start(form.optional("Marker"))
    end = start + int(size)
    more = end < len(items)
    marker = base64.b64encode(f"from:{end}".encode()).decode() if more else None
    return {name: list(items[start:end]), "IsTruncated": str(more).lower(), "Marker": marker}


def _start(marker: str | None) -> int:
    if marker is None:
        return 0
    try:
        match = _MARKER.fullmatch(base64.b64decode(marker, validate=True))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise ServiceError("ValidationError", "Invalid Marker")
    return int(match[1])
