"""What CloudWatch's alarms should be: the rendered files, the topics they speak to, and what differs.

`kms-alarms` writes the files and puts them into CloudWatch; the watchdog reads them and looks whether they are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms_core.errors import ConfigurationError
from kms_watchdog.config import Settings
from kms_watchdog.json_text import read_json

Parameters = Mapping[str, Any]
"""An alarm, as PutMetricAlarm or PutCompositeAlarm takes it, or as DescribeAlarms tells it."""


class DefinitionsError(ValueError):
    """A file of definitions is missing or is none; the message is one line that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One alarm that is missing, or differs in the parameters named."""

    name: str
    differs: tuple[str, ...]
    """Empty: the alarm is not there at all."""
    wanted: Parameters
    present: Parameters = field(default_factory=dict)
    """As it is; empty where it is not there."""


def topic_arn(settings: Settings, topic: str, region: str) -> str:
    """Return the topic's ARN in `region`: an alarm's topic is in the alarm's own region."""
    return f"arn:{settings.core_config().partition}:sns:{region}:{settings.estate.account_id}:{topic}"


def topics_to_people(settings: Settings) -> tuple[str, ...]:
    """Return the names of the topics at which somebody must listen."""
    return (settings.cloudwatch.alerts_topic, settings.cloudwatch.critical_topic)


def topics(settings: Settings) -> tuple[str, ...]:
    """Return the names of all topics that alarms speak to; the drills' may be silent."""
    return (*topics_to_people(settings), settings.cloudwatch.drills_topic)


def changes(wanted: Iterable[Parameters], present: Iterable[Parameters]) -> tuple[Change, ...]:
    """Return which of `wanted` are not in `present` as they should be; alarms of others are left alone."""
    there = {alarm["AlarmName"]: alarm for alarm in present}
    found = []
    for alarm in wanted:
        old = there.get(alarm["AlarmName"])
        differs = tuple(name for name in alarm if old is not None and _plain(old.get(name)) != _plain(alarm[name]))
        if old is None or differs:
            found.append(Change(name=alarm["AlarmName"], differs=differs, wanted=alarm, present=old or {}))
    return tuple(found)


def path_of(folder: Path, region: str) -> Path:
    """Return the file of the alarms that live in `region`."""
    return folder / f"{region}.json"


def text_of(alarms: Iterable[Parameters]) -> str:
    """Return the file's content, the same for the same alarms."""
    return json.dumps(list(alarms), indent=2, sort_keys=True) + "\n"


def read(path: Path) -> tuple[Parameters, ...]:
    """Return the alarms that the file at `path` defines.

    Raises:
        DefinitionsError: it cannot be read, or is none that `text_of` wrote.
    """
    try:
        alarms = read_json(path.read_text(encoding="utf-8"))
    except OSError as e:
        mended = f"kms-alarms render --into {path.parent} writes it"
        raise DefinitionsError(f"{path}: cannot be read: {e.strerror}; {mended}") from e
    except ValueError as e:
        raise DefinitionsError(f"{path}: not JSON") from e
    if not isinstance(alarms, list) or not all(isinstance(one, dict) and "AlarmName" in one for one in alarms):
        raise DefinitionsError(f"{path}: not a list of alarms, such as kms-alarms render writes")
    return tuple(alarms)


def check(settings: Settings) -> None:
    """Look whether every region that gets metrics has its file of definitions, where definitions are compared at all.

    Not part of loading the configuration: `kms-alarms render`, which writes the files, loads it too.

    Raises:
        kms_core.errors.ConfigurationError: one has none that can be read.
    """
    folder = settings.canaries.alarm_path.definitions
    if folder is None:
        return
    for region in settings.publish_regions:
        try:
            read(path_of(folder, region))
        except DefinitionsError as e:
            message = f"canaries.alarm_path.definitions: {e}"
            raise ConfigurationError(message) from e


def _plain(value: Any) -> Any:
    """Return `value` as a thing to compare: CloudWatch does not keep the order of dimensions and metrics."""
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}  # `repr` below tells one order from another
    if isinstance(value, list | tuple):
        return sorted((_plain(item) for item in value), key=repr)
    return value
