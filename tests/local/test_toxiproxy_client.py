"""toxiproxy-python drives the server: whatever the library offers works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import NotFound, ProxyExists


@pytest.fixture
def library(toxiproxy: Any, monkeypatch: pytest.MonkeyPatch) -> Toxiproxy:
    """The client library, pointed at the server under test (its host and port are one for all instances)."""
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.delenv("http_proxy", raising=False)
    client = Toxiproxy()
    client.update_api_consumer("127.0.0.1", toxiproxy.port)
    return client


def test_a_proxys_life(library: Toxiproxy, echo_upstream: Any, clients: Callable[[str], Any]) -> None:
    """Create, list, disable, enable, destroy."""
    assert library.running()
    proxy = library.create(upstream=echo_upstream.address, name="p", listen="127.0.0.1:0")
    client = clients(library.get_proxy("p").listen)
    client.send(b"x")
    assert client.receive(1) == b"x"
    assert list(library.proxies()) == ["p"]

    proxy.disable()
    assert not library.get_proxy("p").enabled
    proxy.enable()
    assert library.get_proxy("p").enabled
    proxy.destroy()

    assert library.proxies() == {}


def test_a_toxics_life(library: Toxiproxy, echo_upstream: Any) -> None:
    """Add, list, get, destroy; defaults as everywhere."""
    proxy = library.create(upstream=echo_upstream.address, name="p", listen="127.0.0.1:0")
    proxy.add_toxic(type="latency", attributes={"latency": 5, "jitter": 2}, toxicity=0.5)
    proxy.add_toxic(type="timeout", name="hole", stream="upstream", attributes={"timeout": 0})

    toxics = proxy.toxics()
    assert set(toxics) == {"latency_downstream", "hole"}
    found = proxy.get_toxic("latency_downstream")
    assert (found.type, found.stream, found.toxicity, found.attributes) == (
        "latency",
        "downstream",
        0.5,
        {"latency": 5, "jitter": 2},
    )
    proxy.destroy_toxic("hole")
    assert set(proxy.toxics()) == {"latency_downstream"}
    library.reset()
    assert proxy.toxics() == {}


def test_down_is_down_and_up_again(library: Toxiproxy, echo_upstream: Any, clients: Callable[[str], Any]) -> None:
    """The context manager disables and enables."""
    proxy = library.create(upstream=echo_upstream.address, name="p", listen="127.0.0.1:0")
    listen = library.get_proxy("p").listen

    with proxy.down(), pytest.raises(ConnectionRefusedError):
        clients(listen)

    client = clients(listen)
    client.send(b"x")
    assert client.receive(1) == b"x"


def test_its_errors_are_raised(library: Toxiproxy, echo_upstream: Any) -> None:
    """409 and 404 arrive as the library's exceptions."""
    library.create(upstream=echo_upstream.address, name="p", listen="127.0.0.1:0")

    with pytest.raises(ProxyExists):
        library.create(upstream=echo_upstream.address, name="p")
    with pytest.raises(NotFound):
        APIConsumer.get("/proxies/q")
    library.destroy_all()
    assert library.proxies() == {}
