"""The demo's folder and the configuration it writes: an ordinary `watchdog.toml`, pointed at the local AWS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

PURPOSES = ("general", "pii", "payment")
PRIMARY_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, parent: Path, now_utc: datetime) -> DemoFolder:
        """Make a new folder named after the time, so that earlier reports stay."""
        path = parent.resolve() / now_utc.strftime("%Y%m%dT%H%M%S.%fZ")
        path.mkdir(parents=True)
        return cls(path)

    @property
    def aws(self) -> Path:
        """Where the local AWS keeps its addresses, its certificate authority and its request log."""
        return self.path / "aws"

    @property
    def endpoints(self) -> Path:
        """Written by the local AWS when it is ready."""
        return self.aws / "endpoints.json"

    @property
    def configuration(self) -> Path:
        """The one file that all commands read."""
        return self.path / "watchdog.toml"

    @property
    def state(self) -> Path:
        """The daemon's and the drills' state."""
        return self.path / "state"

    def log(self, name: str) -> Path:
        """Return where the process `name` writes what it says."""
        return self.path / f"{name}.log"


def read_endpoints(folder: DemoFolder) -> dict[str, Any]:
    """Return the local AWS's addresses and credentials."""
    document: dict[str, Any] = json.loads(folder.endpoints.read_text(encoding="utf-8"))
    return document


def credentials(endpoints: dict[str, Any]) -> dict[str, str]:
    """Return the environment by which any AWS SDK finds its credentials, and none of this machine's own."""
    given = endpoints["credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": given["aws_secret_access_key"],
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def configuration(endpoints: dict[str, Any], folder: DemoFolder) -> str:
    """Return a `watchdog.toml` for the local AWS: fast canaries, CloudWatch at 10 s, any free port for HTTP."""
    lines = [
        "# Written by kms-local demo; an ordinary configuration, pointed at the local AWS.",
        "[estate]",
        'name = "local"',
        f'account_id = "{endpoints["account_id"]}"',
        f'primary_region = "{PRIMARY_REGION}"',
        f"regions = {json.dumps(list(endpoints['regions']))}",
        f"ca_bundle = {json.dumps(endpoints['ca_bundle'])}",
        "[canaries]\ninterval_seconds = 5.0\ndeadline_seconds = 4.0",
        f"[state]\ndir = {json.dumps(str(folder.state))}",
        '[http]\nlisten = "127.0.0.1:0"',
        "[cloudwatch]\nperiod_seconds = 10",
        f"[drills]\ntoxiproxy_url = {json.dumps(endpoints['toxiproxy']['url'])}",
    ]
    for purpose in PURPOSES:
        lines += [
            f"[keys.{purpose}]",
            f'alias = "alias/parker-flight-{purpose}-production"',
            f'description = "{purpose} encryption for Parker Flight services"',
            f"strict_key_state = {str(purpose == 'payment').lower()}",
        ]
    for region, services in endpoints["regions"].items():
        lines += [f"[endpoints.{region}]", *(f"{name} = {json.dumps(url)}" for name, url in services.items())]
    return "\n".join(lines) + "\n"
