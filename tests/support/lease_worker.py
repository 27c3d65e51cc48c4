"""Processes that want the drill lease, for a test that freezes and kills them: `worker LOG SECONDS` or `frozen MODE`.

DynamoDB is where AWS_ENDPOINT_URL_DYNAMODB says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from datetime import timedelta

import boto3
from botocore.config import Config
from lease_kit import dynamo

from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError
from kms_chaos.lease_dynamo import DynamoLease
from kms_core import SystemClock

CLOCK, NEVER = SystemClock(), threading.Event()
FENCED, WROTE = 0, 1


def lease_for(run_id: str, ttl_seconds: float) -> DynamoLease:
    """Return a lease with a client of this process's own."""
    once = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1})
    return dynamo(boto3.client("dynamodb", region_name="us-west-1", config=once), CLOCK, run_id, ttl_seconds)


def note_of(lease: DynamoLease, run_id: str) -> FaultNote:
    """Return what a drill notes of itself."""
    return FaultNote(run_id=run_id, host="h", token=lease.token, expires_at_utc=CLOCK.now_utc() + timedelta(seconds=60))


def frozen(mode: str) -> int:
    """Stop between check and act; on waking, act. `forced`: with the local check out of the way."""
    lease = lease_for("frozen", 1.0)
    lease.acquire(Halt())
    lease.renew()
    lease.check()
    os.kill(os.getpid(), signal.SIGSTOP)
    if mode == "forced":
        lease._deadline = float("inf")
    try:
        lease.record_fault(note_of(lease, "frozen"))
    except FencedError as e:
        print(e)
        return FENCED
    return WROTE


def worker(log: str, seconds: float) -> int:
    """Take the lease, start the next slot, act some times, give it back; again until the time is over."""
    end, rng, run = CLOCK.monotonic() + seconds, random.Random(os.getpid()), 0
    while CLOCK.monotonic() < end:
        run += 1
        lease = lease_for(f"{os.getpid()}-{run}", 2.0)
        try:
            while not lease.try_acquire():
                if CLOCK.monotonic() > end:
                    return 0
                CLOCK.wait(NEVER, 0.1)
            slot = next(name for name in (f"s/{n:04}" for n in range(9999)) if lease.claim_slot(name))
            tell(log, "start", lease, slot)
            for _ in range(5):
                CLOCK.wait(NEVER, 0.15)
                lease.renew()
                CLOCK.wait(NEVER, rng.uniform(0, 0.03))
                lease.record_fault(note_of(lease, slot))
                tell(log, "act", lease, slot)
            lease.release()
        except FencedError:
            tell(log, "fenced", lease, "")
        except LeaseUnreachableError as e:
            tell(log, str(e), lease, "")
    return 0


def tell(log: str, event: str, lease: DynamoLease, slot: str) -> None:
    """Append a line, whole or not at all."""
    line = {"event": event, "token": lease.token, "slot": slot, "pid": os.getpid(), "at": CLOCK.monotonic()}
    handle = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)


if __name__ == "__main__":
    sys.exit(frozen(sys.argv[2]) if sys.argv[1] == "frozen" else worker(sys.argv[2], float(sys.argv[3])))
