"""The setup guide's regular tasks: how often each is due, what shows that it was done, and how each stands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kms_watchdog.readiness.sign_offs import SignOff


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to be done again and again."""

    id: str
    words: str
    """The setup guide's own, where it has any."""
    how: str
    at_most: timedelta
    """From one time to the next: the guide's turn, and some days to do it in."""
    proven: bool = False
    """Whether files show that it was done, so that nobody's word is taken for it."""


DIGEST, DRILL, ALARM_PROOF = "weekly-digest", "monthly-drill", "monthly-alarm-proof"
IAM_REVIEW, AUDIT = "quarterly-iam-review", "annual-audit"

TASKS: tuple[Task, ...] = (
    Task(
        id=DIGEST,
        words="Weekly: Review KMS metrics and performance",
        how="kms-watchdog digest --deliver",
        at_most=timedelta(days=8),
    ),
    Task(
        id=DRILL,
        words="Monthly: Test failover scenarios",
        how="kms-chaos run, or a slot in [drills.slots]: a drill that HELD",
        at_most=timedelta(days=35),
        proven=True,
    ),
    Task(
        id=ALARM_PROOF,
        words="Monthly: prove that every alarm reaches somebody",
        how="kms-alarms prove, or [cloudwatch.proof.slot]",
        at_most=timedelta(days=35),
        proven=True,
    ),
    Task(
        id=IAM_REVIEW,
        words="Quarterly: Review and update IAM policies",
        how=f"compare with the last review, then kms-watchdog tasks ack {IAM_REVIEW}",
        at_most=timedelta(days=100),
    ),
    Task(
        id=AUDIT,
        words="Annually: Complete security audit",
        how=f"put the audit pack together, then kms-watchdog tasks ack {AUDIT}",
        at_most=timedelta(days=380),
    ),
)
BY_ID: Mapping[str, Task] = {task.id: task for task in TASKS}


class TaskState(StrEnum):
    """How a task stands."""

    DONE = "done"
    DUE = "due"  # never done, and there is time yet
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one task stands now."""

    task: Task
    state: TaskState
    last: SignOff | None
    due_utc: datetime | None
    """When it is to be done at the latest; None: it never was, and nobody knows since when it should be."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.task.id,
            "task": self.task.words,
            "how": self.task.how,
            "state": str(self.state),
            "last_done_utc": self.last.at_utc.isoformat() if self.last else None,
            "by": self.last.by if self.last else "",
            "note": self.last.note if self.last else "",
            "due_utc": self.due_utc.isoformat() if self.due_utc else None,
        }


def standings(
    done: Iterable[SignOff], since_utc: Mapping[str, datetime], now_utc: datetime, tasks: Iterable[Task] = TASKS
) -> tuple[Standing, ...]:
    """Return how each task stands.

    Args:
        done: whatever was done, by people or as files show, in any order.
        since_utc: by task, since when it has been looked after; one that was never done is due from then on.
        now_utc: the time.
        tasks: which.
    """
    last: dict[str, SignOff] = {}
    for one in sorted(done, key=lambda one: one.at_utc):
        last[one.subject] = one
    return tuple(_standing(task, last.get(task.id), since_utc.get(task.id), now_utc) for task in tasks)


def _standing(task: Task, last: SignOff | None, since_utc: datetime | None, now_utc: datetime) -> Standing:
    from_utc = last.at_utc if last else since_utc
    due_utc = from_utc + task.at_most if from_utc else None
    in_time = TaskState.DONE if last else TaskState.DUE
    state = TaskState.OVERDUE if due_utc is None or now_utc >= due_utc else in_time
    return Standing(task=task, state=state, last=last, due_utc=due_utc)
