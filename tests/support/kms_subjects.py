"""What the contract of the KMS port is tried on: the fake, the local server, moto, and AWS itself when offered."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import boto3
import pytest
from moto import mock_aws
from waiting import wait_until

from kms_core import CoreConfig, KeyConfig
from kms_core._kms_boto3 import connector
from kms_core.kms import Kms
from kms_core.testing import FakeEstate

ACCOUNT = "123456789012"
REGIONS = EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
ALIASES = {"general": "alias/general", "payment": "alias/payment"}
SHORTEST_WINDOW_DAYS = 7
_KEYS = {name: KeyConfig(alias=alias) for name, alias in ALIASES.items()}


@dataclass(frozen=True)
class Subject:
    """An estate with multi-Region keys `general` and `payment` in three regions, and how to change a key's state."""

    kms: dict[str, Kms]
    key_ids: dict[str, str]
    set_state: Callable[[str, str, str], object]
    """Bring a key into a state (Enabled, Disabled, PendingDeletion) in one region."""
    make_key: Callable[[], str]
    """Make a multi-Region key in the primary region alone, and return its id."""
    replicate: Callable[[str, str], object]
    """Make a replica in a region, and wait until it is there."""
    account: str = ACCOUNT
    aliases: Mapping[str, str] = dataclasses.field(default_factory=lambda: ALIASES)
    names: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(zip(REGIONS, REGIONS, strict=True)))
    """What the three regions of the contract are really called; everything here is told by the contract's names."""

    def arn_of(self, region: str, key_id: str) -> str:
        return f"arn:aws:kms:{self.names[region]}:{self.account}:key/{key_id}"

    def arn(self, region: str, purpose: str = "general") -> str:
        return self.arn_of(region, self.key_ids[purpose])


def fake_subject(estate: FakeEstate) -> Subject:
    """Return the core's own fake."""
    return Subject(
        kms=dict(estate.kms),
        key_ids={name: estate[EAST].aliases[f"alias/{name}"] for name in ("general", "payment")},
        set_state=lambda key_id, state, region: estate.set_key_state(key_id, state, regions=[region]),
        make_key=lambda: estate.create_key("alias/another", regions=[EAST]),
        replicate=lambda key_id, region: estate.replicate_key(key_id, region, state="Enabled"),
    )


@contextmanager
def server_subject(config: CoreConfig, client_of: Callable[[str], Any], key_ids: dict[str, str]) -> Iterator[Subject]:
    """Return a KMS that boto3 reaches: `client_of` makes plain clients, to arrange what the port cannot.

    Keys made on the way are the server's to forget.
    """
    with _ports(config) as kms:
        yield Subject(kms=kms, key_ids=key_ids, **_changes(client_of))


@contextmanager
def moto_subject(config: CoreConfig) -> Iterator[Subject]:
    """Return moto's KMS in this process, with the keys that the contract needs."""
    with mock_aws():
        client_of = _clients()
        key_ids = {}
        for name, alias in ALIASES.items():
            key_ids[name] = str(client_of(EAST).create_key(MultiRegion=True)["KeyMetadata"]["KeyId"])
            for region in REGIONS[1:]:
                client_of(EAST).replicate_key(KeyId=key_ids[name], ReplicaRegion=region)
            for region in REGIONS:
                client_of(region).create_alias(AliasName=alias, TargetKeyId=key_ids[name])
        with server_subject(config, client_of, key_ids) as subject:
            yield subject


# -- AWS itself -----------------------------------------------------------------------------------------------------


@contextmanager
def real_subject(config: CoreConfig | None = None, client_of: Callable[[str], Any] | None = None) -> Iterator[Subject]:
    """Return AWS itself, or skip with the reason.

    It is asked only with KMS_CONTRACT_REAL set, with the credentials that boto3 finds:

    - `KMS_CONTRACT_REAL=1` creates and changes nothing. It uses two multi-Region keys that exist in three regions,
      by their ids: `KMS_CONTRACT_KEY_ID` and `KMS_CONTRACT_OTHER_KEY_ID`. Tests that change something are skipped.
    - `KMS_CONTRACT_REAL=create` makes keys of its own, changes their states, and schedules the deletion of every one
      at the end, in the shortest window. It costs a few dollars if they are left to their end.

    `KMS_CONTRACT_REGIONS` names the three regions, the primary's first (default: us-east-1, us-west-2, eu-west-1).

    Args:
        config: another place to ask in AWS's stead, to try this very code.
        client_of: makes plain clients for that place.
    """
    wanted = os.environ.get("KMS_CONTRACT_REAL", "")
    if not wanted:
        pytest.skip("AWS itself is asked only with KMS_CONTRACT_REAL=1")
    if boto3.session.Session().get_credentials() is None:
        pytest.skip("KMS_CONTRACT_REAL is set, and boto3 finds no credentials")
    regions = tuple(os.environ.get("KMS_CONTRACT_REGIONS", ",".join(REGIONS)).split(","))
    if len(set(regions)) != len(REGIONS):
        pytest.fail("KMS_CONTRACT_REGIONS must name three regions")
    names = dict(zip(REGIONS, regions, strict=True))
    plain = client_of or _clients()
    with _held(wanted, lambda region: plain(names[region])) as held:
        account = str(plain(regions[0]).describe_key(KeyId=held.key_ids["general"])["KeyMetadata"]["AWSAccountId"])
        asked = config or CoreConfig(account_id=account, regions=regions, home_region=regions[0], keys=_KEYS)
        with _ports(asked, names) as kms:
            yield dataclasses.replace(held, kms=kms, account=account, names=names)


def _held(wanted: str, client_of: Callable[[str], Any]) -> AbstractContextManager[Subject]:
    return _created(client_of) if wanted == "create" else contextlib.nullcontext(_lent())


def _lent() -> Subject:
    """Return a subject over keys that belong to somebody else."""
    names = {"general": "KMS_CONTRACT_KEY_ID", "payment": "KMS_CONTRACT_OTHER_KEY_ID"}
    missing = [variable for variable in names.values() if not os.environ.get(variable)]
    if missing:
        pytest.skip(f"KMS_CONTRACT_REAL=1 needs {' and '.join(missing)}")
    return Subject(
        kms={},
        key_ids={name: os.environ[variable] for name, variable in names.items()},
        set_state=_changes_nothing,
        make_key=_changes_nothing,
        replicate=_changes_nothing,
        aliases={},
    )


def _changes_nothing(*_: object) -> NoReturn:
    pytest.skip("this test changes something: KMS_CONTRACT_REAL=create would allow it")


@contextmanager
def _created(client_of: Callable[[str], Any]) -> Iterator[Subject]:
    """Make keys, and give every one of them up at the end."""
    changes = _changes(client_of)
    made: list[str] = []

    def make_key() -> str:
        made.append(changes["make_key"]())
        return made[-1]

    try:
        key_ids, aliases = {}, {}
        for name in ALIASES:
            key_ids[name] = make_key()
            aliases[name] = f"alias/kms-contract-{key_ids[name]}"
            for region in REGIONS[1:]:
                changes["replicate"](key_ids[name], region)
            for region in REGIONS:
                client_of(region).create_alias(AliasName=aliases[name], TargetKeyId=key_ids[name])
        yield Subject(kms={}, key_ids=key_ids, aliases=aliases, **{**changes, "make_key": make_key})
    finally:
        for key_id in made:
            _give_up(key_id, client_of)


def _give_up(key_id: str, client_of: Callable[[str], Any]) -> None:
    """Schedule a key's deletion wherever it is, the primary last."""
    for region in reversed(REGIONS):
        client = client_of(region)
        try:
            state = client.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"]
        except client.exceptions.NotFoundException:
            continue
        if not state.startswith("Pending"):
            client.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=SHORTEST_WINDOW_DAYS)


# -- how keys are made and changed by plain boto3 -------------------------------------------------------------------


def _clients() -> Callable[[str], Any]:
    """Return what makes plain clients, all from one session: a session of its own for each would take long."""
    session = boto3.session.Session()
    return lambda region: session.client("kms", region_name=region)


@contextmanager
def _ports(config: CoreConfig, names: Mapping[str, str] | None = None) -> Iterator[dict[str, Kms]]:
    connect = connector(config, None)
    kms = {region: connect((names or {}).get(region, region)) for region in REGIONS}
    yield dict(kms)
    for port in kms.values():
        port.close()


def _changes(client_of: Callable[[str], Any]) -> dict[str, Any]:
    def set_state(key_id: str, state: str, region: str) -> None:
        client = client_of(region)
        if client.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"] == "PendingDeletion":
            client.cancel_key_deletion(KeyId=key_id)
        {
            "Enabled": client.enable_key,
            "Disabled": client.disable_key,
            "PendingDeletion": functools.partial(
                client.schedule_key_deletion, PendingWindowInDays=SHORTEST_WINDOW_DAYS
            ),
        }[state](KeyId=key_id)
        client.close()

    def make_key() -> str:
        client = client_of(EAST)
        key_id = str(client.create_key(MultiRegion=True, Description="kms contract test")["KeyMetadata"]["KeyId"])
        client.close()
        return key_id

    def replicate(key_id: str, region: str) -> None:
        client, there = client_of(EAST), client_of(region)
        client.replicate_key(KeyId=key_id, ReplicaRegion=there.meta.region_name)
        ready = functools.partial(there.describe_key, KeyId=key_id)
        wait_until(lambda: ready()["KeyMetadata"]["Enabled"], says=f"{key_id} is replicated to {region}", seconds=120)
        client.close()
        there.close()

    return {"set_state": set_state, "make_key": make_key, "replicate": replicate}
