"""`endpoints.json`: how a client finds everything that `kms-local serve` listens on (DESIGN §2)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms_local.identities import Identities
from kms_local.wire.signature import Credentials

FILE_NAME = "endpoints.json"
CREDENTIALS_FILE_NAME = "credentials"
_OTHERS = ("cloudwatch", "sns", "sts", "iam", "cloudtrail")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionEndpoints:
    """One region's addresses."""

    kms: str
    others: str  # `_OTHERS` share a listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Everything a client has to know."""

    account_id: str
    ca_bundle: Path
    identities: Identities
    regions: dict[str, RegionEndpoints]
    toxiproxy_url: str | None
    admin_url: str
    admin_token: str = field(repr=False)

    def document(self) -> dict[str, Any]:
        """Return the file's content."""
        document: dict[str, Any] = {
            "schema": 1,
            "account_id": self.account_id,
            "ca_bundle": str(self.ca_bundle),
            "credentials": parts(self.identities.administrator),
            "regions": {
                name: {"kms": region.kms, **dict.fromkeys(_OTHERS, region.others)}
                for name, region in self.regions.items()
            },
            "admin": {"url": self.admin_url, "token": self.admin_token},
        }
        if self.identities.roles:
            document["roles"] = {name: parts(one) for name, one in self.identities.role_credentials().items()}
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


def write_credentials(directory: Path, identities: Identities) -> Path:
    """Write a shared credentials file, which every AWS SDK finds by `AWS_SHARED_CREDENTIALS_FILE`; return its path.

    The profile `default` is the administrator, and each role has a profile of its own name.
    """
    path = directory / CREDENTIALS_FILE_NAME
    profiles = {"default": identities.administrator, **identities.role_credentials()}
    blocks = [
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in parts(credentials).items())
        for name, credentials in profiles.items()
    ]
    write_atomically(path, "\n".join(blocks).encode())
    return path


def parts(credentials: Credentials) -> dict[str, str]:
    """Return credentials under the names that boto3 and the shared credentials file give them."""
    parts = {
        "aws_access_key_id": credentials.access_key_id,
        "aws_secret_access_key": credentials.secret_access_key,
    }
    if credentials.session_token is not None:
        parts["aws_session_token"] = credentials.session_token
    return parts
