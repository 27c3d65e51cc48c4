"""The door for Chaos Toolkit: what it calls, what it gets, and that a drill behind it is a drill like any other."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kms_chaos import ctk, ctk_control
from kms_chaos.cued import CuedError
from kms_chaos.drill import DrillError
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core.clock import SystemClock
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders

pytestmark = pytest.mark.slow  # each conducts a drill

EXAMPLE = Path(__file__).parents[2] / "examples" / "chaos_toolkit.yaml"
BUILTINS = (dict, list, str, int, float, bool, type(None))
MakeConfig = Callable[..., Path]
Wait = Callable[[Callable[[], bool], float, str], None]


@pytest.fixture(autouse=True)
def no_drill_stays_behind() -> Iterator[None]:
    """One that a failed test left on would refuse the drills of all that follow."""
    yield
    ctk.end()


def example() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return read


def providers(found: Any) -> Iterator[dict[str, Any]]:
    """Yield every provider of an experiment, wherever it is."""
    if isinstance(found, dict):
        if "provider" in found:
            yield found["provider"]
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from providers(one)


def test_the_example_calls_what_there_is() -> None:
    """Each function by its name, with arguments that it takes; the control is there, rollbacks are always played."""
    experiment = example()
    modules = {"kms_chaos.ctk": ctk, "kms_chaos.ctk_control": ctk_control}

    found = list(providers(experiment))

    assert {provider["module"] for provider in found} == modules.keys()
    for provider in found:
        if "func" in provider:
            function = getattr(modules[provider["module"]], provider["func"])
            assert inspect.isfunction(function)
            inspect.signature(function).bind(**provider["arguments"])
    assert experiment["runtime"]["rollbacks"]["strategy"] == "always"


@pytest.mark.parametrize("name", ["inject", "heal", "canary_success_ratio", "alarm_state", "breaker_state"])
def test_what_is_called_is_plain_and_returns_builtins(name: str) -> None:
    """Chaos Toolkit rejects methods, never awaits, and loses its journal over a dataclass."""
    function = getattr(ctk, name)

    assert inspect.isfunction(function)
    assert not inspect.iscoroutinefunction(function)
    assert function.__module__ == "kms_chaos.ctk"
    assert str(inspect.signature(function).return_annotation) in {"dict[str, Any]", "float", "str"}


def test_heal_is_safe_when_nothing_was_injected() -> None:
    """The strategy `always` plays it even then."""
    assert ctk.heal("us-east-1")["was_on"] is False


@pytest.mark.parametrize("ask", [ctk.breaker_state, ctk.canary_success_ratio], ids=["breaker", "canaries"])
def test_without_a_drill_no_probe_has_an_answer(ask: Callable[[str], object]) -> None:
    """And it says what is missing from the experiment."""
    with pytest.raises(CuedError, match="ctk_control"):
        ask("us-east-1")


class StoppedError(Exception):
    """Stands in for chaostoolkit-lib's own."""


@pytest.fixture
def chaoslib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one thing of chaostoolkit-lib that the control looks up."""
    library, exceptions = types.ModuleType("chaoslib"), types.ModuleType("chaoslib.exceptions")
    exceptions.InterruptExecution = StoppedError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chaoslib", library)
    monkeypatch.setitem(sys.modules, "chaoslib.exceptions", exceptions)


@pytest.mark.usefixtures("chaoslib")
@pytest.mark.parametrize(
    ("method", "why"),
    [
        pytest.param([], "0 times", id="nothing to inject"),
        pytest.param(example()["method"][:1] * 2, "2 times", id="two faults"),
    ],
)
def test_an_experiment_that_is_no_drill_is_stopped_before_it_begins(method: list[Any], why: str) -> None:
    """By the exception that Chaos Toolkit does not swallow."""
    with pytest.raises(StoppedError, match=why):
        ctk_control.before_experiment_control({**example(), "method": method})


@pytest.mark.usefixtures("chaoslib")
def test_a_configuration_that_is_not_there_stops_it(tmp_path: Path) -> None:
    """Nothing is asked of anybody."""
    with pytest.raises(StoppedError, match="kms-chaos"):
        ctk_control.before_experiment_control(
            example(), configuration={"region": "us-east-1", "kms_watchdog_config": str(tmp_path / "none.toml")}
        )


def given_with(config: Path, *, reason: str = "", approval: str = "") -> dict[str, str]:
    """Return the experiment's configuration, as Chaos Toolkit reads it."""
    return {
        "region": "us-east-1",
        "survivor": "eu-west-1",
        "reason": reason,
        "approval": approval,
        "kms_watchdog_config": str(config),
    }


def share_ok(region: str, seconds: float) -> float | None:
    """Return the share of canaries of the last `seconds` that were OK; None: on a busy machine none has looked yet."""
    try:
        return ctk.canary_success_ratio(region, seconds)
    except CuedError:
        return None


def ready(local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("chaoslib")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"fault": "no-such-fault"}, "no-such-fault", id="fault"),
        pytest.param({"region": "mars-north-1"}, "mars-north-1", id="region"),
    ],
)
def test_what_there_is_not_is_refused(
    make_config: MakeConfig, local_aws: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], why: str
) -> None:
    """Before anything is touched; and no drill stays behind in the process."""
    ready(local_aws, monkeypatch)
    config, experiment = make_config(), example()
    experiment["method"][0]["provider"]["arguments"] |= {"region": "us-east-1"} | change

    with pytest.raises(StoppedError, match=why):
        ctk_control.before_experiment_control(experiment, configuration={"kms_watchdog_config": str(config)})

    assert not (config.parent / "state" / "drills").exists()
    assert ctk.end() is None


@pytest.mark.usefixtures("chaoslib")
def test_a_guard_that_does_not_hold_stops_the_experiment(
    make_config: MakeConfig, local_aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same guards as a drill's own: here, no daemon watches."""
    ready(local_aws, monkeypatch)

    with pytest.raises(StoppedError, match="daemon-watches"):
        ctk_control.before_experiment_control(example(), configuration=given_with(make_config()))

    assert ctk.end() is None


@pytest.mark.usefixtures("chaoslib", "daemon_lives")
@pytest.mark.parametrize(
    ("approval", "why"),
    [
        pytest.param("", "approved: a drill in production needs somebody else's approval", id="none"),
        pytest.param("latest", "approved: there is no approval of region-blackhole", id="latest"),
        pytest.param("no-such-file.json", "approved: the approval cannot be used: .*no-such-file.json", id="file"),
    ],
)
def test_in_production_an_experiment_needs_leave_like_any_drill(
    make_config: MakeConfig, local_aws: Any, monkeypatch: pytest.MonkeyPatch, approval: str, why: str
) -> None:
    """What `inject` is given as approval is what the guard looks at."""
    ready(local_aws, monkeypatch)
    config = make_config()
    config.write_text(config.read_text(encoding="utf-8") + "production = true\n", encoding="utf-8")
    experiment = {**example(), "extensions": [{"name": "x-kms-drill", "drill": "region-blackhole"}]}

    with pytest.raises(StoppedError, match=why):
        ctk_control.before_experiment_control(experiment, configuration=given_with(config, approval=approval))

    assert ctk.end() is None


def test_a_named_drill_must_have_the_fault(make_config: MakeConfig) -> None:
    """Its alarms and objectives are declared for its own fault, not for another."""
    with pytest.raises(DrillError, match="has no fault 'latency'"):
        ctk.begin(
            "latency",
            "us-east-1",
            extension={"drill": "region-blackhole"},
            configuration={"kms_watchdog_config": str(make_config())},
        )


@pytest.mark.slow
@pytest.mark.usefixtures("chaoslib", "daemon_lives")
def test_an_experiment_is_a_drill_like_any_other(
    make_config: MakeConfig, local_aws: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    """Undo record before the fault, the fault in one region alone, gone when `heal` returns, verdict in the journal."""
    ready(local_aws, monkeypatch)
    config = make_config()
    given = given_with(config, reason="a game day")
    state: dict[str, Any] = {}

    ctk_control.before_experiment_control(example(), configuration=given)
    before = ctk.canary_success_ratio("us-east-1", 30)
    with pytest.raises(CuedError, match="is not over"):
        ctk.begin("blackhole", "us-east-1", configuration=given)
    with pytest.raises(CuedError, match="no blackhole in eu-west-1"):
        ctk.inject("blackhole", "eu-west-1")
    injected, since = ctk.inject("blackhole", "us-east-1"), SystemClock().monotonic()

    def meanwhile() -> float | None:
        """Return what the survivor's canaries saw since the fault is on."""
        return share_ok("eu-west-1", SystemClock().monotonic() - since)

    wait_until(lambda: ctk.breaker_state("us-east-1") == "open", 60.0, "the breaker to open")
    wait_until(lambda: share_ok("us-east-1", 3) == 0.0, 60.0, "the canaries to fail")
    wait_until(lambda: meanwhile() is not None, 60.0, "the survivor's canaries to look")
    survivor = meanwhile()
    alarm = ctk.alarm_state("HighErrorRate", "us-east-1")
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        hurt = [name for name, proxy in server.proxies().items() if proxy.toxics]
        healed = ctk.heal("us-east-1")
        left = [name for name, proxy in server.proxies().items() if proxy.toxics]
        ctk_control.after_experiment_control(example(), state=state)
        proxies = [name for name in server.proxies() if name.startswith("kmswd.")]

    (where,) = folders(config.parent / "state")
    records = journal.read(where.journal).records
    events = [record.event for record in records]
    assert (before, survivor, alarm) == (1.0, 1.0, "UNREADABLE")  # this local AWS has no alarms
    assert (injected["on"], healed["was_on"]) == (True, True)
    assert ([name.rpartition(".")[2] for name in hurt], left, proxies) == (["us-east-1"], [], [])
    assert events.index("undo-recorded") < events.index("fault-injected") < events.index("fault-removed")
    assert events[-1] == "closed"
    assert records[0].fields["leave"]["reason"] == "a game day"
    told = state["x-kms-drill"]
    assert told["run_id"] == where.run_id
    assert told["judgement"] == json.loads(where.verdict.read_bytes())
    claims = {claim["name"]: claim["verdict"] for claim in told["judgement"]["claims"]}
    assert {claims[name] for name in ("fault-was-real", "restored", "nothing-lost")} == {"HELD"}
    assert isinstance(json.loads(json.dumps(state)), BUILTINS)


@pytest.mark.slow
@pytest.mark.usefixtures("chaoslib", "daemon_lives")
def test_an_experiment_that_ends_without_heal_leaves_nothing(
    make_config: MakeConfig, local_aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its own rollbacks were skipped: the control takes the fault off."""
    ready(local_aws, monkeypatch)
    given = given_with(make_config())

    ctk_control.before_experiment_control(example(), configuration=given)
    began = SystemClock().monotonic()
    ctk.inject("blackhole", "us-east-1")
    told = ctk.end()

    assert told is not None
    assert told["judgement"]["claims"][5]["name"] == "restored"
    assert SystemClock().monotonic() - began < 120
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        assert [name for name in server.proxies() if name.startswith("kmswd.")] == []
