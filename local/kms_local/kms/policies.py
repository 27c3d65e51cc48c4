"""Key policies: one a key and region, named `default`; stored here, never synchronised."""

from __future__ import annotations

import json

from kms_local.kms.call import Call, Operation, refuse_pending_deletion
from kms_local.kms.keys import RegionalKey
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
    key: RegionalKey = call.key()
    _check_name(call)
    refuse_pending_deletion(key, call.now)
    policy = given_policy(call)
    if policy is None:
        raise invalid(None, "Policy", "Member must not be null")
    key.policy = policy
    return {}


def list_key_policies(call: Call) -> JsonObject:
    """List the names of a key's policies: always the one."""
    call.key()
    return {"PolicyNames": ["default"], "Truncated": False}


def given_policy(call: Call) -> str | None:
    """Return the request's policy text if there is one, refusing what is not a policy."""
    text = call.params.optional_text("Policy")
    if text is None:
        return None
    if len(text.encode()) > _MAX_POLICY_BYTES:
        raise ServiceError("LimitExceededException", "The policy document is too large.")
    if not _is_policy(text):
        raise ServiceError("MalformedPolicyDocumentException", "This policy contains invalid Json")
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


def _is_policy(text: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(document.get("Statement"), list | dict)


def _check_name(call: Call) -> None:
    if (call.params.optional_text("PolicyName") or "default") != "default":
        raise ServiceError("NotFoundException", "No such policy exists")


OPERATIONS: dict[str, Operation] = {
    "GetKeyPolicy": get_key_policy,
    "PutKeyPolicy": put_key_policy,
    "ListKeyPolicies": list_key_policies,
}
