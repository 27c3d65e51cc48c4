"""Thousands of multi-Region keys with their replicas and aliases on a local AWS, made by several clients at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.aws_servers import REGIONS, AwsServer

_THREADS = 6
ALIAS = "alias/parker-flight-"


def make(server: AwsServer, purposes: Sequence[str]) -> None:
    """Make a key for each purpose: primary in the first region, a replica and the alias in all."""
    with ThreadPoolExecutor(_THREADS) as workers:
        for done in [workers.submit(_make, server, purposes[at::_THREADS]) for at in range(_THREADS)]:
            done.result()


def _make(server: AwsServer, purposes: Sequence[str]) -> None:
    clients: dict[str, Any] = {region: server.client(region) for region in REGIONS}
    home, *others = REGIONS
    for purpose in purposes:
        key_id = clients[home].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
        for region in others:
            clients[home].replicate_key(KeyId=key_id, ReplicaRegion=region)
        for client in clients.values():
            client.create_alias(AliasName=f"{ALIAS}{purpose}", TargetKeyId=key_id)
    for client in clients.values():
        client.close()
