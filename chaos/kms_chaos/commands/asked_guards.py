"""The guards of a planned drill: what each looks at, and with `--ask` what each found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kms_chaos import alarms, stage
from kms_chaos.engine import more_guards
from kms_chaos.guards import GuardResult, outlook
from kms_chaos.guards.admission import Admission
from kms_chaos.lease_choice import lease_of
from kms_chaos.run import Run

_HOLDS = {True: ("yes", "green"), False: ("no", "bold red"), None: ("not asked", "dim")}


def answers_of(run: Run) -> dict[str, GuardResult]:
    """Ask the guards of `run` that only look, and return what each found, by its name. Main thread.

    Not the one that makes a proxy, nor the one that only the holder of the drill lease can ask.

    Raises:
        RefusedError: the drill lease is kept where the drill hurts.
    """
    read_in = alarms.reading_region(run.settings, run.hurt)
    board = alarms.AlarmBoard(run.settings, read_in, alarms.all_keys(run.drill, run.targets, run.regions))
    try:
        lease = lease_of(run.settings, run.clock, run_id=run.run_id, hurt=run.hurt)
        admission = Admission(run, board, lease, stage.upstreams(run.settings))
        try:
            found = admission.ask(more_guards(run, stage.service_upstreams(run.settings, run.services)))
        finally:
            admission.close()
    finally:
        board.close()
    return {one.guard: one for one in found if one.guard != outlook.LEASE}


def asked(run: Run, answers: Mapping[str, GuardResult]) -> list[Mapping[str, Any]]:
    """Return every guard of `run` for JSON; `held` is null for those that `answers` has not."""
    looks = outlook.outlook(
        run, stage.upstreams(run.settings), stage.service_upstreams(run.settings, run.services).values()
    )
    return [
        {
            "guard": look.guard,
            "when": look.when,
            "looks_at": look.looks_at,
            "held": answers[look.guard].held if look.guard in answers else None,
            "detail": answers[look.guard].detail if look.guard in answers else "",
        }
        for look in looks
    ]


def guards_table(guards: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each looks at for people, and where they were asked what they found."""
    style: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}
    if all(guard["held"] is None for guard in guards):
        table = Table("guard", "asked", "looks at", **style)
        for guard in guards:
            table.add_row(guard["guard"], guard["when"], Text(guard["looks_at"]))
        return table
    table = Table("guard", "holds", "because, or what it looks at", **style)
    for guard in guards:
        word, tone = _HOLDS[guard["held"]]
        table.add_row(guard["guard"], Text(word, tone), Text(guard["detail"] or guard["looks_at"]))
    return table
