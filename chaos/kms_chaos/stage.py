"""The drill's stage: proxies of its own, a core whose connections run through them, and the eyes on both.

Where the drill file asks for it, also a watchdog of the drill's own, and requests to the services that are to be hurt.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kms_chaos.canaries import CanaryRounds
from kms_chaos.drill import Drill
from kms_chaos.faults.line import Line, RouteError
from kms_chaos.faults.orders import Orders
from kms_chaos.faults.route import endpoint_of, route
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.ledger import Ledger
from kms_chaos.own_process import OwnProcess, Ways
from kms_chaos.own_watchdog import NoWatchdog, OwnWatchdog, Process
from kms_chaos.service_probes import READ_TIMEOUT_SECONDS, ServiceProbes
from kms_chaos.tape import Tape
from kms_chaos.witness import AttemptsAlone, Witness
from kms_chaos.workload import Workload
from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.drills.undo import UndoRecord

MakeCore = Callable[..., Core]
"""Makes the drill's own core, from a `CoreConfig`, with `observer`, `on_client` and `clock` as `Core` takes them."""
MakeWatchdog = Callable[..., Process]
"""Starts a process of the drill's own watchdog, as `OwnProcess` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a drill plays on; everything on it runs until its ExitStack is closed."""

    core: Core
    ledger: Ledger
    workload: Workload
    canaries: CanaryRounds
    lines: Mapping[str, Line]
    """The way to each region."""
    orders: Orders
    """What a person may tell `core`."""
    new_core: Callable[[], AbstractContextManager[Core]]
    """Makes one more core on the same ways, its cache empty; its attempts are on the tape, its breakers are not."""
    watchdog: NoWatchdog
    """The drill's own watchdog; one that does nothing where the drill has none."""
    service_lines: Mapping[Where, Line]
    """The way to each service beside KMS."""
    probes: ServiceProbes
    """Requests to those services."""


Where = tuple[str, str]
"""Service and region."""


def upstreams(settings: Settings) -> dict[str, str]:
    """Return `host:port` of each region's KMS, as a client of the watchdog itself would reach it."""
    found = {}
    for region in settings.estate.regions:
        client = aws.client(settings, "kms", region)
        found[region] = str(endpoint_of(client))
        client.close()
    return found


def service_upstreams(settings: Settings, services: Iterable[str]) -> dict[Where, str]:
    """Return `host:port` of services beside KMS in each region, as `upstreams`."""
    found = {}
    for service in services:
        for region in settings.estate.regions:
            client = aws.client(settings, service, region)
            found[service, region] = str(endpoint_of(client))
            client.close()
    return found


def create_proxies(server: Toxiproxy, record: UndoRecord) -> dict[str, ProxyState]:
    """Create the drill's proxies, which `record` on disk names already, and return them by name."""
    return {p.name: server.create(p.name, upstream=p.upstream, listen=p.listen) for p in record.proxies}


def set_up(
    stack: ExitStack,
    settings: Settings,
    drill: Drill,
    tape: Tape,
    clock: Clock,
    rng: random.Random,
    *,
    proxies: Mapping[Where, ProxyState],
    up: frozenset[str],
    purposes: tuple[str, ...],
    run_id: str,
    folder: Path,
    make_core: MakeCore = Core,
    make_watchdog: MakeWatchdog = OwnProcess,
) -> Stage:
    """Build the stage; `stack` takes it down again, the traffic first, the routes last.

    `proxies` are those of KMS, and of the services beside it that are to be hurt; `up` are the regions whose KMS no
    fault hits; what the drill's own watchdog writes is in the run's `folder`.
    """
    verify: str | bool = str(settings.estate.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or "") or True
    of_kms = {region: proxy for (service, region), proxy in proxies.items() if service == "kms"}
    witness = Witness(tape, {region: proxy.name for region, proxy in of_kms.items()})

    keys = {purpose: tuple(filter(None, (key.alias, key.key_id))) for purpose, key in settings.keys.items()}
    lines = {region: Line(proxy.address, keys=keys) for region, proxy in of_kms.items()}
    service_lines = {where: Line(proxy.address) for where, proxy in proxies.items() if where[0] != "kms"}

    def on_client(region: str, client: Any) -> None:
        stack.callback(route(client, lines[region], verify=verify))

    @contextmanager
    def new_core() -> Iterator[Core]:
        def on_new_client(region: str, client: Any) -> None:
            routes.callback(route(client, lines[region], verify=verify))

        with ExitStack() as routes:
            listener = AttemptsAlone(witness)
            yield routes.enter_context(
                make_core(settings.core_config(), observer=listener, on_client=on_new_client, clock=clock)
            )

    orders = Orders(clock)
    config = settings.core_config()
    core = stack.enter_context(make_core(config, observer=witness, on_client=on_client, clock=clock, overrides=orders))
    orders.follow = core.read_overrides
    ledger = Ledger()
    workload = Workload(core, witness, ledger, tape, clock, rng, load=drill.workload, purposes=purposes, run_id=run_id)
    canaries = CanaryRounds(
        core,
        tape,
        clock,
        regions=settings.estate.regions,
        purposes=purposes,
        interval_seconds=drill.workload.canary_interval_seconds,
        run_id=run_id,
    )
    make = partial(make_watchdog, settings, folder / "watchdog")
    watchdog = _own_watchdog(settings, drill, tape, clock, proxies=proxies, up=up, make=make)
    probes = ServiceProbes(
        {where: _client(stack, settings, where, line, verify=verify) for where, line in service_lines.items()},
        {where: proxies[where].name for where in service_lines},
        tape,
        clock,
    )
    for part in (canaries, workload, probes, watchdog):
        stack.callback(part.stop)
    return Stage(
        core=core,
        ledger=ledger,
        workload=workload,
        canaries=canaries,
        lines=lines,
        new_core=new_core,
        orders=orders,
        watchdog=watchdog,
        service_lines=service_lines,
        probes=probes,
    )


def _client(stack: ExitStack, settings: Settings, where: Where, line: Line, *, verify: str | bool) -> Any:
    """Return a client of a service beside KMS, on its line."""
    client = aws.client(settings, *where, read_timeout_seconds=READ_TIMEOUT_SECONDS)
    stack.callback(route(client, line, verify=verify))
    return client


def _own_watchdog(
    settings: Settings,
    drill: Drill,
    tape: Tape,
    clock: Clock,
    *,
    proxies: Mapping[Where, ProxyState],
    up: frozenset[str],
    make: MakeWatchdog,
) -> NoWatchdog:
    if drill.watchdog is None:
        return NoWatchdog()
    services = {service for service, _ in proxies} - {"kms"}
    ends = {("kms", region): end for region, end in upstreams(settings).items()}
    ends |= service_upstreams(settings, services)
    start = partial(make, ways(ends, proxies), publishes=drill.watchdog.publishes)
    return OwnWatchdog(drill.watchdog, start, tape, clock, up=up)


def ways(ends: Mapping[Where, str], proxies: Mapping[Where, ProxyState]) -> Ways:
    """Return where the connections of the drill's own watchdog are dialled, by what they ask for.

    Raises:
        RouteError: two end points are one, so that their connections cannot be told apart.
    """
    names: dict[str, str] = {}
    for where, end in ends.items():
        if end in names:
            raise RouteError(f"{' '.join(where)} and {names[end]} are both at {end}: their ways cannot be told apart")
        names[end] = " ".join(where)
    return Ways(names=names, addresses={end: proxies[where].address for where, end in ends.items()})
