"""Grants: permissions on one key in one region, given to a principal without touching a policy.

They count at once here, so a grant token is only another name of its grant.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

from kms_local.kms.call import Call, Operation, end_dry_run, refuse_disabled, refuse_pending_deletion
from kms_local.kms.keys import Grant, RegionalKey
from kms_local.kms.paging import page
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

OPERATIONS_OF_SYMMETRIC_KEYS = frozenset(
    {
        "CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
        "RetireGrant",
    }
)  # fmt: skip
_GRANT_ID = re.compile(r"[0-9a-f]{64}")
_GRANT_ID_BYTES = 32
_TOKEN_MAGIC = b"\x01grant"
_TOKEN_NOISE_BYTES = 16
_MAX_GRANTS_A_KEY = 50_000
_MAX_PAIRS_A_CONSTRAINT = 8
_MAX_CONSTRAINT_VALUE_LENGTH = 384
_NOT_HERE = ("GranteeServicePrincipal", "RetiringServicePrincipal")


def create_grant(call: Call) -> JsonObject:
    """Give a principal permissions on a key; with a name, a second identical request makes no second grant."""
    wanted = asked_grant(call)
    key = call.key()
    refuse_disabled(key, call.now)
    refuse_pending_deletion(key, call.now)
    existing = _same(key.grants.values(), wanted)
    if existing is None and len(key.grants) >= _MAX_GRANTS_A_KEY:
        quota = f"is {_MAX_GRANTS_A_KEY}, current usage is {len(key.grants)}."
        raise ServiceError("LimitExceededException", f"Grants per key quota for this account in this region {quota}")
    end_dry_run(call)
    grant = existing or wanted
    key.grants[grant.grant_id] = grant
    return {"GrantToken": _token(call, key, grant), "GrantId": grant.grant_id}


def list_grants(call: Call) -> JsonObject:
    """List a key's grants in this region, oldest first, all or one or those of one principal."""
    key = call.key()
    wanted_id = call.params.optional_text("GrantId")
    grantee = call.params.optional_text("GranteePrincipal")
    if wanted_id is not None:
        _existing(key, wanted_id)
    items = [
        _entry(call, key, grant)
        for grant in key.grants.values()
        if wanted_id in {None, grant.grant_id} and grantee in {None, grant.grantee}
    ]
    return page(call.params, "Grants", items, default=50, high=100)


def list_retirable_grants(call: Call) -> JsonObject:
    """List the grants of this region that name a principal as the one who may retire them."""
    principal = call.params.optional_text("RetiringPrincipal")
    if principal is None:
        raise ServiceError("ValidationException", "RetiringPrincipal is required.")
    items = [
        _entry(call, key, grant)
        for key in call.region.keys.values()
        for grant in key.grants.values()
        if grant.retiring_principal == principal
    ]
    return page(call.params, "Grants", items, default=50, high=100)


def revoke_grant(call: Call) -> JsonObject:
    """Take a grant away, as the key's administrator."""
    key = call.key()
    grant = _existing(key, call.params.text("GrantId"))
    end_dry_run(call)
    del key.grants[grant.grant_id]
    return {}


def retire_grant(call: Call) -> JsonObject:
    """Give a grant back, as the one who has it or who may retire it."""
    key, grant = granted(call)
    end_dry_run(call)
    del key.grants[grant.grant_id]
    return {}


def granted(call: Call) -> tuple[RegionalKey, Grant]:
    """Return the grant that RetireGrant names, by its token or by its key and id, and the key it is for.

    Raises:
        ServiceError: there is no such grant, or none is named.
    """
    token = call.params.optional_text("GrantToken")
    if token is not None:
        return _by_token(call, token)
    if not (call.params.given("KeyId") and call.params.given("GrantId")):
        raise ServiceError("ValidationException", "Grant token OR (grant ID, key ID) must be specified")
    key = call.key()
    return key, _existing(key, call.params.text("GrantId"))


def check_tokens(params: Params) -> None:
    """Refuse a list of grant tokens that holds something else.

    Raises:
        ServiceError: InvalidGrantTokenException. A token whose grant is gone passes: it gives nothing.
    """
    for token in params.texts("GrantTokens"):
        _read_token(token)


# -- what is asked for --------------------------------------------------------------------------------------------


def asked_grant(call: Call) -> Grant:
    """Return the grant that CreateGrant asks for.

    Raises:
        ServiceError: it asks for something else.
    """
    params = call.params
    for name in _NOT_HERE:
        if params.given(name):
            raise ServiceError("UnsupportedOperationException", f"{name} is not supported here")
    grantee = _principal(params, "GranteePrincipal")
    if grantee is None:
        raise ServiceError(
            "ValidationException", "You must specify either GranteePrincipal or GranteeServicePrincipal."
        )
    constraints = params.object("Constraints") or Params({})
    return Grant(
        grant_id=call.entropy(_GRANT_ID_BYTES).hex(),
        grantee=grantee,
        retiring_principal=_principal(params, "RetiringPrincipal"),
        operations=_operations(params),
        created_at=round(call.now, 3),
        name=params.optional_text("Name"),
        context_equals=_constraint(constraints, "EncryptionContextEquals"),
        context_subset=_constraint(constraints, "EncryptionContextSubset"),
    )


def _principal(params: Params, name: str) -> str | None:
    given = params.optional_text(name)
    if given is not None and not given.startswith("arn:"):
        raise ServiceError("InvalidArnException", f"{given} is not a valid ARN.")
    return given


def _operations(params: Params) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(params.texts("Operations")))
    foreign = [name for name in wanted if name not in OPERATIONS_OF_SYMMETRIC_KEYS]
    if foreign:
        raise ServiceError(
            "ValidationException", f"Operations {', '.join(foreign)} are not valid for a SYMMETRIC_DEFAULT key."
        )
    if wanted == ("CreateGrant",):
        raise ServiceError("ValidationException", "Grants must not contain only the CreateGrant operation.")
    return wanted


def _constraint(constraints: Params, name: str) -> dict[str, str] | None:
    if constraints.given("SourceArn"):
        raise ServiceError("UnsupportedOperationException", "The SourceArn constraint is not supported here")
    if not constraints.given(name):
        return None
    pairs = constraints.string_map(name)
    if len(pairs) > _MAX_PAIRS_A_CONSTRAINT:
        raise ServiceError("ValidationException", f"{name} cannot have more than {_MAX_PAIRS_A_CONSTRAINT} pairs.")
    if any(len(value) > _MAX_CONSTRAINT_VALUE_LENGTH for value in pairs.values()):
        longest = f"values of more than {_MAX_CONSTRAINT_VALUE_LENGTH} characters"
        raise ServiceError("ValidationException", f"{name} cannot have {longest}.")
    return pairs


def _same(grants: Iterable[Grant], wanted: Grant) -> Grant | None:
    """Return the grant that an earlier, identical request made; only named ones are recognised."""
    if wanted.name is None:
        return None
    return next((grant for grant in grants if _terms(grant) == _terms(wanted)), None)


def _terms(grant: Grant) -> tuple[object, ...]:
    return (
        grant.name,
        grant.grantee,
        grant.retiring_principal,
        frozenset(grant.operations),
        grant.context_equals,
        grant.context_subset,
    )


# -- tokens and answers -------------------------------------------------------------------------------------------


def _token(call: Call, key: RegionalKey, grant: Grant) -> str:
    """Return a new token; every one of a grant's is different, and all are good."""
    names = f"{key.region}/{key.family.key_id}/{grant.grant_id}".encode()
    return base64.b64encode(_TOKEN_MAGIC + call.entropy(_TOKEN_NOISE_BYTES) + names).decode()


def _read_token(token: str) -> list[str]:
    """Return the region, key id and grant id that a token names."""
    try:
        raw = base64.b64decode(token, validate=True)
        names = raw[len(_TOKEN_MAGIC) + _TOKEN_NOISE_BYTES :].decode().split("/")
    except (binascii.Error, ValueError) as e:
        raise _bad_token() from e
    if not raw.startswith(_TOKEN_MAGIC) or len(names) != len(("region", "key", "grant")):
        raise _bad_token()
    return names


def _by_token(call: Call, token: str) -> tuple[RegionalKey, Grant]:
    region, key_id, grant_id = _read_token(token)
    key = call.region.keys.get(key_id) if region == call.region.name else None
    grant = key.grants.get(grant_id) if key else None
    if key is None or grant is None:
        raise _bad_token()
    return key, grant


def _entry(call: Call, key: RegionalKey, grant: Grant) -> JsonObject:
    answer: JsonObject = {
        "KeyId": key.arn,
        "GrantId": grant.grant_id,
        "Name": grant.name or "",
        "CreationDate": grant.created_at,
        "GranteePrincipal": grant.grantee,
        "IssuingAccount": f"arn:aws:iam::{call.estate.account_id}:root",
        "Operations": list(grant.operations),
    }
    if grant.retiring_principal is not None:
        answer["RetiringPrincipal"] = grant.retiring_principal
    constraints = dict(_constraints(grant))
    return {**answer, "Constraints": constraints} if constraints else answer


def _constraints(grant: Grant) -> Iterator[tuple[str, JsonObject]]:
    if grant.context_subset is not None:
        yield "EncryptionContextSubset", dict(grant.context_subset)
    if grant.context_equals is not None:
        yield "EncryptionContextEquals", dict(grant.context_equals)


def _existing(key: RegionalKey, grant_id: str) -> Grant:
    if not _GRANT_ID.fullmatch(grant_id):
        raise ServiceError("InvalidGrantIdException", None)
    if grant_id not in key.grants:
        raise ServiceError("NotFoundException", f"Grant ID {grant_id} not found")
    return key.grants[grant_id]


def _bad_token() -> ServiceError:
    return ServiceError("InvalidGrantTokenException", None)


OPERATIONS: dict[str, Operation] = {
    "CreateGrant": create_grant,
    "ListGrants": list_grants,
    "ListRetirableGrants": list_retirable_grants,
    "RevokeGrant": revoke_grant,
    "RetireGrant": retire_grant,
}
