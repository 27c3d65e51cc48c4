"""One KMS request on its way through an operation, and how it finds the key it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from kms_local.kms.keys import Estate, KeyState, Region, RegionalKey
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MULTI_REGION_ID = re.compile(r"mrk-[0-9a-f]{32}")
_ARN = re.compile(r"arn:aws:kms:(?P<region>[a-z0-9-]*):(?P<account>\d{12}):(?P<resource>(?:key|alias)/.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an operation is a function of."""

    estate: Estate
    region: Region
    params: Params
    now: float  # POSIX seconds
    entropy: Callable[[int], bytes]

    def key(self, name: str = "KeyId", *, aliases: bool = False) -> RegionalKey:
        """Return the key that the member `name` identifies, whatever its state.

        Args:
            name: the request's member.
            aliases: whether this operation takes alias names and alias ARNs (cryptography and DescribeKey do).
        """
        return self._resolve(self._resource(self.params.text(name)), aliases=aliases)

    def usable_key(self, name: str = "KeyId", *, aliases: bool = False) -> RegionalKey:
        """Return the key that `name` identifies, refusing one that is not Enabled."""
        key = self.key(name, aliases=aliases)
        refuse_unusable(key, self.now)
        return key

    def _resource(self, given: str) -> str:
        """Return `given` without the ARN around it: `key/<id>`, `alias/<name>`, or a bare key id as it is."""
        if not given.startswith("arn:"):
            return given
        arn = _ARN.fullmatch(given)
        if arn is None or arn["region"] != self.region.name:
            raise ServiceError("NotFoundException", f"Invalid arn {self.region.name}")
        if arn["account"] != self.estate.account_id:
            raise ServiceError("AccessDeniedException", "The request was denied: the key belongs to another account.")
        return arn["resource"]

    def _resolve(self, resource: str, *, aliases: bool) -> RegionalKey:
        if resource.startswith("alias/"):
            if not aliases:
                raise ServiceError("InvalidArnException", "Key Aliases are not supported for this operation.")
            return self.region.keys[self._alias_target(resource)]
        key_id = resource.removeprefix("key/")
        if not (_UUID.fullmatch(key_id) or _MULTI_REGION_ID.fullmatch(key_id)):
            _invalid_key_id(key_id)
        if key_id not in self.region.keys:
            raise ServiceError("NotFoundException", f"Key '{self.arn(f'key/{key_id}')}' does not exist")
        return self.region.keys[key_id]

    def _alias_target(self, name: str) -> str:
        alias = self.region.aliases.get(name)
        if alias is None:
            raise ServiceError("NotFoundException", f"Alias {self.arn(name)} is not found.")
        return alias.key_id

    def arn(self, resource: str) -> str:
        """Return the ARN of `resource` in this call's region."""
        return self.estate.arn(self.region.name, resource)


Operation = Callable[[Call], JsonObject]


def _invalid_key_id(given: str) -> NoReturn:
    raise ServiceError("NotFoundException", f"Invalid keyId '{given}'")


_IN_TRANSIT = {
    KeyState.CREATING: "creating",
    KeyState.PENDING_DELETION: "pending deletion",
    KeyState.PENDING_REPLICA_DELETION: "pending replica deletion",
    KeyState.UNAVAILABLE: "unavailable",
}


def refuse_unusable(key: RegionalKey, now: float) -> None:
    """Refuse a key that cannot be used, in AWS's words for its state; Updating is no hindrance."""
    refuse_disabled(key, now)
    refuse_in_transit(key, now)


def refuse_disabled(key: RegionalKey, now: float) -> None:
    """Refuse a disabled key, and no other."""
    if key.state(now) is KeyState.DISABLED:
        raise ServiceError("DisabledException", f"{key.arn} is disabled.")


def refuse_in_transit(key: RegionalKey, now: float) -> None:
    """Refuse a key that is being made or is pending deletion; a disabled one passes."""
    state = key.state(now)
    if state in _IN_TRANSIT:
        raise ServiceError("KMSInvalidStateException", f"{key.arn} is {_IN_TRANSIT[state]}.")


def refuse_updating(key: RegionalKey, now: float) -> None:
    """Refuse a key whose family's primary is being moved."""
    if key.state(now) is KeyState.UPDATING:
        raise ServiceError("KMSInvalidStateException", f"{key.arn} is updating.")


def refuse_pending_deletion(key: RegionalKey, now: float) -> None:
    """Refuse a key that is pending deletion; one that is still being made passes."""
    if key.state(now).pending_deletion:
        refuse_in_transit(key, now)


def end_dry_run(call: Call) -> None:
    """End a dry run: every check is behind it, and nothing was used or changed."""
    if call.params.flag("DryRun"):
        raise ServiceError(
            "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."
        )
