"""Where overrides are written: a file, or an SSM parameter in several regions. Reading is `kms_core.overrides`'."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from kms_core.overrides import (
    FileOverrides,
    OverrideSource,
    OverridesUnreadableError,
    RegionOverride,
    SsmOverrides,
    parse_overrides,
)
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.durable import sync_folder
from kms_watchdog.evacuation import document

T = TypeVar("T")

MAX_TURNS = 8
"""How often a parameter is written again because somebody else wrote in between."""
MAX_PARAMETER_BYTES = 4096
"""A standard parameter holds no more (SSM, PutParameter)."""

Change = Callable[[Sequence[RegionOverride]], Sequence[RegionOverride]]


class StoreError(RuntimeError):
    """Overrides could not be read or written; the message is one line.

    Args:
        message: what is wrong, and where.
        unreachable: nobody answered, as opposed to somebody who refused.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True)
class Written:
    """Where a change was written, and where it was not, with the reason."""

    places: tuple[str, ...]
    failed: tuple[str, ...] = ()


class OverrideStore(Protocol):
    """Where people's word is written."""

    def read(self) -> Sequence[RegionOverride]:
        """Return all that are written now.

        Raises:
            StoreError: they cannot be read.
        """

    def change(self, change: Change) -> Written:
        """Read, change and write what is there, keeping what others write at the same time.

        Raises:
            StoreError: it was written nowhere.
            Exception: whatever `change` raises; nothing is written then.
        """


@dataclass(frozen=True, slots=True)
class FileStore:
    """A JSON file. Writers take turns by a lock beside it; readers see the old file or the new one, never half."""

    path: Path

    def read(self) -> Sequence[RegionOverride]:
        """Return what the file says."""
        try:
            return FileOverrides(self.path).read()
        except OverridesUnreadableError as e:
            raise StoreError(f"overrides.file: {e}; mend it by hand, it is not overwritten") from e

    def change(self, change: Change) -> Written:
        """Replace the file while holding the lock."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError as e:
            raise StoreError(f"overrides.file: {lock}: {e.strerror}") from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            text = document(change(self.read()))
            self._replace(text)
        except OSError as e:
            raise StoreError(f"overrides.file: {self.path}: {e.strerror}") from e
        finally:
            os.close(handle)
        return Written((str(self.path),))

    def _replace(self, text: str) -> None:
        draft = self.path.with_name(self.path.name + ".tmp")
        mode = 0o644  # the application reads it as another user
        with suppress(FileNotFoundError):
            mode = self.path.stat().st_mode & 0o777
        with draft.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        sync_folder(self.path.parent)  # else a power cut may bring the old orders back


class Parameters(Protocol):
    """One region's parameters (`aws.Parameters`)."""

    def get(self, name: str) -> tuple[str, int] | None:
        """Return value and version; None: there is none. `NAME:3` asks for version 3.

        Raises:
            aws.ParameterError: it cannot be read.
        """

    def put(self, name: str, value: str) -> int:
        """Write the value; return its version.

        Raises:
            aws.ParameterError: it cannot be written.
        """


class SsmStore:
    """The parameter of one name in several regions; all are written, one is enough.

    SSM has no conditional write. So whoever finds that another version came between the one read and the one written
    takes up what he wrote over, and writes again.
    """

    def __init__(self, name: str, regions: Mapping[str, Parameters]) -> None:
        self._name, self._regions = name, regions

    def read(self) -> Sequence[RegionOverride]:
        """Return what all regions that answer say, each order once."""
        said = self._in_each(self._read_one)
        found = [orders for orders in said.values() if not isinstance(orders, StoreError)]
        if not found:
            raise _all_failed(said)
        return tuple(dict.fromkeys(order for orders in found for order in orders))

    def change(self, change: Change) -> Written:
        """Write to every region that can be reached."""
        done = self._in_each(partial(self._change_one, change))
        failed = tuple(f"{region}: {error}" for region, error in done.items() if isinstance(error, StoreError))
        if len(failed) == len(done):
            raise _all_failed(done)
        places = tuple(region for region, error in done.items() if not isinstance(error, StoreError))
        return Written(places, failed)

    def _in_each(self, work: Callable[[Parameters], T]) -> dict[str, T | StoreError]:
        """Return what `work` returned in each region; at once, since a dead one takes seconds."""

        def attempt(parameters: Parameters) -> T | StoreError:
            try:
                return work(parameters)
            except aws.ParameterError as e:
                return StoreError(e.code, unreachable=e.trouble == "unreachable")
            except OverridesUnreadableError as e:
                return StoreError(f"{e}; mend it by hand, it is not overwritten")

        with ThreadPoolExecutor(len(self._regions)) as threads:
            return dict(zip(self._regions, threads.map(attempt, self._regions.values()), strict=True))

    def _read_one(self, parameters: Parameters) -> Sequence[RegionOverride]:
        return _parsed(parameters.get(self._name))

    def _change_one(self, change: Change, parameters: Parameters) -> None:
        found = parameters.get(self._name)
        for _ in range(MAX_TURNS):
            text = document(change(_parsed(found)))
            if len(text.encode()) > MAX_PARAMETER_BYTES:
                raise aws.ParameterError("more orders than one parameter holds; return a region first", "refused")
            expected = (found[1] if found else 0) + 1
            version = parameters.put(self._name, text)
            if version == expected:
                return
            found = parameters.get(f"{self._name}:{version - 1}")
            found = (found[0], version) if found else None
        raise aws.ParameterError("others keep writing it", "throttled")


def override_source(settings: Settings) -> OverrideSource | None:
    """Return what the daemon's core reads; None: nobody has said where."""
    place = settings.overrides
    if place.file is not None:
        return FileOverrides(place.file)
    if place.ssm_parameter is None:
        return None
    endpoints = {region: e.ssm for region, e in settings.endpoints.items() if e.ssm}
    ca_bundle = settings.estate.ca_bundle
    return SsmOverrides(
        place.ssm_parameter,
        place.regions or settings.estate.regions,
        endpoints=endpoints,
        ca_bundle=str(ca_bundle) if ca_bundle else None,
    )


def override_store(settings: Settings) -> OverrideStore | None:
    """Return where `evacuate` writes; None: nobody has said where. Call in the main thread."""
    place = settings.overrides
    if place.file is not None:
        return FileStore(place.file)
    if place.ssm_parameter is None:
        return None
    regions = place.regions or settings.estate.regions
    return SsmStore(place.ssm_parameter, {region: aws.Parameters(settings, region) for region in regions})


def _parsed(found: tuple[str, int] | None) -> tuple[RegionOverride, ...]:
    return parse_overrides(found[0], "json") if found else ()


def _all_failed(done: Mapping[str, object]) -> StoreError:
    errors = {region: error for region, error in done.items() if isinstance(error, StoreError)}
    said = "; ".join(f"{region}: {error}" for region, error in errors.items())
    return StoreError(f"overrides.ssm_parameter: {said}", unreachable=all(e.unreachable for e in errors.values()))
