"""The estate's live alarms: a drill never touches what they look at, so one that fires is a second outage."""

from __future__ import annotations

from collections.abc import Collection

from kms_alarms import cloudwatch
from kms_chaos.guards.checking import CannotTellError, NotHeldError
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.results import Mode


class LiveAlarms:
    """The live alarms about some regions, read in CloudWatch of one. Make it in the main thread; then use any."""

    def __init__(self, settings: Settings, *, read_in: str, about: Collection[str]) -> None:
        """`read_in` is a region that gets metrics; `about` are the regions whose alarms count."""
        self._client = aws.client(settings, "cloudwatch", read_in)
        self._read_in, self._prefix = read_in, settings.cloudwatch.alarm_prefix
        names = (name for region in about for name in cloudwatch.names_about(settings, region, Mode.LIVE))
        self._names = frozenset(names)

    def quiet(self) -> str:
        """See that none of them fires. One that is not there cannot: `alarms_are_quiet` asks for those of the drill."""
        firing: list[str] = []
        try:
            pages = self._client.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=self._prefix, StateValue="ALARM"
            )
            for page in pages:
                alarms = (one for one in page.get("MetricAlarms", ()) if one["StateValue"] == "ALARM")
                firing += [one["AlarmName"] for one in alarms if one["AlarmName"] in self._names]
        except aws.AwsError as e:
            raise CannotTellError(f"live alarms cannot be read in {self._read_in}: {aws.error_code(e)}") from e
        if firing:
            raise NotHeldError(f"live alarm {min(firing)} is in ALARM")
        return f"none of {len(self._names)} live alarms fires"

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
