"""The lease between real processes that are frozen and killed: whoever lost it writes nothing any more.

The full run of the torture is `python tests/torture leases`. KMS_WATCHDOG_LEASE_SEED chooses another seed,
KMS_WATCHDOG_ACQUISITIONS another number.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lease_kit import ESTATE, client_of, dynamo, row
from lease_rounds import torment
from lease_table import lease_table
from lease_worker import note_of
from waiting import wait_until

from kms_chaos.halt import Halt
from kms_core import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1200)]

SUPPORT = Path(__file__).parents[1] / "support"
CLOCK = SystemClock()
ACQUISITIONS = int(os.environ.get("KMS_WATCHDOG_ACQUISITIONS", "30"))
SEED = int(os.environ.get("KMS_WATCHDOG_LEASE_SEED", "20261201"))

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def client() -> Iterator[Any]:
    """A DynamoDB that processes share: moto keeps conditions and transactions atomic between them."""
    with lease_table():
        found = client_of()
        yield found
        found.close()


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
    wait_until(lambda: is_stopped(frozen), says="the holder is frozen")
    successor = dynamo(client, CLOCK, "successor", ttl_seconds=5.0)
    successor.acquire(Halt())
    successor.record_fault(note_of(successor, "successor"))

    frozen.send_signal(signal.SIGCONT)

    assert frozen.wait(30) == 0, "the frozen holder wrote"
    assert row(client, f"fault#{ESTATE}")["run"] == "successor"
    successor.renew()


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


def test_freezing_and_killing_at_random_breaks_no_promise(tmp_path: Path) -> None:
    """Four processes that want the lease; the table itself is the witness."""
    with torment(tmp_path, seed=SEED) as run:
        run.run(ACQUISITIONS)

    figures = run.figures
    print(figures.to_json())
    assert figures.findings == ()
    assert figures.acquisitions >= ACQUISITIONS
    assert figures.freezes + figures.kills >= 3
    assert figures.takeovers >= 1
    assert figures.slots >= ACQUISITIONS // 2


def test_who_does_not_wait_for_a_silent_holder_is_found_out(tmp_path: Path) -> None:
    """The same torture of a lease that takes whatever it finds: else it would find nothing in any."""
    with torment(tmp_path, seed=SEED, mode="hasty") as run:
        run.run(8)

    assert run.figures.overlaps > 0
    assert run.figures.stale_writes == 0  # the table's conditions hold whoever asks
