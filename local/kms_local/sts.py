"""STS in one region: who the caller is, and sessions of roles. AssumeRole asks the role's trust policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kms_local.clock import iso_utc
from kms_local.gate import Gate, refusal
from kms_local.identities import Identity, Role, is_session_name
from kms_local.wire.errors import ServiceError
from kms_local.wire.query_front import Form, XmlValue

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_MAX_DIGITS = 5
_SHORTEST_SECONDS, _LONGEST_SECONDS, _DEFAULT_SECONDS = 900, 43_200, 3600


def get_caller_identity(gate: Gate, caller: Identity, form: Form) -> XmlValue:
    """Say who is asking; no policy can forbid it."""
    del form
    return {"Arn": caller.arn, "UserId": caller.user_id, "Account": gate.account_id}


def assume_role(gate: Gate, caller: Identity, form: Form) -> XmlValue:
    """Return credentials for a session of a role, if its trust policy lets the caller, as AWS decides it."""
    arn, session_name = form.text("RoleArn"), form.text("RoleSessionName")
    if not is_session_name(session_name):
        constraint = r"Member must satisfy regular expression pattern: [\w+=,.@-]*"
        message = f"Value '{session_name}' at 'roleSessionName' failed to satisfy constraint: {constraint}"
        raise ServiceError("ValidationError", f"1 validation error detected: {message}")
    for name in form.fields:
        if name == "Policy" or name.startswith("PolicyArns."):  # a session must not be stronger than was asked for
            raise ServiceError("ValidationError", "Session policies are not served here")
    context: dict[str, str | tuple[str, ...]] = {**gate.surroundings(), "sts:RoleSessionName": session_name}
    if external_id := form.optional("ExternalId"):
        context["sts:ExternalId"] = external_id
    role = _assumable(gate, caller, arn, context)
    made = gate.identities.open_session(role, session_name, now=gate.now(), seconds=_seconds(form))
    session = gate.identities.session_of(role, session_name)
    return {
        "Credentials": {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": iso_utc(made.expires_at or 0.0),
        },
        "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
    }


def _assumable(gate: Gate, caller: Identity, arn: str, context: Mapping[str, str | tuple[str, ...]]) -> Role:
    role = gate.identities.role(arn)
    decision = None if role is None else gate.identities.may_assume(caller, role, context)
    if role is None or decision is None or not decision.allowed:
        # An unknown role is denied in the same words: strangers do not learn which roles there are.
        message = f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        if decision is not None:
            message = refusal(caller, "sts:AssumeRole", arn, decision)
        raise ServiceError("AccessDenied", message, status=403)
    return role


def _seconds(form: Form) -> int:
    text = form.optional("DurationSeconds")
    if text is None:
        return _DEFAULT_SECONDS
    if len(text) > _MAX_DIGITS or not text.isdecimal() or not _SHORTEST_SECONDS <= int(text) <= _LONGEST_SECONDS:
        limits = f"{_SHORTEST_SECONDS} to {_LONGEST_SECONDS}"
        raise ServiceError("ValidationError", f"1 validation error detected: 'durationSeconds' must be {limits}")
    return int(text)


OPERATIONS: dict[str, Callable[[Gate, Identity, Form], XmlValue]] = {
    "GetCallerIdentity": get_caller_identity,
    "AssumeRole": assume_role,
}
