"""Who may call: the administrator whose credentials every run makes up, roles handed over, and sessions of roles.

Roles come in the form of `aws iam get-account-authorization-details`, so that a real account's can be used as they are:
`RoleDetailList` with `RoleName`, `AssumeRolePolicyDocument`, `RolePolicyList`, `AttachedManagedPolicies` (looked up in
`Policies`) and `PermissionsBoundary`. Each role gets credentials, as if a task ran under it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from kms_local.wire.signature import Credentials
from kms_watchdog.estate.policy import Decision, Policy, PolicyError, Request, evaluate, parse_policy, trust_allows

ADMINISTRATOR = "kms-local"
_EVERYTHING = parse_policy({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
_NAME = re.compile(r"[\w+=,.@-]{1,64}")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")
_MAX_SESSIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a request comes from, and what its own policies say."""

    arn: str
    """What GetCallerIdentity answers: a user, or a role's session."""
    principal: str
    """The ARN of the user or role."""
    user_id: str
    policies: tuple[Policy, ...] = field(repr=False, default=())
    boundary: Policy | None = field(repr=False, default=None)

    def request(self, action: str, resource: str, context: Mapping[str, str | tuple[str, ...]]) -> Request:
        """Return what policies are asked about."""
        return Request(
            action=action,
            resource=resource,
            principal=self.principal,
            session=self.arn if self.arn != self.principal else "",
            context={"aws:PrincipalAccount": self.principal.split(":")[4], "aws:userid": self.user_id, **context},
        )

    def decide(self, request: Request, resource: Policy | None = None) -> Decision:
        """Decide a request of this identity's."""
        return evaluate(request, identity=self.policies, resource=resource, boundary=self.boundary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role; without a trust policy nobody assumes it, and only its own credentials use it."""

    name: str
    role_id: str
    policies: tuple[Policy, ...]
    boundary: Policy | None
    trust: Policy | None


class Identities:
    """The administrator, the roles and their sessions of one account, by access key."""

    def __init__(self, account_id: str, entropy: Callable[[int], bytes]) -> None:
        self.account_id = account_id
        self.roles: dict[str, Role] = {}
        self.document: Mapping[str, Any] = {"RoleDetailList": []}  # as it was handed over
        self.administrator = _credentials("AKIA", entropy)
        self._entropy = entropy
        self._role_credentials: dict[str, Credentials] = {}
        self._sessions: dict[str, tuple[Credentials, str, str]] = {}  # access key to (credentials, role, session name)

    def role_credentials(self) -> dict[str, Credentials]:
        """Return each role's own credentials, by its name."""
        return dict(self._role_credentials)

    def replace_roles(self, document: object) -> None:
        """Take the roles of `document` in place of those there were; a role that stays keeps its credentials.

        Raises:
            PolicyError: the document is not of the form, or a policy in it cannot be evaluated; nothing has changed.
        """
        document = _checked(document)
        roles = {role.name: role for role in _roles(document, self._entropy)}
        for name, role in self.roles.items():
            if name in roles:  # the same role with other policies
                roles[name] = replace(roles[name], role_id=role.role_id)
        self.document, self.roles = document, roles
        self._sessions = {key: one for key, one in self._sessions.items() if one[1] in roles}
        self._role_credentials = {
            name: self._role_credentials.get(name) or _credentials("ASIA", self._entropy, session=True)
            for name in roles
        }

    def to_document(self) -> dict[str, Any]:
        """Return what must be kept so that clients go on after a restart; sessions are not: they end by themselves."""
        return {
            "administrator": _written(self.administrator),
            "roles": self.document,
            "role_ids": {name: role.role_id for name, role in self.roles.items()},
            "role_credentials": {name: _written(one) for name, one in self._role_credentials.items()},
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take back what `to_document` gave.

        Raises:
            KeyError, TypeError, ValueError: it is not of that form.
        """
        self.administrator = Credentials(**document["administrator"])
        self.replace_roles(document["roles"])
        self.roles = {name: replace(role, role_id=document["role_ids"][name]) for name, role in self.roles.items()}
        self._role_credentials = {name: Credentials(**one) for name, one in document["role_credentials"].items()}

    def find(self, access_key_id: str) -> tuple[Credentials, Identity] | None:
        """Return whose access key this is; expired ones too, so that they can be told from unknown ones."""
        if access_key_id == self.administrator.access_key_id:
            return self.administrator, self._administrator()
        for name, credentials in self._role_credentials.items():
            if access_key_id == credentials.access_key_id:
                return credentials, self.session_of(self.roles[name], "kms-local")
        if access_key_id in self._sessions:
            credentials, role, session = self._sessions[access_key_id]
            return credentials, self.session_of(self.roles[role], session)
        return None

    def session_of(self, role: Role, session_name: str) -> Identity:
        """Return a role's session as a caller."""
        return Identity(
            arn=f"arn:aws:sts::{self.account_id}:assumed-role/{role.name}/{session_name}",
            principal=self.role_arn(role.name),
            user_id=f"{role.role_id}:{session_name}",
            policies=role.policies,
            boundary=role.boundary,
        )

    def role_arn(self, name: str) -> str:
        """Return the ARN of a role."""
        return f"arn:aws:iam::{self.account_id}:role/{name}"

    def role(self, arn: str) -> Role | None:
        """Return the role with this ARN, None if there is none."""
        account, _, name = arn.removeprefix("arn:aws:iam::").partition(":role/")
        return self.roles.get(name.rpartition("/")[2]) if account == self.account_id else None

    def may_assume(self, caller: Identity, role: Role, context: Mapping[str, str | tuple[str, ...]]) -> Decision | None:
        """Decide whether `caller` may assume `role`, with these condition keys; None if the role trusts nobody."""
        if role.trust is None:
            return None
        request = caller.request("sts:AssumeRole", self.role_arn(role.name), context)
        return trust_allows(request, role.trust, identity=caller.policies, boundary=caller.boundary)

    def open_session(self, role: Role, session_name: str, *, now: float, seconds: int) -> Credentials:
        """Return new credentials for a session of `role` that end `seconds` from `now`."""
        while len(self._sessions) >= _MAX_SESSIONS:  # the oldest: one that is over is still told from an unknown one
            del self._sessions[next(iter(self._sessions))]
        made = _credentials("ASIA", self._entropy, session=True, expires_at=now + seconds)
        self._sessions[made.access_key_id] = (made, role.name, session_name)
        return made

    def _administrator(self) -> Identity:
        arn = f"arn:aws:iam::{self.account_id}:user/{ADMINISTRATOR}"
        user_id = "AIDA" + self.administrator.access_key_id[4:]
        return Identity(arn=arn, principal=arn, user_id=user_id, policies=(_EVERYTHING,))


def is_session_name(text: str) -> bool:
    """Say whether `text` may be the name of a session."""
    return _SESSION_NAME.fullmatch(text) is not None


def _credentials(
    prefix: str, entropy: Callable[[int], bytes], *, session: bool = False, expires_at: float | None = None
) -> Credentials:
    """Return a pair in AWS's form that no other run has."""
    return Credentials(
        access_key_id=prefix + base64.b32encode(entropy(10)).decode(),
        secret_access_key=base64.b64encode(entropy(30)).decode(),
        session_token=base64.b64encode(entropy(48)).decode() if session else None,
        expires_at=expires_at,
    )


def _written(credentials: Credentials) -> dict[str, Any]:
    return {name: value for name, value in asdict(credentials).items() if value is not None}


def _checked(document: object) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or not isinstance(document.get("RoleDetailList"), list):
        raise PolicyError("roles are handed over as an object with RoleDetailList, as IAM's account details have it")
    return document


def _roles(document: Mapping[str, Any], entropy: Callable[[int], bytes]) -> Iterable[Role]:
    managed = _managed_policies(document.get("Policies", []))
    for given in document["RoleDetailList"]:
        name = given.get("RoleName") if isinstance(given, Mapping) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "default":
            raise PolicyError(f"{name!r} is not the name of a role (`default` is the administrator's profile)")
        _refuse_what_is_not_known(name, given)
        try:
            yield _role(name, given, managed, entropy)
        except PolicyError as e:
            raise PolicyError(f"role {name}: {e}") from e


def _refuse_what_is_not_known(name: str, given: Mapping[str, Any]) -> None:
    """Refuse what would be skipped in silence: other ARNs than names give, and tags that conditions may ask for."""
    if given.get("Path", "/") != "/":
        raise PolicyError(f"role {name}: paths are not served here")
    if given.get("Tags"):
        raise PolicyError(f"role {name}: tags of roles are not evaluated here")


def _role(name: str, given: Mapping[str, Any], managed: Mapping[str, Policy], entropy: Callable[[int], bytes]) -> Role:
    inline = [_document(one.get("PolicyDocument")) for one in _objects(given, "RolePolicyList")]
    attached = [_lookup(managed, one.get("PolicyArn")) for one in _objects(given, "AttachedManagedPolicies")]
    boundary = given.get("PermissionsBoundary")
    trust = given.get("AssumeRolePolicyDocument")
    return Role(
        name=name,
        role_id=given.get("RoleId") or "AROA" + base64.b32encode(entropy(10)).decode(),
        policies=(*inline, *attached),
        boundary=_lookup(managed, boundary.get("PermissionsBoundaryArn")) if isinstance(boundary, Mapping) else None,
        trust=None if trust is None else _document(trust, of_resource=True),
    )


def _managed_policies(given: object) -> dict[str, Policy]:
    if not isinstance(given, list):
        raise PolicyError("Policies must be a list")
    found: dict[str, Policy] = {}
    for policy in given:
        versions = policy.get("PolicyVersionList", []) if isinstance(policy, Mapping) else []
        default = next((one for one in versions if isinstance(one, Mapping) and one.get("IsDefaultVersion")), None)
        if default is None:
            raise PolicyError("every element of Policies needs a default version in PolicyVersionList")
        found[str(policy.get("Arn"))] = _document(default.get("Document"))
    return found


def _objects(given: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise PolicyError(f"{name} must be a list of objects")
    return value


def _lookup(managed: Mapping[str, Policy], arn: object) -> Policy:
    if not isinstance(arn, str) or arn not in managed:
        raise PolicyError(f"{arn} is not among Policies")
    return managed[str(arn)]


def _document(given: object, *, of_resource: bool = False) -> Policy:
    """Read a policy, as an object or as IAM's API gives it: JSON in percent-encoding."""
    if isinstance(given, str):
        given = unquote(given)
    if not isinstance(given, str | Mapping):
        raise PolicyError(f"a policy document is missing, or is {json.dumps(given)}")
    return parse_policy(given, of_resource=of_resource)
