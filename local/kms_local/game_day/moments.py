"""What happened, read back from what was written: the processes' logs, the load's trace, the alarms' states. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

What = Literal["attempt", "breaker", "orders", "canary", "health", "alarm", "page"]

_APPLICATION = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) \w+ kms_core kms_core\.(\w+) (.*)$", re.MULTILINE)
_SNS = re.compile(r'^(\S+Z) \S+: (ALARM|OK): "([^"]+)" in (.+)$', re.MULTILINE)
_ALERTMANAGER = re.compile(r"^(\S+Z) (\w+): (FIRING|RESOLVED): (\w+): (.*)$", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=(\S*)")
_ORDER = re.compile(r"'region': '([^']+)', 'kind': '(\w+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened."""

    at_utc: datetime
    what: What
    who: str
    """`application`, `watchdog`, `CloudWatch`, `Prometheus`, `SNS` or a receiver of Alertmanager's."""
    name: str
    """A region, `region:key` of a canary, an alarm's or alert's name; of health and orders nothing."""
    state: str
    """What it was then: `failed`, `closed`, `degraded`, `ALARM`, `avoid us-east-1`, …"""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One of the application's answers."""

    at_utc: datetime
    """When it ended."""
    outcome: str
    milliseconds: float


def of_application(log: str) -> Iterator[Moment]:
    """Yield what the application's core told its log, which is kept in UTC: failed requests to KMS, breakers, orders.

    A request of its own readiness check is left out: only what a customer's request did is counted.
    """
    for second, thousandth, event, text in _APPLICATION.findall(log):
        at_utc = datetime.fromisoformat(f"{second}.{thousandth}+00:00")
        fields = dict(_FIELD.findall(text))
        if event == "Attempt" and fields.get("pinned") == "False":
            yield _seen(at_utc, "attempt", "application", fields["region"], "failed", fields["error_code"])
        elif event == "BreakerMoved":
            yield _seen(at_utc, "breaker", "application", fields["region"], fields["new"], fields["cause"])
        elif event == "OverridesChanged":
            yield _seen(at_utc, "orders", "application", "", _orders(_ORDER.findall(text)))


def of_watchdog(log: str) -> Iterator[Moment]:
    """Yield what the daemon logged: canaries that changed, breakers, the whole's health, orders."""
    for entry in _entries(log):
        at_utc, event = datetime.fromisoformat(entry["at_utc"]), entry["event"]
        if event in {"canary.failed", "canary.blind", "canary.recovered"} and entry["canary"] == "round_trip":
            state = event.removeprefix("canary.")
            yield _seen(
                at_utc, "canary", "watchdog", f"{entry['region']}:{entry['key']}", state, entry.get("error_code") or ""
            )
        elif event == "breaker.moved":
            yield _seen(at_utc, "breaker", "watchdog", entry["region"], entry["new"], entry["cause"])
        elif event == "health.changed":
            yield _seen(at_utc, "health", "watchdog", "", entry["new"], ", ".join(entry["reasons"]))
        elif event == "overrides.changed":
            yield _seen(at_utc, "orders", "watchdog", "", _orders(one.split()[1::-1] for one in entry["orders"]))


def of_pager(log: str) -> Iterator[Moment]:
    """Yield the pages that came, by SNS and by Alertmanager."""
    for at_utc, state, name, place in _SNS.findall(log):
        yield _seen(datetime.fromisoformat(at_utc), "page", "SNS", name, state, f"in {place}")
    for at_utc, receiver, state, name, summary in _ALERTMANAGER.findall(log):
        yield _seen(
            datetime.fromisoformat(at_utc), "page", receiver, name, "ALARM" if state == "FIRING" else "OK", summary
        )


def of_alarms(lines: str) -> Iterator[Moment]:
    """Yield the changes of alarms' states, as `watching` writes them."""
    for entry in _entries(lines):
        at_utc = datetime.fromisoformat(entry["at_utc"])
        yield _seen(at_utc, "alarm", entry["system"], entry["name"], entry["state"], entry["detail"])


def requests(trace: str) -> Iterator[Request]:
    """Yield the application's answers from the load's trace."""
    for entry in _entries(trace):
        yield Request(datetime.fromisoformat(entry["at_utc"]), str(entry["outcome"]), float(entry["ms"]))


def _entries(lines: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each whole line: the last one may be half written."""
    for line in lines.splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)


def _orders(found: Any) -> str:
    return ", ".join(f"{kind} {region}" for region, kind in found)


def _seen(at_utc: datetime, what: What, who: str, name: str, state: str, detail: str = "") -> Moment:
    return Moment(at_utc=at_utc.astimezone(UTC), what=what, who=who, name=name, state=state, detail=detail)
