"""A booking service that keeps passport numbers sealed: start-up, readiness, and a graceful end, on `kms_core`."""

from __future__ import annotations

import argparse
import base64
import binascii
import http.server
import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kms_core import (
    ConfigurationError,
    Core,
    CoreConfig,
    KmsDeniedError,
    KmsUnavailableError,
    MessageError,
    SystemClock,
)
from kms_core.observers.logging import LoggingObserver

CONTEXT = {"service": "booking", "table": "passengers", "field": "passport"}
PURPOSE = "pii"
MAX_BODY_BYTES = 65_536
HEALTH_SECONDS = 10.0
"""How long an answer about readiness is good for."""

log = logging.getLogger("booking")


class Readiness:
    """Asks the core at most every ten seconds, whoever asks us how often."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._asked_at = -HEALTH_SECONDS
        self._answer: tuple[int, dict[str, Any]] = (503, {"status": "starting"})

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and document of `/health`."""
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._asked_at + HEALTH_SECONDS:
                self._answer, self._asked_at = self._ask(), now
            return self._answer

    def _ask(self) -> tuple[int, dict[str, Any]]:
        checked = self._core.self_check(timeout_seconds=5.0, purposes=[PURPOSE])  # the others are not ours to use
        status = "healthy" if checked.ok else "degraded" if checked.ready else "unhealthy"
        regions = {name: region.breaker for name, region in self._core.health().regions.items()}
        failed = [f"{trip.region}/{trip.purpose}: {trip.error_code}" for trip in checked.failed]
        document = {"status": status, "ready": checked.ready, "regions": regions, "failed": failed}
        return (200 if checked.ready else 503), document


class Service(http.server.ThreadingHTTPServer):
    """The server, with what its requests need; closing it waits for those that are under way."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], core: Core) -> None:
        super().__init__(address, Handler)
        self.core = core
        self.readiness = Readiness(core)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Service
    timeout = 10  # for a client that says nothing more: it must not hold up the end

    def do_GET(self) -> None:
        """Answer `/health`."""
        if self.path == "/health":
            status, document = self.server.readiness.answer()
            self._answer(status, json.dumps(document).encode())
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        """Seal or open a passport number; each error of the core becomes what its caller can act on."""
        length = int(self.headers.get("Content-Length", "0"))
        if not 0 <= length <= MAX_BODY_BYTES:
            self._answer(413, b"")
            return
        try:
            self._answer(200, self._convert(self.rfile.read(length)))
        except LookupError:
            self._answer(404, b"")
        except (MessageError, binascii.Error):
            self._answer(422, b"not a passport that was sealed here")
        except KmsUnavailableError as error:
            log.warning("no region answers: %s", error)
            self._answer(503, b"try again later")
        except KmsDeniedError:
            log.exception("KMS denies: somebody must look")
            self._answer(500, b"")

    def _convert(self, body: bytes) -> bytes:
        core = self.server.core
        if self.path == "/passports":
            return base64.b64encode(core.encrypt(body, purpose=PURPOSE, context=CONTEXT))
        if self.path == "/passports/open":
            return core.decrypt(base64.b64decode(body, validate=True), purpose=PURPOSE, context=CONTEXT)
        raise LookupError(self.path)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Leave access logs to who stands before us; bodies are never logged."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; 2 when the configuration is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--config", type=Path, help="TOML file; the environment when not given")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    try:
        config = CoreConfig.from_toml(asked.config) if asked.config else CoreConfig.from_env()
        core = Core(config, LoggingObserver())
    except (ConfigurationError, KmsDeniedError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 - the sentence is what helps, not the trace
        return 2
    with core, Service(("127.0.0.1", asked.port), core) as service:
        _warm(core)
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.shutdown).start())
        log.info("listening on %s", service.server_address[1])
        service.serve_forever(0.1)  # then requests that are under way end, and the core closes last
    return 0


def _warm(core: Core) -> None:
    """Fetch the first data key before the first customer waits for it; an outage at the start stops nothing."""
    try:
        core.warm_up({PURPOSE: [CONTEXT]})
    except (KmsUnavailableError, KmsDeniedError) as error:
        log.warning("not warm: %s", error)


if __name__ == "__main__":
    sys.exit(main())
