"""`endpoints.json`: how a client finds everything that `kms-local serve` listens on (DESIGN §2)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kms_local.wire.signature import Credentials

FILE_NAME = "endpoints.json"
CREDENTIALS_FILE_NAME = "credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionEndpoints:
    """One region's addresses."""

    kms: str
    others: str  # CloudWatch, SNS and STS share a listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Everything a client has to know."""

    account_id: str
    ca_bundle: Path
    credentials: Credentials
    regions: dict[str, RegionEndpoints]
    toxiproxy_url: str | None
    admin_url: str
    admin_token: str

    def document(self) -> dict[str, Any]:
        """Return the file's content."""
        document: dict[str, Any] = {
            "schema": 1,
            "account_id": self.account_id,
            "ca_bundle": str(self.ca_bundle),
            "credentials": {
                "aws_access_key_id": self.credentials.access_key_id,
                "aws_secret_access_key": self.credentials.secret_access_key,
            },
            "regions": {
                name: {"kms": region.kms, "cloudwatch": region.others, "sns": region.others, "sts": region.others}
                for name, region in self.regions.items()
            },
            "admin": {"url": self.admin_url, "token": self.admin_token},
        }
        if self.toxiproxy_url is not None:
            document["toxiproxy"] = {"url": self.toxiproxy_url}
        return document


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, readable by its owner alone; a reader never sees half of it.

    Raises:
        OSError: the directory cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_endpoints(directory: Path, endpoints: Endpoints) -> Path:
    """Write `endpoints.json` into `directory` and return its path."""
    path = directory / FILE_NAME
    write_atomically(path, json.dumps(endpoints.document(), indent=1).encode() + b"\n")
    return path


def write_credentials(directory: Path, credentials: Credentials) -> Path:
    """Write a shared credentials file, which every AWS SDK finds by `AWS_SHARED_CREDENTIALS_FILE`; return its path."""
    path = directory / CREDENTIALS_FILE_NAME
    lines = (
        "[default]",
        f"aws_access_key_id = {credentials.access_key_id}",
        f"aws_secret_access_key = {credentials.secret_access_key}",
    )
    write_atomically(path, "\n".join(lines).encode() + b"\n")
    return path
