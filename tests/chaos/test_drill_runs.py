"""Drills from end to end against a local AWS: to the verdict, to a halt, to a refusal, to a SIGKILL."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_chaos import engine
from kms_chaos.cli import cli
from kms_chaos.conductor import Conductor
from kms_chaos.drill import find
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.judge import judge
from kms_chaos.run import plan
from kms_chaos.stage import Stage
from kms_core import SystemClock
from kms_watchdog import config as configuration
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, drills_dir, folders
from kms_watchdog.drills.verdict import Verdict

Wait = Callable[[Callable[[], bool], float, str], None]
MakeConfig = Callable[..., Path]


def only_run(config: Path) -> DrillFolder:
    (found,) = folders(config.parent / "state")
    return found


def events(where: DrillFolder) -> list[str]:
    return [record.event for record in journal.read(where.journal).records]


def proxies_left(local_aws: Any) -> dict[str, Any]:
    with Toxiproxy(local_aws.toxiproxy_url) as server:
        return {name: state for name, state in server.proxies().items() if name.startswith("kmswd.")}


def start(local_aws: Any, config: Path, drill: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "run", str(drill), "--config", str(config)],
        env=local_aws.environment,
        stdout=subprocess.DEVNULL,
    )


def until_event(config: Path, event: str, wait_until: Wait) -> None:
    def seen() -> bool:
        return any(event in events(found) for found in folders(config.parent / "state"))

    wait_until(seen, 40.0, f"{event} in the journal")


@pytest.mark.usefixtures("daemon_lives")
@pytest.mark.slow
def test_a_drill_runs_to_its_verdict_and_leaves_nothing(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, monkeypatch: pytest.MonkeyPatch, toxiproxy_url: str
) -> None:
    """All that needs no alarm is HELD; with no alarm looked at, the drill is INCONCLUSIVE: never green by omission.

    Through our Toxiproxy and a real one, over TLS whose names are verified: the journal says that both were tried.
    """
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    config = make_config(toxiproxy_url=toxiproxy_url)
    with config.open("a", encoding="utf-8") as more:
        more.write('\n[prometheus]\ntextfile = "kms.prom"\n')

    result = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config), "--json"])

    assert result.exit_code == 3, result.output
    judged = json.loads(result.stdout)
    assert {c["name"]: c["verdict"] for c in judged["claims"]} == {
        "steady-state-before": "HELD",
        "fault-was-real": "HELD",
        "workload-objective": "HELD",
        "breaker-moves": "HELD",
        "alarms": "INCONCLUSIVE",
        "restored": "HELD",
        "nothing-lost": "HELD",
        "warm-and-cold": "HELD",
        "reaction": "HELD",
    }
    where = only_run(config)
    seen = events(where)
    assert seen.index("undo-recorded") < seen.index("attempt") < seen.index("fault-injected") < seen.index("verdict")
    assert seen[-1] == "closed"
    assert json.loads(where.verdict.read_text(encoding="utf-8")) == judged
    assert "INCONCLUSIVE" in where.report.read_text(encoding="utf-8")
    with Toxiproxy(toxiproxy_url) as server:
        assert server.proxies() == {}
        first, *rest = journal.read(where.journal).records
        assert first.fields["versions"]["toxiproxy"] == server.version()
    held = {r.fields["guard"]: r.fields["held"] for r in rest if r.event == "guard-checked"}
    assert held["route-verified"] is held["toxiproxy-leads-to-kms"] is True
    left = (config.parent / "kms.prom").read_text(encoding="utf-8")
    assert f'drill_detection_seconds{{drill="{judged["drill"]}"}} {judged["figures"]["detect_seconds"]}' in left
    assert f'drill_runs_total{{drill="{judged["drill"]}",result="inconclusive"}} 1.0' in left

    again = CliRunner().invoke(cli, ["judge", where.run_id, "--config", str(config), "--json"])
    assert (again.exit_code, json.loads(again.stdout)) == (3, judged)
    other = config.parent / "other.html"
    assert CliRunner().invoke(cli, ["report", str(where.path), "--output", str(other)]).exit_code == 0
    assert judged["run_id"] in other.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_drill_that_is_killed_in_its_fault_is_healed(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, wait_until: Wait
) -> None:
    """SIGKILL leaves the fault; `heal` leaves nothing, a finished journal, and no second drill is let in before it."""
    config = make_config()
    drill = start(local_aws, config, short_drill)
    try:
        until_event(config, "fault-injected", wait_until)
    finally:
        drill.kill()
        drill.wait()
    assert any(state.toxics for state in proxies_left(local_aws).values())

    refused = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config)], env=local_aws.environment)
    healed = CliRunner().invoke(cli, ["heal", "--config", str(config)])

    assert refused.exit_code == 4
    assert "is not closed" in refused.output
    assert healed.exit_code == 0, healed.output
    assert proxies_left(local_aws) == {}
    assert events(only_run(config))[-4:] == ["fault-removed", "restore-verified", "healed", "closed"]
    judged = CliRunner().invoke(cli, ["judge", str(only_run(config).path)])
    assert judged.exit_code == 3
    assert "nothing to heal" in CliRunner().invoke(cli, ["heal", "--config", str(config)]).output


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGTERM, id="term")])
def test_a_halt_restores_first(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, wait_until: Wait, number: signal.Signals
) -> None:
    """Interrupted and restored: exit code 3, and the journal says by what."""
    config = make_config()
    drill = start(local_aws, config, short_drill)
    try:
        until_event(config, "fault-injected", wait_until)
        drill.send_signal(number)
        code = drill.wait(30)
    finally:
        drill.kill()
        drill.wait()

    assert code == 3
    assert proxies_left(local_aws) == {}
    found = journal.read(only_run(config).journal)
    assert found.closed
    assert next(r.fields["reason"] for r in found.records if r.event == "interrupted") == number.name


class Frozen(Conductor):
    """Stands still before its fault for so long that another drill takes the lease."""

    def _baseline(self, scene: Stage) -> None:
        super()._baseline(scene)
        lease = drills_dir(self._run.settings.state.dir) / "lease.json"
        values = json.loads(lease.read_text(encoding="utf-8"))
        lease.write_text(json.dumps({**values, "token": values["token"] + 1}), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_who_has_lost_the_lease_breaks_nothing(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked right before the fault, not only by the thread that renews: that one may not have woken yet."""
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    settings = configuration.load(make_config())
    run = plan(settings, find(str(short_drill)), region=None, clock=SystemClock())

    engine.conduct(run, lambda run: judge(journal.read(run.folder.journal)), lambda _tape: None, Frozen)

    found = journal.read(run.folder.journal)
    assert found.closed
    assert "fault-injected" not in {record.event for record in found.records}
    assert ["the drill lease" in r.fields["reason"] for r in found.records if r.event == "interrupted"] == [True]
    assert judge(found).verdict is Verdict.INCONCLUSIVE


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_restore_that_fails_is_broke_and_stays_open_for_the_healer(
    local_aws: Any,
    make_config: MakeConfig,
    short_drill: Path,
    wait_until: Wait,
    own_toxiproxy: tuple[str, subprocess.Popen[bytes]],
) -> None:
    """A Toxiproxy that hangs in the middle of the fault: told, never taken for restored, and healed later."""
    url, server = own_toxiproxy
    config = make_config(toxiproxy_url=url)
    drill = start(local_aws, config, short_drill)
    try:
        until_event(config, "fault-injected", wait_until)
        server.send_signal(signal.SIGSTOP)
        drill.send_signal(signal.SIGTERM)
        code = drill.wait(40)
    finally:
        server.send_signal(signal.SIGCONT)
        drill.kill()
        drill.wait()

    where = only_run(config)
    assert code == 1
    assert json.loads(where.verdict.read_text(encoding="utf-8"))["verdict"] == "BROKE"
    assert not journal.read(where.journal).closed
    assert CliRunner().invoke(cli, ["heal", "--config", str(config)]).exit_code == 0
    assert journal.read(where.journal).closed
    with Toxiproxy(url) as healed:
        assert healed.proxies() == {}
    assert CliRunner().invoke(cli, ["judge", str(where.path)]).exit_code == 1  # what was judged then stays judged


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_a_toxiproxy_that_dies_takes_its_faults_along(
    local_aws: Any,
    make_config: MakeConfig,
    short_drill: Path,
    wait_until: Wait,
    own_toxiproxy: tuple[str, subprocess.Popen[bytes]],
) -> None:
    """Nothing can be active on a server that is gone: restored, and the drill proves nothing."""
    url, server = own_toxiproxy
    config = make_config(toxiproxy_url=url)
    drill = start(local_aws, config, short_drill)
    try:
        until_event(config, "fault-injected", wait_until)
        server.kill()
        code = drill.wait(60)
    finally:
        drill.kill()
        drill.wait()

    found = journal.read(only_run(config).journal)
    assert code == 3
    assert found.closed
    verified = next(r for r in found.records if r.event == "restore-verified")
    assert "gone" in verified.fields["finding"]


def test_a_missing_extra_is_named_in_one_line() -> None:
    """No traceback for somebody who installed the core alone."""
    code = "import sys; sys.modules['toxiproxy'] = None; from kms_chaos.__main__ import main; main()"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kms-chaos needs toxiproxy: pip install 'kms-watchdog[drills]'\n"


def test_the_module_is_the_command() -> None:
    """`python -m kms_chaos`, which the daemon starts."""
    done = subprocess.run([sys.executable, "-m", "kms_chaos", "list"], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "region-blackhole" in done.stdout


def test_without_a_daemon_a_drill_is_refused(local_aws: Any, make_config: MakeConfig, short_drill: Path) -> None:
    """Nobody would publish its numbers; nothing is touched."""
    config = make_config()

    result = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config)], env=local_aws.environment)

    assert result.exit_code == 4
    assert "daemon-watches" in result.output
    assert folders(config.parent / "state") == ()


@pytest.mark.usefixtures("daemon_lives")
def test_alarms_that_nobody_can_read_refuse_a_drill(local_aws: Any, make_config: MakeConfig) -> None:
    """`kms-alarms apply` was forgotten: guards fail closed."""
    result = CliRunner().invoke(
        cli, ["run", "region-blackhole", "--config", str(make_config())], env=local_aws.environment
    )

    assert result.exit_code == 4
    assert "knows no alarm" in result.output


@pytest.mark.parametrize("silent", [pytest.param(True, id="hangs"), pytest.param(False, id="absent")])
def test_a_toxiproxy_that_does_not_answer_is_told_within_seconds(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, *, silent: bool
) -> None:
    """One line, exit code 2, nothing left behind."""
    clock = SystemClock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not silent:
            listener.close()
        config = make_config(toxiproxy_url=url)
        started = clock.monotonic()
        result = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config)], env=local_aws.environment)

    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert url in result.output
    assert clock.monotonic() - started < 60  # the silent one would have been silent for ever
    assert folders(config.parent / "state") == ()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["run", "region-blackhol"], 2, "did you mean region-blackhole", id="drill"),
        pytest.param(["run", "region-blackhole", "--region", "mars-north-1"], 2, "not a region", id="region"),
        pytest.param(["judge", "20261124T000000Z-nothing"], 2, "no drill", id="run"),
        pytest.param(["judge", "../nowhere"], 2, "not a run id", id="path"),
        pytest.param(["heal", "--run", "20261124T000000Z-nothing"], 2, "no drill", id="heal"),
        pytest.param(["run", "region-blackhole", "--config", "absent.toml"], 2, "absent.toml", id="config"),
    ],
)
def test_what_is_wrong_is_one_line(make_config: MakeConfig, arguments: list[str], code: int, says: str) -> None:
    """On stderr, with the exit code of DESIGN §5."""
    if "--config" not in arguments:
        arguments = [*arguments, "--config", str(make_config())]

    result = CliRunner().invoke(cli, arguments)

    assert result.exit_code == code
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_list_names_every_drill() -> None:
    """Name, mode and title, one a line."""
    result = CliRunner().invoke(cli, ["list"])

    assert result.exit_code == 0
    assert "region-blackhole" in result.output


def test_an_edited_journal_is_refused(tmp_path: Path) -> None:
    """Exit code 4: there is nothing to judge."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.ndjson").write_bytes(b'{"event":"run-started"}\n')

    result = CliRunner().invoke(cli, ["judge", str(tmp_path / "run")])

    assert result.exit_code == 4
