"""Show the canaries turn green: a table on a terminal, a line a change where output is piped."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from kms_core.clock import Clock
from kms_local.demo.stage import StageError

GREEN_SECONDS = 45.0
_LOOK_SECONDS = 0.25
_CELLS = {"up": "[green]● OK[/]", "down": "[red]● FAILED[/]"}
_NOT_YET = "[dim]○ …[/]"


def wait_until_green(console: Console, url: str, clock: Clock, check: Callable[[], None]) -> None:
    """Wait until the daemon says healthy, showing each canary's state meanwhile.

    Raises:
        StageError: not healthy in time; whatever `check` raises, which is called at every look.
    """
    deadline, never, said = clock.monotonic() + GREEN_SECONDS, threading.Event(), ""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            check()
            status = _status(url)
            if console.is_terminal:
                live.update(_table(status), refresh=True)
            elif (line := _line(status)) != said:
                console.print(said := line)
            if status.get("status") == "healthy":
                return
            if clock.monotonic() > deadline:
                raise StageError(f"not healthy after {GREEN_SECONDS:.0f} s: {status.get('reasons')}")
            clock.wait(never, _LOOK_SECONDS)


def _status(url: str) -> Mapping[str, Any]:
    """Return the daemon's status document; empty while it does not answer yet."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", "/api/v1/status")
        answer = connection.getresponse()
        document: Mapping[str, Any] = json.loads(answer.read()) if answer.status == http.client.OK else {}
    except (OSError, http.client.HTTPException):
        return {}
    else:
        return document
    finally:
        connection.close()


def _round_trips(status: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    looks = (canary for canary in status.get("canaries", []) if canary["canary"] == "round_trip")
    return {(canary["region"], canary["key"]): canary["state"] for canary in looks}


def _by_kind(status: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return by kind how many are up, and how many there are."""
    counts: dict[str, tuple[int, int]] = {}
    for canary in status.get("canaries", []):
        up, of = counts.get(canary["canary"], (0, 0))
        counts[canary["canary"]] = (up + (canary["state"] == "up"), of + 1)
    return counts


def _table(status: Mapping[str, Any]) -> Group:
    """Return the round trips as a matrix, and the other kinds as a count each."""
    states = _round_trips(status)
    keys = list(dict.fromkeys(key for _, key in states))
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("region", *keys):
        table.add_column(heading)
    for region in dict.fromkeys(region for region, _ in states):
        table.add_row(region, *(_CELLS.get(states.get((region, key), ""), _NOT_YET) for key in keys))
    others = Table(box=None, padding=(0, 2), show_header=False)
    for kind, (up, of) in _by_kind(status).items():
        if kind != "round_trip":
            others.add_row(kind.replace("_", " "), f"[{'green' if up == of else 'dim'}]{up} of {of} OK[/]")
    return Group(table, "", others)


def _line(status: Mapping[str, Any]) -> str:
    counts = _by_kind(status).values()
    return f"  {sum(up for up, _ in counts)} of {sum(of for _, of in counts)} canaries OK"
