"""Where a request goes is the configuration's: neither a file of the state folder nor an answer leads elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_server import Canary, listening
from click.testing import CliRunner

from kms_watchdog.cli import command
from kms_watchdog.deadman import Switch
from kms_watchdog.receivers import UndeliveredError, Webhook
from kms_watchdog.status_client import is_of_this_machine, running_url


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listening() as found:
        yield found


class _Told:
    subject = "a drill"
    text = "{}"


def test_a_switch_that_is_moved_is_not_followed(canary: Canary) -> None:
    """It counts as refused: the operator hears of it, and the address that an answer named is not asked."""
    with listening(redirect_to=f"http://127.0.0.1:{canary.port}/elsewhere") as moved:
        result = Switch(url=f"http://127.0.0.1:{moved.port}/ping").ping()

    assert (result, moved.asked, canary.asked) == ("refused", ["GET /ping"], [])


def test_a_webhook_that_is_moved_is_not_followed(canary: Canary) -> None:
    """Nor is a webhook."""
    with (
        listening(redirect_to=f"http://127.0.0.1:{canary.port}/elsewhere") as moved,
        pytest.raises(UndeliveredError, match="302"),
    ):
        Webhook(f"http://127.0.0.1:{moved.port}/hook").send(_Told())

    assert canary.asked == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://203.0.113.7:9464", id="another-machine"),
        pytest.param("https://127.0.0.1:9464", id="tls-which-the-daemon-has-not"),
        pytest.param("http://2130706433:9464", id="a-number"),
        pytest.param("http://localhost:9464", id="a-name"),
        pytest.param("http://127.0.0.1:9464@203.0.113.7:80", id="user-part"),
        pytest.param("http://127.0.0.1", id="no-port"),
        pytest.param("http://127.0.0.1:99999", id="no-such-port"),
        pytest.param("http://224.0.0.1:9464", id="multicast"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("http://[::1", id="torn"),
        pytest.param({"a": 1}, id="no-text"),
    ],
)
def test_a_daemon_elsewhere_is_none(tmp_path: Path, url: Any) -> None:
    """The daemon writes an address of its own machine, in digits, with a port."""
    path = tmp_path / "http.json"
    path.write_text(json.dumps({"url": url}))

    assert running_url(path) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9464", "http://[::1]:9464", "http://0.0.0.0:9464"])
def test_a_daemon_here_is_found(tmp_path: Path, url: str) -> None:
    """On loopback, and where it listens on every address."""
    path = tmp_path / "http.json"
    path.write_text(json.dumps({"url": url}))

    assert running_url(path) == url or not is_of_this_machine("::1"), "a machine without IPv6 has no ::1"


@pytest.mark.parametrize("arguments", [("status",), ("checklist",)], ids=" ".join)
def test_no_command_asks_where_the_state_folder_leads(
    write_config: Callable[..., Path], canary: Canary, arguments: tuple[str, ...]
) -> None:
    """Nor shows the token there."""
    config = write_config("[http]\ntoken = 'a-token-that-nobody-guesses'\nlisten = '127.0.0.1:0'\n")
    state = config.parent / "state"
    state.mkdir(exist_ok=True)
    (state / "http.json").write_text(json.dumps({"url": f"http://{canary.digits}"}))

    CliRunner().invoke(command, [*arguments, "--config", str(config)])

    assert canary.asked == []
