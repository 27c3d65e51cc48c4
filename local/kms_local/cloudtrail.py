"""CloudTrail in one region, as far as somebody looks up who did what to a key: LookupEvents over KMS's own requests.

What KMS was asked by whoever signed for it, newest first, from the moment it was answered (AWS takes some minutes). The
newest ten thousand that only read are kept, and the newest ten thousand that changed something, in memory alone: AWS
keeps all for 90 days, and a watchdog's own looks must not push out who changed a key. Trails, insights and events of
other services are not served.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from itertools import count
from operator import itemgetter

from kms_local.clock import iso_utc
from kms_local.identities import Identity
from kms_local.wire.errors import ServiceError
from kms_local.wire.json_front import JsonProtocol
from kms_local.wire.params import JsonObject, Params

PROTOCOL = JsonProtocol(
    target_prefix="com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.",
    content_type="application/x-amz-json-1.1",
)
LOOKUP = "LookupEvents"
"""The one operation that is served."""
KMS_SOURCE = "kms.amazonaws.com"
_KEPT = 10_000
_PAGE = 50
_MAX_DIGITS = 6
_ATTRIBUTES = ("EventId", "EventName", "EventSource", "ReadOnly", "ResourceName", "Username")


@dataclass(slots=True, kw_only=True)
class Event:
    """One request, and who made it."""

    event_id: str
    name: str
    source: str
    region: str
    account_id: str
    caller: Identity
    at: float
    """POSIX seconds."""
    read_only: bool
    resource: str = ""
    """The ARN or id of what it was about."""
    error_code: str = ""
    """Empty: it was done."""

    def attribute(self, key: str) -> str:
        """Return what LookupAttributes compares."""
        return {
            "EventId": self.event_id,
            "EventName": self.name,
            "EventSource": self.source,
            "ReadOnly": str(self.read_only).lower(),
            "ResourceName": self.resource,
            "Username": self.username,
        }[key]

    @property
    def username(self) -> str:
        """The user's name, or the session's of a role, as CloudTrail has it."""
        return self.caller.arn.rpartition("/")[2]

    def shown(self) -> JsonObject:
        """Return it as LookupEvents answers."""
        record: JsonObject = {
            "eventVersion": "1.11",
            "userIdentity": {"arn": self.caller.arn, "principalId": self.caller.user_id, "accountId": self.account_id},
            "eventTime": iso_utc(self.at),
            "eventSource": self.source,
            "eventName": self.name,
            "awsRegion": self.region,
            "eventID": self.event_id,
            "readOnly": self.read_only,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": self.account_id,
            "eventCategory": "Management",
        }
        if self.error_code:
            record["errorCode"] = self.error_code
        return {
            "EventId": self.event_id,
            "EventName": self.name,
            "ReadOnly": str(self.read_only).lower(),
            "EventTime": self.at,
            "EventSource": self.source,
            "Username": self.username,
            "Resources": [{"ResourceType": "AWS::KMS::Key", "ResourceName": self.resource}] if self.resource else [],
            "CloudTrailEvent": json.dumps(record, separators=(",", ":")),
        }


@dataclass(slots=True)
class Trail:
    """What was asked in one region: what only read apart from what changed something, each oldest first."""

    _reads: deque[tuple[int, Event]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _writes: deque[tuple[int, Event]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def noting(self, event: Event) -> Iterator[Event]:
        """Keep `event` when the block has ended, with the code of the error that ended it."""
        try:
            yield event
        except ServiceError as error:
            event.error_code = error.code
            raise
        finally:
            (self._reads if event.read_only else self._writes).append((next(self._numbers), event))

    def newest_first(self) -> Iterator[Event]:
        """Return all that is kept."""
        both = merge(reversed(self._reads), reversed(self._writes), key=itemgetter(0), reverse=True)
        return (event for _, event in both)


def lookup_events(trail: Trail, params: Params) -> JsonObject:
    """Return a page of the events that have the attribute asked for, newest first.

    Raises:
        ServiceError: an attribute that there is none of, more than one, a page that is too large, or no page of ours.
    """
    key, value = _asked(params)
    since, until = params.number("StartTime"), params.number("EndTime")
    found = [
        event
        for event in trail.newest_first()
        if (not key or event.attribute(key) == value)
        and (since is None or event.at >= since)
        and (until is None or event.at <= until)
    ]
    size, start = _size(params), _start(params)
    answer: JsonObject = {"Events": [event.shown() for event in found[start : start + size]]}
    if start + size < len(found):
        answer["NextToken"] = str(start + size)
    return answer


def _asked(params: Params) -> tuple[str, str]:
    """Return the one attribute that events are asked by; two empty texts: by none."""
    attributes = params.objects("LookupAttributes")
    if not attributes:
        return "", ""
    if len(attributes) > 1:
        raise ServiceError("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
    key, value = attributes[0].text("AttributeKey"), attributes[0].text("AttributeValue")
    if key not in _ATTRIBUTES:
        raise ServiceError("InvalidLookupAttributesException", f"{key} is not served here: {', '.join(_ATTRIBUTES)}")
    return key, value


def _size(params: Params) -> int:
    size = params.number("MaxResults")
    if size is None:
        return _PAGE
    if not 1 <= size <= _PAGE:
        raise ServiceError("InvalidMaxResultsException", f"MaxResults must be 1 to {_PAGE}.")
    return int(size)


def _start(params: Params) -> int:
    token = params.optional_text("NextToken")
    if token is None:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) <= _MAX_DIGITS):
        raise ServiceError("InvalidNextTokenException", "The token is none that was given here.")
    return int(token)
