"""What is mutated, and by which tests it should be noticed."""

from __future__ import annotations

_JUDGE = ("test_judge_findings.py",)
_LEASE = ("test_lease.py", "test_lease_keeping.py")

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
    "guards.blast_radius": ("test_guard_blast_radius.py",),
    "guards.checking": ("test_guards.py", "test_guards_pure.py"),
    "guards.estate": ("test_guard_estate.py", "test_guards_pure.py"),
    "guards.leave": ("test_guard_leave.py",),
    "guards.live_alarms": ("test_guard_watch.py",),
    "guards.place": ("test_guard_place.py", "test_guards_pure.py"),
    "guards.watch": ("test_guard_watch.py",),
    "lease": _LEASE,
    "lease_file": _LEASE,
    "conductor": ("test_conductor.py",),
    "commands.catalogue": ("test_catalogue_command.py",),
}
"""Modules of `kms_chaos`, and files of `tests/chaos`: only those that need no process of their own are run."""
