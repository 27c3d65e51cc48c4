"""The real project's command-line client drives the server: whatever it offers works, and prints the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def cli(toxiproxy: Any, toxiproxy_cli: str) -> Callable[..., str]:
    """Run the client, and return what it prints, without the ports that differ."""

    def run(*arguments: str, fails: bool = False) -> str:
        command = [toxiproxy_cli, "--host", f"http://127.0.0.1:{toxiproxy.port}", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (ended.returncode != 0) is fails, ended
        return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", ended.stdout + ended.stderr)

    return run


def test_a_proxys_life(cli: Callable[..., str], toxiproxy: Any) -> None:
    """Create, list, inspect, toggle, delete."""
    assert cli("create", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "p") == "Created new proxy p\n"
    assert re.search(r"^p\s+ADDRESS\s+ADDRESS\s+enabled\s+0$", cli("list"), re.MULTILINE)
    assert cli("inspect", "p") == ""  # it lists toxics and, off a terminal, nothing else
    assert cli("toggle", "p") == "Proxy p is now disabled\n"
    assert not toxiproxy.call("GET", "/proxies/p").json()["enabled"]
    assert cli("toggle", "p") == "Proxy p is now enabled\n"
    assert cli("delete", "p") == "Deleted proxy p\n"
    assert toxiproxy.call("GET", "/proxies").json() == {}


def test_a_toxics_life(cli: Callable[..., str], toxiproxy: Any) -> None:
    """Add, update, inspect, remove."""
    toxiproxy.proxy("p", "127.0.0.1:1")

    added = cli("toxic", "add", "--type", "latency", "--toxicName", "slow", "--attribute", "latency=100", "p")
    assert added == "Added downstream latency toxic 'slow' on proxy 'p'\n"
    assert cli("toxic", "add", "-t", "limit_data", "-u", "-a", "bytes=5", "--toxicity", "0.5", "p").startswith("Added")
    updated = cli("toxic", "update", "--toxicName", "slow", "--attribute", "jitter=20", "p")
    assert updated == "Updated toxic 'slow' on proxy 'p'\n"
    shown = cli("inspect", "p")
    assert re.search(r"slow\s+type=latency\s+stream=downstream\s+toxicity=1.00\s+attributes=\[", shown)
    assert "jitter=20" in shown
    assert "latency=100" in shown
    assert re.search(r"limit_data_upstream\s.*toxicity=0.50", shown)
    assert cli("toxic", "remove", "--toxicName", "slow", "p") == "Removed toxic 'slow' on proxy 'p'\n"
    assert [toxic["name"] for toxic in toxiproxy.call("GET", "/proxies/p/toxics").json()] == ["limit_data_upstream"]


def test_its_errors_are_the_servers(cli: Callable[..., str]) -> None:
    """Unknown proxies and taken names are told in the server's words."""
    cli("create", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "p")

    assert "proxy already exists" in cli("create", "--listen", "a:0", "--upstream", "b:1", "p", fails=True)
    assert "proxy not found" in cli("inspect", "q", fails=True)
    assert "invalid toxic type" in cli("toxic", "add", "--type", "x", "p", fails=True)
