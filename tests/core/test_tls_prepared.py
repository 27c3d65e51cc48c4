"""A client's TLS context is ready for many threads: a hole in its store's list of lookups would end the process."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.httpsession
import pytest

from kms_core import CoreConfig, KeyConfig
from kms_core._kms_boto3 import connector
from kms_core._tls import prepared
from kms_watchdog import aws
from kms_watchdog.config import load


class Spied(ssl.SSLContext):
    """A context that notes what is loaded into it."""

    loaded: list[Any]

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        self.__dict__.setdefault("loaded", []).append(cafile)
        super().load_verify_locations(cafile, capath, cadata)


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[Spied]:
    """Every context that botocore makes from now on."""
    made: list[Spied] = []

    def make(*_: object, **__: object) -> Spied:
        made.append(Spied(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    monkeypatch.setattr(botocore.httpsession, "create_urllib3_context", make)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return made


def loads(contexts: list[Spied]) -> list[list[Any]]:
    return [context.__dict__.get("loaded", []) for context in contexts]


def of_the_core() -> Any:
    config = CoreConfig(
        account_id="123456789012",
        home_region="us-east-1",
        regions=("us-east-1",),
        keys={"general": KeyConfig(alias="alias/general")},
    )
    return connector(config, None)("us-east-1")._client


def of_the_watchdog(tmp_path: Path) -> Any:
    path = tmp_path / "watchdog.toml"
    path.write_text(
        '[estate]\naccount_id = "123456789012"\nprimary_region = "us-east-1"\nregions = ["us-east-1"]\n'
        '[keys.general]\nalias = "alias/general"\n[state]\ndir = "state"\n'
    )
    return aws.client(load(path, environ={}), "cloudwatch", "us-east-1")


@pytest.mark.parametrize("make", [lambda _: of_the_core(), of_the_watchdog], ids=["core", "watchdog"])
def test_the_first_load_is_over_before_a_client_is_handed_out(
    contexts: list[Spied], tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """By nothing that anybody trusts: of a file without a certificate."""
    client = make(tmp_path)
    context = client._endpoint.http_session._manager.connection_pool_kw["ssl_context"]

    assert context in contexts
    assert context.loaded == [os.devnull]
    assert context.cert_store_stats()["x509"] == 0


def test_the_way_through_a_proxy_is_prepared_too(
    contexts: list[Spied], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Botocore would make that context at the first request, in whatever thread it is."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    client = of_the_watchdog(tmp_path)
    before = len(contexts)
    with pytest.raises(Exception, match="proxy"):
        client.list_metrics()

    assert [os.devnull] in loads(contexts)
    assert len(contexts) == before


def test_what_is_no_client_of_botocores_is_handed_back() -> None:
    """A stub, or a botocore of another making."""
    stub = object()

    assert prepared(stub) is stub
