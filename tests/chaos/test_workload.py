"""The drill's own traffic over a fake estate: two lanes, every operation told, every message kept and checked."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
from waiting import wait_until

from kms_chaos import ledger
from kms_chaos.canaries import CanaryRounds
from kms_chaos.drill_parts import Load
from kms_chaos.ledger import Ledger, Sealed, another_context
from kms_chaos.metronome import LATE_SECONDS, TICK_SECONDS
from kms_chaos.testing import REGIONS, RUN_ID, TARGET
from kms_chaos.witness import Witness
from kms_chaos.workload import LANES, Workload, region_of, schedule
from kms_core import Core, CoreConfig, KeyConfig, SystemClock
from kms_core.testing import FakeEstate, core_over

PURPOSES = ("general", "pii")
OTHERS = REGIONS[1:]


@dataclass
class FakeTape:
    """Keeps what it is told."""

    told: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    wanted: int = 1 << 30

    def record(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields))
        if len(self.told) >= self.wanted:
            self.enough.set()

    record_now = record

    def of(self, event: str) -> list[Mapping[str, Any]]:
        return [fields for name, fields in list(self.told) if name == event]


@pytest.fixture
def tape() -> FakeTape:
    return FakeTape()


@pytest.fixture
def estate() -> FakeEstate:
    made = FakeEstate(REGIONS)
    for purpose in PURPOSES:
        made.create_key(f"alias/{purpose}")
    return made


@pytest.fixture
def witness(tape: FakeTape) -> Witness:
    return Witness(tape, {region: f"kmswd.test.{region}" for region in REGIONS})


@pytest.fixture
def core(estate: FakeEstate, witness: Witness) -> Iterator[Core]:
    config = CoreConfig(
        account_id=estate.account_id,
        regions=REGIONS,
        home_region=TARGET,
        keys={purpose: KeyConfig(alias=f"alias/{purpose}") for purpose in PURPOSES},
    )
    with core_over(estate, config, observer=witness) as made:
        yield made


def seal(core: Core, number: int, context: Mapping[str, str] | None = None) -> Sealed:
    context = context or {"canary": "true", "operation": str(number)}
    plaintext = f"plaintext {number}".encode()
    message = core.encrypt(plaintext, purpose="general", context=context)
    return Sealed(id=number, lane="cold", purpose="general", context=context, message=message, plaintext=plaintext)


def test_the_schedule_mixes_lanes_operations_and_purposes_evenly() -> None:
    """An operation every 1/rate seconds, whatever became of the one before."""
    found = list(islice(schedule(Load(operations_per_second=10), PURPOSES, 100.0), 16))

    assert [due.at for due in found[:3]] == pytest.approx([100.0, 100.1, 100.2])
    for key in ("lane", "operation", "purpose"):
        values = [getattr(due, key) for due in found]
        assert {values.count(value) for value in set(values)} == {8}


def test_every_operation_is_told_with_who_served_it(core: Core, witness: Witness, tape: FakeTape) -> None:
    """Warm ones come from the cache after the first; cold ones ask KMS each time; all are counted in the end."""
    tape.wanted = 150
    workload = Workload(
        core, witness, Ledger(), tape, SystemClock(), random.Random(1),
        load=Load(operations_per_second=400, concurrency=2), purposes=PURPOSES, run_id=RUN_ID,
    )  # fmt: skip

    workload.start()
    assert tape.enough.wait(20)
    workload.stop()
    workload.stop()

    operations = tape.of("operation")
    cold = [o for o in operations if o["lane"] == "cold"]
    warm = [o for o in operations if o["lane"] == "warm"]
    assert all(o["ok"] and o["error"] == "" for o in operations)
    assert all(o["asked"] >= 1 and o["region"] == TARGET for o in cold)
    assert sum(o["cache_hit"] for o in warm) >= len(warm) - 2 * len(PURPOSES) * 2
    (ended,) = tape.of("workload-ended")
    assert ended == {"offered": len(operations), "operations": len(operations), "failed": 0}
    assert all(fields["proxy"] == f"kmswd.test.{fields['region']}" for fields in tape.of("attempt"))


def test_failures_are_told_with_the_cores_code(
    core: Core, estate: FakeEstate, witness: Witness, tape: FakeTape
) -> None:
    """All regions dark: operations fail, and the tape says why."""
    estate.fail("KMSInternalException")
    tape.wanted = 30
    workload = Workload(
        core, witness, Ledger(), tape, SystemClock(), random.Random(1),
        load=Load(operations_per_second=200, concurrency=1), purposes=PURPOSES, run_id=RUN_ID,
    )  # fmt: skip

    workload.start()
    assert tape.enough.wait(20)
    workload.stop()

    operations = tape.of("operation")
    assert operations
    assert not any(o["ok"] for o in operations)
    assert {o["error"] for o in operations} <= {"KMSInternalException", "KmsUnavailableError"}
    assert tape.of("workload-ended")[0]["failed"] == len(operations)


class LateForTicks(SystemClock):
    """Wakes whoever waits for a tick too late."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return super().wait(event, seconds + LATE_SECONDS * 2 if seconds == TICK_SECONDS else seconds)


def test_a_time_for_which_the_machine_stood_still_is_told_as_long_as_there_is_traffic(
    core: Core, witness: Witness, tape: FakeTape
) -> None:
    """The judge must know of it; the thread that measures ends with the traffic."""
    workload = Workload(
        core, witness, Ledger(), tape, LateForTicks(), random.Random(1),
        load=Load(operations_per_second=20, concurrency=1), purposes=PURPOSES, run_id=RUN_ID,
    )  # fmt: skip

    workload.start()
    wait_until(lambda: bool(tape.of("machine-stalled")), says="it is told")
    workload.stop()

    assert all(stalled["seconds"] >= LATE_SECONDS for stalled in tape.of("machine-stalled"))
    assert not [thread for thread in threading.enumerate() if thread.name == "metronome"]


def test_a_message_tells_which_region_made_its_key(core: Core, estate: FakeEstate) -> None:
    """From the wrapped key's ARN; garbage tells nothing."""
    assert region_of(seal(core, 1).message) == TARGET
    estate.fail("ReadTimeout", regions=[TARGET])
    assert region_of(seal(core, 2).message) in OTHERS
    assert region_of(b"garbage") == ""


def test_a_failover_is_heard(core: Core, estate: FakeEstate, tape: FakeTape) -> None:
    """Attempt, failover and breaker, in the core's own words."""
    estate.fail("ReadTimeout", regions=[TARGET])
    for number in range(4):
        seal(core, number)

    assert {fields["from_region"] for fields in tape.of("failed-over")} == {TARGET}
    assert ("closed", "open") in {(f["old"], f["new"]) for f in tape.of("breaker-moved") if f["region"] == TARGET}


def test_every_message_opens_in_every_region_and_wrong_contexts_are_refused_by_kms(core: Core, tape: FakeTape) -> None:
    """The check asks each region itself: no cache, no failover, and for a wrong context KMS, not the core."""
    book = Ledger()
    for number in range(5):
        book.keep(seal(core, number))

    ledger.check(
        core, book, tape, when="check", regions=REGIONS, purposes=PURPOSES, halt=threading.Event(), rng=random.Random(1)
    )

    assert {(f["region"], f["sealed"], f["opened"], f["refused"]) for f in tape.of("messages-checked")} == {
        (region, 5, 5, 0) for region in REGIONS
    }
    assert {(f["region"], f["error_code"]) for f in tape.of("context-refused")} == {
        (region, "InvalidCiphertextException") for region in REGIONS
    }


def test_a_message_that_a_region_cannot_open_is_named(core: Core, estate: FakeEstate, tape: FakeTape) -> None:
    """A ciphertext at risk: sealed, and not openable where it must be."""
    book = Ledger()
    book.keep(seal(core, 7))
    estate.fail("ReadTimeout", regions=[OTHERS[0]])

    ledger.check(
        core, book, tape, when="hold", regions=OTHERS, purposes=PURPOSES, halt=threading.Event(), rng=random.Random(1)
    )

    checked = {f["region"]: f for f in tape.of("messages-checked")}
    assert (checked[OTHERS[0]]["opened"], checked[OTHERS[0]]["refused"], checked[OTHERS[0]]["wrong"]) == (0, 1, [7])
    assert (checked[OTHERS[1]]["opened"], checked[OTHERS[1]]["wrong"]) == (1, [])
    refusals = {f["region"]: f["error_code"] for f in tape.of("context-refused")}
    assert refusals[OTHERS[0]] != "InvalidCiphertextException"


def test_bytes_that_are_not_the_plaintext_are_not_opened(core: Core, tape: FakeTape) -> None:
    """Byte for byte: a decryption that gives something else is a loss."""
    book, sealed = Ledger(), seal(core, 1)
    book.keep(
        Sealed(
            id=1, lane="cold", purpose="general", context=sealed.context, message=sealed.message, plaintext=b"another"
        )
    )

    ledger.check(
        core,
        book,
        tape,
        when="check",
        regions=[TARGET],
        purposes=PURPOSES,
        halt=threading.Event(),
        rng=random.Random(1),
    )

    assert [(f["opened"], f["wrong"]) for f in tape.of("messages-checked")] == [(0, [1])]


def test_a_halted_check_says_that_it_did_not_finish(core: Core, tape: FakeTape) -> None:
    """By the count of what it opened: the judge takes that for unclear."""
    book, halted = Ledger(), threading.Event()
    book.keep(seal(core, 1))
    halted.set()

    ledger.check(core, book, tape, when="check", regions=[TARGET], purposes=[], halt=halted, rng=random.Random(1))

    assert [(f["sealed"], f["opened"], f["wrong"]) for f in tape.of("messages-checked")] == [(1, 0, [])]


def test_another_context_keeps_the_canary_pair() -> None:
    """Every policy demands `canary=true`: changed, the refusal would be the policy's, and prove nothing."""
    context = {"canary": "true", "drill": "x", "lane": "cold"}

    wrong = another_context(context)

    assert wrong["canary"] == "true"
    assert len(set(wrong.items()) ^ set(context.items())) == 2


def test_canaries_ask_every_region_and_key_in_drill_mode(core: Core, tape: FakeTape) -> None:
    """The watchdog's own round trip, through the drill's own core."""
    tape.wanted = 40
    rounds = CanaryRounds(
        core, tape, SystemClock(), regions=REGIONS, purposes=PURPOSES, interval_seconds=0.05, run_id=RUN_ID
    )

    rounds.start()
    assert tape.enough.wait(20)
    rounds.stop()

    results = [fields["result"] for fields in tape.of("canary-result")]
    assert {(r["region"], r["key"]) for r in results} == {(region, p) for region in REGIONS for p in PURPOSES}
    assert {(r["mode"], r["run_id"], r["outcome"]) for r in results} == {("drill", RUN_ID, "OK")}


def test_both_lanes_are_named_once() -> None:
    """The judge looks for these two."""
    assert LANES == ("warm", "cold")
