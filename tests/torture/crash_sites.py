"""A crash at every site of a traced run: what each leaves is opened by the product, and looked at."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_disk import MODELS, Disk, Tree, put, tree_of
from crash_figures import Protocol
from crash_trace import Op
from crash_writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One crash, and what it left."""

    model: str
    number: int
    """How many operations were done."""
    last: str
    """The last of them."""
    tree: Tree
    said: tuple[bytes, ...]
    """What had been promised, one after the other."""
    requests: tuple[Op, ...]
    """What Toxiproxy had been asked to do."""

    def __str__(self) -> str:
        return f"{self.model} after operation {self.number}, {self.last}"


Look = Callable[[Path, Crash], list[str]]
"""Opens what is in a folder as the product does after a crash; returns what is wrong."""


def crashes(
    ops: Sequence[Op], begins_with: Tree, figures: Protocol, *, drawn: int, seed: int, kills_apart: bool = False
) -> Iterator[Crash]:
    """Yield a crash before the first operation and after each: by each of `MODELS`, and `drawn` more; none twice.

    Args:
        ops: of the traced run.
        begins_with: what was there before it.
        figures: where operations and crashes are counted.
        drawn: how many cuts of power are drawn at each operation, beside the models.
        seed: of what is drawn.
        kills_apart: whether more is promised after a kill than after a cut of power that left the same.
    """
    disk, rng = Disk(begins_with), random.Random(seed)
    said: list[bytes] = []
    requests: list[Op] = []
    seen: set[int] = set()
    for number in range(len(ops) + 1):
        last = "nothing"
        if number:
            op = ops[number - 1]
            if not disk.do(op):
                continue
            if op.kind != "said":
                figures.operations[op.kind] += 1
            last = " ".join(filter(None, (op.kind, op.method, op.path, op.to)))
            said += [op.content] if op.kind == "said" else []
            if op.kind == "request" and op.method != "GET":
                requests.append(op)
        for model in (*MODELS, *(f"drawn {each}" for each in range(drawn))):
            tree = disk.drawn(rng) if model.startswith("drawn") else disk.after(model)
            key = hash((frozenset(tree.items()), len(said), len(requests), kills_apart and model == "kill"))
            figures.crashes[model.split()[0]] += 1
            if key in seen:
                continue
            seen.add(key)
            figures.states += 1
            yield Crash(
                model=model, number=number, last=last, tree=tree, said=tuple(said), requests=tuple(requests)
            )  # fmt: skip


def look_at_each(found: Iterator[Crash], look: Look, folder: Path, figures: Protocol) -> None:
    """Make each state in `folder`, and have it looked at; whatever it raises is a finding."""
    for crash in found:
        put(crash.tree, folder)
        try:
            told = look(folder, crash)
        except Exception as e:  # noqa: BLE001 - whatever the product raises there is what it would raise after a crash
            told = [f"{type(e).__name__}: {e}"]
        figures.find(str(crash), told)
        shutil.rmtree(folder)


def steps_are_kept(writer: Writer, ops: Sequence[Op]) -> Look:
    """Return a look that compares what is there with what was promised before, and with what was under way.

    Args:
        writer: reads it.
        ops: of the whole run, also what came after the crash.
    """
    values = [json.loads(op.content) for op in ops if op.kind == "said"]

    def look(folder: Path, crash: Crash) -> list[str]:
        promised = len(crash.said)
        if crash.model != "kill" and not writer.survives_power:
            promised = 0
        there = writer.read(folder / "state")
        told = [] if writer.damaged else [f"{path.name}: moved aside" for path in folder.rglob("*.damaged-*")]
        if writer.damaged and not any(content == writer.damaged for content in tree_of(folder).values()):
            told.append("what was damaged is gone")
        if not _is_among(there, values[max(0, promised - 1) : len(crash.said) + 1], promised, grows=writer.grows):
            told.append(f"promised {values[promised - 1] if promised else None}, there is {there}")
        return told

    return look


def _is_among(there: Any, values: Sequence[Any], promised: int, *, grows: bool) -> bool:
    if grows:
        return bool(there >= (values[0] if promised else 0))
    return there in values
