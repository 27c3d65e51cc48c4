"""The runner of the benchmarks: medians and spread, a history that only grows, and a page that is made of it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as runner
from benchmarks import history, plots, readme
from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.history import Entry
from benchmarks.machine import machine, watched_load
from benchmarks.summary import Summary, summarise
from benchmarks.table import Cell, Table

FOLDER = Path(runner.__file__).parent
MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "memory_gib": 8.0,
    "system": "Linux 6 x86_64",
    "python": "3.11.7",
    "packages": {"boto3": "1.44.5"},
}


def table(*rows: tuple[Cell, ...], title: str = "T", missed: tuple[str, ...] = ()) -> Table:
    return Table(title=title, columns=("who", "ms", "calls"), rows=rows, missed=missed)


def entry(*tables: Summary, **changes: Any) -> Entry:
    made = Entry(
        benchmark="core_speed",
        size=Size.FULL,
        at_utc="2026-12-01T02:00:00Z",
        commit="abc",
        seconds=12.34,
        runs=3,
        machine=MACHINE,
        load={"before": 0.1, "most": 1.2},
        tables=tables or summarise([[table(("ours", 1.0, 3)), table(("theirs", 4.0, 3))]]),
    )
    return replace(made, **changes)


def test_of_several_runs_the_median_is_shown_with_the_least_and_the_most() -> None:
    """A figure alone says nothing of how far it is to be trusted; one that never differs is shown alone."""
    runs = [[table(("ours", ms, 7))] for ms in (3.0, 1.0, 2.0)]

    (found,) = summarise(runs)

    assert found.table.rows == (("ours", 2.0, 7),)
    assert found.spread == {(0, 1): (1.0, 3.0)}
    assert "2.00 (1.00 to 3.00)" in found.as_text()


def test_counts_stay_whole_and_words_are_what_most_runs_say() -> None:
    """`>2001` of a peer that hangs is no number, and a median of it and one would be none either."""
    runs = [[table(("call 3", cell, calls))] for cell, calls in ((5.0, 1), (">2001", 2), (">2001", 2))]

    (found,) = summarise(runs)

    assert found.table.rows == (("call 3", ">2001", 2),)
    assert isinstance(found.table.rows[0][2], int)
    assert found.spread == {(0, 2): (1, 2)}


def test_what_one_run_misses_is_missed() -> None:
    """A goal that is reached twice of three times is not reached."""
    (found,) = summarise([[table(("ours", 1.0, 1))], [table(("ours", 9.0, 1), missed=("too slow",))]])

    assert found.table.missed == ("too slow",)


def test_runs_with_other_rows_are_refused() -> None:
    """Medians over different things would be figures of nothing."""
    with pytest.raises(ValueError, match="differ in more than their figures"):
        summarise([[table(("ours", 1.0, 1))], [table(("ours", 1.0, 1), ("theirs", 1.0, 1))]])


def test_the_history_only_grows_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A line a measurement, in the order in which they came."""
    first = entry(*summarise([[table(("ours", 1.0, 3))], [table(("ours", 2.5, 3))]]))
    second = replace(first, at_utc="2026-12-02T02:00:00Z")

    path = history.append(tmp_path, first)
    before = path.read_bytes()
    history.append(tmp_path, second)

    assert path.read_bytes().startswith(before)
    assert history.read(tmp_path, "core_speed") == tuple(replace(e, seconds=12.3) for e in (first, second))
    assert history.read(tmp_path, "core_stream") == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("{", "JSONDecodeError", id="no-json"),
        pytest.param('{"schema":2}', "schema 2; this version reads 1", id="later-schema"),
        pytest.param('{"schema":1}', "KeyError", id="field-missing"),
    ],
)
def test_a_line_that_is_none_of_ours_is_named(tmp_path: Path, line: str, why: str) -> None:
    """A page made of half a history would look whole."""
    path = history.append(tmp_path, entry())
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(ValueError, match=rf"core_speed\.ndjson:2: .*{re.escape(why)}"):
        history.read(tmp_path, "core_speed")


def test_the_page_shows_the_last_of_the_largest_size() -> None:
    """A quick run after the full one does not take its place."""
    full, later, quick = (
        entry(commit=name, size=size) for name, size in (("a", "full"), ("b", "full"), ("c", "quick"))
    )

    assert history.shown([replace(full, size=Size.FULL), later, replace(quick, size=Size.QUICK)]) is later
    assert history.shown([]) is None


def test_what_was_measured_otherwise_is_not_drawn_in_one_line() -> None:
    """Another processor or another size is no progress and no decline."""
    now = entry()
    other = replace(now, machine={**MACHINE, "processor": "Another"})

    assert history.comparable([now, other, replace(now, size=Size.QUICK)], now) == (now,)


SPEED = Benchmark(
    title="Speed",
    section=Section.CORE,
    goals=("as fast as light",),
    bars=(Bars(table=0, labels=(0,), value=1, title="ms"),),
)


def test_the_page_has_the_prose_the_figures_and_what_was_missed() -> None:
    """Nothing that was measured and not reached is left out, nor that it is to be taken again."""
    missed = summarise([[table(("ours", 1.0, 3), missed=("2.7 times; the goal is 2.5",))]])

    made = readme.files({"core_speed": SPEED}, {"core_speed": [entry(*missed, load={"before": 7.5, "most": 9.0})]})
    page = made["README.md"]

    assert "### Speed (`core_speed`)\n\nGoals:\n\n* as fast as light" in page
    assert (FOLDER / "notes" / "core_speed.md").read_text().strip() in page
    assert "* **Goal not reached**: 2.7 times; the goal is 2.5" in page
    assert "**To be taken again: others were busy on the machine.**" in page
    assert "load 7.5 before, 9 at the most" in page
    assert "A processor, 2 cores, 8 GiB; Linux 6 x86_64; Python 3.11.7; boto3 1.44.5: `core_speed`" in page
    assert set(made) == {"README.md", "plots/core_speed.svg"}
    assert "plots/core_speed.svg" in page


def test_what_was_never_measured_says_so() -> None:
    """A chapter without figures is no chapter without news."""
    made = readme.files({"core_speed": SPEED}, {})

    assert "*The history has no measurement yet.*" in made["README.md"]
    assert set(made) == {"README.md"}


def test_a_picture_is_the_same_each_time_and_stands_alone() -> None:
    """It is compared with what is committed; it shows each row, and asks nobody for anything."""
    now = entry(*summarise([[table(("ours", ms, 3), ("theirs", 4.0, None))] for ms in (1.0, 1.5)]))
    before = [replace(now, at_utc="2026-11-01T00:00:00Z")]

    first, second = (plots.drawn(now, before, SPEED.bars) for _ in range(2))

    assert first == second
    ET.fromstring(first)  # noqa: S314 - our own picture
    assert all(text in first for text in ("ours", "theirs", "1.25", "the last 2", "prefers-color-scheme"))
    assert not re.search(
        r"#0000[0-9a-f]{2}|<script|(?:href|src)=\"(?!#)", first.replace("http://www.w3.org/1999/xlink", "")
    )


def test_the_committed_page_is_what_the_committed_history_makes() -> None:
    """After a measurement that is recorded, or a change of the prose: `python -m benchmarks readme`."""
    made = runner.page(history.COMMITTED)
    committed = {"README.md", *(f"plots/{path.name}" for path in (FOLDER / "plots").glob("*.svg"))}

    assert committed == set(made)
    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in made} == made


def test_every_benchmark_is_declared_and_has_its_prose() -> None:
    """What runs, what is explained and what has a history are the same."""
    notes = {path.stem for path in (FOLDER / "notes").glob("*.md")} - {"head"}
    recorded = {path.stem for path in history.COMMITTED.glob("*.ndjson")}

    declared = {name: runner.declared(name) for name in runner.NAMES}

    assert notes == set(declared)
    assert recorded <= set(declared)
    assert all(benchmark.runs.keys() == set(Size) for benchmark in declared.values())
    assert all(bars.table >= 0 for benchmark in declared.values() for bars in benchmark.bars)


def test_every_picture_that_is_declared_can_be_drawn() -> None:
    """A column that is not there would be found out after an hour of measuring."""
    for name in runner.NAMES:
        for recorded in history.read(history.COMMITTED, name):
            for bars in runner.declared(name).bars:
                assert plots.rows_of(recorded, bars), (name, bars.title)


def test_a_machine_is_described_without_names_and_places() -> None:
    """What a figure depends on; nothing of whose machine it is."""
    found = machine()

    assert set(found) == {"processor", "cores", "memory_gib", "system", "python", "packages"}
    assert found["cores"] >= 1
    assert found["packages"]["boto3"]
    assert str(Path.home()) not in json.dumps(found)
    with watched_load() as load:
        pass
    assert load.most >= load.before >= 0


def test_a_measurement_is_printed_added_to_the_history_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run for real, the cheapest one: exit code 0 as its goal, a count, is reached on any machine."""
    code = runner.main(["core_threads", "--quick", "--runs", "2", "--strict", "--history", str(tmp_path)])
    (found,) = history.read(tmp_path, "core_threads")

    assert code == 0
    assert "## 20 threads on a cold cache" in capsys.readouterr().out
    assert (found.runs, found.size, found.machine["python"]) == (2, Size.QUICK, machine()["python"])
    assert found.tables[0].table.rows == ((20, 20, 1),)
    assert found.tables[1].spread


def test_a_name_that_is_none_is_refused() -> None:
    """With the usage's exit code, before anything is measured."""
    with pytest.raises(SystemExit) as refused:
        runner.main(["core_sped"])

    assert refused.value.code == 2
