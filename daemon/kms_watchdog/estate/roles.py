"""What IAM says of roles: read, nothing changed. IAM is global, and answers from one region: one read serves all.

A role's policies are its inline ones and those attached, managed ones in their default version, and its permissions
boundary. For those who watch, only what each document says about KMS is kept; who reviews gets them whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.access import Role, RoleAccess, UnreadableRole, parse_about_kms
from kms_watchdog.estate.kms_admin import EstateError, insist
from kms_watchdog.estate.policy import PolicyError

T = TypeVar("T")

IAM = "iam"
"""What stands in place of a region in the errors of a global service."""
NO_SUCH_ENTITY = "NoSuchEntity"
_OF_THIS_ROLE = frozenset({"AccessDenied", NO_SUCH_ENTITY})  # a policy may go between two questions


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDocuments:
    """One role with its documents as IAM has them."""

    name: str
    arn: str
    role_id: str
    trust: Any
    policies: tuple[tuple[str, Any], ...]
    """Each inline policy's name, or managed one's ARN, and its document."""
    boundary: tuple[str, Any] | None
    """Its ARN and document."""
    tags: tuple[tuple[str, str], ...] = ()


class RoleReader:
    """Asks IAM; any thread may call any method."""

    def __init__(self, settings: Settings, *, pause: Callable[[float], None] | None = None) -> None:
        """Make the client; call in the main thread.

        Args:
            settings: whose IAM.
            pause: waits before a call is made again that IAM refused for load; None: one try a call, for whoever comes
                again soon anyway.
        """
        self._iam = aws.client(settings, "iam", settings.home_region)
        self._pause = pause

    def read(self, name: str) -> Role:
        """Return what there is of one role.

        Raises:
            EstateError: IAM did not answer, or refused whoever asks, or for load.
        """
        try:
            return self._access(name)
        except PolicyError as e:
            return UnreadableRole(str(e))
        except EstateError as e:
            if (e.operation, e.code) == ("GetRole", NO_SUCH_ENTITY):
                return None
            if e.code in _OF_THIS_ROLE:
                return UnreadableRole(str(e))
            raise

    def documents(self, name: str) -> RoleDocuments:
        """Return one role whole.

        Raises:
            EstateError: there is no such role, IAM did not answer, or refused whoever asks, or for load.
        """
        role = self._call("GetRole", lambda: self._iam.get_role(RoleName=name)["Role"])
        boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return RoleDocuments(
            name=name,
            arn=role["Arn"],
            role_id=role.get("RoleId", ""),
            trust=role.get("AssumeRolePolicyDocument"),
            policies=(*self._inline(name), *self._attached(name)),
            boundary=(boundary, self._managed(boundary)) if boundary else None,
            tags=tuple((tag["Key"], tag["Value"]) for tag in role.get("Tags", [])),
        )

    def _access(self, name: str) -> RoleAccess:
        found = self.documents(name)
        boundary = found.boundary
        return RoleAccess(
            name=name,
            arn=found.arn,
            role_id=found.role_id,
            policies=tuple(parse_about_kms(document, where) for where, document in found.policies),
            boundary=parse_about_kms(boundary[1], boundary[0]) if boundary else None,
            tags=found.tags,
        )

    def _inline(self, name: str) -> Iterator[tuple[str, Any]]:
        for policy in self._pages("list_role_policies", "PolicyNames", RoleName=name):
            yield policy, self._call("GetRolePolicy", partial(self._inline_document, name, policy))

    def _inline_document(self, name: str, policy: str) -> Any:
        return self._iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]

    def _attached(self, name: str) -> Iterator[tuple[str, Any]]:
        for policy in self._pages("list_attached_role_policies", "AttachedPolicies", RoleName=name):
            yield policy["PolicyArn"], self._managed(policy["PolicyArn"])

    def _managed(self, arn: str) -> Any:
        version = self._call("GetPolicy", lambda: self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"])
        return self._call(
            "GetPolicyVersion",
            lambda: self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"],
        )

    def _pages(self, operation: str, member: str, **arguments: Any) -> list[Any]:
        def ask() -> list[Any]:
            pages = self._iam.get_paginator(operation).paginate(**arguments)
            return [item for page in pages for item in page[member]]

        return self._call(operation.title().replace("_", ""), ask)

    def _call(self, operation: str, ask: Callable[[], T]) -> T:
        if self._pause is None:
            return insist(ask, IAM, operation, pause=lambda _: None, tries=1)
        return insist(ask, IAM, operation, pause=self._pause)


Roles = Mapping[str, Role]


class _Reading:
    """One read of all roles, under way or over; without an outcome when it was over, who read has crashed."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.ended_at = 0.0
        self.outcome: Roles | EstateError | None = None


class RoleBook:
    """All watched roles, read by whoever first finds them old, for everybody; the others wait for it.

    A failure is kept as long as an answer is: nine canaries need not find out nine times that IAM is silent.
    """

    def __init__(
        self, read: Callable[[str], Role], names: Sequence[str], clock: Clock, *, max_age_seconds: float
    ) -> None:
        """Read nothing yet.

        Args:
            read: reads one role, e.g. `RoleReader.read`.
            names: of the roles; there are no others in the book.
            clock: tells how old an answer is.
            max_age_seconds: from which age on it is read anew.
        """
        self._read, self._names, self._clock, self._max_age_seconds = read, tuple(names), clock, max_age_seconds
        self._lock = threading.Lock()
        self._last: _Reading | None = None

    def roles(self, *, wait_seconds: float) -> Roles | None:
        """Return the roles by name; None: somebody was reading them all the time.

        Raises:
            EstateError: IAM did not answer, or refused whoever asks, or for load.
        """
        while True:
            with self._lock:
                reading = self._last
                mine = reading is None or self._is_old(reading)
                if reading is None or mine:
                    reading = self._last = _Reading()
            if mine:
                self._read_all(reading)
            elif not (reading.over.is_set() or self._clock.wait(reading.over, wait_seconds)):
                return None
            if isinstance(reading.outcome, EstateError):
                raise reading.outcome.with_traceback(None)
            if reading.outcome is not None:
                return reading.outcome

    def _is_old(self, reading: _Reading) -> bool:
        if not reading.over.is_set():
            return False
        return reading.outcome is None or self._clock.monotonic() - reading.ended_at >= self._max_age_seconds

    def _read_all(self, reading: _Reading) -> None:
        try:
            reading.outcome = {name: self._read(name) for name in self._names}
        except EstateError as e:
            reading.outcome = e
        finally:  # whatever happened, nobody waits for ever
            reading.ended_at = self._clock.monotonic()
            reading.over.set()
