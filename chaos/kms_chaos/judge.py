"""Judge a drill by its journal alone, so that any verdict can be reached again without the system.

Precedence: a restore that failed is BROKE, whatever else. Then, what nobody could see is INCONCLUSIVE: a run that was
cut short, a steady state that was not there before, a fault that did not bite. Only then does a claim that broke count,
since only then is it the fault that broke it. HELD is what is left when every claim was seen to hold.
"""

from __future__ import annotations

from kms_chaos.judging.after import nothing_lost, restore_failed, restored
from kms_chaos.judging.alarm_states import alarms
from kms_chaos.judging.before_and_fault import fault_was_real, steady_state_before
from kms_chaos.judging.figures import figures
from kms_chaos.judging.history import History
from kms_chaos.judging.in_the_dark import cold_start, revocation
from kms_chaos.judging.own_watchdog import own_watchdog
from kms_chaos.judging.reaction import reaction, warm_and_cold
from kms_chaos.judging.workload_and_breaker import breaker_moves, workload_objective
from kms_watchdog.drills.journal import Journal
from kms_watchdog.drills.verdict import Claim, Judgement, Verdict

FOUNDATIONS = frozenset({"steady-state-before", "fault-was-real"})
"""Claims without which the others say nothing about the fault."""


def judge(journal: Journal) -> Judgement:
    """Return what `journal` proves.

    Raises:
        JournalError: it is not a drill's journal.
    """
    history = History.of(journal)
    claims = (
        steady_state_before(history),
        fault_was_real(history),
        workload_objective(history),
        breaker_moves(history),
        alarms(history),
        restored(history),
        nothing_lost(history),
        warm_and_cold(history),
        reaction(history),
        *((cold_start(history),) if history.drill.actions else ()),
        *((own_watchdog(history),) if history.drill.watchdog else ()),
        *((revocation(history),) if history.drill.expect.revoked else ()),
    )
    return Judgement(
        run_id=history.run_id,
        drill=history.drill.name,
        region=history.target,
        verdict=_overall(history, claims),
        claims=claims,
        figures=figures(history),
        journal_head=history.head,
    )


def _overall(history: History, claims: tuple[Claim, ...]) -> Verdict:
    found = {claim.verdict for claim in claims}
    foundations = {claim.verdict for claim in claims if claim.name in FOUNDATIONS}
    if restore_failed(history):
        return Verdict.BROKE
    if history.stopped or foundations != {Verdict.HELD}:
        return Verdict.INCONCLUSIVE
    return next(v for v in (Verdict.BROKE, Verdict.INCONCLUSIVE, Verdict.HELD) if v in found)
