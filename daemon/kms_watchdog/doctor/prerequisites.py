"""Is everything here that the watchdog needs: each check for itself, so that one that is bad hides no other."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kms_core.clock import Clock
from kms_watchdog import identity
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import ConfigError, Settings
from kms_watchdog.doctor.causes import CAUSES, CauseId
from kms_watchdog.doctor.checks import Check, bad, good, note, unknown
from kms_watchdog.doctor.environment import misleading
from kms_watchdog.doctor.examination import CONNECTION_SECONDS, alongside, door_to, role_in
from kms_watchdog.doctor.network import NetworkLook
from kms_watchdog.doctor.questions import Questions
from kms_watchdog.doctor.seen import Notebook, Seen, Subject
from kms_watchdog.doors import Doors
from kms_watchdog.identity import IdentityError
from kms_watchdog.name_lookup import Resolver
from kms_watchdog.new_connection import Budget, ConnectionFault
from kms_watchdog.state_folder import StateError, StateFolder

DISTRIBUTION = "kms-watchdog"
LEAST_ROOM_BYTES = 256 * 1024 * 1024
"""What history, journals and two weeks of metrics that CloudWatch would not take need, several times over."""
CLI_SECONDS = 10.0
_EXTRA = re.compile(r"""(?P<name>[A-Za-z0-9._-]+).*;.*extra == ['"](?P<extra>[\w-]+)['"]""")
_LEAST = re.compile(r">=(\d+)\.(\d+)")


def without_configuration() -> Iterator[Check]:
    """Yield what can be checked before there is a configuration."""
    yield python_version(sys.version_info[:2])
    yield aws_cli()


def with_configuration(settings: Settings, clock: Clock, deadline_seconds: float) -> Iterator[Check]:
    """Yield what can be checked only with one: extras, state folder, environment, credentials, ways, clock."""
    yield from extras(settings)
    yield from state_folder(settings.state.dir)
    yield from misleading(os.environ, settings, lambda path: Path(path).is_file())
    try:
        yield from _Reach(settings, clock, deadline_seconds).checks()
    except ConfigError as e:
        yield bad("credentials", str(e), "AWS_PROFILE, and the files with profiles.")


def python_version(running: tuple[int, ...]) -> Check:
    """Check `running`, the version of the interpreter."""
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        return unknown("python", f"{platform.python_version()}; {DISTRIBUTION} is not installed as a package")
    least = tuple(int(part) for part in _LEAST.findall(wanted)[0])
    if running < least:
        return bad("python", f"{platform.python_version()}, and {wanted} is needed", "Install a newer Python.")
    return good("python", platform.python_version())


def extras(settings: Settings, is_installed: Callable[[str], bool] | None = None) -> Iterator[Check]:
    """Yield which extras are installed; one that the configuration needs and is not is bad."""
    needs = {
        "daemon": "every command here",
        "drills": "drills.slots" if settings.drills.slots else "",
        "otel": "[otel] enabled" if settings.otel.enabled else "",
    }
    for extra, why in needs.items():
        missing = _missing(extra, is_installed or _is_installed)
        if not missing:
            yield good(f"extra {extra}", "installed")
        elif why:
            first = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield bad(f"extra {extra}", f"{', '.join(missing)} missing; needed by {why}", first)
        else:
            yield note(f"extra {extra}", f"{', '.join(missing)} missing; nothing here needs it")


def _missing(extra: str, is_installed: Callable[[str], bool]) -> list[str]:
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [match for line in wanted if (match := _EXTRA.match(line)) and match["extra"] == extra]
    return [match["name"] for match in found if not is_installed(match["name"])]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def state_folder(path: Path, least_room_bytes: int = LEAST_ROOM_BYTES) -> Iterator[Check]:
    """Yield whether the state folder, or where it will be made, is a local disk with room; makes nothing."""
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
    try:
        StateFolder(there).prepare()  # it is there: nothing is made
    except StateError as e:
        yield bad("state folder", str(e), "A local disk that this user may write, or another `[state] dir`.")
        return
    free_bytes = shutil.disk_usage(there).free
    room = f"{free_bytes / 2**20:.0f} MiB free"
    if free_bytes < least_room_bytes:
        first = f"Make room: {least_room_bytes / 2**20:.0f} MiB at least."
        yield bad("state folder", f"{path}: {room}", first)
    elif there != path:
        yield note("state folder", f"{path} is not there yet and can be made in {there}; {room}")
    else:
        yield good("state folder", f"{path}: local, can be written, {room}")


def aws_cli() -> Check:
    """Say whether the AWS CLI is here; nothing in the product needs it, some pages' commands do."""
    path = shutil.which("aws")
    if path is None:
        return note("aws cli", "not found; runbooks use it, the watchdog does not")
    try:
        told = subprocess.run(  # noqa: S603  what PATH calls so
            [path, "--version"], capture_output=True, text=True, check=False, timeout=CLI_SECONDS
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as e:
        return note("aws cli", f"{path} does not run: {type(e).__name__}")
    if not told.startswith("aws-cli/2."):
        return note("aws cli", f"{told or path}: the runbooks' commands are those of version 2")
    return good("aws cli", told.partition(" ")[0])


class _Reach:
    """Connections to everything that is needed, all at once; clients are made in the main thread."""

    def __init__(self, settings: Settings, clock: Clock, deadline_seconds: float) -> None:
        self._settings, self._clock, self._deadline_seconds = settings, clock, deadline_seconds
        self._resolver, self._notebook = Resolver(), Notebook()
        self._found: dict[str, Check] = {}

    def checks(self) -> Iterator[Check]:
        """Yield one for the credentials, one for each service in each region, one for the clock."""
        settings = self._settings
        tasks: dict[str, Callable[[], None]] = {
            f"kms {region}": self._kms(region) for region in settings.estate.regions
        }
        tasks |= {f"{service} {region}": self._other(service, region) for service, region in self._others()}
        tasks["credentials"] = self._credentials  # it makes a client: the others' are made by now
        late = alongside(tasks, self._deadline_seconds, self._clock)
        said = f"no answer within {self._deadline_seconds:g} s"
        for name in sorted(tasks, key=lambda name: name != "credentials"):
            found = None if name in late else self._found.get(name)
            yield found or bad(name, said, CAUSES[CauseId.CONNECTION_TIMES_OUT].first)
        yield self._time()

    def _others(self) -> Iterator[tuple[str, str]]:
        settings = self._settings
        if settings.core_config().verify_account:
            yield from (("sts", region) for region in settings.estate.regions)
        if settings.cloudwatch.enabled:
            yield from ((service, region) for service in ("cloudwatch", "sns") for region in settings.publish_regions)
        yield "iam", settings.home_region

    def _kms(self, region: str) -> Callable[[], None]:
        questions = Questions(region=region, notebook=self._notebook, clock=self._clock)
        look = NetworkLook(
            door=door_to(self._settings, region, self._resolver),
            questions=questions,
            resolver=self._resolver,
            timeout_seconds=CONNECTION_SECONDS,
        )

        def connect() -> None:
            look.look()
            seen = next(seen for seen in self._lines(Subject.CONNECTION) if seen.region == region)
            self._note(f"kms {region}", seen.answered, seen.good)

        return connect

    def _other(self, service: str, region: str) -> Callable[[], None]:
        name = f"{service} {region}"
        try:
            connector = Doors(self._settings, self._resolver).to(service, region)
        except OSError as e:  # the certificates to trust; as are the errors of SSL
            return partial(self._note, name, f"no certificates to trust: {e.strerror or e}", False)  # noqa: FBT003

        def connect() -> None:
            try:
                with connector.open(Budget(Steps(self._clock), CONNECTION_SECONDS)) as opened:
                    self._note(name, f"{connector.server} at {opened.address}", True)  # noqa: FBT003
            except ConnectionFault as e:
                self._note(name, f"{connector.server}: {e}", False)  # noqa: FBT003

        return connect

    def _note(self, name: str, said: str, is_good: bool) -> None:  # noqa: FBT001  what every step ends with
        first = "Which step fails, and for which regions: `kms-watchdog doctor network`."
        self._found[name] = good(name, said) if is_good else bad(name, said, first)

    def _credentials(self) -> None:
        settings, name = self._settings, "credentials"
        if not settings.core_config().verify_account:
            said = "STS is not asked: the configuration names KMS's addresses, and not those of STS"
            self._found[name] = note(name, said)
            return
        try:
            caller = identity.caller(settings)
        except IdentityError as e:
            self._found[name] = bad(name, str(e), CAUSES[CauseId.NO_CREDENTIALS].first)
            return
        if caller.account_id != settings.estate.account_id:
            said = f"they are of account {caller.account_id}, not {settings.estate.account_id}"
            self._found[name] = bad(name, said, CAUSES[CauseId.WRONG_ACCOUNT].first)
            return
        role = role_in(caller.arn)
        self._found[name] = good(name, f"account {caller.account_id}, {f'role {role}' if role else 'no role'}")

    def _time(self) -> Check:
        seen = next((seen for seen in self._lines(Subject.CLOCK) if seen.good), None)
        if seen is None:
            return unknown("clock", "no region's KMS told the time")
        if seen.number("at_least_seconds") > self._settings.canaries.clock_offset.max_seconds:
            return bad("clock", seen.answered, CAUSES[CauseId.CLOCK_OFF].first)
        return good("clock", f"{seen.answered} ({seen.region})")

    def _lines(self, subject: Subject) -> Iterator[Seen]:
        regions = self._settings.estate.regions
        return (seen for seen in self._notebook.lines(regions) if seen.subject is subject)
