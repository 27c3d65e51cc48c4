"""Do what a plan orders, in one region: a context manager that knows its inverse before it acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial, singledispatch

from kms_chaos.faults import peers
from kms_chaos.faults.api import Cutting, Late, Refusing
from kms_chaos.faults.api_plans import ApiFault, purposes_of
from kms_chaos.faults.client_plans import ClockSkew, DnsFailure, SlowOperation, StalePool, SynDrop
from kms_chaos.faults.controllers import Pause, running
from kms_chaos.faults.cut_plans import Reset, SlowClose, Truncated
from kms_chaos.faults.line import RouteError
from kms_chaos.faults.network_plans import (
    RAMP_FROM,
    Flapping,
    Intermittent,
    Latency,
    Refused,
)
from kms_chaos.faults.operator_plans import Evacuation
from kms_chaos.faults.ordering import FaultPlan, Ordered
from kms_chaos.faults.sites import Lifted, Shown, Site, add_toxics, cleared, cut_answers, on_line, on_proxy

__all__ = ["Lifted", "Shown", "Site", "applied"]

_RAMP_STEPS = 15


def applied(order: Ordered, site: Site, *, lifted: Lifted) -> AbstractContextManager[Shown]:
    """Return the fault, on from the block's beginning to its end, however it ends.

    The block gets what server and line show with the fault on; `lifted` is called with what they show after it was
    taken off, if it was on at all. A server or a proxy that is gone meanwhile has no fault any more.

    Raises:
        ToxiproxyError: it could not be put on, or could not be taken off, or failed meanwhile.
        RouteError: the line cannot be broken like this.
    """
    return _applied(order.plan, order, site, lifted)


@singledispatch
def _applied(_plan: FaultPlan, order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    return on_proxy(order, site, lifted, partial(add_toxics, order.toxics, site))


@_applied.register
def _(_plan: Refused, order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    return on_proxy(order, site, lifted, partial(site.server.disable, site.proxy.name))


@_applied.register
@contextmanager
def _(plan: Latency, order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    if not plan.ramp_seconds:
        with on_proxy(order, site, lifted, partial(add_toxics, order.toxics, site)) as shown:
            yield shown
        return

    def ramp(pause: Pause) -> None:
        for step in range(1, _RAMP_STEPS + 1):
            if pause(plan.ramp_seconds / _RAMP_STEPS):
                return
            share = RAMP_FROM + (1 - RAMP_FROM) * step / _RAMP_STEPS
            with site.line.proxy_lock:
                site.server.update(site.proxy.name, plan.toxic(order.tag, share))

    first = partial(add_toxics, (plan.toxic(order.tag, RAMP_FROM),), site)
    with on_proxy(order, site, lifted, first) as shown, running(ramp, clock=site.clock, stop=site.stop):
        yield shown


@_applied.register
def _(plan: Truncated, order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    if plan.within == "body":
        return on_line(site.line, lifted, site.line.answers(Cutting(plan)))
    return on_proxy(order, site, lifted, partial(cut_answers, plan.after_bytes, order, site))


@_applied.register
def _(plan: SlowClose, order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    return on_proxy(order, site, lifted, partial(cut_answers, plan.after_bytes, order, site))


@_applied.register
@contextmanager
def _(plan: Reset, order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    line = site.line
    with ExitStack() as stack:
        match plan.when:
            case "mid_response":
                cut = partial(cut_answers, plan.after_bytes, order, site)
                yield stack.enter_context(on_proxy(order, site, lifted, cut))
            case "new":
                address = stack.enter_context(peers.resetting())
                yield stack.enter_context(on_line(line, lifted, line.dial_to(address), line.short_lived()))
            case "pooled":
                address = stack.enter_context(peers.resetting())
                yield stack.enter_context(on_line(line, lifted, line.moves(address, to="reset")))


@_applied.register
def _(_plan: Intermittent, order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    put_on = partial(add_toxics, order.toxics, site)
    return on_proxy(order, site, lifted, put_on, site.line.short_lived())


@_applied.register
@contextmanager
def _(plan: Flapping, order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    is_refusal = plan.inner == "refused"
    put_on = partial(site.server.disable, site.proxy.name) if is_refusal else partial(add_toxics, order.toxics, site)

    def flap(pause: Pause) -> None:
        while not pause(plan.on_seconds):
            cleared(order, site)
            if pause(plan.off_seconds):
                return
            with site.line.proxy_lock:
                put_on()

    with on_proxy(order, site, lifted, put_on) as shown, running(flap, clock=site.clock, stop=site.stop):
        yield shown


@_applied.register
@contextmanager
def _(_plan: SynDrop, _order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    line = site.line
    with peers.dropping_syns() as address, on_line(line, lifted, line.dial_to(address), line.short_lived()) as shown:
        yield shown


@_applied.register
@contextmanager
def _(plan: StalePool, _order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    def go_on(pause: Pause) -> None:
        while plan.every_seconds is not None and not pause(plan.every_seconds):
            site.line.move_again()

    with (
        peers.silent() as address,
        on_line(site.line, lifted, site.line.moves(address, to="silence")) as shown,
        running(go_on, clock=site.clock, stop=site.stop),
    ):
        yield shown


@_applied.register
def _(_plan: DnsFailure, _order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    return on_line(site.line, lifted, site.line.lookup_fails(), site.line.short_lived())


@_applied.register
@contextmanager
def _(plan: SlowOperation, _order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    late = Late(plan, site.clock)
    with on_line(site.line, lifted, site.line.answers(late)) as shown:
        try:
            yield shown
        finally:
            late.end()


@_applied.register
def _(plan: ClockSkew, _order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    return on_line(site.line, lifted, site.line.signs_off_by(plan.seconds))


@_applied.register
def _(plan: ApiFault, _order: Ordered, site: Site, lifted: Lifted) -> AbstractContextManager[Shown]:
    if unknown := sorted(frozenset(purposes_of(plan)) - site.line.names.purposes):
        raise RouteError(f"the line does not know which key belongs to {unknown[0]}")
    return on_line(site.line, lifted, site.line.answers(Refusing(plan, site.rng)))


@_applied.register
@contextmanager
def _(_plan: Evacuation, order: Ordered, site: Site, lifted: Lifted) -> Iterator[Shown]:
    if site.orders is None:
        raise RouteError("there is no core to be told to avoid a region")
    with site.orders.avoid(order.region):
        yield {"avoided": site.orders.avoided}
    lifted({"avoided": site.orders.avoided})
