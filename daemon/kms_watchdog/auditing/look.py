"""Read an estate for a review: keys, roles, grants, trails, who changed keys, what is unused. Only reads.

Each question is asked by itself: what does not answer is told of as such, and the rest is told. CloudTrail's history
goes back 90 days (CloudTrail User Guide, "Viewing events with CloudTrail Event history").
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.cloudformation import TRIPWIRES
from kms_watchdog.estate.desired import ESTATE_TAG
from kms_watchdog.estate.kms_admin import EstateError, Grant, KeyInRegion, KmsAdmin, insist
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.estate.roles import IAM
from kms_watchdog.estate.trails import KMS_SOURCE, Trail, described, read_trail
from kms_watchdog.iam.account import read_account, wanted_estate
from kms_watchdog.iam.catalogue import Finding
from kms_watchdog.iam.documents import ToCheck
from kms_watchdog.iam.estate_rules import check
from kms_watchdog.readiness import estate_evidence

T = TypeVar("T")

HISTORY = timedelta(days=90)
CHANGES = (
    *TRIPWIRES,
    "CreateKey",
    "ReplicateKey",
    "EnableKey",
    "EnableKeyRotation",
    "CancelKeyDeletion",
    "RevokeGrant",
    "RetireGrant",
    "UpdateKeyDescription",
    "TagResource",
    "UntagResource",
)
"""The requests that change something about a key."""
MOST_EVENTS = 500
"""Of one name in one region: LookupEvents takes two requests a second, of 50 events each."""
_AT_ONCE = 8
_JOB_LOOKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One request that changed something about keys, done or refused."""

    at_utc: datetime
    region: str
    who: str
    what: str
    about: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a review has to go by."""

    estate: estate_evidence.Estate
    key_ids: Mapping[str, str]
    """By purpose, as `likely_ids` has them."""
    policies: ToCheck
    policy_findings: tuple[Finding, ...]
    grants: Mapping[tuple[str, str], tuple[Grant, ...]]
    """By purpose and region."""
    strays: tuple[KeyInRegion, ...]
    """Keys with the estate's tag that are none of its keys."""
    trails: tuple[Trail, ...]
    trails_told: bool
    """Whether all that there is of trails could be read."""
    changes: tuple[Changed, ...]
    unused: Mapping[str, tuple[str, ...]]
    """By role, the services that it may use and did not use for 90 days."""
    last_rotated: Mapping[str, datetime | None]
    """By purpose; None: never yet."""
    not_told: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, and why; without it a review is not whole."""
    not_offered: Mapping[str, str] = field(default_factory=dict)
    """What AWS may tell or not, and did not."""


class _Asker:
    """Asks, and notes who did not answer; what AWS refuses for load is asked again. Any thread may call."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self.pause = pause
        self.not_told: dict[str, str] = {}

    def ask(self, what: str, question: Callable[[], T], otherwise: T) -> T:
        """Return what a question tells, and if it tells nothing, `otherwise`."""
        try:
            return question()
        except EstateError as e:
            self.not_told[what] = str(e)
            return otherwise

    def call(self, region: str, operation: str, request: Callable[[], T]) -> T:
        """Return the answer to one request.

        Raises:
            EstateError: AWS did not answer, or refused.
        """
        return insist(request, region, operation, pause=self.pause)


def look(settings: Settings, clock: Clock) -> Seen:
    """Read all of it. Main thread."""
    admin = KmsAdmin(settings, clock)
    asker, of_trails, unoffered = (_Asker(admin.pause) for _ in range(3))
    estate = estate_evidence.look(settings, clock)
    key_ids = likely_ids(estate.keys)
    policies = read_account(settings, key_ids, clock)
    given = Rendering(settings=settings, key_ids=key_ids)
    regions = settings.estate.regions
    cloudtrail = {region: aws.client(settings, "cloudtrail", region) for region in regions}
    kms = aws.client(settings, "kms", settings.estate.primary_region)
    iam = aws.client(settings, "iam", settings.home_region)
    since = clock.now_utc() - HISTORY
    places = [(purpose, region) for purpose in key_ids for region in regions]
    names = [role.wanted.name for role in estate.roles if role.found is not None]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        grants = threads.map(lambda place: _grants(asker, admin, key_ids, *place), places)
        strays = threads.map(lambda region: _strays(asker, admin, settings, key_ids, region), regions)
        trails = threads.submit(_trails, of_trails, cloudtrail)
        changes = threads.map(lambda region: _changes(asker, cloudtrail[region], region, since), regions)
        unused = threads.map(lambda name: _unused(unoffered, iam, given.arn("iam", f"role/{name}"), since), names)
        rotated = threads.map(lambda one: _last_rotated(asker, kms, *one), key_ids.items())
        return Seen(
            estate=estate,
            key_ids=key_ids,
            policies=policies,
            policy_findings=check(policies, wanted_estate(given)),
            grants=dict(zip(places, grants, strict=True)),
            strays=tuple(key for found in strays for key in found),
            trails=trails.result(),
            trails_told=not of_trails.not_told,
            changes=tuple(
                sorted((one for found in changes for one in found), key=lambda one: one.at_utc, reverse=True)
            ),
            unused={name: found for name, found in zip(names, unused, strict=True) if found},
            last_rotated=dict(zip(key_ids, rotated, strict=True)),
            not_told={**_troubles(estate), **policies.not_read, **of_trails.not_told, **asker.not_told},
            not_offered=unoffered.not_told,
        )


def likely_ids(keys: Iterable[estate_evidence.Seen]) -> dict[str, str]:
    """Return by purpose its key's id: where aliases disagree, what carries our tags, else what most lead to. Pure."""
    targets: dict[str, Counter[str]] = {}
    tagged: set[str] = set()
    for seen in keys:
        if seen.found is None or seen.found.alias_target is None:
            continue
        targets.setdefault(seen.wanted.purpose, Counter())[seen.found.alias_target] += 1
        replica = seen.found.replica
        if replica is not None and seen.wanted.tags.items() <= replica.tags.items():
            tagged.add(seen.found.alias_target)
    return {
        purpose: max(counted, key=lambda key_id, counted=counted: (key_id in tagged, counted[key_id]))  # type: ignore[misc]
        for purpose, counted in targets.items()
    }


def _troubles(estate: estate_evidence.Estate) -> dict[str, str]:
    keys = {f"{one.wanted.purpose} in {one.region}": one.trouble for one in estate.keys if one.trouble}
    roles = {f"role {one.wanted.name}": one.trouble for one in estate.roles if one.trouble}
    boundaries = {f"policy {one.wanted.name}": one.trouble for one in estate.boundaries if one.trouble}
    return {**keys, **roles, **boundaries}


def _grants(asker: _Asker, admin: KmsAdmin, key_ids: Mapping[str, str], purpose: str, region: str) -> tuple[Grant, ...]:
    return asker.ask(f"grants on {purpose} in {region}", lambda: admin.grants(region, key_ids[purpose]), ())


def _strays(
    asker: _Asker, admin: KmsAdmin, settings: Settings, key_ids: Mapping[str, str], region: str
) -> tuple[KeyInRegion, ...]:
    tags = {ESTATE_TAG: settings.estate.name}
    nothing: tuple[KeyInRegion, ...] = ()
    found = asker.ask(f"other keys in {region}", lambda: admin.tagged(region, tags), nothing)
    return tuple(key for key in found if key.key_id not in key_ids.values())


def _trails(asker: _Asker, clients: Mapping[str, Any]) -> tuple[Trail, ...]:
    """Read the trails that record any of these regions."""
    listed: dict[str, Mapping[str, Any]] = {}
    nothing: tuple[Mapping[str, Any], ...] = ()
    for region, client in clients.items():
        found = asker.ask(f"trails in {region}", partial(described, client, region, asker.call), nothing)
        listed |= {one["TrailARN"]: one for one in found}

    def client_of(region: str) -> Any:
        return clients.get(region) or next(iter(clients.values()))

    trails = (
        asker.ask(f"trail {one['Name']}", partial(read_trail, client_of, one, asker.call), None)
        for one in listed.values()
    )
    return tuple(one for one in trails if one is not None)


def _changes(asker: _Asker, client: Any, region: str, since: datetime) -> tuple[Changed, ...]:
    """Look up each request that changes something by its name: one attribute is all that may be asked by."""
    found: list[Changed] = []
    for name in CHANGES:
        what = f"CloudTrail: {name} in {region}"
        found += asker.ask(what, partial(_events, asker, client, region, name, since), ())
    return tuple(found)


def _events(asker: _Asker, client: Any, region: str, name: str, since: datetime) -> tuple[Changed, ...]:
    attributes = [{"AttributeKey": "EventName", "AttributeValue": name}]
    found: list[Changed] = []
    more: dict[str, str] = {}
    while True:

        def ask(more: Mapping[str, str] = more) -> Mapping[str, Any]:
            answer = client.lookup_events(LookupAttributes=attributes, StartTime=since, MaxResults=50, **more)
            return {"Events": [_changed(region, one) for one in answer["Events"]], "next": answer.get("NextToken")}

        page = asker.call(region, "LookupEvents", ask)
        found += (one for one in page["Events"] if one is not None)
        if page["next"] is None:
            return tuple(found)
        if len(found) >= MOST_EVENTS:
            asker.not_told[f"older {name} in {region}"] = (
                f"there are more than {MOST_EVENTS}: look in the trail's files"
            )
            return tuple(found)
        more = {"NextToken": page["next"]}


def _changed(region: str, event: Mapping[str, Any]) -> Changed | None:
    """Return what an event tells; None for another service's that has the same name (TagResource).

    Raises:
        ValueError: it is not JSON.
    """
    if event.get("EventSource") != KMS_SOURCE:
        return None
    record = json.loads(event.get("CloudTrailEvent", "{}"))
    resources: Sequence[Mapping[str, str]] = event.get("Resources", ())
    return Changed(
        at_utc=event["EventTime"].astimezone(UTC),
        region=region,
        who=record.get("userIdentity", {}).get("arn") or event.get("Username", "unknown"),
        what=event["EventName"],
        about=", ".join(one.get("ResourceName", "").rpartition("/")[2] for one in resources),
        error=record.get("errorCode", ""),
    )


def _unused(asker: _Asker, iam: Any, arn: str, since: datetime) -> tuple[str, ...]:
    def read() -> tuple[str, ...]:
        begun = asker.call(
            IAM,
            "GenerateServiceLastAccessedDetails",
            lambda: iam.generate_service_last_accessed_details(Arn=arn)["JobId"],
        )
        for _ in range(_JOB_LOOKS):
            told = asker.call(
                IAM,
                "GetServiceLastAccessedDetails",
                lambda: _whole(iam.get_service_last_accessed_details(JobId=begun)),
            )
            if told["JobStatus"] != "IN_PROGRESS":
                return unused_services(told, since)
            asker.pause(0.5)
        raise EstateError(IAM, "GetServiceLastAccessedDetails", "IN_PROGRESS", unreachable=True)

    return asker.ask(f"what {arn.rpartition('/')[2]} uses", read, ())


def _whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if "JobStatus" not in answer:
        raise aws.TruncatedAnswerError
    return answer


def unused_services(told: Mapping[str, Any], since: datetime) -> tuple[str, ...]:
    """Return the services of a finished GetServiceLastAccessedDetails that were not used since then; pure.

    Raises:
        EstateError: it was not finished, or AWS tells of part of the services alone.
    """
    if told["JobStatus"] != "COMPLETED" or told.get("IsTruncated"):
        code = "IsTruncated" if told.get("IsTruncated") else str(told["JobStatus"])
        raise EstateError(IAM, "GetServiceLastAccessedDetails", code, unreachable=False)
    return tuple(
        one["ServiceNamespace"]
        for one in told.get("ServicesLastAccessed", ())
        if one.get("LastAuthenticated") is None or one["LastAuthenticated"] < since
    )


def _last_rotated(asker: _Asker, kms: Any, purpose: str, key_id: str) -> datetime | None:
    def read() -> datetime | None:
        listed = kms.list_key_rotations(KeyId=key_id)["Rotations"]
        return max((one["RotationDate"].astimezone(UTC) for one in listed if "RotationDate" in one), default=None)

    question = partial(asker.call, kms.meta.region_name, "ListKeyRotations", read)
    return asker.ask(f"rotations of {purpose}", question, None)
