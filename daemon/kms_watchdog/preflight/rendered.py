"""What of the estate AWS is asked to judge: policies, cases for the simulator, templates. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kms_watchdog.config import CANARY_CONTEXT, Settings
from kms_watchdog.estate import cloudformation
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.policy import Request, evaluate, parse_policy
from kms_watchdog.estate.role_policies import Rendering, purposes_by_role
from kms_watchdog.estate.topic_policy import who_may_publish
from kms_watchdog.iam.estate_roles import PROVISIONING_ROLE, account_details

IDENTITY, RESOURCE = "IDENTITY_POLICY", "RESOURCE_POLICY"
TRUST: Final = "AWS::IAM::AssumeRolePolicyDocument"
ANY_KEY_ID: Final = "mrk-" + "0" * 32
"""Where no key was made: the policies' texts need one."""
MAX_TEMPLATE_BYTES: Final = 51_200
"""Of a template in the request itself. Source: CloudFormation API Reference, "ValidateTemplate"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One policy for Access Analyzer."""

    name: str
    kind: str
    document: Mapping[str, Any]
    resource_type: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """As ValidatePolicy takes it."""
        given = {"policyDocument": json.dumps(self.document), "policyType": self.kind}
        return {**given, "validatePolicyResourceType": self.resource_type} if self.resource_type else given


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request for the simulator."""

    name: str
    role: Mapping[str, Any]
    """As `role_details` renders it."""
    boundary: Mapping[str, Any] | None
    action: str
    resource: str
    context: Mapping[str, str]

    @property
    def arguments(self) -> dict[str, Any]:
        """As SimulateCustomPolicy takes it."""
        given: dict[str, Any] = {
            "PolicyInputList": [json.dumps(one["PolicyDocument"]) for one in self.role["RolePolicyList"]],
            "ActionNames": [self.action],
            "ResourceArns": [self.resource],
            "ContextEntries": [
                {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": _kind(name)}
                for name, value in self.context.items()
            ],
        }
        return {**given, "PermissionsBoundaryPolicyInputList": [json.dumps(self.boundary)]} if self.boundary else given

    @property
    def allowed(self) -> bool:
        """What our evaluator says."""
        request = Request(
            action=self.action, resource=self.resource, principal=self.role["Arn"], context=dict(self.context)
        )
        identity = [parse_policy(one["PolicyDocument"]) for one in self.role["RolePolicyList"]]
        boundary = parse_policy(self.boundary) if self.boundary else None
        return evaluate(request, identity=identity, boundary=boundary).allowed


def policies(settings: Settings, key_id: str) -> tuple[Written, ...]:
    """Return every policy of the estate; `key_id` stands for each of its keys."""
    details = account_details(_rendering(settings, key_id))
    written: list[Written] = []
    for role in details["RoleDetailList"]:
        name = role["RoleName"]
        written += [Written(name=name, kind=IDENTITY, document=one["PolicyDocument"]) for one in role["RolePolicyList"]]
        trust = role["AssumeRolePolicyDocument"]
        written.append(Written(name=f"{name} (trust)", kind=RESOURCE, document=trust, resource_type=TRUST))
    written += [
        Written(name=one["PolicyName"], kind=IDENTITY, document=version["Document"])
        for one in details["Policies"]
        for version in one["PolicyVersionList"]
    ]
    written += [
        Written(name=f"key {key.purpose}", kind=RESOURCE, document=key.policy) for key in desired_keys(settings)
    ]
    topic = _filled_in(who_may_publish(settings.core_config().partition), settings)
    return (*written, Written(name="topics", kind=RESOURCE, document=topic))


def cases(settings: Settings, key_id: str) -> tuple[Case, ...]:
    """Return what the simulator is asked: what each role is for, and what it must not."""
    details = account_details(_rendering(settings, key_id))
    roles = {role["RoleName"]: role for role in details["RoleDetailList"]}
    boundaries = {one["Arn"]: one["PolicyVersionList"][0]["Document"] for one in details["Policies"]}

    def case(role: str, action: str, resource: str, case_of: str, context: Mapping[str, str]) -> Case:
        named = roles[role]
        arn = named.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
        return Case(
            name=f"{role} {action} {case_of}",
            role=named,
            boundary=boundaries.get(arn),
            action=action,
            resource=resource,
            context=context,
        )

    return tuple(case(*given) for given in _cases(settings, key_id))


def _cases(settings: Settings, key_id: str) -> Iterator[tuple[str, str, str, str, dict[str, str]]]:
    estate, partition = settings.estate, settings.core_config().partition
    primary, region = f"arn:{partition}:kms:{estate.primary_region}:{estate.account_id}:key/{key_id}", "of a primary"
    ((name, value),) = CANARY_CONTEXT.items()
    canary = {f"kms:EncryptionContext:{name}": value, "kms:EncryptionContextKeys": name}
    customers = {"kms:EncryptionContext:order": "1", "kms:EncryptionContextKeys": "order"}
    yield estate.watchdog_role, "kms:Decrypt", primary, "of a canary", canary
    yield estate.watchdog_role, "kms:Decrypt", primary, "of customers' data", customers
    yield estate.watchdog_role, "kms:Decrypt", primary, "without context", {}
    yield estate.watchdog_role, "kms:DescribeKey", primary, region, {}
    yield estate.watchdog_role, "kms:ScheduleKeyDeletion", primary, region, {}
    for role in tuple(purposes_by_role(settings))[:1]:
        yield role, "kms:Decrypt", primary, "of customers' data", customers
        yield role, "kms:Decrypt", primary, "without context", {}
        yield role, "kms:PutKeyPolicy", primary, region, {}
    new = {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT"}
    here = {**new, "aws:RequestedRegion": estate.primary_region}
    multi, alone = {**here, "kms:MultiRegion": "true"}, {**here, "kms:MultiRegion": "false"}
    yield PROVISIONING_ROLE, "kms:CreateKey", "*", region, multi
    yield PROVISIONING_ROLE, "kms:CreateKey", "*", "of a key of one region", alone
    yield PROVISIONING_ROLE, "kms:TagResource", primary, region, {}
    yield PROVISIONING_ROLE, "kms:ScheduleKeyDeletion", primary, region, {}
    for replica in [other for other in estate.regions if other != estate.primary_region][:1]:
        there = {**new, "aws:RequestedRegion": replica, "kms:MultiRegionKeyType": "REPLICA"}
        yield PROVISIONING_ROLE, "kms:CreateKey", "*", "of a replica", there


def templates(settings: Settings) -> dict[str, str]:
    """Return each region's template as short as it can be written."""
    found = cloudformation.templates(settings)
    return {region: json.dumps(one, separators=(",", ":")) for region, one in found.items()}


def _rendering(settings: Settings, key_id: str) -> Rendering:
    return Rendering(settings=settings, key_ids=dict.fromkeys(settings.keys, key_id))


def _kind(name: str) -> str:
    if name == "kms:EncryptionContextKeys":
        return "stringList"
    return "boolean" if name == "kms:MultiRegion" else "string"


def _filled_in(document: Any, settings: Settings) -> Any:
    """Return a policy in which CloudFormation's pseudo parameters are replaced, as for the primary region."""
    values = {"AWS::AccountId": settings.estate.account_id, "AWS::Region": settings.estate.primary_region}
    if isinstance(document, list):
        return [_filled_in(one, settings) for one in document]
    if not isinstance(document, Mapping):
        return document
    if "Ref" in document:
        return values[document["Ref"]]
    if "Fn::Sub" in document:
        text = str(document["Fn::Sub"])
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        return text
    return {name: _filled_in(value, settings) for name, value in document.items()}
