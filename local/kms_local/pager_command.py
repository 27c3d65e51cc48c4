"""`kms-local pager`: an HTTP endpoint for SNS and Alertmanager that prints what it is told, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from kms_local.clock import SystemClock, iso_utc
from kms_local.sns.messages import MAX_MESSAGE_BYTES

_EXIT_USAGE = 2
_MAX_BODY_BYTES = 2 * MAX_MESSAGE_BYTES  # the message as JSON text, and what is told of it
_TIMEOUT_SECONDS = 5.0
_EPILOG = """\b
Example:
  kms-local pager --port 14100
  kms-alarms subscribe http://127.0.0.1:14100/
"""


@click.command("pager", epilog=_EPILOG)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, show_default="a free one", help="On 127.0.0.1.")
@click.option(
    "--url-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the endpoint's URL there once it listens.",
)
def command(port: int, url_file: Path | None) -> None:
    """Print every notification that SNS or Alertmanager's webhooks deliver, until it is stopped."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    except OSError as e:
        click.echo(f"kms-local pager: 127.0.0.1:{port}: {e.strerror}", err=True)
        sys.exit(_EXIT_USAGE)
    url = f"http://127.0.0.1:{server.server_port}/"
    click.echo(f"listening on {url}")
    if url_file is not None:
        unfinished = url_file.with_name(f"{url_file.name}.new")
        unfinished.write_text(url, encoding="utf-8")
        unfinished.replace(url_file)  # who waits for the file finds it whole
    server.serve_forever()


class Receiver(BaseHTTPRequestHandler):
    """Takes one delivery."""

    timeout = _TIMEOUT_SECONDS

    def do_POST(self) -> None:
        """Print it and say thanks."""
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= _MAX_BODY_BYTES:
            self.send_error(400)
            return
        now = iso_utc(SystemClock().now())
        for line in in_words(self.rfile.read(size)):
            click.echo(f"{now} {line}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Leave the request itself untold: what it said is on the line above."""


def in_words(body: bytes) -> Iterator[str]:
    """Return a delivery in lines: who is told, and what it says or where to confirm it. Alertmanager sends many."""
    try:
        told = json.loads(body)
        said = list(_alerts(told) if "alerts" in told else _notification(told))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = [("?", body[:200].decode("utf-8", errors="replace"))]
    for whom, what in said:
        yield " ".join(f"{whom}: {what}".split())


def _notification(told: Any) -> Iterator[tuple[str, str]]:
    yield str(told["TopicArn"]).rpartition(":")[2], told.get("SubscribeURL") or told.get("Subject") or told["Message"]


def _alerts(told: Any) -> Iterator[tuple[str, str]]:
    for alert in told["alerts"]:
        said = f"{alert['labels']['alertname']}: {alert['annotations'].get('summary', '')}"
        yield f"{told['receiver']}: {alert['status'].upper()}", said
