"""The one door to boto3 outside the crypto core: CloudWatch, SNS, STS, and KMS's management calls."""

from __future__ import annotations

import functools
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from kms_watchdog.config import Settings

AwsError = (BotoCoreError, ClientError)
"""What a call through this door may raise."""

_TIMEOUTS = {"connect_timeout": 1.0, "read_timeout": 5.0}


@functools.cache
def _session() -> Any:
    return boto3.session.Session()  # one for all: a session of its own costs a client 120 ms and 9 MB


def client(settings: Settings, service: str, region: str) -> Any:
    """Return a client for `service` in `region`, with the endpoint and certificates that `settings` name.

    One attempt and short timeouts: who calls decides about the next try (a hidden retry repeats side effects,
    `create_key` above all). Create clients in the main thread; they may then be used from any.
    """
    endpoint = settings.endpoints.get(region)
    ca_bundle = settings.estate.ca_bundle
    return _session().client(
        service,
        region_name=region,
        endpoint_url=getattr(endpoint, service) if endpoint else None,
        verify=str(ca_bundle) if ca_bundle else None,
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, **_TIMEOUTS),
    )


def error_code(error: Exception) -> str:
    """Return AWS's own code for `error`, or the class name of a fault of the connection."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


Trouble = Literal["throttled", "denied", "refused", "unreachable"]
"""What a failed call asks for: wait, call a person, send something else, try again."""

_REFUSED = frozenset(
    {
        "InvalidFormat",
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MissingParameter",
        "MissingRequiredParameterException",
        "RequestEntityTooLarge",
        "SerializationException",
        "ValidationError",
        "ValidationException",
        "413",
    }
)
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_CLIENT_ERRORS = range(400, 500)


def trouble(error: Exception) -> Trouble:
    """Return what kind of failure `error` is; only `refused` says that what was sent is bad."""
    code = error_code(error)
    if isinstance(error, ParamValidationError) or code in _REFUSED:
        return "refused"
    if code in _THROTTLED:
        return "throttled"
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return "denied" if status in _CLIENT_ERRORS else "unreachable"
    return "denied" if "Credential" in code else "unreachable"
