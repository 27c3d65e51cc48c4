"""What the alarm-path tests do, wave by wave, and what of the pages cannot be run on a local AWS, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from alarm_path import Situation
from alarm_path_drills import FAILED, HALTED, KILLED_DRILL, OVERDUE, STOPPED, STUCK, TASK_OVERDUE, UNPROVEN
from alarm_path_estate import (
    ACCEPTED,
    BLIND,
    CLOCK_OFF,
    CONNECTION,
    DARK,
    DELETION,
    DISABLED,
    EXPIRY,
    FLAPPING,
    LOST,
    METADATA,
    MISMATCH,
    POLICY,
    QUARANTINED,
    REPOINTED,
    ROLE,
    ROTATION,
    SLOW,
    THROTTLED,
    UNCLASSIFIED,
    WRONG_REFUSAL,
)
from alarm_path_watchdog import (
    ALARM_PATH,
    DEADMAN,
    DROPPED,
    EVACUATED,
    EXPORT,
    FAILING,
    FULL,
    HANGS,
    KILLED,
    OVERRIDES,
    PUBLISH,
    RELOAD,
    STALLED,
    STEPPED,
)

Wave = tuple[Situation, ...]

ESTATE: Mapping[str, Wave] = {
    "keys": (DISABLED, POLICY, MISMATCH, WRONG_REFUSAL, ALARM_PATH),
    "data": (DELETION, REPOINTED, CLOCK_OFF, ACCEPTED, OVERRIDES),
    "regions": (THROTTLED, CONNECTION, DEADMAN, PUBLISH, DROPPED),
    "lost": (LOST,),
    "blind": (BLIND, FLAPPING),
    "dark": (DARK,),
}
"""What befalls keys and regions, for the most part."""

WATCHDOG: Mapping[str, Wave] = {
    "slow": (SLOW, QUARANTINED, EXPIRY, METADATA, EXPORT, EVACUATED),
    "hangs": (HANGS, ROLE),
    "held": (HALTED, STALLED, UNCLASSIFIED, ROTATION),
    "killed": (KILLED,),
    "raises": (OVERDUE, FAILED, TASK_OVERDUE),
    "long": (STUCK, FAILING),
    "stopped": (STOPPED, FULL),
    "leaked": (KILLED_DRILL, STEPPED),
    "unproven": (UNPROVEN, RELOAD),
}
"""What befalls the watchdog and its drills, for the most part: on a stand of its own, beside the other."""

WAVES: Mapping[str, Wave] = {**ESTATE, **WATCHDOG}
"""Situations that are planted at once do not disturb each other: round trips fail in one region of a wave at most, and
no daemon reads its configuration anew while regions disagree on an alias, for it refuses then; nor does anybody
provision while a key is about to be deleted, or us-east-1 is lost."""

NOT_HERE: Mapping[str, str] = {
    "aws ec2": "the local AWS has no EC2",
    "aws service-quotas": "the local AWS has no Service Quotas",
    "aws ssm": "the local AWS has no SSM; the orders are in a file here",
    "timedatectl": "asks systemd of this machine, whose clock is right",
}
"""How the first commands begin that are not run, and why."""

NOT_SEEN: Mapping[str, str] = {
    "Watchdog": "test_alerts_end_to_end sees it arrive; its end is the death of Prometheus itself",
}
"""Alarms that no situation makes fire and clear, and why."""
