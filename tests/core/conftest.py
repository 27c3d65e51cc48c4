"""An estate of three regions in memory, cores over it, and an observer that remembers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from kms_core import Core, CoreConfig, KeyConfig
from kms_core.events import Event
from kms_core.testing import FakeEstate, ManualClock, core_over

E = TypeVar("E")

CONFIG = CoreConfig(
    account_id="123456789012",
    regions=("us-east-1", "us-west-2", "eu-west-1"),
    home_region="us-east-1",
    keys={
        "general": KeyConfig(alias="alias/general"),
        "payment": KeyConfig(alias="alias/payment", strict_key_state=True),
    },
)


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def config() -> CoreConfig:
    return CONFIG


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto_advance=True)


@pytest.fixture
def estate(clock: ManualClock) -> FakeEstate:
    estate = FakeEstate(clock=clock)
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    return estate


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_core(estate: FakeEstate, recorder: Recorder) -> Iterator[Callable[..., Core]]:
    """Return a function that makes a core over the estate, with the given settings changed."""
    made: list[Core] = []

    def make(**changes: Any) -> Core:
        core = core_over(estate, dataclasses.replace(CONFIG, **changes), observer=recorder)
        made.append(core)
        estate.calls.clear()
        recorder.events.clear()
        return core

    yield make
    for core in made:
        core.close()


@pytest.fixture
def core(make_core: Callable[..., Core]) -> Core:
    return make_core()
