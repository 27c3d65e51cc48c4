"""Months of an estate on virtual time: all holds, whatever befalls it; what is spoilt on purpose is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from mishaps import Fate, month_of
from simulation import Simulation, simulate

pytestmark = [pytest.mark.slow, pytest.mark.computes, pytest.mark.minutes(10), pytest.mark.timeout(3000)]
SEEDS = 200


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let daemons say nothing of their mishaps."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


def test_all_holds_in_two_hundred_months(tmp_path: Path) -> None:
    """No fault outlives its time, no two are on at once, no slot runs twice or is forgotten, no request is lost."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "--seeds", str(SEEDS), "--json", str(figures)],
        check=False,
        capture_output=True,
        text=True,
    )
    told = json.loads(figures.read_text(encoding="utf-8"))

    assert (done.returncode, told["findings"]) == (0, {}), done.stderr
    counted = told["counted"]
    assert counted["months"] == SEEDS
    assert counted["slots"] >= 6 * SEEDS
    for befell in ("daemon-dies", "daemon-freezes", "toxiproxy-dies", "toxiproxy-hangs", "table-away", "drills healed"):
        assert counted[befell] > SEEDS // 4, befell
    assert counted["requests"] > counted["requests refused, KMS being nowhere"] > 0


@pytest.mark.parametrize("seed", [11, pytest.param(67, id="67-a-drill-is-killed-on-one-machine")])
def test_the_same_seed_is_the_same_month(seed: int) -> None:
    """Or a red one could not be looked at again."""
    first, second = simulate(seed), simulate(seed)

    assert str(first) == str(second)


def test_seeds_differ() -> None:
    """Else many would say no more than one."""
    assert len({month_of(seed, (1.0,)).mishaps for seed in range(20)}) == 20


def no_healers(simulation: Simulation) -> None:
    """Let healers end well without having done anything; they are started each minute, so for two days alone."""
    simulation.days, simulation.calm_days = 2.0, 0.1
    for host in simulation.hosts:
        host.fate_of_drill = lambda _: Fate(step=55, freeze_seconds=None)
        host.heal = lambda _where, _run_id: 0


def no_common_lease(simulation: Simulation) -> None:
    """Let each host have a lease of its own."""
    for host in simulation.hosts:
        host.table = None


def no_outage(simulation: Simulation) -> None:
    """Let no region be away when the month says that one is."""
    simulation.estate.fail = lambda *_, **__: None  # type: ignore[method-assign] # on purpose


def no_failover(simulation: Simulation) -> None:
    """Let a region that is away refuse instead, as a policy does: then nobody else is asked."""
    fail = simulation.estate.fail
    simulation.estate.fail = lambda code, *, regions: fail(code and "AccessDeniedException", regions=regions)  # type: ignore[assignment, method-assign, misc] # on purpose


@pytest.mark.parametrize(
    ("spoil", "seed", "found"),
    [
        pytest.param(no_healers, 1, "still has its fault", id="no-healers"),
        pytest.param(no_common_lease, 1, "were broken at once", id="no-common-lease"),
        pytest.param(no_outage, 2, "being down", id="no-outage"),
        pytest.param(no_failover, 21, "lost a request", id="no-failover"),
    ],
)
def test_what_is_spoilt_is_found_out(spoil: Callable[[Simulation], None], seed: int, found: str) -> None:
    """A simulator that finds nothing shows nothing."""
    outcome = simulate(seed, spoil)

    assert any(found in one for one in outcome.findings), outcome
