"""What files show of the regular tasks that are proven: drills that held, and proofs that alarms reach somebody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.readiness import proof_evidence
from kms_watchdog.readiness.sign_offs import SignOff
from kms_watchdog.readiness.tasks import ALARM_PROOF, DRILL
from kms_watchdog.sinks.sink import AlarmMoved


def shown(settings: Settings, runs: Iterable[RunView], proofs: Iterable[AlarmProof]) -> tuple[SignOff, ...]:
    """Return what files show to be done: `runs` are the drills, as a `Follower` tells of them, `proofs` the alarms'."""
    wanted = alarm_proofs.to_be_proven(settings)
    return (*drills_held(runs), *all_proven(proof_evidence.standing(proofs, wanted), wanted))


def drills_held(runs: Iterable[RunView]) -> Iterator[SignOff]:
    """Return the drills that held, when they ended. Pure."""
    for run in runs:
        if run.verdict is Verdict.HELD and run.closed and not run.broken and run.ended_at_utc is not None:
            yield SignOff(subject=DRILL, at_utc=run.ended_at_utc, by=run.run_id, note=f"{run.drill} HELD")


def all_proven(standing: Mapping[str, AlarmMoved], wanted: Mapping[str, object]) -> Iterator[SignOff]:
    """Return that every alarm was proven, at the time of the one for which that is longest ago. Pure.

    Nothing where one was never proven or failed the last time, or where nobody knows which alarms there should be.
    """
    if wanted and wanted.keys() <= standing.keys():
        oldest = min(standing[name].fired_at for name in wanted)
        at_utc = datetime.fromtimestamp(oldest, UTC)
        yield SignOff(subject=ALARM_PROOF, at_utc=at_utc, by="kms-alarms prove", note=f"all {len(wanted)} alarms")
