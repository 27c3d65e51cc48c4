"""The canaries that read the estate, and what they share: one KMS client a region, one book of roles, one count."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from kms_core.clock import Clock
from kms_watchdog.canaries.application_access import ApplicationAccess, callers
from kms_watchdog.canaries.headroom import Headroom
from kms_watchdog.canaries.key_state import KeyState
from kms_watchdog.canaries.replica_drift import ReplicaDrift
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import KmsAdmin
from kms_watchdog.estate.observed import KeyReader
from kms_watchdog.estate.role_policies import watched_roles
from kms_watchdog.estate.roles import RoleBook, RoleReader
from kms_watchdog.results import Kind
from kms_watchdog.traffic import Traffic


class EstatePorts:
    """What these canaries ask; made in the main thread, the clients when a canary first wants them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.traffic = Traffic(clock, window_seconds=settings.canaries.headroom.window_seconds)
        """To be told of the core's events, as an `EventSink`."""

    @cached_property
    def reader(self) -> KeyReader:
        """Reads keys; one try a call: a canary tells of being throttled instead of waiting for it to pass."""
        return KmsAdmin(self.settings, self.clock, tries=1, on_call=self.traffic.on_call)

    @cached_property
    def roles(self) -> RoleBook:
        """What IAM says of the roles in the configuration, read once a round."""
        max_age_seconds = self.settings.canaries.timing(Kind.APPLICATION_ACCESS).interval_seconds
        reader = RoleReader(self.settings)
        return RoleBook(reader.read, watched_roles(self.settings), self.clock, max_age_seconds=max_age_seconds)


def key_states(ports: EstatePorts) -> Iterator[KeyState]:
    """Return one for each region and key."""
    settings = ports.settings
    for region in settings.estate.regions:
        for purpose, key in settings.keys.items():
            yield KeyState(
                region=region,
                purpose=purpose,
                alias=key.alias,
                reader=ports.reader,
                deadline_seconds=settings.canaries.timing(Kind.KEY_STATE).deadline_seconds,
            )


def replica_drifts(ports: EstatePorts) -> Iterator[ReplicaDrift]:
    """Return one for each region and key."""
    deadline_seconds = ports.settings.canaries.timing(Kind.REPLICA_DRIFT).deadline_seconds
    wanted = desired_keys(ports.settings)
    for region in ports.settings.estate.regions:
        for key in wanted:
            yield ReplicaDrift(region=region, wanted=key, reader=ports.reader, deadline_seconds=deadline_seconds)


def application_accesses(ports: EstatePorts) -> Iterator[ApplicationAccess]:
    """Return one for each region and key."""
    settings = ports.settings
    for region in settings.estate.regions:
        for purpose, key in settings.keys.items():
            yield ApplicationAccess(
                region=region,
                purpose=purpose,
                alias=key.alias,
                callers=callers(settings, purpose),
                reader=ports.reader,
                roles=ports.roles,
                deadline_seconds=settings.canaries.timing(Kind.APPLICATION_ACCESS).deadline_seconds,
            )


def headrooms(ports: EstatePorts) -> Iterator[Headroom]:
    """Return one for each region."""
    canaries = ports.settings.canaries
    for region in ports.settings.estate.regions:
        yield Headroom(
            region=region,
            limits=canaries.headroom,
            traffic=ports.traffic,
            round_seconds=canaries.interval_seconds,
            deadline_seconds=canaries.timing(Kind.HEADROOM).deadline_seconds,
        )
