"""The twins of a drill: the same, of a system that is broken in one way. Each ends red, or says that it could not tell.

A drill that is green whatever is broken proves nothing. Real drills, against the local AWS, through a real proxy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kms_chaos import drill, engine, heal
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.judge import judge
from kms_chaos.run import Run, plan
from kms_core import Core, SystemClock
from kms_core.message import EncryptedDataKey
from kms_watchdog import config as configuration
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.verdict import Judgement, Verdict

pytestmark = [pytest.mark.catalogue, pytest.mark.timeout(300), pytest.mark.usefixtures("daemon_lives")]

Conducted = Callable[..., Judgement]


@pytest.fixture
def conducted(
    local_aws: Any, make_config: Callable[..., Path], short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Conducted]:
    """Return what runs the short drill with a sabotaged system, and judges it by its journal."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)

    def conduct(**sabotage: Any) -> Judgement:
        run = plan(configuration.load(make_config()), drill.find(str(short_drill)), region=None, clock=SystemClock())
        run = dataclasses.replace(run, **sabotage)
        engine.conduct(run, lambda run: judge(journal.read(run.folder.journal)), lambda _tape: None)
        found.append(run)
        return judge(journal.read(run.folder.journal))

    found: list[Run] = []
    yield conduct
    for run in found:
        heal.heal(folder(run.settings.state.dir, run.run_id), SystemClock())  # a restore that was made to fail


def of_claim(judgement: Judgement, name: str) -> Verdict:
    return next(claim.verdict for claim in judgement.claims if claim.name == name)


def with_settings(**changes: Any) -> Callable[..., Core]:
    def make(config: Any, **rest: Any) -> Core:
        return Core(dataclasses.replace(config, **changes), **rest)

    return make


def test_without_sabotage_all_but_the_alarms_is_held(conducted: Conducted) -> None:
    """Else the twins below would be red for another reason; of alarms the short drill does not speak."""
    judgement = conducted()

    assert {c.name for c in judgement.claims if c.verdict is not Verdict.HELD} == {"alarms"}


def test_failover_off(conducted: Conducted) -> None:
    """One attempt and no other: callers notice."""
    judgement = conducted(make_core=with_settings(max_retries=0))

    assert judgement.verdict is Verdict.BROKE
    assert of_claim(judgement, "workload-objective") is Verdict.BROKE
    assert of_claim(judgement, "warm-and-cold") is Verdict.BROKE


def test_breaker_off(conducted: Conducted) -> None:
    """Every call runs into the dead region first."""
    judgement = conducted(make_core=with_settings(circuit_breaker_threshold=100))

    assert judgement.verdict is Verdict.BROKE
    assert of_claim(judgement, "breaker-moves") is Verdict.BROKE


class Hoarder(Core):
    """Never asks KMS twice for anything: whatever the drill does, its cache answers."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._hoard: dict[bytes, bytes] = {}
        self._first: dict[str, tuple[bytes, Mapping[str, str]]] = {}

    def encrypt(self, plaintext: Any, *, purpose: str, context: Mapping[str, str]) -> bytes:
        if purpose not in self._first:
            self._first[purpose] = super().encrypt(plaintext, purpose=purpose, context=context), context
        message, _ = self._first[purpose]
        self._hoard[message] = bytes(plaintext)
        return message

    def decrypt(self, message: Any, *, purpose: str, context: Mapping[str, str]) -> bytes:
        return self._hoard[bytes(message)]


def test_a_cache_that_hides_it(conducted: Conducted) -> None:
    """No operation failed, and none was seen to be served by another region: that is no proof."""
    judgement = conducted(make_core=Hoarder)

    assert judgement.verdict is not Verdict.HELD
    assert of_claim(judgement, "warm-and-cold") is Verdict.INCONCLUSIVE


class Toothless(Toxiproxy):
    """Shows every toxic that was ordered, and has none."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._shown: dict[str, list[dict[str, Any]]] = {}

    def add(self, name: str, toxic: Toxic) -> None:
        self._shown.setdefault(name, []).append(toxic.to_json())

    def remove_toxic(self, name: str, toxic: str) -> None:
        self._shown[name] = [one for one in self._shown.get(name, []) if one["name"] != toxic]

    def proxy(self, name: str) -> ProxyState | None:
        state = super().proxy(name)
        return dataclasses.replace(state, toxics=tuple(self._shown.get(name, ()))) if state else None


def test_a_fault_that_does_not_bite(conducted: Conducted) -> None:
    """It was read back as ordered, and no request failed: nothing was proven, and nothing is green."""
    judgement = conducted(reach=Toothless)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert of_claim(judgement, "fault-was-real") is Verdict.INCONCLUSIVE


class Stubborn(Toxiproxy):
    """Does not delete what was made."""

    def delete(self, name: str) -> None:
        raise ToxiproxyError(f"{name} cannot be deleted")


def test_a_restore_that_fails(conducted: Conducted, local_aws: Any) -> None:
    """BROKE whatever else, and the journal stays open for whoever heals it."""
    judgement = conducted(reach=Stubborn)

    assert judgement.verdict is Verdict.BROKE
    assert of_claim(judgement, "restored") is Verdict.BROKE
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        assert {name for name in server.proxies() if name.startswith("kmswd.")}


class Careless:
    """A region's door behind which KMS opens a data key under any context."""

    def __init__(self, door: Any) -> None:
        self._door = door

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def unwrap(self, _key: EncryptedDataKey, _context: Mapping[str, str], **_: Any) -> None:
        return


class CarelessKms(Core):
    """All regions' doors are like that."""

    def pinned(self, region: str) -> Any:
        return Careless(super().pinned(region))


def test_a_kms_that_ignores_the_context(conducted: Conducted) -> None:
    """The failover that works by giving up what protects the data is a failed drill."""
    judgement = conducted(make_core=CarelessKms)

    assert judgement.verdict is Verdict.BROKE
    assert of_claim(judgement, "nothing-lost") is Verdict.BROKE
