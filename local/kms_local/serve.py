"""`kms-local serve`: every local AWS service in one process, and the Toxiproxy-compatible server in a second one."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kms_local.account import Account, open_account
from kms_local.admin import AdminApi
from kms_local.clock import SystemClock
from kms_local.endpoints import (
    CREDENTIALS_FILE_NAME,
    FILE_NAME,
    Endpoints,
    RegionEndpoints,
    write_credentials,
    write_endpoints,
)
from kms_local.gate import Gate
from kms_local.kept_state import KeptStateError
from kms_local.kms.authorization import Authorizer
from kms_local.kms.service import KmsService
from kms_local.region_services import open_other_services
from kms_local.serve_settings import ServeError, ServeSettings
from kms_local.toxiproxy.process import ToxiproxyProcess, ToxiproxyStartError, start_toxiproxy
from kms_local.wire.exchange import Handler
from kms_local.wire.issued import tls_context
from kms_local.wire.listener import listen

_PORTS_BEFORE_REGIONS = 2  # admin and Toxiproxy


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
        notice = _Notice(settings.directory)
        stack.callback(notice.take_down)
        account = open_account(stack, settings, SystemClock(), os.urandom)
        notice.endpoints = await _open(stack, account, notice)
        notice.put_up()
        stack.callback(account.kept.save)  # called first: alarms may have changed their states by themselves
        on_ready(notice.endpoints)
        await stop.wait()


@dataclass(slots=True)
class _Notice:
    """The files that tell clients where everything is and what to sign with."""

    directory: Path
    endpoints: Endpoints | None = None

    def put_up(self) -> None:
        """Write the files, or write them anew because the roles have changed."""
        if self.endpoints is not None:
            write_credentials(self.directory, self.endpoints.identities)
            write_endpoints(self.directory, self.endpoints)  # last: it says that all the rest is there

    def take_down(self) -> None:
        """Remove the files: an address file whose server is gone misleads."""
        for name in (FILE_NAME, CREDENTIALS_FILE_NAME):
            (self.directory / name).unlink(missing_ok=True)


def _own_directory(stack: AsyncExitStack, directory: Path) -> None:
    """Make `directory` and have it alone; one that was made here and stays empty is removed again."""
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ServeError(f"cannot make the directory {directory}: {e.strerror}") from e
    if not existed:
        stack.callback(_remove_if_empty, directory)
    descriptor = os.open(directory, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        raise ServeError(f"another server uses the directory {directory}") from e


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


async def _open(stack: AsyncExitStack, account: Account, notice: _Notice) -> Endpoints:
    """Start every server, and return where they are."""
    settings = account.settings
    toxiproxy = await _start_toxiproxy(stack, settings)  # first: it gets ready while the rest is put together
    token = account.entropy(16).hex()
    on_roles = partial(_on_roles, account, notice)
    admin = AdminApi(
        token=token,
        faults=account.faults,
        estate=account.estate,
        clock=account.clock,
        identities=account.identities,
        on_roles=on_roles,
        changed=account.kept.save,
    )
    admin_port = await _listen(stack, account, admin, port=settings.port(0))
    regions = {name: await _open_region(stack, account, name, on_roles) for name in settings.regions}
    return Endpoints(
        account_id=settings.account_id,
        ca_bundle=settings.ca_file,
        identities=account.identities,
        regions=regions,
        toxiproxy_url=await _toxiproxy_url(toxiproxy),
        admin_url=f"http://{settings.reached_at}:{admin_port}",
        admin_token=token,
    )


def _on_roles(account: Account, notice: _Notice) -> None:
    account.kept.save()
    notice.put_up()


async def _open_region(
    stack: AsyncExitStack, account: Account, region: str, on_roles: Callable[[], None]
) -> RegionEndpoints:
    settings = account.settings
    port = settings.port(_PORTS_BEFORE_REGIONS + 2 * settings.regions.index(region))
    gate = Gate(
        account_id=settings.account_id,
        region=region,
        identities=account.identities,
        enforce_policies=settings.enforce_policies,
        clock=account.clock,
        entropy=account.entropy,
        faults=account.faults,
        changed=account.kept.save,
        roles_changed=on_roles,
        trails=account.trails,
    )
    kms = KmsService(gate=gate, authorizer=Authorizer(gate=gate), estate=account.estate, log=account.log)
    kms_port = await _listen(stack, account, kms, port=port, listener=f"kms {region}")
    try:
        others = open_other_services(stack, gate, account.kept, evaluate_seconds=settings.evaluate_seconds)
    except KeptStateError as e:
        raise ServeError(str(e)) from e
    others_port = await _listen(stack, account, others, port=port + 1 if port else 0, listener=f"others {region}")
    return RegionEndpoints(
        kms=f"https://{settings.reached_at}:{kms_port}", others=f"https://{settings.reached_at}:{others_port}"
    )


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
    stack: AsyncExitStack, account: Account, handler: Handler, *, port: int, listener: str | None = None
) -> int:
    """Serve `handler` until the stack closes, over TLS if a certificate was issued for it; return its port."""
    host = account.settings.host
    tls = None if listener is None else tls_context(account.issued.servers[listener])
    try:
        opened = await listen(handler, account.clock, host=host, port=port, tls=tls)
    except OSError as e:
        raise ServeError(f"cannot listen on {host}:{port}: {os.strerror(e.errno or 0)}") from e
    stack.push_async_callback(opened.close)
    return opened.port
