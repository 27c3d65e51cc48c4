"""How often KMS is asked for a million messages: with one context, with a few, and with one for each record."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.estate import PURPOSE, core, estate
from benchmarks.table import Table
from kms_core.kms import DECRYPT, GENERATE_DATA_KEY

_MILLION = 10**6
_SAMPLE = 100_000
_USES = 1000
_USD = 0.03 / 10_000


BENCHMARK = Benchmark(
    title="Requests to KMS for a million messages",
    section=Section.CORE,
    goals=("one GenerateDataKey for 1,000 messages of one context, and one more",),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=3, title="GenerateDataKey for a million messages", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Count them; a sample scaled up but in the full size."""
    count = size.pick(quick=_SAMPLE // 10, normal=_SAMPLE, full=_MILLION)
    cases: dict[str, Callable[[int], dict[str, str]]] = {
        "one context": lambda _: {"table": "passengers"},
        "100 contexts": lambda number: {"table": "passengers", "tenant": str(number % 100)},
        "a context for each record": lambda number: {"table": "passengers", "record": str(number)},
    }
    rows = tuple(
        _row(name, context, _SAMPLE // 20 if name == "a context for each record" else count)
        for name, context in cases.items()
    )
    calls, goal = rows[0][2], count // _USES + 1
    return (
        Table(
            title="KMS calls for a million messages",
            columns=(
                "context",
                "messages",
                "GenerateDataKey",
                "GenerateDataKey per 10⁶",
                "Decrypt per 10⁶",
                "USD per 10⁶ both ways",
            ),
            rows=rows,
            notes=(
                "Counted, scaled up to a million; a core opens what another one sealed.",
                "A data key serves 1000 messages or 300 s of a purpose and context: slow writers need one each 300 s.",
                (
                    "KMS binds a data key to its context, so one for each record is a request for each, both ways:"
                    " against the request quota, and at 0.03 USD for 10,000. Put the record's id beside the message or"
                    " into the plaintext, and keep the context to what is the same for many: service, table, tenant."
                ),
            ),
            missed=() if calls <= goal else (f"{calls} calls for {count} messages; the goal is {goal}",),
        ),
    )


def _row(name: str, context: Callable[[int], dict[str, str]], count: int) -> tuple[str, int, int, int, int, float]:
    made = estate()
    with core(made) as writer, core(made) as reader:
        for number in range(count):
            message = writer.encrypt(b"x", purpose=PURPOSE, context=context(number))
            reader.decrypt(message, purpose=PURPOSE, context=context(number))
    calls = [len(made.asked(operation)) for operation in (GENERATE_DATA_KEY, DECRYPT)]
    scaled = [-(-asked * _MILLION // count) for asked in calls]
    return (name, count, calls[0], scaled[0], scaled[1], sum(scaled) * _USD)
