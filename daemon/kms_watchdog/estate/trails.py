"""CloudTrail's trails: those there are, and the one that is made where no trail records all that is done with keys.

A trail writes files into a bucket, and whose that is and how long it keeps them is not for this program to decide: it
is named in the configuration, and its policy must let CloudTrail write (CloudTrail User Guide, "Amazon S3 bucket policy
for CloudTrail"). Without a name, the account's trail is looked after elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.estate.kms_admin import EstateError, insist

KMS_SOURCE = "kms.amazonaws.com"
TRAIL_NAME = "kms-watchdog-keys"
"""What the trail is called that is made here, or by the primary region's stack."""
_EXISTS = "TrailAlreadyExistsException"
_NOT_KNOWN_YET = frozenset({"TrailNotFoundException"})
"""What StartLogging may say of a trail that was made a moment ago."""

TrailStepKind = Literal["create_trail", "start_trail"]
_WORDS: Mapping[TrailStepKind, str] = {
    "create_trail": "create it, of all regions and every management event",
    "start_trail": "have it write",
}


Call = Callable[[str, str, Callable[[], Any]], Any]
"""Makes a request of a region, by its name; raises EstateError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One trail that records the region in which it was seen."""

    name: str
    home_region: str
    of_all_regions: bool
    validated: bool
    logging: bool
    everything: bool
    """Whether it records reads and writes, and leaves out no service's management events."""

    @property
    def would_do(self) -> bool:
        """Whether nothing that is done with a key is missing in it while it writes."""
        return self.of_all_regions and self.everything


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredTrail:
    """The trail to be made."""

    home_region: str
    bucket: str
    name: str = TRAIL_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailStep:
    """One change of our trail."""

    kind: TrailStepKind
    name: str

    def __str__(self) -> str:
        return f"trail {self.name}: {_WORDS[self.kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPlan:
    """What to do about the trail."""

    wanted: DesiredTrail
    steps: tuple[TrailStep, ...]
    differences: tuple[str, ...]
    """What is not as it should be and is left so."""


def desired_trail(settings: Settings) -> DesiredTrail | None:
    """Return the trail that `settings` asks for; None where none is to be made."""
    if not settings.estate.trail_bucket:
        return None
    return DesiredTrail(home_region=settings.estate.primary_region, bucket=settings.estate.trail_bucket)


def plan_trail(wanted: DesiredTrail, found: Sequence[Trail]) -> TrailPlan:
    """Return what is missing; nothing where anybody's trail does already. Pure."""
    steps: tuple[TrailStepKind, ...] = ()
    differences: tuple[str, ...] = ()
    if not any(one.would_do and one.logging for one in found):
        ours = next((one for one in found if (one.name, one.home_region) == (wanted.name, wanted.home_region)), None)
        if ours is None:
            steps = ("create_trail", "start_trail")
        elif ours.would_do:
            steps = ("start_trail",)
        else:
            differences = (f"trail {wanted.name}: it leaves regions or events out",)
    return TrailPlan(
        wanted=wanted,
        steps=tuple(TrailStep(kind=kind, name=wanted.name) for kind in steps),
        differences=differences,
    )


def described(client: Any, region: str, call: Call) -> tuple[Mapping[str, Any], ...]:
    """Return the trails that record a region, as DescribeTrails has them: their homes may be elsewhere.

    Raises:
        EstateError: CloudTrail did not answer, or refused.
    """
    return tuple(call(region, "DescribeTrails", lambda: client.describe_trails()["trailList"]))


def read_trail(client_of: Callable[[str], Any], given: Mapping[str, Any], call: Call) -> Trail:
    """Return one of those trails, asked of its home: elsewhere it is only a shadow.

    Args:
        client_of: returns the client of a region, which need not be one of the estate's.
        given: the trail, as `described` returned it.
        call: makes the requests.

    Raises:
        EstateError: CloudTrail did not answer, or refused.
    """
    arn, home = given["TrailARN"], given["HomeRegion"]
    client = client_of(home)
    logging = call(home, "GetTrailStatus", lambda: client.get_trail_status(Name=arn)["IsLogging"])
    selectors = call(home, "GetEventSelectors", lambda: client.get_event_selectors(TrailName=arn))
    return Trail(
        name=given["Name"],
        home_region=home,
        of_all_regions=bool(given.get("IsMultiRegionTrail")),
        validated=bool(given.get("LogFileValidationEnabled")),
        logging=bool(logging),
        everything=records_everything(selectors),
    )


def records_everything(selectors: Mapping[str, Any]) -> bool:
    """Say whether a trail's selectors, as GetEventSelectors answers, leave out no management event of KMS.

    Reads and writes may be taken by one selector or by one each.
    """
    taken: set[bool] = set()
    for selector in selectors.get("AdvancedEventSelectors") or ():
        taken |= _taken_by_advanced(selector["FieldSelectors"])
    for selector in selectors.get("EventSelectors") or ():
        if selector.get("IncludeManagementEvents", True) and KMS_SOURCE not in selector.get(
            "ExcludeManagementEventSources", ()
        ):
            taken |= {"All": {True, False}, "ReadOnly": {True}, "WriteOnly": {False}}[
                selector.get("ReadWriteType", "All")
            ]
    return taken == {True, False}


def _taken_by_advanced(fields: Sequence[Mapping[str, Any]]) -> set[bool]:
    """Return whether reads, writes, both or none of KMS's management events are taken; True stands for reads."""
    wants: set[bool] = {True, False}
    category = False
    for one in fields:
        match one["Field"]:
            case "eventCategory":
                category = one.get("Equals") == ["Management"]
            case "readOnly":
                wants &= {value == "true" for value in one.get("Equals", ("true", "false"))}
            case "eventSource":
                if KMS_SOURCE in one.get("NotEquals", ()) or KMS_SOURCE not in one.get("Equals", (KMS_SOURCE,)):
                    return set()
            case _:
                return set()  # it asks for something more: not all are taken
    return wants if category else set()


class TrailAdmin:
    """Reads trails and makes ours, in the primary region, which sees those of all regions. For the main thread."""

    def __init__(self, settings: Settings, pause: Callable[[float], None]) -> None:
        """Make the client.

        Args:
            settings: whose CloudTrail.
            pause: waits so many seconds between tries.
        """
        self._settings, self._region, self._pause = settings, settings.estate.primary_region, pause
        self._cloudtrail = aws.client(settings, "cloudtrail", self._region)

    def observe(self) -> tuple[Trail, ...]:
        """Return the trails that record the primary region.

        Raises:
            EstateError: CloudTrail did not answer, or refused.
        """
        found = described(self._cloudtrail, self._region, self._call)
        return tuple(read_trail(self._client_of, one, self._call) for one in found)

    def apply(self, plan: TrailPlan, tell: Callable[[TrailStep], None]) -> None:
        """Do what `plan` says; a trail that somebody has made meanwhile is left as it is.

        Raises:
            EstateError: CloudTrail did not answer, or refused.
        """
        do: Mapping[TrailStepKind, Callable[[DesiredTrail], None]] = {
            "create_trail": self._create,
            "start_trail": self._start,
        }
        for step in plan.steps:
            do[step.kind](plan.wanted)
            tell(step)

    def _client_of(self, region: str) -> Any:
        return self._cloudtrail if region == self._region else aws.client(self._settings, "cloudtrail", region)

    def _create(self, wanted: DesiredTrail) -> None:
        try:
            self._call(
                self._region,
                "CreateTrail",
                lambda: self._cloudtrail.create_trail(
                    Name=wanted.name,
                    S3BucketName=wanted.bucket,
                    IsMultiRegionTrail=True,
                    IncludeGlobalServiceEvents=True,
                    EnableLogFileValidation=True,
                ),
            )
        except EstateError as e:
            if e.code != _EXISTS:
                raise

    def _start(self, wanted: DesiredTrail) -> None:
        insist(
            lambda: self._cloudtrail.start_logging(Name=wanted.name),
            self._region,
            "StartLogging",
            pause=self._pause,
            also=_NOT_KNOWN_YET,
        )

    def _call(self, region: str, operation: str, request: Callable[[], Any]) -> Any:
        return insist(request, region, operation, pause=self._pause)
