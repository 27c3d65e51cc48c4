"""The way to one region's KMS: its name, a new connection, the certificate and the clock. Nothing is signed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from kms_core import taxonomy
from kms_watchdog.canaries.clock_offset import date_of, offset
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.doctor.addresses import is_own_name, place
from kms_watchdog.doctor.questions import Questions
from kms_watchdog.doctor.seen import NO_CA_BUNDLE, Fact, Subject
from kms_watchdog.name_lookup import Resolver
from kms_watchdog.new_connection import ANSWER, Address, Budget, ConnectionFault, Connector, Opened, Proxy, ask_head

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How one region's KMS is reached, made in the main thread."""

    host: str
    port: int
    source: str
    """Where the address is from: `configured`, `AWS's own` or `the environment`."""
    proxy: Proxy | None
    connector: Connector | None = field(repr=False)
    """None: the certificates to trust cannot be read, and `trouble` says why."""
    timeless: Connector | None = field(repr=False)
    trouble: str = ""


def source_of(host: str, configured: str | None) -> str:
    """Return where the address of a service is from, in words."""
    if configured is not None:
        return "configured"
    return "AWS's own" if is_own_name(host) else "the environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLook:
    """Looks at the way to one region."""

    door: Door
    resolver: Resolver
    questions: Questions
    timeout_seconds: float

    def look(self) -> bool:
        """Note what there is to see, and return whether a connection stands."""
        self._name()
        door = self.door
        if door.connector is None or door.timeless is None:
            self.questions.note(Subject.CONNECTION, self._to, door.trouble, code=NO_CA_BUNDLE)
            return False
        budget = Budget(Steps(self.questions.clock), self.timeout_seconds)
        try:
            with ExitStack() as stack:
                opened = stack.enter_context(door.connector.open(budget))
                self._opened(opened, budget)
                self._clock(opened, budget)
                return True
        except ConnectionFault as e:
            self._fault(e, budget)
            if e.outside_validity:
                self._clock_without_times(door.timeless)
            return False

    @property
    def _to(self) -> str:
        through = f" through the proxy {self.door.proxy.address}" if self.door.proxy else ""
        return f"a new connection to {Address(self.door.host, self.door.port)}{through}"

    def _name(self) -> None:
        door, asked = self.door, f"the addresses of {self.door.host} ({self.door.source} name)"
        facts: dict[str, Fact] = {"host": door.host, "source": door.source}
        if door.proxy is not None:
            said = f"not looked up here: the proxy {door.proxy.address} does"
            self.questions.note(Subject.NAME, asked, said, facts=facts)
            return
        steps = Steps(self.questions.clock)
        try:
            found = self.resolver.addresses(door.host, door.port, self.timeout_seconds)
        except (OSError, UnicodeError, RuntimeError) as e:  # a time-out is an OSError
            said = "no answer" if isinstance(e, TimeoutError) else getattr(e, "strerror", None) or str(e)
            self.questions.note(
                Subject.NAME, asked, said, code=taxonomy.DNS_FAILURE, facts=facts, seconds=steps.elapsed_seconds()
            )
            return
        addresses = tuple(dict.fromkeys(str(address[0]) for _, address in found))
        where = place(addresses)
        facts |= {"addresses": " ".join(addresses), "place": str(where)}
        self.questions.note(
            Subject.NAME, asked, f"{', '.join(addresses)}: {where}", facts=facts, seconds=steps.elapsed_seconds()
        )

    def _opened(self, opened: Opened, budget: Budget) -> None:
        days_left = (opened.certificate_ends_at - self.questions.clock.now_utc().timestamp()) / _DAY_SECONDS
        version, issuer = opened.tls.version() or "TLS", opened.certificate_issuer
        facts: dict[str, Fact] = {
            "address": opened.address,
            "tls_version": version,
            "certificate_issuer": issuer,
            "certificate_days_left": round(days_left, 1),
        }
        said = f"{version} at {opened.address}; certificate signed by {issuer}, {days_left:.0f} days left"
        self.questions.note(Subject.CONNECTION, self._to, said, facts=facts, seconds=budget.steps.elapsed_seconds())

    def _fault(self, fault: ConnectionFault, budget: Budget) -> None:
        facts: dict[str, Fact] = {
            "step": fault.step,
            "detail": fault.detail,
            "ours": fault.ours,
            "timed_out": fault.timed_out,
            "outside_validity": fault.outside_validity,
        }
        said = str(fault) if fault.code in str(fault) else f"{fault} ({fault.code})"
        self.questions.note(
            Subject.CONNECTION, self._to, said, code=fault.code, facts=facts, seconds=budget.steps.elapsed_seconds()
        )

    def _clock_without_times(self, timeless: Connector) -> None:
        """Ask for the time though the certificate is not valid now: that may be the clock's doing."""
        budget = Budget(Steps(self.questions.clock), self.timeout_seconds)
        try:
            with timeless.open(budget) as opened:
                self._clock(opened, budget)
        except ConnectionFault:  # that there is no connection is noted already
            return

    def _clock(self, opened: Opened, budget: Budget) -> None:
        asked = "the time (the Date of an unsigned answer)"
        sent_utc, sent = self.questions.clock.now_utc(), self.questions.clock.monotonic()
        try:
            with budget.steps.step(ANSWER):
                headers = ask_head(opened, Address(self.door.host, self.door.port), budget)
        except ConnectionFault as e:
            self.questions.note(Subject.CLOCK, asked, str(e), code=e.code)
            return
        round_trip_seconds, date_utc = self.questions.clock.monotonic() - sent, date_of(headers)
        if date_utc is None:
            self.questions.note(Subject.CLOCK, asked, "the answer has no Date", code="NoDate")
            return
        found = offset(sent_utc=sent_utc, round_trip_seconds=round_trip_seconds, date_utc=date_utc)
        side = "ahead" if found.seconds > 0 else "behind"
        said = f"this machine's clock is {abs(found.seconds):.1f} s {side}, within {found.uncertainty_seconds:.1f} s"
        facts: dict[str, Fact] = {
            "offset_seconds": round(found.seconds, 2),
            "at_least_seconds": round(found.at_least_seconds, 2),
        }
        self.questions.note(Subject.CLOCK, asked, said, facts=facts)
