"""The drill's own requests to a service beside KMS: through its own proxies, to see the fault there, and only there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from kms_chaos.tape import Tape
from kms_core.clock import Clock
from kms_watchdog import aws

READ_TIMEOUT_SECONDS = 1.5
_EVERY_SECONDS = 1.0
_END_SECONDS = 10.0
_CODES: Mapping[str, str] = {
    "ConnectTimeoutError": "ConnectTimeout",
    "ReadTimeoutError": "ReadTimeout",
    "EndpointConnectionError": "ConnectionRefused",
    "ConnectionClosedError": "ConnectionReset",
}
"""What the core calls them (`kms_core.taxonomy`), by botocore's class."""
ASK: Mapping[str, Callable[[Any], object]] = {
    "cloudwatch": lambda client: client.describe_alarms(MaxRecords=1),
    "sts": lambda client: client.get_caller_identity(),
}
"""What each is asked: what any drill may ask, and nothing that changes anything."""


class ServiceProbes:
    """One thread a service and region asks again and again; each answer goes onto the tape as `service-attempt`."""

    def __init__(
        self, clients: Mapping[tuple[str, str], Any], proxies: Mapping[tuple[str, str], str], tape: Tape, clock: Clock
    ) -> None:
        """`clients` and the names of their `proxies` are by service and region."""
        self._clients, self._proxies = clients, proxies
        self._tape, self._clock = tape, clock
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=where, name=f"probe-{'-'.join(where)}", daemon=True)
            for where in clients
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the request that each is at."""
        self._stop.set()
        until = self._clock.monotonic() + _END_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - self._clock.monotonic()))

    def _ask_on(self, service: str, region: str) -> None:
        client, ask = self._clients[service, region], ASK[service]
        while not self._stop.is_set():
            began, error = self._clock.monotonic(), ""
            try:
                ask(client)
            except aws.AwsError as e:
                error = _CODES.get(code := aws.error_code(e), code)
            self._tape.record(
                "service-attempt",
                service=service,
                region=region,
                seconds=round(self._clock.monotonic() - began, 6),
                error_code=error,
                proxy=self._proxies[service, region],
            )
            self._clock.wait(self._stop, _EVERY_SECONDS)
