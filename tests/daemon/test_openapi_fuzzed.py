"""Schemathesis holds a running daemon to `docs/api/openapi.json`: requests that it makes up, of every operation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from running_daemon import Start, config, provisioned, start
from waiting import wait_until

pytestmark = pytest.mark.slow

__all__ = ["config", "provisioned", "start"]

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".state/interop/api/bin/st"
TOKEN = "a-token-that-nobody-guesses"
FEW = ("--max-examples", "12", "--seed", "1", "--workers", "1", "--no-color", "--generation-deterministic")
OUR_PAGE = ("--header", "Sec-Fetch-Site: same-origin")
GUESSES = "ignored_auth"
"""Ten wrong tokens, and none of this address counts for a minute: who is refused is tested in test_openapi.py."""


def fuzz(url: str, folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [SCHEMATHESIS, "run", ROOT / "docs/api/openapi.json", "--url", url, "--checks", "all", *FEW, *arguments],
        capture_output=True, text=True, timeout=400, check=False, cwd=folder, env={**os.environ, "CI": "false"},
    )  # fmt: skip
    print(done.stdout[-700:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_a_running_daemon_keeps_what_its_document_promises(start: Start, config: Path, tmp_path: Path) -> None:
    """No error of its own, no code, type, header or body that is not told; methods that a path has not are refused."""
    if not SCHEMATHESIS.exists():
        pytest.skip("no Schemathesis: make .state/interop/api/.made puts it up")
    daemon = start(config, KMS_WATCHDOG__HTTP__TOKEN=TOKEN)
    wait_until(lambda: daemon.get("/health")[0] == 200, says="it is green")

    fuzz(
        daemon.url, tmp_path, "--exclude-path", "/login", "--exclude-checks", GUESSES,
        "--header", f"Authorization: Bearer {TOKEN}", *OUR_PAGE,
    )  # fmt: skip
    exclude = f"{GUESSES},negative_data_rejection"  # to 429, the answer to the eleventh guess, it objects
    fuzz(daemon.url, tmp_path, "--include-path", "/login", "--exclude-checks", exclude, *OUR_PAGE)

    assert daemon.get("/livez")[0] == 200
    assert daemon.events("http.failed") == []
    assert daemon.stop() == 0
