"""What a caller feels when a region is lost: the core, bare boto3, and `aws-encryption-sdk` with two regions.

Every call has a context of its own, so that each one needs KMS: a cached data key would hide the outage altogether.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aws_encryption_sdk import CommitmentPolicy, EncryptionSDKClient
from aws_encryption_sdk.key_providers.kms import KMSMasterKey

from benchmarks.aws_servers import let_in
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.local_aws import FAULTS, REGIONS, TARGET, LocalAws, local_aws, within
from benchmarks.table import Cell, Table
from kms_core import Core, KmsCoreError
from kms_core.clock import SystemClock
from kms_core.events import Attempt, BreakerMoved, Event

CALLS = 5
THREADS = 64
_CLOCK = SystemClock()
_SDK = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
_numbers = itertools.count()
_HEALED_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Notes:
    """When the target's breaker opened, and when the target answered."""

    def __init__(self) -> None:
        self.opened_after: int | None = None
        self.cause = ""
        self.calls = 0
        self.answered = threading.Event()

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""
        match event:
            case BreakerMoved(region=region, new="open") if region == TARGET and self.opened_after is None:
                self.opened_after, self.cause = self.calls, event.cause
            case Attempt(region=region, error_code="") if region == TARGET:
                self.answered.set()
            case _:
                pass


BENCHMARK = Benchmark(
    title="A region is lost",
    section=Section.CORE,
    goals=(
        "no call of the core fails, whatever the fault in the preferred region",
        f"nor any of {THREADS} threads from the moment it falls silent",
    ),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0, 1), value=2, title="the first call, ms", ours="kms_core", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure each fault, and the tail of 64 threads after a region is lost."""
    logging.getLogger("aws_encryption_sdk").setLevel(logging.CRITICAL)  # it logs what it raises
    with local_aws() as aws, let_in(aws.document["credentials"]):
        return (
            _faults(
                aws,
                size.pick(quick=("refused", "silent"), normal=FAULTS, full=FAULTS),
                open_seconds=size.pick(quick=0.5, normal=1.0, full=5.0),
                cap=size.pick(quick=1.0, normal=3.0, full=20.0),
            ),
            _tail(aws, seconds=size.pick(quick=4.0, normal=5.0, full=60.0)),
        )


def _context() -> dict[str, str]:
    return {"number": str(next(_numbers))}


def _faults(aws: LocalAws, faults: Sequence[str], *, open_seconds: float, cap: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    missed: list[str] = []
    for fault in faults:
        ours, errors = _core_under(aws, fault, open_seconds)
        rows.append(ours)
        if fault == "+600 ms":
            rows.append(_core_under(aws, fault, open_seconds, slow_call_seconds=0.3)[0])
        rows += [_peer_under(aws, fault, name, make, cap) for name, make in (("boto3", _boto3), ("SDK", _sdk))]
        if errors:
            missed.append(f"{fault}: {errors} of {CALLS} calls of the core failed; the goal is 0")
    return Table(
        title="A region is lost: the first five calls",
        columns=("fault", "who", *(f"call {n + 1}, ms" for n in range(CALLS)), "errors", "breaker", "back after, s"),
        rows=tuple(rows),
        notes=(
            "`breaker`: which call it opened in, and why. `back after`: from healing to the region's next answer.",
            f"The core keeps its defaults, but for a breaker that stays open {open_seconds:g} s at first.",
            "boto3: one region and its defaults. SDK: aws-encryption-sdk, one master key in each of two regions.",
            (
                f"Peers' calls are given {cap:g} s, then counted as an error and shown as `>`; boto3's own limit in a"
                " silent region is 180 s. After two such calls the rest is left out."
            ),
            (
                "Local servers: no distance between regions. Silent, reset, refused and +600 ms come from Toxiproxy on"
                " warm connections; the others from botocore's own hook, before the request is sent."
            ),
        ),
        missed=tuple(missed),
    )


def _core_under(aws: LocalAws, fault: str, open_seconds: float, **changes: float) -> tuple[tuple[Cell, ...], int]:
    notes = Notes()
    config = aws.config(breaker_open_seconds=open_seconds, **changes)
    with Core(config, notes, on_client=aws.detour.attach) as core:
        core.warm_up()
        times: list[Cell] = []
        errors = 0
        with aws.fault(fault):
            for _ in range(CALLS):
                notes.calls += 1
                seconds, ok = _timed(lambda: core.encrypt(b"x", purpose="general", context=_context()))
                times.append(round(seconds * 1000))
                errors += not ok
        back = _back_after(core, notes)
    breaker = f"call {notes.opened_after}, {notes.cause}" if notes.opened_after else "stayed closed"
    who = ", ".join(("kms_core", *(f"{name} {value:g}" for name, value in changes.items())))
    return (fault, who, *times, errors, breaker, back), errors


def _timed(call: Callable[[], object]) -> tuple[float, bool]:
    began = _CLOCK.monotonic()
    try:
        call()
    except KmsCoreError:
        return _CLOCK.monotonic() - began, False
    return _CLOCK.monotonic() - began, True


def _back_after(core: Core, notes: Notes) -> Cell:
    """Return the seconds from now until the target answers a call again."""
    notes.answered.clear()
    began = _CLOCK.monotonic()
    pause = threading.Event()
    while _CLOCK.monotonic() - began < _HEALED_SECONDS:
        core.encrypt(b"x", purpose="general", context=_context())
        if notes.answered.is_set():
            return round(_CLOCK.monotonic() - began, 2)
        pause.wait(_POLL_SECONDS)
    return None


Peer = Callable[[LocalAws], tuple[Callable[[], object], Callable[[], None]]]


def _boto3(aws: LocalAws) -> tuple[Callable[[], object], Callable[[], None]]:
    client = aws.client(TARGET)
    arn = _arn(aws, TARGET)
    return lambda: _believed(client.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=_context())), (
        client.close
    )


def _believed(reply: dict[str, Any]) -> bytes:
    """Return the key, which a careful caller of boto3 would look for: a cut answer has none and is no error there."""
    return bytes(reply["Plaintext"])


def _sdk(aws: LocalAws) -> tuple[Callable[[], object], Callable[[], None]]:
    clients = [aws.client(region) for region in REGIONS[:2]]
    first, second = (
        KMSMasterKey(key_id=_arn(aws, region), client=client)
        for region, client in zip(REGIONS[:2], clients, strict=True)
    )
    first.add_master_key_provider(second)

    def close() -> None:
        for client in clients:
            client.close()

    return lambda: _SDK.encrypt(source=b"x", key_provider=first, encryption_context=_context()), close


def _arn(aws: LocalAws, region: str) -> str:
    return f"arn:aws:kms:{region}:{aws.document['account_id']}:key/{aws.key_id}"


def _peer_under(aws: LocalAws, fault: str, name: str, make: Peer, cap: float) -> tuple[Cell, ...]:
    call, close = make(aws)
    call()  # a warm connection, as the core has
    cells: list[Cell] = []
    errors = hung = 0
    with aws.fault(fault):
        while len(cells) < CALLS and hung < 2:  # noqa: PLR2004 - see the table's notes
            began = _CLOCK.monotonic()
            outcome = within(cap, call)
            milliseconds = round((_CLOCK.monotonic() - began) * 1000)
            cells.append(milliseconds if outcome is not False else f">{milliseconds}")
            errors += outcome is not True
            hung += outcome is False
    if not hung:
        close()  # one that hangs still uses its connection; it ends by itself
    cells += [None] * (CALLS - len(cells))
    return (fault, name, *cells, errors, None, None)


def _tail(aws: LocalAws, *, seconds: float, threads: int = THREADS) -> Table:
    """Measure calls of many threads from the moment at which the target falls silent."""
    times: list[float] = []
    errors: list[str] = []
    ending = threading.Event()
    with Core(aws.config(), on_client=aws.detour.attach) as core:
        core.warm_up()
        shared = [_context() for _ in range(100)]

        def work(seed: int) -> None:
            for number in itertools.count(seed):
                if _CLOCK.wait(ending, 0.05):
                    return
                context = _context() if number % 20 == 0 else shared[number % len(shared)]
                took, ok = _timed(lambda context=context: core.encrypt(b"x", purpose="general", context=context))  # type: ignore[misc]
                times.append(took)
                if not ok:
                    errors.append("error")

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
        with aws.fault("silent"):
            for worker in workers:
                worker.start()
            _CLOCK.wait(threading.Event(), seconds)
            ending.set()
            for worker in workers:
                worker.join()
    times.sort()
    p50, p99 = (round(times[int(len(times) * share)] * 1000, 2) for share in (0.5, 0.99))
    return Table(
        title=f"{threads} threads, {seconds:g} s from the moment a region falls silent",
        columns=("calls", "errors", "p50, ms", "p99, ms", "max, ms"),
        rows=((len(times), len(errors), p50, p99, round(times[-1] * 1000, 2)),),
        notes=("One call in twenty has a context of its own and needs KMS; the others share a hundred contexts.",),
        missed=(f"{len(errors)} calls failed; the goal is 0",) if errors else (),
    )
