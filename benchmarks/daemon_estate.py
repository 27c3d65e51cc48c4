"""Parker Flight's estate on a local AWS, for the benchmarks of the daemon: configuration and keys."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.aws_servers import REGIONS, AwsServer

_PURPOSES = ("general", "pii", "payment")


def configuration(
    server: AwsServer,
    folder: Path,
    *,
    purposes: tuple[str, ...] = _PURPOSES,
    canaries: Mapping[str, object] | None = None,
    more: str = "",
) -> Path:
    """Write a configuration that leads to `server`, and return its path; `canaries` goes into that table."""
    document = json.loads((server.folder / "endpoints.json").read_text())
    lines = ["[estate]", 'name = "production"', f'account_id = "{document["account_id"]}"']
    lines += [f'primary_region = "{REGIONS[0]}"', f"regions = {json.dumps(REGIONS)}"]
    lines += [f'ca_bundle = "{server.ca_bundle}"']
    for purpose in purposes:
        role = "ParkerFlightPaymentRole" if purpose == "payment" else "ParkerFlightServiceRole"
        lines += [f"[keys.{purpose}]", f'alias = "alias/parker-flight-{purpose}"', f'used_by = ["{role}"]']
    for region, services in document["regions"].items():
        lines += [f"[endpoints.{region}]", *(f'{name} = "{url}"' for name, url in services.items())]
    lines += ["[canaries]", *(f"{name} = {json.dumps(value)}" for name, value in (canaries or {}).items())]
    lines += ["[state]", 'dir = "state"', "[http]", 'listen = "127.0.0.1:0"', more]
    path = folder / "watchdog.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def provision(path: Path) -> None:
    """Make the keys that the configuration names.

    Raises:
        RuntimeError: it did not work; the text is what the command said.
    """
    command = [
        sys.executable,
        "-m",
        "kms_watchdog",
        "provision",
        "apply",
        "--yes",
        "--steps",
        "keys,aliases,rotation",
        "--config",
        str(path),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - our own program
    if ended.returncode != 0:
        raise RuntimeError(f"provision: exit code {ended.returncode}: {ended.stderr}")
