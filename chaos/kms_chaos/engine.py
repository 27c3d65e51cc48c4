"""The engine around a drill: guards before, the folder and its journal, the conductor, and the verdict at the end."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from kms_chaos import alarms, durable, guards, stage
from kms_chaos.conductor import Conductor
from kms_chaos.faults import route_check
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.run import Run
from kms_chaos.scene import Scene
from kms_chaos.tape import JournalTape
from kms_watchdog.drills import verdict as verdicts
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError


def conduct(run: Run, judge: Callable[[Run], verdicts.Judgement], on_air: Callable[[JournalTape], None]) -> None:
    """Run the drill to its verdict, which `judge` gives from the journal; `on_air` gets the tape once there is one.

    Raises:
        guards.RefusedError: a guard did not hold; nothing was touched.
        ToxiproxyError: Toxiproxy does not answer; nothing was touched.
        JournalWriteError: the disk failed; what was broken is restored.
    """
    with ExitStack() as stack:
        stack.enter_context(guards.only_drill(run.settings.state.dir))
        server = stack.enter_context(Toxiproxy(run.settings.drills.toxiproxy_url))
        version, _ = server.version(), server.proxies()  # a server that does not answer ends it here
        target_board = alarms.reading_region(run.settings, run.target)
        keys = alarms.all_keys(run.drill, run.target, run.regions)
        board = alarms.AlarmBoard(run.settings, target_board, keys)
        stack.callback(board.close)
        upstreams = stage.upstreams(run.settings)
        checked = _check_guards(run, board)

        durable.make_folder(run.folder.path)
        stack.enter_context(_owned(run.folder))
        writer = stack.enter_context(JournalWriter(run.folder.journal, run.clock))
        tape = JournalTape(writer, Scene(run.regions))
        on_air(tape)
        tape.record_now("run-started", **_who_and_what(run, version))
        for result in checked:
            tape.record("guard-checked", guard=result.guard, held=result.held, detail=result.detail)
        restored = Conductor(run, server, board, tape, upstreams).perform()
        _finish(run, tape, judge, restored=restored)


def _check_guards(run: Run, board: alarms.AlarmBoard) -> tuple[guards.GuardResult, ...]:
    def route_is_verified() -> str:
        route_check.check(run.clock.now_utc())
        return "a right certificate was accepted; an unknown authority and a wrong name were refused"

    checked = guards.check(
        {
            "nothing-left-over": lambda: guards.nothing_is_left_over(run.settings.state.dir),
            "route-verified": route_is_verified,
            "daemon-watches": lambda: guards.daemon_watches(run.settings),
            "alarms-quiet": lambda: guards.alarms_are_quiet(board),
        }
    )
    if failed := [result for result in checked if not result.held]:
        raise guards.RefusedError("; ".join(f"{result.guard}: {result.detail}" for result in failed))
    return checked


@contextmanager
def _owned(where: DrillFolder) -> Iterator[None]:
    try:
        with where.owned():
            yield
    except FolderBusyError as e:
        raise guards.RefusedError(str(e)) from e


def _who_and_what(run: Run, toxiproxy_version: str) -> dict[str, Any]:
    return {
        "drill": run.drill.name,
        "target": run.drill.target.region,
        "region": run.target,
        "regions": list(run.regions),
        "purposes": sorted(run.settings.keys),
        "drill_file": run.drill.model_dump(mode="json"),
        "config": run.settings.model_dump(mode="json"),
        "versions": {
            "kms-watchdog": importlib.metadata.version("kms-watchdog"),
            "python": platform.python_version(),
            "boto3": importlib.metadata.version("boto3"),
            "toxiproxy": toxiproxy_version,
        },
        "owner": {"pid": os.getpid(), "host": socket.gethostname()},
        "run_id": run.run_id,
        "verdict_schema": verdicts.SCHEMA,
    }


def _finish(run: Run, tape: JournalTape, judge: Callable[[Run], verdicts.Judgement], *, restored: bool) -> None:
    judgement = judge(run)
    tape.record_now(
        "verdict",
        verdict=str(judgement.verdict),
        claims={claim.name: str(claim.verdict) for claim in judgement.claims},
    )
    if restored:  # else the journal stays open, and whoever finds it heals
        tape.record_now("closed", by="drill", verdict=str(judgement.verdict))
