"""CloudTrail's trails, as far as somebody looks whether there is one that leaves nothing out; nothing is delivered.

A trail of all regions shows in each of them, under its home region's ARN; all else is asked of the home region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_ALL_MANAGEMENT_EVENTS: JsonObject = {
    "ReadWriteType": "All",
    "IncludeManagementEvents": True,
    "DataResources": [],
    "ExcludeManagementEventSources": [],
}
"""What a trail selects unless told otherwise."""


@dataclass(slots=True, kw_only=True)
class KeptTrail:
    """One trail."""

    name: str
    home: str
    bucket: str
    of_all_regions: bool
    validated: bool
    logging: bool = False
    selectors: list[JsonObject] = field(default_factory=lambda: [dict(_ALL_MANAGEMENT_EVENTS)])


@dataclass(slots=True)
class Trails:
    """One account's trails, by home region and name."""

    account_id: str
    kept: dict[tuple[str, str], KeptTrail] = field(default_factory=dict)

    def to_document(self) -> list[dict[str, Any]]:
        """Return them as JSON."""
        return [asdict(one) for one in self.kept.values()]

    def restore(self, document: list[dict[str, Any]]) -> None:
        """Take up what `to_document` returned.

        Raises:
            TypeError: it is of another form.
        """
        self.kept = {(one.home, one.name): one for one in (KeptTrail(**each) for each in document)}

    def create(self, region: str, params: Params) -> JsonObject:
        """Make a trail; it does not log yet."""
        made = KeptTrail(
            name=params.text("Name"),
            home=region,
            bucket=params.text("S3BucketName"),
            of_all_regions=params.flag("IsMultiRegionTrail"),
            validated=params.flag("EnableLogFileValidation"),
        )
        if (region, made.name) in self.kept:
            message = f"Trail {made.name} already exists for customer: {self.account_id}"
            raise ServiceError("TrailAlreadyExistsException", message)
        self.kept[region, made.name] = made
        return self._shown(made)

    def describe(self, region: str, params: Params) -> JsonObject:
        """Return the trails that record this region; without the shadows of others' if asked so."""
        shadows = _unless_told(params, "includeShadowTrails")
        found = [one for one in self.kept.values() if one.home == region or (one.of_all_regions and shadows)]
        return {"trailList": [self._shown(one) for one in found]}

    def status(self, region: str, params: Params) -> JsonObject:
        """Return whether a trail logs."""
        return {"IsLogging": self._named(region, params.text("Name")).logging}

    def selectors(self, region: str, params: Params) -> JsonObject:
        """Return what a trail records."""
        found = self._named(region, params.text("TrailName"))
        return {"TrailARN": self._arn(found), "EventSelectors": found.selectors}

    def select(self, region: str, params: Params) -> JsonObject:
        """Have a trail record something else."""
        found = self._named(region, params.text("TrailName"))
        found.selectors = [
            {
                "ReadWriteType": one.optional_text("ReadWriteType") or "All",
                "IncludeManagementEvents": _unless_told(one, "IncludeManagementEvents"),
                "DataResources": [],
                "ExcludeManagementEventSources": one.texts("ExcludeManagementEventSources"),
            }
            for one in params.objects("EventSelectors")
        ]
        return {"TrailARN": self._arn(found), "EventSelectors": found.selectors}

    def start(self, region: str, params: Params) -> JsonObject:
        """Have a trail log."""
        self._named(region, params.text("Name")).logging = True
        return {}

    def stop(self, region: str, params: Params) -> JsonObject:
        """Have a trail log no more."""
        self._named(region, params.text("Name")).logging = False
        return {}

    def delete(self, region: str, params: Params) -> JsonObject:
        """Forget a trail."""
        found = self._named(region, params.text("Name"))
        del self.kept[found.home, found.name]
        return {}

    def resource(self, region: str, operation: str, params: Params) -> str:
        """Return the ARN that policies are asked about; `*` for what is of no single trail."""
        named = params.optional_text(_NAMES_IT.get(operation, "Name"))
        if operation in _OF_NO_TRAIL or not named:
            return "*"
        return named if named.startswith("arn:") else self._arn_of(region, named)

    def _named(self, region: str, name: str) -> KeptTrail:
        """Return a trail of this region; elsewhere it is a shadow, of which nothing is told but that it is there."""
        for one in self.kept.values():
            if one.home == region and name in {self._arn(one), one.name}:
                return one
        raise ServiceError("TrailNotFoundException", f"Unknown trail: {name} for the user: {self.account_id}")

    def _arn(self, trail: KeptTrail) -> str:
        return self._arn_of(trail.home, trail.name)

    def _arn_of(self, region: str, name: str) -> str:
        return f"arn:aws:cloudtrail:{region}:{self.account_id}:trail/{name}"

    def _shown(self, trail: KeptTrail) -> JsonObject:
        return {
            "Name": trail.name,
            "S3BucketName": trail.bucket,
            "IncludeGlobalServiceEvents": True,
            "IsMultiRegionTrail": trail.of_all_regions,
            "HomeRegion": trail.home,
            "TrailARN": self._arn(trail),
            "LogFileValidationEnabled": trail.validated,
            "HasCustomEventSelectors": trail.selectors != [_ALL_MANAGEMENT_EVENTS],
            "IsOrganizationTrail": False,
        }


def _unless_told(params: Params, name: str) -> bool:
    return params.flag(name) if params.given(name) else True


_OF_NO_TRAIL = frozenset({"DescribeTrails"})
_NAMES_IT = {"GetEventSelectors": "TrailName", "PutEventSelectors": "TrailName"}
READING = ("Describe", "Get")
"""How operations begin that change nothing."""

OPERATIONS: Mapping[str, Callable[[Trails, str, Params], JsonObject]] = {
    "CreateTrail": Trails.create,
    "DescribeTrails": Trails.describe,
    "GetTrailStatus": Trails.status,
    "GetEventSelectors": Trails.selectors,
    "PutEventSelectors": Trails.select,
    "StartLogging": Trails.start,
    "StopLogging": Trails.stop,
    "DeleteTrail": Trails.delete,
}
