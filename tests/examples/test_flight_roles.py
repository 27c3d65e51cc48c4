"""The example's tasks under the roles and key policies that we render: they suffice, and they keep payments apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flight_kit import NO_CACHE, SECONDS, credentials, environment, flights, provision, serve_once
from parker_flight_api.task_definition import TASKS, task_definition

from kms_local.testing import start_local_aws

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/parker-flight-api@sha256:{'0' * 64}"


def variables(task: str) -> dict[str, str]:
    """Return the environment of its task definition."""
    definition = task_definition(TASKS[task], region="us-east-1", account_id="123456789012", image=IMAGE)
    return {one["name"]: one["value"] for one in definition["containerDefinitions"][0]["environment"]}


def test_each_task_does_its_work_in_its_role_and_no_other(tmp_path: Path) -> None:
    """Fields are sealed and opened, metrics are taken; a task in the other's role does not start."""
    flags = ("--enforce-policies", "--creating-seconds", "0.1")
    with start_local_aws(tmp_path / "aws", toxiproxy=False, flags=flags) as aws, flights(aws, tmp_path) as start:
        provision(aws)
        command = [sys.executable, "-m", "kms_watchdog", "provision", "policies"]
        command += ["--config", str(aws.directory / "watchdog.toml")]
        rendered = subprocess.run(command, env=credentials(aws), capture_output=True, check=True, timeout=2 * SECONDS)
        aws.replace_roles(json.loads(rendered.stdout))
        for task, fields in {"api": ("booking", "passport"), "payment": ("card",)}.items():
            flight = start(environment(aws, TASKS[task].role, **NO_CACHE, **variables(task)))
            values = dict.fromkeys(fields, "X1234567")
            sealed = flight.ask("/bookings/seal", {"reference": "PF4K2Q", "fields": values})
            opened = flight.ask("/bookings/open", sealed[2])
            ready = flight.ask("/readyz")
            flight.process.terminate()

            assert opened[::2] == (200, {"reference": "PF4K2Q", "fields": values})
            assert ready[2]["keys"] == {purpose: ready[2]["keys"][purpose] for purpose in TASKS[task].purposes}
            assert {len(regions) for regions in ready[2]["keys"].values()} == {3}
            assert flight.process.wait(SECONDS) == 0
            assert "cloudwatch.refused" not in flight.said()

        crossed = serve_once(environment(aws, TASKS["api"].role, **variables("payment")))

    assert crossed.returncode == 1
    assert "cannot start: no key can be used: AccessDeniedException" in crossed.stderr.splitlines()[-1]
