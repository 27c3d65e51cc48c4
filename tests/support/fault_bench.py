"""A bench for faults: proxies and lines to the regions of a local AWS, stock boto3 clients on them, and a core."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from kms_chaos.faults.apply import Shown, Site, applied
from kms_chaos.faults.line import Line
from kms_chaos.faults.plans import KINDS, FaultPlan, Ordered
from kms_chaos.faults.route import Endpoint, route
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core import Core, CoreConfig, KeyConfig, SystemClock
from kms_core._kms_boto3 import translate
from kms_core.clock import Clock
from kms_core.events import Attempt, BreakerMoved, Event, FailedOver
from kms_core.message import parse_header
from kms_watchdog.drills.undo import ProxyUndo

TARGET, OTHER = "us-east-1", "us-west-2"
CONTEXT = {"tenant": "t-1"}
CONNECT_SECONDS, READ_SECONDS = 0.25, 0.3
SERVERS = ("embedded", "real")
"""Makes of Toxiproxy, for the fixture `server`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one call came to: as boto3 raised it, and as the core names it."""

    raised: str
    """The exception's class, `ClientError` for a code without one; empty: none."""
    code: str
    seconds: float
    request_id: str = ""


@dataclass(slots=True)
class Heard:
    """An observer that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def attempts(self, region: str) -> list[str]:
        return [e.error_code for e in self.events if isinstance(e, Attempt) and e.region == region]

    @property
    def failed_over(self) -> int:
        return sum(isinstance(e, FailedOver) for e in self.events)

    @property
    def moves(self) -> list[tuple[str, str]]:
        return [(e.old, e.new) for e in self.events if isinstance(e, BreakerMoved)]


def order_of(number: int = 0, region: str = TARGET, **fields: Any) -> Ordered:
    """Return the fault that a drill file would order with these fields."""
    plan: FaultPlan = KINDS[fields["kind"]].model_validate(fields)
    return Ordered(id=f"{number}-{fields['kind']}-{region}", region=region, plan=plan)


@functools.cache
def _session(**credentials: str) -> Any:
    return boto3.session.Session(**credentials)  # one for all: to make it takes longer than a whole test


class Bench:
    """Everything that a fault needs; on one Toxiproxy."""

    def __init__(self, aws: Any, server: Toxiproxy, stack: ExitStack, clock: Clock | None = None) -> None:
        self.aws, self.server, self._stack = aws, server, stack
        self.clock = clock or SystemClock()
        self.stop = threading.Event()
        self._session = _session(**aws.endpoints["credentials"])
        self.upstreams = {region: str(Endpoint.of(urls["kms"])) for region, urls in aws.regions.items()}
        keys = {purpose: (f"alias/test-{purpose}",) for purpose in ("general", "pii")}
        self.lines = {region: Line(self._proxy(region), keys=keys) for region in aws.regions}

    def _proxy(self, region: str) -> tuple[str, int]:
        name = self.name(region)
        state = self.server.create(name, upstream=self.upstreams[region])
        self._stack.callback(self.server.delete, name)
        return state.address

    def name(self, region: str) -> str:
        return f"kmswd.bench.{region}"

    def client(self, region: str = TARGET) -> Any:
        """Return a stock KMS client, one attempt a call, on the region's line."""
        config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 1})
        client = self._session.client("kms", region_name=region, verify=self.aws.endpoints["ca_bundle"], config=config)
        self._stack.callback(client.close)
        self._stack.callback(route(client, self.lines[region], verify=self.aws.endpoints["ca_bundle"]))
        return client

    def ask(self, client: Any, *, key: str = "alias/test-general", operation: str = "GenerateDataKey") -> Outcome:
        """Make one call."""
        calls: dict[str, Callable[[], dict[str, Any]]] = {
            "GenerateDataKey": lambda: client.generate_data_key(KeyId=key, NumberOfBytes=32, EncryptionContext=CONTEXT),
            "DescribeKey": lambda: client.describe_key(KeyId=key),
        }
        began = self.clock.monotonic()
        try:
            answer = calls[operation]()
        except Exception as e:  # noqa: BLE001 - whatever it raises is what is looked at
            failure = translate(e)
            return Outcome(
                raised=type(e).__name__,
                code=failure.code,
                seconds=self.clock.monotonic() - began,
                request_id=failure.request_id,
            )
        whole = "Plaintext" in answer or "KeyMetadata" in answer
        return Outcome(raised="", code="" if whole else "Truncated", seconds=self.clock.monotonic() - began)

    def site(self, order: Ordered, *, clock: Clock | None = None, made_by_drill: bool = True) -> Site:
        """Return where `order` acts."""
        state = self.server.proxy(self.name(order.region))
        proxy = ProxyUndo(
            name=self.name(order.region),
            region=order.region,
            listen=state.listen if state else "",
            upstream=self.upstreams[order.region],
            made_by_drill=made_by_drill,
            toxics=tuple(toxic.name for toxic in order.toxics),
        )
        return Site(
            server=self.server,
            proxy=proxy,
            line=self.lines[order.region],
            clock=clock or self.clock,
            rng=random.Random(7),
            stop=self.stop,
        )

    def fault(
        self, order: Ordered, lifted: Callable[[Shown], None] = lambda _: None, **where: Any
    ) -> AbstractContextManager[Shown]:
        """Return the fault, to be entered."""
        return applied(order, self.site(order, **where), lifted=lifted)

    @contextmanager
    def faults(self, *orders: Ordered) -> Iterator[None]:
        """Have all of these on for the block."""
        with ExitStack() as stack:
            for order in orders:
                stack.enter_context(self.fault(order))
            yield

    @contextmanager
    def core(self, **settings: Any) -> Iterator[tuple[Core, Heard]]:
        """Yield a core whose clients are on the lines, the target its home, and what it is heard to do."""
        heard = Heard()
        regions = tuple(self.aws.regions)
        ca_bundle = self.aws.endpoints["ca_bundle"]
        values = {
            "account_id": "123456789012",
            "regions": regions,
            "home_region": TARGET,
            "region_preference": regions,  # else it is by measured times, so by chance
            "keys": {purpose: KeyConfig(alias=f"alias/test-{purpose}") for purpose in ("general", "pii")},
            "ca_bundle": ca_bundle,
            "sts_endpoints": {region: urls["sts"] for region, urls in self.aws.regions.items()},
            "connect_timeout_seconds": CONNECT_SECONDS,
            "read_timeout_seconds": READ_SECONDS,
            **settings,
        }
        with ExitStack() as routes:

            def on_client(region: str, client: Any) -> None:
                routes.callback(route(client, self.lines[region], verify=ca_bundle))

            core = routes.enter_context(Core(CoreConfig(**values), observer=heard, on_client=on_client))
            core.encrypt(b"warm-up", purpose="general", context=CONTEXT)
            heard.events.clear()
            yield core, heard


def region_of(message: bytes) -> str:
    """Return the region whose KMS made a message's data key."""
    arn = parse_header(message).encrypted_data_keys[0].provider_info
    return (arn.decode() if isinstance(arn, bytes) else str(arn)).split(":")[3]
