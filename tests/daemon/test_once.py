"""One round on demand: which canaries, how long at most, and where its numbers are left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemon_kit import KEYS_ALONE, LocalCloud, result
from metrics_story import all_subjects

from kms_core import Core, SystemClock
from kms_core.clock import Clock
from kms_core.testing import ManualClock
from kms_watchdog.canaries.canary import canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.commands import once
from kms_watchdog.commands.options import Stop
from kms_watchdog.config import Settings, load
from kms_watchdog.health import Subject
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

ALL_KINDS = f"[canaries]\nkinds = [{', '.join(repr(str(kind)) for kind in Kind)}]\n"


@dataclass(frozen=True)
class Hangs:
    """A canary that waits for `let_go`, or answers at once when there is none."""

    region: str
    let_go: threading.Event | None = None
    kind: str = "round_trip"
    purpose: str = "general"
    deadline_seconds: float = 10.0

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        if self.let_go:
            self.let_go.wait(20)
        return result(region=self.region)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class Keeps:
    """Keeps the results it is given."""

    def __init__(self) -> None:
        self.results: list[CanaryResult] = []

    def write(self, result: CanaryResult) -> None:
        self.results.append(result)


def test_a_region_that_hangs_holds_up_no_other(core: Core, let_go: threading.Event) -> None:
    """However many hang there: the others have threads of their own, and what has no answer in time is BLIND."""
    canaries = [*(Hangs("us-east-1", let_go) for _ in range(3 * once.THREADS)), Hangs("eu-west-1")]
    keeps = Keeps()

    found = once.ask_all(canaries, core, SystemClock(), 0.5, sinks=[keeps])

    assert found.hanging
    assert [r.outcome for r in found.results] == [*[Outcome.BLIND] * (3 * once.THREADS), Outcome.OK]
    assert {r.reason for r in found.results[:-1]} == {Reason.OWN_DEADLINE}
    assert len(keeps.results) == len(canaries)
    assert once.exit_code(found.results) == 3


def test_a_round_that_ends_in_time_leaves_nothing_behind(core: Core) -> None:
    """In the order in which they were asked."""
    found = once.ask_all([Hangs("us-west-2"), Hangs("us-east-1")], core, SystemClock(), 20)

    assert not found.hanging
    assert [r.region for r in found.results] == ["us-west-2", "us-east-1"]


@pytest.fixture
def everything(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Every kind of canary."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return load(write_config(ALL_KINDS))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        pytest.param((), 63, id="all"),
        pytest.param(("round_trip:us-east-1:general",), 1, id="one"),
        pytest.param(("clock_offset", "round_trip:us-east-1:general"), 4, id="a-kind-and-one"),
        pytest.param(("cross_region:us-east-1:eu-west-1:payment",), 1, id="a-pair"),
    ],
)
def test_canaries_are_chosen_by_id_or_kind(everything: Settings, ids: tuple[str, ...], expected: int) -> None:
    """As the status page and the log call them."""
    ports = Ports(everything, ManualClock())
    canaries = live_canaries(ports)

    found = once.chosen(canaries, ids)
    ports.close()

    assert len(found) == expected
    assert all({canary.kind, canary_id(canary)} & set(ids) for canary in found) or not ids


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("round_trip:us-east-1:generl", "did you mean round_trip:us-east-1:general?", id="near"),
        pytest.param("key_stat", "did you mean key_state?", id="kind"),
        pytest.param("????", "no canary '????'", id="nothing-near"),
    ],
)
def test_a_name_that_no_canary_has_is_refused(name: str, says: str) -> None:
    """With the nearest one, and exit code 2."""
    canaries = [Hangs("us-east-1"), Hangs("us-east-1", kind="key_state")]

    with pytest.raises(Stop) as caught:
        once.chosen(canaries, [name])

    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_golden_files_canaries_are_those_of_the_roster(everything: Settings) -> None:
    """Kind by kind, region by region: else the number of series that we promise is another installation's."""
    ports = Ports(everything, ManualClock())

    built = {Subject(canary.kind, canary.region, canary.purpose) for canary in live_canaries(ports)}
    ports.close()

    assert built == set(all_subjects(everything.estate.regions, tuple(everything.keys)))


@pytest.mark.slow
def test_a_whole_round_is_left_where_the_configuration_says(cloud: LocalCloud, tmp_path: Path) -> None:
    """A part of one is not: it would take the whole one's place. A push that fails changes no exit code."""
    config = cloud.config(tmp_path, '[prometheus]\ntextfile = "metrics/kms.prom"\n', prefix="left")
    cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
    textfile = tmp_path / "metrics" / "kms.prom"

    refused = cloud.run("once", config=config)
    textfile.parent.mkdir()
    part = cloud.run("once", "--canary", "round_trip:us-east-1:pii", config=config)
    after_part = textfile.exists()
    whole = cloud.run("once", config=config)

    assert (refused.returncode, part.returncode, whole.returncode) == (0, 0, 0)
    assert "metrics.push_failed" in refused.stderr
    assert len(part.stdout.splitlines()) == 1
    assert not after_part
    told = textfile.read_text()
    assert told.count("kms_watchdog_canary_up{") == 9
    assert 'kms_watchdog_kms_requests_total{error_type="",operation="Decrypt",region="eu-west-1"} 3.0' in told
