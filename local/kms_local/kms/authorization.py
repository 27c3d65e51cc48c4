"""Who may do what: key policies, grants and the caller's own policies, asked before an operation.

Sources: AWS KMS Developer Guide, "AWS KMS permissions" (which actions on which resources each operation needs),
"Condition keys for AWS KMS", "Grants in AWS KMS" and "Key access troubleshooting".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from kms_local.gate import Gate, refusal
from kms_local.identities import Identity
from kms_local.kms.call import Call
from kms_local.kms.ciphertext import parse
from kms_local.kms.grants import asked_grant, granted
from kms_local.kms.keys import Grant, RegionalKey
from kms_local.kms.shapes import known_members
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params
from kms_watchdog.estate.policy import Outcome, Policy, PolicyError, parse_policy

_Context = dict[str, str | tuple[str, ...]]
_CRYPTOGRAPHIC = frozenset({"Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"})
_WITH_AN_ALGORITHM = _CRYPTOGRAPHIC | {"ReEncryptFrom", "ReEncryptTo"}
_WITHOUT_A_KEY = frozenset({"ListKeys", "ListAliases", "ListRetirableGrants", "GenerateRandom", "CreateKey"})
_TAKES_ALIASES = _CRYPTOGRAPHIC | {"DescribeKey"}
_WITH_A_POLICY = frozenset({"CreateKey", "PutKeyPolicy", "ReplicateKey"})
_SPEC = {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT", "kms:KeyOrigin": "AWS_KMS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """One permission that an operation needs."""

    action: str
    resource: str
    key: RegionalKey | None  # whose policy counts as well
    context: _Context
    by_grant: Callable[[Identity], bool] = lambda _: False  # whether a grant gives what no policy gives


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """Decides for one region."""

    gate: Gate

    def check(self, caller: Identity, operation: str, call: Call) -> None:
        """Let an operation begin, or refuse it.

        Raises:
            ServiceError: AccessDeniedException; MalformedPolicyDocumentException for a key policy that would lock its
                author out, whether or not policies are enforced.
        """
        if self.gate.enforce_policies:
            asked = replace(call, params=Params(known_members(operation, call.params.as_dict())))
            for need in self._needs(operation, asked):
                self._decide(caller, need)
        if operation in _WITH_A_POLICY and call.params.given("Policy"):
            self._refuse_lockout(caller, operation, call)

    def _decide(self, caller: Identity, need: _Need) -> None:
        request = caller.request(need.action, need.resource, need.context)
        decision = caller.decide(request, None if need.key is None else _policy_of(need.key))
        if decision.allowed:
            return
        if decision.outcome is Outcome.EXPLICIT_DENY or not need.by_grant(caller):
            raise ServiceError("AccessDeniedException", refusal(caller, need.action, need.resource, decision))

    # -- what an operation needs --------------------------------------------------------------------------------

    def _needs(self, operation: str, call: Call) -> Iterator[_Need]:
        match operation:
            case "CreateKey":
                yield from self._creation(call)
            case "ReEncrypt":
                yield self._on_key("kms:ReEncryptFrom", call, _sealing_key(call, "SourceKeyId"), "Source")
                yield self._on_key("kms:ReEncryptTo", call, _named(call, "DestinationKeyId"), "Destination")
            case "CreateAlias" | "UpdateAlias" | "DeleteAlias":
                yield from self._alias(operation, call)
            case "ReplicateKey":
                primary = _named(call, "KeyId")
                yield self._on_key("kms:ReplicateKey", call, primary)
                yield from self._replication(call, primary)
            case "UpdatePrimaryRegion":
                yield from self._promotion(call)
            case "RetireGrant":
                yield from self._retirement(call)
            case _ if operation in _WITHOUT_A_KEY:
                yield self._without_key(f"kms:{operation}", call)
            case "Decrypt":
                yield self._on_key("kms:Decrypt", call, _sealing_key(call, "KeyId"))
            case _:
                key = _named(call, "KeyId", aliases=operation in _TAKES_ALIASES)
                yield self._on_key(f"kms:{operation}", call, key)

    def _creation(self, call: Call) -> Iterator[_Need]:
        multi_region = call.params.raw("MultiRegion") is True
        kind: _Context = {"kms:MultiRegionKeyType": "PRIMARY"} if multi_region else {}
        asked: _Context = {**_SPEC, "kms:MultiRegion": _text(multi_region), **kind}
        yield self._without_key("kms:CreateKey", call, asked)
        if call.params.given("Tags"):
            yield self._without_key("kms:TagResource", call, asked, resource=_beginning_of_arn(call))

    def _alias(self, operation: str, call: Call) -> Iterator[_Need]:
        name = call.params.raw("AliasName")
        action = f"kms:{operation}"
        yield self._without_key(action, call, resource=call.arn(name if isinstance(name, str) else "alias/"))
        existing = call.region.aliases.get(name) if isinstance(name, str) else None
        if operation != "CreateAlias" and existing is not None:
            yield self._on_key(action, call, call.region.keys.get(existing.key_id))
        if operation != "DeleteAlias":
            yield self._on_key(action, call, _named(call, "TargetKeyId"))

    def _replication(self, call: Call, primary: RegionalKey | None) -> Iterator[_Need]:
        if primary is None:
            return
        resource, about = self._replica(call, primary)
        yield self._without_key("kms:CreateKey", call, about)
        if call.params.given("Tags"):
            yield self._without_key("kms:TagResource", call, about, resource=resource)

    def _replica(self, call: Call, primary: RegionalKey) -> tuple[str, _Context]:
        """Return the ARN and the condition keys that the replica will have which ReplicateKey asks for."""
        region = str(call.params.raw("ReplicaRegion"))
        about: _Context = {
            **_SPEC,
            "kms:MultiRegion": "true",
            "kms:MultiRegionKeyType": "REPLICA",
            "aws:RequestedRegion": region,
        }
        return call.estate.arn(region, f"key/{primary.family.key_id}"), about

    def _promotion(self, call: Call) -> Iterator[_Need]:
        primary = _named(call, "KeyId")
        yield self._on_key("kms:UpdatePrimaryRegion", call, primary)
        region = call.estate.regions.get(str(call.params.raw("PrimaryRegion")))
        replica = region.keys.get(primary.family.key_id) if region and primary else None
        if replica is not None:
            yield self._on_key("kms:UpdatePrimaryRegion", call, replica)

    def _retirement(self, call: Call) -> Iterator[_Need]:
        try:
            key, grant = granted(call)
        except ServiceError:  # the operation itself says what is wrong with it
            return
        need = self._on_key("kms:RetireGrant", call, key)
        yield replace(need, by_grant=lambda caller: _may_retire(caller, grant))

    def _without_key(self, action: str, call: Call, more: _Context | None = None, resource: str = "*") -> _Need:
        context = {**self._surroundings(), **_asked(call), **(more or {})}
        return _Need(action=action, resource=resource, key=None, context=context)

    def _on_key(self, action: str, call: Call, key: RegionalKey | None, side: str = "") -> _Need:
        context = {**self._surroundings(), **_asked(call, side)}
        if action.removeprefix("kms:") in _WITH_AN_ALGORITHM:
            context["kms:EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT"
        if key is None:  # there is none: whoever may not ask is denied, and the others learn it from the operation
            return _Need(action=action, resource=_given_arn(call), key=None, context=context)
        return _Need(
            action=action,
            resource=key.arn,
            key=key,
            context={**context, **_about(call, key)},
            by_grant=lambda caller: _grants_permit(caller, call, action, key, side),
        )

    def _surroundings(self) -> _Context:
        return {**self.gate.surroundings(), "kms:CallerAccount": self.gate.account_id}

    # -- the lockout check --------------------------------------------------------------------------------------

    def _refuse_lockout(self, caller: Identity, operation: str, call: Call) -> None:
        """Refuse a key policy under which the caller could not change it any more, unless told not to look."""
        text = call.params.raw("Policy")
        if call.params.raw("BypassPolicyLockoutSafetyCheck") is True or not isinstance(text, str):
            return
        try:
            policy = parse_policy(text, of_resource=True)
        except PolicyError as e:
            if not self.gate.enforce_policies:
                return
            raise ServiceError("MalformedPolicyDocumentException", f"The policy cannot be evaluated here: {e}") from e
        key = None if operation == "CreateKey" else _named(call, "KeyId", aliases=False)
        resource, about = _beginning_of_arn(call), dict[str, str | tuple[str, ...]](_SPEC)
        if key is not None:
            resource, about = key.arn, _about(call, key)
        if key is not None and operation == "ReplicateKey":
            resource, about = self._replica(call, key)
        request = caller.request("kms:PutKeyPolicy", resource, {**self._surroundings(), **about})
        if not caller.decide(request, policy).allowed:
            raise ServiceError(
                "MalformedPolicyDocumentException",
                "The new key policy will not allow you to update the key policy in the future.",
            )


def _beginning_of_arn(call: Call) -> str:
    """Return how the ARN of the key begins that CreateKey is to make: it has none yet."""
    return call.arn("key/mrk-" if call.params.raw("MultiRegion") is True else "key/")


def _policy_of(key: RegionalKey) -> Policy:
    """Return a key's policy; one that was taken in while nothing was enforced may be beyond the evaluator."""
    try:
        return _parsed(key.policy)
    except PolicyError as e:
        message = f"The policy of {key.arn} cannot be evaluated here: {e}"
        raise ServiceError("MalformedPolicyDocumentException", message) from e


@lru_cache(maxsize=256)  # a policy a key and region, asked on every call
def _parsed(text: str) -> Policy:
    return parse_policy(text, of_resource=True)


def _named(call: Call, member: str, *, aliases: bool = True) -> RegionalKey | None:
    """Return the key that a member names, None if there is none: the operation itself says what is wrong with it."""
    try:
        return call.key(member, aliases=aliases)
    except ServiceError:
        return None


def _sealing_key(call: Call, member: str) -> RegionalKey | None:
    """Return the key that a Decrypt would use: the one that is named, or else the one that the ciphertext names."""
    if call.params.given(member):
        return _named(call, member)
    blob = call.params.raw("CiphertextBlob")
    try:
        return call.region.keys.get(parse(base64.b64decode(blob if isinstance(blob, str) else "")).key_id)
    except (ServiceError, binascii.Error):
        return None


def _given_arn(call: Call) -> str:
    given = call.params.raw("KeyId")
    if not isinstance(given, str):
        return call.arn("key/")
    return given if given.startswith("arn:") else call.arn(given if "/" in given else f"key/{given}")


# -- condition keys -----------------------------------------------------------------------------------------------


def _asked(call: Call, side: str = "") -> _Context:
    """Return the condition keys that the request's own members give."""
    params = call.params
    context: _Context = {}
    for member, key in _MEMBERS.items():
        value = params.raw(member)
        if isinstance(value, str | int):
            context[key] = _text(value)
    encryption = params.raw(f"{side}EncryptionContext")
    if isinstance(encryption, Mapping) and encryption:
        context["kms:EncryptionContextKeys"] = tuple(encryption)
        context |= {f"kms:EncryptionContext:{name}": str(value) for name, value in encryption.items()}
    context |= _tags(params.raw("Tags"))
    operations = params.raw("Operations")
    if isinstance(operations, list):  # CreateGrant
        context["kms:GrantOperations"] = tuple(map(str, operations))
        context["kms:GrantIsForAWSResource"] = "false"
        constraints = params.raw("Constraints")
        if isinstance(constraints, Mapping) and constraints:
            context["kms:GrantConstraintType"] = str(next(iter(constraints)))
    name = _alias_name(params.raw(f"{side}KeyId"))
    return {**context, "kms:RequestAlias": name} if name else context


_MEMBERS = {
    "ReplicaRegion": "kms:ReplicaRegion",
    "PrimaryRegion": "kms:PrimaryRegion",
    "GranteePrincipal": "kms:GranteePrincipal",
    "RetiringPrincipal": "kms:RetiringPrincipal",
    "BypassPolicyLockoutSafetyCheck": "kms:BypassPolicyLockoutSafetyCheck",
    "PendingWindowInDays": "kms:ScheduleKeyDeletionPendingWindowInDays",
    "RotationPeriodInDays": "kms:RotationPeriodInDays",
}


def _tags(given: object) -> _Context:
    if not isinstance(given, list):
        return {}
    pairs = {str(tag.get("TagKey")): str(tag.get("TagValue")) for tag in given if isinstance(tag, Mapping)}
    return {"aws:TagKeys": tuple(pairs), **{f"aws:RequestTag/{name}": value for name, value in pairs.items()}}


def _about(call: Call, key: RegionalKey) -> _Context:
    """Return the condition keys that a key itself gives."""
    aliases = tuple(alias.name for alias in call.region.aliases.values() if alias.key_id == key.family.key_id)
    context: _Context = {
        **_SPEC,
        "kms:MultiRegion": _text(key.family.multi_region),
        **{f"aws:ResourceTag/{name}": value for name, value in key.tags.items()},
    }
    if key.family.multi_region:
        context["kms:MultiRegionKeyType"] = "PRIMARY" if key.primary else "REPLICA"
    return {**context, "kms:ResourceAliases": aliases} if aliases else context


def _alias_name(given: object) -> str | None:
    if not isinstance(given, str):
        return None
    name = given.partition(":alias/")[2] if given.startswith("arn:") else given.removeprefix("alias/")
    return f"alias/{name}" if name and "alias/" in given else None


def _text(value: bool | str | int) -> str:  # noqa: FBT001  one of three kinds of value
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- grants -------------------------------------------------------------------------------------------------------


def _grants_permit(caller: Identity, call: Call, action: str, key: RegionalKey, side: str) -> bool:
    """Say whether a grant on `key` lets `caller` do what `call` asks for."""
    operation, given = action.removeprefix("kms:"), call.params.raw(f"{side}EncryptionContext")
    context = given if isinstance(given, Mapping) else {}
    held = [grant for grant in key.grants.values() if grant.grantee in {caller.principal, caller.arn}]
    if operation == "CreateGrant":
        wanted = asked_grant(call)
        return any(grant.covers(wanted) for grant in held)
    return any(grant.permits(operation, context) for grant in held)


def _may_retire(caller: Identity, grant: Grant) -> bool:
    """Say whether a grant itself lets `caller` give it back."""
    who = {caller.principal, caller.arn}
    return grant.retiring_principal in who or (grant.grantee in who and "RetireGrant" in grant.operations)
