"""Guards at the door of the engine: whoever is refused has touched nothing, and a halt ends what runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_chaos import alarms, halting, tenure
from kms_chaos.cli import cli
from kms_chaos.drill import find
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.guards import RefusedError
from kms_chaos.guards.admission import Admission
from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError
from kms_chaos.lease_file import FileLease
from kms_chaos.run import Run, plan
from kms_chaos.scene import Scene
from kms_chaos.stage import upstreams
from kms_chaos.tape import JournalTape
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.config import load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., Path]
CLOCK = SystemClock()


def more(config: Path, text: str) -> Path:
    """Put `text` below [drills], which is the file's last table."""
    with config.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return config


@pytest.fixture
def credentials(local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, local_aws.environment[name])


def refusal(config: Path, drill: Path, *options: str) -> str:
    """Run the drill, which must be refused with nothing touched; return what was said."""
    result = CliRunner().invoke(cli, ["run", str(drill), "--config", str(config), *options])
    assert result.exit_code == 4, result.output
    assert result.output.count("\n") == 1
    assert folders(config.parent / "state") == ()
    with Toxiproxy(load(config).drills.toxiproxy_url) as server:
        assert not [name for name in server.proxies() if name.startswith("kmswd")]
    return result.output


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_a_halt_refuses(make_config: MakeConfig, short_drill: Path) -> None:
    """With the reason, and who gave it."""
    config = make_config()
    halting.engage(config.parent / "state", CLOCK, by="ann", reason="a real outage")

    assert "not-halted: all drills are halted" in refusal(config, short_drill)


@pytest.mark.usefixtures("daemon_lives", "credentials")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('accounts = ["210987654321"]', "account-allowed", id="account"),
        pytest.param('endpoints = ["127.0.0.1:1"]', "endpoints-allowed", id="endpoints"),
        pytest.param("production = true", "approved: a drill in production", id="leave"),
        pytest.param('blocked_dates = ["2020-01-01/2099-12-31"]', "window-open: no drill now", id="blocked"),
    ],
)
def test_what_the_configuration_forbids_is_refused(
    make_config: MakeConfig, short_drill: Path, text: str, says: str
) -> None:
    """Each by the guard whose business it is."""
    assert says in refusal(more(make_config(), text), short_drill)


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_two_regions_are_refused_without_arming(make_config: MakeConfig) -> None:
    """A shipped drill that hurts two."""
    config = make_config()
    run = run_of(config, find("two-regions-lost"))

    with pytest.raises(RefusedError, match="regions-armed: the drill hurts 2 regions"):
        checked(run)
    assert "regions-armed" not in said(replace(run, armed=True))


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_in_production_payment_comes_last(make_config: MakeConfig, short_drill: Path) -> None:
    """Where it is not among the keys, nothing has to come before."""
    config = make_config()
    text = config.read_text(encoding="utf-8").replace("[keys.pii]", "[keys.payment]")
    config.write_text(f"{text}\nproduction = true\n", encoding="utf-8")

    assert "held-on-general: payment is drilled only after" in refusal(config, short_drill)
    assert "held-on-general" not in refusal(config, short_drill, "--purpose", "general")


@pytest.mark.usefixtures("credentials")
def test_an_estate_that_is_not_known_to_be_well_is_refused(make_config: MakeConfig, short_drill: Path) -> None:
    """Nobody has looked: each guard that would ask the daemon says so."""
    said_so = refusal(make_config(), short_drill)

    for guard in ("daemon-watches", "estate-healthy", "keys-enabled", "estate-not-drifted", "survivors-unthrottled"):
        assert f"{guard}: no kms-watchdog daemon runs" in said_so


@pytest.mark.usefixtures("daemon_lives", "credentials")
@pytest.mark.parametrize(
    ("done", "exit_code", "said"),
    [
        pytest.param(True, 0, "slot failover/2026-12 has had its drill", id="done"),
        pytest.param(False, 3, "was begun by another drill, which came to no verdict", id="begun"),
    ],
)
def test_a_slot_that_has_had_its_drill_has_no_other(
    make_config: MakeConfig, short_drill: Path, said: str, exit_code: int, *, done: bool
) -> None:
    """Whoever asks for it again, by whatever run: nothing is left to do, and nobody is alarmed."""
    config = make_config()
    lease = FileLease(config.parent / "state")
    lease.acquire(Halt())
    assert lease.claim_slot("failover/2026-12")
    if done:
        lease.finish_slot("failover/2026-12")
    lease.release()
    asked = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config), "--slot", "failover/2026-12"])

    assert (asked.exit_code, said in asked.stderr) == (exit_code, True), asked.output
    assert [one.name for one in (config.parent / "state" / "drills").iterdir()] == ["lease.json"]


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_a_lease_that_is_lost_at_the_door_refuses(
    make_config: MakeConfig, short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is there before the lease notes a fault, for a healer looks there; refused, it is gone again."""
    config, seen = make_config(), list[str]()

    def lost(_: FileLease, note: FaultNote) -> None:
        seen.extend(one.run_id for one in folders(config.parent / "state"))
        assert seen == [note.run_id]
        raise FencedError("taken over")

    monkeypatch.setattr(FileLease, "record_fault", lost)

    assert "the drill lease: taken over" in refusal(config, short_drill)
    assert len(seen) == 1


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_a_fault_of_another_machine_is_waited_for(make_config: MakeConfig, short_drill: Path) -> None:
    """Its run is not in this state folder."""
    config = make_config()
    lease = FileLease(config.parent / "state")
    lease.acquire(Halt())
    until = CLOCK.now_utc() + timedelta(hours=1)
    lease.record_fault(FaultNote(run_id="elsewhere", host="there", token=lease.token, expires_at_utc=until))
    lease.release()

    assert "earlier-fault-over: drill elsewhere on there" in refusal(config, short_drill)


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_another_drill_is_refused(make_config: MakeConfig, short_drill: Path) -> None:
    """One at a time on a state folder."""
    config = make_config()
    lease = FileLease(config.parent / "state")
    lease.acquire(Halt())

    assert "another drill runs" in refusal(config, short_drill)
    lease.release()


class Untouchable(Toxiproxy):
    """A Toxiproxy on which nothing may be made."""

    def create(self, name: str, **_: Any) -> Any:
        pytest.fail(f"{name} was made")


def run_of(config: Path, drill: Any) -> Run:
    return plan(load(config), drill, region=None, clock=CLOCK)


def checked(run: Run) -> Admission:
    board = alarms.AlarmBoard(run.settings, run.regions[-1], frozenset())
    lease = FileLease(run.settings.state.dir)
    lease.acquire(Halt())
    admission = Admission(run, board, lease, upstreams(run.settings))
    try:
        admission.check({})
    finally:
        lease.release()
        admission.close()
        board.close()
    return admission


def said(run: Run) -> str:
    try:
        checked(run)
    except RefusedError as e:
        return str(e)
    return ""


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_toxiproxy_is_touched_only_when_everything_else_holds(
    make_config: MakeConfig, short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its probe is the only thing that a guard makes; and who agreed is known afterwards."""
    config = make_config()
    run = run_of(config, find(str(short_drill)))
    admission = checked(run)
    assert admission.leave is not None
    assert admission.leave.started_by.startswith("arn:aws")

    halting.engage(config.parent / "state", CLOCK, by="ann", reason="no")
    monkeypatch.setattr("kms_chaos.guards.admission.Toxiproxy", Untouchable)

    assert said(run).startswith("not-halted: ")


@pytest.mark.usefixtures("daemon_lives", "credentials")
def test_a_toxiproxy_without_a_way_is_refused(make_config: MakeConfig, short_drill: Path) -> None:
    """All else holds."""
    run = run_of(make_config(), find(str(short_drill)))
    board = alarms.AlarmBoard(run.settings, run.regions[-1], frozenset())
    lease = FileLease(run.settings.state.dir)
    lease.acquire(Halt())
    wrong = {region: url.replace("127.0.0.1", "127.0.0.2") for region, url in upstreams(run.settings).items()}
    settings = run.settings.model_copy(
        update={"drills": run.settings.drills.model_copy(update={"endpoints": (*wrong.values(), _netloc(run))})}
    )

    with pytest.raises(RefusedError, match=r"^toxiproxy-leads-to-kms: Toxiproxy has no way to"):
        Admission(replace(run, settings=settings), board, lease, wrong).check({})
    lease.release()
    board.close()


def _netloc(run: Run) -> str:
    return run.settings.drills.toxiproxy_url.removeprefix("http://")


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_halt_ends_the_drill_that_runs(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, wait_until: Callable[..., None]
) -> None:
    """Restored first, exit code 3; the journal says by which guard, by whose leave it ran, and under which token."""
    config = make_config()
    state = config.parent / "state"
    drill = subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "run", str(short_drill), "--config", str(config), "--slot", "s/1"],
        env=local_aws.environment,
        stdout=subprocess.DEVNULL,
    )

    def seen() -> bool:
        return any(r.event == "fault-injected" for f in folders(state) for r in journal.read(f.journal).records)

    try:
        wait_until(seen, 60.0, "the fault is on")
        noted = json.loads((state / "drills/lease.json").read_text(encoding="utf-8"))
        CliRunner().invoke(cli, ["halt", "--reason", "an outage", "--config", str(config)])
        code = drill.wait(60)
    finally:
        drill.kill()
        drill.wait()

    assert code == 3
    [where] = folders(state)
    found = journal.read(where.journal)
    started = found.records[0].fields
    assert found.closed
    assert started["leave"]["started_by"].startswith("arn:aws")
    assert started["lease"]["token"] == 1
    [interrupted] = [r.fields["reason"] for r in found.records if r.event == "interrupted"]
    assert interrupted.startswith("guard not-halted: all drills are halted")
    assert [r.fields["guard"] for r in found.records if r.event == "guard-checked" and not r.fields["held"]] == [
        "not-halted"
    ]
    undo = [r.fields["undo"] for r in found.records if r.event == "undo-recorded"]
    assert noted["fault"]["run_id"] == where.run_id
    assert noted["fault"]["expires_at_utc"] >= max(one["expires_at_utc"] for one in undo)
    kept = json.loads((state / "drills/lease.json").read_text(encoding="utf-8"))
    assert (kept["fault"], kept["slots"]["s/1"]["state"]) == (None, "STARTED")


@pytest.mark.parametrize(
    ("interrupted", "verdict", "restored", "fault", "slot"),
    [
        pytest.param(False, "HELD", True, None, "DONE", id="came-to-its-verdict"),
        pytest.param(False, "INCONCLUSIVE", True, None, "DONE", id="could-not-tell"),
        pytest.param(True, "INCONCLUSIVE", True, None, "STARTED", id="interrupted"),
        pytest.param(True, "BROKE", True, None, "DONE", id="interrupted-and-yet-it-tells"),
        pytest.param(False, "BROKE", False, "r", "DONE", id="not-restored"),
    ],
)
def test_the_lease_learns_what_came_of_the_run(
    make_config: MakeConfig,
    short_drill: Path,
    fault: str | None,
    verdict: str,
    slot: str,
    *,
    interrupted: bool,
    restored: bool,
) -> None:
    """What is not undone stays noted; a slot whose drill told nothing may be run again where its plan says so."""
    run = replace(run_of(make_config(), find(str(short_drill))), slot="s/1", run_id="r")
    lease = FileLease(run.settings.state.dir)
    lease.acquire(Halt())
    with tenure.begun(lease, run) as writer:
        tape = JournalTape(writer, Scene(run.regions))
        if interrupted:
            tape.record_now("interrupted", reason="SIGTERM")
        tenure.settle(lease, run, tape, restored=restored)
        tape.record_now("verdict", verdict=verdict)
        tenure.finish(lease, run, tape)

    kept = json.loads((run.settings.state.dir / "drills/lease.json").read_text(encoding="utf-8"))
    assert (kept["fault"] and kept["fault"]["run_id"], kept["slots"]["s/1"]["state"]) == (fault, slot)
    lease.release()


class Deaf(FileLease):
    """A lease whose place does not answer any more."""

    asked = 0

    def settle_fault(self, run_id: str) -> None:
        self.asked += 1
        raise LeaseUnreachableError("silence")


@pytest.mark.parametrize(("halted", "asked"), [(False, 10), (True, 1)])
def test_a_lease_that_does_not_answer_is_told_for_a_while(
    make_config: MakeConfig, short_drill: Path, asked: int, *, halted: bool
) -> None:
    """Of a drill that was told to end once: whoever told it has a deadline of its own. What is untold is noted."""
    run = replace(run_of(make_config(), find(str(short_drill))), clock=ManualClock(auto_advance=True), run_id="r")
    lease = Deaf(run.settings.state.dir)
    lease.acquire(Halt())
    with tenure.begun(lease, run) as writer:
        if halted:
            run.halt.call("SIGTERM")
        tenure.settle(lease, run, JournalTape(writer, Scene(run.regions)), restored=True)
    lease.release()

    assert lease.asked == asked
    assert [one.event for one in journal.read(run.folder.journal).records] == ["lease-unsettled"]


def test_a_guard_that_crashes_while_the_engine_asks_refuses(make_config: MakeConfig, short_drill: Path) -> None:
    """The engine's own guard among them."""
    run = run_of(make_config(), find(str(short_drill)))
    board = alarms.AlarmBoard(run.settings, run.regions[-1], frozenset())
    lease = FileLease(run.settings.state.dir)
    lease.acquire(Halt())

    def crash() -> str:
        raise ZeroDivisionError("oops")

    with pytest.raises(RefusedError, match="mine: could not be checked: ZeroDivisionError: oops"):
        Admission(run, board, lease, upstreams(run.settings)).check({"mine": crash})
    lease.release()
    board.close()
