"""What AWS was really asked, as botocore says when it sends; and an estate on a local AWS that enforces policies."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kms_alarms.cli import cli as alarms
from kms_local.demo.configuration import DemoFolder, local_configuration
from kms_local.testing import LocalAws, start_local_aws
from kms_watchdog import aws
from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.iam.estate_roles import account_details, estate_roles

_SENDING = "botocore.endpoint"
_PREFIXES = {"monitoring": "cloudwatch"}
"""IAM's prefix of a service, where it is not the one of its end point."""
_NOBODY_REFUSES = frozenset({"sts:GetCallerIdentity", "sts:AssumeRoleWithWebIdentity"})
"""No policy of the caller's is asked: everybody may do the one, and for the other the role's trust policy decides.
Source: AWS STS API Reference, of both."""


@dataclass(frozen=True)
class Call:
    """One request: what it is called, where it goes, and, of KMS, what it says."""

    service: str
    operation: str
    url: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def actions(self) -> frozenset[str]:
        """The actions that IAM asks about for it. Source: Service Authorization Reference, of each service."""
        name = f"{self.service}:{self.operation}"
        if name in _NOBODY_REFUSES:
            return frozenset()
        if name in _OTHERWISE:
            return frozenset(_OTHERWISE[name])
        more = {f"{self.service}:TagResource"} if self.service == "kms" and "Tags" in self.parameters else set()
        if name == "kms:ReplicateKey":  # in the other region
            more.add("kms:CreateKey")
        return frozenset({name, *more})


_OTHERWISE: Mapping[str, tuple[str, ...]] = {
    "dynamodb:TransactWriteItems": ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"),
    "s3:GetObject": ("s3:GetObjectVersion",),  # ours always name a version
    "s3:GetObjectLockConfiguration": ("s3:GetBucketObjectLockConfiguration",),
    "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:PutObject": ("s3:PutObject", "s3:PutObjectRetention"),  # ours always have a retention
    "cloudwatch:PutMetricAlarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"),
    "cloudwatch:PutCompositeAlarm": ("cloudwatch:PutCompositeAlarm", "cloudwatch:TagResource"),
}


class Recording(logging.Handler):
    """What is asked. The crypto core lets nothing about its requests be logged: it is listened to by `on_client`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.calls: list[Call] = []
        self._adding = threading.Lock()

    @property
    def actions(self) -> frozenset[str]:
        """Every action that the calls needed."""
        return frozenset(action for call in self.calls for action in call.actions)

    def on_client(self, _region: str, client: Any) -> None:
        """As `Core` takes it: note what `client` asks."""
        client.meta.events.register("before-call", lambda model, params, **_: self._add(model, params))

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("Making request for") and isinstance(record.args, tuple):
            self._add(*record.args)

    def _add(self, model: Any, request: Any) -> None:
        prefix = str(model.service_model.endpoint_prefix)
        said = json.loads(request["body"]) if prefix == "kms" and request["body"] else {}
        call = Call(_PREFIXES.get(prefix, prefix), str(model.name), str(request["url"]), said)
        with self._adding:
            self.calls.append(call)


@contextmanager
def recorded() -> Iterator[Recording]:
    """Note what this process asks, inside the block."""
    logger, recording = logging.getLogger(_SENDING), Recording()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(recording)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield recording
    finally:
        logger.removeHandler(recording)
        logger.setLevel(level)
        logger.propagate = propagate


@dataclass(eq=False)
class Stand:
    """A local AWS that enforces every policy, the estate on it, and who acts."""

    server: LocalAws
    settings: Settings
    config: Path
    patch: pytest.MonkeyPatch
    calls: dict[str, Recording] = field(default_factory=dict)
    """By command, of those that the fixture itself ran."""

    def act_as(self, role: str | None) -> None:
        """Sign with a role's credentials from now on; None: the administrator's."""
        endpoints = self.server.endpoints
        given = endpoints["roles"][role] if role else endpoints["credentials"]
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            self.patch.setenv(name.upper(), given.get(name, ""))
        aws._session.cache_clear()

    def run(self, group: Any, *words: str, role: str | None) -> tuple[Result, Recording]:
        """Run a command under a role, and return what it asked."""
        self.act_as(role)
        with recorded() as calls:
            result = CliRunner().invoke(group, [*words, "--config", str(self.config)])
        return result, calls

    @cached_property
    def key_ids(self) -> Mapping[str, str]:
        aliases = self.server.admin("GET", "/state")["regions"][self.settings.estate.primary_region]["aliases"]
        return {purpose: aliases[key.alias] for purpose, key in self.settings.keys.items()}

    def hand_over(self, *roles: str) -> None:
        """Give the account these of the estate's roles; all of them by default."""
        chosen = [one for one in estate_roles(self.settings) if not roles or one.name in roles]
        known = self.key_ids if not roles else {}
        self.server.replace_roles(account_details(Rendering(settings=self.settings, key_ids=known), chosen))


def settings_on(server: LocalAws, folder: DemoFolder) -> Settings:
    text = local_configuration(
        server.endpoints, state=str(folder.state), alarms=str(folder.alarms), listen="127.0.0.1:0"
    )
    folder.configuration.write_text(text.replace("\n[canaries.alarm_path]\ndefinitions", "\n# definitions"), "utf-8")
    return load(folder.configuration)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The estate as provisioned under the provisioning role, which had nothing but its rendered policy."""
    folder = DemoFolder(tmp_path_factory.mktemp("roles"))
    flags = ("--enforce-policies", "--creating-seconds", "0.1")
    with (
        start_local_aws(folder.aws, flags=flags, toxiproxy=False) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        made = Stand(server, settings_on(server, folder), folder.configuration, patch)
        made.hand_over("KmsProvisioningRole")
        for words in (("provision", "plan"), ("provision", "apply", "--yes")):
            result, calls = made.run(command, *words, "--steps", WITHOUT_ROLES, role="KmsProvisioningRole")
            made.calls[" ".join(words[:2])] = calls
            assert (result.exit_code, result.stderr) == (words[1] == "plan", ""), result.stderr
        for words in (("plan",), ("apply", "--yes"), ("subscribe", ON_CALL)):
            result, made.calls[f"alarms {words[0]}"] = made.run(alarms, *words, role="KmsProvisioningRole")
            assert (result.exit_code, result.stderr) == (words[0] == "plan", ""), result.output
        made.hand_over()
        yield made
    aws._session.cache_clear()


WITHOUT_ROLES = "trail,keys,aliases,rotation"
ON_CALL = "http://127.0.0.1:9/on-call"
"""Nobody listens there: what is told is of no interest here."""
