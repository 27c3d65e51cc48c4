"""Which canaries there are in an installation: one builder a kind, and what they share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from kms_core.clock import Clock
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.alarm_services import AlarmServices, AwsAlarmServices
from kms_watchdog.canaries.alarm_path import AlarmPath, Topics
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.clock_offset import ClockOffset
from kms_watchdog.canaries.cold_connection import ColdConnection
from kms_watchdog.canaries.cross_region import CrossRegion
from kms_watchdog.canaries.estate_roster import (
    EstatePorts,
    application_accesses,
    headrooms,
    key_states,
    replica_drifts,
)
from kms_watchdog.canaries.failover_path import FailoverPath
from kms_watchdog.canaries.golden import Golden
from kms_watchdog.canaries.must_fail_core import MustFailCore
from kms_watchdog.canaries.must_fail_kms import MustFailKms
from kms_watchdog.canaries.round_trip import RoundTrip
from kms_watchdog.config import Settings
from kms_watchdog.doors import Doors
from kms_watchdog.golden_store import GoldenStore, OwnedGoldenStore, VisitedGoldenStore
from kms_watchdog.key_rotations import KeyRotations
from kms_watchdog.results import Kind
from kms_watchdog.sharding import is_ours
from kms_watchdog.state_folder import StateFolder


class Ports:
    """What canaries ask besides the crypto core; each made when a canary first wants it, in the main thread."""

    def __init__(self, settings: Settings, clock: Clock, *, owns_state: bool = False) -> None:
        """`owns_state`: whether this process holds the lock of the state folder, and so may write there."""
        self.settings, self.clock = settings, clock
        self._owns_state = owns_state

    @cached_property
    def doors(self) -> Doors:
        """The ways to the regions' KMS."""
        return Doors(self.settings)

    def alarm_services(self, region: str) -> AlarmServices:
        """Return `region`'s CloudWatch and SNS."""
        return AwsAlarmServices(self.settings, region)

    @cached_property
    def golden(self) -> GoldenStore:
        """Golden messages.

        Raises:
            StateError: the file cannot be used.
        """
        folder = StateFolder(self.settings.state.dir)
        return OwnedGoldenStore(folder, self.clock) if self._owns_state else VisitedGoldenStore(folder, self.clock)

    @cached_property
    def rotations(self) -> KeyRotations:
        """When keys were rotated."""
        return KeyRotations(aws.client(self.settings, "kms", self.settings.estate.primary_region), self.clock)

    @cached_property
    def estate(self) -> EstatePorts:
        """Keys, roles and our own traffic."""
        return EstatePorts(self.settings, self.clock)

    def take_over(self, before: Ports) -> None:
        """Go on with the files that `before` has opened: one writer each, also while both are there."""
        if "golden" in before.__dict__:  # where a cached property keeps what it has made
            self.__dict__["golden"] = before.golden

    def close(self, *, but_for: Ports | None = None) -> None:
        """Close the files that were opened, but for those taken over from another."""
        kept = but_for.__dict__.get("golden") if but_for else None
        if "golden" in self.__dict__ and self.golden is not kept:
            self.golden.close()


Builder = Callable[[Ports], Iterable[Canary]]


def live_canaries(ports: Ports) -> tuple[Canary, ...]:
    """Return the canaries that the configuration asks for, kind by kind; call in the main thread."""
    return tuple(canary for kind in ports.settings.canaries.kinds for canary in BUILDERS[kind](ports))


def own_canaries(ports: Ports) -> tuple[Canary, ...]:
    """Return those of `live_canaries` that this place looks at: all, where one watchdog does everything."""
    shared = ports.settings.replicas
    return tuple(canary for canary in live_canaries(ports) if is_ours(canary.kind, canary_id(canary), shared))


def _round_trips(ports: Ports) -> Iterable[Canary]:
    deadline_seconds = ports.settings.canaries.timing(Kind.ROUND_TRIP).deadline_seconds
    for region in ports.settings.estate.regions:
        for purpose in ports.settings.keys:
            yield RoundTrip(region, purpose, deadline_seconds=deadline_seconds)


def _cross_regions(ports: Ports) -> Iterable[Canary]:
    deadline_seconds = ports.settings.canaries.timing(Kind.CROSS_REGION).deadline_seconds
    for sealed_in, opened_in in itertools.permutations(ports.settings.estate.regions, 2):
        for purpose in ports.settings.keys:
            yield CrossRegion(sealed_in, opened_in, purpose, deadline_seconds=deadline_seconds)


def _failover_paths(ports: Ports) -> Iterable[Canary]:
    deadline_seconds = ports.settings.canaries.timing(Kind.FAILOVER_PATH).deadline_seconds
    for purpose in ports.settings.keys:
        yield FailoverPath(ports.settings.home_region, purpose, deadline_seconds=deadline_seconds)


def _golden(ports: Ports) -> Iterable[Canary]:
    settings = ports.settings
    for region in settings.estate.regions:
        for purpose in settings.keys:
            yield Golden(
                region,
                purpose,
                ports.golden,
                ports.rotations,
                lists_rotations=region == settings.estate.primary_region,
                deadline_seconds=settings.canaries.timing(Kind.GOLDEN).deadline_seconds,
            )


def _must_fail_core(ports: Ports) -> Iterable[Canary]:
    deadline_seconds = ports.settings.canaries.timing(Kind.MUST_FAIL_CORE).deadline_seconds
    for purpose, other in _with_another(ports.settings.keys):
        yield MustFailCore(ports.settings.home_region, purpose, other, deadline_seconds=deadline_seconds)


def _must_fail_kms(ports: Ports) -> Iterable[Canary]:
    deadline_seconds = ports.settings.canaries.timing(Kind.MUST_FAIL_KMS).deadline_seconds
    for region in ports.settings.estate.regions:
        for purpose, other in _with_another(ports.settings.keys):
            yield MustFailKms(region, purpose, other, deadline_seconds=deadline_seconds)


def _with_another(purposes: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """Return each purpose with the one after it, the last with the first: each key is also the wrong one once."""
    names = tuple(purposes)
    return [(name, names[(at + 1) % len(names)] if len(names) > 1 else None) for at, name in enumerate(names)]


def _cold_connections(ports: Ports) -> Iterable[Canary]:
    look = ports.settings.canaries.cold_connection
    deadline_seconds = ports.settings.canaries.timing(Kind.COLD_CONNECTION).deadline_seconds
    for region in ports.settings.estate.regions:
        connector = ports.doors.to_kms(region)
        yield ColdConnection(region, connector, look.certificate_days, deadline_seconds=deadline_seconds)


def _clock_offsets(ports: Ports) -> Iterable[Canary]:
    look = ports.settings.canaries.clock_offset
    deadline_seconds = ports.settings.canaries.timing(Kind.CLOCK_OFFSET).deadline_seconds
    for region in ports.settings.estate.regions:
        checked, timeless = ports.doors.to_kms(region), ports.doors.to_kms(region, check_times=False)
        yield ClockOffset(region, checked, timeless, look.max_seconds, deadline_seconds=deadline_seconds)


def _alarm_paths(ports: Ports) -> Iterable[Canary]:
    """Return one for each region that gets metrics: without those there is nothing for an alarm to read."""
    settings = ports.settings
    if not settings.cloudwatch.enabled:
        return
    alarm_definitions.check(settings)
    folder = settings.canaries.alarm_path.definitions
    keys = settings.keys.values()
    for region in settings.publish_regions:
        arns = [alarm_definitions.topic_arn(settings, name, region) for name in alarm_definitions.topics(settings)]
        to_people = len(alarm_definitions.topics_to_people(settings))  # they come first
        yield AlarmPath(
            region=region,
            services=ports.alarm_services(region),
            prefix=settings.cloudwatch.alarm_prefix,
            topics=Topics(all=tuple(dict.fromkeys(arns)), to_people=tuple(dict.fromkeys(arns[:to_people]))),
            watched_keys=frozenset({key.alias for key in keys} | {key.key_id for key in keys if key.key_id}),
            definitions=alarm_definitions.path_of(folder, region) if folder else None,
            deadline_seconds=settings.canaries.timing(Kind.ALARM_PATH).deadline_seconds,
        )


BUILDERS: Mapping[Kind, Builder] = {
    Kind.ROUND_TRIP: _round_trips,
    Kind.KEY_STATE: lambda ports: key_states(ports.estate),
    Kind.REPLICA_DRIFT: lambda ports: replica_drifts(ports.estate),
    Kind.APPLICATION_ACCESS: lambda ports: application_accesses(ports.estate),
    Kind.HEADROOM: lambda ports: headrooms(ports.estate),
    Kind.CROSS_REGION: _cross_regions,
    Kind.FAILOVER_PATH: _failover_paths,
    Kind.GOLDEN: _golden,
    Kind.MUST_FAIL_CORE: _must_fail_core,
    Kind.MUST_FAIL_KMS: _must_fail_kms,
    Kind.COLD_CONNECTION: _cold_connections,
    Kind.CLOCK_OFFSET: _clock_offsets,
    Kind.ALARM_PATH: _alarm_paths,
}
