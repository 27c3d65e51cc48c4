"""The demo's folder and the configuration it writes: an ordinary `watchdog.toml`, pointed at the local AWS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

PURPOSES = ("general", "pii", "payment")


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

    @property
    def alarms(self) -> Path:
        """Where the rendered alarms are, for the canary that compares them."""
        return self.path / "alarms"

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
    """Return the demo's `watchdog.toml`: everything in its own folder, any free port for HTTP."""
    return local_configuration(endpoints, state=str(folder.state), alarms=str(folder.alarms), listen="127.0.0.1:0")


def local_configuration(endpoints: dict[str, Any], *, state: str, alarms: str, listen: str) -> str:
    """Return a `watchdog.toml` for the local AWS: fast canaries, CloudWatch at 10 s.

    Args:
        endpoints: of the local AWS.
        state: the folder of daemon and drills.
        alarms: the folder with the rendered alarms.
        listen: where the status page is.
    """
    regions = list(endpoints["regions"])
    lines = [
        "# Written by kms-local; an ordinary configuration, pointed at the local AWS.",
        "[estate]",
        'name = "local"',
        f'account_id = "{endpoints["account_id"]}"',
        f"primary_region = {json.dumps(regions[0])}",
        f"regions = {json.dumps(regions)}",
        f"ca_bundle = {json.dumps(endpoints['ca_bundle'])}",
        'trail_bucket = "local-trail"',
    ]
    for purpose in PURPOSES:
        lines += [
            f"\n[keys.{purpose}]",
            f'alias = "alias/parker-flight-{purpose}-production"',
            f'description = "{purpose} encryption for Parker Flight services"',
            f"strict_key_state = {str(purpose == 'payment').lower()}",
            f'used_by = ["{"ParkerFlightPaymentRole" if purpose == "payment" else "ParkerFlightServiceRole"}"]',
        ]
    for region, services in endpoints["regions"].items():
        lines += [f"\n[endpoints.{region}]", *(f"{name} = {json.dumps(url)}" for name, url in services.items())]
    lines += [
        "\n[canaries]\ninterval_seconds = 5.0\ndeadline_seconds = 4.0",
        f"\n[canaries.alarm_path]\ndefinitions = {json.dumps(alarms)}",
        # the local authority is made for 30 days, and renewed only when the last one begins
        "\n[canaries.cold_connection]\ncertificate_days = 1",
        f"\n[state]\ndir = {json.dumps(state)}",
        f"\n[http]\nlisten = {json.dumps(listen)}",
        "\n[cloudwatch]\nperiod_seconds = 10",
    ]
    if "toxiproxy" in endpoints:
        lines.append(f"\n[drills]\ntoxiproxy_url = {json.dumps(endpoints['toxiproxy']['url'])}")
    return "\n".join(lines) + "\n"
