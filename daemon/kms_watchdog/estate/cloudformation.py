"""The estate as CloudFormation templates, one a region: for whoever lets a stack own it, in place of `apply`. Pure.

The primary region's template has the primaries, the roles, the trail; a replica's takes the primaries' ARNs as
parameters. Each has its aliases, its tripwires (EventBridge hears of CloudTrail's events in their own region alone)
and, where a VPC is named, private endpoints: failover from a VPC without a way out needs the *other* regions' endpoints
too, which is what ServiceRegion is for (aws.md, C8). Keys, roles and the trail's bucket outlive their stack.

Which properties there are: AWS CloudFormation User Guide, resource type reference; cfn-lint holds them to it in a test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kms_watchdog.alarm_definitions import topic_arn
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import DesiredKey, desired_keys
from kms_watchdog.estate.role_plan import DesiredBoundary, DesiredRole, desired_boundaries, desired_roles
from kms_watchdog.estate.topic_policy import who_may_publish
from kms_watchdog.estate.trails import TRAIL_NAME

TRIPWIRES = (
    "DisableKey",
    "ScheduleKeyDeletion",
    "PutKeyPolicy",
    "CreateGrant",
    "CreateAlias",
    "UpdateAlias",
    "DeleteAlias",
    "DisableKeyRotation",
    "UpdatePrimaryRegion",
)
"""What somebody must be told of at once, whoever did it and for whatever reason (aws.md, C7)."""
_KEPT = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
"""A first creation that fails takes back what it made, else the next one would find it in its way."""
_TRAIL_BUCKET, _TRAIL = "TrailBucket", "KeyTrail"
_FORWARDER = "TripwireForwarder"
_ENDPOINT_ACCESS = "EndpointAccess"
_OWN_SERVICES = ("monitoring", "sns", "sts", "logs")
"""Besides KMS, what the watchdog asks in its own region."""

Template = dict[str, Any]
Resources = dict[str, Any]


def templates(settings: Settings) -> dict[str, Template]:
    """Return the template of each region, the primary's first."""
    return {region: _template(settings, region) for region in settings.estate.regions}


def stack_name(region: str) -> str:
    """Return what a region's stack is called."""
    return f"kms-watchdog-estate-{region}"


def text_of(document: Mapping[str, Any]) -> str:
    """Return a template as it is written: CloudFormation takes 51,200 bytes in a call, so no byte is for looks."""
    return json.dumps(document, separators=(",", ":")) + "\n"


def terraform(settings: Settings) -> dict[str, Any]:
    """Return a Terraform configuration, in its JSON syntax, that owns the stacks: their templates lie beside it.

    Keys as Terraform's own resources could be had, and would be checked by nobody here: docs/adr/0020.
    """
    primary = settings.estate.primary_region
    stacks: dict[str, Any] = {}
    for region in settings.estate.regions:
        stacks[_logical(region)] = {
            "provider": f"aws.{region}",
            "name": stack_name(region),
            "template_body": f'${{file("${{path.module}}/{file_name(region)}")}}',
            "capabilities": ["CAPABILITY_NAMED_IAM"],
            "on_failure": "DO_NOTHING",
            "parameters": {
                **({} if region == primary else _from_primary(settings, primary)),
                **{
                    name: f'${{lookup(var.parameters["{region}"], "{name}", "{given.get("Default", "")}")}}'
                    for name, given in _of_people(settings, region).items()
                },
            },
        }
    return {
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws"}}},
        "variable": {
            "parameters": {
                "description": "By region, the stacks' parameters: VpcId, SubnetIds, VpcCidr and the others",
                "type": "map(map(string))",
                "default": {region: {} for region in settings.estate.regions},
            }
        },
        "provider": {"aws": [{"alias": region, "region": region} for region in settings.estate.regions]},
        "resource": {"aws_cloudformation_stack": stacks},
    }


def file_name(region: str) -> str:
    """Return the name of a region's template file."""
    return f"estate-{region}.json"


def _of_people(settings: Settings, region: str) -> dict[str, Any]:
    """Return the parameters of a region's stack that people may set."""
    return {
        **_VPC_PARAMETERS,
        **(_TOPIC_POLICY if region in settings.publish_regions else {}),
        **(_EXECUTION_ROLE if region == settings.estate.primary_region else {}),
    }


def _from_primary(settings: Settings, primary: str) -> dict[str, str]:
    outputs = f"aws_cloudformation_stack.{_logical(primary)}.outputs"
    return {_arn_of(purpose): f'${{{outputs}["{_arn_of(purpose)}"]}}' for purpose in settings.keys}


def _template(settings: Settings, region: str) -> Template:
    keys = desired_keys(settings)
    is_primary = region == settings.estate.primary_region
    parameters: Resources = {} if is_primary else {_arn_of(key.purpose): _arn_parameter(key) for key in keys}
    resources: Resources = {}
    for key in keys:
        resources |= _primary(key) if is_primary else _replica(key, region)
        resources[_logical(key.purpose, "Alias")] = {
            "Type": "AWS::KMS::Alias",
            **_KEPT,
            "Properties": {"AliasName": key.alias, "TargetKeyId": {"Ref": _logical(key.purpose, "Key")}},
        }
    if is_primary:
        resources |= {_logical(one.name): _boundary(one) for one in desired_boundaries(settings)}
        resources |= {_logical("Role", role.name): _role(role) for role in _roles(settings)}
        resources |= _trail(settings)
    resources |= _tripwires(settings, region)
    resources |= _endpoints(settings, region)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Keys of {settings.estate.name} in {region}. Rendered by kms-watchdog; not to be edited.",
        "Parameters": {**parameters, **_of_people(settings, region)},
        "Conditions": {
            "HasVpc": {"Fn::Not": [{"Fn::Equals": [{"Ref": "VpcId"}, ""]}]},
            **(_is_yes("SetsTopicPolicy") if region in settings.publish_regions else {}),
            **(_is_yes("MakesExecutionRole") if is_primary else {}),
        },
        "Resources": resources,
        "Outputs": {
            _arn_of(key.purpose): {
                "Description": f"The key for {key.purpose}",
                "Value": {"Fn::GetAtt": [_logical(key.purpose, "Key"), "Arn"]},
            }
            for key in keys
        },
    }


# -- keys and roles -------------------------------------------------------------------------------------------------


def _primary(key: DesiredKey) -> Resources:
    properties = {
        "MultiRegion": True,
        "EnableKeyRotation": True,
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        **_of_either(key, key.primary_region),
    }
    return {_logical(key.purpose, "Key"): {"Type": "AWS::KMS::Key", **_KEPT, "Properties": properties}}


def _replica(key: DesiredKey, region: str) -> Resources:
    properties = {"PrimaryKeyArn": {"Ref": _arn_of(key.purpose)}, **_of_either(key, region)}
    return {_logical(key.purpose, "Key"): {"Type": "AWS::KMS::ReplicaKey", **_KEPT, "Properties": properties}}


def _of_either(key: DesiredKey, region: str) -> Resources:
    return {
        "Description": key.description_in(region),
        "KeyPolicy": key.policy,
        "Tags": [{"Key": name, "Value": value} for name, value in key.tags.items()],
    }


def _arn_parameter(key: DesiredKey) -> dict[str, str]:
    return {
        "Type": "String",
        "Description": f"ARN of the primary key for {key.purpose}, an output of {stack_name(key.primary_region)}",
        "AllowedPattern": f"arn:aws[a-z-]*:kms:{key.primary_region}:[0-9]{{12}}:key/mrk-[0-9a-f]{{32}}",
    }


def _roles(settings: Settings) -> tuple[DesiredRole, ...]:
    """Return the roles, with references to the template's keys where their policies name ids of keys."""
    return desired_roles(settings, {purpose: f"${{{_logical(purpose, 'Key')}}}" for purpose in settings.keys})


def _role(role: DesiredRole) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        **_KEPT,
        **({} if role.compared else {"Condition": "MakesExecutionRole"}),
        "Properties": {
            "RoleName": role.name,
            "AssumeRolePolicyDocument": role.trust,
            "Policies": [{"PolicyName": role.policy_name, "PolicyDocument": _substituted(role.policy)}],
            **({"PermissionsBoundary": {"Ref": _logical(role.boundary.rpartition("/")[2])}} if role.boundary else {}),
        },
    }


def _boundary(boundary: DesiredBoundary) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        **_KEPT,
        "Properties": {"ManagedPolicyName": boundary.name, "PolicyDocument": boundary.policy},
    }


def _substituted(document: Any) -> Any:
    """Return a policy whose references to keys CloudFormation fills in; a policy's own variables stay."""
    if isinstance(document, Mapping):
        return {name: _substituted(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_substituted(one) for one in document]
    return {"Fn::Sub": document} if isinstance(document, str) and _REFERENCE.search(document) else document


_REFERENCE = re.compile(r":key/\$\{\w+Key\}$")


# -- who is told, and what is written down --------------------------------------------------------------------------


def _trail(settings: Settings) -> Resources:
    """Return a trail of all regions with every management event: KMS's are left out unless one says otherwise.

    It writes into the bucket of the configuration, else into one of its own.
    """
    bucket: Any = settings.estate.trail_bucket or {"Ref": _TRAIL_BUCKET}
    own = {} if settings.estate.trail_bucket else _trail_bucket(settings)
    return {
        **own,
        _TRAIL: {
            "Type": "AWS::CloudTrail::Trail",
            **({"DependsOn": [f"{_TRAIL_BUCKET}Policy"]} if own else {}),
            "Properties": {
                "TrailName": TRAIL_NAME,
                "S3BucketName": bucket,
                "IsLogging": True,
                "IsMultiRegionTrail": True,
                "IncludeGlobalServiceEvents": True,
                "EnableLogFileValidation": True,
                "EventSelectors": [
                    {"IncludeManagementEvents": True, "ReadWriteType": "All", "ExcludeManagementEventSources": []}
                ],
            },
        },
    }


def _trail_bucket(settings: Settings) -> Resources:
    partition = settings.core_config().partition
    trail_arn = {"Fn::Sub": f"arn:{partition}:cloudtrail:${{AWS::Region}}:${{AWS::AccountId}}:trail/{TRAIL_NAME}"}
    bucket_arn = {"Fn::GetAtt": [_TRAIL_BUCKET, "Arn"]}
    service = {"Service": "cloudtrail.amazonaws.com"}
    from_trail = {"StringEquals": {"aws:SourceArn": trail_arn}}
    written = {"Fn::Sub": f"${{{_TRAIL_BUCKET}.Arn}}/AWSLogs/${{AWS::AccountId}}/*"}
    owned = {"StringEquals": {"aws:SourceArn": trail_arn, "s3:x-amz-acl": "bucket-owner-full-control"}}
    insecure = {"Bool": {"aws:SecureTransport": "false"}}
    all_of_it = [bucket_arn, {"Fn::Sub": f"${{{_TRAIL_BUCKET}.Arn}}/*"}]
    statements = [
        _statement("Allow", service, "s3:GetBucketAcl", bucket_arn, from_trail),
        _statement("Allow", service, "s3:PutObject", written, owned),
        _statement("Deny", "*", "s3:*", all_of_it, insecure),
    ]
    everything_blocked = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    encrypted = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return {
        _TRAIL_BUCKET: {
            "Type": "AWS::S3::Bucket",
            **_KEPT,
            "Properties": {
                "BucketEncryption": {"ServerSideEncryptionConfiguration": [encrypted]},
                "PublicAccessBlockConfiguration": dict.fromkeys(everything_blocked, True),
                "VersioningConfiguration": {"Status": "Enabled"},
            },
        },
        f"{_TRAIL_BUCKET}Policy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": _TRAIL_BUCKET},
                "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
            },
        },
    }


def _tripwires(settings: Settings, region: str) -> Resources:
    """Return a rule that tells the critical topic; where that topic is not, it forwards to where it is."""
    with_topic = settings.publish_regions
    targets = (
        [{"Id": "critical", "Arn": topic_arn(settings, settings.cloudwatch.critical_topic, region)}]
        if region in with_topic
        else [_bus(settings, to) for to in with_topic]
    )
    pattern = {
        "source": ["aws.kms"],
        "detail-type": ["AWS API Call via CloudTrail"],
        "detail": {"eventSource": ["kms.amazonaws.com"], "eventName": list(TRIPWIRES)},
    }
    found: Resources = {
        "Tripwires": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Description": "Somebody changed what sealed data depend on",
                "State": "ENABLED",
                "EventPattern": pattern,
                "Targets": targets,
            },
        }
    }
    if region in with_topic:
        topics = [topic_arn(settings, settings.cloudwatch.critical_topic, region)]
        found["CriticalTopicPolicy"] = {
            "Type": "AWS::SNS::TopicPolicy",
            "Condition": "SetsTopicPolicy",
            "Properties": {"Topics": topics, "PolicyDocument": who_may_publish(topics)},
        }
    else:
        found[_FORWARDER] = _forwarder([_bus_arn(settings, to) for to in with_topic])
    return found


def _bus(settings: Settings, region: str) -> dict[str, Any]:
    return {
        "Id": f"to-{region}",
        "Arn": _bus_arn(settings, region),
        "RoleArn": {"Fn::GetAtt": [_FORWARDER, "Arn"]},
    }


def _bus_arn(settings: Settings, region: str) -> str:
    partition, account_id = settings.core_config().partition, settings.estate.account_id
    return f"arn:{partition}:events:{region}:{account_id}:event-bus/default"


def _forwarder(buses: Sequence[str]) -> dict[str, Any]:
    service = {"Service": "events.amazonaws.com"}
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    trust = {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole", "Condition": ours}
    may = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": list(buses)}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
            "Policies": [
                {"PolicyName": "ForwardTripwires", "PolicyDocument": {"Version": "2012-10-17", "Statement": [may]}}
            ],
        },
    }


def _statement(effect: str, principal: Any, action: str, resource: Any, condition: Any) -> dict[str, Any]:
    return {
        "Effect": effect,
        "Principal": principal,
        "Action": action,
        "Resource": resource,
        "Condition": condition,
    }


# -- the private way to KMS -----------------------------------------------------------------------------------------

_YES_NO = {"Type": "String", "AllowedValues": ["yes", "no"], "Default": "yes"}
_TOPIC_POLICY: Mapping[str, Any] = {
    "SetsTopicPolicy": {
        **_YES_NO,
        "Description": "no: the topics are of a stack that kms-alarms rendered, whose policy lets tripwires in already",
    }
}
_EXECUTION_ROLE: Mapping[str, Any] = {
    "MakesExecutionRole": {**_YES_NO, "Description": "no: the account has an ecsTaskExecutionRole already"}
}
_VPC_PARAMETERS: Mapping[str, Any] = {
    "VpcId": {"Type": "String", "Default": "", "Description": "Where the application runs; empty: no endpoints"},
    "SubnetIds": {"Type": "CommaDelimitedList", "Default": "", "Description": "Its subnets, one a zone"},
    "VpcCidr": {"Type": "String", "Default": "10.0.0.0/8", "Description": "Who may ask the endpoints"},
}


def _is_yes(parameter: str) -> dict[str, Any]:
    return {parameter: {"Fn::Equals": [{"Ref": parameter}, "yes"]}}


def _endpoints(settings: Settings, region: str) -> Resources:
    """Return the endpoints of one region's VPC: KMS of every region, and what the watchdog needs at home."""
    found: Resources = {
        _ENDPOINT_ACCESS: {
            "Type": "AWS::EC2::SecurityGroup",
            "Condition": "HasVpc",
            "Properties": {
                "GroupDescription": "HTTPS to the private endpoints of KMS and what watches it",
                "VpcId": {"Ref": "VpcId"},
                "SecurityGroupIngress": [
                    {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": {"Ref": "VpcCidr"}}
                ],
            },
        }
    }
    for other in settings.estate.regions:
        endpoint = _endpoint(region, "kms", _kms_endpoint_policy(settings))
        if other != region:
            endpoint["Properties"] |= {"ServiceName": f"com.amazonaws.{other}.kms", "ServiceRegion": other}
        found[_logical("KmsEndpoint", other)] = endpoint
    for service in _OWN_SERVICES:
        found[_logical(service, "Endpoint")] = _endpoint(region, service, None)
    return found


def _endpoint(region: str, service: str, policy: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "Type": "AWS::EC2::VPCEndpoint",
        "Condition": "HasVpc",
        "Properties": {
            "VpcEndpointType": "Interface",
            "ServiceName": f"com.amazonaws.{region}.{service}",
            "VpcId": {"Ref": "VpcId"},
            "SubnetIds": {"Ref": "SubnetIds"},
            "SecurityGroupIds": [{"Fn::GetAtt": [_ENDPOINT_ACCESS, "GroupId"]}],
            "PrivateDnsEnabled": True,
            **({"PolicyDocument": policy} if policy else {}),
        },
    }


def _kms_endpoint_policy(settings: Settings) -> dict[str, Any]:
    """Let our own account's principals through, to our own account's keys: nobody carries data out under others'."""
    account = {"Ref": "AWS::AccountId"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement(
                "Allow",
                "*",
                "kms:*",
                [_any_key(settings, region) for region in settings.estate.regions],
                {"StringEquals": {"aws:PrincipalAccount": account}},
            ),
            _statement("Allow", "*", "kms:List*", "*", {"StringEquals": {"aws:PrincipalAccount": account}}),
        ],
    }


def _any_key(settings: Settings, region: str) -> dict[str, str]:
    return {"Fn::Sub": f"arn:{settings.core_config().partition}:kms:{region}:${{AWS::AccountId}}:key/*"}


def _arn_of(purpose: str) -> str:
    return _logical(purpose, "KeyArn")


def _logical(*parts: str) -> str:
    """Return a logical id: letters and digits alone, and the same for the same names."""
    words = [word for part in parts for word in re.split(r"[^A-Za-z0-9]", part)]
    return "".join(word[:1].upper() + word[1:] for word in words)
