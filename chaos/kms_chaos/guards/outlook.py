"""What each guard of a run would look at, told without looking: for whoever plans a drill. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from kms_alarms import cloudwatch
from kms_chaos import alarms
from kms_chaos.guards.blast_radius import FIRST, HELD_WITHIN, LAST
from kms_chaos.run import Run
from kms_watchdog.drills import halt_order
from kms_watchdog.drills.folder import drills_dir
from kms_watchdog.results import Mode

When = Literal["before", "before and during", "during"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One guard."""

    guard: str
    """Its name, as the journal has it."""
    when: When
    looks_at: str


HALT, LEASE, PROBE = "not-halted", "earlier-fault-over", "toxiproxy-leads-to-kms"


def outlook(run: Run, upstreams: Mapping[str, str], services: Collection[str] = ()) -> tuple[Look, ...]:
    """Return what every guard of `run` would look at, in the order in which they are asked.

    `upstreams` is where the drill's clients would go for KMS, by region: HOST:PORT; `services` for what else.
    """
    return tuple(
        Look(guard=guard, when=when, looks_at=text)
        for guard, when, text in (
            *_of_this_machine(run),
            *_of_place(run, upstreams),
            ("route-verified", "before", "a server of its own on loopback: the route takes its certificate alone"),
            *_of_services(run, services),
            *_of_the_estate(run),
            *_of_alarms(run),
            (PROBE, "before", f"{_toxiproxy(run)}: a proxy to each KMS, a TLS handshake through it; deleted at once"),
        )
    )


def _of_this_machine(run: Run) -> Iterator[tuple[str, When, str]]:
    state_dir = run.settings.state.dir
    longest_seconds = run.drill.timing.baseline_at_most_seconds + run.drill.longest_fault_seconds
    yield HALT, "before and during", f"{halt_order.path(state_dir)}: not there"
    yield "window-open", "before and during", f"the time, now and {longest_seconds:g} s later: {_calendar(run)}"
    yield "nothing-left-over", "before", f"{drills_dir(state_dir)}: every run is closed"
    yield LEASE, "before", f"the drill lease, {_lease(run)}: what its last holder noted is over"


def _of_place(run: Run, upstreams: Mapping[str, str]) -> Iterator[tuple[str, When, str]]:
    settings = run.settings
    drills, home = settings.drills, settings.home_region
    accounts = drills.accounts or (settings.estate.account_id,)
    several = "only with --arm" if len(run.hurt) > 1 else "one region: --arm is not needed"
    yield "regions-armed", "before", f"{', '.join(run.hurt) or 'the KMS of no region'}: {several}"
    yield "held-on-general", "before", _general(run)
    yield "account-allowed", "before", f"STS in {home}: account {' or '.join(accounts)}"
    yield (
        "endpoints-allowed",
        "before",
        f"{_toxiproxy(run)}; KMS {', '.join(upstreams.values())}: by {_allow_list(run)}",
    )
    yield "approved", "before", f"STS in {home}: who starts it; {_leave(run)}"


def _of_services(run: Run, services: Collection[str]) -> Iterator[tuple[str, When, str]]:
    if services:
        yield "services-allowed", "before", f"{', '.join(services)}: by {_allow_list(run)}"


def _allow_list(run: Run) -> str:
    return "drills.endpoints" if run.settings.drills.endpoints else "[endpoints] and AWS's own names"


def _of_the_estate(run: Run) -> Iterator[tuple[str, When, str]]:
    settings = run.settings
    keys = f"{', '.join(settings.keys)} in {', '.join(run.regions)}"
    daemon = f"the daemon that {settings.state.dir / 'http.json'} names"
    survivors = _survivors(run)
    yield "daemon-watches", "before and during", f"{daemon}: it answers"
    yield "estate-healthy", "before", f"what it says of round_trip: {keys}; every live breaker closed"
    yield "keys-enabled", "before", f"what it says of key_state: {keys}"
    yield "estate-not-drifted", "before", f"what it says of replica_drift: {keys}"
    yield "survivors-unthrottled", "before and during", f"what it says of headroom: {survivors}"


def _of_alarms(run: Run) -> Iterator[tuple[str, When, str]]:
    where = f"CloudWatch in {alarms.reading_region(run.settings, run.hurt)}"
    own = len(alarms.all_keys(run.drill, run.targets, run.regions))
    live = [name for region in run.regions for name in cloudwatch.names_about(run.settings, region, Mode.LIVE)]
    of_all = f"the {len(live)} live alarms of the estate's regions"
    yield "alarms-quiet", "before", f"{where}: the {own} alarms that the drill speaks of can be read, none fires"
    yield "live-alarms-quiet", "before", f"{where}: of {of_all} none fires"
    yield "survivors-alarms-quiet", "during", f"{where}: of the live alarms of {_survivors(run)} none fires"


def _survivors(run: Run) -> str:
    return ", ".join(region for region in run.regions if region not in run.hurt) or "no region, as all are hurt"


def _toxiproxy(run: Run) -> str:
    return f"Toxiproxy {run.settings.drills.toxiproxy_url.removeprefix('http://')}"


def _calendar(run: Run) -> str:
    calendar = run.settings.drills.calendar
    windows = "; ".join(map(str, calendar.windows))
    blocked = ", ".join(map(str, calendar.blocked))
    told = [f"within {windows} UTC" if windows else "at any time", *([f"not on {blocked}"] if blocked else [])]
    return ", ".join(told)


def _lease(run: Run) -> str:
    table = run.settings.drills.lease
    return f"DynamoDB {table.table} in {table.region}" if table else str(drills_dir(run.settings.state.dir))


def _general(run: Run) -> str:
    if not run.settings.drills_in_production:
        return "nothing: not in production, any key may be drilled"
    if LAST not in run.purposes:
        return f"nothing: {LAST} is not among its keys"
    where = drills_dir(run.settings.state.dir)
    return f"{where}: the same drill HELD on {FIRST} without {LAST} within {HELD_WITHIN.days} days"


def _leave(run: Run) -> str:
    if not run.settings.drills_in_production:
        return "not in production, so nobody need approve"
    return "in production, so --reason, and --approval of somebody else (a standing one, when the schedule starts it)"
