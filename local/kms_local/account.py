"""The account of one run: its keys, its identities, its certificate authority, its faults and its log."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from kms_local.clock import Clock
from kms_local.endpoints import write_atomically
from kms_local.faults import Faults
from kms_local.identities import Identities
from kms_local.kept_state import FILE_NAME, KeptState, KeptStateError
from kms_local.kms.keys import Estate, make_estate
from kms_local.kms.snapshot import from_document, to_document
from kms_local.request_log import RequestLog
from kms_local.serve_settings import ServeError, ServeSettings
from kms_local.trails import Trails
from kms_local.wire.issued import Issued, issue

_LOOPBACK = ("localhost", "127.0.0.1")
OTHER_SERVICE_NAMES = ("monitoring", "sns", "sts")
"""How the end points of CloudWatch, SNS and STS begin; IAM has one for all regions."""
_IAM_NAME = "iam.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account that the services of all regions share."""

    settings: ServeSettings
    clock: Clock
    entropy: Callable[[int], bytes]
    issued: Issued
    identities: Identities
    estate: Estate
    faults: Faults
    log: RequestLog
    kept: KeptState
    trails: Trails


def open_account(
    stack: AsyncExitStack, settings: ServeSettings, clock: Clock, entropy: Callable[[int], bytes]
) -> Account:
    """Return the account as the last run left it, if its state was kept, or a new one; write the CA for clients.

    Raises:
        ServeError: the state cannot be read, the roles are none, or the directory cannot be written.
    """
    try:
        kept = KeptState(settings.directory / FILE_NAME if settings.keep_state else None)
        issued = _issued(settings, kept, clock.now())
        identities = _identities(settings, entropy, kept)
        estate = _estate(settings, entropy, kept)
        trails = _trails(settings, kept)
    except KeptStateError as e:
        raise ServeError(str(e)) from e
    ca_file = settings.ca_file
    stack.callback(ca_file.unlink, missing_ok=True)
    try:
        write_atomically(ca_file, issued.ca.encode())
    except OSError as e:
        raise ServeError(f"cannot write {ca_file}: {e.strerror}") from e
    log = RequestLog(settings.directory / "requests.ndjson")
    stack.callback(log.close)
    return Account(
        settings=settings,
        clock=clock,
        entropy=entropy,
        issued=issued,
        identities=identities,
        estate=estate,
        faults=Faults(random.Random(entropy(8)), clock),  # noqa: S311  which requests a fault hits is no secret
        log=log,
        kept=kept,
        trails=trails,
    )


def listener_names(settings: ServeSettings) -> dict[str, tuple[str, ...]]:
    """Return the listeners that speak TLS, and the host names and addresses that each one's certificate is good for."""
    everywhere = (*_LOOPBACK, settings.host, *settings.advertise)
    names: dict[str, tuple[str, ...]] = {}
    for region in settings.regions:
        names[f"kms {region}"] = (f"kms.{region}.amazonaws.com", *everywhere)
        others = (f"{service}.{region}.amazonaws.com" for service in OTHER_SERVICE_NAMES)
        names[f"others {region}"] = (*others, _IAM_NAME, *everywhere)
    return {listener: tuple(dict.fromkeys(good_for)) for listener, good_for in names.items()}


def _issued(settings: ServeSettings, kept: KeptState, now: float) -> Issued:
    """Return certificates of the last run's authority, so that clients need no other CA, or of a new one."""
    listeners = listener_names(settings)
    issued = kept.read("authority", lambda authority: issue(listeners, now=now, authority=authority))
    try:
        issued = issued or issue(listeners, now=now)
    except ValueError as e:  # of a name that no certificate can hold
        raise ServeError(f"cannot make certificates: {e}") from e
    kept.keep("authority", lambda: issued.authority)
    return issued


def _estate(settings: ServeSettings, entropy: Callable[[int], bytes], kept: KeptState) -> Estate:
    def restored(document: dict[str, Any]) -> Estate:
        if document.get("account_id") != settings.account_id:
            raise ValueError(f"it is of account {document.get('account_id')}, not of {settings.account_id}")
        return from_document(
            document, regions=settings.regions, creating_seconds=settings.creating_seconds, entropy=entropy
        )

    estate = kept.read("estate", restored)
    if estate is None:
        estate = make_estate(
            settings.account_id, settings.regions, creating_seconds=settings.creating_seconds, entropy=entropy
        )
    kept.keep("estate", partial(to_document, estate))
    return estate


def _trails(settings: ServeSettings, kept: KeptState) -> Trails:
    trails = Trails(settings.account_id)
    kept.read("trails", trails.restore)
    kept.keep("trails", trails.to_document)
    return trails


def _identities(settings: ServeSettings, entropy: Callable[[int], bytes], kept: KeptState) -> Identities:
    identities = Identities(settings.account_id, entropy)
    kept.read("identities", identities.restore)
    kept.keep("identities", identities.to_document)
    if settings.iam is not None:
        try:
            identities.replace_roles(json.loads(settings.iam.read_bytes()))
        except OSError as e:
            raise ServeError(f"cannot read {settings.iam}: {e.strerror}") from e
        except ValueError as e:  # PolicyError too
            raise ServeError(f"{settings.iam}: {e}") from e
    return identities
