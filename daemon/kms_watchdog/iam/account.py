"""The estate's roles and key policies as the account has them, and as they are rendered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.role_policies import Rendering, purposes_by_role
from kms_watchdog.estate.roles import NO_SUCH_ENTITY, RoleDocuments, RoleReader
from kms_watchdog.iam.documents import DocumentError, KeyToCheck, RoleToCheck, ToCheck, document
from kms_watchdog.iam.estate_roles import (
    EXECUTION_ROLE,
    IAM_ADMIN_ROLE,
    EstateRole,
    boundary_policies,
    estate_roles,
    role_details,
)
from kms_watchdog.iam.estate_rules import Wanted, WantedRole
from kms_watchdog.iam.files import TRUST_NAME

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Why:
    """Why something could not be read."""

    text: str


def read_account(settings: Settings, key_ids: Mapping[str, str], clock: Clock, names: Collection[str] = ()) -> ToCheck:
    """Read the estate's roles, and its keys' policies in every region; of `names` alone, and no keys, if there are any.

    What cannot be read is told of. Call in the main thread.
    """
    admin = KmsAdmin(settings, clock)
    reader = RoleReader(settings, pause=admin.pause)
    wanted = [role.name for role in estate_roles(settings) if not names or role.name in names]
    places = [] if names else [(purpose, region) for purpose in key_ids for region in settings.estate.regions]

    def role_of(name: str) -> RoleToCheck | _Why | None:
        try:
            return _role(reader.documents(name))
        except EstateError as e:
            gone = (e.operation, e.code) == ("GetRole", NO_SUCH_ENTITY)
            return None if gone else _Why(str(e))
        except DocumentError as e:
            return _Why(str(e))

    def key_of(place: tuple[str, str]) -> KeyToCheck | _Why:
        purpose, region = place
        name = key_name(purpose, region)
        try:
            policy = document(name, admin.policy(region, key_ids[purpose]))
        except (EstateError, DocumentError) as e:
            return _Why(str(e))
        return KeyToCheck(name=name, policy=policy, account_id=settings.estate.account_id)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        roles = dict(zip(wanted, pool.map(role_of, wanted), strict=True))
        keys = dict(zip((key_name(*place) for place in places), pool.map(key_of, places), strict=True))
    return ToCheck(
        roles=tuple(one for one in roles.values() if isinstance(one, RoleToCheck)),
        keys=tuple(one for one in keys.values() if isinstance(one, KeyToCheck)),
        not_read={name: one.text for name, one in (*roles.items(), *keys.items()) if isinstance(one, _Why)},
        whole=True,
    )


def wanted_estate(given: Rendering, names: Collection[str] = ()) -> Wanted:
    """Return the roles, of `names` alone if there are any, and the key policies as they are rendered.

    A policy that names keys without an id is not compared; its role's trust and boundary are.
    """
    settings = given.settings
    boundaries = boundary_policies(given)
    return Wanted(
        roles=tuple(
            _wanted(given, role, boundaries.get(role.boundary))
            for role in estate_roles(settings)
            if not names or role.name in names
        ),
        key_policies={
            key_name(key.purpose, region): key.policy for key in desired_keys(settings) for region in key.regions
        },
    )


def key_name(purpose: str, region: str) -> str:
    """Return what a key is called in a region."""
    return f"key {purpose} in {region}"


def _wanted(given: Rendering, role: EstateRole, boundary: Mapping[str, object] | None) -> WantedRole:
    settings = given.settings
    own = role.purposes if role.name != settings.estate.break_glass_role else frozenset[str]()  # it uses none
    known = role.purposes <= given.key_ids.keys()
    ids = given.key_ids if known else dict.fromkeys(settings.keys, "")
    foreign = [purpose for purpose in settings.keys if purpose not in own and purpose in given.key_ids]
    return WantedRole(
        name=role.name,
        details=role_details(Rendering(settings=settings, key_ids=ids), role),
        foreign_keys={purpose: (*given.keys(purpose), settings.keys[purpose].alias) for purpose in foreign},
        is_ours=role.name not in purposes_by_role(settings),
        compares_policies=known and role.name != EXECUTION_ROLE,
        boundary=boundary,
        writes_policies=role.name == IAM_ADMIN_ROLE,
    )


def _role(found: RoleDocuments) -> RoleToCheck:
    return RoleToCheck(
        name=found.name,
        policies=tuple(document(name, body) for name, body in _named(found)),
        trust=document(TRUST_NAME, found.trust) if found.trust else None,
        boundary=found.boundary[0] if found.boundary else "",
        boundary_body=found.boundary[1] if found.boundary else None,
    )


def _named(found: RoleDocuments) -> Iterator[tuple[str, object]]:
    yield from found.policies
