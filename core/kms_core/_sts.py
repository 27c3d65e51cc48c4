"""Whose credentials: a role assumed through regional STS, and the account that STS says they are of.

Beside `_kms_boto3` the other door to botocore. STS is asked in the home region first and then in the others, never at
the global endpoint, which lives in us-east-1 alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.session
from botocore import loaders
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
)

from kms_core._quiet import secrets_in_answers
from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig
from kms_core.errors import ConfigurationError

_ROLE_SECONDS = 3600
_FAILED_SECONDS = 2.0
_SERVER_ERRORS = range(500, 600)
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown"})
_METHOD = "assume-role"

T = TypeVar("T")


def session(config: CoreConfig, clock: Clock | None = None) -> Any:
    """Return the boto3 session of a core: the credentials that boto3 finds, or the role that `config` names.

    A role's credentials are fetched at the first request and again before they expire. What goes wrong then is
    `CredentialRetrievalError`, so that an outage of STS is never taken for one of KMS.

    Raises:
        ConfigurationError: the profile that the environment names is not there.
    """
    try:
        ours = _base_session()
        found = _Once(ours.get_component("credential_provider"))
        if config.role_arn is not None:
            found = _Once(CredentialResolver([_Role(config, clock or SystemClock())]))
        ours.register_component("credential_provider", found)
        return boto3.session.Session(botocore_session=ours)
    except BotoCoreError as e:
        raise ConfigurationError(f"no session of boto3's: {e}") from e


def refuse_another_account(config: CoreConfig, made: Any) -> str:
    """Ask STS whose the credentials of `made`, a session, are; return why nobody could tell, or nothing.

    No answer that can be read is no misconfiguration.

    Raises:
        ConfigurationError: another account's than the configuration says.
    """
    try:
        found = _first_answer(config, made, lambda sts: str(sts.get_caller_identity()["Account"]))
    except Exception as e:  # noqa: BLE001 - whatever botocore and its sources of credentials come up with
        return type(e).__name__
    if found != config.account_id:
        raise ConfigurationError(f"account_id is {config.account_id}, and STS says these credentials are of {found}")
    return ""


def fetch_credentials(made: Any) -> None:
    """Have the credentials of `made`, a session, before a request to KMS waits for them; failing is for later."""
    with contextlib.suppress(Exception):  # as above; there may be none at all
        made.get_credentials().get_frozen_credentials()


def _base_session() -> Any:
    """Return a new botocore session that need not read the services' models again.

    Reading them takes some 90 ms of processor time, and a client is made anew in the middle of a call when
    credentials have gone stale.
    """
    made = botocore.session.get_session()
    made.register_component("data_loader", _models())
    return made


@functools.cache
def _models() -> Any:
    return loaders.create_loader(botocore.session.get_session().get_config_variable("data_path"))


class _Once:
    """Looks for credentials once, also when there are none: each client would look again, and wait as long again."""

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver
        self._looked = False
        self._found: Any = None

    def load_credentials(self) -> Any:
        """Return what was found the first time."""
        if not self._looked:
            self._found = self._resolver.load_credentials()
            self._looked = True
        return self._found


class _Role(CredentialProvider):  # type: ignore[misc] # botocore has no types
    """A provider of refreshed credentials, in the place of botocore's own chain.

    botocore asks for them under a lock, so whoever comes while STS is silent waits his turn: a failure is remembered
    for a moment, else each in turn would find it out anew.
    """

    METHOD = _METHOD

    def __init__(self, config: CoreConfig, clock: Clock) -> None:
        super().__init__()
        self._config = config
        self._clock = clock
        self._token_file = config.web_identity_token_file
        self._base = boto3.session.Session(botocore_session=_base_session())
        self._made = DeferredRefreshableCredentials(self._refresh, _METHOD)
        self._why_not = ""
        self._not_again_before = 0.0

    def load(self) -> DeferredRefreshableCredentials:
        return self._made

    def _refresh(self) -> Mapping[str, str]:
        if self._why_not and self._clock.monotonic() < self._not_again_before:
            raise CredentialRetrievalError(provider=_METHOD, error_msg=self._why_not)
        try:
            with secrets_in_answers():
                found = _first_answer(self._config, self._base, self._ask, signed=self._token_file is None)
        except Exception as e:
            self._why_not = type(e).__name__
            self._not_again_before = self._clock.monotonic() + _FAILED_SECONDS
            raise CredentialRetrievalError(provider=_METHOD, error_msg=self._why_not) from e
        self._why_not = ""
        return found

    def _ask(self, sts: Any) -> Mapping[str, str]:
        name = f"kms-core-{os.getpid()}"
        asked = {"RoleArn": self._config.role_arn, "RoleSessionName": name, "DurationSeconds": _ROLE_SECONDS}
        if self._token_file is None:
            found = sts.assume_role(**asked)["Credentials"]
        else:
            token = Path(self._token_file).read_text(encoding="utf-8")  # each time: the platform replaces it
            found = sts.assume_role_with_web_identity(**asked, WebIdentityToken=token)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }


def _first_answer(config: CoreConfig, made: Any, ask: Callable[[Any], T], *, signed: bool = True) -> T:
    """Return what `ask` reads from the first region's answer; a refusal is an answer too, and raised at once."""
    last: Exception | None = None
    for region in dict.fromkeys((config.home_region, *config.region_order)):
        client = _client(config, made, region, signed=signed)
        try:
            return ask(client)
        except Exception as e:
            if not _elsewhere(e):
                raise
            last = e
        finally:
            client.close()
    raise last or AssertionError("a configuration names at least one region")


def _client(config: CoreConfig, made: Any, region: str, *, signed: bool) -> Any:
    """Return a client of STS in `region`; one whose requests are not signed is spared the search for credentials."""
    unused = {} if signed else {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
    return made.client(
        "sts",
        region_name=region,
        endpoint_url=config.sts_endpoints.get(region) or f"https://sts.{region}.{_domain(config)}",
        verify=config.ca_bundle,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=config.connect_timeout_seconds,
            read_timeout=config.read_timeout_seconds,
            user_agent_extra="kms-core",
        ),
        **unused,
    )


def _domain(config: CoreConfig) -> str:
    return "amazonaws.com.cn" if config.partition == "aws-cn" else "amazonaws.com"


def _elsewhere(error: Exception) -> bool:
    """Return whether another region's STS may do better.

    This one was not reached, failed by itself, throttles, or said what nobody can read, such as a proxy's page.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status in _SERVER_ERRORS or error.response.get("Error", {}).get("Code", "") in _THROTTLED
    if isinstance(error, BotoCoreError):
        return not isinstance(error, ParamValidationError | NoCredentialsError)
    return not isinstance(error, OSError | UnicodeDecodeError)  # a token's file, which is the same everywhere
