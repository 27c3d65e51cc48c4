"""IAM's calls that make roles. IAM is global: one client; what it refuses for load is asked again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.kms_admin import EstateError, insist
from kms_watchdog.estate.role_plan import DesiredBoundary, DesiredRole, ObservedRole
from kms_watchdog.estate.roles import IAM, NO_SUCH_ENTITY

T = TypeVar("T")

_EXISTS = "EntityAlreadyExists"


class RoleAdmin:
    """Reads and makes roles; any thread may call any method."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Make the client; call in the main thread.

        Args:
            settings: whose IAM.
            clock: waits between tries.
        """
        self._clock, self._never = clock, threading.Event()
        self._iam = aws.client(settings, "iam", settings.home_region)

    def observe(self, wanted: DesiredRole) -> ObservedRole | None:
        """Return what there is of a role, None if there is none.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        role = self._if_there("GetRole", lambda: self._get_role(wanted.name))
        if role is None:
            return None
        policy = self._if_there("GetRolePolicy", lambda: self._get_policy(wanted))
        boundary = str(role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""))
        return ObservedRole(trust=role["AssumeRolePolicyDocument"], policy=policy, boundary=boundary)

    def observe_boundary(self, wanted: DesiredBoundary) -> Any | None:
        """Return what a managed policy says in its default version, None if there is none.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        arn = wanted.arn
        version = self._if_there("GetPolicy", lambda: self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"])
        if version is None:
            return None
        return self._if_there(
            "GetPolicyVersion",
            lambda: self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"],
        )

    def create_boundary(self, wanted: DesiredBoundary) -> None:
        """Make the managed policy; one that somebody has made meanwhile is left as it is.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        self._make(
            "CreatePolicy",
            lambda: self._iam.create_policy(PolicyName=wanted.name, PolicyDocument=json.dumps(wanted.policy)),
        )

    def put_boundary(self, wanted: DesiredRole) -> None:
        """Give the role its permissions boundary.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        self._change(
            "PutRolePermissionsBoundary",
            lambda: self._iam.put_role_permissions_boundary(RoleName=wanted.name, PermissionsBoundary=wanted.boundary),
        )

    def create(self, wanted: DesiredRole) -> None:
        """Make the role; one that somebody has made meanwhile is left as it is.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        boundary = {"PermissionsBoundary": wanted.boundary} if wanted.boundary else {}
        self._make(
            "CreateRole",
            lambda: self._iam.create_role(
                RoleName=wanted.name, AssumeRolePolicyDocument=json.dumps(wanted.trust), **boundary
            ),
        )

    def put_trust(self, wanted: DesiredRole) -> None:
        """Let assume it whoever should, and nobody else.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        self._change(
            "UpdateAssumeRolePolicy",
            lambda: self._iam.update_assume_role_policy(RoleName=wanted.name, PolicyDocument=json.dumps(wanted.trust)),
        )

    def put_policy(self, wanted: DesiredRole) -> None:
        """Put its policy in the place of the one of that name.

        Raises:
            EstateError: IAM did not answer, or refused.
        """
        self._change(
            "PutRolePolicy",
            lambda: self._iam.put_role_policy(
                RoleName=wanted.name, PolicyName=wanted.policy_name, PolicyDocument=json.dumps(wanted.policy)
            ),
        )

    def _get_role(self, name: str) -> Mapping[str, Any]:
        role: Mapping[str, Any] = self._iam.get_role(RoleName=name)["Role"]
        return role

    def _get_policy(self, wanted: DesiredRole) -> Mapping[str, Any]:
        answer = self._iam.get_role_policy(RoleName=wanted.name, PolicyName=wanted.policy_name)
        document: Mapping[str, Any] = answer["PolicyDocument"]
        return document

    def _make(self, operation: str, ask: Callable[[], object]) -> None:
        try:
            self._change(operation, ask)
        except EstateError as e:
            if e.code != _EXISTS:
                raise

    def _if_there(self, operation: str, ask: Callable[[], T]) -> T | None:
        try:
            return self._call(operation, ask)
        except EstateError as e:
            if e.code == NO_SUCH_ENTITY:
                return None
            raise

    def _change(self, operation: str, ask: Callable[[], object]) -> None:
        """Ask for a change; a role or boundary that was made a moment ago is not known everywhere at once."""
        insist(ask, IAM, operation, pause=self._pause, also=frozenset({NO_SUCH_ENTITY}))

    def _call(self, operation: str, ask: Callable[[], T]) -> T:
        return insist(ask, IAM, operation, pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self._clock.wait(self._never, seconds)
