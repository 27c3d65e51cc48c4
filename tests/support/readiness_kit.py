"""What shows that an estate is ready: a drill's whole run, a proof of an alarm; and a process without credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import REGIONS, JournalFile

from kms_core import SystemClock
from kms_watchdog import alarm_proofs, aws
from kms_watchdog.alarm_proofs import AlarmProof, ProofJournal

ALARM: Mapping[str, Any] = {
    "AlarmName": "ParkerFlight-KMS-Test",
    "MetricName": "CanaryRuns",
    "Namespace": "ParkerFlight/KMS",
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanThreshold",
}
"""As PutMetricAlarm takes it."""


def define_alarm(folder: Path, regions: tuple[str, ...]) -> str:
    """Write it as the rendered definition of each region; return the configuration that names the folder."""
    folder.mkdir()
    for region in regions:
        (folder / f"{region}.json").write_text(json.dumps([ALARM]))
    return f'[canaries.alarm_path]\ndefinitions = "{folder}"\n'


def prove_alarm(
    state: Path, regions: tuple[str, ...], *, run_id: str = "1-alarm-proof", told: bool = True, restored: bool = True
) -> None:
    """Write the journal of a proof that ended just now."""
    clock = SystemClock()
    journal = ProofJournal(alarm_proofs.folder(state, run_id), clock)
    journal.write("proof-started", run_id=run_id, by="arn", slot="", regions=list(regions))
    for region in regions:
        now = clock.now_utc()
        proof = AlarmProof(
            alarm="Test",
            name=str(ALARM["AlarmName"]),
            region=region,
            by="arn",
            run_id=run_id,
            fired_at_utc=now,
            told_at_utc=now if told else None,
            restored_at_utc=now if restored else None,
        )
        journal.write("alarm-proved", **proof.to_fields())
    journal.write("closed", by="prove", verdict="HELD" if told and restored else "BROKE")
    journal.close()


def drilled(
    drill: JournalFile, *, at: float, verdict: str = "HELD", claims: Mapping[str, str] | None = None, more: int = 0
) -> None:
    """Write a whole run that ended `at` seconds after the start of 2026, with so many kilobytes in its middle."""
    drill.begin(at=at - 300)
    for new in ("open", "half_open", "closed"):
        drill.append("breaker-moved", at=at - 200, region="us-east-1", old="x", new=new, cause="x")
    for _ in range(more):
        drill.append("operation", at=at - 100, message="x" * 1000)
    for region in REGIONS[1:]:
        drill.append("failed-over", at=at - 200, from_region="us-east-1", to_region=region, operation="x", purpose="y")
    drill.append("verdict", at=at, verdict=verdict)
    drill.append("closed", at=at, by="drill", verdict=verdict)
    told = {"workload-objective": "HELD", **(claims or {})}
    values = {"schema": 1, "run_id": drill.folder.run_id, "verdict": verdict}
    named = [{"name": name, "verdict": of} for name, of in told.items()]
    drill.folder.verdict.write_text(json.dumps({**values, "claims": named}))


@pytest.fixture
def without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let boto3 find no credentials in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    aws._session.cache_clear()  # it keeps the credentials it has found
    yield
    aws._session.cache_clear()
