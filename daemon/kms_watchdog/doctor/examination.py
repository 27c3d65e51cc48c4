"""All looks together: regions at the same time, each for as long as it may take, and no longer.

Every region has a thread of its own, which ends with the process: what hangs on one region, on its resolver or on a
server that trickles, hides nothing of the others.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from kms_core.clock import Clock
from kms_core.errors import MessageError
from kms_watchdog import aws
from kms_watchdog.canaries.application_access import callers
from kms_watchdog.config import Settings
from kms_watchdog.doctor.keys import Asker, KeyLook, WrappedKey, wrapped_in
from kms_watchdog.doctor.network import Door, NetworkLook, source_of
from kms_watchdog.doctor.questions import Questions, SilentError, Told
from kms_watchdog.doctor.seen import LATE, WHOLE_REGION, Notebook, Seen, Subject
from kms_watchdog.doctor.subjects import Wanted
from kms_watchdog.doors import Doors
from kms_watchdog.estate.access import Caller, RoleAccess
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.observed import Target
from kms_watchdog.estate.policy import Policy
from kms_watchdog.estate.role_policies import watched_roles
from kms_watchdog.estate.roles import IAM, RoleBook, RoleReader, Roles
from kms_watchdog.golden_store import GoldenError, VisitedGoldenStore
from kms_watchdog.name_lookup import Resolver
from kms_watchdog.new_connection import HTTPS_PORT, Proxy
from kms_watchdog.state_folder import StateFolder

CONNECTION_SECONDS = 5.0
"""For name, connection, handshake and the server's first answer together."""
FIRST_SHARE = 0.5
"""Of the time there is, for the first round: ways, credentials and aliases."""
CRASHED = "Crashed"
FOREVER = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is looked at."""

    regions: tuple[str, ...]
    keys: tuple[Wanted, ...]
    access: bool = True
    """Whether policies of keys and roles are read and judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What there was to see, and which key each purpose should have."""

    lines: tuple[Seen, ...]
    key_ids: Mapping[str, str] = field(default_factory=dict)


class Surgery:
    """Everything that is needed to look; clients are made here, in the main thread."""

    def __init__(self, settings: Settings, clock: Clock, scope: Scope) -> None:
        """Make the clients; asks nobody.

        Raises:
            kms_watchdog.config.ConfigError: the profile that the environment names is not there.
        """
        self.settings, self.clock, self.scope = settings, clock, scope
        self.resolver, self.notebook = Resolver(), Notebook()
        self.verify_account = settings.core_config().verify_account
        self.admin = KmsAdmin(settings, clock, tries=1)
        self.kms = {region: aws.client(settings, "kms", region) for region in scope.regions}
        self.sts = {region: aws.client(settings, "sts", region) for region in scope.regions}
        self.doors = {region: door_to(settings, region, self.resolver) for region in scope.regions}
        reader = RoleReader(settings)
        self.roles = RoleBook(reader.read, watched_roles(settings), clock, max_age_seconds=FOREVER)
        self.wrapped = golden_keys(settings, clock)
        self.callers: Mapping[str, tuple[Caller, ...]] = {
            wanted.purpose: callers(settings, wanted.purpose) for wanted in scope.keys if wanted.configured
        }

    def questions(self, region: str) -> Questions:
        """Return what is asked in one region, written into the notebook."""
        return Questions(region=region, notebook=self.notebook, clock=self.clock)


def door_to(settings: Settings, region: str, resolver: Resolver) -> Door:
    """Return how `region`'s KMS is reached. Main thread."""
    way = aws.way_to_kms(settings, region)
    endpoint = settings.endpoints.get(region)
    connector = timeless = None
    trouble = ""
    try:
        doors = Doors(settings, resolver)
        connector, timeless = doors.to_kms(region), doors.to_kms(region, check_times=False)
    except OSError as e:  # as are the errors of SSL
        trouble = f"{way.ca_file} cannot be read as certificates to trust: {e.strerror or e}"
    parts = urlsplit(way.url)
    return Door(
        host=parts.hostname or "",
        port=parts.port or HTTPS_PORT,
        source=source_of(parts.hostname or "", endpoint.kms if endpoint else None),
        proxy=Proxy.of(way.proxy_url) if way.proxy_url else None,
        connector=connector,
        timeless=timeless,
        trouble=trouble,
    )


def golden_keys(settings: Settings, clock: Clock) -> Mapping[str, WrappedKey]:
    """Return by purpose the wrapped key of the newest message that the watchdog keeps; it names the key's id, too."""
    store = VisitedGoldenStore(StateFolder(settings.state.dir), clock)
    found: dict[str, WrappedKey] = {}
    for purpose in settings.keys:
        try:
            newest = max(store.created(purpose), default=None)
            message = None if newest is None else store.read(purpose, newest)
            wrapped = None if message is None else wrapped_in(message.message, message.context)
        except (GoldenError, MessageError):  # there need not be any; the canary of their name tells of bad ones
            continue
        if wrapped is not None:
            found[purpose] = wrapped
    return found


def examine(surgery: Surgery, deadline_seconds: float) -> Examined:
    """Look at everything in the scope; return what was seen by then."""
    clock, regions = surgery.clock, surgery.scope.regions
    until = clock.monotonic() + deadline_seconds
    visits = {region: _Visit(surgery, region) for region in regions}
    first = {region: partial(_guarded, surgery, region, visit.first) for region, visit in visits.items()}
    late = alongside(first, deadline_seconds * FIRST_SHARE, clock)
    key_ids = expected_ids(surgery, visits)
    second = {
        region: partial(_guarded, surgery, region, partial(visit.second, key_ids))
        for region, visit in visits.items()
        if visit.open and region not in late
    }
    if second and surgery.scope.access:
        second[IAM] = partial(_guarded, surgery, IAM, partial(_read_roles, surgery))
    late |= alongside(second, until - clock.monotonic(), clock)
    for region in late:
        said = f"no answer within {deadline_seconds:g} s to what was asked last"
        surgery.questions(region).note(Subject.REGION, WHOLE_REGION, said, code=LATE)
    return Examined(lines=surgery.notebook.lines((*regions, IAM)), key_ids=key_ids)


def _guarded(surgery: Surgery, region: str, look: Callable[[], None]) -> None:
    try:
        look()
    except Exception as e:  # noqa: BLE001  a mistake of ours in one region hides nothing of the others
        said = f"the doctor itself failed: {type(e).__name__}"
        surgery.questions(region).note(Subject.REGION, WHOLE_REGION, said, code=CRASHED)


def _read_roles(surgery: Surgery) -> None:
    questions, asked = surgery.questions(IAM), f"the policies of {', '.join(watched_roles(surgery.settings))}"
    try:
        found = surgery.roles.roles(wait_seconds=FOREVER)
    except EstateError as e:
        questions.failed(Subject.ROLES, asked, e)
        return
    questions.note(Subject.ROLES, asked, f"{sum(role is not None for role in (found or {}).values())} roles read")


def alongside(tasks: Mapping[str, Callable[[], None]], timeout_seconds: float, clock: Clock) -> set[str]:
    """Run all `tasks` at the same time, and return the names of those that have not ended in time.

    These are left behind in threads that end with the process: nothing can end a look-up under way.
    """
    over = {name: threading.Event() for name in tasks}

    def run(name: str) -> None:
        try:
            tasks[name]()
        finally:
            over[name].set()

    for name in tasks:
        threading.Thread(target=run, args=(name,), name=f"doctor {name}", daemon=True).start()
    until = clock.monotonic() + timeout_seconds
    return {name for name, event in over.items() if not clock.wait(event, max(0.0, until - clock.monotonic()))}


class _Visit:
    """What is asked in one region, in two rounds."""

    def __init__(self, surgery: Surgery, region: str) -> None:
        self._surgery, self._region = surgery, region
        self._questions = surgery.questions(region)
        self._look = KeyLook(questions=self._questions, reader=surgery.admin, kms=surgery.kms[region])
        self.open = False
        """Whether there is use in asking on."""
        self.targets: dict[str, Target | None] = {}
        """Where aliases lead, None for one that does not exist; of whom nobody said, nothing."""
        self._asker = Asker()

    def first(self) -> None:
        """Look at the way there, at the credentials, and at where aliases lead."""
        network = NetworkLook(
            door=self._surgery.doors[self._region], questions=self._questions, resolver=self._surgery.resolver,
            timeout_seconds=CONNECTION_SECONDS,
        )  # fmt: skip
        if not network.look():
            self._questions.not_asked(Subject.REGION, "keys and credentials", "there is no connection")
            return
        try:
            if not self._identity():
                self._questions.not_asked(Subject.REGION, "keys", "the credentials are of another account")
                return
            for wanted in self._surgery.scope.keys:
                if (read := self._look.alias(wanted)) is not None:
                    self.targets[wanted.purpose] = read.value
        except SilentError as e:
            self._questions.not_asked(Subject.REGION, "what is left", f"after {e} there is no use in it")
            return
        self.open = True

    def second(self, key_ids: Mapping[str, str]) -> None:
        """Look at the keys themselves, now that it is known which they should be."""
        try:
            for wanted in self._surgery.scope.keys:
                self._key(wanted, key_ids.get(wanted.purpose, ""))
        except SilentError as e:
            self._questions.not_asked(Subject.REGION, "what is left", f"after {e} there is no use in it")

    def _identity(self) -> bool:
        """Note whose credentials these are, and return whether they are of the configured account, if that is known."""
        questions, account_id = self._questions, self._surgery.settings.estate.account_id
        if not self._surgery.verify_account:
            said = "not asked: the configuration names KMS's addresses, and not those of STS"
            questions.note(Subject.IDENTITY, "whose credentials these are", said)
            return True
        try:
            told = questions.call(
                Subject.IDENTITY,
                "GetCallerIdentity",
                self._surgery.sts[self._region].get_caller_identity,
                told_of_caller,
            )
        except SilentError as e:
            if e.of_credentials:
                raise
            return True  # KMS may well answer where STS does not
        if told is None:
            return True
        self._asker = Asker(role=role_in(str(told["Arn"])), known=True)
        return bool(told["Account"] == account_id)

    def _key(self, wanted: Wanted, key_id: str) -> None:
        surgery, target = self._surgery, self.targets.get(wanted.purpose)
        who = surgery.callers.get(wanted.purpose, ())
        key = self._look.key(wanted, key_id, target) if key_id else None
        name = key_id or wanted.alias
        unread = not key_id and wanted.purpose not in self.targets
        if wanted.configured and (key is not None or unread):
            self._look.would_work(wanted, name, surgery.wrapped.get(wanted.purpose), who, self._asker)
        if key is None or not surgery.scope.access or not wanted.configured:
            return
        roles = self._roles()
        access = self._look.access(wanted, key, policies_of(roles or {}))
        if access is not None and roles is not None:
            self._look.judged(wanted, access, who, roles)

    def _roles(self) -> Roles | None:
        """Return the roles; None: IAM did not tell, which whoever reads them has noted."""
        try:
            return self._surgery.roles.roles(wait_seconds=FOREVER)
        except EstateError:
            return None


def policies_of(roles: Roles) -> tuple[Policy, ...]:
    """Return all policies of all roles that could be read."""
    read = [role for role in roles.values() if isinstance(role, RoleAccess)]
    return tuple(policy for role in read for policy in (*role.policies, role.boundary) if policy is not None)


def expected_ids(surgery: Surgery, visits: Mapping[str, _Visit]) -> Mapping[str, str]:
    """Return by purpose which key it should be."""
    primary = surgery.settings.estate.primary_region
    found: dict[str, str] = {}
    for wanted in surgery.scope.keys:
        targets = {region: visit.targets.get(wanted.purpose) for region, visit in visits.items()}
        ids = {region: target.key_id for region, target in targets.items() if target is not None}
        golden = surgery.wrapped.get(wanted.purpose)
        if key_id := wanted.key_id or most_likely(ids, primary, golden.key_id if golden else ""):
            found[wanted.purpose] = key_id
    return found


def most_likely(targets: Mapping[str, str], primary_region: str, sealed_under: str = "") -> str:
    """Return which key an alias should lead to: the one most regions agree on. Pure.

    Where they do not, the one that data were sealed under long ago, then the primary region's, decides.
    """
    counted = Counter(targets.values()).most_common()
    best = [key_id for key_id, count in counted if count == counted[0][1]]
    for choice in (sealed_under, targets.get(primary_region, "")):
        if choice in best:
            return choice
    return best[0] if best else sealed_under


def told_of_caller(answer: Mapping[str, Any]) -> Told:
    """Put STS's answer into words; the session's name stays out."""
    account_id, role = str(answer["Account"]), role_in(str(answer["Arn"]))
    who = f"role {role}" if role else "no role"
    return Told(f"account {account_id}, {who}", {"account_id": account_id, "role": role})


def role_in(arn: str) -> str:
    """Return the name of the role that `arn` is a session of; empty for users and the root."""
    kind, _, rest = arn.split(":", 5)[-1].partition("/")
    return rest.partition("/")[0] if kind == "assumed-role" else ""
