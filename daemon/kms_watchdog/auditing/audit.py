"""From what was read to what is wrong, and what has changed since the last review. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from kms_watchdog.auditing import rules
from kms_watchdog.auditing.look import Changed, Seen
from kms_watchdog.estate.diff import Field, diff_region
from kms_watchdog.estate.trails import Trail
from kms_watchdog.iam.account import key_name
from kms_watchdog.iam.catalogue import Rule, Severity

SCHEMA = 1


class Kind(StrEnum):
    """Why somebody reviews."""

    NOW = "now"
    QUARTERLY = "quarterly"
    ANNUAL = "annual"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One thing that is wrong, and where."""

    rule: Rule
    where: str
    what: str = ""
    is_new: bool = False
    """Whether the last review did not have it."""

    @property
    def identity(self) -> str:
        """What makes it the same finding in another review: with what it says, else a second grant would be none."""
        return identity(self.rule.id, self.where, self.what)


def identity(rule: str, where: str, what: str) -> str:
    """Return what one finding is called in every review."""
    return f"{rule} {where}: {what}" if what else f"{rule} {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One review."""

    kind: Kind
    estate: str
    account_id: str
    by: str
    """The ARN of whoever asked AWS."""
    made_at_utc: datetime
    last_at_utc: datetime | None
    """When the review was that this one is compared with; None: it is the first."""
    findings: tuple[AuditFinding, ...]
    gone: tuple[str, ...]
    """What the last review found and this one did not, as `ID WHERE: WHAT`; empty if this one is not whole."""
    seen: Seen

    @property
    def bad(self) -> tuple[AuditFinding, ...]:
        """Findings that are more than information."""
        return tuple(one for one in self.findings if one.rule.severity is not Severity.INFORMATION)


def findings(seen: Seen) -> tuple[AuditFinding, ...]:
    """Return all that is wrong, the gravest first."""
    found = [
        *_of_keys(seen),
        *_of_grants(seen),
        *(AuditFinding(rule=one.rule, where=one.where, what=one.detail) for one in seen.policy_findings),
        *_of_trails(seen.trails, told=seen.trails_told),
        *(AuditFinding(rule=rules.UNUSED, where=f"role {name}", what=", ".join(s)) for name, s in seen.unused.items()),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda one: (order.index(one.rule.severity), one.rule.id, one.where)))


def _of_keys(seen: Seen) -> Iterator[AuditFinding]:
    told_by_policies = {one.subject for one in seen.policy_findings}
    for one in seen.estate.keys:
        if one.found is None:
            continue
        known = seen.key_ids.get(one.wanted.purpose)
        astray = one.found.alias_target not in {None, known}  # then what was looked at is another key
        for difference in diff_region(one.wanted, one.region, one.found, known):
            where = key_name(difference.purpose, difference.region)
            if difference.passes or (astray and difference.field is not Field.ALIAS):
                continue
            if difference.field is Field.POLICY and where in told_by_policies:
                continue  # the rules on policies say it better
            yield AuditFinding(rule=rules.DRIFT[difference.field], where=where, what=difference.what)
    for key in seen.strays:
        yield AuditFinding(rule=rules.SPARE_KEY, where=f"{key.key_id} in {key.region}", what=key.state)


def _of_grants(seen: Seen) -> Iterator[AuditFinding]:
    for (purpose, region), grants in seen.grants.items():
        for grant in grants:
            yield AuditFinding(
                rule=rules.GRANT,
                where=key_name(purpose, region),
                what=f"{grant.grantee} may {', '.join(grant.operations)}",
            )


def _of_trails(trails: Iterable[Trail], *, told: bool) -> Iterator[AuditFinding]:
    """Find what keeps trails from being of use; one that is well is enough, whatever others do."""
    of_all = [one for one in trails if one.of_all_regions]
    well = [one for one in of_all if one.logging and one.everything]
    if well:
        if not any(one.validated for one in well):
            yield AuditFinding(rule=rules.TRAIL_NOT_VALIDATED, where=_where(well[0]))
        return
    for one in of_all:
        if not one.logging:
            yield AuditFinding(rule=rules.TRAIL_SILENT, where=_where(one))
        if not one.everything:
            yield AuditFinding(rule=rules.TRAIL_WITHOUT_KMS, where=_where(one))
    if not of_all and told:
        yield AuditFinding(rule=rules.NO_TRAIL, where="the account")


def _where(trail: Trail) -> str:
    return f"trail {trail.name} of {trail.home_region}"


def compared(
    found: Iterable[AuditFinding], last: Mapping[str, Any] | None, *, whole: bool
) -> tuple[tuple[AuditFinding, ...], tuple[str, ...]]:
    """Return the findings, new ones marked, and what the last review's document has that is gone.

    Nothing is called gone by a review that is not `whole`: it may only not have been seen.
    """
    found = tuple(found)
    if last is None:
        return found, ()
    before = {identity(one["id"], one["where"], one["what"]) for one in last["findings"]}
    now = {one.identity for one in found}
    marked = tuple(replace(one, is_new=one.identity not in before) for one in found)
    return marked, tuple(sorted(before - now)) if whole else ()


def to_document(audit: Audit) -> dict[str, Any]:
    """Return the review as JSON has it."""
    seen = audit.seen
    return {
        "schema": SCHEMA,
        "kind": str(audit.kind),
        "estate": audit.estate,
        "account_id": audit.account_id,
        "by": audit.by,
        "made_at_utc": audit.made_at_utc.isoformat(),
        "compared_with_utc": audit.last_at_utc.isoformat() if audit.last_at_utc else None,
        "findings": [
            {
                "id": one.rule.id,
                "name": one.rule.name,
                "severity": str(one.rule.severity),
                "where": one.where,
                "what": one.what,
                "new": one.is_new,
                "means": one.rule.means,
                "remedy": one.rule.remedy,
            }
            for one in audit.findings
        ],
        "gone": list(audit.gone),
        "keys": [_key(one.wanted.purpose, one.region, one.found) for one in seen.estate.keys],
        "last_rotated_utc": {name: at.isoformat() if at else None for name, at in seen.last_rotated.items()},
        "roles": [role.name for role in seen.policies.roles],
        "trails": [
            {
                "name": one.name,
                "home_region": one.home_region,
                "of_all_regions": one.of_all_regions,
                "logging": one.logging,
                "everything": one.everything,
                "validated": one.validated,
            }
            for one in seen.trails
        ],
        "changes": [_change(one) for one in seen.changes],
        "unused": {name: list(services) for name, services in seen.unused.items()},
        "not_told": dict(seen.not_told),
        "not_offered": dict(seen.not_offered),
    }


def _key(purpose: str, region: str, found: Any) -> dict[str, Any]:
    key = found.replica.key if found is not None and found.replica is not None else None
    return {
        "purpose": purpose,
        "region": region,
        "key_id": key.key_id if key else None,
        "state": key.state if key else None,
        "multi_region_type": key.multi_region_type if key else None,
        "rotates": found.replica.rotates if key else None,
    }


def _change(one: Changed) -> dict[str, str]:
    return {
        "at_utc": one.at_utc.isoformat(),
        "region": one.region,
        "who": one.who,
        "what": one.what,
        "about": one.about,
        "error": one.error,
    }
