"""`kill -9` at any instant of a drill: once `heal` or the daemon has run, nothing is left, and its journal is whole.

A hundred drills are killed at instants drawn at random, each part of a drill's life among them; those of one seed are
the same again. KMS_WATCHDOG_KILL_SEED chooses another seed, KMS_WATCHDOG_KILLS another number.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from daemon_kit import LocalCloud
from drill_lane import SECONDS, Lane, lane
from kill_instants import SECTIONS, Instant, Whole, draw
from killed_drills import FAULTS, LOOKS, MORE, make_alarms, write_drills
from waiting import wait_until

from kms_chaos.cli import cli
from kms_chaos.evidence.sealing import STORED
from kms_chaos.judge import judge
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.minutes(8), pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("KMS_WATCHDOG_KILLS", "100"))
SEED = int(os.environ.get("KMS_WATCHDOG_KILL_SEED", "20261129"))
LANES = 4
_IN_PROCESS = threading.Lock()
"""Commands that run in this process take its stdout for themselves."""


@pytest.fixture
def lanes(cloud: LocalCloud, tmp_path: Path) -> Iterator[tuple[Lane, ...]]:
    """Lanes side by side over one local AWS; the last has a real Toxiproxy where there is one."""
    config = cloud.config(tmp_path / "provision", prefix="killed")
    assert cloud.run("provision", "apply", "--yes", "--steps", "keys,aliases", config=config).returncode == 0
    make_alarms(cloud, config)
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(
                lane(
                    cloud.config(
                        tmp_path / f"lane-{number}", MORE, prefix="killed", interval_seconds=60.0, kinds=LOOKS
                    ),
                    cloud.environment,
                    real=number == LANES - 1 and bool(os.environ.get("TOXIPROXY_BIN")),
                )
            )
            for number in range(LANES)
        )


@pytest.fixture
def drills(tmp_path: Path) -> Mapping[str, Path]:
    return write_drills(tmp_path)


@dataclass
class Killer:
    """Kills drills in one lane, and looks at what is left of each."""

    lane: Lane
    drills: Mapping[str, Path]
    lives: Mapping[str, Whole]
    over: threading.Event
    """Set when something was left in any lane: one is enough."""
    hit: Counter[str] = field(default_factory=Counter)
    """Where the drills were when they died."""
    judged: Counter[str] = field(default_factory=Counter)
    healed_by: Counter[str] = field(default_factory=Counter)

    def kill_all(self, plan: list[tuple[int, Instant]]) -> None:
        for turn, (number, instant) in enumerate(plan):
            if self.over.is_set():
                return
            name = list(FAULTS)[(number + number // LANES) % len(FAULTS)]  # every kind in every lane
            where = self._kill(name, f"{number:03}-{name}", instant)
            told = f"{where.run_id}, a {self.lane.make} Toxiproxy, killed at {instant} of seed {SEED}"
            try:
                self._undo_record_was_first(where)
                self._heal(where, turn % 6)
                self._nothing_is_left()
                self._journal_is_whole(where)
                self._heal_again(where)
            except BaseException as e:
                self.over.set()
                e.add_note(told)
                e.add_note(self.end_of_log())
                raise
        self.lane.stop_daemon()
        for place in (self.lane.store, self.lane.state / "drills"):
            self._verifies(place)

    def _kill(self, name: str, run_id: str, instant: Instant) -> DrillFolder:
        """Kill a drill; one that was over before is no one's victim, and the next one is killed earlier."""
        for attempt in range(4):
            tried = f"{run_id}-{attempt}"
            self.lane.let_the_lease_run_out()
            killed, section = self.lane.kill(self.drills[name], tried, instant, self.lives[name])
            if killed:
                self.hit[section] += 1
                return self.lane.run_folder(tried)
            assert self.lane.run_folder(tried).path.exists(), f"{tried} was refused: {self.end_of_log()}"
            instant = instant.earlier()
        self.over.set()
        raise AssertionError(f"{run_id} was over before {instant}: {self.end_of_log()}")

    def end_of_log(self) -> str:
        return self.lane.log.read_text(encoding="utf-8", errors="replace")[-1500:]

    def _undo_record_was_first(self, where: DrillFolder) -> None:
        """Whatever it made or broke, how to undo that was on disk before."""
        there = {name for name in self.lane.proxies() if name.startswith("kmswd.")}
        known = {proxy.name for proxy in undo.read(where.undo).proxies} if where.undo.exists() else set()
        assert there <= known

    def _heal(self, where: DrillFolder, turn: int) -> None:
        """Heal: by the command, by a daemon that starts afterwards, by one that runs already; in turn."""
        if turn < 3:
            self.lane.stop_daemon()
            self.healed_by["the command"] += 1
            assert self.lane.heal() == 0
            return
        if self.lane.daemon is None:
            self.healed_by["a daemon at its start"] += 1
            self.lane.start_daemon()
        else:
            self.healed_by["a running daemon"] += 1
        wait_until(lambda: self.lane.is_finished(where.run_id), says="the daemon heals it", seconds=SECONDS)

    def _nothing_is_left(self) -> None:
        """No proxy of a drill, no toxic, none disabled; and what was there before is as it was."""
        found = self.lane.proxies()
        ours = {name: proxy for name, proxy in found.items() if name not in self.lane.strangers}
        assert [name for name in ours if name.startswith("kmswd.")] == []
        assert [name for name, proxy in ours.items() if proxy["toxics"] or not proxy["enabled"]] == []
        assert {name: found.get(name) for name in self.lane.strangers} == self.lane.strangers

    def _journal_is_whole(self, where: DrillFolder) -> None:
        """Closed, its chain unbroken, and judged by what it says; never green if the drill had no verdict yet."""
        if not where.journal.exists():
            assert not where.undo.exists()
            return
        found = journal.read(where.journal)
        events = [record.event for record in found.records]
        assert (found.closed, found.torn, events[0]) == (True, b"", "run-started")
        if "fault-injected" in events:
            assert events.index("undo-recorded") < events.index("fault-injected")
        said = [record.fields["verdict"] for record in found.records if record.event == "verdict"]
        judged = judge(found).verdict
        self.judged[judged] += 1
        assert [judged] == said or (not said and judged is not Verdict.HELD)
        assert found.records[-1].fields["verdict"] == (said[-1] if said else None)
        assert where.verdict.exists() == bool(said)
        code, _ = self._command("judge", str(where.path))
        assert code == judged.exit_code

    def _heal_again(self, where: DrillFolder) -> None:
        """There is nothing more to heal; and its evidence is sealed, signed and in the store."""
        code, output = self._command("heal", "--config", str(self.lane.config))
        assert (code, "nothing to heal" in output) == (0, True), output
        if where.journal.exists():
            kept = self.lane.store / "runs" / where.run_id
            there = (where.path / STORED).exists  # the daemon's healer may be at it still
            wait_until(there, says="its evidence is in the store", seconds=SECONDS)
            for name in (where.journal.name, where.signature.name, where.manifest.name):
                assert (kept / name).read_bytes() == (where.path / name).read_bytes()

    def _verifies(self, place: Path) -> None:
        code, output = self._command(
            "verify", str(place), "--public-key", str(self.lane.config.parent / "public.pem"), "--json"
        )
        bad = [each for each in json.loads(output)["findings"] if each["result"] != "good"]
        assert (code, bad) == (0, [])

    def _command(self, *arguments: str) -> tuple[int, str]:
        with _IN_PROCESS:
            done = CliRunner().invoke(cli, [*arguments])
        return done.exit_code, done.output


def test_whatever_instant_a_drill_is_killed_at_nothing_is_left_of_it(
    lanes: tuple[Lane, ...], drills: Mapping[str, Path]
) -> None:
    """No toxic, no disabled proxy, no open journal, no verdict that was not given; and the next drill may run."""
    with ThreadPoolExecutor(LANES) as side_by_side:
        ended = side_by_side.map(lambda one, name: one.live(drills[name], f"000-{name}-whole"), lanes, drills)
        lives = dict(zip(drills, ended, strict=True))
        over, known = threading.Event(), {name: whole for name, (whole, _) in lives.items()}
        killers = [Killer(one, drills, known, over) for one in lanes]
        ends = {name: code for name, (_, code) in lives.items()}
        assert set(ends.values()) <= {verdict.exit_code for verdict in Verdict}, ends | {
            "log": [killer.end_of_log() for killer in killers]
        }
        plan = list(enumerate(draw(random.Random(SEED), KILLS), start=1))
        shares = [plan[number::LANES] for number in range(LANES)]
        done = [side_by_side.submit(killer.kill_all, share) for killer, share in zip(killers, shares, strict=True)]
        errors = [error for each in done if (error := each.exception()) is not None]

    hit = sum((killer.hit for killer in killers), Counter())
    print(f"seed {SEED}: died in {dict(hit)}; healed by {dict(sum((k.healed_by for k in killers), Counter()))}")
    print(f"judged {dict(sum((k.judged for k in killers), Counter()))}; whole lives, and how they ended: {lives}")
    if errors:
        raise BaseExceptionGroup("what was left", errors)
    assert hit.total() == KILLS
    if KILLS >= 100:
        assert set(hit) == {"", *SECTIONS}, "each part of a drill's life was hit"
