"""Key policies: one a key and region, named `default`; stored here, never synchronised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from kms_local.kms.call import Call, Operation
from kms_local.kms.keys import RegionalKey
from kms_local.kms.paging import page
from kms_local.wire.errors import ServiceError, invalid
from kms_local.wire.params import JsonObject

_MAX_POLICY_BYTES = 32_768


def get_key_policy(call: Call) -> JsonObject:
    """Return a key's policy in this region."""
    key = call.key()
    _check_name(call)
    return {"Policy": key.policy, "PolicyName": "default"}


def put_key_policy(call: Call) -> JsonObject:
    """Replace a key's policy in this region."""
    key: RegionalKey = call.key()  # in whatever state: a policy can always be changed
    _check_name(call)
    policy = given_policy(call)
    if policy is None:
        raise invalid(None, "Policy", "Member must not be null")
    key.policy = policy
    return {}


def list_key_policies(call: Call) -> JsonObject:
    """List the names of a key's policies: always the one."""
    call.key()
    names = page(call.params, "PolicyNames", [{"name": "default"}], default=100, high=1000)
    return {**names, "PolicyNames": [one["name"] for one in names["PolicyNames"]]}


def given_policy(call: Call) -> str | None:
    """Return the request's policy text if there is one, refusing what is not a policy."""
    text = call.params.optional_text("Policy")
    if text is None:
        return None
    if len(text.encode()) > _MAX_POLICY_BYTES:
        raise ServiceError("LimitExceededException", "The policy document is too large.")
    statements = _statements(text)
    if statements is None:
        raise ServiceError("MalformedPolicyDocumentException", "This policy contains invalid Json")
    if not call.params.flag("BypassPolicyLockoutSafetyCheck") and not any(map(_may_keep_a_door_open, statements)):
        raise ServiceError(
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )
    return text


def default_policy(account_id: str) -> str:
    """Return the policy of a key that was made without one: the account's IAM policies decide."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    document = {"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]}
    return json.dumps(document, indent=2, separators=(",", " : "))


def _statements(text: str) -> list[Mapping[str, Any]] | None:
    """Return a policy's statements, None if the text is no policy."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # nested too deeply is no policy either
        return None
    given = document.get("Statement") if isinstance(document, dict) else None
    statements = [given] if isinstance(given, dict) else given
    if not isinstance(statements, list) or not all(_is_statement(one) for one in statements):
        return None
    return statements


def _is_statement(given: object) -> bool:
    return (
        isinstance(given, dict)
        and given.get("Effect") in ("Allow", "Deny")  # no set: it may be a list
        and ("Principal" in given or "NotPrincipal" in given)
        and isinstance(given.get("Action", given.get("NotAction")), str | list)
    )


def _may_keep_a_door_open(statement: Mapping[str, Any]) -> bool:
    """Say whether a statement allows somebody to change the policy; whether it is the caller, its reader decides."""
    if statement["Effect"] != "Allow":
        return False
    actions = statement.get("Action", "*")  # NotAction: it depends on what is taken out
    patterns = [actions] if isinstance(actions, str) else actions
    # a policy knows * and ? alone, and not the character sets of file names
    return any(fnmatchcase("kms:putkeypolicy", str(pattern).lower().replace("[", "[[]")) for pattern in patterns)


def _check_name(call: Call) -> None:
    if (call.params.optional_text("PolicyName") or "default") != "default":
        raise ServiceError("NotFoundException", "No such policy exists")


OPERATIONS: dict[str, Operation] = {
    "GetKeyPolicy": get_key_policy,
    "PutKeyPolicy": put_key_policy,
    "ListKeyPolicies": list_key_policies,
}
