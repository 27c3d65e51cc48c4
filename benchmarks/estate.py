"""Cores over KMS in memory, for the benchmarks: no network, real threads, the machine's own clock."""

from __future__ import annotations

from kms_core import Core, CoreConfig, KeyConfig
from kms_core.events import Observer
from kms_core.testing import FakeEstate

PURPOSE = "general"
CONTEXT = {"service": "booking", "table": "passengers", "env": "production"}


def estate() -> FakeEstate:
    """Return three regions with one key."""
    made = FakeEstate()
    made.create_key("alias/general")
    return made


def core(made: FakeEstate | None = None, *, observer: Observer | None = None) -> Core:
    """Return a core over `made`, a fresh estate when None. Close it."""
    made = made or estate()
    config = CoreConfig(
        account_id=made.account_id,
        regions=tuple(made.kms),
        home_region=next(iter(made.kms)),
        keys={PURPOSE: KeyConfig(alias="alias/general")},
    )
    return Core(config, observer, connect=made.connect)
