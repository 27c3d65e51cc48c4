"""The one door to boto3: a client for each region, and its errors under the core's names.

botocore must not retry, or six attempts become eighteen; the core alone decides where and when to ask again.
"""

from __future__ import annotations

import contextlib
import platform
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore import __version__ as botocore_version
from botocore import exceptions as botocore_errors
from botocore.config import Config

from kms_core import _sts, taxonomy
from kms_core._quiet import secrets_in_answers
from kms_core._tls import prepared
from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig, check_ca_bundle
from kms_core.errors import ConfigurationError, KmsDeniedError
from kms_core.kms import (
    DECRYPT,
    DESCRIBE_KEY,
    GENERATE_DATA_KEY,
    DescribedKey,
    GeneratedKey,
    KeyMaterial,
    KmsFailure,
    UnwrappedKey,
)

_DATA_KEY_BYTES = 32
_CONNECTIONS = 32
_USER_AGENT = f"kms-core Botocore/{botocore_version} Python/{platform.python_version()}"
"""One text for all requests: botocore's own is put together anew for each, an eighth of a request's processor time."""
_RENEWAL_SECONDS = 5.0
"""Credentials that stay bad are not looked up anew more often than this, in each region."""
_RETRIEVAL = frozenset({"CredentialRetrievalError", "TokenRetrievalError"})
_OPERATIONS = frozenset({GENERATE_DATA_KEY, DECRYPT, DESCRIBE_KEY})
_RETRY_AFTER = ("x-amz-retry-after", "retry-after")  # milliseconds; seconds

_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (botocore_errors.ConnectTimeoutError, taxonomy.CONNECT_TIMEOUT),
    (botocore_errors.ReadTimeoutError, taxonomy.READ_TIMEOUT),
    (botocore_errors.ConnectionClosedError, taxonomy.CONNECTION_RESET),
    (botocore_errors.ProxyConnectionError, taxonomy.CONNECTION_REFUSED),
    (botocore_errors.EndpointConnectionError, taxonomy.CONNECTION_REFUSED),
    (botocore_errors.IncompleteReadError, taxonomy.TRUNCATED),
    (botocore_errors.ResponseStreamingError, taxonomy.TRUNCATED),
    (botocore_errors.ParamValidationError, "ParamValidationError"),
    (botocore_errors.NoCredentialsError, "NoCredentialsError"),
    (botocore_errors.PartialCredentialsError, "PartialCredentialsError"),
    (botocore_errors.CredentialRetrievalError, "CredentialRetrievalError"),
    (botocore_errors.TokenRetrievalError, "TokenRetrievalError"),
    (botocore_errors.NoAuthTokenError, "TokenRetrievalError"),
    (botocore_errors.SSOError, "TokenRetrievalError"),
)
"""What botocore's exceptions mean when nothing beneath them says better."""

_BY_CAUSE: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, taxonomy.DNS_FAILURE),
    (ssl.SSLEOFError, taxonomy.CONNECTION_RESET),  # the peer hung up in the handshake: an outage, though SSL's word
    (ssl.SSLError, taxonomy.TLS_ERROR),
    (ConnectionRefusedError, taxonomy.CONNECTION_REFUSED),
    (ConnectionError, taxonomy.CONNECTION_RESET),
    (TimeoutError, taxonomy.READ_TIMEOUT),
)
"""What Python itself raised at the bottom of the chain, which no library's wording hides."""


class Signing:
    """Which threads are signing a request, which is when botocore looks for credentials. Safe from any thread."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def watch(self, client: Any) -> None:
        """Listen to `client`."""
        client.meta.events.register("before-sign.kms", self.begin)
        client.meta.events.register_last("request-created.kms", self.done)  # signed; who sends is not our affair

    def busy(self, thread: int) -> bool:
        """Return whether `thread` is."""
        return thread in self._threads

    def done(self, **_: Any) -> None:
        """The present thread is not, or no longer."""
        self._threads.discard(threading.get_ident())

    def begin(self, **_: Any) -> None:
        """The present thread is."""
        self._threads.add(threading.get_ident())


class Boto3Kms:
    """One region's KMS through a boto3 client, which many threads may share."""

    def __init__(
        self,
        region: str,
        client: Any,
        renewed: Callable[[], Any] | None = None,
        clock: Clock | None = None,
        signing: Signing | None = None,
    ) -> None:
        self._region = region
        self._signing = signing or Signing()
        self._client = client
        self._renewed = renewed
        """Makes another client, with credentials looked up anew; None: there are no others."""
        self._clock = clock or SystemClock()
        self._made_at = self._clock.monotonic()
        self._not_renewed_before = 0.0
        self._lock = threading.Lock()

    @property
    def region(self) -> str:
        """The region that answers."""
        return self._region

    def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> GeneratedKey:
        """Make a data key of 32 bytes, bound to `context`."""
        reply = self._asked(
            "generate_data_key",
            KeyId=key_arn,
            NumberOfBytes=_DATA_KEY_BYTES,
            EncryptionContext=dict(context),
        )
        plaintext, wrapped, arn = _fields(reply, "Plaintext", "CiphertextBlob", "KeyId")
        return GeneratedKey(plaintext=plaintext, wrapped=wrapped, key_arn=arn, request_id=_request_id(reply))

    def decrypt(self, wrapped: bytes, key_arn: str, context: Mapping[str, str]) -> UnwrappedKey:
        """Open a wrapped data key."""
        reply = self._asked("decrypt", KeyId=key_arn, CiphertextBlob=wrapped, EncryptionContext=dict(context))
        plaintext, arn = _fields(reply, "Plaintext", "KeyId")
        return UnwrappedKey(plaintext=plaintext, key_arn=arn, request_id=_request_id(reply))

    def describe_key(self, alias: str) -> DescribedKey:
        """Say which key `alias` points to."""
        reply = self._asked("describe_key", KeyId=alias)
        (metadata,) = _fields(reply, "KeyMetadata")
        arn = metadata.get("Arn")
        if not arn:
            raise KmsFailure(taxonomy.TRUNCATED, status=_status(reply), request_id=_request_id(reply))
        return DescribedKey(key_arn=arn, request_id=_request_id(reply))

    def close(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        self._client.close()

    def _asked(self, method: str, **parameters: Any) -> dict[str, Any]:
        client = self._client
        try:
            with secrets_in_answers():
                return _veiled(getattr(client, method)(**parameters))
        except Exception as e:  # the port promises one exception: what is unknown has a name there too
            failure = translate(e)
            if failure.code in taxonomy.STALE_CREDENTIALS or self._may_have_come(failure.code):
                self._signing.begin()  # the region has answered: what is waited for now is credentials
                self._renew(client)
            raise failure from e
        finally:
            self._signing.done()

    def waits_for_credentials(self, thread: int) -> bool:
        """Return whether the request of `thread` waits for credentials now, so that nothing of it has been sent."""
        return self._signing.busy(thread)

    def _may_have_come(self, code: str) -> bool:
        """Return whether it is time to look again for credentials that were not there."""
        return code == "NoCredentialsError" and self._clock.monotonic() >= self._made_at + _RENEWAL_SECONDS

    def _renew(self, stale: Any) -> None:
        """Take a client with fresh credentials for the next request: botocore refreshes by its own clock alone."""
        with self._lock:
            now = self._clock.monotonic()
            if self._renewed is None or self._client is not stale or now < self._not_renewed_before:
                return
            self._not_renewed_before = now + _RENEWAL_SECONDS
            with contextlib.suppress(Exception):  # as in `_asked`: the failure that led here is what is told
                self._client = self._renewed()
                stale.close()


def connector(
    config: CoreConfig,
    on_client: Callable[[str, Any], None] | None,
    session: Any = None,
    clock: Clock | None = None,
) -> Callable[[str], Boto3Kms]:
    """Return a function that makes the client of a region, all from one session, `session` when it is given.

    Call it from one thread: clients may be shared between threads, a session may not.

    Raises:
        ConfigurationError: the file with the certificates to trust is not there.
    """
    if config.ca_bundle is not None:
        check_ca_bundle(config.ca_bundle)
    session = session or _sts.session(config, clock)
    settings = client_config(config)

    def client_of(region: str, session: Any, signing: Signing) -> Any:
        client = _client(config, settings, session, region)
        signing.watch(client)
        if on_client is not None:
            on_client(region, client)
        return client

    def connect(region: str) -> Boto3Kms:
        signing = Signing()
        client = client_of(region, session, signing)
        return Boto3Kms(region, client, lambda: client_of(region, _sts.session(config, clock), signing), clock, signing)

    return connect


def find_credentials(session: Any) -> None:
    """Have `session` look for its credentials now, and keep them; there may be none.

    Raises:
        KmsDeniedError: who gives them does not. ConfigurationError: what says how to get them is wrong.
    """
    with _own_errors("no credentials"), secrets_in_answers():
        session.get_credentials()


def _client(config: CoreConfig, settings: Config, session: Any, region: str) -> Any:
    """Return a new client; botocore looks for credentials already now, when that has not been done before.

    Raises:
        As `find_credentials`.
    """
    with _own_errors(f"no client for {region}"), secrets_in_answers():
        client = session.client(
            "kms",
            region_name=region,
            endpoint_url=config.endpoints.get(region),
            verify=config.ca_bundle,
            config=settings,
        )
        return prepared(client)


@contextlib.contextmanager
def _own_errors(what: str) -> Iterator[None]:
    """Turn what botocore and its sources of credentials come up with into the core's own errors."""
    try:
        yield
    except Exception as e:
        text = f"{what}: {type(e).__name__}: {e}"
        if translate(e).code in _RETRIEVAL:
            raise KmsDeniedError(text) from e
        raise ConfigurationError(text) from e


def client_config(config: CoreConfig) -> Config:
    """Return botocore's settings for every client of the core."""
    return Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=config.connect_timeout_seconds,
        read_timeout=config.read_timeout_seconds,
        tcp_keepalive=True,
        max_pool_connections=_CONNECTIONS,
        user_agent=_USER_AGENT,
    )


def translate(error: Exception) -> KmsFailure:
    """Return `error`, which came out of a boto3 client, under the core's own name."""
    if isinstance(error, botocore_errors.ClientError):
        return _translate_answer(error)
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return KmsFailure(_by_cause(error) or code if _is_of_connection(code) else code)
    if isinstance(error, botocore_errors.SSLError | botocore_errors.HTTPClientError):
        unnamed = taxonomy.TLS_ERROR if isinstance(error, botocore_errors.SSLError) else taxonomy.CONNECTION_RESET
        return KmsFailure(_by_cause(error) or unnamed)
    if type(error).__name__ == "ResponseParserError":  # botocore.parsers', which has no public name
        return KmsFailure(taxonomy.TRUNCATED)
    return KmsFailure(taxonomy.UNCLASSIFIED)


def _translate_answer(error: Any) -> KmsFailure:
    if error.operation_name not in _OPERATIONS:
        return KmsFailure("CredentialRetrievalError")  # STS answered, which was asked for credentials: not KMS
    metadata = error.response.get("ResponseMetadata", {})
    return KmsFailure(
        str(error.response.get("Error", {}).get("Code", taxonomy.UNCLASSIFIED)),
        status=_status(error.response),
        request_id=_request_id(error.response),
        retry_after_seconds=_retry_after(metadata.get("HTTPHeaders", {})),
    )


def _is_of_connection(code: str) -> bool:
    return code in {taxonomy.CONNECTION_REFUSED, taxonomy.CONNECTION_RESET}


def _by_cause(error: BaseException) -> str:
    """Return the code of the first known exception of Python's own in the chain, or nothing."""
    for cause in _roots(error):
        for kind, code in _BY_CAUSE:
            if isinstance(cause, kind):
                return code
    return ""


def _roots(error: BaseException) -> list[BaseException]:
    """Return the chain of causes; botocore and urllib3 also keep causes in arguments and in `reason`."""
    found: list[BaseException] = []
    for cause in taxonomy.causes(error):
        inner = [getattr(cause, "kwargs", {}).get("error"), getattr(cause, "reason", None), *cause.args]
        found += [cause, *(part for part in inner if isinstance(part, BaseException))]
    return found


def _fields(reply: dict[str, Any], *names: str) -> list[Any]:
    """Return the fields of a reply: botocore reports an answer that was cut short as a success without them."""
    values = [reply.get(name) for name in names]
    if not all(values):
        raise KmsFailure(taxonomy.TRUNCATED, status=_status(reply), request_id=_request_id(reply))
    return values


def _veiled(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return `reply` with a data key that does not show itself."""
    found = dict(reply)
    if isinstance(found.get("Plaintext"), bytes):
        found["Plaintext"] = KeyMaterial(found["Plaintext"])
    return found


def _status(reply: dict[str, Any]) -> int:
    return int(reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _request_id(reply: dict[str, Any]) -> str:
    return str(reply.get("ResponseMetadata", {}).get("RequestId", ""))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, scale in zip(_RETRY_AFTER, (0.001, 1.0), strict=True):
        value = headers.get(name, "")
        if value.replace(".", "", 1).isdecimal():
            return float(value) * scale
    return None
