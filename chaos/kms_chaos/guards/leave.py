"""By whose leave a drill runs: in production by somebody else's than who starts it, named in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePath
from typing import Any

from kms_chaos.drill import Drill
from kms_chaos.guards.checking import NotHeldError
from kms_watchdog.config import Settings
from kms_watchdog.drills import approval as approvals
from kms_watchdog.drills.approval import Approval, ApprovalError, hash_of, person
from kms_watchdog.identity import Identity

LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Who started a drill, and who agreed."""

    started_by: str
    """ARN."""
    approved_by: str = ""
    """ARN; empty: nobody's leave was needed."""
    reason: str = ""
    approval: str = ""
    """The file's name, or `standing`."""
    until_utc: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as the journal holds it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.approved_by:
            return f"started by {self.started_by}; not in production, so nobody need approve"
        return f"started by {self.started_by}, approved by {self.approved_by} ({self.approval}): {self.reason}"


def leave(
    settings: Settings,
    drill: Drill,
    hurt: Sequence[str],
    starter: Identity,
    *,
    reason: str,
    approval: str,
    slot: str,
    now_utc: datetime,
) -> Leave:
    """Return by whose leave `starter` may run `drill` on the regions `hurt`.

    Args:
        settings: of the estate.
        drill: as it is about to run.
        hurt: in the estate's order.
        starter: whose credentials the drill has.
        reason: why now, as given by who starts it.
        approval: an approval's file, `latest`, or empty: none was given.
        slot: of the schedule; empty: somebody asked for the drill.
        now_utc: the moment.

    Raises:
        NotHeldError: it may not run, or what was given as leave is none.
    """
    if approval:
        found = _of_file(settings, approval, drill.name)
        _check(found[1], settings, drill, hurt, starter, now_utc)
        granted = found[1]
        return _needs_reason(
            settings,
            Leave(
                started_by=starter.arn,
                approved_by=granted.approved_by,
                reason=reason or ("" if settings.drills_in_production else granted.reason),
                approval=found[0].name,
                until_utc=granted.until_utc.isoformat(),
            ),
        )
    if not settings.drills_in_production:
        return Leave(started_by=starter.arn, reason=reason)
    return _standing(settings, drill, hurt, starter, slot=slot, now_utc=now_utc)


def _needs_reason(settings: Settings, given: Leave) -> Leave:
    if settings.drills_in_production and not given.reason.strip():
        raise NotHeldError("a drill in production needs a reason: --reason")
    return given


def _of_file(settings: Settings, approval: str, drill: str) -> tuple[Path, Approval]:
    path = approvals.latest(settings.state.dir, drill) if approval == LATEST else Path(approval)
    if path is None:
        raise NotHeldError(f"there is no approval of {drill} in {approvals.folder(settings.state.dir)}")
    try:
        return path, approvals.read(path)
    except ApprovalError as e:
        raise NotHeldError(f"the approval cannot be used: {e}") from e


def _check(
    found: Approval, settings: Settings, drill: Drill, hurt: Sequence[str], starter: Identity, now_utc: datetime
) -> None:
    if found.estate != settings.estate.name:
        raise NotHeldError(f"the approval is for the estate {found.estate}, not {settings.estate.name}")
    if found.drill != drill.name:
        raise NotHeldError(f"the approval is for the drill {found.drill}, not {drill.name}")
    if found.drill_hash != hash_of(drill.model_dump(mode="json")):
        raise NotHeldError(f"{drill.name} is not as it was approved: it has been edited since")
    if found.regions != tuple(hurt):
        raise NotHeldError(f"the approval is for {', '.join(found.regions)}, not {', '.join(hurt)}")
    if now_utc >= found.until_utc:
        raise NotHeldError(f"the approval has expired at {found.until_utc:%Y-%m-%d %H:%M} UTC")
    if now_utc < found.approved_at_utc:
        raise NotHeldError(f"the approval is of {found.approved_at_utc:%Y-%m-%d %H:%M} UTC, which is yet to come")
    _is_another(found.approved_by, starter)


def _is_another(approver: str, starter: Identity) -> None:
    if person(approver) == person(starter.arn):
        raise NotHeldError(f"{approver} may not approve a drill that {starter.arn} starts: both are {person(approver)}")


def _standing(
    settings: Settings, drill: Drill, hurt: Sequence[str], starter: Identity, *, slot: str, now_utc: datetime
) -> Leave:
    planned = settings.drills.slots.get(slot.partition("/")[0])
    if planned is None or not planned.enabled or PurePath(planned.drill).name.removesuffix(".toml") != drill.name:
        raise NotHeldError("a drill in production needs somebody else's approval: `kms-chaos approve`, then --approval")
    of_drill = [one for one in settings.drills.standing_approvals if one.drill == drill.name]
    for_here = [one for one in of_drill if one.region is None or tuple(hurt) == (one.region,)]
    if not for_here:
        told = f"only for {of_drill[0].region}" if of_drill else "there is none"
        raise NotHeldError(f"the scheduled drill {drill.name} needs a standing approval in production: {told}")
    valid = [one for one in for_here if now_utc.astimezone(UTC).date() <= date.fromisoformat(one.until)]
    if not valid:
        raise NotHeldError(f"the standing approval of {drill.name} has expired: it was until {for_here[-1].until}")
    others = [one for one in valid if person(one.approved_by) != person(starter.arn)]
    if not others:
        _is_another(valid[0].approved_by, starter)
    chosen = others[0]
    return Leave(
        started_by=starter.arn,
        approved_by=chosen.approved_by,
        reason=chosen.reason,
        approval="standing",
        until_utc=chosen.until,
    )
