"""Ask a running daemon whether it lives: for containers without curl, so nothing heavy is imported here."""

from __future__ import annotations

import argparse
import http.client
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:9464/livez"
TIMEOUT_SECONDS = 3.0
OK = 200


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the daemon answers that it lives, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="kms-watchdog healthcheck",
        description="Ask a running watchdog whether it lives. Exit code 0: yes; 1: no, or no answer.",
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("KMS_WATCHDOG_HEALTHCHECK_URL", DEFAULT_URL),
        help="what to ask (default: KMS_WATCHDOG_HEALTHCHECK_URL, or %(default)s)",
    )
    url = urlsplit(parser.parse_args(arguments).url)
    if url.scheme != "http" or not url.hostname:
        parser.error("--url must begin with http://")
    alive, said = ask(url.hostname, url.port or 80, url.path or "/livez")
    print(said)  # noqa: T201 - a command's answer
    return 0 if alive else 1


def ask(host: str, port: int, path: str) -> tuple[bool, str]:
    """Return whether the answer is 200, and what to say about it."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(500).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as e:
        return False, f"no answer from {host}:{port}: {e}"
    finally:
        connection.close()
    return response.status == OK, f"{response.status} {body}"
