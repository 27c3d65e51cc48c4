"""Two faults that would hide each other are refused before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kms_chaos.drill import Drill, DrillError, parse

TEXT = (Path(__file__).parents[2] / "chaos/kms_chaos/drills/region-refused.toml").read_text(encoding="utf-8")
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
SLOW = 'kind = "latency"\nlatency_ms = 100'


def with_faults(*tables: str) -> Drill:
    faults = "\n".join(f"[[faults]]\n{table}" for table in tables)
    return parse(TEXT.replace('[[faults]]\nkind = "refused"', faults), name="two-faults", where="d.toml")


@pytest.mark.parametrize(
    ("off", "other"),
    [
        pytest.param('kind = "refused"', 'kind = "blackhole"', id="no-toxic-bites"),
        pytest.param('kind = "refused"', 'kind = "slow_close"', id="no-answer-is-cut"),
        pytest.param('kind = "refused"', 'kind = "refused"', id="the-first-to-end-would-end-both"),
        pytest.param(
            'kind = "flapping"\ninner = "refused"\non_seconds = 1\noff_seconds = 1', SLOW, id="comes-and-goes"
        ),
        pytest.param(
            'kind = "refused"\nafter_seconds = 2', f"{SLOW}\nafter_seconds = 1\nfor_seconds = 2", id="crosses"
        ),
        pytest.param('kind = "refused"\nregion = "all"', f'{SLOW}\nregion = "others"', id="all-are-others-too"),
        pytest.param('kind = "refused"\nregion = "all"', f'{SLOW}\nregion = "eu-west-1"', id="all-are-named-too"),
    ],
)
def test_a_proxy_that_is_off_shows_no_other_fault(off: str, other: str) -> None:
    """In either order in the file, in one line that names both."""
    for tables in ((off, other), (other, off)):
        with pytest.raises(DrillError, match=r"switches the proxy off that the fault .* needs") as refused:
            with_faults(*tables)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('kind = "refused"\nfor_seconds = 3', f"{SLOW}\nafter_seconds = 3", id="one-after-the-other"),
        pytest.param('kind = "refused"', f'{SLOW}\nregion = "others"', id="in-other-regions"),
        pytest.param('kind = "refused"', 'kind = "throttling"\nregion = "target"', id="above-the-connection"),
        pytest.param('kind = "refused"', 'kind = "reset"\nwhen = "pooled"', id="at-the-clients-end"),
        pytest.param('kind = "blackhole"', SLOW, id="two-toxics"),
        pytest.param('kind = "flapping"\non_seconds = 1\noff_seconds = 1', SLOW, id="flaps-by-toxics"),
    ],
)
def test_faults_that_do_not_meet_are_one_drill(one: str, other: str) -> None:
    """Several faults are what a bad day is made of."""
    assert len(with_faults(one, other).faults) == 2


def test_faults_that_meet_only_in_some_region_are_refused_there() -> None:
    """A region by name is the target or is not, which is known when the drill is planned."""
    drill = with_faults('kind = "refused"', f'{SLOW}\nregion = "us-west-2"')

    assert drill.targets(primary="us-east-1", regions=REGIONS) == ("us-east-1",)
    with pytest.raises(DrillError, match="two-faults on us-west-2: the fault refused switches the proxy off"):
        drill.targets(primary="us-east-1", regions=REGIONS, override="us-west-2")
