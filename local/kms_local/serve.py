"""`kms-local serve`: every local AWS service in one process, and the Toxiproxy-compatible server in a second one."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from kms_local.admin import AdminApi
from kms_local.clock import Clock, SystemClock
from kms_local.endpoints import Endpoints, RegionEndpoints, write_atomically, write_credentials, write_endpoints
from kms_local.faults import Faults
from kms_local.gate import Gate
from kms_local.kms.keys import Estate, make_estate
from kms_local.kms.service import KmsService
from kms_local.region_services import OTHER_SERVICE_NAMES, open_other_services
from kms_local.request_log import RequestLog
from kms_local.toxiproxy.process import ToxiproxyProcess, ToxiproxyStartError, start_toxiproxy
from kms_local.wire.certificates import CertificateAuthority, make_authority, server_context
from kms_local.wire.exchange import Handler
from kms_local.wire.listener import listen
from kms_local.wire.signature import Credentials

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_LOOPBACK = ("localhost", "127.0.0.1")
_PORTS_BEFORE_REGIONS = 2  # admin and Toxiproxy


class ServeError(Exception):
    """`serve` cannot start; its text is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What one run serves, and where."""

    directory: Path
    regions: tuple[str, ...] = ("us-east-1", "us-west-2", "eu-west-1")
    host: str = "127.0.0.1"
    first_port: int = 0  # 0: free ports; else admin, Toxiproxy, then two ports a region from here on
    account_id: str = "123456789012"
    creating_seconds: float = 0.5
    evaluate_seconds: float = 1.0
    toxiproxy: bool = True

    def __post_init__(self) -> None:
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise ValueError("regions must be a list without repetitions, of one region at least")
        for region in self.regions:
            if not _REGION.fullmatch(region):
                raise ValueError(f"{region!r} is not the name of an AWS region, such as us-east-1")
        if self.creating_seconds < 0 or self.evaluate_seconds <= 0:
            raise ValueError("creating-seconds may not be negative, and evaluate-seconds must be more than 0")

    def port(self, offset: int) -> int:
        """Return the port at `offset` from the first, or 0 for a free one."""
        return self.first_port + offset if self.first_port else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the services of one run have in common."""

    settings: ServeSettings
    clock: Clock
    entropy: Callable[[int], bytes]
    authority: CertificateAuthority
    credentials: Credentials
    estate: Estate
    faults: Faults
    log: RequestLog


def serve(settings: ServeSettings, *, on_ready: Callable[[Endpoints], None]) -> None:
    """Serve until SIGTERM or SIGINT; nothing is listening and no address file is left afterwards.

    Raises:
        ServeError: the directory cannot be written, or an address cannot be bound.
    """
    asyncio.run(_until_signal(settings, on_ready))


async def _until_signal(settings: ServeSettings, on_ready: Callable[[Endpoints], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        _own_directory(stack, settings.directory)
        endpoints = await _open(stack, _shared(stack, settings, SystemClock(), os.urandom))
        secrets = write_credentials(settings.directory, endpoints.credentials)
        stack.callback(secrets.unlink, missing_ok=True)
        path = write_endpoints(settings.directory, endpoints)  # last: it says that all the rest is there
        stack.callback(path.unlink, missing_ok=True)  # an address file whose server is gone misleads
        on_ready(endpoints)
        await stop.wait()


def _own_directory(stack: AsyncExitStack, directory: Path) -> None:
    """Make `directory`; one that was made here and stays empty is removed again."""
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ServeError(f"cannot make the directory {directory}: {e.strerror}") from e
    if not existed:
        stack.callback(_remove_if_empty, directory)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _shared(stack: AsyncExitStack, settings: ServeSettings, clock: Clock, entropy: Callable[[int], bytes]) -> _Shared:
    authority = make_authority(now=clock.now())
    ca_file = _ca_file(settings)
    stack.callback(ca_file.unlink, missing_ok=True)
    try:
        write_atomically(ca_file, authority.pem)
    except OSError as e:
        raise ServeError(f"cannot write {ca_file}: {e.strerror}") from e
    log = RequestLog(settings.directory / "requests.ndjson")
    stack.callback(log.close)
    return _Shared(
        settings=settings,
        clock=clock,
        entropy=entropy,
        authority=authority,
        credentials=_made_up_credentials(entropy),
        estate=make_estate(settings.account_id, settings.regions, creating_seconds=settings.creating_seconds),
        faults=Faults(random.Random(entropy(8))),  # noqa: S311  decides which requests a fault hits, nothing secret
        log=log,
    )


async def _open(stack: AsyncExitStack, shared: _Shared) -> Endpoints:
    """Start every server, and return where they are."""
    settings = shared.settings
    toxiproxy = await _start_toxiproxy(stack, settings)  # first: it gets ready while the rest is put together
    token = shared.entropy(16).hex()
    admin = AdminApi(token=token, faults=shared.faults, estate=shared.estate, clock=shared.clock)
    admin_port = await _listen(stack, shared, admin, port=settings.port(0), names=())
    regions = {name: await _open_region(stack, shared, name) for name in settings.regions}
    return Endpoints(
        account_id=settings.account_id,
        ca_bundle=_ca_file(settings),
        credentials=shared.credentials,
        regions=regions,
        toxiproxy_url=await _toxiproxy_url(toxiproxy),
        admin_url=f"http://{settings.host}:{admin_port}",
        admin_token=token,
    )


async def _open_region(stack: AsyncExitStack, shared: _Shared, region: str) -> RegionEndpoints:
    settings = shared.settings
    port = settings.port(_PORTS_BEFORE_REGIONS + 2 * settings.regions.index(region))
    gate = Gate(
        account_id=settings.account_id,
        region=region,
        credentials=shared.credentials,
        clock=shared.clock,
        entropy=shared.entropy,
        faults=shared.faults,
    )
    kms = KmsService(gate=gate, estate=shared.estate, log=shared.log)
    kms_port = await _listen(stack, shared, kms, port=port, names=(f"kms.{region}.amazonaws.com",))
    others = open_other_services(stack, gate, evaluate_seconds=settings.evaluate_seconds)
    names = tuple(f"{service}.{region}.amazonaws.com" for service in OTHER_SERVICE_NAMES)
    others_port = await _listen(stack, shared, others, port=port + 1 if port else 0, names=names)
    return RegionEndpoints(kms=f"https://{settings.host}:{kms_port}", others=f"https://{settings.host}:{others_port}")


async def _start_toxiproxy(stack: AsyncExitStack, settings: ServeSettings) -> ToxiproxyProcess | None:
    if not settings.toxiproxy:
        return None
    server = await start_toxiproxy(host=settings.host, port=settings.port(1))
    stack.push_async_callback(server.stop)
    return server


async def _toxiproxy_url(server: ToxiproxyProcess | None) -> str | None:
    if server is None:
        return None
    try:
        await server.wait_until_listening()
    except ToxiproxyStartError as e:
        raise ServeError(str(e)) from e
    return f"http://{server.address}"


async def _listen(
    stack: AsyncExitStack, shared: _Shared, handler: Handler, *, port: int, names: tuple[str, ...]
) -> int:
    """Serve `handler`, over TLS if it has `names`, until the stack closes; return its port."""
    host = shared.settings.host
    tls = server_context(shared.authority, dict.fromkeys((*names, *_LOOPBACK, host))) if names else None
    try:
        listener = await listen(handler, shared.clock, host=host, port=port, tls=tls)
    except OSError as e:
        raise ServeError(f"cannot listen on {host}:{port}: {os.strerror(e.errno or 0)}") from e
    stack.push_async_callback(listener.close)
    return listener.port


def _ca_file(settings: ServeSettings) -> Path:
    return settings.directory.absolute() / "ca.pem"


def _made_up_credentials(entropy: Callable[[int], bytes]) -> Credentials:
    """Return a pair in AWS's form that no other run has."""
    return Credentials(
        access_key_id="AKIA" + base64.b32encode(entropy(10)).decode(),
        secret_access_key=base64.b64encode(entropy(30)).decode(),
    )
