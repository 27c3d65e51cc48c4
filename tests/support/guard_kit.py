"""An estate of three keys in three regions at AWS's own addresses, so in production, for the guards' tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from moto import mock_aws

from kms_watchdog import aws
from kms_watchdog.config import Settings, load

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
"""A Wednesday."""
ACCOUNT = "123456789012"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
BASE = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/general"
[keys.pii]
alias = "alias/pii"
[keys.payment]
alias = "alias/payment"
[state]
dir = "state"
"""


def write_config(folder: Path, more: str = "") -> Path:
    """Write the configuration, `more` at its end, and return where."""
    path = folder / "watchdog.toml"
    path.write_text(f"{BASE}\n{more}\n", encoding="utf-8")
    (folder / "state").mkdir(exist_ok=True)
    return path


def settings_of(folder: Path, more: str = "") -> Settings:
    """Return the settings of such a configuration; `more` is TOML at its end."""
    return load(write_config(folder, more))


@pytest.fixture
def moto_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS in this process, and credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with mock_aws():
        aws._session.cache_clear()  # one that began before the stand-in does not know it
        yield
    aws._session.cache_clear()
