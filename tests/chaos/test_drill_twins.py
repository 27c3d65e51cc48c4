"""The twins of a drill: the same, of a system that is broken in one way. Each ends red, or says that it could not tell.

A drill that is green whatever is broken proves nothing. Real drills, against the local AWS, through a real proxy: one
of each way to be broken. What is broken for each drill of the catalogue is in `test_catalogue_twins.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sabotaged
from twin_kit import claim_of, conducting, not_held

from kms_chaos import drill
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_watchdog import config as configuration
from kms_watchdog.drills.verdict import Judgement, Verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.minutes(1),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("daemon_lives"),
]

Conducted = Callable[..., Judgement]


@pytest.fixture
def conducted(
    local_aws: Any, make_config: Callable[..., Path], short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Conducted]:
    """Return what runs the short drill with a sabotaged system, and judges it by its journal."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    settings = configuration.load(make_config())
    patient = settings.core.model_copy(update={"connect_timeout_seconds": 1.0, "read_timeout_seconds": 1.5})
    settings = settings.model_copy(update={"core": patient})  # a machine that has much to do is no lost region
    with conducting() as conduct:
        yield lambda **sabotage: conduct(settings, drill.find(str(short_drill)), **sabotage)


def of_claim(judgement: Judgement, name: str) -> Verdict:
    """Return the claim's verdict; the fault must have been on, or anything would be unclear."""
    print(not_held(judgement))
    assert "no fault was injected" not in claim_of(judgement, "steady-state-before").finding
    return claim_of(judgement, name).verdict


def test_without_sabotage_all_but_the_alarms_is_held(conducted: Conducted) -> None:
    """Else the twins below would be red for another reason; of alarms the short drill does not speak."""
    judgement = conducted()

    assert not_held(judgement) == {}


def test_failover_off(conducted: Conducted) -> None:
    """One attempt and no other: callers notice."""
    judgement = conducted(make_core=sabotaged.failover_off)

    assert of_claim(judgement, "workload-objective") is Verdict.BROKE
    assert of_claim(judgement, "warm-and-cold") is Verdict.BROKE
    assert judgement.verdict is not Verdict.HELD


def test_breaker_off(conducted: Conducted) -> None:
    """Every call runs into the dead region first."""
    judgement = conducted(make_core=sabotaged.breaker_off)

    assert of_claim(judgement, "breaker-moves") is Verdict.BROKE
    assert judgement.verdict is not Verdict.HELD


def test_a_cache_that_hides_it(conducted: Conducted) -> None:
    """No operation failed, and none was seen to be served by another region: that is no proof."""
    judgement = conducted(make_core=sabotaged.Hoarder)

    assert of_claim(judgement, "warm-and-cold") is Verdict.INCONCLUSIVE
    assert judgement.verdict is not Verdict.HELD


def test_a_fault_that_does_not_bite(conducted: Conducted) -> None:
    """It was read back as ordered, and no request failed: nothing was proven, and nothing is green."""
    judgement = conducted(reach=sabotaged.Toothless)

    assert of_claim(judgement, "fault-was-real") is Verdict.INCONCLUSIVE
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_a_restore_that_fails(conducted: Conducted, local_aws: Any) -> None:
    """BROKE whatever else, and the journal stays open for whoever heals it."""
    judgement = conducted(reach=sabotaged.Stubborn)

    assert of_claim(judgement, "restored") is Verdict.BROKE
    assert judgement.verdict is Verdict.BROKE
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        assert {name for name in server.proxies() if name.startswith("kmswd.")}


def test_a_kms_that_ignores_the_context(conducted: Conducted) -> None:
    """The failover that works by giving up what protects the data is a failed drill."""
    judgement = conducted(make_core=sabotaged.CarelessKms)

    assert of_claim(judgement, "nothing-lost") is Verdict.BROKE
    assert judgement.verdict is not Verdict.HELD
