"""What is mutated, and by which tests it should be noticed."""

from __future__ import annotations

_JUDGE = ("test_judge_findings.py",)
_LEASE = ("test_lease.py", "test_lease_keeping.py")
_BREAKER = (
    "core/test_breaker.py",
    "core/test_breaker_borders.py",
    "core/test_breakers_forced.py",
    "core/test_breakers_of_regions.py",
)
_ROUTER = (
    "core/test_order.py",
    "core/test_region_order_and_budgets.py",
    "core/test_core_failover.py",
    "core/test_overrides.py",
)
_DECODER = (
    "core/test_release_vectors.py",
    "core/test_message_rules.py",
    "core/test_cursor.py",
    "core/test_core_messages.py",
    "core/test_core_streams.py",
)
_OPENING = (*_DECODER, "core/test_opening_rules.py", "core/test_message_interop.py")
_EVALUATOR = (
    "alarms/test_evaluate.py",
    "alarms/test_evaluate_borders.py",
    "alarms/test_evaluate_metric_math.py",
    "alarms/test_metric_math_borders.py",
)

PLAN: dict[str, tuple[str, ...]] = {
    "judge": _JUDGE,
    "judging.after": _JUDGE,
    "judging.alarm_states": _JUDGE,
    "judging.before_and_fault": _JUDGE,
    "judging.figures": _JUDGE,
    "judging.findings": _JUDGE,
    "judging.history": _JUDGE,
    "judging.in_the_dark": _JUDGE,
    "judging.reaction": _JUDGE,
    "judging.workload_and_breaker": _JUDGE,
    "timings": (*_JUDGE, "test_timings.py"),
    "scene": ("test_scene.py",),
    "timeline": ("test_timeline.py",),
    "actions": ("test_actions.py",),
    "faults.orders": ("test_fault_orders.py",),
    "halt": ("test_halt.py",),
    "guards.admission": ("test_guard_admission_pure.py", "test_lease.py"),
    "guards.before": (
        "test_guards.py",
        "test_guards_pure.py",
        "test_guard_watch.py",
        "test_guard_windows.py",
        "test_guard_twins.py",
    ),
    "guards.blast_radius": ("test_guard_blast_radius.py", "test_runs_of_other_machines.py"),
    "guards.checking": ("test_guards.py", "test_guards_pure.py"),
    "guards.estate": ("test_guard_estate.py", "test_guards_pure.py"),
    "guards.leave": ("test_guard_leave.py",),
    "guards.live_alarms": ("test_guard_watch.py",),
    "guards.place": ("test_guard_place.py", "test_guards_pure.py"),
    "guards.watch": ("test_guard_watch.py",),
    "lease": _LEASE,
    "lease_file": _LEASE,
    "lease_dynamo": ("test_lease_dynamo.py", "test_lease_dynamo_borders.py", *_LEASE),
    "conductor": ("test_conductor.py",),
    "commands.catalogue": ("test_catalogue_command.py",),
    # The core's breaker, its choice of a region, its decoder.
    "kms_core.breaker": _BREAKER,
    "kms_core._breakers": (*_BREAKER, *_ROUTER),
    "kms_core._forced": (*_BREAKER, *_ROUTER),
    "kms_core._order": _ROUTER,
    "kms_core._cursor": _DECODER,
    "kms_core.message": _DECODER,
    "kms_core._open": _OPENING,
    "kms_core.suites": _OPENING,
    # What says that something is wrong: the fold of health, the evaluator of alarms, the ledger of scheduled drills.
    "kms_watchdog.health": ("daemon/test_health_fold.py", "daemon/test_health_borders.py"),
    "kms_alarms.evaluate": _EVALUATOR,
    "kms_alarms.metric_math": _EVALUATOR,
    "kms_watchdog.drills.slots": ("daemon/test_drill_slots.py", "daemon/test_slot_borders.py"),
    "kms_watchdog.drills.copies": ("test_runs_of_other_machines.py",),
    "kms_watchdog.drills.slot_ledger": ("daemon/test_slot_borders.py", "daemon/test_drill_schedule.py"),
}
"""Modules, those without a package's name of `kms_chaos`, and files of tests, those without a folder of `tests/chaos`.

Only tests that need no process of their own are run."""
