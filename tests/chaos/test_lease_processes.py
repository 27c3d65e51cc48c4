"""The lease between real processes that are frozen and killed: whoever lost it writes nothing any more."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from lease_kit import ESTATE, TABLE, dynamo, make_table, row
from lease_worker import note_of
from moto.server import ThreadedMotoServer
from waiting import wait_until

from kms_chaos.halt import Halt
from kms_core import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SUPPORT = Path(__file__).parents[1] / "support"
CLOCK, NEVER = SystemClock(), threading.Event()
SECONDS = 20.0

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A DynamoDB that processes share: moto keeps conditions and transactions atomic between them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    try:
        found = boto3.client("dynamodb", region_name="us-west-1")
        make_table(found)
        yield found
        found.delete_table(TableName=TABLE)  # moto's tables are the process's, not the server's
        found.close()
    finally:
        server.stop()


@pytest.fixture
def start(client: Any) -> Iterator[Start]:
    """Return what starts a process; those that are left at the end are ended."""
    started: list[subprocess.Popen[bytes]] = []

    def one(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen([sys.executable, str(SUPPORT / "lease_worker.py"), *arguments], stdout=subprocess.DEVNULL)
        )
        return started[-1]

    yield one
    for process in started:
        process.kill()  # also one that is stopped
        process.wait()


def is_stopped(process: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("mode", ["honest", "forced"])
def test_a_holder_frozen_between_check_and_act_is_fenced(client: Any, start: Start, mode: str) -> None:
    """By its own clock, and where that check is forced open, by the table: its successor's row stays."""
    frozen = start("frozen", mode)
    wait_until(lambda: is_stopped(frozen), says="the holder is frozen", seconds=30)
    successor = dynamo(client, CLOCK, "successor", ttl_seconds=5.0)
    successor.acquire(Halt())
    successor.record_fault(note_of(successor, "successor"))

    frozen.send_signal(signal.SIGCONT)

    assert frozen.wait(30) == 0, "the frozen holder wrote"
    assert row(client, f"fault#{ESTATE}")["run"] == "successor"
    successor.renew()


def test_freezing_and_killing_at_random_breaks_no_promise(start: Start, tmp_path: Path) -> None:
    """Three workers: tokens only grow, no slot is started twice, nobody who lost the lease acts."""
    log, rng = tmp_path / "log.ndjson", random.Random(4)
    end = CLOCK.monotonic() + SECONDS
    workers = [start("worker", str(log), str(SECONDS)) for _ in range(3)]
    wait_until(log.exists, says="somebody starts", seconds=30)
    stops = kills = 0
    while CLOCK.monotonic() < end - 4:
        CLOCK.wait(NEVER, rng.uniform(0.6, 1.2))
        victim = next((w for w in workers if w.pid == told(log)[-1]["pid"]), workers[0])
        if rng.random() < 0.75:
            victim.send_signal(signal.SIGSTOP)
            CLOCK.wait(NEVER, rng.uniform(2.2, 2.8))
            victim.send_signal(signal.SIGCONT)
            stops += 1
        else:
            victim.kill()
            victim.wait()
            workers[workers.index(victim)] = start("worker", str(log), str(max(1.0, end - CLOCK.monotonic())))
            kills += 1
    for process in workers:
        process.wait(60)

    events = told(log)
    starts = [e for e in events if e["event"] == "start"]
    tokens, slots = [e["token"] for e in starts], [e["slot"] for e in starts]
    print(f"{stops} stops, {kills} kills, {len(starts)} drills, {sum(e['event'] == 'fenced' for e in events)} fenced")
    assert stops + kills >= 3
    assert len(starts) >= 4
    assert len(set(tokens)) == len(tokens)
    assert [e["token"] for e in sorted(starts, key=lambda e: int(e["slot"][2:]))] == sorted(tokens)
    assert len(set(slots)) == len(slots)
    assert {e["event"] for e in events} <= {"start", "act", "fenced"}


def told(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_bytes().splitlines()]


def test_the_file_lease_dies_with_its_holder(tmp_path: Path) -> None:
    """SIGKILL frees the lock at once; the token goes on."""
    hold = (
        "import sys, pathlib; from kms_chaos.lease_file import FileLease; from kms_chaos.halt import Halt\n"
        "lease = FileLease(pathlib.Path(sys.argv[1])); lease.acquire(Halt()); print(lease.token, flush=True)\n"
        "sys.stdin.read()"
    )
    for number in (1, 2, 3):
        with subprocess.Popen(
            [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"%d\n" % number
            os.kill(other.pid, signal.SIGKILL)
