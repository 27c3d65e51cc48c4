"""The roles of an estate, by name: who takes each on, what it may, and what it may at most. Pure.

The applications' roles, the watchdog's and the drills' use keys (`estate.role_policies`); those of people, here, look
after keys, roles and alarms, and use no key at all. Whoever may change a key's policy may not change roles, and the
other way round: it takes two to let anybody open what customers sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kms_watchdog.config import Settings
from kms_watchdog.estate.role_policies import (
    POLICY_NAME,
    Rendering,
    Statement,
    allow,
    application_statements,
    document,
    drill_statements,
    listen_to_topics,
    observe_managed_policies,
    purposes_by_role,
    read_evidence,
    task_trust,
    watchdog_statements,
)
from kms_watchdog.estate.trails import desired_trail
from kms_watchdog.iam import actions
from kms_watchdog.iam.ceilings import ADMIN_CEILING, CEILING, admin_ceiling, ceiling

EXECUTION_ROLE, AUDIT_ROLE = "ecsTaskExecutionRole", "KmsAuditRole"
PROVISIONING_ROLE, IAM_ADMIN_ROLE = "KmsProvisioningRole", "KmsIamAdminRole"
GUIDE_POLICY_NAMES = {"ParkerFlightServiceRole": "ParkerFlightKMSPolicy", "ParkerFlightPaymentRole": "PaymentKMSPolicy"}
"""What the setup guide calls the inline policies of its roles."""
SERVICES = ("parker-flight-api", "kms-watchdog")
"""What runs on ECS: families of tasks, repositories, log groups and names of secrets begin with these."""
MRK_KEYS = "key/mrk-*"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateRole:
    """One role, and how to render it."""

    name: str
    taken_on_by: str
    policy_name: str
    statements: Callable[[Rendering], list[Statement]]
    trust: Callable[[Rendering], dict[str, Any]]
    purposes: frozenset[str] = frozenset()
    """Whose keys its policy names, so that they must be there first."""
    boundary: str = ""
    """The managed policy that says what it may at most; empty: none."""


def estate_roles(settings: Settings) -> tuple[EstateRole, ...]:
    """Return the estate's roles, each name once."""
    roles = (*_task_roles(settings), *_peoples_roles(settings))
    return tuple({role.name: role for role in roles}.values())


def _task_roles(settings: Settings) -> Iterable[EstateRole]:
    estate, every = settings.estate, frozenset(settings.keys)
    for name, purposes in purposes_by_role(settings).items():
        yield EstateRole(
            name=name,
            taken_on_by=f"the application's tasks that use {', '.join(sorted(purposes))}",
            policy_name=GUIDE_POLICY_NAMES.get(name, POLICY_NAME),
            statements=_application(purposes),
            trust=task_trust,
            purposes=purposes,
        )
    yield EstateRole(
        name=EXECUTION_ROLE,
        taken_on_by="ECS itself, before a task begins",
        policy_name=POLICY_NAME,
        statements=execution_statements,
        trust=task_trust,
    )
    yield EstateRole(
        name=estate.watchdog_role,
        taken_on_by="the watchdog's tasks",
        policy_name=POLICY_NAME,
        statements=watchdog_statements,
        trust=task_trust,
        purposes=every,
        boundary=CEILING,
    )
    yield EstateRole(
        name=estate.drill_role,
        taken_on_by="the drills' tasks, and a watchdog that starts drills or proofs itself",
        policy_name=POLICY_NAME,
        statements=drill_statements,
        trust=task_trust,
        purposes=every,
        boundary=CEILING,
    )


def _peoples_roles(settings: Settings) -> Iterable[EstateRole]:
    yield EstateRole(
        name=AUDIT_ROLE,
        taken_on_by="whoever reviews",
        policy_name=POLICY_NAME,
        statements=audit_statements,
        trust=peoples_trust,
        boundary=CEILING,
    )
    yield EstateRole(
        name=PROVISIONING_ROLE,
        taken_on_by="people and pipelines that make keys and alarms",
        policy_name=POLICY_NAME,
        statements=provisioning_statements,
        trust=peoples_trust,
        boundary=CEILING,
    )
    yield EstateRole(
        name=IAM_ADMIN_ROLE,
        taken_on_by="people who look after the estate's roles, with a second factor",
        policy_name=POLICY_NAME,
        statements=iam_admin_statements,
        trust=second_factor_trust,
        boundary=ADMIN_CEILING,
    )
    yield EstateRole(
        name=settings.estate.break_glass_role,
        taken_on_by="people in an emergency, with a second factor",
        policy_name=POLICY_NAME,
        statements=break_glass_statements,
        trust=second_factor_trust,
        purposes=frozenset(settings.keys),
    )


def _application(purposes: Collection[str]) -> Callable[[Rendering], list[Statement]]:
    return lambda given: application_statements(given, sorted(purposes))


# -- who may take a role on ---------------------------------------------------------------------------------------


def peoples_trust(given: Rendering) -> dict[str, Any]:
    """Return the trust policy of a role for people and pipelines: those of our account whose policies allow it.

    Never a task's role: whoever breaks into an application should not come to manage its keys.
    """
    return _trust_account(given, {})


def second_factor_trust(given: Rendering) -> dict[str, Any]:
    """Return the trust policy of a role that is dangerous: as `peoples_trust`, and a second factor in the last hour."""
    return _trust_account(
        given,
        {
            "Bool": {"aws:MultiFactorAuthPresent": "true"},
            "NumericLessThan": {"aws:MultiFactorAuthAge": "3600"},
        },
    )


def _trust_account(given: Rendering, more: Mapping[str, Any]) -> dict[str, Any]:
    tasks = [given.arn("iam", f"role/{role.name}") for role in _task_roles(given.settings)]
    return document(
        [
            {
                "Sid": "PeopleOfThisAccount",
                "Effect": "Allow",
                "Principal": {"AWS": given.arn("iam", "root")},
                "Action": "sts:AssumeRole",
                "Condition": {"ArnNotEquals": {"aws:PrincipalArn": tasks}, **more},
            }
        ]
    )


# -- what each may ------------------------------------------------------------------------------------------------


def execution_statements(given: Rendering) -> list[Statement]:
    """Return what ECS needs to begin a task: pull its image, write its log, read its secrets."""
    regions = given.settings.estate.regions

    def each(service: str, resource: str) -> list[str]:
        return [given.arn(service, resource.format(name), region) for name in SERVICES for region in regions]

    return [
        allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], "*"),
        allow("PullImages", _PULL_IMAGES, each("ecr", "repository/{}*")),
        allow("WriteLogs", _WRITE_LOGS, each("logs", "log-group:/ecs/{}*")),
        allow("ReadSecrets", ["secretsmanager:GetSecretValue"], each("secretsmanager", "secret:{}*")),
    ]


def audit_statements(given: Rendering) -> list[Statement]:
    """Return what a review needs: to read keys, roles, the alarms' path and evidence, and to change nothing."""
    return [
        allow("LookAtKeys", actions.OBSERVE_KEYS, _keys(given, "key/*")),
        allow("FindKeys", actions.FIND_KEYS, "*"),
        allow("LookAtRoles", (*actions.OBSERVE_ROLES, *_REVIEW_ROLES), _role_arns(given)),
        allow("LookAtAllRoles", _REVIEW_ACCOUNT, "*"),
        observe_managed_policies(given),
        allow("LookAtAlarmPath", (*actions.OBSERVE_ALARM_PATH, *_REVIEW_ALARM_PATH), "*"),
        allow("CountCosts", actions.COUNT_METRICS, "*"),
        allow("LookAtTrails", (*actions.OBSERVE_TRAILS, *actions.LOOK_UP_CHANGES), "*"),
        *read_evidence(given),
    ]


def provisioning_statements(given: Rendering) -> list[Statement]:
    """Return what makes keys and alarms: no use of a key, no deletion, no change of the primary, no role."""
    estate = given.settings.estate
    replicas = [region for region in estate.regions if region != estate.primary_region]
    aliases = [key.alias for key in given.settings.keys.values()]
    return [
        allow("CreatePrimaries", actions.CREATE_KEYS, "*", _NEW_PRIMARY | _requested([estate.primary_region])),
        *(_replicate(given, replicas) if replicas else []),
        allow("Manage", (*actions.MANAGE_KEYS, *_ALSO_OBSERVE), _keys(given, MRK_KEYS)),
        allow("OurAliases", actions.POINT_ALIASES, [arn for name in aliases for arn in _keys(given, name)]),
        allow("Find", actions.FIND_KEYS, "*"),
        allow("ServiceLinkedRole", ["iam:CreateServiceLinkedRole"], "*", _FOR_MULTI_REGION_KEYS),
        allow("SeeRoles", actions.OBSERVE_ROLES, _role_arns(given)),
        observe_managed_policies(given),
        allow("SeeAlarms", ["cloudwatch:DescribeAlarms"], "*"),
        allow("PutComposites", actions.PUT_COMPOSITES, "*"),
        allow("PutAlarms", (*actions.PUT_ALARMS, *actions.SET_ALARMS_OFF), given.alarms()),
        allow("MakeTopics", actions.MAKE_TOPICS, given.topics()),
        *(one for one in listen_to_topics(given) if one["Sid"] != "ReadAlarmOwners"),
        *_make_the_trail(given),
        *_read_the_lease(given),
    ]


def iam_admin_statements(given: Rendering) -> list[Statement]:
    """Return what looks after the estate's roles: those that have the ceiling, and none beyond it.

    Nobody's trust can be changed, no role be deleted and made anew: that would let whoever is trusted in.
    """
    within = {"StringEquals": {"iam:PermissionsBoundary": given.arn("iam", f"policy/{CEILING}")}}
    return [
        allow("SeeRoles", actions.OBSERVE_ROLES, _role_arns(given)),
        observe_managed_policies(given),
        allow("WriteRolesWithinTheCeiling", _WRITE_ROLES, managed_role_arns(given), within),
        allow("DescribeRoles", ["iam:TagRole", "iam:UpdateRoleDescription"], managed_role_arns(given)),
    ]


def break_glass_statements(given: Rendering) -> list[Statement]:
    """Return what is called for in an emergency: to stop a key, to take that back, and to leave regions."""
    parameters = given.override_parameters()
    return [
        allow("StopKeys", actions.DESTROY_KEYS, given.keys(*given.settings.keys)),
        allow("Find", actions.FIND_KEYS, "*"),
        *([allow("LeaveRegions", actions.WRITE_OVERRIDES, parameters)] if parameters else []),
    ]


def _replicate(given: Rendering, replicas: list[str]) -> list[Statement]:
    primary = given.arn("kms", MRK_KEYS, given.settings.estate.primary_region)
    new = {"StringEquals": {"kms:MultiRegionKeyType": "REPLICA", "aws:RequestedRegion": replicas}}
    return [
        allow("CreateReplicas", actions.CREATE_KEYS, "*", new),
        allow("Replicate", actions.REPLICATE_KEYS, primary, {"StringEquals": {"kms:ReplicaRegion": replicas}}),
    ]


def _make_the_trail(given: Rendering) -> list[Statement]:
    wanted = desired_trail(given.settings)
    if wanted is None:
        return []
    return [
        allow("SeeTrails", actions.OBSERVE_TRAILS, "*"),
        allow("MakeTrail", actions.MAKE_TRAIL, given.arn("cloudtrail", f"trail/{wanted.name}", wanted.home_region)),
    ]


def _read_the_lease(given: Rendering) -> list[Statement]:
    lease = given.settings.drills.lease
    if lease is None:
        return []
    return [allow("SeeDrills", actions.READ_THE_LEASE, given.arn("dynamodb", f"table/{lease.table}", lease.region))]


def _requested(regions: list[str]) -> dict[str, Any]:
    return {
        "StringEquals": {
            "kms:KeySpec": "SYMMETRIC_DEFAULT",
            "kms:KeyUsage": "ENCRYPT_DECRYPT",
            "aws:RequestedRegion": regions,
        }
    }


def _keys(given: Rendering, resource: str) -> list[str]:
    return [given.arn("kms", resource, region) for region in given.settings.estate.regions]


def _role_arns(given: Rendering) -> list[str]:
    return [given.arn("iam", f"role/{role.name}") for role in estate_roles(given.settings)]


def managed_role_arns(given: Rendering) -> list[str]:
    """Return the ARNs of the roles that the IAM administrator looks after: not his own, nor that of emergencies."""
    roles = estate_roles(given.settings)
    out_of_reach = {IAM_ADMIN_ROLE, given.settings.estate.break_glass_role, EXECUTION_ROLE}
    return [given.arn("iam", f"role/{role.name}") for role in roles if role.name not in out_of_reach]


_PULL_IMAGES = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")
_WRITE_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_REVIEW_ROLES = ("iam:GenerateServiceLastAccessedDetails", "iam:SimulatePrincipalPolicy")
_REVIEW_ACCOUNT = (
    "iam:GetAccountAuthorizationDetails",
    "iam:GetServiceLastAccessedDetails",
    "access-analyzer:ValidatePolicy",
)
_REVIEW_ALARM_PATH = ("cloudwatch:DescribeAlarmHistory", "cloudwatch:ListTagsForResource")
_ALSO_OBSERVE = ("kms:ListKeyRotations", "kms:ListGrants")
_WRITE_ROLES = ("iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary")
_NEW_PRIMARY = {"Bool": {"kms:MultiRegion": "true"}}
_FOR_MULTI_REGION_KEYS = {"StringEquals": {"iam:AWSServiceName": "mrk.kms.amazonaws.com"}}


# -- as documents -------------------------------------------------------------------------------------------------


def boundary_policies(given: Rendering) -> dict[str, dict[str, Any]]:
    """Return the managed policies that are roles' boundaries, by name; they name no key."""
    settings = given.settings
    watchers = [
        given.arn("iam", f"role/{name}") for name in (settings.estate.watchdog_role, settings.estate.drill_role)
    ]
    nameless = Rendering(settings=settings, key_ids=dict.fromkeys(settings.keys, "mrk"))
    within = [
        statement
        for role in estate_roles(settings)
        if role.boundary == CEILING
        for statement in role.statements(nameless)
    ]
    return {
        CEILING: ceiling(within, watchers=watchers, provisioning=given.arn("iam", f"role/{PROVISIONING_ROLE}")),
        ADMIN_CEILING: admin_ceiling(
            iam_admin_statements(given),
            ceiling_arn=given.arn("iam", f"policy/{CEILING}"),
            untouchable=[
                *(given.arn("iam", f"role/{name}") for name in (IAM_ADMIN_ROLE, settings.estate.break_glass_role)),
                *(given.arn("iam", f"policy/{name}") for name in (CEILING, ADMIN_CEILING)),
            ],
        ),
    }


def role_details(given: Rendering, role: EstateRole) -> dict[str, Any]:
    """Return one role in the form of `aws iam get-account-authorization-details`.

    Raises:
        KeyError: the keys that its policy names are not in `given`.
    """
    details: dict[str, Any] = {
        "RoleName": role.name,
        "Arn": given.arn("iam", f"role/{role.name}"),
        "AssumeRolePolicyDocument": role.trust(given),
        "RolePolicyList": [{"PolicyName": role.policy_name, "PolicyDocument": document(role.statements(given))}],
        "AttachedManagedPolicies": [],
    }
    if role.boundary:
        arn = given.arn("iam", f"policy/{role.boundary}")
        details["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}
    return details


def account_details(given: Rendering, roles: Iterable[EstateRole] | None = None) -> dict[str, Any]:
    """Return roles, all of them by default, with their boundaries, as `aws iam get-account-authorization-details` does.

    Raises:
        KeyError: keys that their policies name are not in `given`.
    """
    chosen = tuple(estate_roles(given.settings) if roles is None else roles)
    needed = {role.boundary for role in chosen}
    return {
        "RoleDetailList": [role_details(given, role) for role in chosen],
        "Policies": [
            {
                "PolicyName": name,
                "Arn": given.arn("iam", f"policy/{name}"),
                "DefaultVersionId": "v1",
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": True, "Document": policy}],
            }
            for name, policy in boundary_policies(given).items()
            if name in needed
        ],
    }
