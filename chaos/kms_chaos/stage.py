"""The drill's stage: proxies of its own, a core whose connections run through them, and the eyes on both."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from kms_chaos.canaries import CanaryRounds
from kms_chaos.drill import Drill
from kms_chaos.faults.line import Line
from kms_chaos.faults.orders import Orders
from kms_chaos.faults.route import endpoint_of, route
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.ledger import Ledger
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


def upstreams(settings: Settings) -> dict[str, str]:
    """Return `host:port` of each region's KMS, as a client of the watchdog itself would reach it."""
    found = {}
    for region in settings.estate.regions:
        client = aws.client(settings, "kms", region)
        found[region] = str(endpoint_of(client))
        client.close()
    return found


def create_proxies(server: Toxiproxy, record: UndoRecord) -> dict[str, ProxyState]:
    """Create the drill's proxies, which `record` on disk names already, and return them by region."""
    return {p.region: server.create(p.name, upstream=p.upstream, listen=p.listen) for p in record.proxies}


def set_up(
    stack: ExitStack,
    settings: Settings,
    drill: Drill,
    tape: Tape,
    clock: Clock,
    rng: random.Random,
    *,
    proxies: Mapping[str, ProxyState],
    purposes: tuple[str, ...],
    run_id: str,
    make_core: MakeCore = Core,
) -> Stage:
    """Build the stage; `stack` takes it down again, the traffic first, the routes last."""
    verify: str | bool = str(settings.estate.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or "") or True
    witness = Witness(tape, {region: proxy.name for region, proxy in proxies.items()})

    keys = {purpose: tuple(filter(None, (key.alias, key.key_id))) for purpose, key in settings.keys.items()}
    lines = {region: Line(proxy.address, keys=keys) for region, proxy in proxies.items()}

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
    stack.callback(canaries.stop)
    stack.callback(workload.stop)
    return Stage(
        core=core, ledger=ledger, workload=workload, canaries=canaries, lines=lines, new_core=new_core, orders=orders
    )
