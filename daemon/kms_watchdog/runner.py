"""Run one canary and hand its result on: the one place where any exception becomes a result.

Nothing here knows the daemon: the drill engine runs the same canaries through its own routed core.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.finding import Finding, result_of
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.sinks.sink import Sink, write_to_all

log = structlog.get_logger("runner")


def run(
    canary: Canary,
    core: Core,
    clock: Clock,
    *,
    mode: Mode = Mode.LIVE,
    run_id: str = "",
    sinks: Iterable[Sink] = (),
) -> CanaryResult:
    """Ask `canary` once, and give its result, which never is an exception, to every sink.

    The core bounds each call; the canary judges the whole look against its own deadline.
    """
    result = _ask(canary, core, clock)
    if mode is not Mode.LIVE or run_id:  # canaries give live results
        result = replace(result, mode=mode, run_id=run_id)
    write_to_all(sinks, result)
    return result


def could_not_ask(canary: Canary, clock: Clock, reason: Reason) -> CanaryResult:
    """Return the BLIND live result of a canary that never got to ask, e.g. because its turn came too late."""
    return _blind(canary, Steps(clock), reason, "")


def _ask(canary: Canary, core: Core, clock: Clock) -> CanaryResult:
    steps = Steps(clock)
    try:
        return canary.run(core, clock)
    except Exception as e:
        # Whatever is wrong with one canary, it is blind and the watchdog goes on.
        log.exception("canary.crashed", canary=canary_id(canary))
        return _blind(canary, steps, Reason.CRASHED, type(e).__name__)


def _blind(canary: Canary, steps: Steps, reason: Reason, error_code: str) -> CanaryResult:
    return result_of(canary, steps, Finding(Outcome.BLIND, reason, error_code))
