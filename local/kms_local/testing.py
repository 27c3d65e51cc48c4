"""The local AWS for your own tests: a server that ends with the process that started it, and what clients need.

    with start_local_aws(tmp_path) as aws:
        kms = boto3.client("kms", **aws.client_settings("kms", "eu-west-1"))

With pytest the fixture `kms_local_aws` does that once a session: `pytest_plugins = ["kms_local.pytest_plugin"]`.
Standard library only: any SDK can be pointed at the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kms_local import leash
from kms_local.admin_client import AdminError, ask
from kms_local.endpoints import CREDENTIALS_FILE_NAME, FILE_NAME

_START_SECONDS = 30.0
_LOG = "serve.log"


class LocalAwsError(Exception):
    """The server did not start, or its admin API refused or did not answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # of HTTP, where the admin API answered


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A running `kms-local serve`."""

    directory: Path
    process: leash.Leashed = field(repr=False)

    @property
    def endpoints(self) -> dict[str, Any]:
        """What `endpoints.json` says now: addresses, credentials, roles, the admin API."""
        return dict(json.loads((self.directory / FILE_NAME).read_text(encoding="utf-8")))

    @property
    def account_id(self) -> str:
        """The account that everything belongs to."""
        return str(self.endpoints["account_id"])

    @property
    def regions(self) -> list[str]:
        """The regions served."""
        return list(self.endpoints["regions"])

    @property
    def ca_bundle(self) -> str:
        """The path of the private CA that clients must trust."""
        return str(self.endpoints["ca_bundle"])

    @property
    def toxiproxy_url(self) -> str:
        """Where the Toxiproxy-compatible server listens.

        Raises:
            LocalAwsError: it was started without one.
        """
        try:
            return str(self.endpoints["toxiproxy"]["url"])
        except KeyError as e:
            raise LocalAwsError("this server was started with --no-toxiproxy") from e

    def urls(self, service: str) -> dict[str, str]:
        """Return the end point of `kms`, `cloudwatch`, `sns`, `sts` or `iam` in each region."""
        return {name: str(one[service]) for name, one in self.endpoints["regions"].items()}

    def client_settings(self, service: str, region: str = "us-east-1", *, role: str | None = None) -> dict[str, Any]:
        """Return the keyword arguments with which `boto3.client(service, …)` reaches this server.

        Args:
            service: `kms`, `cloudwatch`, `sns`, `sts` or `iam` (with region us-east-1, for which IAM is signed).
            region: one of those served.
            role: whose credentials to sign with; the administrator's if None.
        """
        endpoints = self.endpoints
        credentials = endpoints["credentials"] if role is None else endpoints["roles"][role]
        return {
            "region_name": region,
            "endpoint_url": endpoints["regions"][region][service],
            "verify": endpoints["ca_bundle"],
            **credentials,
        }

    def environment(self, region: str = "us-east-1", *, role: str | None = None) -> dict[str, str]:
        """Return the environment variables with which any AWS SDK or the CLI reaches one region of this server."""
        endpoints, document = self.endpoints["regions"][region], self.endpoints
        credentials = document["credentials"] if role is None else document["roles"][role]
        return {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_CA_BUNDLE": self.ca_bundle,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.directory.absolute() / CREDENTIALS_FILE_NAME),
            "AWS_PROFILE": role or "default",
            "AWS_SESSION_TOKEN": "",  # an inherited one would go with the key below, and so be refused
            **{name.upper(): value for name, value in credentials.items()},
            **{f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in endpoints.items()},
        }

    def requests(self) -> list[dict[str, Any]]:
        """Return what KMS was asked so far: region, operation, key, fingerprint of the context, result, time."""
        path = self.directory / "requests.ndjson"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @contextlib.contextmanager
    def fault(self, **members: Any) -> Iterator[None]:
        """Have requests suffer inside the block; the members are those of `POST /faults`.

        Raises:
            LocalAwsError: they are none.
        """
        number = self.admin("POST", "/faults", members)["id"]
        try:
            yield
        finally:
            try:
                self.admin("DELETE", f"/faults/{number}")
            except LocalAwsError as e:
                if e.status != HTTPStatus.NOT_FOUND:  # one with `times` or `seconds` has ended by itself
                    raise

    def replace_roles(self, document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Replace the roles by those of `document`, and return each one's credentials.

        Raises:
            LocalAwsError: it is not of the form that `serve --iam` takes.
        """
        return dict(self.admin("PUT", "/iam", document)["roles"])

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Ask the admin API, and return what the JSON of its answer holds (None for an empty one).

        Raises:
            LocalAwsError: it refused; the text is its own.
        """
        try:
            return ask(self.directory, method, path, body)
        except AdminError as e:
            raise LocalAwsError(f"{method} {path}: {e}", status=e.status) from e

    def close(self) -> None:
        """Stop the server and wait for its end."""
        self.process.terminate()


@contextlib.contextmanager
def start_local_aws(
    directory: Path, *, regions: Sequence[str] = (), toxiproxy: bool = True, flags: Sequence[str] = ()
) -> Iterator[LocalAws]:
    """Serve from `directory` inside the block; the server is gone afterwards, also if this process is killed.

    Args:
        directory: where its files go; made if need be.
        regions: which to serve; the three of `kms-local serve` if none are given.
        toxiproxy: whether to serve Toxiproxy's API too.
        flags: further flags of `kms-local serve`.

    Raises:
        LocalAwsError: it did not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kms_local", "serve", "--dir", str(directory), *flags]
    command += ["--regions", ",".join(regions)] if regions else []
    command += [] if toxiproxy else ["--no-toxiproxy"]
    reading, writing = os.pipe()
    with (directory / _LOG).open("wb") as log, os.fdopen(reading, "rb") as output:
        try:
            process = leash.start(command, stdout=writing, stderr=log)
        finally:
            os.close(writing)
        try:
            _wait_until_ready(output, directory)
            yield LocalAws(directory, process)
        finally:
            process.terminate()


def _wait_until_ready(output: Any, directory: Path) -> None:
    ready, _, _ = select.select([output], [], [], _START_SECONDS)
    if not ready or not output.readline().startswith(b"ready"):
        said = (directory / _LOG).read_text(encoding="utf-8", errors="replace").strip()
        raise LocalAwsError(f"the local AWS did not start: {said or 'it said nothing'}")
