"""From what was seen to what is wrong: pure, one rule for each subject.

A line of evidence that is an error and is no cause by itself leaves something untold: without any cause the answer is
then "could not tell", never "nothing wrong".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kms_core import taxonomy
from kms_watchdog.config import Settings
from kms_watchdog.doctor.addresses import region_in
from kms_watchdog.doctor.causes import CAUSES, RANK, RUNBOOKS, Cause, CauseId
from kms_watchdog.doctor.codes import TABLES, Code
from kms_watchdog.doctor.refusal import DENIED, PolicyKind, cause_of
from kms_watchdog.doctor.seen import LATE, MISSING, NO_CA_BUNDLE, NOT_ASKED, Seen, Subject
from kms_watchdog.doctor.subjects import Wanted
from kms_watchdog.estate.access import Wrong
from kms_watchdog.estate.observed import CREATING, ENABLED, GONE_STATES, UPDATING
from kms_watchdog.new_connection import DNS, TLS


class Outcome(StrEnum):
    """How it ends."""

    NOTHING_WRONG = "nothing wrong"
    CAUSE_FOUND = "cause found"
    COULD_NOT_TELL = "could not tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is expected, and what was asked about."""

    account_id: str
    home_region: str
    regions: tuple[str, ...]
    """Those that were looked at, in the order of the configuration."""
    every_region: bool
    """Whether these are all."""
    key_ids: Mapping[str, str]
    """By purpose, which key it should be."""
    certificate_days: float
    clock_max_seconds: float
    slow_seconds: float
    keys: tuple[Wanted, ...] = ()
    """Those that were looked at."""
    code: Code | None = None
    only: frozenset[CauseId] = frozenset(CauseId)
    """Causes that are asked about; others are left out."""


def given_by(
    settings: Settings,
    *,
    regions: tuple[str, ...],
    key_ids: Mapping[str, str],
    keys: tuple[Wanted, ...] = (),
    code: Code | None = None,
    only: frozenset[CauseId] = frozenset(CauseId),
) -> Given:
    """Return what `settings` expect."""
    return Given(
        account_id=settings.estate.account_id,
        home_region=settings.home_region,
        regions=regions,
        every_region=regions == settings.estate.regions,
        key_ids=key_ids,
        certificate_days=settings.canaries.cold_connection.certificate_days,
        clock_max_seconds=settings.canaries.clock_offset.max_seconds,
        slow_seconds=settings.core.slow_call_seconds,
        keys=keys,
        code=code,
        only=only,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause, in one place."""

    cause_id: CauseId
    because: str
    region: str = ""
    """Empty: it is not a region's."""
    purpose: str = ""
    evidence: tuple[int, ...] = ()
    """Places of its lines in the evidence, from 0."""
    page: str = ""
    """The runbook's file where it is not the cause's own."""

    @property
    def cause(self) -> Cause:
        """The row of the table."""
        return CAUSES[self.cause_id]

    @property
    def runbook(self) -> str:
        """The runbook's path in this repository."""
        return f"{RUNBOOKS}/{self.page}" if self.page else self.cause.runbook

    @property
    def where(self) -> str:
        """Key and region in words."""
        return " in ".join(part for part in (self.purpose, self.region) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong, the likeliest cause first."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    untold: tuple[int, ...]
    """Places in the evidence of what nobody could tell."""
    explains: bool | None
    """Whether the first finding may be why the code came; None: no code was given."""


def diagnose(lines: Sequence[Seen], given: Given) -> Diagnosis:
    """Return what `lines` mean."""
    found = _merged(each for each in (*_each(lines, given), *_together(lines, given)) if each.cause_id in given.only)
    wanted = given.code.causes if given.code else ()
    fits = [finding for finding in found if finding.cause_id in wanted]
    if given.code is not None and not fits:
        fits = list(_by_code_alone(given.code))
        found = [*found, *fits]
    ordered = sorted(found, key=lambda finding: _order(finding, wanted, given.regions))
    used = {place for finding in found for place in finding.evidence}
    untold = tuple(i for i, seen in enumerate(lines) if not seen.good and i not in used and not _is_idle(seen, lines))
    return Diagnosis(
        outcome=_outcome(ordered, wanted, untold),
        findings=tuple(ordered),
        untold=untold,
        explains=bool(fits) if given.code else None,
    )


def _outcome(findings: Sequence[Finding], wanted: Sequence[CauseId], untold: Sequence[int]) -> Outcome:
    def counts(finding: Finding) -> bool:
        cause = finding.cause
        if cause.undecided:
            return False
        return not cause.harmless or (cause.seen and finding.cause_id in wanted)

    if any(counts(finding) for finding in findings):
        return Outcome.CAUSE_FOUND
    undecided = any(finding.cause.undecided for finding in findings)
    return Outcome.COULD_NOT_TELL if untold or undecided else Outcome.NOTHING_WRONG


def _order(finding: Finding, wanted: Sequence[CauseId], regions: Sequence[str]) -> tuple[bool, bool, int, int, str]:
    fits = finding.cause_id in wanted
    place = regions.index(finding.region) if finding.region in regions else len(regions)
    return (
        finding.cause.harmless and not fits,
        bool(wanted) and not fits,
        RANK[finding.cause_id],
        place,
        finding.purpose,
    )


def _by_code_alone(code: Code) -> Iterator[Finding]:
    """Yield what no look can find and the code itself tells."""
    for cause_id in code.causes:
        if not CAUSES[cause_id].seen:
            page = code.page if CAUSES[cause_id].undecided else ""
            yield Finding(cause_id=cause_id, because=f"{code.name} itself says so", page=page)


def _is_idle(seen: Seen, lines: Sequence[Seen]) -> bool:
    """Say whether a line tells only that something was left out since another line had said enough."""
    if seen.code != NOT_ASKED:
        return False
    return any(other.region == seen.region and other.code not in {"", NOT_ASKED} for other in lines)


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Join what is the same cause in the same place; the first one's words stand."""
    found: dict[tuple[CauseId, str, str], Finding] = {}
    for each in findings:
        at = (each.cause_id, each.region, each.purpose)
        before = found.get(at)
        evidence = tuple(dict.fromkeys((*(before.evidence if before else ()), *each.evidence)))
        because = before.because if before else each.because
        if before and each.because not in because:
            because = f"{because}; {each.because}"
        found[at] = Finding(
            cause_id=each.cause_id, because=because, region=each.region, purpose=each.purpose, evidence=evidence
        )
    return list(found.values())


def _each(lines: Sequence[Seen], given: Given) -> Iterator[Finding]:
    states = _states(lines, given)
    for i, seen in enumerate(lines):
        causes: Iterable[CauseId] = _RULES[seen.subject](seen, given)
        if seen.subject is Subject.DRY_RUN and seen.code in _OF_STATE:
            causes = [states.get((seen.region, seen.purpose), _OF_STATE[seen.code])]
        for cause_id in causes:
            yield Finding(
                cause_id=cause_id, because=seen.answered, region=seen.region, purpose=seen.purpose, evidence=(i,)
            )


def _states(lines: Sequence[Seen], given: Given) -> Mapping[tuple[str, str], CauseId]:
    """Return by region and key what is wrong with the key's state: it says more than an error for it does."""
    found = {(seen.region, seen.purpose): _of_key(seen, given) for seen in lines if seen.subject is Subject.KEY}
    causes = {at: [cause for cause in causes if cause in _STATES.values()] for at, causes in found.items()}
    return {at: causes[0] for at, causes in causes.items() if causes}


Rule = Callable[[Seen, Given], Iterable[CauseId]]


def _of_name(seen: Seen, _given: Given) -> Iterator[CauseId]:
    if (region := region_in(seen.fact("host"))) is not None and region != seen.region:
        yield CauseId.ENDPOINT_OF_ANOTHER_REGION
    if seen.code == taxonomy.DNS_FAILURE:
        yield CauseId.NAME_UNKNOWN


def _of_connection(seen: Seen, given: Given) -> Iterator[CauseId]:
    if seen.good:
        if seen.number("certificate_days_left") < given.certificate_days:
            yield CauseId.CERTIFICATE_ENDS
    elif seen.code == NO_CA_BUNDLE:
        yield CauseId.CA_BUNDLE
    elif not seen.facts.get("ours"):
        yield _broken(seen)


def _broken(seen: Seen) -> CauseId:
    step, detail = seen.fact("step"), seen.fact("detail")
    if step == DNS:
        return CauseId.NAME_UNKNOWN
    if seen.code.startswith("Proxy"):
        return CauseId.PROXY_REFUSES
    if seen.facts.get("timed_out"):
        return CauseId.CONNECTION_TIMES_OUT
    if seen.code == taxonomy.TLS_ERROR:
        return _of_certificate(seen, detail)
    if step == TLS or seen.code in {taxonomy.CONNECTION_RESET, taxonomy.TRUNCATED}:
        return CauseId.CONNECTION_BREAKS
    return CauseId.CONNECTION_REFUSED if seen.code == taxonomy.CONNECTION_REFUSED else CauseId.CONNECTION_TIMES_OUT


def _of_certificate(seen: Seen, detail: str) -> CauseId:
    if seen.facts.get("outside_validity"):
        return CauseId.CERTIFICATE_EXPIRED
    if "mismatch" in detail.lower():
        return CauseId.CERTIFICATE_NAME
    # OpenSSL names what is wrong with a handshake in capitals, and what is wrong with a certificate in words.
    return CauseId.TLS_FAILS if not detail or detail.isupper() else CauseId.CA_BUNDLE


def _of_clock(seen: Seen, given: Given) -> Iterator[CauseId]:
    if seen.good and seen.number("at_least_seconds") > given.clock_max_seconds:
        yield CauseId.CLOCK_OFF


def _of_identity(seen: Seen, given: Given) -> Iterator[CauseId]:
    account_id = seen.fact("account_id")
    if seen.good and account_id and account_id != given.account_id:
        yield CauseId.WRONG_ACCOUNT
    yield from (cause for cause in _of_error(seen, given) if cause in _OF_CREDENTIALS)


def _of_alias(seen: Seen, given: Given) -> Iterator[CauseId]:
    yield from _of_error(seen, given)
    if not seen.good:
        return
    expected, account_id = given.key_ids.get(seen.purpose, ""), seen.fact("account_id")
    if not seen.fact("target"):
        yield CauseId.ALIAS_MISSING
    elif expected and seen.fact("target") != expected:
        yield CauseId.ALIAS_ELSEWHERE
    if account_id and account_id != given.account_id:
        yield CauseId.KEY_OF_ANOTHER_ACCOUNT


_STATES: Mapping[str, CauseId] = {
    MISSING: CauseId.REPLICA_MISSING,
    CREATING: CauseId.REPLICA_CREATING,
    "Disabled": CauseId.KEY_DISABLED,
    **dict.fromkeys(GONE_STATES, CauseId.KEY_PENDING_DELETION),
}


_OF_STATE: Mapping[str, CauseId] = {
    "DisabledException": CauseId.KEY_DISABLED,
    "KMSInvalidStateException": CauseId.KEY_STATE,
    "NotFoundException": CauseId.REPLICA_MISSING,
}
"""What an error for a key's state means where nobody could read the state."""


def _of_key(seen: Seen, given: Given) -> Iterator[CauseId]:
    yield from _of_error(seen, given)
    state, account_id = seen.fact("state"), seen.fact("account_id")
    if not seen.good:
        return
    if state not in {ENABLED, UPDATING}:
        yield _STATES.get(state, CauseId.KEY_STATE)
    if state != MISSING and not seen.fact("multi_region_type"):
        yield CauseId.KEY_NOT_MULTI_REGION
    if account_id and account_id != given.account_id:
        yield CauseId.KEY_OF_ANOTHER_ACCOUNT


def _of_dry_run(seen: Seen, given: Given) -> Iterator[CauseId]:
    if seen.code not in DENIED:
        yield from _of_error(seen, given)
        if seen.good and seen.seconds > given.slow_seconds:
            yield CauseId.SLOW
    elif seen.facts.get("expected") or seen.fact("refused_by") == PolicyKind.ENDPOINT:
        yield _refused(seen)
    else:
        yield CauseId.NOT_A_USER_OF_THE_KEY


def _of_access(seen: Seen, _given: Given) -> Iterator[CauseId]:
    match seen.fact("wrong"):
        case Wrong.EXCESS:
            yield CauseId.ACCESS_EXCESS
        case Wrong.MISSING if seen.fact("refused_by"):
            yield _refused(seen)
        case Wrong.MISSING:
            yield CauseId.ROLE_MISSING


def _of_error(seen: Seen, _given: Given) -> Iterator[CauseId]:
    """Yield the likeliest cause of an error by its code; who may not read a thing knows nothing of it."""
    if seen.good or seen.code == NOT_ASKED:
        return
    if seen.code in DENIED:
        if seen.fact("refused_by") == PolicyKind.ENDPOINT:
            yield CauseId.ENDPOINT_POLICY_REFUSES
        return
    yield from (cause for cause in TABLES.get(seen.code, ())[:1] if CAUSES[cause].seen)


def _of_region(seen: Seen, _given: Given) -> Iterator[CauseId]:
    if seen.code == LATE:
        yield CauseId.NO_ANSWER_IN_TIME


def _refused(seen: Seen) -> CauseId:
    return cause_of(PolicyKind(seen.fact("refused_by")) if seen.fact("refused_by") else None)


_OF_CREDENTIALS = frozenset(
    {
        CauseId.NO_CREDENTIALS,
        CauseId.CREDENTIALS_EXPIRED,
        CauseId.CREDENTIALS_REFUSED,
        CauseId.CREDENTIALS_NOT_GIVEN,
        CauseId.CLOCK_OFF,
        CauseId.ENDPOINT_POLICY_REFUSES,
        CauseId.THROTTLED,
    }
)
"""What a failure of STS says; that STS does not answer says nothing of KMS."""

_RULES: Mapping[Subject, Rule] = {
    Subject.NAME: _of_name,
    Subject.CONNECTION: _of_connection,
    Subject.CLOCK: _of_clock,
    Subject.IDENTITY: _of_identity,
    Subject.ALIAS: _of_alias,
    Subject.KEY: _of_key,
    Subject.DRY_RUN: _of_dry_run,
    Subject.ACCESS: _of_access,
    Subject.POLICY: _of_error,
    Subject.ROLES: lambda _seen, _given: (),
    Subject.REGION: _of_region,
}


def _together(lines: Sequence[Seen], given: Given) -> Iterator[Finding]:
    yield from _closed_path(lines, given)
    if given.every_region:
        yield from _key_nowhere(lines)
    for wanted in given.keys:
        if wanted.account_id not in {"", given.account_id}:
            because = f"its ARN is of account {wanted.account_id}, the configuration of {given.account_id}"
            yield Finding(cause_id=CauseId.KEY_OF_ANOTHER_ACCOUNT, because=because, purpose=wanted.purpose)
        if not wanted.configured:
            because = "no key of the configuration has this alias or id"
            yield Finding(cause_id=CauseId.KEY_NOT_CONFIGURED, because=because, purpose=wanted.purpose)


def _closed_path(lines: Sequence[Seen], given: Given) -> Iterator[Finding]:
    """Find that home is reached and no other region: this side is closed then, rather than all of them out."""
    ways = {seen.region: (i, seen) for i, seen in enumerate(lines) if seen.subject is Subject.CONNECTION}
    others = [(i, seen) for region, (i, seen) in ways.items() if region != given.home_region]
    home = ways.get(given.home_region)
    if home is None or not home[1].good or not others or any(seen.good for _, seen in others):
        return
    because = f"{given.home_region} is reached, and none of {', '.join(seen.region for _, seen in others)}"
    yield Finding(cause_id=CauseId.FAILOVER_PATH_CLOSED, because=because, evidence=tuple(i for i, _ in others))


def _key_nowhere(lines: Sequence[Seen]) -> Iterator[Finding]:
    """Find keys that no region has, by id or by alias."""
    about: dict[str, list[tuple[int, Seen]]] = {}
    for i, seen in enumerate(lines):
        if seen.subject in {Subject.KEY, Subject.ALIAS} and seen.good:
            about.setdefault(seen.purpose, []).append((i, seen))
    for purpose, found in about.items():
        if all(seen.fact("state") == MISSING or seen.facts.get("target") == "" for _, seen in found):
            evidence = tuple(i for i, _ in found)
            yield Finding(
                cause_id=CauseId.KEY_MISSING,
                because="no region that answered has it",
                purpose=purpose,
                evidence=evidence,
            )
