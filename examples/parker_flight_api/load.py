"""A load on the service, and what became of it as JSON: for tests and game days.

The load is open: a request is due at its time whatever became of the one before, and its milliseconds count from when
it was due, so that a service that stands still cannot hide it. Half of the requests seal a booking, the others open one
that was sealed before, at another of the addresses where several are given, and compare it. With `--trace` each request
is a line of JSON as it ends; with `--open-all` all that was sealed is opened once more at the end, and compared.

Exit codes: 0 no request failed; 1 some did; 2 usage; 3 none was answered, so that nothing was learnt.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import math
import queue
import random
import string
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from kms_core import Clock, SystemClock
from parker_flight_api.ending import Ending

TIMEOUT_SECONDS = 15.0
"""More than the service takes at worst."""
KEPT = 1000
"""So many sealed bookings are remembered, to be opened."""
KEPT_ALL = 100_000
"""With `--open-all`; what is beyond is forgotten, and said."""
MISMATCH = "Mismatch"
"""What a 200 counts as that opened to something else."""
ANOTHER_BODY = "AnotherBody"
"""What a 200 counts as whose body is not in the service's form."""
_TICK_SECONDS = 0.05
_ENDS_EARLY = threading.Event()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A booking that was sealed, and what must come out again."""

    reference: str
    fields: dict[str, str]
    sealed: dict[str, str]
    address: int
    """Where; it is opened at the next one."""


@dataclass(slots=True)
class Tally:
    """What became of the requests. Any thread may add to it."""

    milliseconds: list[float] = field(default_factory=list)
    """Of the good ones."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """`200`, another status, an exception's name, `Mismatch` or `AnotherBody`."""
    trace: TextIO | None = None
    """Gets a line for each request: when it ended, its outcome, its milliseconds."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, milliseconds: float, ended_utc: datetime) -> None:
        """Count a request."""
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome == "200":
                self.milliseconds.append(milliseconds)
            if self.trace is not None:
                line = {"at_utc": ended_utc.isoformat(), "outcome": outcome, "ms": round(milliseconds, 2)}
                self.trace.write(f"{json.dumps(line)}\n")
                self.trace.flush()

    def report(self) -> dict[str, Any]:
        """Return what there is to tell."""
        requests = self.outcomes.total()
        return {
            "requests": requests,
            "failures": requests - self.outcomes["200"],
            "outcomes": dict(sorted(self.outcomes.items())),
            "p50_ms": percentile(self.milliseconds, 50),
            "p99_ms": percentile(self.milliseconds, 99),
            "max_ms": percentile(self.milliseconds, 100),
        }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that `percent` of all do not exceed; None: there are none."""
    ordered = sorted(values)
    return round(ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)], 1) if ordered else None


def exit_code(report: dict[str, Any]) -> int:
    """Return what the report means."""
    if not any(outcome.isdecimal() or outcome in {MISMATCH, ANOTHER_BODY} for outcome in report["outcomes"]):
        return 3
    return 1 if report["failures"] or report.get("opened_again", {}).get("lost") else 0


class Load:
    """Threads, each with a connection of its own to each address, that make the requests when they are due."""

    def __init__(
        self, urls: Sequence[str], fields: Sequence[str], clock: Clock, rng: random.Random, *, kept: int = KEPT
    ) -> None:
        self._addresses = [urlsplit(url) for url in urls]
        self._fields, self._clock, self._rng = fields, clock, rng
        self._due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._sealed: collections.deque[Sealed] = collections.deque(maxlen=kept)
        self.tally = Tally()

    def run(self, ending: Ending, *, rate: float, seconds: float, clients: int) -> dict[str, Any]:
        """Make `rate` requests a second for `seconds`, or until `ending` is asked for; return the report."""
        threads = [threading.Thread(target=self._serve, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        began = self._clock.monotonic()
        for number in range(math.ceil(rate * seconds)):
            at = began + number / rate
            while not ending.asked and (left := at - self._clock.monotonic()) > 0:
                self._clock.wait(_ENDS_EARLY, min(left, _TICK_SECONDS))
            if ending.asked:
                break
            self._due.put(at)
        for _ in threads:
            self._due.put(None)
        for thread in threads:
            thread.join()
        return {"seconds": round(self._clock.monotonic() - began, 1), **self.tally.report()}

    def _serve(self, number: int) -> None:
        connections = self._connect()
        while (at := self._due.get()) is not None:
            number += 1
            outcome = self._request(number, connections)
            self.tally.add(outcome, (self._clock.monotonic() - at) * 1000, self._clock.now_utc())
        for connection in connections:
            connection.close()

    def open_all(self, *, clients: int) -> dict[str, Any]:
        """Open everything that was sealed and is remembered, once more; return how many did not come out as they were.

        A booking that cannot be opened is tried once: what is lost is said, not asked for until it comes.
        """
        sealed = list(self._sealed)
        with ThreadPoolExecutor(clients) as threads:
            outcomes = sum(
                threads.map(self._all_again, (sealed[first::clients] for first in range(clients))), Counter()
            )
        lost = len(sealed) - outcomes["200"]
        return {"sealed": len(sealed), "lost": lost, "outcomes": dict(sorted(outcomes.items()))}

    def _all_again(self, sealed: Sequence[Sealed]) -> Counter[str]:
        connections = self._connect()
        outcomes = Counter(self._again(one, connections[one.address]) for one in sealed)
        for connection in connections:
            connection.close()
        return outcomes

    def _again(self, one: Sealed, connection: http.client.HTTPConnection) -> str:
        try:
            outcome, fields = _post(
                connection, "/bookings/open", {"reference": one.reference, "sealed": one.sealed}, "fields"
            )
        except (OSError, http.client.HTTPException, ValueError) as e:
            connection.close()
            return type(e).__name__
        return MISMATCH if outcome == "200" and fields != one.fields else outcome

    def _connect(self) -> list[http.client.HTTPConnection]:
        return [
            http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
            for address in self._addresses
        ]

    def _request(self, number: int, connections: Sequence[http.client.HTTPConnection]) -> str:
        address, one = number // 2 % len(connections), None
        if number % 2:
            with suppress(IndexError):
                one = self._sealed.popleft()
                address = (one.address + 1) % len(connections)
        connection = connections[address]
        try:
            return self._open(connection, one) if one else self._seal(connection, address)
        except (OSError, http.client.HTTPException, ValueError) as e:
            connection.close()  # the next request makes another
            return type(e).__name__

    def _seal(self, connection: http.client.HTTPConnection, address: int) -> str:
        reference = "".join(self._rng.choices(string.ascii_uppercase + string.digits, k=6))
        fields = {name: f"{name} {self._rng.getrandbits(64):x}" for name in self._fields}
        asked = {"reference": reference, "fields": fields}
        outcome, sealed = _post(connection, "/bookings/seal", asked, "sealed")
        if outcome == "200":
            self._sealed.append(Sealed(reference, fields, sealed, address))
        return outcome

    def _open(self, connection: http.client.HTTPConnection, one: Sealed) -> str:
        asked = {"reference": one.reference, "sealed": one.sealed}
        try:
            outcome, fields = _post(connection, "/bookings/open", asked, "fields")
        finally:
            self._sealed.append(one)  # what cannot be opened now must be openable later
        return MISMATCH if outcome == "200" and fields != one.fields else outcome


def _post(
    connection: http.client.HTTPConnection, path: str, document: object, member: str
) -> tuple[str, dict[str, str]]:
    """Return the outcome, and of a 200 the texts that are its `member`."""
    connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        return str(response.status), {}
    found = _texts(body, member)
    return (ANOTHER_BODY, {}) if found is None else ("200", found)


def _texts(body: bytes, member: str) -> dict[str, str] | None:
    """Return the texts by name that are `member` of a JSON object; None: the body is another one."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = document.get(member) if isinstance(document, dict) else None
    return found if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()) else None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _address(text: str) -> str:
    found = urlsplit(text)
    if found.scheme != "http" or not found.hostname or found.port == 0:  # `port` itself refuses what is no number
        raise ValueError(text)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the load, and print its report."""
    parser = argparse.ArgumentParser(prog="parker_flight_api.load", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--url", type=_address, action="append", help="http://HOST:PORT of the service; may be repeated"
    )
    parser.add_argument("--rate", type=_positive, default=20.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=_positive, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--clients", type=int, choices=range(1, 257), default=8, metavar="1..256", help="connections")
    parser.add_argument(
        "--fields", default="booking,passport,card", help="what a booking has, with commas (default: %(default)s)"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a line of JSON there for each request")
    parser.add_argument("--open-all", action="store_true", help="open all that was sealed once more at the end")
    asked = parser.parse_args(arguments)
    urls, kept = asked.url or ["http://127.0.0.1:3000"], KEPT_ALL if asked.open_all else KEPT
    load = Load(urls, asked.fields.split(","), SystemClock(), random.Random(), kept=kept)  # noqa: S311 - made-up bookings
    with Ending.by_signals() as ending, ExitStack() as stack:
        if asked.trace:
            load.tally.trace = stack.enter_context(asked.trace.open("w", encoding="utf-8"))
        report = load.run(ending, rate=asked.rate, seconds=asked.seconds, clients=asked.clients)
        if asked.open_all:
            report["opened_again"] = load.open_all(clients=asked.clients)
    print(json.dumps(report, indent=2))  # noqa: T201 - a command's answer
    return exit_code(report)


if __name__ == "__main__":
    sys.exit(main())
