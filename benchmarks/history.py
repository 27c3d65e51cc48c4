"""What was measured, when and on what: a file a benchmark, a line a measurement, which is only ever added."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.benchmark import Size
from benchmarks.summary import Summary

SCHEMA = 1
COMMITTED = Path(__file__).parent / "history"
_RANK = {size: rank for rank, size in enumerate(Size)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One measurement of one benchmark."""

    benchmark: str
    size: Size
    at_utc: str
    """When it began, ISO 8601."""
    commit: str
    """Of what was measured; with `+` at its end when files differed from it."""
    seconds: float
    """That it took, all runs together."""
    runs: int
    machine: Mapping[str, Any]
    load: Mapping[str, float]
    tables: tuple[Summary, ...]

    @property
    def busy(self) -> bool:
        """Whether others had a core's worth of work for the machine before it began."""
        return bool(self.load["before"] > self.machine["cores"] / 2)

    @property
    def missed(self) -> tuple[str, ...]:
        """The goals that were not reached."""
        return tuple(goal for table in self.tables for goal in table.table.missed)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "size": str(self.size),
            "at_utc": self.at_utc,
            "commit": self.commit,
            "seconds": round(self.seconds, 1),
            "runs": self.runs,
            "machine": dict(self.machine),
            "load": dict(self.load),
            "tables": [table.as_json() for table in self.tables],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the entry that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not, or a later version did.
        """
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']}; this version reads {SCHEMA}")
        return cls(
            benchmark=values["benchmark"],
            size=Size(values["size"]),
            at_utc=values["at_utc"],
            commit=values["commit"],
            seconds=float(values["seconds"]),
            runs=int(values["runs"]),
            machine=values["machine"],
            load=values["load"],
            tables=tuple(Summary.from_json(table) for table in values["tables"]),
        )


def append(folder: Path, entry: Entry) -> Path:
    """Add `entry` to its benchmark's file, and return which that is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry.benchmark}.ndjson"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry.as_json(), ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


def read(folder: Path, benchmark: str) -> tuple[Entry, ...]:
    """Return the entries of a benchmark, in the order in which they were added; none where it has no file.

    Raises:
        ValueError: a line is none of ours; the message names file and line.
    """
    path = folder / f"{benchmark}.ndjson"
    if not path.exists():
        return ()
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Entry.from_json(json.loads(line)))
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"{path.name}:{number}: no entry of a history: {type(e).__name__}: {e}") from e
    return tuple(found)


def shown(entries: Sequence[Entry]) -> Entry | None:
    """Return the entry that the page shows: of the largest size that there is, the last one; None of none."""
    return max(enumerate(entries), key=lambda pair: (_RANK[pair[1].size], pair[0]), default=(0, None))[1]


def comparable(entries: Iterable[Entry], entry: Entry) -> tuple[Entry, ...]:
    """Return those of `entries` that were measured as `entry` was: the same size, on the same kind of machine."""
    same = (entry.size, entry.machine["processor"], entry.machine["cores"])
    return tuple(e for e in entries if (e.size, e.machine["processor"], e.machine["cores"]) == same)
