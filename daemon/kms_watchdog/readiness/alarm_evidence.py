"""Whether the alarms are there as rendered, and were lately seen to reach a subscriber."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from kms_watchdog import alarm_definitions, alarm_proofs, aws
from kms_watchdog.alarm_definitions import Change, DefinitionsError
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.alarm_services import AwsAlarmServices
from kms_watchdog.config import Settings
from kms_watchdog.readiness import proof_evidence
from kms_watchdog.readiness.items import Evidence, State

_NAMED = 5


def look(settings: Settings, now_utc: datetime, *, ask: bool) -> Iterator[Evidence]:
    """Yield what is seen of the alarms; `ask`: whether AWS may be asked, or else why not is said elsewhere."""
    folder = settings.canaries.alarm_path.definitions
    if not settings.cloudwatch.enabled or folder is None:
        missing = "[cloudwatch] is off" if folder else "[canaries.alarm_path] definitions is not set"
        seen = f"nobody here knows which alarms there should be: {missing}"
        yield Evidence(what="alarms", seen=seen, at_utc=now_utc, state=State.UNKNOWN)
        return
    for region in settings.publish_regions if ask else ():
        yield _of_region(settings, region, now_utc)
    wanted = alarm_proofs.to_be_proven(settings)
    yield from proven(wanted, alarm_proofs.all_proofs(settings.state.dir), now_utc)


def _of_region(settings: Settings, region: str, now_utc: datetime) -> Evidence:
    what, prefix = f"alarms in {region}", settings.cloudwatch.alarm_prefix
    try:
        path = alarm_definitions.path_of(settings.canaries.alarm_path.definitions, region)  # type: ignore[arg-type] # looked at before
        wanted = alarm_definitions.read(path)
        present = AwsAlarmServices(settings, region).alarms(prefix)
    except DefinitionsError as e:
        return Evidence(what=what, seen=str(e), at_utc=now_utc, state=State.BAD)
    except aws.AwsError as e:
        seen = f"DescribeAlarms: {aws.error_code(e)}"
        return Evidence(what=what, seen=seen, at_utc=now_utc, state=State.UNKNOWN)
    if changes := alarm_definitions.changes(wanted, present):
        return Evidence(what=what, seen=_changed(changes), at_utc=now_utc, state=State.BAD)
    return Evidence(what=what, seen=f"{len(wanted)} are there as rendered", at_utc=now_utc)


def _changed(changes: Collection[Change]) -> str:
    return _named("differs", [one.name for one in changes if one.differs]) + _named(
        "is missing", [one.name for one in changes if not one.differs]
    )


def _named(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(names[:_NAMED])}{more}. "


def proven(
    wanted: Mapping[str, Collection[str]], proofs: Collection[AlarmProof], now_utc: datetime
) -> Iterable[Evidence]:
    """Return which alarms nobody has seen reach anybody, or when the one was for which it is longest ago. Pure.

    Of each alarm in each region the newest proof counts, whatever came of it.
    """
    if not wanted:
        return [Evidence(what="proofs", seen="no alarm is defined", at_utc=now_utc, state=State.UNKNOWN)]
    standing, failed = proof_evidence.standing(proofs, wanted), proof_evidence.failed(proofs, wanted)
    seen = _named("failed the last time", sorted(f"{one.name} in {one.region}" for one in failed))
    never = sorted(wanted.keys() - standing.keys() - {one.name for one in failed})
    seen += _named(f"of {len(wanted)} alarms never proven", never)
    if seen:
        return [Evidence(what="proofs", seen=seen, at_utc=now_utc, state=State.BAD)]
    oldest = min(wanted, key=lambda name: standing[name].fired_at)
    at_utc = datetime.fromtimestamp(standing[oldest].fired_at, UTC)
    return [Evidence(what="proofs", seen=f"all {len(wanted)} alarms, {oldest} longest ago", at_utc=at_utc)]
