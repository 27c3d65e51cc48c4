"""The example service starts, is ready, seals and opens, tells errors apart, and ends on SIGTERM."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

SERVICE = Path(__file__).parents[2] / "examples" / "booking_service.py"


def _configuration(local_aws: Any, folder: Path) -> Path:
    endpoints = "\n".join(f'[endpoints.{region}]\nkms = "{url}"' for region, url in local_aws.endpoints.items())
    file = folder / "service.toml"
    file.write_text(
        f"""
[estate]
account_id = "123456789012"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
ca_bundle = "{local_aws.ca_bundle}"
[keys.pii]
alias = "alias/general"
{endpoints}
"""
    )
    return file


@pytest.fixture
def service(local_aws: Any, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = os.environ | {name.upper(): value for name, value in local_aws.credentials.items()}
    command = [sys.executable, str(SERVICE), "--port", "0", "--config", str(_configuration(local_aws, tmp_path))]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"listening on (\d+)", line):
                yield process, f"http://127.0.0.1:{found[1]}"
                break
        process.terminate()
        process.stderr.read()


def _ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, body, timeout=20) as reply:  # noqa: S310 - http, on loopback
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_day_in_its_life(service: tuple[subprocess.Popen[str], str]) -> None:
    """From readiness to SIGTERM."""
    process, url = service

    status, health = _ask(f"{url}/health")
    assert (status, b'"healthy"' in health) == (200, True)

    status, sealed = _ask(f"{url}/passports", b"X1234567")
    assert status == 200
    assert b"X1234567" not in sealed
    assert _ask(f"{url}/passports/open", sealed) == (200, b"X1234567")
    assert _ask(f"{url}/passports/open", sealed[:-8] + b"AAAAAAA=")[0] == 422
    assert _ask(f"{url}/passports/open", b"no base64!")[0] == 422
    assert _ask(f"{url}/elsewhere", b"")[0] == 404

    process.terminate()
    assert process.wait(20) == 0


def test_a_request_that_is_under_way_is_answered_after_sigterm(service: tuple[subprocess.Popen[str], str]) -> None:
    """Its body comes late; and a length that cannot be is refused."""
    process, url = service
    where = urlsplit(url)
    with socket.create_connection((str(where.hostname), where.port or 0), timeout=20) as client:
        client.sendall(b"POST /passports HTTP/1.0\r\nContent-Length: -1\r\n\r\n")
        assert b" 413 " in client.recv(1024)
    with socket.create_connection((str(where.hostname), where.port or 0), timeout=20) as client:
        client.sendall(b"POST /passports HTTP/1.0\r\nContent-Length: 8\r\n\r\n")
        assert _ask(f"{url}/health")[0] == 200  # came later, so the other one has been accepted

        process.terminate()
        client.sendall(b"X1234567")

        assert b" 200 " in client.recv(1024)
    assert process.wait(20) == 0


def test_a_wrong_configuration_ends_it_at_once() -> None:
    """With exit code 2 and the variable's name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KMS_"))}

    ended = subprocess.run(
        [sys.executable, str(SERVICE)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 2
    assert "AWS_ACCOUNT_ID is not set" in ended.stderr
