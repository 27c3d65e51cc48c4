"""The one door to boto3 outside the crypto core: CloudWatch, SNS, STS, SSM, and KMS's management calls."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from kms_core._tls import prepared
from kms_watchdog.config import ConfigError, Settings

AwsError = (BotoCoreError, ClientError, ResponseParserError)
"""What a call through this door may raise. The last is how an answer in XML ends that was cut off."""


class TruncatedAnswerError(BotoCoreError):  # type: ignore[misc] # botocore has no types
    """An answer in JSON was cut off: botocore reports it as a success without members (aws.md, trap G)."""

    fmt = "The answer is not whole"


_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS = 1.0, 5.0


_IAM_REGIONS = {"cn": "cn-north-1"}
"""Where IAM, which is global, answers: a client of another region signs for that one, and is refused where an end point
is configured. Source: AWS General Reference, "AWS Identity and Access Management endpoints"."""


@functools.cache
def _session() -> Any:
    try:
        return boto3.session.Session()  # one for all: a session of its own costs a client 120 ms and 9 MB
    except BotoCoreError as e:
        raise ConfigError(f"no session of boto3's: {e}") from e


def client(
    settings: Settings, service: str, region: str, *, read_timeout_seconds: float = _READ_TIMEOUT_SECONDS
) -> Any:
    """Return a client for `service` in `region`, with the endpoint and certificates that `settings` name.

    One attempt and short timeouts: who calls decides about the next try (a hidden retry repeats side effects,
    `create_key` above all). Create clients in the main thread; they may then be used from any.

    Raises:
        ConfigError: the profile that the environment names is not there.
    """
    endpoint = settings.endpoints.get(region)
    ca_bundle = settings.estate.ca_bundle
    made = _session().client(
        service,
        region_name=_IAM_REGIONS.get(region.split("-", maxsplit=1)[0], "us-east-1") if service == "iam" else region,
        endpoint_url=getattr(endpoint, service) if endpoint else None,
        verify=str(ca_bundle) if ca_bundle else None,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            read_timeout=read_timeout_seconds,
        ),
    )
    return prepared(made)


@dataclass(frozen=True, slots=True)
class Way:
    """How this process's clients get to a server."""

    url: str
    ca_file: str
    """The certificate authorities they trust: a PEM file."""
    proxy_url: str | None = field(repr=False)
    """An HTTP proxy they go through; its URL may hold a password."""


def way_to_kms(settings: Settings, region: str) -> Way:
    """Return how clients get to `region`'s KMS, as `way_to`."""
    return way_to(settings, "kms", region)


def way_to(settings: Settings, service: str, region: str) -> Way:
    """Return how clients get to `service` in `region`, as boto3 decides: configuration, environment, AWS's own names.

    Call in the main thread.
    """
    url = str(client(settings, service, region).meta.endpoint_url)
    configured = settings.estate.ca_bundle or botocore.session.get_session().get_config_variable("ca_bundle")
    return Way(url, str(configured or get_cert_path(verify=True)), get_environ_proxies(url).get("https"))


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


class ParameterError(RuntimeError):
    """A parameter could not be read or written.

    Args:
        code: AWS's own, or the class name of a fault of the connection.
        trouble: what kind of failure it is.
    """

    def __init__(self, code: str, trouble: Trouble) -> None:
        super().__init__(code)
        self.code, self.trouble = code, trouble


class Parameters:
    """One region's SSM parameters; make it in the main thread, it may then be used from any."""

    def __init__(self, settings: Settings, region: str) -> None:
        self._client = client(settings, "ssm", region)

    def get(self, name: str) -> tuple[str, int] | None:
        """Return value and version; None: there is none. `NAME:3` asks for version 3.

        Raises:
            ParameterError: it cannot be read.
        """
        try:
            found = self._client.get_parameter(Name=name)["Parameter"]
        except AwsError as e:
            if error_code(e) in {"ParameterNotFound", "ParameterVersionNotFound"}:
                return None
            raise ParameterError(error_code(e), trouble(e)) from e
        return str(found["Value"]), int(found["Version"])

    def put(self, name: str, value: str) -> int:
        """Write the value over whatever is there; return its version.

        Raises:
            ParameterError: it cannot be written.
        """
        try:
            return int(self._client.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)["Version"])
        except AwsError as e:
            raise ParameterError(error_code(e), trouble(e)) from e
